//! How bodies come, and how they do not.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::server::{BODY, SHUTTLE, Server, logplex, post, until};

/// A request with a chunked body.
fn chunked(headers: &str, chunks: &[&[u8]]) -> Vec<u8> {
    let mut request =
        format!("POST /logs HTTP/1.1\r\nHost: x\r\n{headers}Transfer-Encoding: chunked\r\n\r\n")
            .into_bytes();
    for chunk in chunks {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn bodies_come_in_one_piece_in_many_and_in_chunks() {
    let server = Server::start().await;
    let large = BODY.repeat(900);
    assert_eq!(server.ask(post(&logplex("large"), &large)).await.code(), 200);

    let request = post(&logplex("slow"), BODY);
    let mut client = server.connect().await;
    for byte in request.chunks(7) {
        client.send(byte).await;
        client.stream.writable().await.unwrap();
    }
    assert_eq!(client.answer().await.code(), 200);

    let (first, second) = BODY.as_bytes().split_at(10);
    assert_eq!(server.ask(chunked(SHUTTLE, &[first, second])).await.code(), 200);
    assert_eq!(server.ask(chunked(&logplex("none"), &[])).await.code(), 200);

    let bodies: Vec<_> = server.stored().iter().map(|frame| frame.body.clone()).collect();
    assert_eq!(bodies, [large.as_bytes(), BODY.as_bytes(), BODY.as_bytes(), b""]);
}

#[tokio::test]
async fn gzip_is_stored_decompressed_and_damage_as_it_came() {
    let server = Server::start().await;
    let headers = |id: &str| format!("{}Content-Encoding: gzip\r\n", logplex(id));
    let compressed = gzip(BODY.as_bytes());
    assert_eq!(server.ask(post(&headers("A"), &compressed)).await.code(), 200);
    assert_eq!(server.ask(chunked(&headers("B"), &[&compressed])).await.code(), 200);
    let damaged = &compressed[..compressed.len() - 1];
    assert_eq!(server.ask(post(&headers("C"), damaged)).await.code(), 200);
    let stored = server.stored();
    assert_eq!(stored[0].body, BODY.as_bytes());
    assert_eq!(stored[1].body, BODY.as_bytes());
    assert_eq!(stored[2].body, damaged);
    assert_eq!((stored[0].messages, stored[2].messages), (1, 1));
    // Small on the wire, too large for us.
    let bomb = gzip(&vec![b'x'; 64 * 1024 + 1]);
    assert_eq!(server.ask(post(&headers("D"), &bomb)).await.code(), 413);
    assert_eq!(server.stored().len(), 3);
}

#[tokio::test]
async fn what_is_too_large_is_refused_however_it_comes() {
    let server = Server::start().await;
    let limit = vec![b'x'; 64 * 1024];
    let over = vec![b'x'; 64 * 1024 + 1];
    assert_eq!(server.ask(post("", &limit)).await.code(), 200);
    assert_eq!(server.ask(post("", &over)).await.code(), 413);
    assert_eq!(server.ask(chunked("", &[&limit])).await.code(), 200);
    assert_eq!(server.ask(chunked("", &[&over])).await.code(), 413);
    assert_eq!(server.ask(chunked("", &[&limit, b"x"])).await.code(), 413);
    // So large that nobody waits for it: the answer comes before the body.
    let mut client = server.connect().await;
    client.send("POST /logs HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n").await;
    assert_eq!(client.answer().await.code(), 413);
    client.closed().await;
    assert_eq!(server.stored().len(), 2);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_stored_and_not_answered() {
    let server = Server::start().await;
    let free = server.handler.free_memory();
    let request = post(&logplex("A"), BODY);
    let mut client = server.connect().await;
    client.send(&request[..request.len() - 1]).await;
    client.end().await;
    client.closed().await;
    let mut client = server.connect().await;
    let bad = format!(
        "POST /logs HTTP/1.1\r\nHost: x\r\n{}Transfer-Encoding: chunked\r\n\r\nnot hex\r\n",
        logplex("B")
    );
    client.send(bad).await;
    client.closed().await;
    assert!(server.stored().is_empty());
    until("the memory is given back", || server.handler.free_memory() == free).await;
    // The same frame, whole.
    assert_eq!(server.ask(request).await.code(), 200);
    assert_eq!(server.stored().len(), 1);
}
