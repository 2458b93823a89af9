//! `/v1/status`, as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock;
use crate::delivery::EndpointState;
use crate::ingest;
use crate::sink::{SinkHandle, SinkStatus};
use crate::wal::{Gap, Orphan, RecoveryReport, Storage, TornTail, Wal};

use super::{ReloadStatus, ReplayStatus, View};

/// The relay's state.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// forebay's version.
    pub version: &'static str,
    /// `ready` or `stopping`.
    pub phase: &'static str,
    /// The configuration.
    pub config: ConfigStatus,
    /// Ingest.
    pub ingest: IngestStatus,
    /// The log.
    pub log: LogStatus,
    /// The destinations, in the order of configuration.
    pub destinations: Vec<DestinationStatus>,
    /// Cursors of destinations that are not configured any more.
    pub orphaned: Vec<OrphanStatus>,
    /// Replays: those that are to be sent, and the latest of those that have ended.
    pub replays: Vec<ReplayStatus>,
}

/// A cursor that nobody reads with, and that keeps its messages.
#[derive(Clone, Debug, Serialize)]
pub struct OrphanStatus {
    /// The destination it was of.
    pub name: String,
    /// The first message that is not settled: offset and index.
    pub checkpoint: (u64, u32),
    /// Segments it needs, alone or with others.
    pub pinned_segments: usize,
    /// Bytes of their frames, before compression.
    pub pinned_bytes: u64,
    /// Messages it has not got.
    pub pending: u64,
}

/// A stretch of the log that some destination never gets.
#[derive(Clone, Debug, Serialize)]
pub struct GapStatus {
    /// `space`: dropped because the log was full. `damage`: damaged, and given up.
    pub cause: &'static str,
    /// The first frame.
    pub first_offset: u64,
    /// Behind the last frame.
    pub end_offset: u64,
    /// Messages in it.
    pub messages: u64,
    /// When it began, microseconds since 1970.
    pub first_recorded_us: i64,
    /// When it was last made longer.
    pub last_recorded_us: i64,
    /// Messages lost, by destination, as of its last synced checkpoint then.
    pub losses: BTreeMap<String, u64>,
}

/// What the start found.
#[derive(Clone, Debug, Serialize)]
pub struct RecoveryStatus {
    /// Whether the store was made by this start.
    pub created: bool,
    /// The durable end, at the start.
    pub end_offset: u64,
    /// Frames that were counted again.
    pub recounted: u64,
    /// How long opening took, in seconds.
    pub seconds: f64,
    /// Last records of RocksDB's log that were not whole, never answered, and cut off.
    pub torn: Vec<TornStatus>,
    /// Frames that were given up, as an operator wished: first offset, and behind the last.
    pub given_up: Vec<(u64, u64)>,
}

/// A torn last record of a log file.
#[derive(Clone, Debug, Serialize)]
pub struct TornStatus {
    /// The file.
    pub file: String,
    /// Where it was cut.
    pub at: u64,
    /// How much of the record there was.
    pub bytes: u64,
}

/// The state of the configuration.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigStatus {
    /// Whether the last reload was taken; true when there was none.
    pub last_reload_successful: bool,
    /// When a configuration was last taken, in seconds since 1970.
    pub taken: f64,
    /// Keys that were changed and that only a restart can change.
    pub restart_needed: Vec<String>,
}

/// Ingest's state.
#[derive(Clone, Debug, Serialize)]
pub struct IngestStatus {
    /// `open`; `holding`, requests wait for the log; `closed`, connections are refused.
    pub state: &'static str,
    /// Open connections.
    pub connections: usize,
    /// Requests that have a head and no answer.
    pub requests: usize,
    /// The end of the certificate's life, in seconds since 1970; none without TLS.
    pub certificate_not_after: Option<i64>,
    /// Messages lost before they came here, as their senders report them.
    pub upstream_loss: Vec<LossStatus>,
    /// Drains that send and are not configured although others are.
    pub unknown_drains: Vec<StrangerStatus>,
}

/// Messages lost before they came here.
#[derive(Clone, Debug, Serialize)]
pub struct LossStatus {
    /// The app of the drain, or `unknown`.
    pub drain: String,
    /// `L10`, `L12` or `L13`.
    pub code: &'static str,
    /// How many.
    pub messages: u64,
}

/// A drain that is not configured.
#[derive(Clone, Debug, Serialize)]
pub struct StrangerStatus {
    /// The first 8 characters of its token; `-` when there is none.
    pub token: String,
    /// Frames it has sent.
    pub frames: u64,
}

/// The log's state.
#[derive(Clone, Debug, Serialize)]
pub struct LogStatus {
    /// The first retained offset.
    pub first_offset: u64,
    /// The first offset that is not durable.
    pub end_offset: u64,
    /// Messages ever accepted.
    pub messages: u64,
    /// Segments, the active one included.
    pub segments: usize,
    /// Bytes of all retained frames, before compression.
    pub bytes: u64,
    /// Bytes of table files on disk, after compression.
    pub file_bytes: Option<u64>,
    /// Age of the oldest retained frame, in seconds; none while there is none.
    pub oldest_seconds: Option<f64>,
    /// Whether frames are refused for want of space.
    pub space_is_short: bool,
    /// Why the log is poisoned, if it is.
    pub poisoned: Option<String>,
    /// What has happened to a frame before it is answered, as `wal.durability` has it.
    pub durability: String,
    /// `disk` or `memory`.
    pub storage: &'static str,
    /// What both mean, in a sentence.
    pub promise: &'static str,
    /// What some destination never gets, in the order of the log.
    pub gaps: Vec<GapStatus>,
    /// What the start found.
    pub recovery: RecoveryStatus,
}

/// A destination's state.
#[derive(Clone, Debug, Serialize)]
pub struct DestinationStatus {
    /// Its name.
    pub name: String,
    /// `delivering`, `held`, `paused` by an operator, or `stuck` when the log cannot be read.
    pub state: &'static str,
    /// Whether an operator has paused it: nothing is sent.
    pub paused: bool,
    /// Why it is stuck.
    pub reason: Option<String>,
    /// `required` or `off`; `unknown` while it is left to the collectors, and they have not said.
    pub acknowledgement: &'static str,
    /// Whether the collectors' certificates are checked.
    pub tls_verified: bool,
    /// The first message that is not settled: offset and index.
    pub checkpoint: (u64, u32),
    /// The first message that is not read: offset and index.
    pub read: (u64, u32),
    /// Age of the oldest message that is not settled, in seconds.
    pub lag_seconds: f64,
    /// Batches in a POST.
    pub batches_posting: usize,
    /// Batches that wait for their acknowledgement.
    pub batches_unacknowledged: usize,
    /// The books.
    pub books: Books,
    /// The collectors.
    pub endpoints: Vec<EndpointStatus>,
}

/// What became of every message since the destination's origin (I8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Messages accepted.
    pub accepted: u64,
    /// Acknowledged by the indexers.
    pub acknowledged: u64,
    /// Blank, or excluded by the filter.
    pub filtered: u64,
    /// In the dead-letter store.
    pub dead_lettered: u64,
    /// Passed over by an operator.
    pub skipped: u64,
    /// Dropped for want of space.
    pub dropped: u64,
    /// Settled before and sent again: an operator has moved the cursor back.
    pub rewound: u64,
    /// Not settled yet.
    pub pending: u64,
    /// Accepted and rewound less all others. 0, or there is a bug.
    pub difference: i128,
}

/// A collector's state.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointStatus {
    /// Its URL.
    pub url: String,
    /// `up`, `resting` or `held`.
    pub state: &'static str,
    /// Why it is held or rests.
    pub reason: Option<String>,
}

impl Books {
    /// The books as of a moment.
    #[must_use]
    pub fn of(status: &SinkStatus) -> Self {
        let (delivery, totals) = (&status.delivery, status.delivery.totals);
        Self {
            accepted: status.tail.messages.saturating_sub(delivery.origin_messages),
            acknowledged: totals.acknowledged,
            filtered: totals.filtered,
            dead_lettered: totals.dead_lettered,
            skipped: totals.skipped,
            dropped: totals.dropped,
            rewound: totals.rewound,
            pending: delivery.pending(&status.tail),
            difference: delivery.difference(&status.tail),
        }
    }
}

impl Status {
    /// The state at this moment. Blocking: it reads the checkpoints.
    #[must_use]
    pub fn of(view: &View) -> Self {
        let wal = view.wal.status();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            phase: view.phase.borrow().as_str(),
            config: ConfigStatus::of(&view.reload.borrow()),
            ingest: IngestStatus::of(view.ingest.status()),
            log: LogStatus {
                first_offset: wal.first.get(),
                end_offset: wal.tail.end.get(),
                messages: wal.tail.messages,
                segments: wal.segments,
                bytes: wal.bytes.get(),
                file_bytes: wal.file_bytes.map(crate::types::ByteSize::get),
                oldest_seconds: oldest(&view.wal),
                space_is_short: wal.space_is_short,
                poisoned: wal.poisoned,
                durability: wal.durability.to_string(),
                storage: match wal.storage {
                    Storage::Disk => "disk",
                    Storage::Memory => "memory",
                },
                promise: wal.promise,
                gaps: view.wal.gaps().iter().map(GapStatus::of).collect(),
                recovery: RecoveryStatus::of(view.wal.recovery()),
            },
            // What cannot be read is logged where it keeps segments from being dropped.
            orphaned: view.wal.orphans().iter().flatten().map(OrphanStatus::of).collect(),
            replays: ReplayStatus::all(view),
            destinations: view.sinks.iter().map(DestinationStatus::of).collect(),
        }
    }
}

/// The age of the oldest retained frame.
fn oldest(wal: &Wal) -> Option<f64> {
    let first = wal.segments().into_iter().find(|segment| !segment.frames.is_empty())?;
    let age = clock::unix_micros().since(first.first_received);
    Some(std::time::Duration::from_micros(age).as_secs_f64())
}

impl ConfigStatus {
    fn of(reload: &ReloadStatus) -> Self {
        Self {
            last_reload_successful: reload.successful,
            taken: reload.taken.get() as f64 / 1e6,
            restart_needed: reload.restart_needed.clone(),
        }
    }
}

impl OrphanStatus {
    fn of(orphan: &Orphan) -> Self {
        let position = orphan.checkpoint.position;
        Self {
            name: orphan.name.to_string(),
            checkpoint: (position.offset.get(), position.index),
            pinned_segments: orphan.segments,
            pinned_bytes: orphan.bytes.get(),
            pending: orphan.messages,
        }
    }
}

impl IngestStatus {
    fn of(status: ingest::IngestStatus) -> Self {
        let loss = |loss: ingest::UpstreamLoss| LossStatus {
            drain: loss.drain,
            code: loss.code,
            messages: loss.messages,
        };
        let stranger = |stranger: ingest::Stranger| StrangerStatus {
            token: stranger.token,
            frames: stranger.frames,
        };
        Self {
            state: status.state,
            connections: status.connections,
            requests: status.requests,
            certificate_not_after: status.certificate_not_after.map(|at| at.get() / 1_000_000),
            upstream_loss: status.upstream_loss.into_iter().map(loss).collect(),
            unknown_drains: status.unknown_drains.into_iter().map(stranger).collect(),
        }
    }
}

impl GapStatus {
    fn of(gap: &Gap) -> Self {
        Self {
            cause: gap.cause.as_str(),
            first_offset: gap.range.start.get(),
            end_offset: gap.range.end.get(),
            messages: gap.messages,
            first_recorded_us: gap.first_recorded.get(),
            last_recorded_us: gap.last_recorded.get(),
            losses: gap.losses.iter().map(|(name, lost)| (name.to_string(), *lost)).collect(),
        }
    }
}

impl RecoveryStatus {
    fn of(report: &RecoveryReport) -> Self {
        let torn = |torn: &TornTail| TornStatus {
            file: torn.file.display().to_string(),
            at: torn.at,
            bytes: torn.bytes,
        };
        Self {
            created: report.created,
            end_offset: report.end.get(),
            recounted: report.recounted,
            seconds: report.took.as_secs_f64(),
            torn: report.torn.iter().map(torn).collect(),
            given_up: report.given_up.iter().map(|r| (r.start.get(), r.end.get())).collect(),
        }
    }
}

impl DestinationStatus {
    fn of(sink: &SinkHandle) -> Self {
        let status = sink.status();
        let delivery = &status.delivery;
        let endpoint = |(url, endpoint): (&String, &crate::delivery::EndpointStatus)| {
            let (state, reason) = match &endpoint.state {
                EndpointState::Up => ("up", sink.unanswered(url)),
                EndpointState::Resting { .. } => {
                    ("resting", sink.outage(url).or_else(|| sink.unanswered(url)))
                }
                EndpointState::Held { reason, .. } => ("held", Some(reason.to_string())),
            };
            EndpointStatus { url: url.clone(), state, reason }
        };
        let endpoints: Vec<_> =
            status.endpoints.iter().zip(&delivery.endpoints).map(endpoint).collect();
        let state = if status.stuck.is_some() {
            "stuck"
        } else if delivery.paused {
            "paused"
        } else if endpoints.iter().all(|endpoint| endpoint.state == "held") {
            "held"
        } else {
            "delivering"
        };
        Self {
            name: sink.name().to_string(),
            state,
            paused: delivery.paused,
            reason: status.stuck.clone(),
            acknowledgement: sink.acknowledgement().as_str(),
            tls_verified: sink.tls_verified(),
            checkpoint: (delivery.position.offset.get(), delivery.position.index),
            read: (delivery.read.offset.get(), delivery.read.index),
            lag_seconds: status.lag(clock::unix_micros()).as_secs_f64(),
            batches_posting: delivery.batches_posting,
            batches_unacknowledged: delivery.batches_unacknowledged,
            books: Books::of(&status),
            endpoints,
        }
    }
}
