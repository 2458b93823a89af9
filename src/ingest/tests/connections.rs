//! Who may connect, how often and on whose word, and how a connection ends.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::limits::SHORT;
use super::server::{BODY, Server, logplex, post, until, usual_live};
use crate::types::ByteSize;

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
async fn an_address_has_so_many_connections_and_no_more() {
    let server = Server::with(|setup| setup.ingest.max_connections_per_address = 2).await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    for client in [&mut first, &mut second] {
        client.send(post("", BODY)).await;
        assert_eq!(client.answer().await.code(), 200);
    }
    server.connect().await.closed().await;
    drop(first);
    until("a place is free", || server.handle.status().connections == 1).await;
    assert_eq!(server.ask(post("", BODY)).await.code(), 200);
}

#[tokio::test]
async fn only_allowed_addresses_may_connect() {
    let server =
        Server::with(|setup| setup.ingest.live.allow = Some(vec!["10.0.0.0/8".parse().unwrap()]))
            .await;
    server.connect().await.closed().await;
    let mut live = usual_live();
    live.allow = Some(vec!["127.0.0.0/8".parse().unwrap()]);
    server.handle.reload(live);
    assert_eq!(server.ask(post("", BODY)).await.code(), 200);
}

/// A proxy is believed only from where the configuration says, and there it has to speak.
#[tokio::test]
async fn a_trusted_proxy_says_for_whom_it_connects() {
    let server = Server::with(|setup| {
        setup.ingest.live.proxies = vec!["127.0.0.1/32".parse().unwrap()];
        setup.ingest.live.allow = Some(vec!["203.0.113.0/24".parse().unwrap()]);
        setup.handshake = SHORT;
    })
    .await;
    let header = super::super::proxy::tests::header;
    let with = |source: &str| [header(source), post("", BODY)].concat();
    assert_eq!(server.ask(with("203.0.113.9")).await.code(), 200);
    assert_eq!(server.stored()[0].peer, "203.0.113.9");
    for bad in [with("198.51.100.1"), post("", BODY), header("203.0.113.9")[..20].to_vec()] {
        let mut client = server.connect().await;
        client.send(bad).await;
        client.closed().await;
    }
    server.handle.reload(usual_live());
    assert_eq!(server.ask(post("", BODY)).await.code(), 200);
    assert_eq!(server.ask(with("203.0.113.9")).await.code(), 400, "nobody's word is taken");
    assert_eq!(server.stored().len(), 2);
}

/// Whoever is not among the trusted proxies speaks for itself, and a PROXY header is no HTTP.
#[tokio::test]
async fn a_proxy_that_nobody_trusts_is_not_believed() {
    let server =
        Server::with(|setup| setup.ingest.live.proxies = vec!["10.0.0.0/8".parse().unwrap()]).await;
    assert_eq!(server.ask(post("", BODY)).await.code(), 200);
    assert_eq!(server.stored()[0].peer, "127.0.0.1");
    let header = super::super::proxy::tests::header("203.0.113.9");
    assert_eq!(server.ask([header, post("", BODY)].concat()).await.code(), 400);
    assert_eq!(server.stored().len(), 1);
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed_unless_it_asks_otherwise() {
    let server = Server::start().await;
    for (headers, stays) in [("", false), ("Connection: keep-alive\r\n", true)] {
        let request = String::from_utf8(post(headers, BODY)).unwrap();
        let request = request.replacen("HTTP/1.1", "HTTP/1.0", 1);
        let mut client = server.connect().await;
        client.send(&request).await;
        assert_eq!(client.answer().await.code(), 200);
        if stays {
            client.send(&request).await;
            assert_eq!(client.answer().await.code(), 200);
        } else {
            client.closed().await;
        }
    }
    assert_eq!(server.stored().len(), 3);
}

/// Who has sent all it will send still wants its answer, also when that takes a while.
#[tokio::test]
async fn a_sender_that_half_closes_gets_its_answer() {
    let server = Server::with(|setup| {
        // Room for one frame.
        setup.ingest.max_body = ByteSize::bytes(64 * 1024);
        setup.ingest.max_in_flight = ByteSize::bytes(64 * 1024);
    })
    .await;
    let large = vec![b'x'; 64 * 1024];
    let frame = post(&logplex("first"), &large);
    let upload = {
        let head = "POST /logs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n";
        [head.as_bytes(), &large, b"\r\n0\r\n\r\n"].concat()
    };
    let chunked = |headers: &str| {
        let head = "POST /logs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n";
        format!("{head}{headers}\r\n3\r\nabc\r\n0\r\n\r\n").into_bytes()
    };
    let pipelined = [post(&logplex("B"), BODY), post(&logplex("C"), BODY)].concat();
    let free = server.handler.free_memory();
    let shuttle = chunked("X-Request-Id: D\r\nUser-Agent: log-shuttle/0.22\r\n");
    for (first_request, request, answers) in [
        (&frame, post(&logplex("A"), BODY), vec![200]),
        (&frame, pipelined, vec![200, 200]),
        (&upload, chunked(""), vec![200]),
        (&upload, shuttle, vec![200]),
    ] {
        // Another one has all the memory for such bodies, and waits for its own sender.
        until("all memory is there", || server.handler.free_memory() == free).await;
        let mut first = server.connect().await;
        let (most, rest) = first_request.split_at(first_request.len() - 1);
        first.send(most).await;
        until("the first has its memory", || free - server.handler.free_memory() >= 129).await;
        let mut half = server.connect().await;
        half.send(&request).await;
        half.stream.shutdown().await.unwrap();
        until("it is in flight", || server.handler.metrics.in_flight() == 2).await;
        first.send(rest).await;
        assert_eq!(first.answer().await.code(), 200);
        for code in answers {
            assert_eq!(half.answer().await.code(), code);
        }
        half.closed().await;
    }
}

/// Half a request and the end of the sending side is no request, and is not waited for: not for as
/// long as an idle connection, nor as a slow one.
#[tokio::test]
async fn half_a_request_and_its_end_is_over_at_once() {
    let server = Server::with(|setup| {
        setup.ingest.ack_deadline = SHORT * 100;
        setup.head_timeout = SHORT * 100;
    })
    .await;
    let request = post(&logplex("A"), BODY);
    for part in [0, 1, request.len() / 2, request.len() - BODY.len() - 2, request.len() - 1] {
        let mut client = server.connect().await;
        client.send(&request[..part]).await;
        let started = crate::clock::instant();
        client.stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.stream.read_to_end(&mut answer).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{part}: {}", answer.escape_ascii());
        assert!(started.elapsed() < SHORT * 20, "{part}");
    }
    assert!(server.stored().is_empty());
    until("every connection is closed", || server.handle.status().connections == 0).await;
}
