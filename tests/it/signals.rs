use std::time::Duration;

use forebay::simulate::hec::{Fault, FaultKind};

use crate::support::{Frame, Hec, Lab, SOON, eventually, measured, number, usual_ack};

/// Small segments, so that they roll and are dropped while the process dies, and small batches.
const SEGMENTS: &str = "segment_size = \"1MiB\"\nretention = \"0s\"\n";
const BATCHES: &str = "window = 16\n[destination.batch]\nmax_events = 200\nlinger = \"20ms\"\n";

/// The same, and old channels are asked for two seconds, or not at all.
const ASKING: &str =
    "recall = \"2s\"\nwindow = 16\n[destination.batch]\nmax_events = 200\nlinger = \"20ms\"\n";
const NOT_ASKING: &str =
    "recall = \"0s\"\nwindow = 16\n[destination.batch]\nmax_events = 200\nlinger = \"20ms\"\n";

const KILLS: u64 = 25;

/// The heart of it: SIGKILL under load, 25 times, and 5 times more while it starts, and every
/// message that was answered 2xx is indexed and acknowledged in the end. Duplicates come from the
/// kills alone.
#[tokio::test]
async fn killed_25_times_under_load_and_nothing_is_lost() {
    // The collector acknowledges within 300 ms: what it has not in two seconds, it never will.
    killed(KILLS, ASKING).await;
}

/// The same without the old channels, as a measure of what it saves to ask them.
#[tokio::test]
async fn killed_10_times_without_asking_old_channels_and_nothing_is_lost() {
    killed(10, NOT_ASKING).await;
}

async fn killed(kills: u64, settings: &'static str) {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, settings).wal(SEGMENTS);
    let mut chance = fastrand::Rng::new();
    let sending = lab.send(|config| {
        config.connections = number(8);
        config.messages_per_frame = number(50);
        config.rate = Some(10_000.0);
    });
    let mut segments = 0;
    for kill in 0..kills {
        if kill % 5 == 4 {
            // In the middle of a start, too.
            let opened = |log: &str| log.matches("the log is open").count();
            let before = opened(&lab.log());
            lab.launch();
            eventually(SOON, "the log is open", async || opened(&lab.log()) > before).await;
            lab.kill();
        }
        lab.start().await;
        // Sometimes in the first frames after recovery, sometimes in full flight.
        sending.accepted(chance.u64(1..120)).await;
        segments = lab.status().await["log"]["segments"].as_u64().unwrap().max(segments);
        lab.kill();
    }
    lab.start().await;
    sending.accepted(50).await;
    sending.connected(8).await;
    let report = sending.stop().await;
    lab.drained(Duration::from_secs(60)).await;

    let found = lab.audit(&hec);
    assert!(segments > 2, "segments roll");
    // A kill doubles what was sent and is not below a synced checkpoint: at most the window, and
    // what was settled since the last checkpoint, which one window more is generous for.
    let bound = kills * 2 * 16 * 200;
    assert!(found.duplicates <= bound, "more than {bound}: {found}");
    assert!(found.duplicates > 0, "the kills hit something: {found}");
    measured("messages accepted", found.accepted_messages);
    measured("frames the sender gave up", report.end.totals.gave_up_frames);
    measured("duplicates a kill", found.duplicates / kills);
    measured("duplicates", found.duplicates);
}

/// SIGTERM under load, again and again: exit 0, soon, and not one message lost or doubled.
#[tokio::test]
async fn stopped_5_times_under_load_and_nothing_is_lost_or_doubled() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, BATCHES).wal(SEGMENTS);
    let sending = lab.send(|config| {
        config.connections = number(8);
        config.rate = Some(8000.0);
    });
    for _ in 0..5 {
        lab.start().await;
        sending.accepted(200).await;
        measured("a stop under load took, ms", lab.stop().await.as_millis());
    }
    lab.start().await;
    sending.connected(8).await;
    let report = sending.stop().await;
    assert_eq!(report.end.totals.gave_up_frames, 0, "{report}");
    lab.drained(SOON).await;
    let found = lab.audit(&hec);
    assert_eq!((found.duplicates, found.not_accepted_messages), (0, 0), "{found}");
}

/// A stop while the only destination is down: readiness first, then the listener, then the request
/// in flight, which still gets its 200; what is undelivered is delivered by the next start.
#[tokio::test]
async fn a_stop_with_a_dead_destination_is_in_order() {
    let mut hec = Hec::down(usual_ack());
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    lab.send(|config| config.frames = Some(100)).end().await;

    let late = Frame::new("1F", &["in flight when the stop came"]).request();
    let (first, rest) = late.split_at(late.len() - 10);
    let mut in_flight = lab.client().await;
    in_flight.send(first).await;
    // It is in the handler once the server has taken everything and waits for the rest.
    eventually(SOON, "the connection is open", async || {
        lab.metric("forebay_http_connections").await == Some(1.0)
    })
    .await;
    assert_eq!(lab.get("/readyz").await.unwrap().status, 200);
    lab.process().terminate();
    eventually(SOON, "readiness goes off", async || {
        lab.get("/readyz").await.expect("admin answers while it stops").status == 503
    })
    .await;
    assert_eq!(lab.get("/healthz").await.unwrap().status, 200);
    eventually(SOON, "connections are refused", async || {
        tokio::net::TcpStream::connect(lab.ingest_address()).await.is_err()
    })
    .await;
    assert_eq!(lab.process().ended(), None, "it waits for the request");
    in_flight.send(rest).await;
    let answer = in_flight.answer().await.expect("the request in flight is finished");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    let (code, took) = lab.exit(Duration::from_secs(10)).await;
    // 75 when it waited in vain for the batches it had tried to send.
    assert!(matches!(code, Some(0 | 75)), "{code:?}");
    measured("a stop with a dead destination took, ms", took.as_millis());

    hec.start();
    lab.start().await;
    lab.drained(SOON).await;
    let counts = hec.ledger.counts_of(b"in flight when the stop came");
    assert_eq!((counts.accepted, counts.acknowledged), (1, 1));
    // The ledger of the sender does not know the frame that was sent by hand.
    let found = forebay::simulate::ledger::audit(&lab.sent, &hec.ledger);
    let figures = (found.lost, found.duplicates, found.unexpected, found.unacknowledged);
    assert_eq!(figures, (0, 0, 1, 0), "{found}");
}

/// A stop while the destination hangs in the middle of requests: it gives up on them in time.
#[tokio::test]
async fn a_stop_with_a_hanging_destination_ends_in_time() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, BATCHES);
    lab.start().await;
    hec.handle().set_fault(Some(Fault::always(FaultKind::Hang)));
    lab.send(|config| config.frames = Some(100)).end().await;
    eventually(SOON, "two requests hang", async || hec.handle().stats().in_flight == 2).await;

    lab.process().terminate();
    eventually(SOON, "readiness goes off", async || {
        lab.get("/readyz").await.expect("admin answers while it stops").status == 503
    })
    .await;
    let (code, took) = lab.exit(Duration::from_secs(10)).await;
    assert_eq!(code, Some(75), "the deadline passed, and the exit code says so");
    measured("a stop with a hanging destination took, ms", took.as_millis());

    hec.handle().set_fault(None);
    lab.start().await;
    lab.drained(SOON).await;
    let found = lab.audit(&hec);
    // What was in the two requests, and nothing else.
    assert!(found.duplicates <= 2 * 200, "{found}");
}

/// A second SIGTERM ends the process at once, which is as safe as a kill.
#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, BATCHES);
    lab.start().await;
    hec.handle().set_fault(Some(Fault::always(FaultKind::Hang)));
    lab.send(|config| config.frames = Some(100)).end().await;
    eventually(SOON, "two requests hang", async || hec.handle().stats().in_flight == 2).await;
    lab.process().terminate();
    eventually(SOON, "the stop has begun", async || {
        lab.get("/readyz").await.is_some_and(|answer| answer.status == 503)
    })
    .await;
    lab.process().terminate();
    let (code, took) = lab.exit(Duration::from_secs(3)).await;
    assert_eq!(code, Some(75), "after {took:?}");

    hec.handle().set_fault(None);
    lab.start().await;
    lab.drained(SOON).await;
    lab.audit(&hec);
}
