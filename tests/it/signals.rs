use std::time::Duration;

use forebay::simulate::hec::{Fault, FaultKind};

use crate::support::{
    Frame, Hec, Lab, SOON, Sending, eventually, from_environment, measured, number, usual_ack,
};

/// Messages a second while the process dies and starts.
const RATE: u32 = 20_000;

/// Small segments, so that they roll while the process stops, and small batches.
const SEGMENTS: &str = "segment_size = \"1MiB\"\nretention = \"0s\"\n";
const BATCHES: &str = "window = 16\n[destination.batch]\nmax_events = 200\nlinger = \"20ms\"\n";

/// The same, and old channels are asked for two seconds, or not at all.
const ASKING: &str =
    "recall = \"2s\"\nwindow = 16\n[destination.batch]\nmax_events = 200\nlinger = \"20ms\"\n";
const NOT_ASKING: &str =
    "recall = \"0s\"\nwindow = 16\n[destination.batch]\nmax_events = 200\nlinger = \"20ms\"\n";

/// A log that is soon full: what is delivered has to go at once, so that drops happen all the time
/// and not every ten seconds.
const SMALL_LOG: &str = "segment_size = \"1MiB\"\nmax_size = \"6MiB\"\nretention = \"0s\"\n";

/// How often, unless `FOREBAY_KILLS` says otherwise.
const KILLS: u64 = 200;

/// What a kill waits for. Each is something that has just happened, so that what follows it is what
/// the kill hits.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The log is open; nothing else is.
    Opened,
    /// So many frames were answered.
    Answered(u64),
    /// The collector has taken events.
    Posted,
    /// A checkpoint has moved.
    Checkpointed,
    /// Segments have gone; the next ones roll.
    Dropped,
}

impl Moment {
    fn any(chance: &mut fastrand::Rng) -> Self {
        match chance.u8(..8) {
            0 => Self::Opened,
            1 => Self::Posted,
            2 => Self::Checkpointed,
            3 | 4 => Self::Dropped,
            // Sometimes in the first frames after recovery, sometimes in full flight.
            _ => Self::Answered(chance.u64(1..120)),
        }
    }

    async fn wait(self, lab: &Lab, hec: &Hec, sending: &Sending) {
        match self {
            Self::Opened => {}
            Self::Answered(frames) => sending.accepted(frames).await,
            Self::Posted => {
                let before = hec.ledger.totals().accepted;
                eventually(SOON, "events are posted", async || {
                    hec.ledger.totals().accepted > before
                })
                .await;
            }
            Self::Checkpointed => {
                lab.moves("a checkpoint moves", |status| &status["destinations"][0]["checkpoint"])
                    .await;
            }
            Self::Dropped => {
                lab.moves("segments are dropped", |status| &status["log"]["first_offset"]).await;
            }
        }
    }
}

/// The heart of it: SIGKILL under load, 200 times, some of them while it starts, and every message
/// that was answered 2xx is indexed and acknowledged in the end. Duplicates come from the kills
/// alone.
#[tokio::test]
async fn killed_200_times_under_load_and_nothing_is_lost() {
    // The collector acknowledges within 300 ms: what it has not in two seconds, it never will.
    killed(from_environment("FOREBAY_KILLS").unwrap_or(KILLS), ASKING).await;
}

/// The same without the old channels, as a measure of what it saves to ask them.
#[tokio::test]
async fn killed_10_times_without_asking_old_channels_and_nothing_is_lost() {
    killed(10, NOT_ASKING).await;
}

async fn killed(kills: u64, settings: &'static str) {
    let seed = from_environment("FOREBAY_KILL_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("FOREBAY_KILL_SEED={seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, settings).wal(SMALL_LOG);
    let sending = lab.send(|config| {
        config.connections = number(8);
        config.messages_per_frame = number(50);
        config.rate = Some(f64::from(RATE));
    });
    for _ in 0..kills {
        let moment = Moment::any(&mut chance);
        if let Moment::Opened = moment {
            let opened = |log: &str| log.matches("the log is open").count();
            let before = opened(&lab.log());
            lab.launch();
            eventually(SOON, "the log is open", async || opened(&lab.log()) > before).await;
        } else {
            lab.start().await;
            moment.wait(&lab, &hec, &sending).await;
        }
        lab.kill();
    }
    lab.start().await;
    sending.accepted(50).await;
    sending.connected(8).await;
    let report = sending.stop().await;
    lab.drained(Duration::from_secs(60)).await;

    let found = lab.audit(&hec);
    let drops = lab.log().matches("segments dropped").count() as u64;
    assert!(drops * 10 > kills, "segments roll, are sealed and go between the kills: {drops}");
    // A kill doubles what was sent and is not below a synced checkpoint: the window at most, and
    // what was settled since the last checkpoint, for which one window more is generous.
    let bound = kills * 2 * 16 * 200;
    assert!(found.duplicates <= bound, "more than {bound}: {found}");
    assert!(found.duplicates > 0, "the kills hit something: {found}");
    measured("messages accepted", found.accepted_messages);
    measured("frames the sender gave up", report.end.totals.gave_up_frames);
    measured("drops of segments", drops);
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
