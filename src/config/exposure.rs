//! Who can reach ingest, and what that needs.

use std::fmt;
use std::net::SocketAddr;

use super::error::{ConfigError, ConfigErrors};
use super::table;
use super::{Config, is_loopback};

/// What a configuration says about the listener of ingest beside its address: what a process that
/// runs has to remember, since only a restart can change it.
#[derive(Clone)]
pub struct Exposure {
    /// `ingest.allow_insecure`.
    pub(super) insecure: bool,
    /// Where `ingest.listen` stands.
    pub(super) file: String,
    pub(super) line: Option<u32>,
}

impl fmt::Debug for Exposure {
    /// The place says nothing of the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposure").field("insecure", &self.insecure).finish_non_exhaustive()
    }
}

/// What an address that others can reach lacks; none when it has both.
pub(super) const fn lacks(tls: bool, users: bool) -> Option<&'static str> {
    match (tls, users) {
        (true, true) => None,
        (false, true) => Some("without TLS"),
        (true, false) => Some("without a user"),
        (false, false) => Some("without TLS and without a user"),
    }
}

impl Config {
    /// Whether a process that was started with `started`, and listens on `address`, may take this
    /// configuration. It goes on listening there, whatever this configuration says of
    /// `ingest.listen`: so TLS and users may not go while others can reach it.
    ///
    /// # Errors
    /// When logs and passwords would cross a network in the clear, or everybody could send.
    pub fn may_replace(&self, started: &Exposure, address: SocketAddr) -> Result<(), ConfigErrors> {
        let live = &self.ingest.live;
        let lacks = match lacks(live.tls.is_some(), !live.users.is_empty()) {
            Some(lacks) if !started.insecure && !is_loopback(&address) => lacks,
            Some(_) | None => return Ok(()),
        };
        let problem = format!(
            "until it is restarted, forebay listens on {address}, which is not a loopback address, \
             and would do so {lacks}"
        );
        let fix = "keep [ingest.tls] and [[ingest.user]] as they were, or restart forebay: other \
                   values of ingest.listen and ingest.allow_insecure are not in force before"
            .to_owned();
        let key = table::LISTEN.path.to_owned();
        let error = ConfigError { key, line: self.exposure.line, problem, fix };
        Err(ConfigErrors::new(self.exposure.file.clone(), vec![error]))
    }
}
