//! What an operator asks the relay: the status page at `/`, `/healthz`, `/readyz`, `/metrics`, and
//! `/v1/…` in JSON.
//!
//! On loopback, or on a unix socket that only its owner can open. Everybody who can connect may
//! look; who may change something is in `access`. It answers until the very end of a stop, so
//! that the stop can be watched.

mod access;
mod answer;
mod config;
mod cursors;
mod history;
mod letters;
mod lists;
mod page;
mod place;
mod replays;
mod routes;
mod status;
mod unix;

use std::future::IntoFuture as _;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ingest::IngestHandle;
use crate::sink::SinkHandle;
use crate::telemetry::Metrics;
use crate::types::UnixMicros;
use crate::wal::Wal;

use access::Access;

pub use config::{Config, Drain, Listen, ParseListenError};
pub use history::{DestinationRows, History, HistoryRows, IngestRows, LogRows, SAMPLE_EVERY};
pub use letters::{Letter, LetterPage, LetterRow, LettersStatus};
pub use lists::{CursorStatus, DrainStatus, SegmentRow};
pub use replays::ReplayStatus;
pub use status::{
    Books, ConfigStatus, DestinationStatus, EndpointStatus, GapStatus, IngestStatus, LogStatus,
    LossStatus, OrphanStatus, RecoveryStatus, Status, StrangerStatus, TornStatus,
};

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Recovered and listening.
    Ready,
    /// On its way out: frames in flight are finished, new ones belong elsewhere.
    Stopping,
}

impl Phase {
    /// As text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Stopping => "stopping",
        }
    }
}

/// How the last reload of the configuration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadStatus {
    /// Whether it was taken.
    pub successful: bool,
    /// When one was last taken.
    pub taken: UnixMicros,
    /// Keys that were changed and that only a restart can change.
    pub restart_needed: Vec<String>,
}

/// What admin looks at.
#[derive(Clone, Debug)]
pub struct View {
    /// The log.
    pub wal: Wal,
    /// What takes frames.
    pub ingest: IngestHandle,
    /// The destinations.
    pub sinks: Arc<[SinkHandle]>,
    /// The phase.
    pub phase: watch::Receiver<Phase>,
    /// The configuration.
    pub reload: watch::Receiver<ReloadStatus>,
    /// The numbers, when this process collects them.
    pub metrics: Option<Metrics>,
    /// The figures of the last minutes.
    pub history: Arc<History>,
}

/// What every handler shares.
#[derive(Clone, Debug)]
struct Shared {
    view: View,
    access: Access,
    drains: KnownDrains,
}

/// The drains that are known by name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KnownDrains(Arc<ArcSwap<Known>>);

/// What is known of the apps that frames come from.
#[derive(Debug)]
struct Known {
    drains: Vec<Drain>,
    /// Whether there may be others, which a drain's URL names.
    apps_from_urls: bool,
}

impl Known {
    fn of(config: &Config) -> Self {
        Self { drains: config.drains.clone(), apps_from_urls: config.apps_from_urls }
    }
}

impl KnownDrains {
    fn new(config: &Config) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Known::of(config))))
    }

    /// From now on, `/v1/drains` has those of this configuration.
    pub fn set(&self, config: &Config) {
        self.0.store(Arc::new(Known::of(config)));
    }
}

/// The admin listener, bound.
#[derive(Debug)]
pub struct Admin {
    listener: Listener,
    listen: Listen,
    shared: Shared,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, unix::SocketFile),
}

impl Admin {
    /// Binds.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(config: &Config, view: View) -> io::Result<Self> {
        let (listener, listen, access) = match &config.listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let listen = Listen::Tcp(listener.local_addr()?);
                let access = config.token.clone().map_or(Access::Nobody, Access::Token);
                (Listener::Tcp(listener), listen, access)
            }
            Listen::Unix(path) => {
                let (listener, file) = unix::bind(path)?;
                (Listener::Unix(listener, file), config.listen.clone(), Access::Everybody)
            }
        };
        let shared = Shared { view, access, drains: KnownDrains::new(config) };
        Ok(Self { listener, listen, shared })
    }

    /// Where it listens, with the port it was given.
    #[must_use]
    pub const fn listen(&self) -> &Listen {
        &self.listen
    }

    /// The drains that it lists, to be changed.
    #[must_use]
    pub fn drains(&self) -> KnownDrains {
        self.shared.drains.clone()
    }

    /// Answers until told to stop.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let routes = routes::router(self.shared);
        // Connections that are open are closed with the process.
        let stopped = stop.cancelled_owned();
        match self.listener {
            Listener::Tcp(listener) => {
                tokio::select! {
                    result = axum::serve(listener, routes).into_future() => result,
                    () = stopped => Ok(()),
                }
            }
            Listener::Unix(listener, _file) => {
                tokio::select! {
                    result = axum::serve(listener, routes).into_future() => result,
                    () = stopped => Ok(()),
                }
            }
        }
    }
}
