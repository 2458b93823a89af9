//! The accept loop.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::gate::State;
use super::handle::IngestHandle;
use super::handler::Handler;
use super::listener::Listener;
use super::{Config, connection};
use crate::clock;
use crate::wal::Wal;

/// How long a failed `accept`, or a failed `listen` after a time of refusing, is left alone.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// How long connections are refused at least, so that a log that goes in and out of trouble does
/// not have us open and close the listener all the time.
const REFUSE_FOR: Duration = Duration::from_secs(2);

/// A question whether the accept loop is alive.
type Probe = oneshot::Sender<()>;

/// The HTTP side, bound and ready to run.
#[derive(Debug)]
pub struct Ingest {
    listener: Listener,
    pub(super) handler: Arc<Handler>,
    probes: (mpsc::Sender<Probe>, mpsc::Receiver<Probe>),
}

impl Ingest {
    /// Listens. Connections wait in the kernel until [`Ingest::run`].
    ///
    /// # Errors
    /// When the address cannot be listened on, or the service manager has handed over no socket.
    pub fn bind(config: Config, wal: Wal) -> io::Result<Self> {
        let listener = Listener::open(config.listen)?;
        Ok(Self {
            listener,
            handler: Arc::new(Handler::new(config, wal)),
            probes: mpsc::channel(1),
        })
    }

    /// The address, with the port the kernel chose when the configured one is 0.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Looks at it, and changes what may change, while it runs.
    #[must_use]
    pub fn handle(&self) -> IngestHandle {
        IngestHandle::new(Arc::clone(&self.handler), self.probes.0.clone())
    }

    /// Accepts and serves until `stop` is cancelled, then lets requests in flight end and closes
    /// idle connections. Returns when every connection is closed; that takes no longer than a
    /// request may take.
    pub async fn run(self, stop: CancellationToken) {
        let Self { mut listener, handler, probes: (_probes, mut probed) } = self;
        let limit = Arc::new(Semaphore::new(handler.config.max_connections));
        let mut gate = handler.gate.watch();
        let mut connections = Connections { tasks: JoinSet::new(), handler: Arc::clone(&handler) };
        let mut looks = interval(handler.gate.pace());
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = None;
        let mut waits_to_open = false;
        let mut well_again = pin!(well_again(&handler, Instant::from_std(clock::instant())));

        while !stop.is_cancelled() {
            let state = *gate.borrow_and_update();
            if before != Some(state) {
                changed(&handler, before, state);
                before = Some(state);
                waits_to_open = state == State::Full;
                if waits_to_open {
                    let not_before = Instant::from_std(clock::instant()) + REFUSE_FOR;
                    well_again.set(self::well_again(&handler, not_before));
                }
            }
            let accepts = matches!(state, State::Open | State::Holding);
            if accepts != listener.get().is_some()
                && let Err(error) = if accepts { listener.resume() } else { listener.refuse() }
            {
                let address = listener.address();
                tracing::error!(%address, %error, accepts, "the listener does not change");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sleep(AFTER_ERROR) => {}
                }
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Ok(()) = gate.changed() => {}
                Some(ended) = connections.tasks.join_next() => connections.ended(ended),
                Some(probe) = probed.recv() => drop(probe.send(())),
                _ = looks.tick() => look(&handler, state),
                accepted = accept(listener.get(), &limit), if accepts => match accepted {
                    Ok(accepted) => connections.start(accepted, &stop),
                    Err(error) => after_error(&error, &stop).await,
                },
                // One and the same for as long as it takes: each asks the log a question.
                () = &mut well_again, if waits_to_open => {
                    waits_to_open = false;
                    handler.gate.open();
                }
            }
        }
        drop(listener);
        connections.stop().await;
    }
}

/// Looks at the gate. Nobody who would notice waits any more when it holds and no request comes.
fn look(handler: &Handler, state: State) {
    if state == State::Holding && handler.gate.is_idle() && handler.has_room() {
        handler.gate.open();
    }
    handler.gate.look(clock::instant());
}

/// Says that things have changed.
fn changed(handler: &Handler, before: Option<State>, state: State) {
    handler.metrics.state(state);
    match (before, state) {
        (None, State::Open) => {}
        (_, State::Open) => tracing::info!("frames are taken again"),
        (_, State::Holding) => {
            tracing::warn!("the log takes nothing: requests are held");
        }
        (_, State::Full) => {
            tracing::error!("the log has taken nothing for too long: refusing connections");
        }
        (_, State::Closed) => {
            tracing::error!("the log takes nothing before a restart: refusing connections");
        }
    }
}

/// Resolves when it is time to accept connections again.
async fn well_again(handler: &Handler, not_before: Instant) {
    sleep_until(not_before).await;
    handler.well().await;
}

/// A connection and its place among the allowed ones.
type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

/// Accepts a connection when there is a place for it. Until then connections stay in the kernel,
/// where waiting costs a sender no try.
async fn accept(listener: Option<&TcpListener>, limit: &Arc<Semaphore>) -> io::Result<Accepted> {
    let Some(listener) = listener else { return std::future::pending().await };
    let place = Arc::clone(limit).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Answers are one small packet. Without this they may wait for an ACK of the last one.
    stream.set_nodelay(true)?;
    Ok((stream, peer, place))
}

/// Waits a little after an error that would only come again at once, such as no file descriptor
/// being left.
async fn after_error(error: &io::Error, stop: &CancellationToken) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotConnected
    );
    if of_one_connection {
        tracing::debug!(%error, "a connection was gone before it was accepted");
        return;
    }
    tracing::error!(%error, "cannot accept connections");
    tokio::select! {
        () = stop.cancelled() => {}
        () = sleep(AFTER_ERROR) => {}
    }
}

/// The tasks of all connections.
struct Connections {
    tasks: JoinSet<()>,
    handler: Arc<Handler>,
}

impl Connections {
    fn start(&mut self, (stream, peer, place): Accepted, stop: &CancellationToken) {
        let (handler, stop) = (Arc::clone(&self.handler), stop.clone());
        self.tasks.spawn(async move {
            connection::run(stream, peer.ip(), handler, stop).await;
            drop(place);
        });
    }

    /// A panic costs its connection. The sender tries the frame again.
    fn ended(&self, result: Result<(), JoinError>) {
        if let Err(error) = result
            && error.is_panic()
        {
            self.handler.metrics.connection_panics.increment(1);
            tracing::error!("a connection was lost to a panic");
        }
    }

    /// Waits for all to end. Those that take longer than they can are cut off.
    async fn stop(&mut self) {
        let longest = self.handler.longest_request();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                self.ended(ended);
            }
        };
        if timeout(longest, all).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "cut off connections that did not end");
            self.tasks.shutdown().await;
        }
    }
}
