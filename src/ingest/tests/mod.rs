//! Ingest over raw sockets: what the bytes on the wire are, not what a client makes of them.

mod access;
mod answers;
mod bodies;
mod connections;
mod limits;
mod memory;
mod server;
mod tls;
