use std::io::Write as _;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use forebay::simulate::ledger::audit;

use crate::support::{Client, Frame, Hec, Lab, PASSWORD, SOON, Shim, USER, eventually, number};

/// A batch as log-shuttle posts it: chunked, because its body is a reader.
fn chunked(request: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let frame = String::from_utf8(Frame::shuttle(request, "").request()).unwrap();
    let (head, _) = frame.split_once("Content-Length: ").unwrap();
    let mut bytes = format!("{head}{headers}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(1000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

async fn post(client: &mut Client, request: &[u8]) -> u16 {
    client.send(request).await;
    client.answer().await.expect("an answer").status
}

/// A relay with nothing set, and its Splunk.
async fn relay() -> (Hec, Lab) {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    (hec, lab)
}

/// One that has little time for a frame, and whose disk hangs. None where that cannot be built.
async fn relay_whose_disk_hangs() -> Option<(Hec, Lab, Shim)> {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "").ingest("ack_deadline = \"500ms\"\n");
    let shim = Shim::build(lab.path(), &lab.data_dir())?;
    lab.environment(shim.environment());
    lab.start().await;
    shim.hold();
    Some((hec, lab, shim))
}

/// log-shuttle: chunked and gzipped, the same batch twice with another body, the loss it reports
/// in headers and messages.
#[tokio::test]
async fn log_shuttle_is_understood() {
    let (_hec, lab) = relay().await;
    let mut client = lab.client().await;
    let batch: Vec<u8> =
        (0..500).flat_map(|n| Frame::message(format!("line {n}").as_bytes())).collect();
    let report = "<172>1 2026-01-02T03:04:05.000000+00:00 heroku app log-shuttle - Error L12: 3 messages dropped since 2026-01-02T03:04:00.000000+00:00.\n";
    let report = format!("{} {report}", report.len());
    let headers = "Content-Encoding: gzip\r\nLogplex-Drop-Count: 3\r\n";
    let first = chunked("batch-1", headers, &gzip(&[report.as_bytes(), &batch].concat()));
    assert_eq!(post(&mut client, &first).await, 200);
    // Its answer was lost: it comes again, without the report.
    let again = chunked("batch-1", "Content-Encoding: gzip\r\n", &gzip(&batch));
    assert_eq!(post(&mut client, &again).await, 200);
    assert_eq!(post(&mut client, &chunked("batch-2", "", &batch)).await, 200);
    assert_eq!(lab.status().await["log"]["messages"], 501 + 500);
    assert_eq!(lab.metric("forebay_frames_duplicate_total").await, Some(1.0));
    let lost = "forebay_upstream_loss_messages_total{code=\"L12\",drain=\"unknown\"}";
    assert_eq!(lab.metric(lost).await, Some(3.0), "said twice, lost once");
    let status = lab.status().await;
    let expected = serde_json::json!([{ "drain": "unknown", "code": "L12", "messages": 3 }]);
    assert_eq!(status["ingest"]["upstream_loss"], expected, "{status}");
    assert_eq!(lab.drained(SOON).await.accepted, 1001);
}

/// log-shuttle takes every status for success: what says "not stored" is a connection that ends
/// without one. Logplex gets a 503 for the same.
#[tokio::test]
async fn what_is_not_stored_is_said_as_each_sender_understands_it() {
    let Some((_hec, lab, shim)) = relay_whose_disk_hangs().await else { return };
    let (mut shuttle, mut logplex, mut api) =
        (lab.client().await, lab.client().await, lab.client().await);
    let batch = chunked("batch-1", "", &Frame::message(b"text"));
    shuttle.send(&batch).await;
    logplex.send(&Frame::new("A1", &["text"]).request()).await;
    let headers = "User-Agent: excon/0.76.0\r\nConnection: close\r\n".to_owned();
    let event = Frame { drain: None, id: None, headers, ..Frame::new("", &["Scaled to web@4"]) };
    api.send(&event.request()).await;
    assert_eq!(shuttle.answer().await, None);
    assert_eq!(logplex.answer().await.unwrap().status, 503);
    assert_eq!(api.answer().await.unwrap().status, 503);
    shim.release();
    // Tried again, as they do, they find that it was stored after all.
    eventually(SOON, "the log takes frames", async || {
        lab.metric("forebay_wal_durable_offset").await >= Some(1.0)
    })
    .await;
    let mut again = lab.client().await;
    assert_eq!(post(&mut again, &batch).await, 200);
    assert_eq!(again.post(&Frame::new("A1", &["text"])).await, 200);
    assert_eq!(lab.metric("forebay_frames_duplicate_total").await, Some(2.0));
}

/// A frame whose request ended before its sync is in the log all the same, and is delivered: it is
/// counted when it is durable, with the loss it reports, and its next try is a duplicate.
#[tokio::test]
async fn what_is_durable_is_counted_also_when_nobody_waits_for_it() {
    let Some((_hec, lab, shim)) = relay_whose_disk_hangs().await else { return };
    let l10 = "142 <172>1 2014-11-11T08:24:25+00:00 host heroku logplex - Error L10 (output buffer overflow): 1 messages dropped since 2014-11-07T23:29:45+00:00.";
    let body = [l10.as_bytes(), &Frame::message(b"text")].concat();
    let frame = Frame { count: Some("2".to_owned()), ..Frame::of("A1", body) };
    assert_eq!(lab.post(&frame).await, 503, "its time was up");
    let mut gone = lab.client().await;
    gone.send(&Frame::new("A2", &["of one that does not wait"]).request()).await;
    eventually(SOON, "it is in flight", async || lab.status().await["ingest"]["requests"] == 1)
        .await;
    drop(gone);
    eventually(SOON, "it is gone", async || lab.status().await["ingest"]["requests"] == 0).await;
    let received = "forebay_frames_received_total";
    assert_eq!(lab.metric(received).await, Some(0.0), "nothing is durable yet");
    shim.release();
    eventually(SOON, "both are durable", async || {
        lab.metric("forebay_wal_durable_offset").await == Some(2.0)
    })
    .await;
    let lost = "forebay_upstream_loss_messages_total{code=\"L10\",drain=\"unknown\"}";
    eventually(SOON, "both are counted", async || {
        let messages = lab.metric("forebay_messages_received_total").await;
        (lab.metric(received).await, messages) == (Some(2.0), Some(3.0))
            && lab.metric(lost).await == Some(1.0)
    })
    .await;
    assert_eq!(lab.post(&frame).await, 200);
    assert_eq!(lab.metric("forebay_frames_duplicate_total").await, Some(1.0));
    assert_eq!(lab.metric(received).await, Some(2.0));
    assert_eq!(lab.metric(lost).await, Some(1.0), "lost once");
    assert_eq!(lab.drained(SOON).await.accepted, 3);
}

/// What hyper answers by itself loses a sender's frame like any other 4xx: it is in the metrics, and
/// now and then in the log.
#[tokio::test]
async fn what_is_no_request_is_counted_and_told() {
    let (_hec, lab) = relay().await;
    let large = format!("POST /logs HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(17 << 10));
    for (request, status) in [("rubbish\r\n\r\n", 400), (&*large, 431), ("\x16\x03\x01 hello", 400)]
    {
        let mut client = lab.client().await;
        assert_eq!(post(&mut client, request.as_bytes()).await, status);
    }
    for (code, count) in [("400", 2.0), ("431", 1.0)] {
        let series = format!("forebay_http_requests_total{{code=\"{code}\"}}");
        eventually(SOON, "it is counted", async || lab.metric(&series).await == Some(count)).await;
    }
    let log = lab.log();
    let told: Vec<_> =
        log.lines().filter(|line| line.contains("refused what is no request")).collect();
    let [line] = told[..] else { panic!("{told:#?}") };
    assert!(line.contains("\"level\":\"WARN\"") && line.contains("\"code\":400"), "{line}");
}

/// The poster of Heroku's API: no id, one message, and the connection closed behind it.
#[tokio::test]
async fn herokus_api_is_understood() {
    let (_hec, lab) = relay().await;
    let headers = "User-Agent: excon/0.76.0\r\nConnection: close\r\n".to_owned();
    let event = Frame { drain: None, id: None, headers, ..Frame::new("", &["Scaled to web@4"]) };
    for _ in 0..2 {
        let mut client = lab.client().await;
        client.send(&event.request()).await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert_eq!(client.answer().await, None, "closed");
    }
    assert_eq!(lab.drained(SOON).await.accepted, 2, "equal events are two events");
}

/// Both content types, parameters behind them, and none.
#[tokio::test]
async fn both_content_types_are_taken() {
    let (_hec, lab) = relay().await;
    let mut client = lab.client().await;
    for (id, kind) in [
        ("1", "application/logplex-1"),
        ("2", "application/x-logplex-1"),
        ("3", "application/logplex-1; charset=utf-8"),
        ("4", ""),
    ] {
        let request = String::from_utf8(Frame::new(id, &["text"]).request()).unwrap();
        let line = "Content-Type: application/logplex-1\r\n";
        let own = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        assert_eq!(post(&mut client, request.replace(line, &own).as_bytes()).await, 200, "{kind}");
    }
    assert_eq!(lab.drained(SOON).await.accepted, 4);
}

/// curl, as people try a drain by hand: a form's content type, and for a large body it asks
/// first.
#[tokio::test]
async fn curl_is_understood() {
    let (hec, lab) = relay().await;
    let url = format!("http://{}/logs?app=by-hand", lab.ingest_address());
    let small = Frame::message(b"by hand");
    let large = small.repeat(20_000);
    for (body, user, status) in [
        (&small, format!("{USER}:{PASSWORD}"), "200"),
        (&large, format!("{USER}:{PASSWORD}"), "200"),
        (&large, format!("{USER}:wrong"), "401"),
    ] {
        let mut command = Command::new("curl");
        command.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-"]);
        command.args(["-u", &user, "--max-time", "20", &url]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = child else {
            eprintln!("SKIPPED, NOTHING IS PROVEN: there is no curl");
            return;
        };
        let mut stdin = child.stdin.take().unwrap();
        let body = body.clone();
        // A refused body is not read to its end.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), status);
    }
    assert_eq!(lab.drained(SOON).await.accepted, 20_001);
    let events = hec.ledger.events();
    assert_eq!(events[0].fields["heroku_app"], "by-hand");
}

/// What other receivers answer 400, and so lose: each is one frame and the messages it says.
#[tokio::test]
async fn what_breaks_other_receivers_is_taken_whole() {
    let (_hec, lab) = relay().await;
    let mut client = lab.client().await;
    let l10 = "142 <172>1 2014-11-11T08:24:25+00:00 host heroku logplex - Error L10 (output buffer overflow): 1 messages dropped since 2014-11-07T23:29:45+00:00.";
    let state = "93 <45>1 2014-11-11T08:24:24.064853+00:00 host heroku web.1 - State changed from starting to up\n";
    let addon =
        "83 <134>1 2026-01-02T03:04:05.000001+00:00 host app postgres.1167776 - [YELLOW] [13-2]";
    let (first, tail) = (Frame::message(&[b'x'; 10_000]), Frame::message(b"tail"));
    // The first part of a long line has no newline: one byte less.
    let first = String::from_utf8(first).unwrap();
    let (length, rest) = first.split_once(' ').unwrap();
    let length: usize = length.parse().unwrap();
    let part = format!("{} {}", length - 1, rest.trim_end_matches('\n'));
    let mut messages = 0;
    for (id, count, body) in [
        ("1", 2, [l10.as_bytes(), state.as_bytes()].concat()),
        ("2", 1, Frame::message(b"one\nmessage\nwith newlines")),
        ("3", 1, Frame::message(b"\xff\xfe no UTF-8")),
        ("4", 2, [part.as_bytes(), &tail].concat()),
        ("5", 2, addon.repeat(2).into_bytes()),
        ("6", 1, Frame::message(b"")),
    ] {
        messages += count;
        let frame = Frame { count: Some(count.to_string()), ..Frame::of(id, body) };
        assert_eq!(client.post(&frame).await, 200, "{id}");
        assert_eq!(lab.status().await["log"]["messages"], messages, "{id}");
    }
    assert_eq!(lab.metric("forebay_frame_count_mismatch_total").await, Some(0.0));
    let lost = "forebay_upstream_loss_messages_total{code=\"L10\",drain=\"unknown\"}";
    assert_eq!(lab.metric(lost).await, Some(1.0));
    let books = lab.drained(SOON).await;
    assert_eq!((books.acknowledged, books.filtered), (messages - 1, 1), "all but the empty one");
}

/// A 4xx loses frames at Logplex, at once and without a second try; it says so when a later frame
/// gets through, and what it says is in the metrics and the status.
#[tokio::test]
async fn frames_lost_to_a_4xx_are_reported_by_their_sender() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "").tables("[[drain]]\ntoken = \"d.x\"\napp = \"x\"\n");
    lab.start().await;
    let sending = lab.send(|config| {
        config.connections = number(1);
        config.rate = Some(2000.0);
    });
    sending.accepted(5).await;
    let good = format!("password = \"{PASSWORD}\"");
    lab.edit(&good, "password = \"changed\"");
    lab.reload().await;
    eventually(SOON, "frames are thrown away", async || {
        sending.progress.snapshot().totals.dropped_frames > 5
    })
    .await;
    lab.edit("password = \"changed\"", &good);
    lab.reload().await;
    sending.accepted(5).await;
    let report = sending.stop().await;
    let totals = &report.end.totals;
    assert_eq!((totals.retries, totals.gave_up_frames), (0, 0), "not tried again: {report}");
    let lost = lab
        .metric("forebay_upstream_loss_messages_total{code=\"L10\",drain=\"unknown\"}")
        .await
        .unwrap();
    assert!((lost - totals.dropped_messages as f64).abs() < 0.5, "{lost}: {report}");
    lab.drained(SOON).await;
    let found = audit(&lab.sent, &hec.ledger);
    assert_eq!((found.lost, found.duplicates), (0, 0), "of what was accepted: {found}");
}

/// Secrets in paths, headers and parameters are in none of the places an operator would copy into
/// a ticket, also with every log line there is.
#[tokio::test]
async fn secrets_in_a_path_or_a_bearer_header_show_nowhere() {
    const PATH: &str = "path-s3cret-77aa";
    const BEARER: &str = "bearer-s3cret-88bb";
    const QUERY: &str = "query-s3cret-99cc";
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    let users = format!(
        "[[ingest.user]]\nname = \"path\"\npassword = \"{PATH}\"\nvia = \"path\"\n\
         [[ingest.user]]\nname = \"space\"\npassword = \"{BEARER}\"\nvia = \"bearer\"\n\n[wal]\n"
    );
    lab.edit("[wal]\n", &users);
    lab.environment(vec![("FOREBAY_LOG".to_owned(), "trace".to_owned())]);
    lab.start().await;
    let frame = |id: &str, path: &str, headers: &str| {
        let request = String::from_utf8(Frame::new(id, &["text"]).request()).unwrap();
        let (before, behind) = request.split_once("Authorization: ").unwrap();
        let (_, behind) = behind.split_once("\r\n").unwrap();
        format!("{before}{headers}{behind}").replacen("/logs", path, 1)
    };
    let bearer = format!("Authorization: Bearer {BEARER}\r\n");
    let query = format!("/logs/{PATH}?key={QUERY}");
    let mut client = lab.client().await;
    for (request, status) in [
        (frame("1", &format!("/logs/{PATH}"), ""), 200),
        (frame("2", &format!("/logs/{PATH}x"), ""), 401),
        (frame("3", "/logs", &bearer), 200),
        (frame("4", "/logs", &bearer.replace(BEARER, &format!("{BEARER}x"))), 401),
        (frame("5", &query, ""), 200),
    ] {
        assert_eq!(post(&mut client, request.as_bytes()).await, status, "{request}");
    }
    lab.drained(SOON).await;
    lab.reload().await;
    let mut places = vec![("the status", lab.status().await.to_string())];
    places.push(("the metrics", lab.get("/metrics").await.unwrap().body));
    places.push(("the events", format!("{:?}", hec.ledger.events())));
    lab.stop().await;
    places.push(("the log", lab.log()));
    assert!(lab.log().contains("\"level\":\"TRACE\""), "every line was written");
    for secret in [PATH, BEARER, QUERY] {
        for (place, text) in &places {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{place} shows a secret");
        }
    }
}
