//! What the delivery machine is told.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::types::ByteSize;

/// One destination's rules of delivery.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many endpoints there are. Lanes are dealt out over them in turn.
    pub endpoints: NonZeroUsize,
    /// How many POSTs may be in flight to one endpoint at first (`destination.lanes`).
    pub lanes_per_endpoint: NonZeroUsize,
    /// How many that may become while it works (`destination.max_lanes`).
    pub max_lanes_per_endpoint: NonZeroUsize,
    /// How many batches may be sent and not yet settled (`destination.window`).
    pub window: NonZeroUsize,
    /// When a batch is full, or old enough.
    pub batch: BatchLimits,
    /// What it takes for a batch to count as delivered (`destination.acknowledgement`).
    pub acknowledgement: Acknowledgement,
    /// How long after its 2xx a batch may stay without acknowledgement before it is sent again
    /// on a fresh channel (`destination.ack_timeout`); longer where acknowledgements turn out to
    /// take longer. A channel that is idle for so long is not used again either.
    pub ack_timeout: Duration,
    /// How long the last process's channels are asked for acknowledgements before its batches
    /// are sent again (`destination.recall`).
    pub recall: Duration,
    /// The longest wait between two questions about a channel while batches on it wait for their
    /// acknowledgement. A channel that stands on a connection of its own has to keep it in use.
    pub longest_poll: Duration,
    /// Whether an event that is refused alone is dead-lettered at once, without proof that the
    /// collector takes others: for dead letters that are sent again.
    pub believe_refusals: bool,
    /// Waits between attempts.
    pub retry: RetryLimits,
}

/// When a batch is full, or old enough.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// The most bytes of one body before compression (`destination.batch.max_bytes`).
    pub max_bytes: ByteSize,
    /// The most events of one body (`destination.batch.max_events`).
    pub max_events: NonZeroUsize,
    /// How long the first message of a batch may wait for company (`destination.batch.linger`).
    pub linger: Duration,
}

/// What it takes for a batch to count as delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// The indexers' acknowledgement. A 2xx without an ackId holds the endpoint.
    Required,
    /// A 2xx: data can die between the collector and the indexers' disks.
    Off,
    /// One of the two, as the collectors say when they are asked. Nothing is sent before that.
    Auto,
}

/// Waits between attempts: exponential, full jitter, without end.
#[derive(Clone, Copy, Debug)]
pub struct RetryLimits {
    /// The upper bound of the first wait.
    pub initial: Duration,
    /// The upper bound of every wait.
    pub max: Duration,
    /// How long a held endpoint rests before it is probed.
    pub hold: Duration,
}

impl Acknowledgement {
    /// As a metric label, and in the status. `unknown`: nobody has said yet.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Off => "off",
            Self::Auto => "unknown",
        }
    }
}
