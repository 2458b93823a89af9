//! A Splunk HEC, simulated: `/services/collector` with indexer acknowledgement, over HTTP or HTTPS.
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
//! [restart](HecHandle::restart) and [`Fault`]s can be switched on while it runs, by probability
//! or request by request ([`Script`]). Several indexers can stand behind one address, with a
//! [`Balancer`] in front.
//!
//! ```text
//! balancer (which indexer)
//!      ▼
//! handler (one request) ─▶ request (token, channel) ─▶ intake (rules) ─▶ json (envelopes)
//!      └────────────────▶ indexer (channels, pipeline, acknowledgements) ─▶ ledger
//! ```

mod balancer;
mod body;
mod config;
mod faults;
mod handler;
mod indexer;
mod intake;
mod json;
mod reply;
mod request;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use balancer::Balancer;
pub use config::{AckMode, HecConfig, HecToken, Poison, PoisonCode};
pub use faults::{Fault, FaultKind, On, Script, ScriptError, Step, Timed, share_of};
pub use indexer::HecStats;
pub use tls::{HecTls, HecTlsError};

use super::ledger::HecLedger;
use balancer::Balance;
use indexer::Indexer;

/// A simulated HEC that is listening; [`run`](Self::run) makes it answer.
#[derive(Debug)]
pub struct HecServer {
    listener: TcpListener,
    local_addr: SocketAddr,
    balance: Arc<Balance>,
    ledger: Arc<HecLedger>,
    config: HecConfig,
}

/// Looks at a running [`HecServer`] and steers it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HecHandle {
    balance: Arc<Balance>,
    ledger: Arc<HecLedger>,
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
        let indexers = (0..config.indexers.get() as u64)
            .map(|number| {
                let config = HecConfig { seed: config.seed ^ number, ..config.clone() };
                Arc::new(Indexer::new(config, Arc::clone(&ledger)))
            })
            .collect();
        let balance = Arc::new(Balance::new(config.balancer, indexers));
        Ok(Self { listener, local_addr, balance, ledger, config })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle, valid before, while and after it runs.
    #[must_use]
    pub fn handle(&self) -> HecHandle {
        HecHandle {
            balance: Arc::clone(&self.balance),
            ledger: Arc::clone(&self.ledger),
            local_addr: self.local_addr,
        }
    }

    /// Answers requests until `shutdown`, then closes the listener and every connection at once,
    /// also in the middle of a request, as a process that dies. Acknowledgement state lives in
    /// this server and ends with it.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, balance, config, .. } = self;
        let mut connections = JoinSet::new();
        let mut indexers = JoinSet::new();
        for indexer in balance.indexers.iter().map(Arc::clone) {
            indexers.spawn(async move { indexer.run().await });
        }
        let slots = Arc::new(Semaphore::new(config.max_connections));
        let tls = config.tls.map(|tls| TlsAcceptor::from(tls.0));
        let serve = async {
            loop {
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
                tokio::select! {
                    stream = accept(&listener) => {
                        let (balance, tls) = (Arc::clone(&balance), tls.clone());
                        connections.spawn(async move {
                            connection(stream, tls, balance, config.keep_alive).await;
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
            // Ends only by a panic, which ends the server.
            Some(_) = indexers.join_next() => {}
            () = shutdown.cancelled() => {}
        }
        drop(listener);
        connections.shutdown().await;
        indexers.shutdown().await;
    }
}

impl HecHandle {
    /// Where the server listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What the server has seen so far, all indexers together.
    #[must_use]
    pub fn stats(&self) -> HecStats {
        let mut all = HecStats::default();
        for indexer in &self.balance.indexers {
            all.add(indexer.stats());
        }
        all
    }

    /// What one indexer has seen; nothing, if there is no such one.
    #[must_use]
    pub fn indexer_stats(&self, number: usize) -> HecStats {
        self.balance.indexers.get(number).map(|indexer| indexer.stats()).unwrap_or_default()
    }

    /// What a restart of Splunk does: channels and acknowledgements are forgotten, ids start at 0
    /// again, and events that were accepted but not yet indexed are gone. Connections stay up, as
    /// behind a load balancer: the client sees nothing but the ids. (To close them too, stop the
    /// server and bind another one.)
    pub fn restart(&self) {
        self.each(Indexer::restart);
    }

    /// The same for one indexer of several.
    pub fn restart_indexer(&self, number: usize) {
        if let Some(indexer) = self.balance.indexers.get(number) {
            indexer.restart();
        }
    }

    /// Changes when events are indexed. What stands still starts to move; what is on its way
    /// keeps its time, or stops for [`AckMode::Never`].
    pub fn set_ack(&self, ack: AckMode) {
        self.each(|indexer| indexer.set_ack(ack));
    }

    /// Sets or lifts the fault. Requests that hang for the old one go on.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.set_faults(fault.as_slice());
    }

    /// Replaces all faults. Each draws for itself; the first that hits a request is its fault.
    pub fn set_faults(&self, faults: &[Fault]) {
        for (number, indexer) in (0..).zip(&self.balance.indexers) {
            let own = |fault: &Fault| Fault { seed: fault.seed ^ number, ..*fault };
            indexer.set_faults(faults.iter().map(own));
        }
    }

    /// Replaces the faults of one indexer of several.
    pub fn set_indexer_faults(&self, number: usize, faults: &[Fault]) {
        if let Some(indexer) = self.balance.indexers.get(number) {
            indexer.set_faults(faults.iter().copied());
        }
    }

    /// What the next requests meet, in place of what is left of the last script. Each indexer
    /// follows it for itself. To be called before the server runs, if it has steps by time.
    pub fn set_script(&self, script: &Script) {
        self.each(|indexer| indexer.set_script(script.clone()));
    }

    fn each(&self, act: impl Fn(&Indexer)) {
        self.balance.indexers.iter().for_each(|indexer| act(indexer));
    }

    /// Where its events are written down.
    #[must_use]
    pub const fn ledger(&self) -> &Arc<HecLedger> {
        &self.ledger
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

/// How long a client may take for its part of the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    balance: Arc<Balance>,
    keep_alive: Option<Duration>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let Some(tls) = tls else { return serve(stream, balance, keep_alive).await };
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, balance, keep_alive).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn serve<S>(stream: S, balance: Arc<Balance>, keep_alive: Option<Duration>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let number = balance.connection();
    let service = service_fn(move |request| handler::handle(Arc::clone(&balance), number, request));
    let mut builder = http1::Builder::new();
    // hyper's limit for the head of a request also runs while it waits for one.
    builder.timer(TokioTimer::new()).header_read_timeout(keep_alive);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection to the simulated HEC ended");
    }
}

#[cfg(test)]
mod tests;
