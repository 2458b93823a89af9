//! What ingest is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::tls::Identity;
use crate::logplex::Profile;
use crate::types::{ByteSize, Secret};

/// Ingest's settings. Built by `config`, which has checked them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen (`ingest.listen`).
    pub listen: Listen,
    /// The one path that takes frames (`ingest.path`).
    pub path: String,
    /// The largest body; more is a 413 (`ingest.max_body`).
    pub max_body: ByteSize,
    /// How many times larger than its gzip a body may be (`ingest.max_gzip_ratio`).
    pub max_gzip_ratio: usize,
    /// How long a request may wait for its frame to be durable before it is answered 503
    /// (`ingest.ack_deadline`). Logplex gives up after 5 s.
    pub ack_deadline: Duration,
    /// How long requests wait for the log before ingest counts as holding
    /// (`ingest.hold_after`).
    pub hold_after: Duration,
    /// How long ingest holds before it refuses connections (`ingest.close_after`).
    pub close_after: Duration,
    /// How many connections may be open (`ingest.max_connections`). At the limit ingest stops
    /// accepting: a connection that waits in the backlog costs Logplex no try.
    pub max_connections: usize,
    /// How many of them may come from one address (`ingest.max_connections_per_address`). One
    /// more is closed at once.
    pub max_connections_per_address: usize,
    /// The most memory that bodies may take from their first byte until they are durable
    /// (`ingest.max_in_flight`). When it is taken, requests wait up to the ack deadline. At least
    /// four times `max_body`.
    pub max_in_flight: ByteSize,
    /// How long a connection may be idle that has sent a request which could be accepted
    /// (`ingest.idle_timeout`). Logplex closes after 144 s to 240 s and loses a try when we close
    /// first.
    pub idle_timeout: Duration,
    /// What may change while ingest runs.
    pub live: Live,
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On this address.
    Address(SocketAddr),
    /// On the socket that the service manager hands over: it goes on queueing connections while
    /// forebay is restarted.
    Systemd,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Systemd => f.write_str("the socket of the service manager"),
        }
    }
}

/// Settings that take effect without a restart, all at once. A connection that is open keeps its
/// TLS session; each request is judged by the settings of the moment it comes.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Who may send (`[[ingest.user]]`). Empty: everybody, which only loopback allows.
    pub users: Vec<User>,
    /// The drains that are known, by their token (`[[drain]]` and `drains_file`).
    pub drains: Arc<Drains>,
    /// What happens to frames of other drains (`ingest.unknown_drain`).
    pub unknown_drain: UnknownDrain,
    /// The query parameters that are kept with a frame (`ingest.query`).
    pub query: BTreeSet<String>,
    /// From where senders may connect (`ingest.allow`). None: from everywhere.
    pub allow: Option<Vec<IpNet>>,
    /// Who must say in a PROXY protocol header for whom it connects
    /// (`ingest.proxy_protocol_from`).
    pub proxies: Vec<IpNet>,
    /// The certificate (`[ingest.tls]`). None: plain HTTP.
    pub tls: Option<Identity>,
}

/// Drains by their token.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Drains(pub BTreeMap<String, Drain>);

impl fmt::Debug for Drains {
    /// Tokens are left out: they identify a drain to whoever sends to it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.values()).finish()
    }
}

/// A drain that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// The name of the app behind it; several drains may have one.
    pub name: String,
    /// What it is treated as, whatever its headers say.
    pub profile: Option<Profile>,
}

/// What happens to a frame of a drain that is not known, when its credentials are good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownDrain {
    /// It is accepted, counted and shown: the token of a drain is known only after it was added.
    #[default]
    Accept,
    /// It is answered 403, and so lost at the sender.
    Reject,
}

/// One set of credentials.
#[derive(Clone, Debug)]
pub struct User {
    /// Its name; the user name in the drain URL where that has one.
    pub name: String,
    /// The secret.
    pub password: Secret,
    /// How the secret comes.
    pub via: Via,
    /// The names of the drains it may send for, among those that are configured. None: all.
    pub drains: Option<BTreeSet<String>>,
    /// Still good, but to be replaced: counted and warned of.
    pub deprecated: bool,
}

/// How a request carries its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// As user and password: `Authorization: Basic`.
    Basic,
    /// As a token: `Authorization: Bearer`.
    Bearer,
    /// As the last part of the path.
    Path,
}

impl Via {
    /// As the configuration has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Bearer => "bearer",
            Self::Path => "path",
        }
    }
}
