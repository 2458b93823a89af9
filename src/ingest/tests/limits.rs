//! Time and memory have limits, and a stop has an end.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::{BODY, Connections, SHUTTLE, Server, logplex, post, until, usual_live};
use crate::types::ByteSize;

/// Long enough for a loopback exchange on a busy machine, short enough to wait for.
pub(super) const SHORT: Duration = Duration::from_millis(500);

/// All of a request but its end.
fn unfinished(headers: &str) -> Vec<u8> {
    let mut request = post(headers, BODY);
    request.pop();
    request
}

#[tokio::test]
async fn what_is_not_stored_in_time_is_503_and_close_but_for_shuttle_only_close() {
    let server = Server::with(|setup| setup.ingest.ack_deadline = SHORT).await;
    for headers in [logplex("A"), String::new()] {
        let mut client = server.connect().await;
        client.send(unfinished(&headers)).await;
        let answer = client.answer().await;
        assert_eq!(answer.code(), 503);
        assert_eq!(answer.header("Connection"), Some("close"));
        client.closed().await;
    }
    let mut client = server.connect().await;
    client.send(unfinished(SHUTTLE)).await;
    client.closed().await;
    assert!(server.stored().is_empty());
}

#[tokio::test]
async fn a_log_without_room_holds_requests_and_then_closes_the_gate() {
    let server = Server::with(|setup| {
        setup.ingest.ack_deadline = SHORT;
        setup.ingest.hold_after = SHORT / 10;
        setup.ingest.close_after = SHORT * 2;
        setup.wal.min_free = ByteSize::bytes(u64::MAX);
    })
    .await;
    let mut open = server.connect().await;
    assert_eq!(server.handle.status().state, "open");
    let mut held = server.connect().await;
    held.send(post(&logplex("held"), BODY)).await;
    until("it is holding", || server.handle.status().state == "holding").await;
    assert_eq!(held.answer().await.code(), 503);
    let started = crate::clock::instant();
    let answer = server.ask(post(&logplex("A"), BODY)).await;
    assert_eq!(answer.code(), 503);
    assert_eq!(answer.header("Connection"), Some("close"));
    assert!(started.elapsed() >= SHORT, "held for as long as the sender waits");
    // The connection that is open already may still be used, and learns the same.
    open.send(post(SHUTTLE, BODY)).await;
    open.closed().await;
    // New ones are refused when it lasts: that costs no try.
    send_until_closed(&server).await;
    server.until_connections_are(Connections::Refused).await;
    assert_eq!(server.handle.status().state, "closed");
    assert!(server.stored().is_empty());
}

/// Sends a frame again and again, as Logplex does, until the gate closes.
async fn send_until_closed(server: &Server) {
    while server.handle.status().state != "closed" {
        if let Ok(mut stream) = TcpStream::connect(server.address).await {
            drop(stream.write_all(&post(&logplex("again"), BODY)).await);
            drop(stream.read_to_end(&mut Vec::new()).await);
        }
    }
}

#[tokio::test]
async fn a_log_that_has_ended_is_503_at_once_and_closes_the_gate() {
    let server = Server::start().await;
    let mut open = server.connect().await;
    server.end_log();
    assert_eq!(server.ask(post(&logplex("A"), BODY)).await.code(), 503);
    open.send(post(SHUTTLE, BODY)).await;
    open.closed().await;
    server.until_connections_are(Connections::Refused).await;
}

#[tokio::test]
async fn a_body_waits_for_memory_before_it_is_read() {
    let server = Server::with(|setup| {
        // Room for one frame.
        setup.ingest.max_body = ByteSize::bytes(64 * 1024);
        setup.ingest.max_in_flight = ByteSize::bytes(64 * 1024);
    })
    .await;
    let free = server.handler.free_memory();
    let mut first = server.connect().await;
    let large = vec![b'x'; 64 * 1024];
    let request = post(&logplex("first"), &large);
    let (most, rest) = request.split_at(request.len() - 1);
    first.send(most).await;
    until("the first has its memory", || server.handler.free_memory() < free).await;
    let taken = free - server.handler.free_memory();
    assert!(taken >= 128, "twice its 64 KiB, as it came and for the log: {taken} KiB");
    let mut second = server.connect().await;
    second.send(post(&logplex("second"), &large)).await;
    until("the second waits", || server.handler.metrics.in_flight() == 2).await;
    let answered = tokio::time::timeout(SHORT, second.stream.peek(&mut [0])).await;
    assert!(answered.is_err(), "answered although there is no memory for it");
    assert!(server.stored().is_empty());
    first.send(rest).await;
    assert_eq!(first.answer().await.code(), 200);
    assert_eq!(second.answer().await.code(), 200);
    until("all memory is given back", || server.handler.free_memory() == free).await;
}

#[tokio::test]
async fn a_head_has_less_time_than_an_idle_connection() {
    let server = Server::with(|setup| setup.head_timeout = SHORT).await;
    let mut idle = server.connect().await;
    let mut slow = server.connect().await;
    slow.send("POST /logs HTTP/1.1\r\nHost:").await;
    slow.closed().await;
    // Also behind a request that was good.
    let mut slow = server.connect().await;
    slow.send(post(&logplex("A"), BODY)).await;
    assert_eq!(slow.answer().await.code(), 200);
    slow.send("P").await;
    slow.closed().await;
    idle.send(post(&logplex("B"), BODY)).await;
    assert_eq!(idle.answer().await.code(), 200, "idle all the while");
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let server = Server::with(|setup| setup.ingest.idle_timeout = SHORT).await;
    server.connect().await.closed().await;
    let mut client = server.connect().await;
    client.send(post(&logplex("A"), BODY)).await;
    assert_eq!(client.answer().await.code(), 200);
    client.closed().await;
}

/// Who sends nothing that can be accepted keeps no place for as long as who does.
#[tokio::test]
async fn a_connection_that_has_proven_nothing_is_closed_soon() {
    let server = Server::with(|setup| {
        setup.user("heroku", "secret");
        setup.proof = SHORT;
        setup.ingest.max_connections = 4;
    })
    .await;
    let good = post("Authorization: Basic aGVyb2t1OnNlY3JldA==\r\n", BODY);
    let mut sender = server.connect().await;
    sender.send(&good).await;
    assert_eq!(sender.answer().await.code(), 200);

    let mut silent = server.connect().await;
    let mut refused = [server.connect().await, server.connect().await];
    let wrong = String::from_utf8(good.clone()).unwrap().replacen("/logs", "/nowhere", 1);
    for (client, (request, code)) in
        refused.iter_mut().zip([(post("", BODY), 401), (wrong.into_bytes(), 404)])
    {
        client.send(&request).await;
        assert_eq!(client.answer().await.code(), code);
    }
    // All places are taken, and the next one gets one all the same.
    let started = crate::clock::instant();
    assert_eq!(server.ask(&good).await.code(), 200);
    assert!(started.elapsed() < SHORT * 20);
    silent.closed().await;
    for client in &mut refused {
        client.closed().await;
    }
    sender.send(&good).await;
    assert_eq!(sender.answer().await.code(), 200, "it has proven what it is");

    // What it has proven counts for as long as its credentials do.
    let mut live = usual_live();
    live.users = vec![super::server::user("heroku", "changed", super::super::Via::Basic)];
    server.handle.reload(live);
    sender.send(&good).await;
    assert_eq!(sender.answer().await.code(), 401);
    sender.closed().await;
}

/// hyper reads on into the body before it hands over the head: here because the head fills its
/// buffer of 8 KiB to the last byte. What stands in a body is no reason to refuse it.
#[tokio::test]
async fn what_looks_like_a_head_in_a_body_is_no_reason_to_refuse_it() {
    let server = Server::start().await;
    let body = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    let filled = |filler: usize| post(&format!("X: {}\r\n", "y".repeat(filler)), body);
    let filler = 8192 - (filled(0).len() - body.len());
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.send(filled(filler)).await;
        assert_eq!(client.answer().await.code(), 200);
    }
    assert_eq!(server.stored()[1].body, body.as_bytes());
}

/// What is too large is too large for ever: the sender has to hear it, also when it is slow.
#[tokio::test]
async fn a_slow_body_that_is_too_large_is_told_so_and_not_to_come_again() {
    let server = Server::with(|setup| setup.ingest.ack_deadline = SHORT).await;
    let over = 64 * 1024 + 1;
    let head = "POST /logs HTTP/1.1\r\nHost: x\r\n";
    let chunk = format!("{head}Transfer-Encoding: chunked\r\n\r\n{over:x}\r\n{}", "x".repeat(over));
    let declared = format!("{head}Content-Length: {over}\r\n\r\n");
    for unfinished in [chunk, declared] {
        let answer = server.ask(unfinished).await;
        assert_eq!(answer.code(), 413);
    }
}

#[tokio::test]
async fn heads_have_limits() {
    let server = Server::start().await;
    let many = "X: y\r\n".repeat(64);
    let long = format!("X: {}\r\n", "y".repeat(16 * 1024));
    let good = format!("X: {}\r\n", "y".repeat(15 * 1024));
    assert_eq!(server.ask(post(&good, BODY)).await.code(), 200);
    for headers in [many, long] {
        let answer = server.ask(post(&headers, BODY)).await;
        assert_eq!(answer.code(), 431);
    }
    assert_eq!(server.ask("rubbish\r\n\r\n").await.code(), 400);
    assert_eq!(server.stored().len(), 1);
}

#[tokio::test]
async fn a_stop_answers_what_is_in_flight_and_closes_what_is_idle() {
    let mut server = Server::start().await;
    let mut idle = server.connect().await;
    idle.send(post(&logplex("A"), BODY)).await;
    assert_eq!(idle.answer().await.code(), 200);
    let mut busy = server.connect().await;
    let request = post(&logplex("B"), BODY);
    let (most, rest) = request.split_at(request.len() - 1);
    busy.send(most).await;
    until("the request is in flight", || server.handler.metrics.in_flight() == 1).await;

    server.begin_stop();
    idle.closed().await;
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
    busy.send(rest).await;
    let answer = busy.answer().await;
    assert_eq!(answer.code(), 200);
    assert_eq!(answer.header("Connection"), Some("close"));
    busy.closed().await;
    server.stopped().await;
    assert_eq!(server.stored().len(), 2);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_request_that_does_not_end() {
    let mut server = Server::with(|setup| setup.ingest.ack_deadline = SHORT).await;
    let mut busy = server.connect().await;
    busy.send(unfinished(&logplex("A"))).await;
    until("the request is in flight", || server.handler.metrics.in_flight() == 1).await;
    server.begin_stop();
    server.stopped().await;
    let mut rest = Vec::new();
    let end = busy.stream.read_to_end(&mut rest).await;
    assert!(rest.starts_with(b"HTTP/1.1 503"), "{end:?} {}", rest.escape_ascii());
}

#[tokio::test]
async fn the_gate_opens_when_the_log_has_space() {
    let server = Server::start().await;
    let gate = &server.handler.gate;
    let now = crate::clock::instant();
    let waiting = gate.waits();
    gate.look(now);
    gate.look(now + server.handler.config.hold_after + server.handler.config.close_after);
    server.until_connections_are(Connections::Refused).await;
    drop(waiting);
    server.until_connections_are(Connections::Accepted).await;
    assert_eq!(server.ask(post(&logplex("A"), BODY)).await.code(), 200);
}

/// However long the log has no space, there is one question at a time whether it is well.
#[tokio::test]
async fn a_log_that_does_not_answer_is_asked_once() {
    let server = Server::with(|setup| {
        setup.ingest.ack_deadline = SHORT;
        setup.ingest.hold_after = SHORT / 10;
        setup.ingest.close_after = SHORT / 10;
        setup.wal.min_free = ByteSize::bytes(u64::MAX);
    })
    .await;
    send_until_closed(&server).await;
    let asked = || server.handler.asked.load(std::sync::atomic::Ordering::Relaxed);
    until("it asks", || asked() > 0).await;
    for _ in 0..20 {
        assert!(server.handle.is_alive().await, "another turn of the loop");
    }
    assert_eq!(server.handle.status().state, "closed");
    assert_eq!(asked(), 1);
}

/// Two lengths are how a request is smuggled past a proxy.
#[tokio::test]
async fn a_request_with_two_lengths_is_refused() {
    let server = Server::start().await;
    let chunked = "Transfer-Encoding: chunked\r\n";
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\ncontent-length: 5\r\n",
    ] {
        let request =
            format!("POST /logs HTTP/1.1\r\nHost: x\r\n{headers}\r\n3\r\nabc\r\n0\r\n\r\n");
        // In one piece and byte by byte.
        for size in [request.len(), 1] {
            let mut client = server.connect().await;
            for piece in request.as_bytes().chunks(size) {
                client.send(piece).await;
            }
            let answer = client.answer().await;
            assert_eq!(answer.code(), 400, "{headers}");
            assert_eq!(answer.header("Connection"), Some("close"));
            client.closed().await;
        }
    }
    for (headers, code) in [
        (format!("{chunked}{chunked}"), 200),
        ("Content-Length: 5\r\nContent-Length: 6\r\n".to_owned(), 400),
        ("Transfer-Encoding: gzip\r\n".to_owned(), 400),
        ("Content-Length: -1\r\n".to_owned(), 400),
        ("Content-Length: 5, 5\r\n".to_owned(), 400),
    ] {
        let request =
            format!("POST /logs HTTP/1.1\r\nHost: x\r\n{headers}\r\n3\r\nabc\r\n0\r\n\r\n");
        assert_eq!(server.ask(request).await.code(), code, "{headers}");
    }
    assert_eq!(server.stored().len(), 1);
}

/// One byte at a time, in every place where a byte may be awaited.
#[tokio::test]
async fn a_slow_sender_is_cut_off_wherever_it_is_slow() {
    let server = Server::with(|setup| {
        setup.head_timeout = SHORT;
        setup.ingest.ack_deadline = SHORT;
    })
    .await;
    let head = "POST /logs HTTP/1.1\r\nHost: x\r\n";
    for (begin, more) in [
        (String::new(), "\r\n"),
        ("POST /".to_owned(), "x"),
        (head.to_owned(), "X-A: b\r\n"),
        (format!("{head}X: "), "y"),
        (format!("{head}Content-Length: 60000\r\n\r\n"), "z"),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n"), "1\r\nz\r\n"),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n"), "0"),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n"), "T: t\r\n"),
        ("GET /logs HTTP/1.1\r\nContent-Length: 60000\r\n\r\n".to_owned(), "z"),
    ] {
        let mut client = server.connect().await;
        client.send(&begin).await;
        let (mut read, mut write) = client.stream.split();
        let trickle = async {
            // Until the other end is gone.
            while write.write_all(more.as_bytes()).await.is_ok() {
                tokio::time::sleep(SHORT / 50).await;
            }
        };
        let mut answer = Vec::new();
        let end = async { drop(read.read_to_end(&mut answer).await) };
        let cut_off = async {
            tokio::select! { () = trickle => {} () = end => {} }
        };
        tokio::time::timeout(SHORT * 20, cut_off).await.unwrap_or_else(|_| panic!("{begin:?}"));
        let answer = String::from_utf8(answer).unwrap();
        let fine = ["HTTP/1.1 503", "HTTP/1.1 400", "HTTP/1.1 405", "HTTP/1.1 431"];
        let fine = answer.is_empty() || fine.iter().any(|fine| answer.starts_with(fine));
        assert!(fine, "{begin:?}: {answer}");
    }
    assert!(server.stored().is_empty());
    until("every connection is closed", || server.handle.status().connections == 0).await;
}
