//! Connections: kept, left alone, slow, cut into pieces, half closed.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::super::stream::Tls;
use super::bodies::message;
use super::line::Line;
use super::request::Request;
use super::{FRAME, Found, PATIENCE, Peer, Row, TRY, row};
use crate::clock;

pub(super) async fn checks(peer: &Peer) -> Vec<Row> {
    vec![
        row("connection", "ten frames on one connection", TRY, kept(peer).await),
        row("connection", "Expect: 100-continue", FRAME, expect(peer).await),
        row("connection", "two frames in one write", TRY, pipelined(peer).await),
        row("connection", "a body that takes 2 s", TRY, slow(peer).await),
        row("connection", "a head in pieces of 7 bytes", TRY, pieces(peer).await),
        row("connection", "half closed behind the request", TRY, half_closed(peer).await),
        row("connection", "broken off in the body, then sent whole", FRAME, broken(peer).await),
    ]
}

/// Both versions of TLS, each with the suites that Heroku's senders have.
pub(super) async fn versions(peer: &Peer) -> Vec<Row> {
    if peer.tls.is_none() {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for (check, version) in [
        ("TLS 1.2 with AES-128", &rustls::version::TLS12),
        ("TLS 1.3 with AES-128", &rustls::version::TLS13),
    ] {
        rows.push(row("tls", check, FRAMES, one_version(peer, version).await));
    }
    rows
}

async fn one_version(peer: &Peer, version: &'static rustls::SupportedProtocolVersion) -> Found {
    let tls = Tls::new(&peer.host, &[version]).map_err(|error| error.to_string())?;
    let mut line = Line::open_with(peer, Some(&tls)).await?;
    line.ask(&frame(peer).bytes()).await?.taken()
}

fn frame(peer: &Peer) -> Request {
    Request::logplex(peer, 1, message(b"connected\n"))
}

/// What a sender that gets no connection loses.
const FRAMES: &str = "everything beyond its buffer of 1024 messages";

/// Logplex closes after 144 s to 159 s, and does not notice when the receiver closes before.
pub(super) async fn idle(peer: &Peer, time: Duration) -> Row {
    let found = async {
        let mut line = Line::open(peer).await?;
        line.ask(&frame(peer).bytes()).await?.taken()?;
        sleep(time).await;
        let found = line.ask(&frame(peer).bytes()).await?.taken()?;
        Ok(format!("{found}, after {} s; Logplex waits for up to 159 s", time.as_secs()))
    };
    row("connection", "left alone between two frames", TRY, found.await)
}

async fn kept(peer: &Peer) -> Found {
    let mut line = Line::open(peer).await?;
    for number in 1..=10 {
        let reply = line.ask(&frame(peer).bytes()).await;
        let found = reply.and_then(|reply| reply.taken());
        found.map_err(|found| format!("frame {number}: {found}"))?;
    }
    Ok("ten answers".to_owned())
}

/// curl waits a second for the 100, and sends the body without it.
async fn expect(peer: &Peer) -> Found {
    let request = frame(peer).with("Expect", "100-continue");
    let mut line = Line::open(peer).await?;
    line.write(&request.head()).await?;
    let early = timeout(Duration::from_secs(1), line.reply(clock::instant())).await;
    let said = match early {
        Ok(reply) => {
            let reply = reply?;
            if reply.status != 100 {
                return Err(format!("{} before the body", reply.shown()));
            }
            "after a 100"
        }
        Err(_) => "without a 100",
    };
    let found = line.ask(&request.body()).await?.taken()?;
    Ok(format!("{found}, {said}"))
}

async fn pipelined(peer: &Peer) -> Found {
    let mut line = Line::open(peer).await?;
    let both = [frame(peer).bytes(), frame(peer).bytes()].concat();
    line.ask(&both).await?.taken()?;
    line.reply(clock::instant()).await?.taken()
}

async fn slow(peer: &Peer) -> Found {
    let request = frame(peer);
    let body = request.body();
    let mut line = Line::open(peer).await?;
    line.write(&request.head()).await?;
    for piece in body.chunks(body.len().div_ceil(8).max(1)) {
        sleep(Duration::from_millis(250)).await;
        line.write(piece).await?;
    }
    line.reply(clock::instant()).await?.taken()
}

async fn pieces(peer: &Peer) -> Found {
    let request = frame(peer).bytes();
    let mut line = Line::open(peer).await?;
    for piece in request.chunks(7) {
        line.write(piece).await?;
        tokio::task::yield_now().await;
    }
    line.reply(clock::instant()).await?.taken()
}

/// None of Heroku's senders does this, but what stands between may. An answer is best; a close is
/// what the sender understands at once. To be left waiting costs it 5 s, and nothing says so.
async fn half_closed(peer: &Peer) -> Found {
    let mut line = Line::open(peer).await?;
    line.write(&frame(peer).bytes()).await?;
    line.end().await?;
    let start = clock::instant();
    match line.reply(start).await {
        Ok(reply) => reply.taken(),
        Err(problem) if start.elapsed() < PATIENCE => Ok(problem),
        Err(problem) => Err(problem),
    }
}

async fn broken(peer: &Peer) -> Found {
    let request = frame(peer);
    let body = request.body();
    let mut line = Line::open(peer).await?;
    line.write(&request.head()).await?;
    line.write(body.get(..body.len() / 2).unwrap_or_default()).await?;
    drop(line);
    Line::open(peer).await?.ask(&request.bytes()).await?.taken()
}
