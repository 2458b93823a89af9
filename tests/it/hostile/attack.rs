//! What hostile clients do, on a thread of their own.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use crate::support::Frame;

/// What a hostile client does. One that says nothing is not among them: of those there are
/// thousands, all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attack {
    /// A head, a byte at a time.
    SlowHead,
    /// A body, a byte at a time.
    SlowBody,
    /// A head of a megabyte.
    HugeHead,
    /// 64 MiB of nothing in 64 KiB of gzip.
    Bomb,
    /// Bytes that are neither HTTP nor TLS.
    Noise,
    /// The beginning of a TLS handshake, whether or not there is TLS, and then nothing.
    HalfHello,
    /// Half a head, or half a body, then the end of the sending side, and nobody who closes.
    HalfClosed,
    /// A connection that is gone again.
    Gone,
}

pub(super) const ATTACKS: [Attack; 8] = [
    Attack::SlowHead,
    Attack::SlowBody,
    Attack::HugeHead,
    Attack::Bomb,
    Attack::Noise,
    Attack::HalfHello,
    Attack::HalfClosed,
    Attack::Gone,
];

/// How many clients make each attack, again and again, and how long each rests in between: some
/// hundred attacks a second. Without a rest it would be measured who gets more of two processors
/// that all share.
const EACH: usize = 8;
const PAUSE: Duration = Duration::from_millis(200);

impl Attack {
    /// Whether it comes before there is any HTTP.
    const fn is_raw(self) -> bool {
        matches!(self, Self::Noise | Self::HalfHello | Self::Gone)
    }
}

/// How often each attack was made to its end, and whether one was answered 2xx.
pub(super) type Tally = BTreeMap<Attack, (u64, bool)>;

/// Where they attack, and the TLS that is spoken there.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<TlsConnector>,
}

type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

impl Target {
    async fn connect(&self, raw: bool) -> io::Result<Stream> {
        let stream = TcpStream::connect(self.address).await?;
        let Some(tls) = self.tls.as_ref().filter(|_| !raw) else { return Ok(Either::Left(stream)) };
        let name = ServerName::from(self.address.ip());
        Ok(Either::Right(Box::new(tls.connect(name, stream).await?)))
    }
}

/// Hostile clients at work: of every kind, and some thousand that say nothing.
pub(super) struct Attackers {
    thread: Option<JoinHandle<()>>,
    stop: CancellationToken,
    tally: Arc<Mutex<Tally>>,
    silent: Arc<AtomicUsize>,
}

impl Attackers {
    /// A thread of their own, so that the good senders of this process do not wait for it.
    pub(super) fn start(target: &Target, silent: usize) -> Self {
        let (tally, stop) = (Arc::<Mutex<Tally>>::default(), CancellationToken::new());
        let open = Arc::<AtomicUsize>::default();
        let thread = {
            let (target, tally, stop, open) =
                (target.clone(), Arc::clone(&tally), stop.clone(), Arc::clone(&open));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async {
                    let (mut tasks, bomb) = (JoinSet::new(), Arc::<[u8]>::from(bomb()));
                    for kind in ATTACKS.into_iter().cycle().take(EACH * ATTACKS.len()) {
                        let (tally, bomb) = (Arc::clone(&tally), Arc::clone(&bomb));
                        tasks.spawn(again(kind, target.clone(), tally, bomb));
                    }
                    for _ in 0..silent {
                        tasks.spawn(say_nothing(target.address, Arc::clone(&open)));
                    }
                    stop.cancelled().await;
                });
            })
        };
        Self { thread: Some(thread), stop, tally, silent: open }
    }

    /// What has been done so far.
    pub(super) fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// How many connections are open and say nothing.
    pub(super) fn silent(&self) -> usize {
        self.silent.load(Relaxed)
    }

    /// Ends them, and everything that they have open.
    pub(super) fn stop(mut self) -> Tally {
        self.end();
        self.tally()
    }

    fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Attackers {
    /// Also when the test fails.
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

/// Makes an attack again and again.
async fn again(kind: Attack, target: Target, tally: Arc<Mutex<Tally>>, bomb: Arc<[u8]>) {
    loop {
        let answer = attack(kind, &target, &bomb).await.unwrap_or_default();
        {
            let mut tally = tally.lock().unwrap();
            let entry = tally.entry(kind).or_default();
            entry.0 += 1;
            entry.1 |= answer.starts_with(b"HTTP/1.1 2");
        }
        sleep(PAUSE).await;
    }
}

/// Keeps a connection open without a byte; when it is closed, another one.
async fn say_nothing(address: SocketAddr, open: Arc<AtomicUsize>) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            open.fetch_add(1, Relaxed);
            // Until it is closed.
            drop(stream.read(&mut [0]).await);
            open.fetch_sub(1, Relaxed);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The head of a frame that is to come, with its credentials.
fn head(length: usize, headers: &str) -> Vec<u8> {
    let frame = String::from_utf8(Frame::new("HOSTILE", &[""]).request()).unwrap();
    let (head, _) = frame.split_once("Content-Length: ").unwrap();
    format!("{head}{headers}Content-Length: {length}\r\n\r\n").into_bytes()
}

fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    (0..64).for_each(|_| encoder.write_all(&zeros).unwrap());
    let body = encoder.finish().unwrap();
    [head(body.len(), "Content-Encoding: gzip\r\n"), body].concat()
}

/// One attack, and what it is answered. What fails is the attacker's problem.
async fn attack(kind: Attack, target: &Target, bomb: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = target.connect(kind.is_raw()).await?;
    // What is written a byte at a time, again and again.
    let mut trickle = Vec::new();
    match kind {
        Attack::SlowHead => trickle = b"POST /logs HTTP/1.1\r\nHost: drain\r\nX: ".to_vec(),
        Attack::SlowBody => {
            stream.write_all(&head(100_000, "")).await?;
            trickle = b"x".to_vec();
        }
        Attack::HugeHead => {
            stream.write_all(b"POST /logs HTTP/1.1\r\n").await?;
            let filler = b"X-Filler: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(1000);
            for _ in 0..23 {
                stream.write_all(&filler).await?;
            }
        }
        Attack::Bomb => stream.write_all(bomb).await?,
        Attack::Noise => {
            let noise: Vec<u8> = (0..2000).map(|_| fastrand::u8(..)).collect();
            stream.write_all(&noise).await?;
        }
        Attack::HalfHello => {
            stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await?;
        }
        Attack::HalfClosed => {
            let head = head(5000, "");
            let part = if fastrand::bool() { head.len() } else { head.len() / 2 };
            stream.write_all(&head[..part]).await?;
            stream.flush().await?;
            stream.shutdown().await?;
        }
        Attack::Gone => return Ok(Vec::new()),
    }
    stream.flush().await?;
    let mut answer = vec![0; 256];
    for byte in trickle.iter().cycle().take(if trickle.is_empty() { 0 } else { 200 }) {
        stream.write_all(&[*byte]).await?;
        stream.flush().await?;
        if let Ok(read) = timeout(Duration::from_millis(100), stream.read(&mut answer)).await {
            answer.truncate(read?);
            return Ok(answer);
        }
    }
    let read = timeout(Duration::from_secs(10), stream.read(&mut answer)).await;
    answer.truncate(read.unwrap_or(Ok(0))?);
    Ok(answer)
}
