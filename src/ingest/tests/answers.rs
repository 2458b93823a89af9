//! The table in `response`, row by row.

use super::server::{BODY, SHUTTLE, Server, logplex, post};
use crate::logplex::Profile;

#[tokio::test]
async fn a_200_is_as_small_as_it_can_be() {
    let server = Server::start().await;
    let answer = server.ask(post(&logplex("A"), BODY)).await;
    let lines: Vec<_> = answer.head.split("\r\n").collect();
    let [status, length, date, "", ""] = lines[..] else { panic!("{:?}", answer.head) };
    assert_eq!((status, length), ("HTTP/1.1 200 OK", "Content-Length: 0"));
    assert!(date.starts_with("Date: ") && date.ends_with(" GMT") && date.len() == 35, "{date}");
    assert_eq!(answer.body, "");
}

#[tokio::test]
async fn every_refusal_has_its_status() {
    let server = Server::with(|setup| setup.user("heroku", "secret")).await;
    // Large enough to be still on its way when a head is refused.
    let large = BODY.repeat(900);
    let good = "Authorization: Basic aGVyb2t1OnNlY3JldA==\r\n";
    let multipart = format!("{good}Content-Type: multipart/form-data; boundary=x\r\n");
    let long = format!("POST /logs?{} HTTP/1.1", "x".repeat(4096));
    let with_line = |line: &str| {
        let request = String::from_utf8(post(good, &large)).unwrap();
        request.replacen("POST /logs HTTP/1.1", line, 1)
    };
    let plain = String::from_utf8(post(&multipart, &large)).unwrap();
    let plain = plain.replacen("Content-Type: application/logplex-1\r\n", "", 1);
    for (expected, request) in [
        (200, String::from_utf8(post(good, &large)).unwrap()),
        (200, with_line("POST /logs?app=x HTTP/1.1")),
        (404, with_line("POST / HTTP/1.1")),
        (404, with_line("POST /logs/ HTTP/1.1")),
        (404, with_line("GET /nowhere HTTP/1.1")),
        (405, with_line("PUT /logs HTTP/1.1")),
        (405, "GET /logs HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (401, String::from_utf8(post("", &large)).unwrap()),
        (401, String::from_utf8(post("Authorization: Basic eDp5\r\n", &large)).unwrap()),
        (401, String::from_utf8(post("Authorization: Bearer secret\r\n", &large)).unwrap()),
        (415, plain),
        (415, String::from_utf8(post(&format!("{good}Content-Encoding: br\r\n"), &large)).unwrap()),
        (413, String::from_utf8(post(good, "x".repeat(64 * 1024 + 1))).unwrap()),
        (414, with_line(&long)),
    ] {
        let mut client = server.connect().await;
        client.send(&request).await;
        let answer = client.answer().await;
        let line = request.lines().next().unwrap();
        assert_eq!(answer.code(), expected, "{line}");
        assert_eq!(answer.header("Allow"), (expected == 405).then_some("POST"), "{line}");
        let challenge = (expected == 401).then_some("Basic realm=\"forebay\"");
        assert_eq!(answer.header("Www-Authenticate"), challenge, "{line}");
        assert_eq!(answer.body.is_empty(), expected == 200, "{line}");
        assert_eq!(answer.header("Connection"), None, "{line}");
        assert!(!answer.body.contains("secret"), "{}", answer.body);
        // The body was read, so the connection goes on.
        client.send(post(good, BODY)).await;
        assert_eq!(client.answer().await.code(), 200, "{line}");
    }
}

#[tokio::test]
async fn a_connection_takes_request_after_request() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for frame_id in ["A", "B"] {
        client.send(post(&logplex(frame_id), BODY)).await;
        assert_eq!(client.answer().await.code(), 200);
    }
    // Nobody pipelines, but nothing should break if somebody does.
    client.send([post(&logplex("C"), BODY), post(&logplex("D"), BODY)].concat()).await;
    assert_eq!(client.answer().await.code(), 200);
    assert_eq!(client.answer().await.code(), 200);
    let stored = server.stored();
    let ids: Vec<_> = stored.iter().map(|frame| frame.frame_id.as_deref().unwrap()).collect();
    assert_eq!(ids, ["A", "B", "C", "D"]);
}

#[tokio::test]
async fn a_frame_is_stored_as_it_came() {
    let server = Server::start().await;
    let request = String::from_utf8(post(&logplex("A"), BODY)).unwrap();
    let request = request.replacen("/logs", "/logs?app=checkout&x=%20", 1);
    assert_eq!(server.ask(request).await.code(), 200);
    let stored = server.stored();
    let [frame] = &stored[..] else { panic!("{stored:?}") };
    assert_eq!(frame.drain_token.as_deref(), Some("d.fc6b856b"));
    assert_eq!(frame.frame_id.as_deref(), Some("A"));
    assert_eq!((frame.messages_claimed, frame.messages), (Some(1), 1));
    assert_eq!(frame.query, "app=checkout", "what is not allowed is forgotten");
    assert_eq!(frame.peer, "127.0.0.1");
    assert_eq!(frame.profile, Profile::Logplex);
    assert_eq!(frame.body, BODY.as_bytes());
}

#[tokio::test]
async fn a_duplicate_is_answered_and_not_stored() {
    let server = Server::start().await;
    assert_eq!(server.ask(post(&logplex("A"), BODY)).await.code(), 200);
    // A retry may have a loss report in front: the id decides, not the bytes.
    let longer = format!("3 abc{BODY}");
    assert_eq!(server.ask(post(&logplex("A"), longer)).await.code(), 200);
    assert_eq!(server.stored().len(), 1);
    // Without an id there are no duplicates.
    assert_eq!(server.ask(post("", BODY)).await.code(), 200);
    assert_eq!(server.ask(post("", BODY)).await.code(), 200);
    assert_eq!(server.stored().len(), 3);
    // The same id from another drain is another frame.
    let other = logplex("A").replace("d.fc6b856b", "d.other");
    assert_eq!(server.ask(post(&other, BODY)).await.code(), 200);
    assert_eq!(server.stored().len(), 4);
    // log-shuttle's batches are known by their request id.
    assert_eq!(server.ask(post(SHUTTLE, BODY)).await.code(), 200);
    assert_eq!(server.ask(post(SHUTTLE, BODY)).await.code(), 200);
    assert_eq!(server.stored().len(), 5);
}

/// Invariant I2: content, framing, counts and times are never a reason for a 4xx.
#[tokio::test]
async fn nothing_in_a_body_is_refused() {
    let server = Server::start().await;
    for (number, body) in
        [&b""[..], b"\n", b"not framed at all", b"99999 <190>1 cut", b"\xff\x00", b"0 0 0 "]
            .into_iter()
            .enumerate()
    {
        let headers = logplex(&number.to_string()).replace("Count: 1", "Count: 17");
        assert_eq!(server.ask(post(&headers, body)).await.code(), 200, "{}", body.escape_ascii());
        assert_eq!(server.stored()[number].body, body);
    }
    let messages: Vec<_> = server.stored().iter().map(|frame| frame.messages).collect();
    assert_eq!(messages, [0, 0, 1, 1, 1, 3]);
    // Logplex leaves the length out when there is no body.
    let empty = format!("POST /logs HTTP/1.1\r\nHost: x\r\n{}\r\n", logplex("empty"));
    assert_eq!(server.ask(empty).await.code(), 200);
    assert_eq!(server.stored().len(), 7);
    for headers in
        ["Logplex-Msg-Count: many\r\n", "Logplex-Frame-Id: a b\r\n", "Content-Type: x\r\n"]
    {
        assert_eq!(server.ask(post(headers, BODY)).await.code(), 200, "{headers}");
    }
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_told() {
    let server = Server::with(|setup| setup.user("heroku", "secret")).await;
    let expect = "Expect: 100-continue\r\n";
    let good = "Authorization: Basic aGVyb2t1OnNlY3JldA==\r\n";
    let mut client = server.connect().await;
    let request = post(&format!("{expect}{good}"), BODY);
    let (head, body) = request.split_at(request.len() - BODY.len());
    client.send(head).await;
    assert_eq!(client.answer().await.code(), 100);
    client.send(body).await;
    assert_eq!(client.answer().await.code(), 200);

    let mut client = server.connect().await;
    let request = post(expect, BODY);
    client.send(&request[..request.len() - BODY.len()]).await;
    assert_eq!(client.answer().await.code(), 401);
}
