//! HEC's rules, byte for byte, over a socket.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::*;
use crate::simulate::ledger::Counts;
use crate::types::Secret;

mod balancers;
mod core;
mod every_fault;
mod faults;
mod tls;

const CHANNEL: &str = "0bd84bbd-d4a1-4b1a-b9f1-ee1c6a5b2b8a";
const OTHER_CHANNEL: &str = "1bd84bbd-d4a1-4b1a-b9f1-ee1c6a5b2b8a";
const PATIENCE: Duration = Duration::from_secs(20);
const NOT_FOUND: &str = r#"{"text":"The requested URL was not found on this server.","code":404}"#;

/// A running server, its ledger, and ways to talk to it.
struct World {
    handle: HecHandle,
    ledger: Arc<HecLedger>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

fn token(value: &str, use_ack: bool) -> HecToken {
    HecToken { value: Secret::new(value.to_owned()), use_ack, ..HecToken::default() }
}

/// Tokens: `ack` (acknowledging), `plain` (not), `narrow` (acknowledging, only index `main`),
/// `off` (disabled), `query` (not acknowledging, allowed in the query).
fn config() -> HecConfig {
    HecConfig {
        tokens: vec![
            token("ack", true),
            token("plain", false),
            HecToken { indexes: vec!["main".to_owned()], ..token("narrow", true) },
            HecToken { enabled: false, ..token("off", true) },
            HecToken { allow_query_auth: true, ..token("query", false) },
        ],
        ack: AckMode::AT_ONCE,
        ..HecConfig::default()
    }
}

impl World {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: HecConfig) -> Self {
        let ledger = Arc::new(HecLedger::new(1 << 20, 100));
        let server = HecServer::bind(config, Arc::clone(&ledger)).unwrap();
        let handle = server.handle();
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(shutdown.clone()));
        Self { handle, ledger, shutdown, tasks }
    }

    async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.handle.local_addr()).await.unwrap();
        Client { stream, buffer: Vec::new() }
    }

    /// One request on a new connection.
    async fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect().await;
        client.write(request).await;
        client.answer().await.unwrap()
    }

    /// `/event` on token `ack` and the usual channel.
    async fn event(&self, body: impl AsRef<[u8]>) -> Answer {
        self.send(event(body)).await
    }

    /// `/ack` on token `ack` and a channel; the body of the answer.
    async fn poll(&self, channel: &str, ids: &str) -> String {
        let answer = self.send(poll(channel, ids)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    async fn wait_indexed(&self, events: u64) {
        let mut totals = self.ledger.watch();
        timeout(PATIENCE, totals.wait_for(|t| t.indexed >= events)).await.unwrap().unwrap();
    }

    async fn wait_accepted(&self, events: u64) {
        let mut totals = self.ledger.watch();
        timeout(PATIENCE, totals.wait_for(|t| t.accepted >= events)).await.unwrap().unwrap();
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.tasks.join_next()).await.unwrap().unwrap().unwrap();
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: hec\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    [text.as_bytes(), body].concat()
}

fn post(path: &str, token: &str, channel: Option<&str>, body: impl AsRef<[u8]>) -> Vec<u8> {
    let token = format!("Splunk {token}");
    let mut headers = vec![("Authorization", &*token)];
    headers.extend(channel.map(|channel| ("X-Splunk-Request-Channel", channel)));
    request("POST", path, &headers, body)
}

fn event(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("/services/collector/event", "ack", Some(CHANNEL), body)
}

fn poll(channel: &str, ids: &str) -> Vec<u8> {
    post("/services/collector/ack", "ack", Some(channel), format!("{{\"acks\":[{ids}]}}"))
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// Lower-case names.
    head: String,
    body: String,
}

impl Answer {
    fn is(&self, status: u16, body: &str) -> bool {
        assert_eq!((self.status, &*self.body), (status, body));
        true
    }
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn write(&mut self, request: impl AsRef<[u8]>) {
        self.stream.write_all(request.as_ref()).await.unwrap();
    }

    /// The next answer; `None` when the connection closes before its first byte.
    async fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.parse() {
                return Some(answer);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.unwrap();
            if read.unwrap_or(0) == 0 {
                assert!(self.buffer.is_empty(), "half an answer");
                return None;
            }
        }
    }

    fn parse(&mut self) -> Option<Answer> {
        let text = String::from_utf8(self.buffer.clone()).unwrap();
        let (head, rest) = text.split_once("\r\n\r\n")?;
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let body = rest.get(..length)?.to_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        self.buffer.drain(..head.len() + 4 + length);
        Some(Answer { status, head, body })
    }
}
