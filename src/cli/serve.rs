//! `forebay serve` and `forebay check`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use crate::admin::{Phase, Status, View};
use crate::app::{Exit, Relay, Reloader, manager};
use crate::config::{Config, ConfigErrors, Loaded};
use crate::telemetry::{self, Metrics};
use crate::wal::OnDamage;

use super::signals::{self, AtHangup, Hangup};
use super::{limits, output, runtime, runtime_at};

fn read(path: &Path) -> Result<Loaded, ConfigErrors> {
    Config::load(path, &|name| std::env::var(name).ok())
}

/// `warn` is told what is odd and no mistake.
fn load(path: &Path, warn: impl Fn(&str)) -> Result<Config, Exit> {
    match read(path) {
        Ok(Loaded { config, warnings }) => {
            for warning in warnings {
                warn(&warning);
            }
            Ok(config)
        }
        Err(errors) => {
            output::error(&format!("the configuration is wrong\n{errors}"));
            Err(Exit::Configuration)
        }
    }
}

/// Somebody reads what a check says, and no collector of log lines.
fn aloud(warning: &str) {
    output::error(&format!("warning: {warning}"));
}

pub(super) fn check(path: &Path) -> Exit {
    match load(path, aloud) {
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
    match load(path, aloud) {
        Ok(config) => runtime(|stop| async move {
            tokio::select! {
                exit = super::probe::run(config, json, wait) => exit,
                () = stop.cancelled() => Exit::No,
            }
        }),
        Err(exit) => exit,
    }
}

pub(super) fn serve(path: &Path, on_damage: OnDamage) -> Exit {
    let mut config = match load(path, |warning| tracing::warn!("{warning}")) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    telemetry::configured_filter(&config.log_level);
    config.wal.on_damage = on_damage;
    limits::raise_open_files(config.ingest.max_connections);
    let metrics = match Metrics::install() {
        Ok(metrics) => metrics,
        Err(error) => {
            output::error(&error.to_string());
            return Exit::Bug;
        }
    };
    let hangup = Hangup::default();
    runtime_at(AtHangup::Wake(Hangup::clone(&hangup)), |stop| {
        relay(path, config, metrics, stop, hangup)
    })
}

async fn relay(
    path: &Path,
    config: Config,
    metrics: Metrics,
    stop: CancellationToken,
    hangup: Hangup,
) -> Exit {
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
    manager::ready();
    let admin = relay.admin_listen().to_string();
    tracing::info!(ingest = %relay.ingest_addr(), admin, "forebay is ready");
    let view = relay.view();
    let mut phase = view.phase.clone();
    let stopping = async {
        if phase.wait_for(|phase| *phase == Phase::Stopping).await.is_ok() {
            manager::stopping();
        }
    };
    let reloads = reloads(path, relay.reloader(), hangup);
    let exit = tokio::select! {
        (exit, ()) = async { tokio::join!(relay.run(stop), stopping) } => exit,
        never = reloads => never,
        () = dump_state(&view, dumps) => Exit::Bug,
    };
    tracing::info!(code = exit.code(), "forebay has stopped");
    exit
}

/// Reads the configuration again whenever it is told to.
async fn reloads(path: &Path, reloader: Arc<Reloader>, hangup: Hangup) -> Exit {
    loop {
        hangup.notified().await;
        manager::reloading();
        let (path, reloader) = (path.to_owned(), Arc::clone(&reloader));
        // Files are read, and users' credentials hashed.
        let reload = tokio::task::spawn_blocking(move || reloader.reload(read(&path)));
        if let Err(error) = reload.await {
            tracing::error!(%error, "bug: reading the configuration again has panicked");
        }
        manager::ready();
    }
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
        let view = view.clone();
        // It reads checkpoints from the store, which may wait for the disk.
        let text = tokio::task::spawn_blocking(move || serde_json::to_string(&Status::of(&view)));
        match text.await {
            Ok(Ok(state)) => tracing::info!(state, "SIGUSR1: the state"),
            Ok(Err(error)) => tracing::error!(%error, "SIGUSR1: the state cannot be written"),
            Err(error) => tracing::error!(%error, "bug: the state cannot be made"),
        }
    }
}
