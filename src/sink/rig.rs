//! What tests of a destination need: its settings, and a collector that a test answers for.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Affinity, Compression, Config, DeadLetters, RawSource, Start};
use crate::delivery::{self, Acknowledgement, BatchLimits, RetryLimits};
use crate::hec::Target;
use crate::hec::mapping::MappingConfig;
use crate::types::{ByteSize, DestinationName, Secret};

pub(super) const TOKEN: &str = "old-token";

/// One collector, and everything quick.
pub(super) fn config(collector: SocketAddr) -> Config {
    Config {
        name: DestinationName::new("splunk").unwrap(),
        endpoints: vec![format!("http://{collector}")],
        token: Secret::new(TOKEN.to_owned()),
        token_file: None,
        trust: None,
        resolve_every: None,
        places: Vec::new(),
        affinity: Affinity::None,
        proxy: None,
        target: Target::Event,
        raw: RawSource::default(),
        compression: Compression::None,
        start: Start::Earliest,
        timeout: Duration::from_secs(30),
        delivery: delivery::Config {
            endpoints: NonZeroUsize::MIN,
            lanes_per_endpoint: NonZeroUsize::MIN,
            max_lanes_per_endpoint: NonZeroUsize::MIN,
            window: NonZeroUsize::new(12).unwrap(),
            batch: BatchLimits {
                max_bytes: ByteSize::bytes(100_000),
                max_events: NonZeroUsize::new(100).unwrap(),
                linger: Duration::from_millis(10),
            },
            acknowledgement: Acknowledgement::Required,
            ack_timeout: Duration::from_mins(5),
            recall: Duration::ZERO,
            longest_poll: Duration::from_secs(10),
            believe_refusals: false,
            retry: RetryLimits {
                initial: Duration::from_millis(20),
                max: Duration::from_millis(100),
                hold: Duration::from_millis(50),
            },
        },
        mapping: MappingConfig::default(),
        dead_letters: DeadLetters { max_size: ByteSize::mib(1), max_age: Duration::from_hours(1) },
        max_event: ByteSize::bytes(10_000),
    }
}

/// A collector: `says` gives the status and the body of the answer to a request, whose head, in
/// small letters, and body it sees. It is dropped when the other side gives up. It listens until the
/// set is dropped.
pub(super) async fn collector<A>(
    says: impl Fn(String) -> A + Clone + Send + 'static,
) -> (SocketAddr, JoinSet<()>)
where
    A: Future<Output = (u16, &'static str)> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut listening = JoinSet::new();
    listening.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, says.clone()));
        }
    });
    (address, listening)
}

async fn serve<A: Future<Output = (u16, &'static str)>>(
    mut stream: TcpStream,
    says: impl Fn(String) -> A,
) {
    while let Some(request) = request(&mut stream).await {
        let mut more = [0];
        let (status, body) = tokio::select! {
            answer = says(request) => answer,
            _ = stream.peek(&mut more) => return,
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} It\r\nContent-Length: {length}\r\n\r\n{body}");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A request that has come whole.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length?.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some(head + &String::from_utf8_lossy(&body))
}

/// What is logged on this thread.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Vec<u8>>>);

impl io::Write for Heard {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Heard {
    /// Warnings and errors, from now on until the guard is dropped.
    pub(super) fn warnings() -> (Self, tracing::subscriber::DefaultGuard) {
        let heard = Self::default();
        let writer = heard.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || writer.clone())
            .finish();
        (heard, tracing::subscriber::set_default(subscriber))
    }

    /// The lines in which these words are.
    pub(super) fn lines(&self, words: &str) -> Vec<String> {
        let all = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        all.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}
