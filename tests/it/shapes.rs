use forebay::simulate::ledger::KeptEvent;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{Destination, Frame, Hec, Lab, Port, SOON};

/// The events of a book by their text.
fn sorted(hec: &Hec) -> Vec<KeptEvent> {
    let mut events = hec.ledger.events();
    events.sort_by(|a, b| a.event.cmp(&b.event));
    events
}

#[tokio::test]
async fn objects_overrides_and_filters_from_end_to_end() {
    let hec = Hec::usual();
    let mut lab = Lab::with(
        &hec,
        "[destination.event]\nformat = \"auto\"\nindex = \"everybody\"\n\
         [destination.filter]\nexclude = [\"secret\"]\n",
    )
    .tables(
        "[[drain]]\ntoken = \"d.fc6b856b-3332-4546-93de-7d0ee272c3bd\"\napp = \"checkout\"\n\
         index = \"own\"\nfields.team = \"payments\"\n",
    );
    lab.start().await;
    let texts = [r#"{"n": 1.50}"#, "text", "a secret", " "];
    assert_eq!(lab.post(&Frame::new("F-1", &texts)).await, 200);
    let other = Frame { drain: Some("d.other".to_owned()), ..Frame::new("F-2", &["zz"]) };
    assert_eq!(lab.post(&other).await, 200);
    let books = lab.drained(SOON).await;
    assert_eq!((books.acknowledged, books.filtered), (3, 2), "{books:?}");
    let events = sorted(&hec);
    let seen: Vec<_> =
        events.iter().map(|e| (&*e.event, e.is_text, e.index.as_deref().unwrap())).collect();
    let expected =
        [("text", true, "own"), ("zz", true, "everybody"), (r#"{"n": 1.50}"#, false, "own")];
    assert_eq!(seen, expected);
    let teams: Vec<_> = events.iter().map(|event| event.fields.get("team").cloned()).collect();
    assert_eq!(teams, [Some(json!("payments")), None, Some(json!("payments"))]);
}

#[tokio::test]
async fn the_raw_endpoint_gets_messages_as_they_came() {
    let hec = Hec::usual();
    let mut lab = Lab::with(
        &hec,
        "endpoint_target = \"raw\"\n[destination.event]\nsourcetype = \"heroku:raw\"\n\
         source = \"a b&c\"\nindex = \"heroku\"\n",
    );
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("F-1", &["one", " ", "two \"2\""])).await, 200);
    let books = lab.drained(SOON).await;
    assert_eq!((books.acknowledged, books.filtered), (2, 1), "{books:?}");
    let events = sorted(&hec);
    let head = "<190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - ";
    let texts: Vec<_> = events.iter().map(|event| event.event.clone()).collect();
    assert_eq!(texts, [format!("{head}one"), format!("{head}two \"2\"")]);
    for event in events {
        assert_eq!(event.sourcetype.as_deref(), Some("heroku:raw"));
        assert_eq!(event.source.as_deref(), Some("a b&c"));
        assert_eq!((event.index.as_deref(), event.host), (Some("heroku"), None));
    }
}

/// Splunk falls back to HTTP/1.0 without a User-Agent, and shows who sends.
#[tokio::test]
async fn requests_say_who_sends() {
    let port = Port::free();
    let listener = TcpListener::bind(port.address()).await.unwrap();
    let mut lab = Lab::new(vec![Destination::new("splunk", port.address(), "")]);
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("F-1", &["a"])).await, 200);
    let (mut stream, _) = tokio::time::timeout(SOON, listener.accept()).await.unwrap().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        "post /services/collector/event http/1.1".to_owned(),
        format!("user-agent: forebay/{version}"),
        "__splunk_app_name: forebay".to_owned(),
        format!("__splunk_app_version: {version}"),
        "content-encoding: gzip".to_owned(),
    ] {
        assert!(head.lines().any(|found| found == line), "{line}: {head}");
    }
    assert!(head.contains("content-length: ") && !head.contains("transfer-encoding"), "{head}");
    lab.kill();
}
