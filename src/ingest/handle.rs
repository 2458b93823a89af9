//! What the rest of the program knows of an ingest that runs.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::config::Live;
use super::handler::Handler;
use super::loss::{Stranger, UpstreamLoss};
use crate::types::UnixMicros;

/// Looks at ingest, and changes what may change. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IngestHandle {
    handler: Arc<Handler>,
    probes: mpsc::Sender<oneshot::Sender<()>>,
}

/// Ingest's state at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestStatus {
    /// `open`, `holding` or `closed`.
    pub state: &'static str,
    /// Open connections.
    pub connections: usize,
    /// Requests that have a head and no answer.
    pub requests: usize,
    /// The end of the certificate's life; none without TLS.
    pub certificate_not_after: Option<UnixMicros>,
    /// Messages lost before they came here, by drain and code.
    pub upstream_loss: Vec<UpstreamLoss>,
    /// Drains that send and are not configured, when any are.
    pub unknown_drains: Vec<Stranger>,
}

impl IngestHandle {
    pub(super) const fn new(
        handler: Arc<Handler>,
        probes: mpsc::Sender<oneshot::Sender<()>>,
    ) -> Self {
        Self { handler, probes }
    }

    /// From now on, these settings hold: for new connections, and for the next request of each
    /// that is open.
    pub fn reload(&self, live: Live) {
        self.handler.reload(live);
    }

    /// How things are.
    #[must_use]
    pub fn status(&self) -> IngestStatus {
        self.handler.status()
    }

    /// Resolves when the accept loop has answered: true. False when it has ended.
    pub async fn is_alive(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.probes.send(answer).await.is_ok() && answered.await.is_ok()
    }
}
