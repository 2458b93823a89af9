//! What an operator does to cursors.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::record::Moved;
use crate::sink::{SeekRefused, SinkHandle};
use crate::types::{DestinationName, Position};
use crate::wal::{RemoveError, SeekError};

use super::Shared;
use super::access::MayChange;
use super::answer::Problem;
use super::place::{Written, no_place};

/// Where names are found.
const NAMES: &str = "`forebay cursor list` names them";

/// The name in a path.
fn named(name: &str) -> Result<DestinationName, Problem> {
    DestinationName::new(name)
        .map_err(|error| Problem::new(StatusCode::NOT_FOUND, error.to_string(), NAMES))
}

/// The destination of a name.
pub(super) fn sink<'a>(shared: &'a Shared, name: &str) -> Result<&'a SinkHandle, Problem> {
    let found = shared.view.sinks.iter().find(|sink| sink.name().as_str() == name);
    found.ok_or_else(|| {
        let known: Vec<_> = shared.view.sinks.iter().map(|sink| sink.name().as_str()).collect();
        let name: String = name.chars().take(100).collect();
        let error = format!("no destination {name} is configured");
        Problem::new(StatusCode::NOT_FOUND, error, format!("it is one of: {}", known.join(", ")))
    })
}

/// A cursor that was paused or let go on.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PausedCursor {
    /// The destination.
    name: String,
    /// Whether it is paused now.
    paused: bool,
}

/// Sends nothing more to a destination.
pub(super) async fn pause_cursor(
    _: MayChange,
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<PausedCursor>, Problem> {
    pause(&shared, &name, true).await
}

/// Lets a destination go on.
pub(super) async fn resume_cursor(
    _: MayChange,
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<PausedCursor>, Problem> {
    pause(&shared, &name, false).await
}

async fn pause(shared: &Shared, name: &str, paused: bool) -> Result<Json<PausedCursor>, Problem> {
    let sink = sink(shared, name)?;
    sink.pause(paused).await.map_err(stopping)?;
    Ok(Json(PausedCursor { name: name.to_owned(), paused }))
}

/// Where a cursor is to go.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    to: Written,
    /// Whether messages may be skipped.
    #[serde(default)]
    yes: bool,
}

/// A cursor that was moved.
#[derive(Clone, Debug, Serialize)]
pub(super) struct MovedCursor {
    /// The destination.
    name: String,
    /// Where it was: offset and index.
    from: (u64, u32),
    /// Where it is.
    to: (u64, u32),
    /// Messages that the destination does not get.
    skipped: u64,
    /// Messages that are sent again, with the ids they had.
    rewound: u64,
}

/// Moves a cursor.
pub(super) async fn seek_cursor(
    _: MayChange,
    State(shared): State<Shared>,
    Path(name): Path<String>,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<MovedCursor>, Problem> {
    let fix = "send JSON such as {\"to\": \"2026-01-02T03:00:00Z\"}, {\"to\": 17} or \
               {\"to\": \"latest\", \"yes\": true}";
    let Json(wanted) =
        body.map_err(|error| Problem::new(error.status(), error.body_text(), fix))?;
    let sink = sink(&shared, &name)?;
    match sink.seek(wanted.to.place()?, wanted.yes).await {
        Ok(Moved { from, to, skipped, rewound }) => {
            let pair = |at: Position| (at.offset.get(), at.index);
            Ok(Json(MovedCursor { name, from: pair(from), to: pair(to), skipped, rewound }))
        }
        Err(SeekRefused::Log(SeekError::Place(error))) => Err(no_place(&error)),
        Err(error @ SeekRefused::Log(SeekError::Skips(_))) => {
            let fix = "if that is what you want, say so: --yes, or \"yes\": true";
            Err(Problem::new(StatusCode::CONFLICT, error.to_string(), fix))
        }
        Err(error @ (SeekRefused::Stopping(_) | SeekRefused::Log(SeekError::Commit(_)))) => {
            Err(stopping(error))
        }
        Err(SeekRefused::Log(error @ (SeekError::Unknown(_) | SeekError::Checkpoint(_)))) => {
            Err(Problem::internal(error))
        }
    }
}

/// The relay is on its way out.
pub(super) fn stopping(error: impl std::fmt::Display) -> Problem {
    let fix = "ask again when forebay has started";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), fix)
}

/// Lets go of what only an orphaned cursor keeps.
pub(super) async fn remove_cursor(
    _: MayChange,
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<RemovedCursor>, Problem> {
    let name = named(&name)?;
    match shared.view.wal.remove_checkpoint(&name).await {
        Ok(checkpoint) => {
            let position = checkpoint.position;
            let position = (position.offset.get(), position.index);
            Ok(Json(RemovedCursor { removed: name.to_string(), position }))
        }
        Err(error @ RemoveError::Configured(_)) => {
            let fix = "remove the destination from the configuration and restart forebay";
            Err(Problem::new(StatusCode::CONFLICT, error.to_string(), fix))
        }
        Err(error @ RemoveError::Unknown(_)) => {
            Err(Problem::new(StatusCode::NOT_FOUND, error.to_string(), NAMES))
        }
        Err(error @ (RemoveError::Read(_) | RemoveError::Commit(_))) => {
            Err(Problem::internal(error))
        }
    }
}

/// A cursor that is gone.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RemovedCursor {
    /// The destination it was of.
    removed: String,
    /// Where it stood: offset and index.
    position: (u64, u32),
}
