//! An ingest with a log of its own, and a client that knows nothing of HTTP but where an answer
//! ends.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::handler::Handler;
use super::super::{Config, Drain, Drains, Ingest, IngestHandle, Listen, Live, User, Via};
use crate::record::Record;
use crate::types::{ByteSize, Offset, Secret};
use crate::wal::{self, Entry, Wal};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A log of one message.
pub(super) const BODY: &str = "64 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - héllo\n";

/// An ingest that runs.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) handler: Arc<Handler>,
    pub(super) handle: IngestHandle,
    wal: Wal,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _dir: TempDir,
}

impl Server {
    /// Starts one with the usual settings.
    pub(super) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts one with other settings.
    pub(super) async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup::default();
        change(&mut setup);
        let dir = TempDir::new().unwrap();
        setup.wal.dir = dir.path().join("log");
        let (wal, _) = Wal::open(setup.wal).unwrap();
        let mut ingest = Ingest::bind(setup.ingest, wal.clone()).unwrap();
        let handler = Arc::get_mut(&mut ingest.handler).unwrap();
        handler.timeouts.head = setup.head_timeout;
        handler.timeouts.proof = setup.proof;
        handler.handshake = setup.handshake;
        let handler = Arc::clone(&ingest.handler);
        let handle = ingest.handle();
        let (address, stop) = (ingest.local_addr(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(ingest.run(stop.clone()));
        Self { address, handler, handle, wal, stop, tasks, _dir: dir }
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), read: Vec::new() }
    }

    /// Sends a request on a connection of its own.
    pub(super) async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await
    }

    /// Waits until connections are refused, or until they are not.
    pub(super) async fn until_connections_are(&self, state: Connections) {
        let wait = async {
            loop {
                let refused = TcpStream::connect(self.address).await.is_err();
                if refused == (state == Connections::Refused) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("connections are never {state:?}"));
    }

    /// Begins to stop.
    pub(super) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has stopped.
    pub(super) async fn stopped(&mut self) {
        let ended = timeout(PATIENCE, self.tasks.join_next()).await.expect("a stop in time");
        ended.expect("a task").expect("no panic");
    }

    /// The frames in the log.
    pub(super) fn stored(&self) -> Vec<Record> {
        let mut all = Vec::new();
        let visit = |entry: Entry| {
            all.push(entry.record);
            ControlFlow::Continue(())
        };
        self.wal.reader().read(Offset::ZERO, Offset::new(u64::MAX), visit).unwrap();
        all
    }

    /// Ends the log, as a failed write would.
    pub(super) fn end_log(&self) {
        self.wal.close();
    }
}

/// What happens to new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connections {
    Accepted,
    Refused,
}

/// Settings.
pub(super) struct Setup {
    pub(super) ingest: Config,
    pub(super) wal: wal::Config,
    pub(super) head_timeout: Duration,
    pub(super) handshake: Duration,
    pub(super) proof: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        let ingest = Config {
            listen: Listen::Address("127.0.0.1:0".parse().unwrap()),
            path: "/logs".to_owned(),
            max_body: ByteSize::bytes(64 * 1024),
            max_gzip_ratio: 200,
            hold_after: PATIENCE,
            close_after: PATIENCE,
            ack_deadline: PATIENCE,
            max_connections: 100,
            max_connections_per_address: 100,
            max_in_flight: ByteSize::bytes(1024 * 1024),
            idle_timeout: PATIENCE,
            live: Live { query: ["app".to_owned()].into(), ..Live::default() },
        };
        let wal = wal::Config {
            dir: PathBuf::new(),
            segment_size: ByteSize::bytes(16 << 20),
            max_size: ByteSize::bytes(1 << 30),
            min_free: ByteSize::bytes(0),
            retention: Duration::from_secs(3600),
            dedupe_window: Duration::from_secs(3600),
            dedupe_memory: ByteSize::bytes(1 << 20),
            when_full: wal::WhenFull::default(),
            durability: wal::Durability::default(),
            storage: wal::Storage::default(),
            on_damage: wal::OnDamage::default(),
        };
        Self { ingest, wal, head_timeout: PATIENCE, handshake: PATIENCE, proof: PATIENCE }
    }
}

impl Setup {
    /// Lets only this user in.
    pub(super) fn user(&mut self, name: &str, password: &str) {
        self.ingest.live.users.push(user(name, password, Via::Basic));
    }
}

/// What a reload may change, as it is unless a test says otherwise.
pub(super) fn usual_live() -> Live {
    Setup::default().ingest.live
}

/// A user for all drains.
pub(super) fn user(name: &str, password: &str, via: Via) -> User {
    User {
        name: name.to_owned(),
        password: Secret::new(password.to_owned()),
        via,
        drains: None,
        deprecated: false,
    }
}

/// Drains by token and name.
pub(super) fn drains(all: &[(&str, &str)]) -> Arc<Drains> {
    let drain = |name: &str| Drain { name: name.to_owned(), profile: None };
    Arc::new(Drains(all.iter().map(|(t, n)| ((*t).to_owned(), drain(n))).collect()))
}

/// A connection to it.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    read: Vec<u8>,
}

/// An answer, byte by byte.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn code(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The value of a header, with the name as it must be written.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Client {
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Says that nothing more will come.
    pub(super) async fn end(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads one answer and no byte more.
    pub(super) async fn answer(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.read, b"\r\n\r\n") {
                break end + 4;
            }
            assert_ne!(self.more().await, 0, "closed: {}", self.read.escape_ascii());
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
        let mut answer = Answer { head, body: String::new() };
        let interim = answer.code() == 100;
        let len = match answer.header("Content-Length") {
            None if interim => 0,
            len => len.expect("a length").parse().unwrap(),
        };
        while self.read.len() < len {
            assert_ne!(self.more().await, 0, "closed: {}", self.read.escape_ascii());
        }
        answer.body = String::from_utf8(self.read.drain(..len).collect()).unwrap();
        answer
    }

    /// Waits for the connection to be closed, with nothing said before.
    pub(super) async fn closed(&mut self) {
        let mut rest = std::mem::take(&mut self.read);
        // A reset is a close too.
        let end = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("a close");
        assert!(rest.is_empty(), "{end:?}: {}", rest.escape_ascii());
    }

    async fn more(&mut self) -> usize {
        let read = self.stream.read_buf(&mut self.read);
        timeout(PATIENCE, read).await.expect("an answer in time").unwrap()
    }
}

/// Waits until something is so.
pub(super) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let wait = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A frame as Logplex posts it, with these headers on top.
pub(super) fn post(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "POST /logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/logplex-1\r\n\
         {headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The headers of a Logplex frame.
pub(super) fn logplex(frame_id: &str) -> String {
    format!(
        "Logplex-Msg-Count: 1\r\nLogplex-Frame-Id: {frame_id}\r\n\
         Logplex-Drain-Token: d.fc6b856b\r\nUser-Agent: Logplex/v73\r\n"
    )
}

/// The headers of a log-shuttle batch.
pub(super) const SHUTTLE: &str =
    "User-Agent: log-shuttle/0.22.1 (go1.22; linux; amd64; gc)\r\nX-Request-Id: batch-1\r\n";
