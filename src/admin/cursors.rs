//! What an operator does to cursors.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;

use crate::sink::SinkHandle;
use crate::types::DestinationName;
use crate::wal::RemoveError;

use super::Shared;
use super::access::MayChange;
use super::answer::Problem;

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
