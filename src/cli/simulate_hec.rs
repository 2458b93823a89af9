//! `forebay simulate hec`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::Exit;
use crate::config::parse_duration;
use crate::simulate::hec::{
    AckMode, Balancer, Fault, HecConfig, HecHandle, HecServer, HecTls, HecToken, Script,
};
use crate::simulate::ledger::HecLedger;
use crate::types::Secret;

use super::args::{BalancerArg, FaultArg, HecArgs};
use super::output;
use super::simulate::save;

const EVERY: Duration = Duration::from_secs(1);

pub(super) async fn hec(args: HecArgs, stop: CancellationToken) -> Exit {
    let ledger = Arc::new(HecLedger::default());
    let servers = match bind(&args, &ledger) {
        Ok(servers) => servers,
        Err((exit, problem)) => {
            output::error(&problem);
            return exit;
        }
    };
    let scheme = if args.tls_certificate.is_some() { "https" } else { "http" };
    let handles: Vec<_> = servers.iter().map(HecServer::handle).collect();
    for handle in &handles {
        let address = handle.local_addr();
        output::line(&format!("a simulated Splunk HEC listens on {scheme}://{address}"));
    }
    let mut running = JoinSet::new();
    for server in servers {
        running.spawn(server.run(stop.clone()));
    }
    let ended = async { while running.join_next().await.is_some() {} };
    tokio::select! {
        () = ended => {}
        () = rates(&handles, &ledger, args.quiet) => {}
    }
    let totals = ledger.totals();
    output::line(&format!(
        "accepted {} events, indexed {}, acknowledged {}",
        totals.accepted, totals.indexed, totals.acknowledged
    ));
    save(args.ledger.as_deref(), |path| ledger.write_to(path))
}

async fn rates(handles: &[HecHandle], ledger: &HecLedger, quiet: bool) {
    let mut before = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        let totals = ledger.totals();
        if !quiet && totals.accepted != before {
            let (mut channels, mut polls) = (0, 0);
            let (mut answers, mut faults) = (BTreeMap::new(), BTreeMap::new());
            for stats in handles.iter().map(HecHandle::stats) {
                channels += stats.channels;
                polls += stats.polls;
                for (status, count) in stats.answers {
                    *answers.entry(status).or_insert(0) += count;
                }
                for (kind, count) in stats.faults {
                    *faults.entry(kind.as_str()).or_insert(0) += count;
                }
            }
            output::line(&format!(
                "{:>9} events/s | accepted {} indexed {} acknowledged {} | channels {channels} polls {polls} | answers {answers:?} | faults {faults:?}",
                totals.accepted - before,
                totals.accepted,
                totals.indexed,
                totals.acknowledged,
            ));
        }
        before = totals.accepted;
    }
}

/// Every server that the arguments ask for: one, or without a balancer one for each indexer.
fn bind(args: &HecArgs, ledger: &Arc<HecLedger>) -> Result<Vec<HecServer>, (Exit, String)> {
    let usage = |problem: String| (Exit::Usage, problem);
    let script = match &args.script {
        None => Script::default(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                Script::parse(&text, parse_duration).map_err(|error| error.to_string())
            })
            .map_err(|problem| usage(format!("the script {}: {problem}", path.display())))?,
    };
    let wrong = |fault: &&FaultArg| fault.indexer.is_some_and(|number| number > args.indexers);
    if let Some(fault) = args.fault.iter().find(wrong) {
        let name = fault.kind.as_str();
        return Err(usage(format!("the fault {name} is for an indexer that is not there")));
    }
    let config = config(args).map_err(usage)?;
    let apart = args.balancer == BalancerArg::None;
    let servers = if apart { args.indexers.get() } else { 1 };
    let mut bound = Vec::with_capacity(servers);
    for number in 0..servers {
        let mut config = HecConfig { seed: config.seed ^ number as u64, ..config.clone() };
        let offset = u16::try_from(number).unwrap_or(u16::MAX);
        if config.listen.port() != 0 {
            config.listen.set_port(config.listen.port().saturating_add(offset));
        }
        let listen = config.listen;
        let server = HecServer::bind(config, Arc::clone(ledger)).map_err(|error| {
            (Exit::Configuration, format!("cannot listen on {listen}: {error}"))
        })?;
        let handle = server.handle();
        handle.set_script(&script);
        let indexers = if apart { number..number + 1 } else { 0..args.indexers.get() };
        for (place, indexer) in indexers.enumerate() {
            handle.set_indexer_faults(place, &faults(args, indexer));
        }
        bound.push(server);
    }
    Ok(bound)
}

/// The faults of one indexer, each with a seed of its own.
fn faults(args: &HecArgs, indexer: usize) -> Vec<Fault> {
    let own = |fault: &&FaultArg| fault.indexer.is_none_or(|n| n.get() == indexer + 1);
    let seeded = (1u64..).zip(args.fault.iter().filter(own));
    seeded
        .map(|(number, fault)| {
            let share = fault.share.unwrap_or(args.fault_share);
            let seed = args.seed.wrapping_mul(1_000_003) ^ number << 16 ^ indexer as u64;
            Fault::sometimes(fault.kind, share, seed)
        })
        .collect()
}

fn config(args: &HecArgs) -> Result<HecConfig, String> {
    let ack = if args.ack_never {
        AckMode::Never
    } else {
        AckMode::After { min: args.ack_min, max: args.ack_max.max(args.ack_min) }
    };
    let token = HecToken {
        value: Secret::new(args.token.clone()),
        use_ack: !args.no_ack,
        indexes: args.index.clone(),
        ..HecToken::default()
    };
    let tls = match (&args.tls_certificate, &args.tls_key) {
        (Some(chain), Some(key)) => {
            let tls = HecTls::from_files(chain, key, args.tls_client_ca.as_deref());
            Some(tls.map_err(|error| format!("no TLS: {error}"))?)
        }
        _ => None,
    };
    let (indexers, balancer) = match args.balancer {
        BalancerArg::None => (NonZeroUsize::MIN, Balancer::None),
        BalancerArg::RoundRobin => (args.indexers, Balancer::RoundRobin),
        BalancerArg::Cookie => (args.indexers, Balancer::Cookie { lifetime: args.cookie_lifetime }),
        BalancerArg::Connection => (args.indexers, Balancer::Connection),
    };
    Ok(HecConfig {
        listen: args.listen,
        tokens: vec![token],
        ack,
        seed: args.seed,
        max_content_length: args.max_content_length.as_usize(),
        indexers,
        balancer,
        channel_idle: args.channel_idle,
        keep_alive: args.keep_alive,
        slow: args.slow,
        retry_after: args.retry_after.clone(),
        poison: args.poison.clone(),
        tls,
        ..HecConfig::default()
    })
}
