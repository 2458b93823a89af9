//! Time, memory and connections have limits, and a stop has an end.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::server::{BODY, Connections, SHUTTLE, Server, logplex, post, until};
use crate::types::ByteSize;

/// Long enough for a loopback exchange on a busy machine, short enough to wait for.
const SHORT: Duration = Duration::from_millis(500);

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
        setup.wal.min_free = ByteSize::bytes(u64::MAX);
    })
    .await;
    let mut open = server.connect().await;
    let started = crate::clock::instant();
    let answer = server.ask(post(&logplex("A"), BODY)).await;
    assert_eq!(answer.code(), 503);
    assert_eq!(answer.header("Connection"), Some("close"));
    assert!(started.elapsed() >= SHORT, "held for as long as the sender waits");
    // The connection that is open already may still be used, and learns the same.
    open.send(post(SHUTTLE, BODY)).await;
    open.closed().await;
    // New ones are refused: that costs no try.
    server.until_connections_are(Connections::Refused).await;
    assert!(server.stored().is_empty());
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
    let mut second = server.connect().await;
    second.send(post(&logplex("second"), &large)).await;
    until("the second waits", || server.handler.metrics.in_flight() == 2).await;
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

#[tokio::test]
async fn heads_have_limits() {
    let server = Server::start().await;
    let many = "X: y\r\n".repeat(64);
    let long = format!("X: {}\r\n", "y".repeat(8 * 1024));
    for headers in [many, long] {
        let answer = server.ask(post(&headers, BODY)).await;
        assert_eq!(answer.code(), 431);
    }
    assert_eq!(server.ask("rubbish\r\n\r\n").await.code(), 400);
    assert!(server.stored().is_empty());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let server = Server::with(|setup| setup.ingest.max_connections = 1).await;
    let mut first = server.connect().await;
    first.send(post(&logplex("A"), BODY)).await;
    assert_eq!(first.answer().await.code(), 200);
    let mut second = server.connect().await;
    second.send(post(&logplex("B"), BODY)).await;
    first.send(post(&logplex("C"), BODY)).await;
    assert_eq!(first.answer().await.code(), 200);
    drop(first);
    assert_eq!(second.answer().await.code(), 200);
    let ids: Vec<_> = server.stored().into_iter().filter_map(|frame| frame.frame_id).collect();
    assert_eq!(ids, ["A", "C", "B"]);
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
    let now = crate::clock::instant();
    server.handler.gate.refused(now);
    server.handler.gate.refused(now + server.handler.config.ack_deadline);
    server.until_connections_are(Connections::Refused).await;
    server.until_connections_are(Connections::Accepted).await;
    assert_eq!(server.ask(post(&logplex("A"), BODY)).await.code(), 200);
}
