use forebay::simulate::logplex::{LogplexConfig, Report, drain_token};
use forebay::types::Secret;

use crate::support::{Frame, Hec, Lab, SOON, Shim, eventually, number};

/// What forebay does, and what that costs one frame of a simulated Logplex, whose tries, patience
/// and memory are those of the last public source (`logplex.md`, section 2.3).
#[derive(Debug, PartialEq, Eq)]
struct Row {
    does: &'static str,
    /// Tries beyond the one that a frame needs.
    burnt: u64,
    /// Frames that never come again.
    lost: u64,
    /// Messages in the log. More than were sent are duplicates.
    stored: u64,
    /// The statuses that the sender has read.
    answers: Vec<u16>,
}

const fn row(does: &'static str, burnt: u64, lost: u64, stored: u64, answers: Vec<u16>) -> Row {
    Row { does, burnt, lost, stored, answers }
}

/// The row of what a sender went through. No answer is later than Logplex waits, whatever the row.
async fn seen(lab: &Lab, does: &'static str, report: &Report) -> Row {
    assert_eq!(report.end.timeouts, 0, "{does}: {report}");
    let totals = &report.end.totals;
    Row {
        does,
        burnt: totals.retries,
        lost: totals.dropped_frames + totals.gave_up_frames,
        stored: lab.status().await["log"]["messages"].as_u64().unwrap(),
        answers: report.end.answers.keys().copied().collect(),
    }
}

/// One frame of ten messages, from one connection.
fn one(config: &mut LogplexConfig) {
    config.connections = number(1);
    config.messages_per_frame = number(10);
    config.frames = Some(1);
}

/// 200 at once; and what is never right: thrown away at once, without a second try, and the next
/// frame comes on the same connection.
#[tokio::test]
async fn what_is_answered_at_once_costs_no_try() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "").ingest("max_body = \"1MiB\"\n");
    let (own, other) = (drain_token(1), drain_token(0));
    let tables = format!(
        "[[ingest.user]]\nname = \"bound\"\npassword = \"bound\"\ndrains = [\"own\"]\n\n\
         [[drain]]\ntoken = \"{own}\"\napp = \"own\"\n\n\
         [[drain]]\ntoken = \"{other}\"\napp = \"other\"\n\n[wal]\n"
    );
    lab.edit("[wal]\n", &tables);
    lab.start().await;
    type Change = fn(&mut LogplexConfig);
    let changes: [(Change, Row); 5] = [
        (|_| (), row("200", 0, 0, 10, vec![200])),
        (
            |config| config.password = Secret::new("wrong".to_owned()),
            row("401", 0, 2, 10, vec![401]),
        ),
        (
            |config| {
                config.user = "bound".to_owned();
                config.password = Secret::new("bound".to_owned());
            },
            row("403", 0, 2, 10, vec![403]),
        ),
        (|config| config.path = "/wrong".to_owned(), row("404", 0, 2, 10, vec![404])),
        (|config| config.message_bytes = 200_000, row("413", 0, 2, 10, vec![413])),
    ];
    for (change, expected) in changes {
        // Each has a ledger of its own.
        lab.sent = std::sync::Arc::default();
        let report = lab
            .send(|config| {
                one(config);
                config.frames = Some(if expected.lost == 0 { 1 } else { expected.lost });
                change(config);
            })
            .end()
            .await;
        assert_eq!(seen(&lab, expected.does, &report).await, expected);
        // Were it closed behind an answer, the next frame would find out.
        assert_eq!((report.end.broken, report.end.connect_failures), (0, 0), "{report}");
    }
}

/// A disk that takes no more. The answer is held for 4 s and is a 503 then, never earlier and never
/// later than the 5 s of Logplex; the frame is stored once, though it comes twice.
#[tokio::test]
async fn what_is_held_costs_one_try_in_four_seconds() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    let Some(shim) = Shim::build(lab.path(), &lab.data_dir()) else { return };
    lab.environment(shim.environment());
    lab.start().await;
    shim.hold();
    let sending = lab.send(one);
    eventually(SOON, "it is answered", async || !sending.progress.snapshot().answers.is_empty())
        .await;
    shim.release();
    let report = sending.end().await;
    let expected = row("503 after 4 s", 1, 0, 10, vec![200, 503]);
    assert_eq!(seen(&lab, expected.does, &report).await, expected);
    let held = report.latency.max();
    assert!((3900..5000).contains(&held.as_millis()), "{held:?}");
    assert_eq!(lab.metric("forebay_frames_duplicate_total").await, Some(1.0));
}

/// The same for log-shuttle, which takes a 503 for success: closed without a word.
#[tokio::test]
async fn what_is_held_is_no_answer_to_log_shuttle() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    let Some(shim) = Shim::build(lab.path(), &lab.data_dir()) else { return };
    lab.environment(shim.environment());
    lab.start().await;
    shim.hold();
    let batch = Frame::shuttle("batch", "text");
    let mut client = lab.client().await;
    let start = forebay::clock::instant();
    client.send(&batch.request()).await;
    assert_eq!(client.answer().await, None);
    let held = start.elapsed();
    assert!((3900..5000).contains(&held.as_millis()), "{held:?}");
    shim.release();
    assert_eq!(lab.post(&batch).await, 200);
    assert_eq!(lab.status().await["log"]["messages"], 1, "stored once, sent twice");
}

/// When it lasts, connections are refused: that costs no try, for as long as it takes.
#[tokio::test]
async fn refused_connections_cost_no_try() {
    refused(|_| (), 5).await;
}

/// The service manager's socket goes on listening, and answers no attempt to connect: the sender gives
/// each up after 3 s, and that costs no try either.
#[tokio::test]
async fn connections_that_are_not_answered_cost_no_try() {
    refused(Lab::inherit, 1).await;
}

async fn refused(prepare: fn(&mut Lab), failures: u64) {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "")
        .ingest("ack_deadline = \"1s\"\nhold_after = \"100ms\"\nclose_after = \"100ms\"\n");
    let Some(shim) = Shim::build(lab.path(), &lab.data_dir()) else { return };
    prepare(&mut lab);
    lab.environment(shim.environment());
    lab.start().await;
    shim.hold();
    let sending = lab.send(one);
    eventually(SOON, "connections are refused", async || {
        sending.progress.snapshot().connect_failures >= failures
    })
    .await;
    assert_eq!(lab.status().await["ingest"]["state"], "closed");
    shim.release();
    let report = sending.end().await;
    // The one try is the 503 from before they were refused.
    let expected = row("refused", 1, 0, 10, vec![200, 503]);
    assert_eq!(seen(&lab, expected.does, &report).await, expected);
}

/// A connection that is closed while it is idle costs the next frame a try; forebay does that only
/// when it stops. What breaks off before its answer costs a try, too, and is stored once.
#[tokio::test]
async fn a_closed_connection_costs_one_try() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    let sending = lab.send(|config| {
        one(config);
        config.frames = Some(2);
        // A frame every 2 s.
        config.rate = Some(5.0);
    });
    sending.accepted(1).await;
    lab.stop().await;
    lab.start().await;
    let report = sending.end().await;
    let expected = row("closed while idle", 1, 0, 20, vec![200]);
    assert_eq!(seen(&lab, expected.does, &report).await, expected);

    // Reset before the answer: the client is gone, the frame is not.
    let frame = Frame::new("RESET", &["text"]);
    let mut client = lab.client().await;
    client.send(&frame.request()).await;
    drop(client);
    eventually(SOON, "it is stored", async || lab.status().await["log"]["messages"] == 21).await;
    assert_eq!(lab.post(&frame).await, 200);
    assert_eq!(lab.status().await["log"]["messages"], 21, "stored once, sent twice");
}

/// No answer, of whatever status, is chunked: what is left of one is read as the next status.
#[tokio::test]
async fn no_answer_is_chunked() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "").ingest("max_body = \"1MiB\"\n");
    lab.start().await;
    let good = String::from_utf8(Frame::new("1", &["text"]).request()).unwrap();
    let kind = "Content-Type: application/logplex-1";
    for (request, status) in [
        (good.clone(), 200),
        (good.replace("POST /logs", "POST /wrong"), 404),
        (good.replace("POST /logs", "PUT /logs"), 405),
        (good.replace("Authorization", "X-Authorization"), 401),
        (good.replace(kind, "Content-Type: image/png"), 415),
        (good.replace(kind, &format!("{kind}\r\nContent-Encoding: br")), 415),
        (good.replace("/logs", &format!("/logs?{}", "x".repeat(5000))), 414),
        (good.replace("Content-Length: ", "Content-Length: 999999"), 413),
        (good.replace(kind, &format!("{kind}\r\nTransfer-Encoding: chunked")), 400),
        ("rubbish\r\n\r\n".to_owned(), 400),
        (good.replace(kind, &format!("X: {}", "y".repeat(20_000))), 431),
    ] {
        let mut client = lab.client().await;
        client.send(request.as_bytes()).await;
        // Reads by Content-Length, which must be there.
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.status, status, "{}", answer.head);
        assert_eq!(answer.header("transfer-encoding"), None, "{}", answer.head);
    }
}
