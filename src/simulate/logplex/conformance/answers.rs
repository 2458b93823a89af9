//! The form of answers, and the few that may refuse.

use super::bodies::message;
use super::line::{Line, Reply};
use super::request::Request;
use super::{FRAME, Found, PATIENCE, Peer, Row, TRY, row, skipped};

/// A refusal that nobody sees as one.
const UNSEEN: &str = "all frames of a drain that is set up wrongly, and nobody is told";

/// What chunked answers cost (cowboy_client.erl knows no chunks).
const CHUNKED: &str = "one try of every next frame, which is then stored twice";

/// What a body costs.
const BODY: &str = "a part of the next frame's 5 s, in which the body is skipped";

/// The statuses a refusal may have.
const REFUSALS: [u16; 7] = [401, 403, 404, 405, 413, 414, 415];

pub(super) async fn refusals(peer: &Peer) -> Vec<Row> {
    let frame = || Request::logplex(peer, 1, message(b"refused\n"));
    let mut rows = Vec::new();
    let check = "a wrong password is 401 or 403";
    if peer.user.is_empty() {
        rows.push(skipped("refusals", check, "the URL has no credentials"));
    } else {
        let mut request = frame();
        request.password(&peer.user, "not-the-password");
        rows.push(row("refusals", check, UNSEEN, refused(peer, &request, &[401, 403]).await));
        let request = frame().without("Authorization");
        let found = refused(peer, &request, &[401, 403]).await;
        rows.push(row("refusals", "no credentials are 401 or 403", UNSEEN, found));
    }
    let mut request = frame();
    "/there-is-no-such-drain".clone_into(&mut request.path);
    let found = refused(peer, &request, &[404]).await;
    rows.push(row("refusals", "a wrong path is 404", UNSEEN, found));
    let mut request = frame().with_body(Vec::new());
    request.method = "GET";
    let found = refused(peer, &request, &[405]).await;
    rows.push(row("refusals", "GET is 405", UNSEEN, found));
    let request = frame().with_body(Vec::new()).with("Content-Length", "1073741824");
    let found = refused(peer, &request, &[413]).await;
    rows.push(row("refusals", "a body of 1 GiB is 413", TRY, found));
    rows
}

async fn refused(peer: &Peer, request: &Request, expected: &[u16]) -> Found {
    Line::open(peer).await?.ask(&request.bytes()).await?.is(expected)
}

/// What holds of every answer that came in this run.
pub(super) fn form(peer: &Peer) -> Vec<Row> {
    let replies = peer.replies();
    // A 100 is no answer, and asked for.
    let replies: Vec<&Reply> = replies.iter().filter(|reply| reply.status != 100).collect();
    let chunked = |reply: &Reply| reply.header("transfer-encoding").is_some();
    let length = |reply: &Reply| reply.status == 204 || reply.header("content-length").is_some();
    let success = |reply: &Reply| (200..300).contains(&reply.status);
    let empty = |reply: &Reply| {
        !success(reply) || reply.header("content-length").is_none_or(|length| length == "0")
    };
    let plain = |reply: &Reply| {
        let mut lines = reply.head.iter();
        let status = lines.next().is_some_and(|line| line.get(12..13) == Some(" "));
        status && lines.all(|line| line.contains(':') && !line.starts_with([' ', '\t']))
    };
    let allowed =
        |reply: &Reply| !(400..500).contains(&reply.status) || REFUSALS.contains(&reply.status);
    let all = |good: &dyn Fn(&Reply) -> bool| match replies.iter().find(|reply| !good(reply)) {
        None => Ok(format!("{} answers", replies.len())),
        Some(bad) => Err(bad.head.join(" | ").chars().take(120).collect()),
    };
    let slowest = replies.iter().map(|reply| reply.after).max().unwrap_or_default();
    let in_time = if slowest < PATIENCE {
        Ok(format!("the slowest took {} ms", slowest.as_millis()))
    } else {
        Err(format!("the slowest took {} ms", slowest.as_millis()))
    };
    vec![
        row("answers", "none is chunked", CHUNKED, all(&|reply| !chunked(reply))),
        row("answers", "each says its length", CHUNKED, all(&length)),
        row("answers", "a success has no body", BODY, all(&empty)),
        row("answers", "status and header lines that Logplex reads", TRY, all(&plain)),
        row("answers", "4xx only for what is refused every time", FRAME, all(&allowed)),
        row("answers", "each within 5 s", TRY, in_time),
    ]
}
