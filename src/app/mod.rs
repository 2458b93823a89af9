//! The relay: built in one order, stopped in another.
//!
//! Building: the log first (it recovers, or refuses), then the destinations (each saves its first
//! checkpoint before a segment could be dropped), then the listeners. Whatever fails, fails before
//! a frame is accepted.
//!
//! Stopping, each step under its own deadline:
//!
//! 1. Readiness off.
//! 2. Ingest stops accepting and finishes the requests in flight. At the same time the
//!    destinations read nothing more and wait for what they have sent.
//! 3. The log is closed: the appender writes what it holds and ends.
//! 4. Admin last, so that the stop can be watched.
//!
//! Cutting step 2 short costs duplicates, never a message. A second signal ends the process at
//! once, which is safe because a crash is safe. A log that fails, at whatever step, ends it with 74
//! (I1): nothing that happens besides makes a smaller number of that.

mod exit;
pub mod manager;
mod reload;
mod stop;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Listen, Phase, SAMPLE_EVERY, View};
use crate::config::Config;
use crate::hec::mapping::DrainSettings;
use crate::ingest::Ingest;
use crate::sink::{Sink, SinkError, SinkHandle};
use crate::telemetry::{self, Metrics, UPKEEP_EVERY};
use crate::wal::{Durability, OpenError, Storage, Wal};

pub use exit::Exit;
pub use reload::{Hook, Reloader};
use stop::{Part, closed, ended_early, finish};

/// How long destinations may wait for what is in flight.
const DELIVERY_GRACE: Duration = Duration::from_secs(5);

/// How long ingest may take beyond its own ack deadline.
const INGEST_GRACE: Duration = Duration::from_secs(1);

/// How often segments are looked at, and how often when space is short.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
const SWEEP_EVERY_WHEN_SHORT: Duration = Duration::from_secs(1);

/// How often orphaned cursors are told of again.
const WARN_EVERY: Duration = Duration::from_hours(1);

/// Why the relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log.
    #[error("the log cannot be opened: {0}")]
    Log(#[from] OpenError),
    /// A destination.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A listener.
    #[error("{what} cannot listen on {address}: {source}")]
    Listen {
        /// `ingest` or `admin`.
        what: &'static str,
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// It does not end: a disk or RocksDB that hangs.
    #[error("the log has not opened within an hour")]
    Endless,
    /// A thread of the start died.
    #[error("bug: the start panicked: {0}")]
    Panic(#[from] JoinError),
}

impl StartError {
    /// The exit code that says it.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Log(_) | Self::Endless => Exit::Storage,
            Self::Sink(SinkError::Mapping { .. } | SinkError::Client { .. })
            | Self::Listen { .. } => Exit::Configuration,
            Self::Sink(_) => Exit::Storage,
            Self::Panic(_) => Exit::Bug,
        }
    }
}

/// A relay that is ready to run.
#[derive(Debug)]
pub struct Relay {
    wal: Wal,
    ingest: Ingest,
    ack_deadline: Duration,
    sinks: Vec<Sink>,
    admin: Admin,
    view: View,
    phase: watch::Sender<Phase>,
    reloader: Arc<Reloader>,
}

impl Relay {
    /// Builds the relay.
    ///
    /// # Errors
    /// When a part cannot be had; nothing has been accepted then.
    pub async fn open(config: Config, metrics: Option<Metrics>) -> Result<Self, StartError> {
        let wal_config = config.wal;
        let opening = tokio::task::spawn_blocking(|| Wal::open(wal_config));
        let (wal, report) = tokio::select! {
            opened = opening => opened??,
            () = manager::extend_start() => return Err(StartError::Endless),
        };
        tracing::info!(
            created = report.created,
            first = report.first.get(),
            end = report.end.get(),
            segments = report.segments,
            recounted = report.recounted,
            frame_ids = report.frame_ids,
            torn = report.torn.len(),
            given_up = report.given_up.len(),
            durability = %wal.status().durability,
            took_ms = report.took.as_millis(),
            "the log is open"
        );
        warn_of_weakness(&wal);
        wal.configured(config.destinations.iter().map(|destination| destination.name.clone()));
        warn_of_orphans(&wal);
        let mut sinks = Vec::with_capacity(config.destinations.len());
        for destination in config.destinations {
            sinks.push(Sink::open(destination, wal.clone()).await?);
        }
        let handles: Arc<[SinkHandle]> = sinks.iter().map(Sink::handle).collect();
        let listen = |what, address: String| {
            move |source: io::Error| StartError::Listen { what, address, source }
        };
        let (ack_deadline, address) = (config.ingest.ack_deadline, config.ingest.listen);
        let ingest = Ingest::bind(config.ingest, wal.clone())
            .map_err(listen("ingest", address.to_string()))?;
        let mut reloader = Reloader::new(config.fixed);
        reloader.listens(ingest.local_addr(), config.exposure);
        // Before ingest: a drain that it takes from now on has to be known to the filters.
        let destinations = Arc::clone(&handles);
        reloader.hook(move |config| settings_of_destinations(config, &destinations));
        let handle = ingest.handle();
        reloader.hook(move |config| handle.reload(config.ingest.live.clone()));
        reloader.hook(|config| {
            telemetry::configured_filter(&config.log_level);
        });
        let tokens = Arc::clone(&handles);
        reloader.hook(move |_| tokens_of_collectors(&tokens));
        let (phase, phase_seen) = watch::channel(Phase::Ready);
        let view = View {
            wal: wal.clone(),
            ingest: ingest.handle(),
            sinks: handles,
            phase: phase_seen,
            reload: reloader.status(),
            metrics,
            history: Arc::default(),
        };
        let admin = Admin::bind(&config.admin, view.clone())
            .await
            .map_err(listen("admin", config.admin.listen.to_string()))?;
        let drains = admin.drains();
        reloader.hook(move |config| drains.set(&config.admin));
        let reloader = Arc::new(reloader);
        Ok(Self { wal, ingest, ack_deadline, sinks, admin, view, phase, reloader })
    }

    /// Takes new settings while the relay runs.
    #[must_use]
    pub fn reloader(&self) -> Arc<Reloader> {
        Arc::clone(&self.reloader)
    }

    /// Where frames are taken.
    #[must_use]
    pub const fn ingest_addr(&self) -> SocketAddr {
        self.ingest.local_addr()
    }

    /// Where admin listens.
    #[must_use]
    pub const fn admin_listen(&self) -> &Listen {
        self.admin.listen()
    }

    /// What can be looked at while the relay runs.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Runs until told to stop, or until a part fails.
    pub async fn run(self, stop: CancellationToken) -> Exit {
        let Self { wal, ingest, ack_deadline, sinks, admin, view, phase, reloader: _ } = self;
        let (stop_parts, stop_admin) = (CancellationToken::new(), CancellationToken::new());
        let mut parts = JoinSet::new();
        let mut admin_task = JoinSet::new();
        {
            let stop = stop_parts.clone();
            parts.spawn(async move {
                ingest.run(stop).await;
                Part::Ingest
            });
        }
        for sink in sinks {
            let stop = stop_parts.clone();
            parts.spawn(async move { Part::Sink(sink.run(stop, DELIVERY_GRACE).await) });
        }
        {
            let stop = stop_admin.clone();
            admin_task.spawn(async move { Part::Admin(admin.run(stop).await) });
        }
        let sweeper = sweep(wal.clone(), stop_parts.clone());
        let upkeep = upkeep(view.metrics.clone(), stop_parts.clone());
        let mut background = JoinSet::new();
        background.spawn(sweeper);
        background.spawn(upkeep);
        background.spawn(history(view.clone(), stop_parts.clone()));
        let (handle, stopping) = (view.ingest.clone(), stop_parts.clone());
        background.spawn(manager::feed_watchdog(handle, wal.clone(), stopping));

        let early = tokio::select! {
            () = stop.cancelled() => None,
            why = wal.poisoned() => {
                tracing::error!(why, "stopping: the log has failed");
                Some(Exit::Storage)
            }
            ended = parts.join_next() => Some(ended_early(ended)),
            ended = admin_task.join_next() => Some(ended_early(ended)),
        };
        // 1.
        phase.send_replace(Phase::Stopping);
        if early == Some(Exit::Storage) {
            // Nothing can be made durable any more: finishing would only look like it.
            return Exit::Storage;
        }
        tracing::info!("stopping");
        // 2.
        stop_parts.cancel();
        let limit = (ack_deadline + INGEST_GRACE).max(DELIVERY_GRACE + INGEST_GRACE);
        let cut = tokio::select! {
            cut = finish(&mut parts, limit) => cut,
            why = wal.poisoned() => {
                tracing::error!(why, "the log has failed, nothing more is waited for");
                return Exit::Storage;
            }
        };
        // 3.
        let log = closed(tokio::task::spawn_blocking(move || wal.close()).await);
        // 4.
        stop_admin.cancel();
        admin_task.join_next().await;
        background.abort_all();
        early.unwrap_or(Exit::Stopped).and(cut).and(log)
    }
}

/// Has every destination read its token again.
fn tokens_of_collectors(sinks: &[SinkHandle]) {
    for sink in sinks {
        let reload = sink.reload_token();
        tracing::info!(destination = %sink.name(), ?reload, "the token was looked at again");
    }
}

/// Gives every destination the names of the drains, those that its filter takes by name, and TLS and
/// the proxy as their files are now.
fn settings_of_destinations(config: &Config, sinks: &[SinkHandle]) {
    for sink in sinks {
        if let Some(new) = config.destinations.iter().find(|new| new.name == *sink.name()) {
            sink.set_drains(DrainSettings::of(&new.mapping));
            sink.renew(new);
        }
    }
}

/// Checkpoints of destinations that are no longer configured keep their messages.
fn warn_of_orphans(wal: &Wal) {
    for orphan in wal.orphans().into_iter().flatten() {
        tracing::warn!(
            destination = %orphan.name,
            position = %orphan.checkpoint.position,
            segments = orphan.segments,
            bytes = orphan.bytes.get(),
            messages = orphan.messages,
            "this destination is not configured any more, but its cursor still keeps all \
             messages from its position on"
        );
    }
}

/// Less than the default is an operator's choice, and is said at every start.
fn warn_of_weakness(wal: &Wal) {
    let status = wal.status();
    if (status.storage, status.durability) != (Storage::Disk, Durability::Fsync) {
        tracing::warn!(durability = %status.durability, "{}", status.promise);
    }
}

/// Drops segments when they may go.
async fn sweep(wal: Wal, stop: CancellationToken) {
    let mut warned = crate::clock::instant();
    loop {
        let short = wal.status().space_is_short;
        let wait = if short || wal.is_nearly_full() { SWEEP_EVERY_WHEN_SHORT } else { SWEEP_EVERY };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // Requests are held from this moment on: what may go has to go now.
            () = wal.no_space(), if !short => {}
            () = stop.cancelled() => return,
        }
        let wal = wal.clone();
        let warn = crate::clock::instant() - warned >= WARN_EVERY;
        if warn {
            warned = crate::clock::instant();
        }
        let swept = tokio::task::spawn_blocking(move || {
            if warn {
                warn_of_orphans(&wal);
            }
            wal.sweep()
        });
        match swept.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "no segment could be dropped"),
            Err(error) => tracing::error!(%error, "bug: dropping segments has panicked"),
        }
    }
}

async fn upkeep(metrics: Option<Metrics>, stop: CancellationToken) {
    let Some(metrics) = metrics else { return };
    loop {
        tokio::select! {
            () = tokio::time::sleep(UPKEEP_EVERY) => metrics.upkeep(),
            () = stop.cancelled() => return,
        }
    }
}

/// Takes the samples that the status page draws.
async fn history(view: View, stop: CancellationToken) {
    loop {
        view.history.sample(&view);
        tokio::select! {
            () = tokio::time::sleep(SAMPLE_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}
