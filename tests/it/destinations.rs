use std::time::Duration;

use forebay::simulate::hec::{AckMode, Fault, FaultKind, HecConfig, On, Script, Step};
use forebay::simulate::ledger::audit;

use serde_json::Value;

use crate::support::{
    Destination, Frame, Hec, Lab, Port, SOON, eventually, measured, run, usual_ack,
};

/// Small batches and a quick machine, so that much happens in little time.
const SMALL: &str = "[destination.batch]\nmax_events = 200\nlinger = \"20ms\"\n";

/// A destination that is held hears of nothing until it is probed again. What waits for it is
/// shown all the same: else an operator sees a small backlog that does not grow.
#[tokio::test]
async fn a_held_destination_shows_what_waits_for_it() {
    let hec = Hec::usual();
    hec.handle().set_fault(Some(Fault::always(FaultKind::InvalidToken)));
    let mut lab = Lab::with(&hec, "hold_probe = \"1h\"\n");
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("A1", &["the first"])).await, 200);
    eventually(SOON, "the destination is held", async || {
        lab.metric("forebay_destination_held{destination=\"splunk\"}").await == Some(1.0)
    })
    .await;
    // In one go, so that no later frame makes the ones before it seen.
    let frames: Vec<Frame> =
        (0..5).map(|n| Frame::new(&format!("B{n}"), &["one", "two"])).collect();
    for frame in &frames {
        assert_eq!(lab.post(frame).await, 200);
    }
    eventually(SOON, "everything is seen to wait", async || {
        lab.metric("forebay_pending_messages{destination=\"splunk\"}").await == Some(11.0)
    })
    .await;
    let books = lab.books("splunk").await;
    assert_eq!((books.accepted, books.pending, books.difference), (11, 11, 0), "{books:?}");
    let lag = lab.metric("forebay_lag_seconds{destination=\"splunk\"}").await.unwrap();
    eventually(SOON, "the lag grows", async || {
        lab.metric("forebay_lag_seconds{destination=\"splunk\"}").await.unwrap() > lag
    })
    .await;
}

/// I6: a dead and a hanging destination change nothing for ingest and for the living one.
#[tokio::test]
async fn destinations_do_not_feel_each_other() {
    let (alive, hanging, dead) = (Hec::usual(), Hec::usual(), Port::free());
    hanging.handle().set_fault(Some(Fault::always(FaultKind::Hang)));
    let mut lab = Lab::new(vec![
        Destination::new("dead", dead.address(), SMALL),
        Destination::new("alive", alive.address(), SMALL),
        Destination::new("hanging", hanging.address(), SMALL),
    ]);
    lab.show(&alive);
    lab.start().await;

    let sending = lab.send(|config| {
        config.frames = Some(600);
        config.rate = Some(4000.0);
    });
    let mut looks = 0;
    while sending.progress.snapshot().totals.accepted_frames < 600 {
        for name in ["dead", "alive", "hanging"] {
            let books = lab.books(name).await;
            assert_eq!(books.difference, 0, "I8, at any moment: {name}: {books:?}");
            looks += 1;
        }
    }
    assert!(looks > 30, "the books were looked at while they moved: {looks} times");
    let report = sending.end().await;
    let messages = report.end.totals.accepted_messages;
    assert_eq!((messages, report.end.totals.retries), (12_000, 0), "{report}");
    let p99 = report.latency.quantile(0.99);
    assert!(p99 < Duration::from_millis(500), "{report}");
    measured("p99 of ingest beside a dead and a hanging destination, ms", p99.as_millis());

    eventually(SOON, "the living one has it all", async || {
        lab.books("alive").await.acknowledged == messages
    })
    .await;
    let books = lab.books("alive").await;
    assert_eq!((books.accepted, books.pending, books.difference), (messages, 0, 0), "{books:?}");
    let found = lab.audit(&alive);
    assert_eq!((found.accepted_messages, found.duplicates), (messages, 0), "{found}");
    for name in ["dead", "hanging"] {
        eventually(SOON, "the books know of every message", async || {
            lab.books(name).await.accepted == messages
        })
        .await;
        let books = lab.books(name).await;
        assert_eq!((books.pending, books.difference), (messages, 0), "{name}: {books:?}");
        assert_eq!(books.acknowledged + books.filtered, 0, "{name}: {books:?}");
    }
}

/// A collector that is away for ten seconds costs nothing but time.
#[tokio::test]
async fn a_collector_that_is_down_for_ten_seconds_loses_nothing() {
    let mut hec = Hec::usual();
    // What the collector took and had not indexed when it died is only found missing by the
    // acknowledgement that does not come.
    let mut lab = Lab::with(
        &hec,
        "ack_timeout = \"3s\"\n[destination.batch]\nmax_events = 200\nlinger = \"20ms\"\n",
    );
    lab.start().await;
    let sending = lab.send(|config| config.rate = Some(2000.0));
    sending.accepted(50).await;

    hec.stop().await;
    let down = forebay::clock::instant();
    eventually(SOON, "ten seconds pass", async || down.elapsed() >= Duration::from_secs(10)).await;
    let behind = lab.books("splunk").await.pending;
    assert!(behind > 10_000, "ingest goes on meanwhile: {behind}");
    hec.start();

    sending.accepted(50).await;
    let report = sending.stop().await;
    assert_eq!(report.end.totals.retries, 0, "the sender feels nothing: {report}");
    lab.drained(SOON).await;
    let found = lab.audit(&hec);
    measured("duplicates after a collector died under load", found.duplicates);
}

/// A restart of Splunk forgets channels and what it had not indexed, and says nothing. Whatever a
/// recycled id may seem to say: all that is accepted is indexed in the end.
#[tokio::test]
async fn a_collector_that_forgets_its_channels_never_acknowledges_falsely() {
    let hec = Hec::usual();
    let mut lab = Lab::with(
        &hec,
        "ack_timeout = \"2s\"\n[destination.batch]\nmax_events = 50\nlinger = \"5ms\"\n",
    );
    lab.start().await;
    let sending = lab.send(|config| config.rate = Some(5000.0));
    for _ in 0..10 {
        sending.accepted(60).await;
        assert!(hec.handle().stats().unindexed_requests > 0, "something is there to be forgotten");
        hec.handle().restart();
    }
    sending.accepted(60).await;
    sending.stop().await;
    lab.drained(SOON).await;
    let found = lab.audit(&hec);
    measured("duplicates after 10 silent restarts of the collector", found.duplicates);
}

/// Acknowledgements that do not come: everything is sent again on fresh channels, and when they
/// come again, everything drains.
#[tokio::test]
async fn acknowledgements_that_never_come_are_not_waited_for_in_vain() {
    let hec = Hec::up(AckMode::Never);
    let mut lab = Lab::with(&hec, "ack_timeout = \"1s\"\nwindow = 8\n");
    lab.start().await;
    let sending = lab.send(|config| config.frames = Some(100));
    sending.end().await;
    eventually(SOON, "everything is sent three times", async || {
        hec.ledger.totals().accepted >= 3 * 2000
    })
    .await;
    let resent = "forebay_resent_batches_total{destination=\"splunk\",reason=\"ack_timeout\"}";
    assert!(lab.metric(resent).await.unwrap() >= 2.0);
    // Two lanes: without fresh channels there would be two.
    let channels = hec.handle().stats().channels;
    assert!(channels >= 4, "{channels} channels");
    let books = lab.books("splunk").await;
    assert_eq!((books.acknowledged, books.pending), (0, 2000), "a 200 settles nothing: {books:?}");
    assert_eq!(audit(&lab.sent, &hec.ledger).lost, 2000, "nothing is indexed yet");

    hec.handle().set_ack(AckMode::AT_ONCE);
    lab.drained(SOON).await;
    lab.audit(&hec);
}

/// A proxy says 503 when it has nobody to hand a request to, and also when its indexer died with the
/// request: then the batch may stand under an id that was another batch's before.
#[tokio::test]
async fn a_503_of_a_proxy_is_no_proof_that_nothing_was_taken() {
    let hec = Hec::up(AckMode::Never);
    let one_channel = "lanes = 1\nmax_lanes = 1\n[destination.batch]\nlinger = \"5ms\"\n";
    let mut lab = Lab::with(&hec, one_channel);
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("A1", &["before the restart"])).await, 200);
    eventually(SOON, "it is accepted", async || {
        hec.ledger.counts_of(b"before the restart").accepted == 1
    })
    .await;
    // The restart forgets it, and the next batch gets its id.
    hec.handle().restart();
    hec.handle().set_fault(Some(Fault::always(FaultKind::LostUpstream)));
    hec.handle().set_ack(AckMode::AT_ONCE);
    assert_eq!(lab.post(&Frame::new("B1", &["after the restart"])).await, 200);
    eventually(SOON, "the proxy has lost the indexer", async || {
        hec.handle().stats().faults.contains_key(&FaultKind::LostUpstream)
    })
    .await;
    hec.handle().set_fault(None);
    lab.drained(SOON).await;
    for text in ["before the restart", "after the restart"] {
        assert!(hec.ledger.counts_of(text.as_bytes()).indexed >= 1, "{text} is lost");
    }
}

/// Splunk forgets channels that nobody uses. What comes after a pause goes over a fresh one.
#[tokio::test]
async fn what_comes_after_a_long_pause_is_delivered_once() {
    let idle = Duration::from_secs(6);
    let hec = Hec::with(HecConfig { channel_idle: Some(idle), ..HecConfig::default() });
    let mut lab = Lab::with(&hec, "ack_timeout = \"3s\"\n[destination.batch]\nlinger = \"5ms\"\n");
    lab.start().await;
    let mut texts = Vec::new();
    for round in 0..3 {
        for number in 0..3 {
            let text = format!("round {round} number {number}");
            let frame = Frame::new(&format!("{round}-{number}"), &[&text]);
            assert_eq!(lab.post(&frame).await, 200);
            lab.drained(SOON).await;
            texts.push(text);
        }
        let since = forebay::clock::instant();
        eventually(SOON, "channels are forgotten", async || since.elapsed() > idle).await;
    }
    for text in texts {
        let counts = hec.ledger.counts_of(text.as_bytes());
        assert_eq!((counts.accepted, counts.acknowledged), (1, 1), "{text}");
    }
}

/// Indexers that take longer than `ack_timeout`, always: delivery gets on, and does not send the
/// window again and again.
#[tokio::test]
async fn acknowledgements_that_come_late_are_not_met_with_ever_more_copies() {
    let late = Duration::from_secs(4);
    let hec = Hec::up(AckMode::After { min: late, max: late });
    let mut lab = Lab::with(&hec, "ack_timeout = \"1s\"\n[destination.batch]\nmax_events = 100\n");
    lab.start().await;
    let sending = lab.send(|config| config.frames = Some(200));
    sending.end().await;
    lab.drained(Duration::from_secs(90)).await;
    let found = lab.audit(&hec);
    assert!(found.duplicates <= 2 * found.accepted_messages, "{found}");
    measured("duplicates of 4000 when acknowledgements take four times too long", found.duplicates);
}

/// An acknowledgement that comes when its batch was sent again already settles it. Here nothing else
/// does: the copy is never acknowledged.
#[tokio::test]
async fn an_acknowledgement_that_comes_late_settles_what_was_sent_again() {
    let takes = |wait| AckMode::After { min: wait, max: wait };
    let hec = Hec::up(takes(Duration::from_secs(5)));
    let mut lab = Lab::with(&hec, "ack_timeout = \"1s\"\n");
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("A1", &["the only one"])).await, 200);
    eventually(SOON, "it is accepted", async || hec.ledger.totals().accepted == 1).await;
    // What is on its way keeps its time.
    hec.handle().set_ack(takes(Duration::from_hours(1)));
    let series = "forebay_resent_batches_total{destination=\"splunk\",reason=\"ack_timeout\"}";
    eventually(SOON, "it is sent again", async || lab.metric(series).await == Some(1.0)).await;
    lab.drained(SOON).await;
    let counts = hec.ledger.counts_of(b"the only one");
    assert_eq!(counts.acknowledged, 1, "{counts:?}");
    lab.stop().await;
}

/// A poll was refused and the endpoint held, then polls work again, and there is nothing to be posted.
#[tokio::test]
async fn a_hold_that_a_poll_began_ends_on_a_quiet_destination() {
    let hec = Hec::usual();
    let step = Step { on: On::Ack, fault: Some(FaultKind::InvalidToken), times: 1 };
    hec.handle().set_script(&Script { steps: [step].into(), timed: Vec::new() });
    let mut lab = Lab::with(&hec, "hold_probe = \"1h\"\n");
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("A1", &["the only one"])).await, 200);
    lab.drained(SOON).await;
    assert_eq!(hec.handle().stats().faults[&FaultKind::InvalidToken], 1);
    eventually(SOON, "the destination is not held", async || {
        lab.metric("forebay_destination_held{destination=\"splunk\"}").await == Some(0.0)
    })
    .await;
}

/// A collector that is away is named with the reason, by the status and, once, by the log; and its return.
#[tokio::test]
async fn a_collector_that_is_away_is_told_with_the_reason() {
    let mut hec = Hec::down(usual_ack());
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("01", &["one", "two"])).await, 200);
    eventually(SOON, "the status has the reason", async || {
        let endpoint = lab.status().await["destinations"][0]["endpoints"][0].clone();
        let reason = endpoint["reason"].as_str().unwrap_or_default().to_owned();
        endpoint["state"] == "resting" && reason.contains("it cannot be reached: ")
    })
    .await;
    let config = lab.config_file();
    let said = run(&["status", "--config", config.to_str().unwrap()]).stdout;
    assert!(said.contains("  resting: it cannot be reached: Connection refused"), "{said}");
    hec.start();
    lab.drained(SOON).await;
    let endpoint = lab.status().await["destinations"][0]["endpoints"][0].clone();
    assert_eq!((&endpoint["state"], &endpoint["reason"]), (&"up".into(), &Value::Null));
    let log = lab.log();
    assert_eq!(log.matches("a collector takes nothing; it is tried again").count(), 1);
    assert_eq!(log.matches("a collector takes batches again").count(), 1);
    lab.stop().await;
}
