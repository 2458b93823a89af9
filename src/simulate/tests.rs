//! Both ends together, with a few lines of relay between them that can be told to do wrong.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::hec::{AckMode, HecConfig, HecHandle, HecServer};
use super::ledger::{Audit, HecLedger, SenderLedger, audit};
use super::logplex::{LogplexConfig, LogplexSender};

const PATIENCE: Duration = Duration::from_secs(20);
const CHANNEL: &str = "0bd84bbd-d4a1-4b1a-b9f1-ee1c6a5b2b8a";

/// What the relay does to a frame's texts, and what it answers.
type Treatment = fn(frame: usize, texts: &mut Vec<String>) -> &'static str;

/// Relays every frame of one connection: waits for the acknowledgement, then answers.
async fn relay(listener: TcpListener, hec: HecHandle, treat: Treatment) {
    let mut splunk = TcpStream::connect(hec.local_addr()).await.unwrap();
    let mut frame = 0;
    let mut ack_id = 0;
    loop {
        let (mut logplex, _) = listener.accept().await.unwrap();
        while let Some((_, body)) = read_http(&mut logplex).await {
            let mut texts = texts(&body);
            let status = treat(frame, &mut texts);
            frame += 1;
            if !texts.is_empty() {
                let events =
                    texts.iter().map(|text| serde_json::json!({ "event": text }).to_string());
                let answer = post(&mut splunk, "event", &events.collect::<String>()).await;
                assert_eq!(answer, format!(r#"{{"text":"Success","code":0,"ackId":{ack_id}}}"#));
                let polled = post(&mut splunk, "ack", &format!("{{\"acks\":[{ack_id}]}}")).await;
                assert_eq!(polled, format!(r#"{{"acks":{{"{ack_id}":true}}}}"#));
                ack_id += 1;
            }
            let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n");
            logplex.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

/// The texts of a frame: what stands behind the sixth space, less a newline.
fn texts(mut body: &str) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = body.split_once(' ') {
        let (message, next) = rest.split_at(length.parse().unwrap());
        let text = message.splitn(7, ' ').nth(6).unwrap();
        texts.push(text.strip_suffix('\n').unwrap_or(text).to_owned());
        body = next;
    }
    texts
}

async fn post(stream: &mut TcpStream, route: &str, body: &str) -> String {
    let request = format!(
        "POST /services/collector/{route} HTTP/1.1\r\nHost: hec\r\n\
         Authorization: Splunk 00000000-0000-0000-0000-000000000000\r\n\
         X-Splunk-Request-Channel: {CHANNEL}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    read_http(stream).await.unwrap().1
}

/// Head and body of a request or an answer.
async fn read_http(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut buffer = Vec::new();
    loop {
        let text = String::from_utf8(buffer.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            if body.len() == length.unwrap().1.parse::<usize>().unwrap() {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

/// Twenty frames of ten messages through a relay; both books, also by way of their files.
async fn run(treat: Treatment) -> Audit {
    let hec_ledger = Arc::new(HecLedger::default());
    let config = HecConfig { ack: AckMode::AT_ONCE, ..HecConfig::default() };
    let server = HecServer::bind(config, Arc::clone(&hec_ledger)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = LogplexConfig {
        target: listener.local_addr().unwrap(),
        messages_per_frame: NonZeroU32::new(10).unwrap(),
        frames: Some(20),
        ..LogplexConfig::default()
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(relay(listener, server.handle(), treat));
    tasks.spawn(server.run(CancellationToken::new()));

    let sender_ledger = Arc::new(SenderLedger::default());
    let sender = LogplexSender::new(config, Arc::clone(&sender_ledger)).unwrap();
    timeout(PATIENCE, sender.run(CancellationToken::new())).await.unwrap();

    let found = audit(&sender_ledger, &hec_ledger);
    let dir = tempfile::tempdir().unwrap();
    let (sent, indexed) = (dir.path().join("sent"), dir.path().join("indexed"));
    sender_ledger.write_to(&sent).unwrap();
    hec_ledger.write_to(&indexed).unwrap();
    let loaded = audit(&SenderLedger::load(&sent).unwrap(), &HecLedger::load(&indexed).unwrap());
    assert_eq!(found, loaded);
    found
}

const CLEAN: Audit = Audit {
    sent_messages: 200,
    accepted_messages: 200,
    not_accepted_messages: 0,
    lost: 0,
    unacknowledged: 0,
    duplicates: 0,
    not_accepted_but_indexed: 0,
    loss_reports_indexed: 0,
    unexpected: 0,
    complete: true,
};

#[tokio::test]
async fn an_honest_relay_is_clean() {
    assert_eq!(run(|_, _| "200").await, CLEAN);
}

#[tokio::test]
async fn a_lost_message_is_found() {
    let found = run(|frame, texts| {
        if frame == 7 {
            texts.remove(3);
        }
        "200"
    });
    assert_eq!(found.await, Audit { lost: 1, ..CLEAN });
}

#[tokio::test]
async fn an_altered_message_is_lost_and_unexpected() {
    let found = run(|frame, texts| {
        if frame == 7 {
            texts[3].push(' ');
        }
        "200"
    });
    assert_eq!(found.await, Audit { lost: 1, unexpected: 1, ..CLEAN });
}

#[tokio::test]
async fn a_retry_after_storing_is_a_duplicate() {
    let found = run(|frame, _| if frame == 7 { "503" } else { "200" });
    assert_eq!(found.await, Audit { duplicates: 10, ..CLEAN });
}

#[tokio::test]
async fn a_refused_frame_is_not_lost_and_its_report_is_not_unexpected() {
    // Requests 3 and 4 are two frames refused without being stored; the frame after them carries
    // the report, is stored, and the answer is lost on the way: a retry with a report of its own.
    let found = run(|frame, texts| match frame {
        3 | 4 => {
            texts.clear();
            "400"
        }
        5 => "500",
        _ => "200",
    });
    let expected = Audit {
        accepted_messages: 180,
        not_accepted_messages: 20,
        duplicates: 10,
        loss_reports_indexed: 2,
        ..CLEAN
    };
    assert_eq!(found.await, expected);
}

#[tokio::test]
async fn a_frame_stored_but_never_accepted_is_counted_apart() {
    let found = run(|frame, _| if frame == 19 { "400" } else { "200" });
    let expected = Audit {
        accepted_messages: 190,
        not_accepted_messages: 10,
        not_accepted_but_indexed: 10,
        ..CLEAN
    };
    assert_eq!(found.await, expected);
}
