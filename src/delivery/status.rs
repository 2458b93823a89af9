//! What the machine tells an operator.

use std::time::Duration;

use crate::record::Totals;
use crate::types::{Position, Tail, UnixMicros};

use super::endpoint::Health;
use super::window::Stage;
use super::{Acknowledgement, Delivery, HoldReason};

/// A destination's state at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The first message that is not settled.
    pub position: Position,
    /// The first message that has not been read.
    pub read: Position,
    /// What became of the messages before `position`.
    pub totals: Totals,
    /// Messages in the log before the destination's origin.
    pub origin_messages: u64,
    /// Messages in the log before `read`, as the log has it.
    pub messages_read: u64,
    /// Messages in batches that are read and not yet settled.
    pub messages_unsettled: u64,
    /// When the oldest unsettled frame arrived, among those that are read.
    pub oldest_unsettled: Option<UnixMicros>,
    /// Batches read and not yet settled.
    pub batches_unsettled: usize,
    /// Batches in a POST.
    pub batches_posting: usize,
    /// Batches accepted and not yet acknowledged.
    pub batches_unacknowledged: usize,
    /// Events that were refused, and wait for proof that it is their fault.
    pub suspects: usize,
    /// Refused events that wait for room among the dead letters.
    pub unburied: usize,
    /// Whether an operator has paused it.
    pub paused: bool,
    /// What counts as delivered: [`Acknowledgement::Auto`] until the collectors have said.
    pub acknowledgement: Acknowledgement,
    /// The endpoints, in the order of configuration.
    pub endpoints: Vec<EndpointStatus>,
}

/// One endpoint's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Whether it takes batches.
    pub state: EndpointState,
    /// POSTs on their way to it.
    pub posting: usize,
    /// POSTs that may be.
    pub lanes: usize,
}

/// Whether an endpoint takes batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// It does.
    Up,
    /// It failed for a reason that passes, and is asked again in a while.
    Resting {
        /// When, on the machine's clock.
        until: Duration,
    },
    /// It waits for an operator, and is probed now and then.
    Held {
        /// When it is probed next, on the machine's clock.
        until: Duration,
        /// Why.
        reason: HoldReason,
    },
}

impl Status {
    /// Messages that are accepted and not yet settled, when the log ends at `tail`.
    #[must_use]
    pub const fn pending(&self, tail: &Tail) -> u64 {
        self.messages_unsettled + tail.messages.saturating_sub(self.messages_read)
    }

    /// What the books are off by (I8): messages accepted since the destination's origin, less
    /// those that left and those that are pending. 0, unless there is a bug or damage.
    #[must_use]
    pub fn difference(&self, tail: &Tail) -> i128 {
        let accepted = i128::from(tail.messages) - i128::from(self.origin_messages);
        accepted - i128::from(self.totals.settled()) - i128::from(self.pending(tail))
    }
}

impl Delivery {
    /// The state at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        let count = |wanted: fn(Stage) -> bool| {
            self.window.iter().filter(|(_, batch)| wanted(batch.stage)).count()
        };
        let endpoints = self.endpoints.iter().map(|endpoint| EndpointStatus {
            posting: endpoint.posting,
            lanes: endpoint.lanes.get(),
            state: match &endpoint.health {
                Health::Up => EndpointState::Up,
                Health::Resting { until } => EndpointState::Resting { until: *until },
                Health::Held { until, reason } => {
                    EndpointState::Held { until: *until, reason: reason.clone() }
                }
            },
        });
        Status {
            position: self.window.settled(),
            read: self.read_position(),
            totals: self.window.totals(),
            origin_messages: self.origin_messages(),
            messages_read: self.messages_read,
            messages_unsettled: self.window.iter().map(|(_, batch)| batch.messages).sum(),
            oldest_unsettled: self.window.iter().next().map(|(_, batch)| batch.received),
            batches_unsettled: self.window.len(),
            batches_posting: count(|stage| matches!(stage, Stage::Posting(_))),
            batches_unacknowledged: count(|stage| matches!(stage, Stage::Unacked { .. })),
            suspects: count(|stage| matches!(stage, Stage::Suspect { .. })),
            unburied: count(|stage| matches!(stage, Stage::Unburied { .. })),
            paused: self.paused,
            acknowledgement: self.config.acknowledgement,
            endpoints: endpoints.collect(),
        }
    }
}
