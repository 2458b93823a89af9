//! A Logplex, simulated: the HTTPS drain sender, over plain HTTP.
//!
//! It follows the last public source of Logplex where a receiver can tell the difference:
//!
//! - One frame is outstanding on a connection; a frame keeps its id and its own messages at every
//!   try. Three tries; a connection that cannot be opened costs none.
//! - 2xx: the next frame. A 4xx other than 429: the frame is thrown away at once, the connection
//!   stays. Any other status, a timeout or a broken connection: close, and try again at once.
//! - What was thrown away is reported by an L10 line in front of the following frames, without a
//!   trailing newline and counted in `Logplex-Msg-Count`, until a 2xx clears it.
//! - The HTTP client is primitive: no chunked bodies, the body of an answer is skipped on the next
//!   request's time, and a connection closed by the receiver is noticed by the next try.
//!
//! Where it differs: each connection always has a frame waiting (or makes one when the pace says
//! so), so that its buffer never overflows; and a connection may live for ever, not five hours.
//!
//! Instead of frames that it makes it can send those of a file, see [`LogplexConfig::from`].

mod config;
pub mod conformance;
mod connection;
mod file;
mod frame;
mod pace;
mod report;
mod texts;
mod wire;

use std::sync::Arc;

use base64::Engine as _;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::{ConfigError, LogplexConfig, Mix, drain_token};
pub use report::{Progress, Report, Snapshot};

use super::ledger::SenderLedger;
use crate::clock;
use crate::types::Secret;
use connection::{Connection, Shared};
use pace::Pace;
use report::Counters;

/// A simulated Logplex.
#[derive(Debug)]
pub struct LogplexSender {
    config: LogplexConfig,
    run: u32,
    progress: Progress,
}

impl LogplexSender {
    /// Checks the configuration. Frames are written into `ledger`.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn new(config: LogplexConfig, ledger: Arc<SenderLedger>) -> Result<Self, ConfigError> {
        config.validate()?;
        let run = config.run.unwrap_or_else(|| fastrand::u32(..));
        let counters = Arc::new(Counters::new(config.frames));
        Ok(Self { config, run, progress: Progress { counters, ledger } })
    }

    /// The number that makes this run's texts and frame ids unique.
    #[must_use]
    pub const fn run_number(&self) -> u32 {
        self.run
    }

    /// A handle to look at it while it runs.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Sends until the configured end, or until `shutdown`; either way the frames in flight are
    /// seen through: answered, or out of tries. Only a frame that cannot get a connection is
    /// left as it is.
    pub async fn run(self, shutdown: CancellationToken) -> Report {
        let Self { config, run, progress } = self;
        let stop = shutdown.child_token();
        let start = clock::instant();
        let connections = config.connections.get();
        let duration = config.duration;
        let rate = config.rate;
        let per_frame = config.messages_per_frame.get();
        let mut reading = JoinSet::new();
        let file = config.from.clone().map(|path| {
            // A frame for each connection, and one to go on with.
            let (sender, receiver) = mpsc::channel(connections as usize + 1);
            let new_ids = config.new_ids.then_some(run);
            reading.spawn_blocking(move || file::read(&path, new_ids, &sender));
            Mutex::new(receiver)
        });
        let shared = Arc::new(Shared {
            head: Secret::new(head(&config, "")),
            file,
            config,
            run,
            ledger: Arc::clone(&progress.ledger),
            counters: Arc::clone(&progress.counters),
            stop: stop.clone(),
        });
        let mut tasks = JoinSet::new();
        for number in 0..connections {
            let pace = rate.map(|rate| Pace::new(start, rate, per_frame, connections, number));
            tasks.spawn(Connection::new(Arc::clone(&shared), number, pace).run());
        }
        // With the last connection goes the receiver, and with that the reader of the file.
        drop(shared);
        let end = async {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    None => break,
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        tracing::error!(%error, "a connection of the simulated Logplex failed");
                    }
                },
                () = &mut end, if !stop.is_cancelled() => stop.cancel(),
            }
        }
        let file_error = match reading.join_next().await {
            None | Some(Ok(Ok(()))) => None,
            Some(Ok(Err(error))) => Some(error.to_string()),
            Some(Err(error)) => Some(error.to_string()),
        };
        Report {
            run,
            file_error,
            elapsed: start.elapsed(),
            end: progress.snapshot(),
            latency: progress.ledger.latency(),
            rate,
        }
    }
}

/// What every request begins with, in Logplex's order and case. A query takes the place of the
/// drain URL's.
fn head(config: &LogplexConfig, query: &str) -> String {
    let host = config.host.clone().unwrap_or_else(|| config.target.to_string());
    let path = match (query, config.path.split_once('?')) {
        ("", _) => config.path.clone(),
        (query, Some((path, _))) => format!("{path}?{query}"),
        (query, None) => format!("{}?{query}", config.path),
    };
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n");
    if !config.user.is_empty() {
        let credentials = format!("{}:{}", config.user, config.password.expose());
        let credentials = base64::engine::general_purpose::STANDARD.encode(credentials);
        head.push_str(&format!("Authorization: Basic {credentials}\r\n"));
    }
    head.push_str("Content-Type: application/logplex-1\r\n");
    head
}

#[cfg(test)]
mod tests;
