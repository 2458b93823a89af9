//! A frame is followed by its log lines, from its request to its acknowledgement.

use serde_json::Value;

use crate::support::{Frame, Hec, Lab, SOON, eventually};

/// The log lines that are JSON, with this message.
fn lines(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

/// A value of a line, or of one of the spans around it.
fn told<'a>(line: &'a Value, name: &str) -> &'a Value {
    let spans = line["spans"].as_array().into_iter().flatten();
    let around = spans.map(|span| &span[name]).find(|value| !value.is_null());
    if line[name].is_null() { around.unwrap_or(&Value::Null) } else { &line[name] }
}

#[tokio::test]
async fn a_frame_is_followed_from_its_request_to_its_acknowledgement() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.environment(vec![("FOREBAY_LOG".to_owned(), "info,forebay=debug".to_owned())]);
    lab.start().await;
    for id in ["F-before", "F-followed", "F-behind"] {
        assert_eq!(lab.post(&Frame::new(id, &["one", "two"])).await, 200);
    }
    lab.drained(SOON).await;

    let log = lab.log();
    // 1. The request: its id beside its offset.
    let stored = lines(&log, "durable");
    let stored = stored.iter().find(|line| told(line, "request_id") == "F-followed").unwrap();
    let offset = stored["offset"].as_u64().unwrap();
    assert_eq!((offset, &stored["messages"]), (1, &2.into()), "{stored}");
    // 2. The batch that has this offset in it.
    let holds = |line: &Value| {
        let end = |name| told(line, name).as_u64().unwrap();
        end("first_offset") <= offset && offset <= end("last_offset")
    };
    let read = lines(&log, "read").into_iter().find(&holds).unwrap();
    assert_eq!(read["destination"], "splunk");
    // 3. Its POST, with the channel, and what the collector said.
    let posted = lines(&log, "posted").into_iter().find(|line| holds(line)).unwrap();
    assert_eq!(told(&posted, "batch"), &read["batch"], "{posted}");
    assert!(posted["outcome"].as_str().unwrap().contains("Accepted"), "{posted}");
    let channel = told(&posted, "channel");
    // 4. The question on the same channel, and the acknowledgement.
    let polled = lines(&log, "polled");
    assert!(polled.iter().any(|line| told(line, "channel") == channel), "{polled:?}");
    let acknowledged = lines(&log, "acknowledged").into_iter().find(&holds).unwrap();
    assert_eq!(acknowledged["batch"], read["batch"]);
}

/// Who is refused is told what to ask for, and the log has the same.
#[tokio::test]
async fn a_refusal_says_what_its_request_is_called() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    let mut client = lab.client().await;
    let request = String::from_utf8(Frame::new("F-refused", &["one"]).request()).unwrap();
    client.send(request.replace("/logs", "/other").as_bytes()).await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("x-request-id")), (404, Some("F-refused")));
    eventually(SOON, "it is in the log", async || {
        let refused = lines(&lab.log(), "refused a request, which loses its messages");
        refused.iter().any(|line| line["request_id"] == "F-refused")
    })
    .await;
    // One that has no name, or none that can be used, is given one.
    client.send(b"GET /logs HTTP/1.1\r\nHost: drain\r\nX-Request-Id: a b\r\n\r\n").await;
    let answer = client.answer().await.unwrap();
    let id = answer.header("x-request-id").unwrap();
    assert!(answer.status == 405 && id.starts_with("forebay-"), "{answer:?}");
    // A 200 stays as short as it can be.
    let accepted = Frame::new("F-accepted", &["one"]);
    client.send(&accepted.request()).await;
    assert_eq!(client.answer().await.unwrap().header("x-request-id"), None);
}
