//! What a simulated Logplex sends, and how patient it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::simulate::hash::scatter;
use crate::types::Secret;

/// A simulated Logplex.
#[derive(Clone, Debug)]
pub struct LogplexConfig {
    /// Where the drain listens.
    pub target: SocketAddr,
    /// Speak TLS. As with Logplex, no certificate is checked.
    pub tls: bool,
    /// The `Host` header; the target's address when absent.
    pub host: Option<String>,
    /// Path and query of the drain URL.
    pub path: String,
    /// The user of the drain URL; empty: no `Authorization`.
    pub user: String,
    /// The password of the drain URL.
    pub password: Secret,
    /// Connections. Each has one frame outstanding, as each Logplex node has for a drain.
    pub connections: NonZeroU32,
    /// Messages in a frame.
    pub messages_per_frame: NonZeroU32,
    /// Bytes of a message's text, without the syslog header and the newline. A text is never
    /// shorter than the part that makes it unique, some 40 bytes.
    pub message_bytes: usize,
    /// Frames to send over all connections; without, until `duration` or the shutdown.
    pub frames: Option<u64>,
    /// Messages a second over all connections, in step with the clock: a frame that cannot start
    /// in time starts late, and those after it catch up. Without: as fast as answers come.
    pub rate: Option<f64>,
    /// How long to send.
    pub duration: Option<Duration>,
    /// Drain tokens; connections are dealt over them. With more drains than connections, each
    /// connection takes its share of them in turn, frame by frame (a Logplex node has a connection
    /// for each drain). See [`drain_token`].
    pub drains: NonZeroU32,
    /// The number that makes the texts and frame ids of this run unique. Without: a random one.
    pub run: Option<u32>,
    /// What kinds of messages.
    pub mix: Mix,
    /// Send the frames of this file, as `forebay wal export --format frames` writes them, instead
    /// of made ones: once, each with its own drain token, frame id and query.
    pub from: Option<PathBuf>,
    /// Give the frames of the file new ids, so that a relay that has them takes them again.
    pub new_ids: bool,
    /// How often a frame is tried. Failed connections do not count.
    pub tries: u8,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long a try may take: the rest of the previous answer's body, the request, and the
    /// answer's head.
    pub request_timeout: Duration,
    /// How long an unused connection stays open.
    pub idle_close: Duration,
}

impl Default for LogplexConfig {
    /// One connection to `127.0.0.1:8080/logs`, 100 messages of 200 bytes a frame, as fast as it
    /// goes, without end, with Logplex's own timeouts and tries.
    fn default() -> Self {
        Self {
            target: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            tls: false,
            host: None,
            path: "/logs".to_owned(),
            user: String::new(),
            password: Secret::new(String::new()),
            connections: NonZeroU32::MIN,
            messages_per_frame: NonZeroU32::MIN.saturating_add(99),
            message_bytes: 200,
            frames: None,
            rate: None,
            duration: None,
            drains: NonZeroU32::MIN,
            run: None,
            mix: Mix::default(),
            from: None,
            new_ids: false,
            tries: 3,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(5),
            idle_close: Duration::from_secs(144),
        }
    }
}

/// Shares of the kinds of messages, as weights: 1 and 3 are a quarter and three quarters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Output of `app web.1`.
    pub web: u32,
    /// Output of `app worker.1`.
    pub worker: u32,
    /// Lines of `heroku router`, in logfmt.
    pub router: u32,
    /// State changes of `heroku web.1`.
    pub state: u32,
}

impl Mix {
    /// Output of `app web.1` alone.
    pub const WEB: Self = Self { web: 1, worker: 0, router: 0, state: 0 };
}

impl Default for Mix {
    fn default() -> Self {
        Self { web: 60, worker: 15, router: 23, state: 2 }
    }
}

/// Why a [`LogplexConfig`] cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The rate is zero, negative or no number.
    #[error("the rate must be a positive number of messages a second")]
    Rate,
    /// The path would break the request line.
    #[error("the path must begin with `/` and hold neither spaces nor control characters")]
    Path,
    /// The host would break its header.
    #[error("the host must not hold spaces or control characters")]
    Host,
    /// Logplex cannot use such credentials: it splits them at every colon.
    #[error("user and password must not hold a colon")]
    Credentials,
    /// No kind of message has any weight, or the weights do not add up in 32 bits.
    #[error("the mix must give at least one kind of message a weight, and small ones")]
    Mix,
    /// A frame has to be tried.
    #[error("a frame needs at least one try")]
    Tries,
    /// TLS asks for a host by its name or address.
    #[error("the host is no name and no address, which TLS needs")]
    TlsName,
}

impl LogplexConfig {
    /// Says what is wrong with it.
    ///
    /// # Errors
    /// The first mistake.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let breaks = |text: &str| text.bytes().any(|b| b <= b' ' || b == 0x7f);
        if self.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
            return Err(ConfigError::Rate);
        }
        if !self.path.starts_with('/') || breaks(&self.path) {
            return Err(ConfigError::Path);
        }
        if self.host.as_deref().is_some_and(breaks) {
            return Err(ConfigError::Host);
        }
        if self.user.contains(':') || self.password.expose().contains(':') {
            return Err(ConfigError::Credentials);
        }
        let Mix { web, worker, router, state } = self.mix;
        let sum = [web, worker, router, state].into_iter().try_fold(0u32, u32::checked_add);
        if sum.is_none_or(|sum| sum == 0) {
            return Err(ConfigError::Mix);
        }
        if self.tries == 0 {
            return Err(ConfigError::Tries);
        }
        Ok(())
    }
}

/// The drain token of a simulated drain. The same in every run, so that a relay can be told
/// beforehand which app it is.
#[must_use]
pub fn drain_token(drain: u32) -> String {
    let bits = u128::from(scatter(u64::from(drain))) << 64 | u128::from(scatter(!u64::from(drain)));
    let uuid = uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid();
    format!("d.{}", uuid.hyphenated())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        type Change = fn(&mut LogplexConfig);
        let cases: [(Change, ConfigError); 8] = [
            (|c| c.rate = Some(f64::NAN), ConfigError::Rate),
            (|c| c.rate = Some(0.0), ConfigError::Rate),
            (|c| "logs".clone_into(&mut c.path), ConfigError::Path),
            (|c| "/logs\r\nX: y".clone_into(&mut c.path), ConfigError::Path),
            (|c| c.host = Some("a b".to_owned()), ConfigError::Host),
            (|c| c.password = Secret::new("a:b".to_owned()), ConfigError::Credentials),
            (|c| c.mix = Mix { web: 0, ..Mix::WEB }, ConfigError::Mix),
            (|c| c.tries = 0, ConfigError::Tries),
        ];
        assert_eq!(LogplexConfig::default().validate(), Ok(()));
        for (change, error) in cases {
            let mut config = LogplexConfig::default();
            change(&mut config);
            assert_eq!(config.validate(), Err(error));
        }
    }

    #[test]
    fn drain_tokens_are_stable_and_distinct() {
        let token = drain_token(0);
        assert!(token.starts_with("d.") && token.len() == 38, "{token}");
        assert_eq!(token, drain_token(0));
        assert_ne!(token, drain_token(1));
    }
}
