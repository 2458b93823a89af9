//! What ingest is told.

use std::net::SocketAddr;
use std::time::Duration;

use crate::types::{ByteSize, Secret};

/// Ingest's settings. Built by `config`, which has checked them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen (`ingest.listen`).
    pub listen: SocketAddr,
    /// The one path that takes frames (`ingest.path`).
    pub path: String,
    /// The largest body; more is a 413 (`ingest.max_body`).
    pub max_body: ByteSize,
    /// How long a request may wait for its frame to be durable before it is answered 503
    /// (`ingest.ack_deadline`). Logplex gives up after 5 s.
    pub ack_deadline: Duration,
    /// How many connections may be open (`ingest.max_connections`). At the limit ingest stops
    /// accepting: a connection that waits in the backlog costs Logplex no try.
    pub max_connections: usize,
    /// The most memory that bodies may take from their first byte until they are durable
    /// (`ingest.max_in_flight`). When it is taken, requests wait up to the ack deadline.
    pub max_in_flight: ByteSize,
    /// How long a connection may be idle (`ingest.idle_timeout`). Logplex closes after 144 s to
    /// 240 s and loses a try when we close first.
    pub idle_timeout: Duration,
    /// Who may send (`[[ingest.user]]`). Empty: everybody, which only loopback allows.
    pub users: Vec<User>,
}

/// One set of Basic credentials.
#[derive(Clone, Debug)]
pub struct User {
    /// The user name in the drain URL.
    pub name: String,
    /// The password in the drain URL.
    pub password: Secret,
}
