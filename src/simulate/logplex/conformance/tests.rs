//! The suite against a receiver that does one thing wrong at a time. It is a few lines of its own:
//! forebay is tried in `tests/it`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};

use super::*;

/// What a receiver does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Answers 200 chunked.
    Chunked,
    /// 400 when the count is not the number of lines, as a line-based receiver has it.
    Count,
    /// 400 without frame id and drain token.
    Headers,
    /// Closes after every answer, without a word.
    Closes,
    /// 200 for everything.
    TakesAll,
    /// A body of some bytes.
    Talks,
    /// No chunked requests.
    NoChunks,
    /// Forgets a sender that half closes.
    HalfClosed,
    /// A 408 for a body that is slow.
    Impatient,
}

struct Receiver {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Receiver {
    async fn start(wrong: Wrong) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(async move { serve(stream, wrong).await.unwrap_or_default() });
            }
        });
        Self { address, _tasks: tasks }
    }
}

/// One connection. `None` at its end, however it ends.
async fn serve(mut stream: TcpStream, wrong: Wrong) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&buffer, b"\r\n\r\n") {
                break end + 4;
            }
            read(&mut stream, &mut buffer).await?;
        };
        let head = String::from_utf8(buffer.drain(..end).collect()).ok()?;
        let header = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(found, _)| *found == name).map(|(_, value)| value).next()
        };
        if header("Expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        }
        let length = header("Content-Length").unwrap_or("0").parse::<usize>().ok()?;
        let mut status = None;
        if length > 1 << 20 {
            status = Some(413);
        } else if header("Transfer-Encoding").is_some() {
            if wrong == Wrong::NoChunks {
                status = Some(411);
            }
            let end = loop {
                if let Some(end) = memchr::memmem::find(&buffer, b"\r\n0\r\n\r\n") {
                    break end + 7;
                }
                read(&mut stream, &mut buffer).await?;
            };
            buffer.drain(..end);
        } else {
            let start = crate::clock::instant();
            while buffer.len() < length {
                let end = if wrong == Wrong::Impatient { 1200 } else { 60_000 };
                let end = start + Duration::from_millis(end);
                let more = timeout_at(end.into(), read(&mut stream, &mut buffer)).await;
                if let Ok(more) = more {
                    more?;
                } else {
                    let late = b"HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n";
                    stream.write_all(late).await.ok()?;
                    // Closed, it would depend on the kernel whether the sender sees the 408.
                    std::future::pending::<()>().await;
                }
            }
            let body: Vec<u8> = buffer.drain(..length).collect();
            let lines = body.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count();
            if wrong == Wrong::Count && header("Logplex-Msg-Count") != Some(&*lines.to_string()) {
                status = Some(400);
            }
        }
        let known = header("Logplex-Frame-Id").and_then(|_| header("Logplex-Drain-Token"));
        if wrong == Wrong::Headers && known.is_none() {
            status = Some(400);
        }
        let good = header("Authorization") == Some("Basic dXNlcjpwYXNz");
        let refusal = match head.split(' ').take(2).collect::<Vec<_>>()[..] {
            _ if !good => Some(401),
            ["POST", "/logs"] => None,
            ["POST", _] => Some(404),
            _ => Some(405),
        };
        let status = if wrong == Wrong::TakesAll { 200 } else { refusal.or(status).unwrap_or(200) };
        if wrong == Wrong::HalfClosed {
            // As a server that reads on to see whether the client is still there.
            let more = timeout(Duration::from_millis(150), read(&mut stream, &mut buffer));
            if more.await == Ok(None) {
                std::future::pending::<()>().await;
            }
        }
        let rest = if wrong == Wrong::Chunked {
            "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        } else if wrong == Wrong::Talks {
            "Content-Length: 2\r\n\r\nok"
        } else {
            "Content-Length: 0\r\n\r\n"
        };
        let answer = format!("HTTP/1.1 {status} Said\r\n{rest}");
        stream.write_all(answer.as_bytes()).await.ok()?;
        if wrong == Wrong::Closes || header("Connection") == Some("close") || status == 413 {
            return None;
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    (stream.read_buf(buffer).await.ok()? > 0).then_some(())
}

/// The rows that fail with this receiver, without the group.
async fn failing(wrong: Wrong) -> BTreeSet<&'static str> {
    let receiver = Receiver::start(wrong).await;
    let config = LogplexConfig {
        target: receiver.address,
        user: "user".to_owned(),
        password: Secret::new("pass".to_owned()),
        ..LogplexConfig::default()
    };
    let rows = conformance(&config, Duration::from_millis(300)).await.unwrap();
    assert!(rows.iter().all(|row| row.outcome != Outcome::Skipped && !row.cost.is_empty()));
    rows.iter().filter(|row| row.outcome == Outcome::Fail).map(|row| row.check).collect()
}

#[tokio::test]
async fn each_mistake_fails_its_rows_and_no_others() {
    let kept = [
        "a frame id twice, one after the other",
        "a retry with an L10 line in front",
        "ten frames on one connection",
        "two frames in one write",
        "left alone between two frames",
    ];
    let refusals = [
        "a wrong password is 401 or 403",
        "no credentials are 401 or 403",
        "a wrong path is 404",
        "GET is 405",
        "a body of 1 GiB is 413",
    ];
    // An empty line is one line, whoever counts.
    let lines = [
        "L10 without newline, then a line",
        "a newline inside a message",
        "two add-on lines without newline",
        "a count that is too high",
        "a count that is too low",
        "a count that is no number",
        "no count",
        "4xx only for what is refused every time",
    ];
    let mut running = JoinSet::new();
    for (wrong, expected) in [
        (Wrong::Nothing, vec![]),
        (Wrong::Chunked, [&kept[..], &["none is chunked", "each says its length"]].concat()),
        (Wrong::Closes, [&kept[..]].concat()),
        (Wrong::TakesAll, refusals.to_vec()),
        (Wrong::Talks, vec!["a success has no body"]),
        (
            Wrong::NoChunks,
            vec![
                "a chunked batch",
                "a chunked batch in gzip",
                "reports of loss in headers",
                "4xx only for what is refused every time",
            ],
        ),
        (
            Wrong::Headers,
            vec![
                "no frame id",
                "no drain token",
                "an event of Heroku's API",
                "a chunked batch",
                "a chunked batch in gzip",
                "reports of loss in headers",
                "4xx only for what is refused every time",
            ],
        ),
        (Wrong::HalfClosed, vec!["half closed behind the request"]),
        (
            Wrong::Impatient,
            vec!["a body that takes 2 s", "4xx only for what is refused every time"],
        ),
    ] {
        let expected: BTreeSet<_> = expected.into_iter().collect();
        running.spawn(async move { (wrong, failing(wrong).await, expected) });
    }
    for (wrong, found, expected) in running.join_all().await {
        assert_eq!(found, expected, "{wrong:?}");
    }
    // How many lines there are in the other bodies is not the point.
    let found = failing(Wrong::Count).await;
    let missing: Vec<_> = lines.iter().filter(|line| !found.contains(**line)).collect();
    assert!(missing.is_empty(), "{missing:?} of {found:?}");
}

#[tokio::test]
async fn nobody_there_is_no_table() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    drop(listener);
    let config = LogplexConfig { target, ..LogplexConfig::default() };
    let problem = conformance(&config, Duration::ZERO).await.unwrap_err();
    assert!(problem.contains("no connection"), "{problem}");
}
