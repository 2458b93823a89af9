//! Logplex's HTTP client, with its limits: it understands a status line, headers and
//! `Content-Length`, nothing else. A chunked body is taken for the start of the next answer.

use std::io::{self, IoSlice};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::stream::Stream;

/// The longest head of an answer; a real one has some 200 bytes.
const MAX_HEAD: usize = 64 << 10;

/// Why a try has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the connection was closed")]
    Closed,
    #[error("the answer does not begin with a status line")]
    StatusLine,
    #[error("an answer's header line has no colon, or a wrong length")]
    Header,
    #[error("the answer's head does not end")]
    Endless,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    /// Bytes read and not yet understood.
    buffer: Vec<u8>,
    /// Bytes of the last answer's body that have not been read: they are skipped by the next
    /// request, on its time.
    body_left: u64,
}

impl Wire {
    pub(super) const fn new(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), body_left: 0 }
    }

    /// Skips the last answer's body and writes a request.
    pub(super) async fn send(&mut self, head: &[u8], body: &[u8]) -> Result<(), WireError> {
        while self.body_left > 0 {
            if self.buffer.is_empty() {
                self.receive().await?;
            }
            let skip = usize::try_from(self.body_left).unwrap_or(usize::MAX).min(self.buffer.len());
            self.buffer.drain(..skip);
            self.body_left -= skip as u64;
        }
        let (mut head, mut body) = (head, body);
        while !head.is_empty() {
            let written =
                self.stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]).await?;
            if written == 0 {
                return Err(WireError::Closed);
            }
            let of_head = written.min(head.len());
            head = head.get(of_head..).unwrap_or(&[]);
            body = body.get(written - of_head..).unwrap_or(&[]);
        }
        self.stream.write_all(body).await?;
        // TLS may still have some of it.
        self.stream.flush().await?;
        Ok(())
    }

    /// Reads status line and headers of the next answer; its status.
    pub(super) async fn status(&mut self) -> Result<u16, WireError> {
        let line = self.line().await?;
        let status = status_of(&line).ok_or(WireError::StatusLine)?;
        let mut length = 0;
        let mut head = line.len();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                self.body_left = length;
                return Ok(status);
            }
            head += line.len();
            if head > MAX_HEAD {
                return Err(WireError::Endless);
            }
            let colon = memchr::memchr(b':', &line).ok_or(WireError::Header)?;
            let (name, value) = line.split_at(colon);
            if name.eq_ignore_ascii_case(b"content-length") {
                length = std::str::from_utf8(value)
                    .ok()
                    .and_then(|value| value.trim_start_matches(':').trim().parse().ok())
                    .ok_or(WireError::Header)?;
            }
        }
    }

    /// The next line, without its CR LF.
    async fn line(&mut self) -> Result<Vec<u8>, WireError> {
        let mut searched = 0;
        loop {
            let unseen = self.buffer.get(searched..).unwrap_or(&[]);
            if let Some(at) = memchr::memmem::find(unseen, b"\r\n") {
                let mut line: Vec<u8> = self.buffer.drain(..searched + at + 2).collect();
                line.truncate(searched + at);
                return Ok(line);
            }
            // The CR may be the last byte so far.
            searched = self.buffer.len().saturating_sub(1);
            if searched > MAX_HEAD {
                return Err(WireError::Endless);
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> Result<(), WireError> {
        self.buffer.reserve(4096);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(WireError::Closed),
            _ => Ok(()),
        }
    }
}

/// `HTTP/1.x NNN TEXT`; the space behind the number is required.
fn status_of(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (number, rest) = rest.split_at_checked(3)?;
    if rest.first() != Some(&b' ') || !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        assert_eq!(status_of(b"HTTP/1.1 200 OK"), Some(200));
        assert_eq!(status_of(b"HTTP/1.0 503 "), Some(503));
        for bad in
            ["HTTP/2 200 OK", "HTTP/1.1 200", "HTTP/1.1 2000 OK", "5\r\n", "", "HTTP/1.1 2x0 OK"]
        {
            assert_eq!(status_of(bad.as_bytes()), None, "{bad}");
        }
    }
}
