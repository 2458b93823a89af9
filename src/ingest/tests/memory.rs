//! Who may take how much memory from whom.

use std::time::Duration;

use tokio::task::JoinSet;

use super::server::{BODY, Client, SHUTTLE, Server, logplex, post, until};
use crate::types::ByteSize;

const KIB: usize = 1024;
const LARGEST: usize = 256 * KIB;

/// Room for a little less than eight of the largest bodies.
async fn server() -> Server {
    Server::with(|setup| {
        setup.ingest.max_body = ByteSize::bytes(LARGEST as u64);
        setup.ingest.max_in_flight = ByteSize::bytes(8 * LARGEST as u64);
    })
    .await
}

fn head(headers: &str) -> String {
    format!("POST /logs HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

fn chunk(len: usize) -> Vec<u8> {
    [format!("{len:x}\r\n").as_bytes(), &vec![b'x'; len], b"\r\n"].concat()
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// Connections on which these bytes were sent, and nothing more.
async fn stalled(server: &Server, count: usize, bytes: &[u8]) -> Vec<Client> {
    let before = server.handler.metrics.in_flight();
    let mut all = Vec::new();
    for _ in 0..count {
        let mut client = server.connect().await;
        client.send(bytes).await;
        all.push(client);
    }
    until("they are in flight", || server.handler.metrics.in_flight() == before + count).await;
    all
}

/// Who announces much and sends little has taken no more than it has sent: everybody else gets an
/// answer at once, whatever its body looks like.
#[tokio::test]
async fn bodies_that_do_not_come_take_no_memory() {
    let server = server().await;
    let free = server.handler.free_memory();
    let gzip = format!("{CHUNKED}Content-Encoding: gzip\r\n");
    let mut all = stalled(&server, 4, head(CHUNKED).as_bytes()).await;
    all.extend(stalled(&server, 4, head("Content-Length: 262144\r\n").as_bytes()).await);
    all.extend(stalled(&server, 4, head(&gzip).as_bytes()).await);
    all.extend(stalled(&server, 4, &[head(CHUNKED).as_bytes(), b"1\r\nx\r\n"].concat()).await);
    until("four have a byte", || server.handler.free_memory() < free).await;
    let upload = [head(SHUTTLE).trim_end(), "\r\n", CHUNKED, "\r\n"].concat();
    for request in [
        post(&logplex("A"), BODY),
        post(&logplex("B"), vec![b'x'; 100 * KIB]),
        post(&logplex("C"), vec![b'x'; LARGEST]),
        [upload.as_bytes(), &chunk(LARGEST), b"0\r\n\r\n"].concat(),
    ] {
        assert_eq!(server.ask(request).await.code(), 200);
    }
    assert_eq!(server.handler.metrics.in_flight(), 16, "the others are still there");
    drop(all);
    until("all memory is given back", || server.handler.free_memory() == free).await;
}

/// Who has sent half of what memory there is, and goes no further, costs others that send large
/// bodies their place, but no frame of Logplex.
#[tokio::test]
async fn large_bodies_that_stall_keep_no_frame_waiting() {
    let server = server().await;
    let free = server.handler.free_memory();
    let half = [head(CHUNKED).as_bytes(), &chunk(LARGEST / 2)].concat();
    let declared =
        [head("Content-Length: 262144\r\n").as_bytes(), &vec![b'x'; LARGEST / 2]].concat();
    let mut all = stalled(&server, 4, &half).await;
    all.extend(stalled(&server, 4, &declared).await);
    // All that there is for them, but for what nobody can use.
    until("they have their memory", || free - server.handler.free_memory() > 384).await;
    let mut client = server.connect().await;
    for number in 0..50 {
        client.send(post(&logplex(&format!("{number:X}")), vec![b'x'; 100 * KIB])).await;
        assert_eq!(client.answer().await.code(), 200);
    }
    assert_eq!(server.handler.metrics.in_flight(), 8, "they stall all the while");
    assert_eq!(server.handle.status().state, "open");
    drop(all);
    until("all memory is given back", || server.handler.free_memory() == free).await;
}

/// Twenty bodies that all hold a part of what all of them need: each becomes whole.
#[tokio::test]
async fn bodies_that_hold_memory_and_wait_for_more_are_all_taken() {
    let server = server().await;
    let free = server.handler.free_memory();
    let begin = [head(CHUNKED).as_bytes(), &chunk(LARGEST / 16)].concat();
    let mut uploads = JoinSet::new();
    for mut client in stalled(&server, 20, &begin).await {
        uploads.spawn(async move {
            for _ in 0..15 {
                client.send(chunk(LARGEST / 16)).await;
                tokio::task::yield_now().await;
            }
            client.send("0\r\n\r\n").await;
            client.answer().await.code()
        });
    }
    while let Some(code) = uploads.join_next().await {
        assert_eq!(code.unwrap(), 200);
    }
    let stored = server.stored();
    assert!(stored.len() == 20 && stored.iter().all(|frame| frame.body.len() == LARGEST));
    until("all memory is given back", || server.handler.free_memory() == free).await;
}

/// A body without memory is held until its time is up: its sender would come again at once.
#[tokio::test]
async fn a_body_that_gets_no_memory_is_held_and_then_asked_to_come_again() {
    const HELD: Duration = Duration::from_millis(1500);
    let server = Server::with(|setup| {
        setup.ingest.max_body = ByteSize::bytes(LARGEST as u64);
        setup.ingest.max_in_flight = ByteSize::bytes(8 * LARGEST as u64);
        setup.ingest.ack_deadline = HELD;
    })
    .await;
    let free = server.handler.free_memory();
    let half = [head(CHUNKED).as_bytes(), &chunk(LARGEST / 2)].concat();
    let started = crate::clock::instant();
    let all = stalled(&server, 6, &half).await;
    until("they have their memory", || free - server.handler.free_memory() > 384).await;
    let mut answers = JoinSet::new();
    for mut client in all {
        answers.spawn(async move { (client.answer().await.code(), started.elapsed()) });
    }
    for (code, after) in answers.join_all().await {
        assert_eq!(code, 503);
        assert!(after >= HELD, "{after:?}");
    }
    until("all memory is given back", || server.handler.free_memory() == free).await;
    assert_eq!(server.ask(post(&logplex("A"), BODY)).await.code(), 200);
}
