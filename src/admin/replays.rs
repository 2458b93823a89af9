//! `/v1/replays`: stretches of the log that are sent once more.

use std::num::NonZeroU64;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::record::{Checkpoint, Replay, ReplayFilter, ReplayId, ReplayState};
use crate::types::{OffsetRange, Position, UnixMicros};
use crate::wal::{Place, ReplayError, Wal};

use super::Shared;
use super::access::MayChange;
use super::answer::Problem;
use super::cursors::{sink, stopping};
use super::place::{Written, no_place, written};

/// How far a frame's time of arrival may lie before the moment at which it was stored, with room
/// to spare: a request is answered after seconds at most.
const SLACK_MICROS: i64 = 60_000_000;

/// The longest token or app.
const LONGEST: usize = 256;

/// A replay, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayStatus {
    /// Its id: what `forebay_replay` says in its events.
    pub id: String,
    /// Where to.
    pub destination: String,
    /// `running`; `waiting` for the one before it, or for its destination, which is not configured
    /// any more; `finished`; `cancelled`.
    pub state: &'static str,
    /// Whether its destination is configured.
    pub configured: bool,
    /// The first frame of the stretch.
    pub first_offset: u64,
    /// Behind its last frame.
    pub end_offset: u64,
    /// Only frames that arrived at this time or later.
    pub from: Option<String>,
    /// Only frames that arrived before this time.
    pub to: Option<String>,
    /// Only frames of a drain whose token begins so; its first characters.
    pub drain: Option<String>,
    /// Only frames of this app's drain.
    pub app: Option<String>,
    /// Events a second; none: as many as the collectors take.
    pub rate: Option<u64>,
    /// The first message that is not settled: offset and index.
    pub position: (u64, u32),
    /// Messages in the stretch.
    pub messages: u64,
    /// Acknowledged by the indexers.
    pub acknowledged: u64,
    /// Not asked for, blank, or excluded by the destination's filter.
    pub filtered: u64,
    /// Refused for good, and in the dead letters.
    pub dead_lettered: u64,
    /// Dropped by the log for want of space, or damaged and given up.
    pub dropped: u64,
    /// Not settled yet.
    pub pending: u64,
    /// What is settled of the whole, from 0 to 1.
    pub progress: f64,
    /// When it was asked for.
    pub created: String,
    /// When it was finished or cancelled.
    pub ended: Option<String>,
}

impl ReplayStatus {
    /// All of them, the oldest first.
    #[must_use]
    pub fn all(view: &super::View) -> Vec<Self> {
        let all = view.wal.replays();
        let rows = all.iter().map(|replay| {
            let mut before = all.iter().take_while(|other| other.id != replay.id);
            let waits =
                before.any(|other| other.is_open() && other.destination == replay.destination);
            let configured = view.sinks.iter().any(|sink| *sink.name() == replay.destination);
            Self::of(replay, configured, waits)
        });
        rows.collect()
    }

    fn of(replay: &Replay, configured: bool, waits: bool) -> Self {
        let Checkpoint { position, totals, .. } = replay.checkpoint;
        let (messages, pending) = (replay.messages(), replay.pending());
        let short = |token: &String| {
            let token: String = token.chars().take(8).collect();
            format!("{token}…")
        };
        Self {
            id: replay.id.to_string(),
            destination: replay.destination.to_string(),
            state: match replay.state {
                ReplayState::Open if waits || !configured => "waiting",
                ReplayState::Open => "running",
                ReplayState::Finished => "finished",
                ReplayState::Cancelled => "cancelled",
            },
            configured,
            first_offset: replay.range.start.get(),
            end_offset: replay.range.end.get(),
            from: replay.filter.from.map(written),
            to: replay.filter.to.map(written),
            drain: replay.filter.drain.as_ref().map(short),
            app: replay.filter.app.clone(),
            rate: replay.rate.map(NonZeroU64::get),
            position: (position.offset.get(), position.index),
            messages,
            acknowledged: totals.acknowledged,
            filtered: totals.filtered,
            dead_lettered: totals.dead_lettered,
            dropped: totals.dropped,
            pending,
            progress: 1.0 - pending as f64 / messages.max(1) as f64,
            created: written(replay.created),
            ended: replay.ended.map(written),
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    destination: String,
    from: Written,
    to: Option<Written>,
    drain: Option<String>,
    app: Option<String>,
    rate: Option<NonZeroU64>,
}

pub(super) async fn list(State(shared): State<Shared>) -> Json<Vec<ReplayStatus>> {
    Json(ReplayStatus::all(&shared.view))
}

/// Begins a replay.
pub(super) async fn start(
    _: MayChange,
    State(shared): State<Shared>,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<(StatusCode, Json<ReplayStatus>), Problem> {
    let fix = "send JSON such as {\"destination\": \"splunk\", \"from\": \"2026-01-02T03:00:00Z\", \
               \"to\": \"2026-01-02T04:00:00Z\", \"app\": \"checkout\", \"rate\": 1000}";
    let Json(wanted) =
        body.map_err(|error| Problem::new(error.status(), error.body_text(), fix))?;
    let name = sink(&shared, &wanted.destination)?.name().clone();
    let wal = shared.view.wal.clone();
    // It reads the log, and waits for the disk.
    let started = tokio::task::spawn_blocking(move || {
        let replay = wanted.replay(&wal, name)?;
        let id = replay.id.clone();
        tracing::info!(
            replay = %id,
            destination = %replay.destination,
            frames = %replay.range,
            messages = replay.messages(),
            "an operator has asked for a replay"
        );
        wal.start_replay(replay).map_err(refused)?;
        Ok(id)
    });
    let id: ReplayId = match started.await {
        Ok(id) => id?,
        Err(error) => return Err(Problem::internal(error)),
    };
    shown(&shared, &id).map(|replay| (StatusCode::CREATED, replay))
}

/// Does not send the rest of a replay.
pub(super) async fn cancel(
    _: MayChange,
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<ReplayStatus>, Problem> {
    let unknown = || {
        let id: String = id.chars().take(60).collect();
        let fix = "`forebay replay list` names them";
        Problem::new(StatusCode::NOT_FOUND, format!("there is no replay {id}"), fix)
    };
    let id = ReplayId::parse(&id).ok_or_else(unknown)?;
    let replay = shared.view.wal.replay(&id).ok_or_else(unknown)?;
    if !shared.view.wal.cancel_replay(&id).await.map_err(stopping)? {
        let state = if replay.state == ReplayState::Cancelled { "cancelled" } else { "finished" };
        let error = format!("the replay {id} is {state} already");
        return Err(Problem::new(StatusCode::CONFLICT, error, "there is nothing to cancel"));
    }
    tracing::warn!(replay = %id, "an operator has cancelled a replay");
    shown(&shared, &id)
}

fn shown(shared: &Shared, id: &ReplayId) -> Result<Json<ReplayStatus>, Problem> {
    let found = ReplayStatus::all(&shared.view).into_iter().find(|row| row.id == id.as_str());
    found.map(Json).ok_or_else(|| Problem::internal("the replay is not there"))
}

fn refused(error: ReplayError) -> Problem {
    match error {
        ReplayError::NotRetained { .. } => {
            let fix = "it was dropped in this moment: begin later";
            Problem::new(StatusCode::CONFLICT, error.to_string(), fix)
        }
        ReplayError::TooMany(_) => {
            let fix = "wait for one of them, or cancel one: `forebay replay list`";
            Problem::new(StatusCode::CONFLICT, error.to_string(), fix)
        }
        ReplayError::Commit(_) => stopping(error),
    }
}

impl Wanted {
    /// The replay that is meant. Blocking.
    fn replay(
        &self,
        wal: &Wal,
        destination: crate::types::DestinationName,
    ) -> Result<Replay, Problem> {
        for (what, text) in [("drain", &self.drain), ("app", &self.app)] {
            if text.as_ref().is_some_and(|text| text.is_empty() || text.len() > LONGEST) {
                let error = format!("`{what}` is empty or too long");
                return Err(Problem::new(
                    StatusCode::BAD_REQUEST,
                    error,
                    "leave it out, or name one",
                ));
            }
        }
        let from = self.from.place()?;
        let to = self.to.as_ref().map_or(Ok(Place::Latest), Written::place)?;
        // What is asked for has to be there, to the moment; read is a little more, as frames are
        // not stored in the order of their arrival.
        let mut start = wal.locate(from).map_err(|error| no_place(&error))?;
        let mut end = wal.locate(to).map_err(|error| no_place(&error))?;
        let time = |place| if let Place::Time(time) = place { Some(time) } else { None };
        let slack = |time: UnixMicros, by: i64| UnixMicros::new(time.get().saturating_add(by));
        if let Some(time) = time(from) {
            let earlier = wal.locate(Place::Time(slack(time, -SLACK_MICROS)));
            let earlier = earlier.or_else(|_| wal.locate(Place::Earliest));
            start = earlier.map_err(|error| no_place(&error))?;
        }
        if let Some(time) = time(to) {
            let later = wal.locate(Place::Time(slack(time, SLACK_MICROS)));
            let later = later.or_else(|_| wal.locate(Place::Latest));
            end = later.map_err(|error| no_place(&error))?;
        }
        if start.offset >= end.offset {
            let error = format!("there is nothing in [{}, {})", start.offset, end.offset);
            let fix = "name a stretch that has frames: `forebay wal info` shows what there is";
            return Err(Problem::new(StatusCode::CONFLICT, error, fix));
        }
        let (id, _) = uuid::Uuid::new_v4().as_u64_pair();
        Ok(Replay {
            id: ReplayId::from_random(id),
            destination,
            range: OffsetRange { start: start.offset, end: end.offset },
            end_messages: end.messages_before,
            filter: ReplayFilter {
                drain: self.drain.clone(),
                app: self.app.clone(),
                from: time(from),
                to: time(to),
            },
            rate: self.rate,
            checkpoint: Checkpoint {
                position: Position::at(start.offset),
                origin_messages: start.messages_before,
                saved: clock::unix_micros(),
                ..Checkpoint::default()
            },
            state: ReplayState::Open,
            created: clock::unix_micros(),
            ended: None,
        })
    }
}
