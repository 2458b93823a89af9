//! What an operator asks the relay: `/healthz`, `/readyz`, `/metrics`, `/v1/status`.
//!
//! Reads only, on loopback. It answers until the very end of a stop, so that the stop can be
//! watched.

mod config;
mod status;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ingest::IngestHandle;
use crate::sink::SinkHandle;
use crate::telemetry::Metrics;
use crate::types::UnixMicros;
use crate::wal::Wal;

pub use config::Config;
pub use status::{
    Books, ConfigStatus, DestinationStatus, EndpointStatus, IngestStatus, LogStatus, LossStatus,
    Status, StrangerStatus,
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
}

/// The admin listener, bound.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    view: View,
}

impl Admin {
    /// Binds.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(config: &Config, view: View) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(config.listen).await?, view })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until told to stop.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let routes = Router::new()
            .route("/healthz", get(health))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .route("/v1/status", get(status))
            .with_state(self.view);
        let serving = axum::serve(self.listener, routes);
        tokio::select! {
            result = serving.into_future() => result,
            // Connections that are open are closed with the process.
            () = stop.cancelled_owned() => Ok(()),
        }
    }
}

use std::future::IntoFuture as _;

/// The process is alive.
async fn health() -> &'static str {
    "ok\n"
}

/// Frames are accepted.
async fn ready(State(view): State<View>) -> (StatusCode, String) {
    let wal = view.wal.status();
    let phase = *view.phase.borrow();
    let unready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    if wal.poisoned.is_some() {
        unready("the log has failed, the process ends")
    } else if phase != Phase::Ready {
        unready(phase.as_str())
    } else if view.ingest.status().state == "closed" {
        unready("connections are refused, the log takes nothing")
    } else if wal.space_is_short {
        unready("no space is left for frames")
    } else {
        (StatusCode::OK, "ready\n".to_owned())
    }
}

async fn metrics(State(view): State<View>) -> axum::response::Response {
    match &view.metrics {
        Some(metrics) => {
            ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
                .into_response()
        }
        None => (StatusCode::NOT_FOUND, "this process collects no metrics\n").into_response(),
    }
}

async fn status(State(view): State<View>) -> Json<Status> {
    Json(Status::of(&view))
}
