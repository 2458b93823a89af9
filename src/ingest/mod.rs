//! Frames in: the HTTP side that Heroku's drains post to.
//!
//! ```text
//!  accept ──▶ connection ──▶ handler ────────────────────────────────▶ wal
//!  permit     PROXY, TLS     path, method, credentials, drain, content   │ fsync
//!  before     idle clock     type, size, memory, body, count,            ▼
//!  accept     head clock     append         200 ◀─────────────────── Durable
//! ```
//!
//! What matters here is what Logplex does with an answer, because that decides whether a frame
//! comes again. [`response`] is the one table of it. In short: a 200 goes out only for a
//! [`Durable`](crate::wal::Durable) frame; a 4xx only for what can never be accepted, because
//! Logplex throws such a frame away; everything else is held for up to the ack deadline and then
//! answered 503, or, for log-shuttle, which takes any status for success, not at all.
//!
//! Everything is bounded: connections by a permit taken before `accept`, bodies by byte permits
//! (`memory`) taken before anything of them is kept and given back when the frame is durable, heads
//! by hyper's limits, time by five clocks (the handshake's, three in `activity`, and the ack
//! deadline).
//!
//! A connection is one task, and a panic in it costs that connection only.

mod access;
mod activity;
mod addresses;
mod auth;
mod body;
mod config;
mod connection;
mod facts;
mod gate;
mod handle;
mod handler;
mod head;
mod listener;
mod loss;
mod memory;
mod metrics;
mod patience;
mod proxy;
mod receipt;
mod request_id;
pub mod response;
mod server;
mod tls;

pub use config::{Config, Drain, Drains, Listen, Live, UnknownDrain, User, Via};
pub use handle::{IngestHandle, IngestStatus};
pub use loss::{Stranger, UpstreamLoss};
pub use server::Ingest;
pub use tls::{Identity, IdentityError};

#[cfg(test)]
mod tests;
