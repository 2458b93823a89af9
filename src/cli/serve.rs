//! `forebay serve` and `forebay check`.

use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use crate::admin::{Phase, Status, View};
use crate::app::{Exit, Relay};
use crate::config::{Config, Loaded};
use crate::telemetry::Metrics;

use super::{limits, output, runtime, signals, watchdog};

fn load(path: &Path) -> Result<Config, Exit> {
    match Config::load(path, &|name| std::env::var(name).ok()) {
        Ok(Loaded { config, warnings }) => {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            Ok(config)
        }
        Err(errors) => {
            output::error(&format!("the configuration is wrong\n{errors}"));
            Err(Exit::Configuration)
        }
    }
}

pub(super) fn check(path: &Path) -> Exit {
    match load(path) {
        Ok(config) => {
            let names: Vec<_> =
                config.destinations.iter().map(|sink| sink.name.to_string()).collect();
            output::line(&format!(
                "{}: good: ingest on {}, destinations: {}",
                path.display(),
                config.ingest.listen,
                names.join(", ")
            ));
            Exit::Stopped
        }
        Err(exit) => exit,
    }
}

/// Checks the configuration, then asks the collectors.
pub(super) fn probe(path: &Path, json: bool, wait: Duration) -> Exit {
    match load(path) {
        Ok(config) => runtime(|stop| async move {
            tokio::select! {
                exit = super::probe::run(config, json, wait) => exit,
                () = stop.cancelled() => Exit::No,
            }
        }),
        Err(exit) => exit,
    }
}

pub(super) fn serve(path: &Path) -> Exit {
    let config = match load(path) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    limits::raise_open_files(config.ingest.max_connections);
    let metrics = match Metrics::install() {
        Ok(metrics) => metrics,
        Err(error) => {
            output::error(&error.to_string());
            return Exit::Bug;
        }
    };
    runtime(|stop| relay(config, metrics, stop))
}

async fn relay(config: Config, metrics: Metrics, stop: CancellationToken) -> Exit {
    // Before anything else: a signal that nobody catches ends the process.
    let dumps = signals::dumps();
    let relay = match Relay::open(config, Some(metrics)).await {
        Ok(relay) => relay,
        Err(error) => {
            tracing::error!(%error, "forebay does not start");
            return error.exit();
        }
    };
    // Given to whoever supervises, and only now: recovery is done, the listeners are bound.
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "the service manager cannot be told that forebay is ready");
    }
    let admin = relay.admin_listen().to_string();
    tracing::info!(ingest = %relay.ingest_addr(), admin, "forebay is ready");
    let view = relay.view();
    let mut phase = view.phase.clone();
    let stopping = async {
        if phase.wait_for(|phase| *phase == Phase::Stopping).await.is_ok() {
            sd_notify::notify(&[sd_notify::NotifyState::Stopping]).ok();
        }
    };
    let running = async { tokio::join!(relay.run(stop), stopping).0 };
    let exit = tokio::select! {
        exit = running => exit,
        () = dump_state(&view, dumps) => Exit::Bug,
        () = watchdog::feed(&view) => Exit::Bug,
    };
    tracing::info!(code = exit.code(), "forebay has stopped");
    exit
}

/// SIGUSR1: everything that `forebay status` would show, into the log, for when admin cannot be
/// reached. Ends never.
async fn dump_state(view: &View, mut signals: Option<Signal>) {
    loop {
        match &mut signals {
            // A stream of signals has no end.
            Some(signals) => drop(signals.recv().await),
            None => std::future::pending().await,
        }
        let status = Status::of(view);
        match serde_json::to_string(&status) {
            Ok(state) => tracing::info!(state, "SIGUSR1: the state"),
            Err(error) => tracing::error!(%error, "SIGUSR1: the state cannot be written"),
        }
    }
}
