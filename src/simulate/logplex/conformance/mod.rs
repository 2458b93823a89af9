//! What a receiver of drains must stand, tried one by one against any receiver.
//!
//! Each check is a request, or a few, as one of Heroku's senders makes them or as the network
//! between may leave them, and a judgement of the answer by what that sender would do next. A row
//! that fails says what would be lost. The receiver is seen from outside only: that a frame which
//! was answered 200 is durable, or stored once, no answer can show.
//!
//! Sources: logplex_http_drain.erl, cowboy_client.erl and logplex_syslog_utils.erl of Logplex,
//! logplex_formatter.go and http_outlet.go of log-shuttle.

mod answers;
mod bodies;
mod connections;
mod line;
mod request;
mod senders;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::LogplexConfig;
use super::stream::Tls;
use crate::types::Secret;
use line::Reply;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The sender loses nothing.
    Pass,
    /// The sender loses what the row says.
    Fail,
    /// It could not be tried.
    Skipped,
}

impl Outcome {
    /// As the table has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Skipped => "skipped",
        }
    }
}

/// One check and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What it is about: `framing`, `headers`, `shuttle`, `answers`, …
    pub group: &'static str,
    /// What was done, in a few words; with the group, the name of the check.
    pub check: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen.
    pub found: String,
    /// What a real sender loses when this fails.
    pub cost: &'static str,
}

/// What a check has seen: `Err` when it is not as it should be.
type Found = Result<String, String>;

/// What a 4xx costs.
const FRAME: &str = "the frame: a 4xx drops it at once, anything else after three tries";
/// What a broken connection or a late answer costs.
const TRY: &str = "one of three tries, and the frame when that happens three times";

/// How long Logplex waits for an answer (logplex.app.src, `http_send_timeout`).
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs every check. Of `config` the target, host, TLS, path and credentials count. `idle` is how long
/// a connection is left alone between two frames; a real Logplex keeps it for up to 159 s.
///
/// # Errors
/// When nobody listens, or nobody who speaks TLS where it should be spoken.
pub async fn conformance(config: &LogplexConfig, idle: Duration) -> Result<Vec<Row>, String> {
    let peer = Peer {
        target: config.target,
        tls: super::tls(config, rustls::ALL_VERSIONS).map_err(|error| error.to_string())?,
        host: config.host.clone().unwrap_or_else(|| config.target.to_string()),
        path: config.path.clone(),
        user: config.user.clone(),
        password: config.password.clone(),
        run: config.run.unwrap_or_else(|| fastrand::u32(..)),
        number: AtomicU64::new(0),
        replies: Mutex::default(),
    };
    line::Line::open(&peer).await.map_err(|error| format!("{}: {error}", peer.host))?;
    // The idle connection waits beside everything else.
    let (idle, mut rows) = tokio::join!(connections::idle(&peer, idle), async {
        let mut rows = bodies::checks(&peer).await;
        rows.extend(senders::checks(&peer).await);
        rows.extend(connections::checks(&peer).await);
        rows.extend(answers::refusals(&peer).await);
        rows.extend(connections::versions(&peer).await);
        rows
    });
    rows.push(idle);
    // Last: they look at all the answers that there were.
    rows.extend(answers::form(&peer));
    Ok(rows)
}

/// The receiver, and what it has answered so far.
struct Peer {
    target: SocketAddr,
    tls: Option<Tls>,
    host: String,
    path: String,
    user: String,
    password: Secret,
    run: u32,
    number: AtomicU64,
    replies: Mutex<Vec<Reply>>,
}

impl Peer {
    /// A frame id, or a batch id, that was not used before.
    fn id(&self) -> String {
        let number = self.number.fetch_add(1, Relaxed);
        format!("C04F{:08X}{number:020X}", self.run)
    }

    /// Keeps an answer for the checks of their form.
    fn seen(&self, reply: &Reply) {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).push(reply.clone());
    }

    fn replies(&self) -> Vec<Reply> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A row of what was found.
fn row(group: &'static str, check: &'static str, cost: &'static str, found: Found) -> Row {
    let (outcome, found) = match found {
        Ok(found) => (Outcome::Pass, found),
        Err(found) => (Outcome::Fail, found),
    };
    Row { group, check, outcome, found, cost }
}

/// A row of what could not be tried.
fn skipped(group: &'static str, check: &'static str, why: &str) -> Row {
    Row { group, check, outcome: Outcome::Skipped, found: why.to_owned(), cost: "" }
}
