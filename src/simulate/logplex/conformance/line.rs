//! A connection that shows an answer as it is, not only as a good client understands it.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{timeout, timeout_at};

use super::super::stream::{self, Stream, Tls};
use super::{Found, PATIENCE, Peer};
use crate::clock;

/// The most bytes of an answer that are looked at.
const MAX_ANSWER: usize = 1 << 20;

/// An open connection.
pub(super) struct Line<'a> {
    peer: &'a Peer,
    stream: Stream,
    /// Bytes read and not yet understood.
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Status line and header lines.
    pub(super) head: Vec<String>,
    /// From the end of the request to the end of the answer's head.
    pub(super) after: Duration,
}

impl Reply {
    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .iter()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// `200 in 3 ms`.
    pub(super) fn shown(&self) -> String {
        format!("{} in {} ms", self.status, self.after.as_millis())
    }

    /// Good when the sender takes the frame for delivered.
    pub(super) fn taken(&self) -> Found {
        if (200..300).contains(&self.status) { Ok(self.shown()) } else { Err(self.shown()) }
    }

    /// Good when it is one of these.
    pub(super) fn is(&self, expected: &[u16]) -> Found {
        if expected.contains(&self.status) { Ok(self.shown()) } else { Err(self.shown()) }
    }
}

impl<'a> Line<'a> {
    /// Connects within Logplex's 3 s.
    pub(super) async fn open(peer: &'a Peer) -> Result<Self, String> {
        Self::open_with(peer, peer.tls.as_ref()).await
    }

    /// The same, with this TLS.
    pub(super) async fn open_with(peer: &'a Peer, tls: Option<&Tls>) -> Result<Self, String> {
        let stream = timeout(Duration::from_secs(3), stream::open(peer.target, tls))
            .await
            .map_err(|_| "no connection within 3 s".to_owned())?
            .map_err(|error| format!("no connection: {error}"))?;
        Ok(Self { peer, stream, buffer: Vec::new() })
    }

    /// Writes. A receiver that has answered and closed may not take everything.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = async {
            self.stream.write_all(bytes).await?;
            // TLS may still have some of it.
            self.stream.flush().await
        };
        timeout(PATIENCE, written)
            .await
            .map_err(|_| "it takes no bytes for 5 s".to_owned())?
            .map_err(|error| format!("the connection breaks: {error}"))
    }

    /// Says that nothing more will be written.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        self.stream.shutdown().await.map_err(|error| format!("the connection breaks: {error}"))
    }

    /// Writes a request and reads its answer.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<Reply, String> {
        let start = clock::instant();
        // What was answered before all was written is an answer.
        let written = self.write(request).await;
        self.reply(start).await.map_err(|error| written.err().unwrap_or(error))
    }

    /// The next answer, at most 5 s after `start`. Of its body, as much as `Content-Length` says
    /// is skipped, as Logplex does; a chunked one stays where it is and poisons what follows.
    pub(super) async fn reply(&mut self, start: Instant) -> Result<Reply, String> {
        let end = (start + PATIENCE).into();
        let answer = timeout_at(end, async {
            let reply = self.head(start).await?;
            let length = reply.header("content-length").and_then(|length| length.parse().ok());
            self.skip(length.unwrap_or(0)).await?;
            Ok(reply)
        });
        let reply = answer.await.unwrap_or_else(|_| Err("no answer within 5 s".to_owned()))?;
        self.peer.seen(&reply);
        Ok(reply)
    }

    async fn head(&mut self, start: Instant) -> Result<Reply, String> {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            self.receive().await?;
        };
        let bytes: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
        let head: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
        let first = head.first().map(String::as_str).unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        let Some(status) = status.and_then(|status| status.parse().ok()) else {
            let shown: String = first.chars().take(40).collect();
            return Err(format!("no status line but `{}`", shown.escape_debug()));
        };
        Ok(Reply { status, head, after: start.elapsed() })
    }

    async fn skip(&mut self, mut length: usize) -> Result<(), String> {
        loop {
            let now = length.min(self.buffer.len());
            self.buffer.drain(..now);
            length -= now;
            if length == 0 {
                return Ok(());
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> Result<(), String> {
        if self.buffer.len() > MAX_ANSWER {
            return Err("an answer without end".to_owned());
        }
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err("closed without an answer".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the connection breaks: {error}")),
        }
    }

    /// Whether the receiver closes within this time.
    pub(super) async fn closes(&mut self, within: Duration) -> bool {
        let closed = async { while self.receive().await.is_ok() {} };
        timeout(within, closed).await.is_ok()
    }
}
