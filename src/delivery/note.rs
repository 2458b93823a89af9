//! What an operator hears of.

use std::time::Duration;

use super::{Acknowledgement, EndpointId, HoldReason};
use crate::types::{BatchId, PositionRange};

/// Things an operator should hear about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// An endpoint takes nothing until somebody mends something.
    Held {
        /// Which.
        endpoint: EndpointId,
        /// Why.
        reason: HoldReason,
    },
    /// An endpoint that was held takes batches again.
    Resumed {
        /// Which.
        endpoint: EndpointId,
    },
    /// It is known now what counts as delivered ([`Acknowledgement::Auto`]).
    Chosen(Acknowledgement),
    /// A batch was acknowledged.
    Acknowledged {
        /// Which.
        batch: BatchId,
        /// What was in it.
        range: PositionRange,
        /// Time from the 2xx of the POST that is acknowledged.
        after: Duration,
    },
    /// An event was dead-lettered.
    DeadLettered,
    /// A batch will be sent again.
    Resend {
        /// Which.
        batch: BatchId,
        /// Why.
        reason: ResendReason,
    },
}

/// Why a batch is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResendReason {
    /// The collector did not take it.
    NotAccepted,
    /// Nobody knows whether the collector took it.
    Doubt,
    /// It was not acknowledged in time.
    AckTimeout,
    /// An ackId on its channel did not rise: the collector has forgotten the channel.
    ChannelForgotten,
    /// The connection that its channel stood on is lost.
    ConnectionLost,
    /// It is a piece of a batch that was refused.
    Refused,
    /// The last process sent it, and no acknowledgement was heard since.
    Restart,
}

impl ResendReason {
    /// As a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAccepted => "not_accepted",
            Self::Doubt => "doubt",
            Self::AckTimeout => "ack_timeout",
            Self::ChannelForgotten => "channel_forgotten",
            Self::ConnectionLost => "connection_lost",
            Self::Refused => "refused",
            Self::Restart => "restart",
        }
    }
}
