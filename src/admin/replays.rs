//! `/v1/replays`: stretches of the log that are sent once more.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::record::{Checkpoint, Replay, ReplayFilter, ReplayId, ReplayState};
use crate::sink::{SinkHandle, Trouble};
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

/// The most apps that a message names.
const APPS: usize = 20;

/// The longest token or app.
const LONGEST: usize = 256;

/// A replay, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayStatus {
    /// Its id: what `forebay_replay` says in its events.
    pub id: String,
    /// Where to.
    pub destination: String,
    /// `running`; `held`, all collectors wait for an operator; `stuck`, the log cannot be read or no
    /// dead letter be written; `waiting` for the one before it, or for its destination, which is not
    /// configured any more; `finished`; `cancelled`.
    pub state: &'static str,
    /// Why it does not come on, if it does not.
    pub reason: Option<String>,
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
    /// Messages settled a second, over the last half minute, while it runs.
    pub messages_per_second: Option<f64>,
    /// How long the rest takes at that rate, in seconds.
    pub remaining_seconds: Option<f64>,
    /// How long nothing of it has been settled, in seconds, while it is the one that is sent.
    pub stalled_seconds: Option<f64>,
    /// When it was asked for.
    pub created: String,
    /// When it was finished or cancelled.
    pub ended: Option<String>,
    /// What whoever has asked for it should know. In the answer to that only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl ReplayStatus {
    /// All of them, the oldest first.
    #[must_use]
    pub fn all(view: &super::View) -> Vec<Self> {
        let all = view.wal.replays();
        let rows = all.iter().map(|replay| {
            let mut before = all.iter().take_while(|other| other.id != replay.id);
            let first =
                before.find(|other| other.is_open() && other.destination == replay.destination);
            let sink = view.sinks.iter().find(|sink| *sink.name() == replay.destination);
            Self::of(replay, sink, first.map(|first| &first.id))
        });
        rows.collect()
    }

    /// `sink` is its destination, `first` the one that is sent before it.
    fn of(replay: &Replay, sink: Option<&SinkHandle>, first: Option<&ReplayId>) -> Self {
        let run = sink.and_then(SinkHandle::replay);
        let run = run.filter(|run| replay.is_open() && run.id == replay.id);
        let (state, reason) = match (replay.state, &run) {
            (ReplayState::Finished, _) => ("finished", None),
            (ReplayState::Cancelled, _) => ("cancelled", None),
            (ReplayState::Open, _) if sink.is_none() => {
                let why = "its destination is not configured: configure it again, or cancel this";
                ("waiting", Some(why.to_owned()))
            }
            (ReplayState::Open, _) if first.is_some() => {
                ("waiting", first.map(|id| format!("{id} is sent first")))
            }
            (ReplayState::Open, Some(run)) => match run.trouble.clone() {
                Some(Trouble::Held(why)) => ("held", Some(why)),
                Some(Trouble::Stuck(why)) => ("stuck", Some(why)),
                Some(Trouble::Resting(why)) => ("running", Some(why)),
                None => ("running", None),
            },
            (ReplayState::Open, None) => ("running", None),
        };
        let rate = run.as_ref().and_then(|run| run.rate);
        let Checkpoint { position, totals, .. } = replay.checkpoint;
        let (messages, pending) = (replay.messages(), replay.pending());
        let short = |token: &String| {
            let token: String = token.chars().take(8).collect();
            format!("{token}…")
        };
        Self {
            id: replay.id.to_string(),
            destination: replay.destination.to_string(),
            state,
            reason,
            configured: sink.is_some(),
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
            messages_per_second: rate,
            remaining_seconds: rate.filter(|rate| *rate > 0.0).map(|rate| pending as f64 / rate),
            stalled_seconds: run.map(|run| run.stalled.as_secs_f64()),
            created: written(replay.created),
            ended: replay.ended.map(written),
            warning: None,
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
    let warning =
        wanted.app.as_deref().map(|app| look_for_app(&shared, app)).transpose()?.flatten();
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
    let Json(replay) = shown(&shared, &id)?;
    Ok((StatusCode::CREATED, Json(ReplayStatus { warning, ..replay })))
}

/// What is to be said about an app: nothing when a drain of that name is configured. Where all apps
/// are those of configured drains, another one is a mistake.
fn look_for_app(shared: &Shared, app: &str) -> Result<Option<String>, Problem> {
    let known = shared.drains.0.load();
    if known.drains.iter().any(|drain| drain.app == app) {
        return Ok(None);
    }
    let names: BTreeSet<&str> = known.drains.iter().map(|drain| drain.app.as_str()).collect();
    let many = names.len().saturating_sub(APPS);
    let mut list = names.into_iter().take(APPS).collect::<Vec<_>>().join(", ");
    if many > 0 {
        list.push_str(&format!(" and {many} more"));
    }
    let known_ones =
        if list.is_empty() { "there is none".to_owned() } else { format!("there are: {list}") };
    let shown: String = app.chars().take(60).collect();
    let error = format!("no drain of the app {shown} is configured ({known_ones})");
    if known.apps_from_urls {
        return Ok(Some(format!(
            "{error}: only frames whose drain URL says ?app={shown} are sent"
        )));
    }
    let fix = "name one of these, or a drain by its token with `drain`";
    Err(Problem::new(StatusCode::NOT_FOUND, error, fix))
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
