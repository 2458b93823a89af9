use base64::Engine as _;

use crate::support::{Destination, Frame, Hec, Lab, PASSWORD, Port, SOON, TOKEN, USER, eventually};

#[tokio::test]
async fn admin_says_how_things_are() {
    let (hec, dead) = (Hec::usual(), Port::free());
    let mut lab = Lab::new(vec![
        Destination::new("splunk", hec.address(), "[destination.filter]\nkinds = [\"app\"]\n"),
        Destination::new("dead", dead.address(), ""),
    ]);
    lab.show(&hec);
    lab.start().await;
    let mut client = lab.client().await;
    assert_eq!(client.post(&Frame::new("01", &["one", "two", " "])).await, 200);
    assert_eq!(client.post(&Frame::new("01", &["one", "two", " "])).await, 200);
    let router = "68 <158>1 2026-01-02T03:04:05.000001+00:00 host heroku router - at=info";
    assert_eq!(client.post(&Frame::of("02", router.as_bytes().to_vec())).await, 200);
    let wrong = String::from_utf8(Frame::new("03", &["three"]).request()).unwrap();
    client.send(wrong.replace("/logs", "/other").as_bytes()).await;
    assert_eq!(client.answer().await.unwrap().status, 404);
    lab.drained(SOON).await;

    for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = lab.get(path).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
    }
    assert_eq!(lab.get("/nothing").await.unwrap().status, 404);

    let books = lab.books("splunk").await;
    let figures = (books.accepted, books.acknowledged, books.filtered, books.pending);
    assert_eq!(figures, (4, 2, 2, 0), "{books:?}");
    assert_eq!((books.dead_lettered, books.skipped, books.dropped, books.difference), (0, 0, 0, 0));
    eventually(SOON, "the dead one's books are up to date", async || {
        lab.books("dead").await.accepted == 4
    })
    .await;
    let books = lab.books("dead").await;
    assert_eq!((books.pending, books.difference), (4, 0), "{books:?}");
    let status = lab.status().await;
    assert_eq!(status["phase"], "ready");
    assert_eq!(status["log"]["end_offset"], 2);
    assert_eq!(status["log"]["messages"], 4);
    assert_eq!(status["log"]["durability"], "fsync");
    assert_eq!(status["destinations"][0]["endpoints"][0]["state"], "up");
    assert_eq!(status["destinations"][0]["acknowledgement"], "required");
    assert_eq!(status["destinations"][0]["checkpoint"], serde_json::json!([2, 0]));
    assert_eq!(status["destinations"][1]["endpoints"][0]["state"], "resting");

    for (series, value) in [
        ("forebay_http_requests_total{code=\"200\"}", 3.0),
        ("forebay_http_requests_total{code=\"404\"}", 1.0),
        ("forebay_http_connections", 1.0),
        ("forebay_frames_received_total", 2.0),
        ("forebay_frames_duplicate_total", 1.0),
        ("forebay_messages_received_total", 4.0),
        ("forebay_wal_durable_offset", 2.0),
        ("forebay_wal_poisoned", 0.0),
        ("forebay_delivered_messages_total{destination=\"splunk\"}", 2.0),
        ("forebay_filtered_messages_total{destination=\"splunk\"}", 2.0),
        ("forebay_pending_messages{destination=\"splunk\"}", 0.0),
        ("forebay_pending_messages{destination=\"dead\"}", 4.0),
        ("forebay_books_difference{destination=\"splunk\"}", 0.0),
        ("forebay_acknowledgement_required{destination=\"splunk\"}", 1.0),
        ("forebay_ack_latency_seconds_count{destination=\"splunk\"}", 1.0),
    ] {
        assert_eq!(lab.metric(series).await, Some(value), "{series}");
    }
    for (series, at_least) in [
        ("forebay_wal_commit_seconds_count", 2.0),
        ("forebay_wal_free_bytes", 1.0),
        ("forebay_hec_requests_total{destination=\"splunk\",outcome=\"accepted\"}", 1.0),
        ("forebay_hec_requests_total{destination=\"dead\",outcome=\"unreachable\"}", 1.0),
    ] {
        let value = lab.metric(series).await.unwrap_or_default();
        assert!(value >= at_least, "{series}: {value}");
    }
}

/// Passwords and tokens are in none of the places an operator would copy into a ticket, also with
/// every log line there is, and when something is wrong with them.
#[tokio::test]
async fn secrets_show_nowhere() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.environment(vec![("FOREBAY_LOG".to_owned(), "trace".to_owned())]);
    lab.start().await;
    let mut client = lab.client().await;
    assert_eq!(client.post(&Frame::new("01", &["one"])).await, 200);
    let request = String::from_utf8(Frame::new("02", &["two"]).request()).unwrap();
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let good = encode(&format!("{USER}:{PASSWORD}"));
    let almost = encode(&format!("{USER}:{PASSWORD}x"));
    assert!(request.contains(&good));
    client.send(request.replace(&good, &almost).as_bytes()).await;
    assert_eq!(client.answer().await.unwrap().status, 401);
    lab.drained(SOON).await;

    let mut places = vec![("the status", lab.status().await.to_string())];
    places.push(("the metrics", lab.get("/metrics").await.unwrap().body));
    lab.stop().await;
    places.push(("the log", lab.log()));
    assert!(lab.log().contains("\"level\":\"TRACE\""), "every line was written");
    for secret in [PASSWORD, TOKEN, &good, &almost] {
        for (place, text) in &places {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{place} shows a secret");
        }
    }
}
