//! How a simulated HEC behaves.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::balancer::Balancer;
use super::tls::HecTls;
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
    /// Indexers behind the one address, each with channels and acknowledgements of its own.
    pub indexers: NonZeroUsize,
    /// Who chooses the indexer of a request, when there are several.
    pub balancer: Balancer,
    /// A channel that nobody posts on or polls for this long is forgotten, as `ackIdleCleanup`
    /// and `maxIdleTime` (600 s by default) of inputs.conf have it. `None`: never.
    pub channel_idle: Option<Duration>,
    /// A connection that is idle for this long is closed; Splunk's own limit is 12 s while it is
    /// busy (`busyKeepAliveIdleTimeout`). `None`: never.
    pub keep_alive: Option<Duration>,
    /// How late an answer is that [`FaultKind::SlowReply`](super::FaultKind::SlowReply) hits.
    pub slow: Duration,
    /// What [`FaultKind::RetryAfter`](super::FaultKind::RetryAfter) sends as `Retry-After`:
    /// seconds, or an HTTP date.
    pub retry_after: String,
    /// Events that are refused for good.
    pub poison: Vec<Poison>,
    /// TLS, when it is not plain HTTP.
    pub tls: Option<HecTls>,
}

/// Events with this marker are refused for good, whenever and wherever they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// What makes an event poison: these bytes, anywhere in its text.
    pub marker: String,
    /// What it is answered.
    pub code: PoisonCode,
}

/// The codes of HEC that are about one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoisonCode {
    /// 6, "Invalid data format".
    InvalidData,
    /// 7, "Incorrect index": the number in the answer is one too high.
    IncorrectIndex,
    /// 12, "Event field is required".
    EventRequired,
    /// 13, "Event field cannot be blank".
    EventBlank,
    /// 15, "Error in handling indexed fields".
    IndexedFields,
}

impl PoisonCode {
    /// The one with that number.
    #[must_use]
    pub const fn of(code: u16) -> Option<Self> {
        match code {
            6 => Some(Self::InvalidData),
            7 => Some(Self::IncorrectIndex),
            12 => Some(Self::EventRequired),
            13 => Some(Self::EventBlank),
            15 => Some(Self::IndexedFields),
            _ => None,
        }
    }
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
            indexers: NonZeroUsize::MIN,
            balancer: Balancer::None,
            channel_idle: None,
            keep_alive: None,
            slow: Duration::from_secs(3),
            retry_after: "1".to_owned(),
            poison: Vec::new(),
            tls: None,
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
