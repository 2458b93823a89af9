//! Admin's connections, which have limits too (I7): a program that asks and never reads, or a hundred
//! that ask at once, cost the relay neither memory nor threads without a bound.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::answer::Problem;

/// What admin takes at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections. Others wait in the kernel until one has ended.
    pub(super) connections: usize,
    /// How long the head of a request may take, and so how long a connection may be idle.
    pub(super) head: Duration,
}

/// Browsers, a Prometheus or two and an operator's commands need a dozen connections.
pub(super) const LIMITS: Limits = Limits { connections: 64, head: Duration::from_secs(30) };

/// The most bytes of a head, and the most that is read ahead.
const LARGEST_HEAD: usize = 64 << 10;

/// Answers on a listener until told to stop. Connections that are open are closed then.
pub(super) async fn serve<L: Listener>(
    mut listener: L,
    routes: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut open = JoinSet::new();
    loop {
        let accepted = async {
            // A place before `accept`: who has none waits in the kernel.
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            ((stream, _), place) = accepted => {
                let routes = TowerToHyperService::new(routes.clone());
                open.spawn(async move {
                    let served = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(limits.head)
                        .max_buf_size(LARGEST_HEAD)
                        .serve_connection(TokioIo::new(stream), routes)
                        .await;
                    if let Err(error) = served {
                        tracing::debug!(%error, "an admin connection has ended");
                    }
                    drop(place);
                });
            }
            Some(ended) = open.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "bug: an admin connection has panicked");
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

/// How many requests read from the store at a time. Each may read tens of megabytes and wait for the
/// disk, on threads that the destinations need, too.
const READERS: usize = 2;

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Turns to read from the store. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    turns: Arc<Semaphore>,
    patience: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(READERS)), patience: PATIENCE }
    }
}

impl Turns {
    /// For tests: others have all turns, for ever.
    #[cfg(test)]
    pub(super) fn none_left() -> Self {
        Self { turns: Arc::new(Semaphore::new(0)), patience: Duration::ZERO }
    }

    /// Does blocking work when it is its turn. Who goes away meanwhile gives the turn back only when
    /// the work is done: it cannot be taken back.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        let Ok(turn) = tokio::time::timeout(self.patience, turn).await else {
            let what = "other requests read from the log at this moment";
            let fix = "ask again; when this lasts, the disk does not answer";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, what, fix));
        };
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(Problem::internal)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// However slow the machine is, what a test waits for is there by then, or never comes.
    const SOON: Duration = Duration::from_secs(60);

    async fn start(limits: Limits) -> (std::net::SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(|| async { "here" }));
        let mut server = JoinSet::new();
        server.spawn(serve(listener, routes, limits, CancellationToken::new()));
        (address, server)
    }

    async fn ask(stream: &mut TcpStream) {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    }

    /// An answer, whole.
    async fn answer(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        let read = async {
            while !bytes.ends_with(b"here") {
                assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "closed");
            }
        };
        tokio::time::timeout(SOON, read).await.expect("an answer");
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_until_one_has_ended() {
        let (address, _server) = start(Limits { connections: 2, head: SOON }).await;
        let mut open = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            ask(&mut stream).await;
            assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
            open.push(stream);
        }
        let mut third = TcpStream::connect(address).await.unwrap();
        ask(&mut third).await;
        let early = tokio::time::timeout(Duration::from_millis(300), third.read_u8()).await;
        assert!(early.is_err(), "an answer beyond the limit: {early:?}");
        drop(open.pop());
        assert!(answer(&mut third).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn half_a_head_keeps_its_place_for_a_time_only() {
        let limits = Limits { connections: 1, head: Duration::from_millis(200) };
        let (address, _server) = start(limits).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost: loc").await.unwrap();
        let mut next = TcpStream::connect(address).await.unwrap();
        ask(&mut next).await;
        assert!(answer(&mut next).await.starts_with("HTTP/1.1 200"));
        let mut rest = Vec::new();
        tokio::time::timeout(SOON, slow.read_to_end(&mut rest)).await.expect("its end").ok();
    }

    #[tokio::test]
    async fn so_many_read_from_the_store_and_others_are_told_to_ask_again() {
        let turns = Turns { patience: Duration::from_millis(200), ..Turns::default() };
        let (let_go, held) = crossbeam_channel::bounded::<()>(0);
        let mut readers = JoinSet::new();
        for _ in 0..READERS {
            let (turns, held) = (turns.clone(), held.clone());
            // Ends with the test.
            readers.spawn(async move { turns.read(move || held.recv().is_err()).await.is_ok() });
        }
        let all_read = async {
            while turns.turns.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, all_read).await.expect("they read");
        let refused = turns.read(|| ()).await.map_err(|problem| problem.status());
        assert_eq!(refused, Err(StatusCode::SERVICE_UNAVAILABLE));
        // Who goes away while it reads has its turn until it has read.
        readers.abort_all();
        while readers.join_next().await.is_some() {}
        assert_eq!(turns.turns.available_permits(), 0);
        drop(let_go);
        let patient = Turns { patience: SOON, ..turns };
        assert!(patient.read(|| ()).await.is_ok());
    }
}
