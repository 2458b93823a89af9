//! A Splunk HEC, simulated: `/services/collector` with indexer acknowledgement, over plain HTTP.
//!
//! Built from measurements of Splunk 10.4 and 10.5 that others recorded; nobody here ran one. What
//! it keeps to:
//!
//! - Objects are read in document order and accepted one by one: a refused object is answered
//!   with its number, those before it are in, and on an acknowledging token the refusal carries
//!   the `ackId` of that prefix. Code 7 names the number after the bad one.
//! - An unknown envelope key ends the reading without a word: 200, and the rest is gone.
//! - ackIds count from 0 per token and channel, cover one request each, become `true` when the
//!   request is indexed, are reported `true` once, and are `false` for every other reason.
//! - The order of checks is token, query authorisation, acknowledgement, channel, body.
//!
//! What nobody has measured is decided to the strict side: `null` in `fields`, a `time` of `null`
//! and a lone surrogate are refused. A standstill ([`AckMode::Never`]), a
//! [restart](HecHandle::restart) and [`Fault`]s can be switched on while it runs.
//!
//! ```text
//! handler (one request) ─▶ request (token, channel) ─▶ intake (rules) ─▶ json (envelopes)
//!      └────────────────▶ indexer (channels, pipeline, acknowledgements) ─▶ ledger
//! ```

mod config;
mod handler;
mod indexer;
mod intake;
mod json;
mod reply;
mod request;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::{AckMode, Fault, FaultKind, HecConfig, HecToken};
pub use indexer::HecStats;

use super::ledger::HecLedger;
use indexer::Indexer;

/// A simulated HEC that is listening; [`run`](Self::run) makes it answer.
#[derive(Debug)]
pub struct HecServer {
    listener: TcpListener,
    local_addr: SocketAddr,
    indexer: Arc<Indexer>,
}

/// Looks at a running [`HecServer`] and steers it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HecHandle {
    indexer: Arc<Indexer>,
    local_addr: SocketAddr,
}

impl HecServer {
    /// Binds the address, with `SO_REUSEADDR`, so that a server can follow another one on its
    /// port at once. Connections queue up from here on. To be called in a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(config: HecConfig, ledger: Arc<HecLedger>) -> io::Result<Self> {
        let socket = match config.listen {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(config.listen)?;
        let listener = socket.listen(1024)?;
        let local_addr = listener.local_addr()?;
        Ok(Self { listener, local_addr, indexer: Arc::new(Indexer::new(config, ledger)) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle, valid before, while and after it runs.
    #[must_use]
    pub fn handle(&self) -> HecHandle {
        HecHandle { indexer: Arc::clone(&self.indexer), local_addr: self.local_addr }
    }

    /// Answers requests until `shutdown`, then closes the listener and every connection at once,
    /// also in the middle of a request, as a process that dies. Acknowledgement state lives in
    /// this server and ends with it.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, indexer, .. } = self;
        let mut connections = JoinSet::new();
        let slots = Arc::new(Semaphore::new(indexer.config.max_connections));
        let serve = async {
            loop {
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
                tokio::select! {
                    stream = accept(&listener) => {
                        let indexer = Arc::clone(&indexer);
                        connections.spawn(async move {
                            serve_connection(stream, indexer).await;
                            drop(slot);
                        });
                    }
                    // Only takes away what has ended; a panic ended one connection.
                    Some(_) = connections.join_next() => {}
                }
            }
        };
        tokio::select! {
            () = serve => {}
            () = indexer.run() => {}
            () = shutdown.cancelled() => {}
        }
        drop(listener);
        connections.shutdown().await;
    }
}

impl HecHandle {
    /// Where the server listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What the server has seen so far.
    #[must_use]
    pub fn stats(&self) -> HecStats {
        self.indexer.stats()
    }

    /// What a restart of Splunk does: channels and acknowledgements are forgotten, ids start at 0
    /// again, and events that were accepted but not yet indexed are gone. Connections stay up, as
    /// behind a load balancer: the client sees nothing but the ids. (To close them too, stop the
    /// server and bind another one.)
    pub fn restart(&self) {
        self.indexer.restart();
    }

    /// Changes when events are indexed. What stands still starts to move; what is on its way
    /// keeps its time, or stops for [`AckMode::Never`].
    pub fn set_ack(&self, ack: AckMode) {
        self.indexer.set_ack(ack);
    }

    /// Sets or lifts the fault. Requests that hang for the old one go on.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.indexer.set_fault(fault);
    }

    /// Where its events are written down.
    #[must_use]
    pub fn ledger(&self) -> &Arc<HecLedger> {
        &self.indexer.ledger
    }
}

/// The next connection. An error is one connection's (it died in the queue), or it is about
/// resources (no more files), which only time brings back.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::debug!(%error, "a connection to the simulated HEC was not accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, indexer: Arc<Indexer>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let service = service_fn(move |request| handler::handle(Arc::clone(&indexer), request));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the simulated HEC ended");
    }
}

#[cfg(test)]
mod tests;
