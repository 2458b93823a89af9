//! HTTP by hand: requests are bytes, answers are read up to their `Content-Length`.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{PASSWORD, SOON, USER};

/// A connection.
#[derive(Debug)]
pub(crate) struct Client(TcpStream);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim_ascii())
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next answer; none when the connection is closed or reset before its first byte.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        self.answer_within(SOON).await
    }

    /// The same, from somebody who may take longer.
    pub(crate) async fn answer_within(&mut self, time: Duration) -> Option<Answer> {
        timeout(time, self.read_answer()).await.expect("an answer, or the end of the connection")
    }

    async fn read_answer(&mut self) -> Option<Answer> {
        let mut bytes = Vec::new();
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                let mut answer = Answer { status, head, body: String::new() };
                let length = answer.header("content-length").expect("a Content-Length");
                let length: usize = length.parse().unwrap();
                let mut body = bytes.split_off(end + 4);
                while body.len() < length {
                    assert_ne!(self.0.read_buf(&mut body).await.unwrap(), 0, "the body is whole");
                }
                assert_eq!(body.len(), length, "nothing comes behind the body");
                answer.body = String::from_utf8(body).unwrap();
                return Some(answer);
            }
            if self.0.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                assert!(bytes.is_empty(), "broken off: {}", String::from_utf8_lossy(&bytes));
                return None;
            }
        }
    }

    /// Whether nothing comes for this long: neither a byte nor the end.
    pub(crate) async fn is_silent(&self, time: Duration) -> bool {
        timeout(time, self.0.peek(&mut [0])).await.is_err()
    }

    /// Sends a frame and returns the status.
    pub(crate) async fn post(&mut self, frame: &Frame) -> u16 {
        self.send(&frame.request()).await;
        self.answer().await.expect("an answer").status
    }
}

/// `GET`, on a connection of its own; none when there is nobody.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Option<Answer> {
    let mut client = Client(TcpStream::connect(address).await.ok()?);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client.0.write_all(request.as_bytes()).await.ok()?;
    client.answer().await
}

/// A frame, with the headers a test wants to choose.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) drain: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) count: Option<String>,
    /// Further header lines, each with its CR LF.
    pub(crate) headers: String,
    pub(crate) query: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// Messages of `app web.1`, one a text, as Logplex would frame them.
    pub(crate) fn new(id: &str, texts: &[&str]) -> Self {
        let body = texts.iter().flat_map(|text| Self::message(text.as_bytes())).collect();
        Self { count: Some(texts.len().to_string()), ..Self::of(id, body) }
    }

    /// Any body.
    pub(crate) fn of(id: &str, body: Vec<u8>) -> Self {
        Self {
            drain: Some("d.fc6b856b-3332-4546-93de-7d0ee272c3bd".to_owned()),
            id: Some(id.to_owned()),
            count: Some("1".to_owned()),
            headers: String::new(),
            query: "",
            body,
        }
    }

    /// A batch of log-shuttle, which tells itself by its agent and its request id.
    pub(crate) fn shuttle(request: &str, text: &str) -> Self {
        let headers = format!(
            "User-Agent: log-shuttle/0.22.1 (go1.22; linux; amd64; gc)\r\nX-Request-Id: {request}\r\n"
        );
        Self { drain: None, id: None, headers, ..Self::new("", &[text]) }
    }

    /// A message, its length and its newline.
    pub(crate) fn message(text: &[u8]) -> Vec<u8> {
        let head = b"<190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - ";
        let length = (head.len() + text.len() + 1).to_string();
        [length.as_bytes(), b" ", head, text, b"\n"].concat()
    }

    /// The bytes of the request.
    pub(crate) fn request(&self) -> Vec<u8> {
        let line = |name: &str, value: &Option<String>| {
            value.as_ref().map_or_else(String::new, |value| format!("{name}: {value}\r\n"))
        };
        let credentials =
            base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let head = [
            &format!("POST /logs{} HTTP/1.1\r\nHost: drain\r\n", self.query),
            &format!("Authorization: Basic {credentials}\r\n"),
            "Content-Type: application/logplex-1\r\n",
            &line("Logplex-Msg-Count", &self.count),
            &line("Logplex-Frame-Id", &self.id),
            &line("Logplex-Drain-Token", &self.drain),
            &self.headers,
            &format!("Content-Length: {}\r\n\r\n", self.body.len()),
        ]
        .concat();
        [head.as_bytes(), &self.body].concat()
    }
}
