//! `forebay simulate hec` and `forebay simulate logplex`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::Exit;
use crate::simulate::hec::{AckMode, Fault, HecConfig, HecServer, HecToken};
use crate::simulate::ledger::{HecLedger, LedgerError, SenderLedger};
use crate::simulate::logplex::{LogplexConfig, LogplexSender};
use crate::types::Secret;

use super::args::{HecArgs, LogplexArgs};
use super::output;

const EVERY: Duration = Duration::from_secs(1);

pub(super) async fn hec(args: HecArgs, stop: CancellationToken) -> Exit {
    let ack = if args.ack_never {
        AckMode::Never
    } else {
        AckMode::After { min: args.ack_min, max: args.ack_max.max(args.ack_min) }
    };
    let token = HecToken {
        value: Secret::new(args.token),
        use_ack: !args.no_ack,
        indexes: args.index,
        ..HecToken::default()
    };
    let config =
        HecConfig { listen: args.listen, tokens: vec![token], ack, ..HecConfig::default() };
    let ledger = Arc::new(HecLedger::default());
    let server = match HecServer::bind(config, Arc::clone(&ledger)) {
        Ok(server) => server,
        Err(error) => {
            output::error(&format!("cannot listen on {}: {error}", args.listen));
            return Exit::Configuration;
        }
    };
    let handle = server.handle();
    handle.set_fault(args.fault.map(|kind| Fault::sometimes(kind, args.fault_share, 1)));
    output::line(&format!("a simulated Splunk HEC listens on http://{}", server.local_addr()));
    let rates = async {
        let mut before = 0;
        loop {
            tokio::time::sleep(EVERY).await;
            let (totals, stats) = (ledger.totals(), handle.stats());
            if !args.quiet && totals.accepted != before {
                output::line(&format!(
                    "{:>9} events/s | accepted {} indexed {} acknowledged {} | channels {} polls {} | answers {:?}",
                    totals.accepted - before,
                    totals.accepted,
                    totals.indexed,
                    totals.acknowledged,
                    stats.channels,
                    stats.polls,
                    stats.answers,
                ));
            }
            before = totals.accepted;
        }
    };
    tokio::select! {
        () = server.run(stop) => {}
        () = rates => {}
    }
    let totals = ledger.totals();
    output::line(&format!(
        "accepted {} events, indexed {}, acknowledged {}",
        totals.accepted, totals.indexed, totals.acknowledged
    ));
    save(args.ledger.as_deref(), |path| ledger.write_to(path))
}

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

/// A drain URL, taken apart.
pub(super) struct Drain {
    target: SocketAddr,
    host: String,
    path: String,
    user: String,
    password: Secret,
}

impl Drain {
    /// The messages never repeat the URL: it may hold a password.
    fn parse(text: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(text).map_err(|error| {
            format!("the drain is no URL: {error}; write http://user:password@host:port/logs")
        })?;
        if url.scheme() != "http" {
            return Err("the simulated Logplex speaks plain http only".to_owned());
        }
        let name = url.host_str().ok_or("the drain URL has no host")?;
        let port = url.port().unwrap_or(80);
        let host = format!("{name}:{port}");
        let target = host
            .to_socket_addrs()
            .ok()
            .and_then(|mut all| all.next())
            .ok_or_else(|| format!("{host} has no address"))?;
        let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
        Ok(Self {
            target,
            host,
            path: format!("{}{query}", url.path()),
            user: url.username().to_owned(),
            password: Secret::new(url.password().unwrap_or_default().to_owned()),
        })
    }
}

fn save(path: Option<&Path>, write: impl FnOnce(&Path) -> Result<(), LedgerError>) -> Exit {
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
