//! The listener and the accept loop.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::gate::State;
use super::handler::Handler;
use super::{Config, connection};
use crate::wal::Wal;

/// Connections the kernel keeps while we are not accepting.
const BACKLOG: i32 = 4096;

/// How long a failed `accept`, or a failed `bind` after a time of refusing, is left alone.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// How long connections are refused at least, so that a log that goes in and out of trouble does
/// not have us open and close the listener all the time.
const REFUSE_FOR: Duration = Duration::from_secs(2);

/// The HTTP side, bound and ready to run.
#[derive(Debug)]
pub struct Ingest {
    listener: TcpListener,
    address: SocketAddr,
    pub(super) handler: Arc<Handler>,
}

impl Ingest {
    /// Listens. Connections wait in the kernel until [`Ingest::run`].
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn bind(config: Config, wal: Wal) -> io::Result<Self> {
        let listener = listen(config.listen)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, handler: Arc::new(Handler::new(config, wal)) })
    }

    /// The address, with the port the kernel chose when the configured one is 0.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts and serves until `stop` is cancelled, then lets requests in flight end and closes
    /// idle connections. Returns when every connection is closed; that takes no longer than a
    /// request may take.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, address, handler } = self;
        let limit = Arc::new(Semaphore::new(handler.config.max_connections));
        let mut gate = handler.gate.watch();
        let mut connections = Connections { tasks: JoinSet::new(), handler: Arc::clone(&handler) };
        let mut listener = Some(listener);

        while !stop.is_cancelled() {
            let state = *gate.borrow_and_update();
            match (state, &listener) {
                (State::Open, Some(open)) => tokio::select! {
                    () = stop.cancelled() => {}
                    Ok(()) = gate.changed() => {}
                    Some(ended) = connections.tasks.join_next() => connections.ended(ended),
                    accepted = accept(open, &limit) => match accepted {
                        Ok(accepted) => connections.start(accepted, &stop),
                        Err(error) => after_error(&error, &stop).await,
                    },
                },
                (State::Open, None) => match listen(address) {
                    Ok(open) => {
                        tracing::info!(%address, "accepting connections again");
                        listener = Some(open);
                    }
                    Err(error) => {
                        tracing::error!(%address, %error, "cannot listen again");
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = sleep(AFTER_ERROR) => {}
                        }
                    }
                },
                (State::Full | State::Closed, _) => {
                    if listener.take().is_some() {
                        tracing::error!(%address, ?state, "the log takes nothing: refusing connections");
                    }
                    tokio::select! {
                        () = stop.cancelled() => {}
                        Ok(()) = gate.changed() => {}
                        Some(ended) = connections.tasks.join_next() => connections.ended(ended),
                        () = space_again(&handler), if state == State::Full => handler.gate.open(),
                    }
                }
            }
        }
        drop(listener);
        connections.stop().await;
    }
}

/// Resolves when it is time to accept connections again.
async fn space_again(handler: &Handler) {
    sleep(REFUSE_FOR).await;
    handler.space().await;
}

/// A connection and its place among the allowed ones.
type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

/// Accepts a connection when there is a place for it. Until then connections stay in the kernel,
/// where waiting costs a sender no try.
async fn accept(listener: &TcpListener, limit: &Arc<Semaphore>) -> io::Result<Accepted> {
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
            connection::serve(stream, peer.ip(), handler, stop).await;
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

/// Listens with a long backlog, on an address that the process before may just have left.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(StdListener::from(socket))
}
