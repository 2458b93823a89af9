//! One destination's at-least-once machine, pure: it decides, and does nothing.
//!
//! The sink tells it what happened ([`Event`]) and what time it is, takes the [`Action`]s and
//! carries them out. No runtime, no store, no socket in here: a world of collectors that lose
//! acknowledgements, forget channels and die is simulated in a loop (`simulation.rs`).
//!
//! A batch's way:
//!
//! ```text
//!            Read                 Send             2xx + ackId               true
//!   log ─────────────▶ Ready ───────────▶ Posting ────────────▶ Unacked ─────────────▶ Settled
//!                        ▲                 │ │                     │                      │
//!                        │   not accepted  │ │                     │ no acknowledgement,  │ the settled
//!                        ├─────────────────┘ │ an event            │ or the channel is    │ prefix moves
//!                        │                   ▼ is refused          ▼ in doubt             ▼ the checkpoint
//!                     Fetching ◀── Faded ◀── Splitting            Faded
//! ```
//!
//! A batch of which an event is refused is cut in pieces that take its place; one event that is
//! refused for its own sake ends among the dead letters (`refuse.rs`). The checkpoint also carries
//! what became of the batches beyond it, so that a restart sends little twice (`restore.rs`).
//!
//! Invariants, each held by a property test:
//!
//! 1. The checkpoint is the end of the settled prefix and nothing else (P2). It never goes back.
//! 2. Only an ackId answered `true` on its own channel settles a batch, however late (or the 2xx,
//!    where acknowledgement is off; or a batch without events); a refused event only its durable dead
//!    letter. What the log has given up is settled as dropped, and counted so.
//! 3. A channel is used against one endpoint with one POST in flight, and takes no further POST
//!    after the first doubt about it. ackIds on it only rise; if one does not, everything
//!    outstanding on the channel is sent again on a fresh one (I5).
//! 4. No two polls of one channel overlap: a poll consumes what it reads.
//! 5. At most `window` batches are unsettled, a small multiple of that (or 64) while events are
//!    refused or old channels are asked, and at most two bodies a lane, and two more, are in memory (I7).
//! 6. What is not understood is never a delivery: it holds the endpoint.
//! 7. An event is dead-lettered only when it was refused alone, by a collector that has taken
//!    others since it was refused first.
//! 8. Where the collectors decide whether acknowledgement is required, nothing is sent before one
//!    has said that it acknowledges, or all that they do not (`preflight.rs`).

mod chance;
mod channel;
mod config;
mod dispatch;
mod endpoint;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod lanes;
mod machine;
#[cfg(test)]
mod machine_tests;
#[cfg(any(test, fuzzing))]
mod model;
mod note;
mod patience;
mod preflight;
mod refuse;
mod restore;
mod settle;
#[cfg(test)]
mod simulation;
mod status;
mod trim;
mod window;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::hec::Reason;
use crate::record::Checkpoint;
use crate::types::{AckId, BatchId, ChannelId, Position, PositionRange, Tail, UnixMicros};

pub use config::{Acknowledgement, BatchLimits, Config, RetryLimits};
pub use machine::Delivery;
pub use note::{Note, ResendReason};
pub use preflight::Preflight;
pub use status::{EndpointState, EndpointStatus, Status};

/// One sequence of POSTs; an index into the destination's lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(usize);

impl LaneId {
    /// The index.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }
}

/// One collector; an index into the destination's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(usize);

impl EndpointId {
    /// The first one.
    #[cfg(all(test, feature = "server"))]
    pub(crate) const FIRST: Self = Self(0);

    /// The index.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The log's durable end moved.
    Tail(Tail),
    /// [`Action::Read`] is done.
    Read(ReadBatch),
    /// [`Action::Encode`] is done: the body is in the sink's hands again.
    Encoded {
        /// Which batch it is for.
        batch: BatchId,
        /// Events in the body.
        events: u64,
        /// Messages in the range that make no event.
        filtered: u64,
    },
    /// [`Action::Split`] is done.
    Split {
        /// Which batch.
        batch: BatchId,
        /// Where it was to be cut.
        cut: Cut,
        /// The pieces.
        parts: Parts,
    },
    /// [`Action::DeadLetter`] is done: the letter is durable.
    DeadLettered(BatchId),
    /// [`Action::DeadLetter`] was not done: there is no room.
    DeadLettersFull(BatchId),
    /// [`Action::DeadLetter`] was not done: the range does not make one event any more, but none or
    /// several. Which messages make one has changed since, and nobody can tell which was refused.
    Changed(BatchId),
    /// A POST ended.
    Posted {
        /// The lane it was on.
        lane: LaneId,
        /// How it ended.
        outcome: PostOutcome,
    },
    /// A poll ended.
    Polled {
        /// The channel that was asked about.
        channel: ChannelId,
        /// How it ended.
        outcome: PollOutcome,
    },
    /// [`Action::Preflight`] is done.
    Preflight {
        /// Who was asked.
        endpoint: EndpointId,
        /// What it said.
        said: Preflight,
    },
    /// The log has dropped everything before `to`, for want of space. What of it is not settled
    /// is settled as dropped.
    Trimmed {
        /// The first message there still is.
        to: Position,
        /// Messages in the log before it.
        messages_before: u64,
    },
    /// [`Action::Read`] came upon a stretch of the log that is damaged and that an operator has
    /// given up. It is settled as dropped.
    Lost {
        /// The number that [`Action::Read`] gave it.
        batch: BatchId,
        /// From where the read began to the end of the stretch.
        range: PositionRange,
        /// Messages in the log before the end of the stretch.
        messages_end: u64,
    },
    /// [`Action::Commit`] is done: the checkpoint is synced.
    Committed,
    /// An operator wants nothing more to be sent. What is in flight is seen through: its
    /// acknowledgements are asked for, and the checkpoint moves. It outlives a restart.
    Pause,
    /// An operator wants it to go on.
    Resume,
    /// An operator is about to move the cursor: how far it has come is saved, not only how far it
    /// had come at the last checkpoint.
    Save,
    /// Nothing happened but time.
    Tick,
    /// The relay stops: read nothing more, wait for what is in flight.
    Stop,
}

/// The next stretch of the log, made into a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBatch {
    /// The number that [`Action::Read`] gave it.
    pub batch: BatchId,
    /// What was read. Starts where the read before it ended.
    pub range: PositionRange,
    /// Messages in the range.
    pub messages: u64,
    /// Messages in the range that make no event.
    pub filtered: u64,
    /// Events in the body.
    pub events: u64,
    /// Messages in the log before the end of the range, as the log has it.
    pub messages_end: u64,
    /// When the first frame of the range arrived.
    pub received: UnixMicros,
    /// The tail at the time of the read if it was reached, else nothing: more can be read.
    pub caught_up: Option<Tail>,
}

impl ReadBatch {
    /// A read that brought nothing.
    #[must_use]
    pub fn nothing(batch: BatchId) -> Self {
        Self {
            batch,
            range: PositionRange::default(),
            messages: 0,
            filtered: 0,
            events: 0,
            messages_end: 0,
            received: UnixMicros::default(),
            caught_up: None,
        }
    }
}

/// Where a batch is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Around the event of this index, from 0: before it, itself, behind it.
    Event(u64),
    /// In two pieces with about as many events each.
    Half,
}

/// The pieces of a batch. In the order of the log, without a gap between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Before the event, or the first half. None when it would have no message.
    pub before: Option<Part>,
    /// The message of the event; none for halves.
    pub bad: Option<Part>,
    /// Behind the event, or the second half. None when it would have no message.
    pub after: Option<Part>,
}

/// A piece of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which messages.
    pub range: PositionRange,
    /// How many they are.
    pub messages: u64,
    /// How many of them make no event.
    pub filtered: u64,
    /// How many events they make.
    pub events: u64,
}

/// How a POST ended, as far as delivery is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostOutcome {
    /// 2xx.
    Accepted {
        /// The ackId in the answer.
        ack: Option<AckId>,
        /// The collector says that its queues fill up (codes 24 and 25).
        pressed: bool,
    },
    /// Certainly not accepted, by the collector's own word; it is alive and will take it later.
    Busy {
        /// `Retry-After`.
        after: Option<Duration>,
    },
    /// Certainly not accepted, and the collector may be another process when it comes back.
    Unreachable {
        /// `Retry-After`.
        after: Option<Duration>,
    },
    /// May have been accepted, wholly or in part.
    Doubt {
        /// `Retry-After`.
        after: Option<Duration>,
    },
    /// Not found: an indexer in detention says so, and so does a wrong URL. Certainly not
    /// accepted.
    Missing {
        /// `Retry-After`.
        after: Option<Duration>,
        /// Why the endpoint is held, if it turns out to be the URL.
        reason: HoldReason,
    },
    /// One event was refused; those before it were taken.
    Refused {
        /// Its index, from 0. None when the answer does not say: it is not known then what was
        /// taken.
        bad: Option<u64>,
        /// The ackId in the answer: it is for the events before the refused one.
        ack: Option<AckId>,
        /// What was answered.
        reason: Reason,
    },
    /// The body was too large. Certainly not accepted.
    TooLarge {
        /// What was answered.
        reason: Reason,
    },
    /// The connection that the channel stands on is lost, and with it the way to the indexer that
    /// knows the channel.
    Severed {
        /// Whether the batch was on its way when that was found, and may have been accepted.
        sent: bool,
    },
    /// An operator has to mend something.
    Fault(HoldReason),
    /// The answer is not understood. May have been accepted.
    Strange(HoldReason),
}

/// How a poll ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollOutcome {
    /// An answer that was understood.
    Answered {
        /// Those of the asked ids that were `true`.
        acked: Vec<AckId>,
    },
    /// No answer, or none that was understood. What it would have said may be lost for ever.
    Failed,
    /// The connection that the channel stands on is lost. No other leads to the indexer that knows
    /// the channel.
    Severed,
    /// The collector says that an operator has to mend something.
    Fault(HoldReason),
}

/// Why an endpoint is held: a sentence for people.
#[derive(Clone, PartialEq, Eq)]
pub struct HoldReason(Arc<str>);

impl HoldReason {
    /// Takes a sentence. It must hold no secret: it is logged and shown.
    #[must_use]
    pub fn new(sentence: &str) -> Self {
        Self(Arc::from(sentence))
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What the sink has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read from `from` on, up to a full batch or the durable end, and keep the body until
    /// [`Action::Release`]. One at a time.
    Read {
        /// The batch this will be.
        batch: BatchId,
        /// The first message to read.
        from: Position,
    },
    /// Read `range` again and make the same body of it.
    Encode {
        /// The batch it is for.
        batch: BatchId,
        /// What to read.
        range: PositionRange,
        /// Not to be compressed.
        plain: bool,
    },
    /// Look up where a batch is to be cut. Its body is not needed.
    Split {
        /// Which.
        batch: BatchId,
        /// Its messages.
        range: PositionRange,
        /// Where.
        cut: Cut,
    },
    /// Make a dead letter of the only event in `range`, durable.
    DeadLetter {
        /// The batch it is.
        batch: BatchId,
        /// Its messages.
        range: PositionRange,
        /// Who refused it.
        endpoint: EndpointId,
        /// What was answered.
        reason: Reason,
    },
    /// POST the batch's body.
    Send {
        /// The lane the POST belongs to.
        lane: LaneId,
        /// Where to.
        endpoint: EndpointId,
        /// On which channel.
        channel: ChannelId,
        /// What.
        batch: BatchId,
    },
    /// The batch's body, if there is one, is not needed any more.
    Release(BatchId),
    /// Ask whether these ids are acknowledged. To be read to its end, however long that takes:
    /// what a poll says, it says once.
    Poll {
        /// Where to.
        endpoint: EndpointId,
        /// About which channel.
        channel: ChannelId,
        /// About which ids, the oldest first.
        ids: Vec<AckId>,
    },
    /// Ask whether the collector acknowledges: about the first id of a channel that nothing is ever
    /// posted on.
    Preflight {
        /// Whom to ask.
        endpoint: EndpointId,
        /// On which channel.
        channel: ChannelId,
    },
    /// Nothing more is sent on the channel, and nothing more asked about it: what is kept for it can
    /// go.
    Close(ChannelId),
    /// Make the checkpoint durable. One at a time.
    Commit(Checkpoint),
    /// For the operator.
    Note(Note),
}
