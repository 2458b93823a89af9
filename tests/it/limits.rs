use std::collections::BTreeSet;
use std::time::Duration;

use forebay::simulate::hec::AckMode;

use crate::support::{
    Frame, Hec, Lab, SOON, Shim, eventually, measured, number, peak_memory, run, usual_ack,
};

const SMALL_LOG: &str = "segment_size = \"1MiB\"\nmax_size = \"4MiB\"\nretention = \"0s\"\n";
const SMALL_INGEST: &str = "max_body = \"1MiB\"\nmax_in_flight = \"2MiB\"\nack_deadline = \"1s\"\n";

/// A log that is full of what cannot be delivered: requests are held, then answered 503, never
/// 4xx, then connections are refused; and when there is space again everything goes on.
#[tokio::test]
async fn a_full_log_holds_refuses_and_goes_on() {
    let mut hec = Hec::down(usual_ack());
    let mut lab = Lab::with(&hec, "").wal(SMALL_LOG).ingest(SMALL_INGEST);
    lab.start().await;
    let sending = lab.send(|config| {
        config.messages_per_frame = number(100);
        config.message_bytes = 1000;
    });
    eventually(SOON, "the log is full", async || lab.get("/readyz").await.unwrap().status == 503)
        .await;
    let status = lab.status().await;
    assert_eq!(status["log"]["space_is_short"], true, "{status}");
    eventually(SOON, "a held request is answered 503", async || {
        sending.progress.snapshot().answers.contains_key(&503)
    })
    .await;
    eventually(SOON, "connections are refused", async || {
        sending.progress.snapshot().connect_failures > 0
    })
    .await;
    let config = lab.config_file();
    let said = run(&["status", "--config", config.to_str().unwrap()]).stdout;
    for words in ["no space is left for frames; `forebay cursor list`", "ingest is closed: "] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let full = lab.status().await["log"]["bytes"].as_u64().unwrap();
    // Over the limit by at most what one group may take.
    assert!((4 << 20..9 << 20).contains(&full), "{full} bytes");

    hec.start();
    let took = eventually(SOON, "there is space again", async || {
        lab.get("/readyz").await.unwrap().status == 200
    })
    .await;
    measured("space was back after the collector was, ms", took.as_millis());
    sending.accepted(100).await;
    let report = sending.stop().await;
    let answers: BTreeSet<u16> = report.end.answers.keys().copied().collect();
    assert_eq!(answers, BTreeSet::from([200, 503]), "{report}");
    assert_eq!(report.end.timeouts, 0, "held no longer than Logplex waits: {report}");
    lab.drained(SOON).await;
    let found = lab.audit(&hec);
    assert_eq!(found.duplicates, 0, "{found}");
    eventually(SOON, "delivered segments are dropped", async || {
        lab.status().await["log"]["first_offset"].as_u64().unwrap() > 0
    })
    .await;
}

/// A log that is kept as large as it may be: what only retention keeps makes room at once, and
/// nobody who sends feels it.
#[tokio::test]
async fn retention_never_stops_ingest() {
    let hec = Hec::up(AckMode::AT_ONCE);
    let mut lab = Lab::with(&hec, "[destination.batch]\nlinger = \"5ms\"\n")
        .wal("segment_size = \"1MiB\"\nmax_size = \"8MiB\"\nretention = \"24h\"\n");
    lab.start().await;
    // 40 MB at 4 MB a second: the limit is reached again and again.
    let report = lab
        .send(|config| {
            config.messages_per_frame = number(20);
            config.message_bytes = 1000;
            config.frames = Some(2000);
            config.rate = Some(4000.0);
        })
        .end()
        .await;
    assert_eq!(report.end.totals.retries, 0, "{report}");
    assert!(report.latency.max() < Duration::from_secs(1), "{report}");
    measured("longest answer while retention makes room, ms", report.latency.max().as_millis());
    assert!(lab.log().contains("\"space_is_short\":true"), "the limit was reached");
    lab.drained(SOON).await;
    assert_eq!(lab.audit(&hec).duplicates, 0);
}

/// The memory for bodies is taken by what the disk has not taken: the next request waits, and is
/// answered 503 in time. Nothing is refused for good.
#[tokio::test]
async fn bodies_wait_for_memory() {
    let mut hec = Hec::down(usual_ack());
    let mut lab = Lab::with(&hec, "").ingest(SMALL_INGEST);
    let Some(shim) = Shim::build(lab.path(), &lab.data_dir()) else { return };
    lab.environment(shim.environment());
    lab.start().await;
    shim.hold();
    let text = "z".repeat(900 << 10);
    let frames = [
        Frame::new("A1", &[&format!("first {text}")]),
        Frame::new("A2", &[&format!("second {text}")]),
    ];
    let (mut one, mut two) = (lab.client().await, lab.client().await);
    one.send(&frames[0].request()).await;
    shim.until_it_holds_one().await;
    let start = forebay::clock::instant();
    let second = async { (two.post(&frames[1]).await, start.elapsed()) };
    let (first, (second, after)) = tokio::join!(one.answer(), second);
    assert_eq!((first.unwrap().status, second), (503, 503));
    assert!((Duration::from_millis(900)..Duration::from_secs(2)).contains(&after), "{after:?}");
    shim.release();
    for frame in &frames {
        assert_eq!(lab.post(frame).await, 200);
    }
    // The first was stored when its sync returned, though nobody waited any more.
    assert_eq!(lab.metric("forebay_frames_duplicate_total").await, Some(1.0));
    hec.start();
    assert_eq!(lab.drained(SOON).await.accepted, 2);
}

/// I7: a backlog takes disk and no memory, while it grows and while it is delivered.
#[tokio::test]
async fn a_backlog_takes_no_memory() {
    const FRAMES: u64 = 600;
    let mut hec = Hec::down(usual_ack());
    let mut lab = Lab::with(&hec, "").wal("segment_size = \"16MiB\"\n");
    lab.start().await;
    let report = lab
        .send(|config| {
            config.connections = number(8);
            config.messages_per_frame = number(500);
            config.message_bytes = 1000;
            config.frames = Some(FRAMES);
        })
        .end()
        .await;
    assert_eq!(report.end.totals.accepted_frames, FRAMES, "{report}");
    let bytes = lab.status().await["log"]["bytes"].as_u64().unwrap();
    assert!(bytes > 300_000_000, "{bytes}");
    let growing = peak_memory(lab.process().id());
    hec.start();
    eventually(SOON, "a good part is delivered", async || {
        hec.ledger.totals().acknowledged > 100_000
    })
    .await;
    let delivering = peak_memory(lab.process().id());
    measured("peak memory with 300 MB of backlog, MiB", growing >> 10);
    measured("peak memory after delivering 100 MB of it, MiB", delivering >> 10);
    // 128 MiB of write buffers, 64 MiB of bodies in flight, and the rest.
    assert!(delivering < 300 << 10, "{delivering} KiB");
}
