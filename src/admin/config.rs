//! What admin is told.

use std::net::SocketAddr;

/// Admin's settings. Built by `config`, which has checked them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen (`admin.listen`). A loopback address.
    pub listen: SocketAddr,
}
