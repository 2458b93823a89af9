//! `forebay serve` and `forebay check`.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::admin::Phase;
use crate::app::{Exit, Relay};
use crate::config::{Config, Loaded};
use crate::telemetry::Metrics;

use super::{limits, output, runtime};

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
    let admin = relay.admin_addr().map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(ingest = %relay.ingest_addr(), admin, "forebay is ready");
    let mut phase = relay.view().phase;
    let stopping = async {
        if phase.wait_for(|phase| *phase == Phase::Stopping).await.is_ok() {
            sd_notify::notify(&[sd_notify::NotifyState::Stopping]).ok();
        }
    };
    let (exit, ()) = tokio::join!(relay.run(stop), stopping);
    tracing::info!(code = exit.code(), "forebay has stopped");
    exit
}
