//! Bodies. Whatever is in a frame, a receiver that refuses it loses it: Logplex drops a frame that
//! is answered 4xx, puts a report of the loss in front of the next one, and so on.

use super::line::Line;
use super::request::Request;
use super::{FRAME, Found, Peer, Row, row};

/// A message of `app web.1`, with its length.
pub(super) fn message(text: &[u8]) -> Vec<u8> {
    let head = b"<190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - ";
    counted(&[&head[..], text].concat())
}

/// `LEN SP` in front of a message.
fn counted(message: &[u8]) -> Vec<u8> {
    [message.len().to_string().as_bytes(), b" ", message].concat()
}

/// What each body is, how many messages it says it has, and its bytes.
fn bodies() -> Vec<(&'static str, u32, Vec<u8>)> {
    let loss = b"142 <172>1 2014-11-11T08:24:25+00:00 host heroku logplex - Error L10 (output \
                 buffer overflow): 1 messages dropped since 2014-11-07T23:29:45+00:00.93 <45>1 \
                 2014-11-11T08:24:24.064853+00:00 host heroku web.1 - State changed from starting \
                 to up\n";
    let long = [&b"x".repeat(9_998)[..], "🦀".as_bytes(), b"tail\n"].concat();
    let (first, second) = long.split_at(10_000);
    let of = |text: &[u8]| message(text);
    vec![
        ("a line", 1, of(b"hello\n")),
        ("an empty line", 1, of(b"\n")),
        ("empty text", 1, of(b"")),
        (
            "no space behind MSGID",
            1,
            counted(b"<190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 -"),
        ),
        (
            "brackets in text (Postgres)",
            1,
            counted(
                b"<134>1 2026-01-02T03:04:05.000001+00:00 host app postgres.1167776 - [YELLOW] \
                  [13-2]",
            ),
        ),
        ("more bytes than characters", 1, of("héllo\n".as_bytes())),
        ("invalid UTF-8 and NUL", 1, of(b"\xFF\x00\n")),
        ("L10 without newline, then a line", 2, loss.to_vec()),
        ("a newline inside a message", 1, of(b"Traceback:\n  line 1\n42 <190>1 fake\n")),
        ("two add-on lines without newline", 2, [of(b"first"), of(b"second")].concat()),
        ("a line split at 10,000 bytes, in a character", 2, [of(first), of(second)].concat()),
        ("10,000 bytes, its newline alone", 2, [of(&b"x".repeat(10_000)), of(b"\n")].concat()),
        ("a length that is too long", 1, b"999 <190>1 2026-01-02T03:04:05Z host app".to_vec()),
        ("a length that is too short", 2, [&b"20 "[..], &of(b"a\n"), &of(b"b\n")].concat()),
        ("a length of 0", 2, [&b"0 "[..], &of(b"a\n")].concat()),
        ("no framing at all", 1, b"hello world\n".to_vec()),
        ("a time that is none", 1, counted(b"<190>1 2026-13-02T03:04:05Z+00:00 host app w - x\n")),
        ("a frame of 100 KiB", 110, of(&[&b"y".repeat(900)[..], b"\n"].concat()).repeat(110)),
        ("no body and no Content-Length", 0, Vec::new()),
    ]
}

pub(super) async fn checks(peer: &Peer) -> Vec<Row> {
    let mut rows = Vec::new();
    for (check, count, body) in bodies() {
        let found = one(peer, &Request::logplex(peer, count, body)).await;
        rows.push(row("framing", check, FRAME, found));
    }
    let body = || message(b"counted\n");
    for (check, count) in [
        ("a count that is too high", Some("3")),
        ("a count that is too low", Some("0")),
        ("a count that is no number", Some("many")),
        ("no count", None),
    ] {
        let request = Request::logplex(peer, 1, body());
        let request = match count {
            Some(count) => request.with("Logplex-Msg-Count", count),
            None => request.without("Logplex-Msg-Count"),
        };
        rows.push(row("headers", check, FRAME, one(peer, &request).await));
    }
    for (check, missing) in [
        ("no frame id", "Logplex-Frame-Id"),
        ("no drain token", "Logplex-Drain-Token"),
        ("no user agent", "User-Agent"),
    ] {
        let request = Request::logplex(peer, 1, body()).without(missing);
        rows.push(row("headers", check, FRAME, one(peer, &request).await));
    }
    for (check, kind) in [
        ("the other name of the content type", "application/x-logplex-1"),
        ("a content type with charset", "application/logplex-1; charset=utf-8"),
    ] {
        let request = Request::logplex(peer, 1, body()).with("Content-Type", kind);
        rows.push(row("headers", check, FRAME, one(peer, &request).await));
    }
    rows
}

/// One request on a connection of its own, to be taken.
pub(super) async fn one(peer: &Peer, request: &Request) -> Found {
    Line::open(peer).await?.ask(&request.bytes()).await?.taken()
}
