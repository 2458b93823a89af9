//! How a simulated HEC behaves.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::types::Secret;

/// A simulated HEC.
#[derive(Clone, Debug)]
pub struct HecConfig {
    /// Where to listen. Port 0 takes a free one, see [`HecServer::local_addr`](super::HecServer::local_addr).
    pub listen: SocketAddr,
    /// The tokens it knows.
    pub tokens: Vec<HecToken>,
    /// When accepted events are indexed, and so acknowledged.
    pub ack: AckMode,
    /// Seeds the delays of [`AckMode::After`].
    pub seed: u64,
    /// The largest body, as it comes and after decompression; larger ones get 413. Splunk's own
    /// default is 800 MiB, 1 MB in old releases.
    pub max_content_length: usize,
    /// The largest single object of `/event`; a larger one is answered with code 6.
    pub max_event_size: usize,
    /// Requests being read or answered at a time. One more gets 503, code 9.
    pub max_requests: usize,
    /// Connections at a time. Further ones wait in the listen queue.
    pub max_connections: usize,
    /// Requests accepted and not yet reported as acknowledged, over all channels. One more gets
    /// 503, code 9, as Splunk answers when a channel's limit is reached.
    pub max_pending: usize,
}

impl Default for HecConfig {
    /// A free port on loopback, one token `00000000-0000-0000-0000-000000000000` with
    /// acknowledgement, and an idle single node's acknowledgement after about a second.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tokens: vec![HecToken::default()],
            ack: AckMode::After {
                min: Duration::from_millis(800),
                max: Duration::from_millis(1200),
            },
            seed: 0,
            max_content_length: 8 << 20,
            max_event_size: 5 << 20,
            max_requests: 256,
            max_connections: 1024,
            max_pending: 1 << 20,
        }
    }
}

/// A HEC token.
#[derive(Clone, Debug)]
pub struct HecToken {
    /// What clients send.
    pub value: Secret,
    /// A disabled token answers 403, code 1.
    pub enabled: bool,
    /// Indexer acknowledgement: a channel is required, answers carry an `ackId`.
    pub use_ack: bool,
    /// The indexes it may write to. Empty: any.
    pub indexes: Vec<String>,
    /// The token may come as `?token=`.
    pub allow_query_auth: bool,
}

impl Default for HecToken {
    fn default() -> Self {
        Self {
            value: Secret::new("00000000-0000-0000-0000-000000000000".to_owned()),
            enabled: true,
            use_ack: true,
            indexes: Vec::new(),
            allow_query_auth: false,
        }
    }
}

/// When accepted events are indexed. An acknowledgement is never earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// Each request after its own delay between the two, evenly spread. Zero: before the answer.
    After {
        /// The shortest delay.
        min: Duration,
        /// The longest delay.
        max: Duration,
    },
    /// The pipeline stands still: what is accepted is neither indexed nor acknowledged, until
    /// the mode changes or a restart loses it.
    Never,
}

impl AckMode {
    /// Indexed before the answer leaves.
    pub const AT_ONCE: Self = Self::After { min: Duration::ZERO, max: Duration::ZERO };
}

/// A fault, on every request or on some.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// The probability that a request it could hit is hit, 0 to 1.
    pub share: f64,
    /// Seeds the choice.
    pub seed: u64,
}

impl Fault {
    /// On every request.
    #[must_use]
    pub const fn always(kind: FaultKind) -> Self {
        Self { kind, share: 1.0, seed: 0 }
    }

    /// On a share of the requests.
    #[must_use]
    pub const fn sometimes(kind: FaultKind, share: f64, seed: u64) -> Self {
        Self { kind, share, seed }
    }
}

/// What can go wrong at a HEC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// 503, code 9, on `/event` and `/raw`; nothing is accepted.
    Busy,
    /// 429, code 26, on `/event` and `/raw`; nothing is accepted. Health says 503, code 18.
    QueueFull,
    /// 200 with code 24 and the `ackId`: accepted, with a warning.
    ApproachingCapacity,
    /// 403, code 4, on `/event`, `/raw` and `/ack`.
    InvalidToken,
    /// The events are accepted and indexed at once, then the answer is 500, code 8.
    ServerError,
    /// No answer until the fault is lifted. Posts are accepted first; `/ack` waits before it
    /// looks, so no `true` is spent.
    Hang,
    /// The events are accepted and indexed at once, then the connection closes without an answer.
    ResetAfterIndexing,
    /// The indexer is in detention: 404 on every route.
    Detention,
    /// A captive portal in between: 200 with an HTML page on every route, nothing is accepted.
    Captive,
    /// `/ack` spends its `true`s, then the connection closes without an answer.
    LostAckReply,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Busy,
        Self::QueueFull,
        Self::ApproachingCapacity,
        Self::InvalidToken,
        Self::ServerError,
        Self::Hang,
        Self::ResetAfterIndexing,
        Self::Detention,
        Self::Captive,
        Self::LostAckReply,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::QueueFull => "queue-full",
            Self::ApproachingCapacity => "approaching-capacity",
            Self::InvalidToken => "invalid-token",
            Self::ServerError => "server-error",
            Self::Hang => "hang",
            Self::ResetAfterIndexing => "reset-after-indexing",
            Self::Detention => "detention",
            Self::Captive => "captive",
            Self::LostAckReply => "lost-ack-reply",
        }
    }

    /// The fault of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_names_are_distinct_and_read_back() {
        for kind in FaultKind::ALL {
            assert_eq!(FaultKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(FaultKind::parse("none"), None);
    }
}
