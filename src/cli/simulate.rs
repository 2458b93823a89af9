//! `forebay simulate logplex`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::Exit;
use crate::simulate::ledger::{LedgerError, SenderLedger};
use crate::simulate::logplex::conformance::{Outcome, conformance};
use crate::simulate::logplex::{LogplexConfig, LogplexSender};
use crate::types::Secret;

use super::args::LogplexArgs;
use super::output;

const EVERY: Duration = Duration::from_secs(1);

pub(super) async fn logplex(args: LogplexArgs, stop: CancellationToken) -> Exit {
    let drain = match Drain::parse(&args.drain) {
        Ok(drain) => drain,
        Err(problem) => {
            output::error(&problem);
            return Exit::Usage;
        }
    };
    let config = LogplexConfig {
        target: drain.target,
        tls: drain.tls,
        host: Some(drain.host),
        path: drain.path,
        user: drain.user,
        password: drain.password,
        connections: args.connections,
        messages_per_frame: args.messages,
        message_bytes: args.bytes,
        frames: args.frames,
        duration: args.duration,
        rate: args.rate,
        drains: args.drains,
        from: args.from,
        new_ids: args.new_ids,
        ..LogplexConfig::default()
    };
    if args.conformance {
        return conform(&config, args.idle, args.json, stop).await;
    }
    let ledger = Arc::new(SenderLedger::default());
    let sender = match LogplexSender::new(config, Arc::clone(&ledger)) {
        Ok(sender) => sender,
        Err(error) => {
            output::error(&error.to_string());
            return Exit::Usage;
        }
    };
    let progress = sender.progress();
    let rates = async {
        let mut before = 0;
        loop {
            tokio::time::sleep(EVERY).await;
            let now = progress.snapshot();
            if !args.quiet {
                output::line(&format!(
                    "{:>9} messages/s accepted | frames {} accepted {} dropped {} retries {} in flight {} | connections {} connect failures {}",
                    now.totals.accepted_messages - before,
                    now.totals.frames,
                    now.totals.accepted_frames,
                    now.totals.dropped_frames + now.totals.gave_up_frames,
                    now.totals.retries,
                    now.totals.in_flight(),
                    now.connections,
                    now.connect_failures,
                ));
            }
            before = now.totals.accepted_messages;
        }
    };
    let report = tokio::select! {
        report = sender.run(stop) => report,
        () = rates => return Exit::Bug,
    };
    output::line(&report.to_string());
    let saved = save(args.ledger.as_deref(), |path| ledger.write_to(path));
    match report.file_error {
        Some(error) => {
            output::error(&error);
            Exit::Storage
        }
        None => saved,
    }
}

/// Tries every behaviour of a sender. 0 when none would lose anything, 1 when one would.
async fn conform(
    config: &LogplexConfig,
    idle: Duration,
    json: bool,
    stop: CancellationToken,
) -> Exit {
    if let Err(error) = config.validate() {
        output::error(&error.to_string());
        return Exit::Usage;
    }
    let host = config.host.clone().unwrap_or_default();
    let rows = tokio::select! {
        rows = conformance(config, idle) => rows,
        () = stop.cancelled() => return Exit::Stopped,
    };
    let rows = match rows {
        Ok(rows) => rows,
        Err(problem) => {
            output::error(&problem);
            return Exit::No;
        }
    };
    let of = |outcome| rows.iter().filter(|row| row.outcome == outcome).count();
    let [passed, failed, skipped] = [Outcome::Pass, Outcome::Fail, Outcome::Skipped].map(of);
    if json {
        let text = serde_json::json!({ "host": host, "good": failed == 0, "rows": rows });
        output::line(&text.to_string());
    } else {
        output::line(&format!("conformance of {host}"));
        for row in &rows {
            let (outcome, group, check) = (row.outcome.as_str(), row.group, row.check);
            output::line(&format!("{outcome:<8} {group:<11} {check:<45} {}", row.found));
            if row.outcome == Outcome::Fail {
                output::line(&format!("{:<20} a sender loses {}", "", row.cost));
            }
        }
        output::line(&format!("{passed} passed, {failed} failed, {skipped} skipped"));
    }
    if failed == 0 { Exit::Stopped } else { Exit::No }
}

/// A drain URL, taken apart.
pub(super) struct Drain {
    target: SocketAddr,
    tls: bool,
    host: String,
    path: String,
    user: String,
    password: Secret,
}

impl Drain {
    /// The messages never repeat the URL: it may hold a password.
    fn parse(text: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(text).map_err(|error| {
            format!("the drain is no URL: {error}; write https://user:password@host:port/logs")
        })?;
        let (tls, usual) = match url.scheme() {
            "https" => (true, 443),
            "http" => (false, 80),
            _ => return Err("the simulated Logplex speaks https and http".to_owned()),
        };
        let name = url.host_str().ok_or("the drain URL has no host")?;
        let port = url.port().unwrap_or(usual);
        let host = format!("{name}:{port}");
        let target = host
            .to_socket_addrs()
            .ok()
            .and_then(|mut all| all.next())
            .ok_or_else(|| format!("{host} has no address"))?;
        let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
        Ok(Self {
            target,
            tls,
            host,
            path: format!("{}{query}", url.path()),
            user: url.username().to_owned(),
            password: Secret::new(url.password().unwrap_or_default().to_owned()),
        })
    }
}

/// Writes a ledger, if somebody asked for it.
pub(super) fn save(
    path: Option<&Path>,
    write: impl FnOnce(&Path) -> Result<(), LedgerError>,
) -> Exit {
    let Some(path) = path else { return Exit::Stopped };
    match write(path) {
        Ok(()) => {
            output::line(&format!("the ledger is in {}", path.display()));
            Exit::Stopped
        }
        Err(error) => {
            output::error(&format!("the ledger cannot be written: {error}"));
            Exit::Storage
        }
    }
}
