//! What the other processes of a measurement do: this program, started again.

use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use forebay::simulate::hec::{AckMode, Fault, FaultKind, HecConfig, HecServer, HecToken};
use forebay::simulate::ledger::{HecLedger, SenderLedger};
use forebay::simulate::logplex::{LogplexConfig, LogplexSender};
use forebay::types::Secret;
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use super::options::{HecRole, LogplexRole};

pub(super) const USER: &str = "bench";
pub(super) const PASSWORD: &str = "bench";
pub(super) const TOKEN: &str = "00000000-0000-0000-0000-000000000000";

/// What the HEC has so far. Events, each copy counted.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Taken {
    pub(super) indexed: u64,
    pub(super) acknowledged: u64,
}

/// What the Logplex did. Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Sent {
    pub(super) seconds: f64,
    pub(super) messages: u64,
    pub(super) not_accepted: u64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
    pub(super) kept_up: bool,
}

/// A HEC that indexes at once, unless it is told to take its time. It obeys lines: `?` prints what
/// it has, `hold` makes it busy, `hang` and `refuse` make it do that, `go` makes it work again; the
/// end of its input is its own.
pub(super) fn hec(role: &HecRole) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // No room for single messages: the totals are enough, and a soak has many.
    let ledger = Arc::new(HecLedger::new(0, 0));
    let ack_after = Duration::from_millis(role.ack_after);
    let config = HecConfig {
        listen: role.listen,
        tokens: vec![HecToken { value: Secret::new(TOKEN.to_owned()), ..HecToken::default() }],
        ack: AckMode::After { min: ack_after, max: ack_after },
        ..HecConfig::default()
    };
    let server = {
        let _inside = runtime.enter();
        HecServer::bind(config, Arc::clone(&ledger)).expect("the HEC's port is free")
    };
    let handle = server.handle();
    let stop = CancellationToken::new();
    let serving = runtime.spawn(server.run(stop.clone()));
    say(&"listening");
    for line in stdin().lock().lines().map_while(Result::ok) {
        match line.as_str() {
            "?" => {
                let totals = ledger.totals();
                say(&Taken { indexed: totals.indexed, acknowledged: totals.acknowledged });
            }
            "hold" => handle.set_fault(Some(Fault::always(FaultKind::Busy))),
            "hang" => handle.set_fault(Some(Fault::always(FaultKind::Hang))),
            "refuse" => handle.set_fault(Some(Fault::always(FaultKind::InvalidToken))),
            "go" => handle.set_fault(None),
            other => panic!("{other:?} is no command"),
        }
    }
    stop.cancel();
    runtime.block_on(serving).unwrap();
}

/// A Logplex that sends as it is told, and prints what became of it.
pub(super) fn logplex(role: &LogplexRole) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = LogplexConfig {
        target: role.target,
        path: role.path.clone(),
        user: USER.to_owned(),
        password: Secret::new(PASSWORD.to_owned()),
        connections: NonZeroU32::new(role.connections).unwrap(),
        messages_per_frame: NonZeroU32::new(role.messages).unwrap(),
        drains: NonZeroU32::new(role.drains).unwrap(),
        duration: role.seconds.map(Duration::from_secs_f64),
        rate: role.rate,
        ..LogplexConfig::default()
    };
    let sender = LogplexSender::new(config, Arc::new(SenderLedger::new(0))).unwrap();
    let stop = CancellationToken::new();
    let sending = runtime.spawn(sender.run(stop.clone()));
    if role.seconds.is_none() {
        stdin().lock().lines().map_while(Result::ok).for_each(drop);
        stop.cancel();
    }
    let report = runtime.block_on(sending).unwrap();
    let ms = |share| report.latency.quantile(share).as_secs_f64() * 1e3;
    say(&Sent {
        seconds: report.elapsed.as_secs_f64(),
        messages: report.end.totals.accepted_messages,
        not_accepted: report.end.totals.messages - report.end.totals.accepted_messages,
        p50: ms(0.5),
        p99: ms(0.99),
        p999: ms(0.999),
        max: report.latency.max().as_secs_f64() * 1e3,
        kept_up: report.kept_up(),
    });
}

fn say(what: &impl Serialize) {
    println!("{}", serde_json::to_string(what).unwrap());
    stdout().flush().unwrap();
}
