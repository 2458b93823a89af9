//! Clients that are not Logplex, and frames that come twice.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::bodies::{message, one};
use super::line::Line;
use super::request::Request;
use super::{FRAME, Found, Peer, Row, TRY, row};

/// log-shuttle takes every status for success, so whatever is not stored is lost in silence.
const SHUTTLE: &str = "the batch, in silence: log-shuttle takes every status for success";

pub(super) async fn checks(peer: &Peer) -> Vec<Row> {
    let line = || {
        let message = b"<190>1 2026-01-02T03:04:05.000001+00:00 shuttle token shuttle - - Hello\n";
        [format!("{} ", message.len()).as_bytes(), message].concat()
    };
    let mut rows = Vec::new();
    let plain = Request::shuttle(peer, line());
    rows.push(row("shuttle", "a chunked batch", SHUTTLE, one(peer, &plain).await));
    let found = match gzip(&line()) {
        Ok(packed) => {
            let request = Request::shuttle(peer, packed).with("Content-Encoding", "gzip");
            one(peer, &request).await
        }
        Err(error) => Err(error.to_string()),
    };
    rows.push(row("shuttle", "a chunked batch in gzip", SHUTTLE, found));
    let request = Request::shuttle(peer, line())
        .with("Logplex-Drop-Count", "3")
        .with("Logplex-Lost-Count", "2");
    rows.push(row("shuttle", "reports of loss in headers", SHUTTLE, one(peer, &request).await));
    rows.push(row("poster", "an event of Heroku's API", FRAME, poster(peer).await));
    rows.push(row("again", "a frame id twice, one after the other", FRAME, again(peer).await));
    rows.push(row("again", "a frame id twice, at once", TRY, at_once(peer).await));
    rows.push(row("again", "a frame whose answer nobody read", FRAME, unread(peer).await));
    rows.push(row("again", "a retry with an L10 line in front", FRAME, with_report(peer).await));
    rows
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// excon asks for the connection to be closed, and waits for that.
async fn poster(peer: &Peer) -> Found {
    let mut line = Line::open(peer).await?;
    let reply = line.ask(&Request::poster(peer, message(b"event\n")).bytes()).await?;
    let found = reply.taken()?;
    if line.closes(super::PATIENCE).await {
        Ok(format!("{found}, then closed"))
    } else {
        Err(format!("{found}, and not closed as was asked"))
    }
}

async fn again(peer: &Peer) -> Found {
    let request = Request::logplex(peer, 1, message(b"twice\n")).bytes();
    let mut line = Line::open(peer).await?;
    line.ask(&request).await?.taken()?;
    line.ask(&request).await?.taken()
}

async fn at_once(peer: &Peer) -> Found {
    let request = Request::logplex(peer, 1, message(b"at once\n")).bytes();
    let (mut one, mut two) = (Line::open(peer).await?, Line::open(peer).await?);
    let (first, second) = tokio::join!(one.ask(&request), two.ask(&request));
    first?.taken()?;
    second?.taken()
}

/// The sender gives up, or dies, before the answer; the next one sends the same again.
async fn unread(peer: &Peer) -> Found {
    let request = Request::logplex(peer, 1, message(b"unread\n")).bytes();
    let mut line = Line::open(peer).await?;
    line.write(&request).await?;
    drop(line);
    Line::open(peer).await?.ask(&request).await?.taken()
}

/// The id is the same, the body is not: there was loss meanwhile.
async fn with_report(peer: &Peer) -> Found {
    let request = Request::logplex(peer, 1, message(b"reported\n"));
    let mut line = Line::open(peer).await?;
    line.ask(&request.bytes()).await?.taken()?;
    let report =
        b"<172>1 2026-01-02T03:04:05.000001+00:00 host heroku logplex - Error L10 (output \
                   buffer overflow): 1 messages dropped since 2026-01-02T03:04:04.000001+00:00.";
    let report = [format!("{} ", report.len()).as_bytes(), &report[..]].concat();
    let retry =
        request.with("Logplex-Msg-Count", "2").with_body([report, message(b"reported\n")].concat());
    line.ask(&retry.bytes()).await?.taken()
}
