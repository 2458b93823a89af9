//! `/v1/status`, as JSON.

use serde::Serialize;

use crate::clock;
use crate::delivery::EndpointState;
use crate::sink::{SinkHandle, SinkStatus};

use super::View;

/// The relay's state.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// forebay's version.
    pub version: &'static str,
    /// `ready` or `stopping`.
    pub phase: &'static str,
    /// The log.
    pub log: LogStatus,
    /// The destinations, in the order of configuration.
    pub destinations: Vec<DestinationStatus>,
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
    /// Whether frames are refused for want of space.
    pub space_is_short: bool,
    /// Why the log is poisoned, if it is.
    pub poisoned: Option<String>,
    /// `fsync`: a frame is synced before it is answered.
    pub durability: &'static str,
}

/// A destination's state.
#[derive(Clone, Debug, Serialize)]
pub struct DestinationStatus {
    /// Its name.
    pub name: String,
    /// `delivering`, `held`, or `stuck` when the log cannot be read.
    pub state: &'static str,
    /// Why it is stuck.
    pub reason: Option<String>,
    /// `required` or `off`.
    pub acknowledgement: &'static str,
    /// Whether the collectors' certificates are checked.
    pub tls_verified: bool,
    /// The first message that is not settled: offset and index.
    pub checkpoint: (u64, u32),
    /// The first message that is not read: offset and index.
    pub read: (u64, u32),
    /// Age of the oldest frame in flight, in seconds.
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
    /// Not settled yet.
    pub pending: u64,
    /// Accepted less all others. 0, or there is a bug.
    pub difference: i128,
}

/// A collector's state.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointStatus {
    /// Its URL.
    pub url: String,
    /// `up`, `resting` or `held`.
    pub state: &'static str,
    /// Why it is held.
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
            pending: delivery.pending(&status.tail),
            difference: delivery.difference(&status.tail),
        }
    }
}

impl Status {
    /// The state at this moment.
    #[must_use]
    pub fn of(view: &View) -> Self {
        let wal = view.wal.status();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            phase: view.phase.borrow().as_str(),
            log: LogStatus {
                first_offset: wal.first.get(),
                end_offset: wal.tail.end.get(),
                messages: wal.tail.messages,
                segments: wal.segments,
                bytes: wal.bytes.get(),
                file_bytes: wal.file_bytes.map(crate::types::ByteSize::get),
                space_is_short: wal.space_is_short,
                poisoned: wal.poisoned,
                durability: "fsync",
            },
            destinations: view.sinks.iter().map(DestinationStatus::of).collect(),
        }
    }
}

impl DestinationStatus {
    fn of(sink: &SinkHandle) -> Self {
        let status = sink.status();
        let delivery = &status.delivery;
        let endpoint = |(url, endpoint): (&String, &crate::delivery::EndpointStatus)| {
            let (state, reason) = match &endpoint.state {
                EndpointState::Up => ("up", None),
                EndpointState::Resting { .. } => ("resting", None),
                EndpointState::Held { reason, .. } => ("held", Some(reason.to_string())),
            };
            EndpointStatus { url: url.clone(), state, reason }
        };
        let endpoints: Vec<_> =
            sink.endpoints().iter().zip(&delivery.endpoints).map(endpoint).collect();
        let state = if status.stuck.is_some() {
            "stuck"
        } else if endpoints.iter().all(|endpoint| endpoint.state == "held") {
            "held"
        } else {
            "delivering"
        };
        let now = clock::unix_micros();
        let lag = delivery.oldest_unsettled.map_or(0, |oldest| now.since(oldest));
        Self {
            name: sink.name().to_string(),
            state,
            reason: status.stuck.clone(),
            acknowledgement: if sink.acknowledgement_required() { "required" } else { "off" },
            tls_verified: sink.tls_verified(),
            checkpoint: (delivery.position.offset.get(), delivery.position.index),
            read: (delivery.read.offset.get(), delivery.read.index),
            lag_seconds: std::time::Duration::from_micros(lag).as_secs_f64(),
            batches_posting: delivery.batches_posting,
            batches_unacknowledged: delivery.batches_unacknowledged,
            books: Books::of(&status),
            endpoints,
        }
    }
}
