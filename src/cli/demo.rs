//! `forebay demo`: the whole way on loopback, in one process and a temporary directory.

use std::io::IsTerminal as _;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{Books, View};
use crate::app::{Exit, Relay};
use crate::config::Config;
use crate::simulate::hec::{AckMode, HecConfig, HecServer, HecToken};
use crate::simulate::ledger::{HecLedger, SenderLedger, audit};
use crate::simulate::logplex::{LogplexConfig, LogplexSender, drain_token};
use crate::telemetry::Metrics;
use crate::types::Secret;

use super::args::DemoArgs;
use super::output;

const USER: &str = "heroku";
const PASSWORD: &str = "demo";

/// How many messages a second flow when nobody says how many.
const RATE: f64 = 200.0;

/// How long the last messages may take to be acknowledged.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn demo(args: DemoArgs, stop: CancellationToken) -> Exit {
    match run(args, stop).await {
        Ok(exit) => exit,
        Err(problem) => {
            output::error(&problem);
            Exit::Bug
        }
    }
}

async fn run(args: DemoArgs, stop: CancellationToken) -> Result<Exit, String> {
    let directory = tempfile::Builder::new()
        .prefix("forebay-demo-")
        .tempdir()
        .map_err(|error| format!("no temporary directory: {error}"))?;
    let token = uuid::Uuid::new_v4().to_string();
    let (hec_ledger, sender_ledger) =
        (Arc::new(HecLedger::default()), Arc::new(SenderLedger::default()));
    let hec = HecServer::bind(
        HecConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            tokens: vec![HecToken { value: Secret::new(token.clone()), ..HecToken::default() }],
            ack: AckMode::After { min: Duration::from_millis(200), max: Duration::from_secs(1) },
            ..HecConfig::default()
        },
        Arc::clone(&hec_ledger),
    )
    .map_err(|error| format!("the simulated HEC cannot listen: {error}"))?;

    // The same way as for `serve`: a demo that went around the configuration would show less.
    let text = configuration(directory.path(), &hec.local_addr().to_string(), &token);
    let config = Config::parse(&text, "demo", &|_| None).map_err(|errors| errors.to_string())?;
    let metrics = Metrics::install().map_err(|error| error.to_string())?;
    let relay =
        Relay::open(config.config, Some(metrics)).await.map_err(|error| error.to_string())?;
    let (ingest, view) = (relay.ingest_addr(), relay.view());
    let admin = relay.admin_listen().to_string();
    introduce(&ingest.to_string(), &admin, &hec.local_addr().to_string());

    let sender = LogplexSender::new(
        LogplexConfig {
            target: ingest,
            user: USER.to_owned(),
            password: Secret::new(PASSWORD.to_owned()),
            connections: NonZeroU32::MIN.saturating_add(3),
            messages_per_frame: args.messages,
            frames: args.frames,
            rate: args.rate.or_else(|| args.frames.is_none().then_some(RATE)),
            ..LogplexConfig::default()
        },
        Arc::clone(&sender_ledger),
    )
    .map_err(|error| error.to_string())?;

    let (stop_relay, stop_hec) = (CancellationToken::new(), CancellationToken::new());
    let (mut hecs, mut relays) = (JoinSet::new(), JoinSet::new());
    hecs.spawn(hec.run(stop_hec.clone()));
    relays.spawn(relay.run(stop_relay.clone()));

    let lines = async {
        let mut before = (0, 0);
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            before = progress(&view, &sender_ledger, &hec_ledger, before);
        }
    };
    let work = async {
        sender.run(stop.clone()).await;
        tokio::time::timeout(PATIENCE, settled(&view)).await.is_ok()
    };
    let settled = tokio::select! {
        settled = work => settled,
        () = lines => false,
        ended = relays.join_next() => return Err(format!("the relay ended by itself: {ended:?}")),
    };
    let books = books(&view);
    stop_relay.cancel();
    let relay_exit = relays.join_next().await;
    stop_hec.cancel();
    hecs.join_next().await;

    let result = audit(&sender_ledger, &hec_ledger);
    output::line("");
    output::line(&result.to_string());
    // Frames sent by hand are in the log and not in the sender's ledger.
    let logged = view.wal.status().tail.messages;
    let by_hand = logged.saturating_sub(result.sent_messages);
    if by_hand > 0 {
        output::line(&format!("sent by hand: {by_hand}"));
    }
    let mut good = settled && result.lost == 0 && result.unacknowledged == 0 && result.complete;
    good &= result.unexpected <= by_hand;
    for (name, books) in books {
        output::line(&format!(
            "books of {name}: accepted {} = acknowledged {} + filtered {} + dead-lettered {} + skipped {} + dropped {} + pending {} (difference {})",
            books.accepted,
            books.acknowledged,
            books.filtered,
            books.dead_lettered,
            books.skipped,
            books.dropped,
            books.pending,
            books.difference,
        ));
        good &= books.difference == 0 && books.pending == 0;
    }
    good &= matches!(relay_exit, Some(Ok(Exit::Stopped)));
    output::line(if good {
        "The books balance: every message that was answered 200 is in Splunk and acknowledged."
    } else {
        "THE BOOKS DO NOT BALANCE."
    });
    Ok(if good { Exit::Stopped } else { Exit::No })
}

fn configuration(directory: &std::path::Path, hec: &str, token: &str) -> String {
    // TOML's literal strings take any path without a quote in it.
    format!(
        "data_dir = '{}'\n\
         [ingest]\nlisten = \"127.0.0.1:0\"\n\
         [[ingest.user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [wal]\nmin_free = \"256MiB\"\n\
         [[drain]]\ntoken = \"{}\"\napp = \"demo-shop\"\n\
         [[destination]]\nname = \"splunk\"\nendpoints = [\"http://{hec}\"]\ntoken = \"{token}\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n",
        directory.join("data").display(),
        drain_token(0),
    )
}

fn introduce(ingest: &str, admin: &str, hec: &str) {
    let body =
        "83 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - Hello from forebay, by hand";
    output::line(&format!(
        "forebay demo: a simulated Logplex sends frames to the relay on http://{ingest}/logs,\n\
         which delivers them to a simulated Splunk HEC on http://{hec}.\n\n\
         Send a frame by hand:\n\n  curl -i -u {USER}:{PASSWORD} -H 'Content-Type: application/logplex-1' \\\n    \
         -H 'Logplex-Msg-Count: 1' --data-binary '{body}' http://{ingest}/logs\n\n\
         Look at it: http://{admin}/v1/status and http://{admin}/metrics. Ctrl-C ends it.\n"
    ));
}

/// One line of what happens. Returns what the next one subtracts.
fn progress(view: &View, sender: &SenderLedger, hec: &HecLedger, before: (u64, u64)) -> (u64, u64) {
    let (sent, splunk) = (sender.totals(), hec.totals());
    let lag = view.sinks.iter().map(|sink| {
        let status = sink.status();
        status.delivery.pending(&status.tail)
    });
    let line = format!(
        "{:>8} messages/s in  {:>8} acknowledged/s | frames {} | messages accepted {} | in Splunk {} | acknowledged {} | behind {}",
        sent.accepted_messages - before.0,
        splunk.acknowledged - before.1,
        sent.accepted_frames,
        sent.accepted_messages,
        splunk.indexed,
        splunk.acknowledged,
        lag.sum::<u64>(),
    );
    // On a terminal a line a second is welcome; in a file the end is what matters.
    if std::io::stdout().is_terminal() || std::env::var_os("FOREBAY_DEMO_LINES").is_some() {
        output::line(&line);
    }
    (sent.accepted_messages, splunk.acknowledged)
}

/// Resolves when every destination has settled everything in the log.
async fn settled(view: &View) {
    let end = view.wal.status().tail.messages;
    for sink in &*view.sinks {
        sink.wait_for(|status| {
            let totals = status.delivery.totals.settled() + status.delivery.origin_messages;
            totals >= end
        })
        .await;
    }
}

fn books(view: &View) -> Vec<(String, Books)> {
    view.sinks.iter().map(|sink| (sink.name().to_string(), Books::of(&sink.status()))).collect()
}
