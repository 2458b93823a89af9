//! Defects that other clients have, as `docs/comparison.md` lists them, provoked here.

use std::path::Path;
use std::time::Duration;

use forebay::simulate::hec::{Fault, FaultKind, HecConfig, On, Script, Step};

use crate::support::{Frame, Hec, Lab, SOON, eventually, number};

const SMALL: &str = "timeout = \"1s\"\nhold_probe = \"100ms\"\nack_timeout = \"5s\"\n\
     [destination.batch]\nmax_events = 100\nlinger = \"20ms\"\n";

#[test]
fn every_defect_names_tests_that_exist() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/comparison.md");
    let page = std::fs::read_to_string(page).unwrap();
    let exists = super::guarantees::known_tests();
    let mut rows = 0;
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").collect();
        // The head of a table, and the line below it.
        if cells.last().is_some_and(|cell| cell.contains("shown by") || cell.contains("---")) {
            continue;
        }
        let tests: Vec<_> = cells.last().unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "a row without a test: {line}");
        for test in tests {
            assert!(exists(test), "no such test: {test}");
        }
        rows += 1;
    }
    assert!(rows >= 20, "Vector's eight, the connector's ten, and more: {rows}");
}

/// Vector takes a 4xx from `/ack`, or a page that is no answer, for an acknowledgement of all.
#[tokio::test]
async fn a_poll_that_is_refused_or_answered_by_a_portal_acknowledges_nothing() {
    for kind in [
        FaultKind::InvalidToken,
        FaultKind::AckDisabled,
        FaultKind::Detention,
        FaultKind::Captive,
        FaultKind::BadGateway,
    ] {
        let hec = Hec::usual();
        // Polls only: the posts go through.
        let script = Script {
            steps: [Step { on: On::Ack, fault: Some(kind), times: 2 }].into(),
            timed: Vec::new(),
        };
        hec.handle().set_script(&script);
        let mut lab = Lab::with(&hec, SMALL);
        lab.start().await;
        assert_eq!(lab.post(&Frame::new("01", &["one", "two"])).await, 200);
        eventually(SOON, "a poll has met it", async || {
            hec.handle().stats().faults.get(&kind).is_some_and(|hits| *hits > 0)
        })
        .await;
        let reported = hec.handle().stats().acknowledged;
        let books = lab.books("splunk").await;
        assert!(books.acknowledged <= reported, "{kind:?}: {books:?}, reported {reported}");
        lab.drained(SOON).await;
        assert!(hec.handle().stats().acknowledged >= 2, "{kind:?}: reported by the collector");
    }
}

/// The connector takes codes 24 and 25 on 200 for a failure and sends the batch again.
#[tokio::test]
async fn a_warning_on_200_is_a_success_and_doubles_nothing() {
    for kind in [FaultKind::ApproachingCapacity, FaultKind::ApproachingAckCapacity] {
        let hec = Hec::usual();
        hec.handle().set_fault(Some(Fault::always(kind)));
        let mut lab = Lab::with(&hec, SMALL);
        lab.start().await;
        lab.send(|config| config.frames = Some(6)).end().await;
        // Each answer earns the collector a rest.
        lab.drained(Duration::from_secs(60)).await;
        assert!(hec.handle().stats().faults[&kind] > 0);
        assert_eq!(lab.audit(&hec).duplicates, 0, "{kind:?}");
    }
}

/// The connector's timeout is stored and never used.
#[tokio::test]
async fn the_timeout_is_the_one_that_is_configured() {
    let hec = Hec::usual();
    hec.handle().set_fault(Some(Fault::always(FaultKind::Hang)));
    let mut lab = Lab::with(&hec, SMALL);
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("01", &["one"])).await, 200);
    let resent = "forebay_resent_batches_total{destination=\"splunk\",reason=\"doubt\"}";
    // The client library's own is 30 seconds, the connector's 60.
    eventually(Duration::from_secs(15), "it is not waited for longer", async || {
        lab.metric(resent).await.is_some_and(|count| count >= 1.0)
    })
    .await;
    hec.handle().set_fault(None);
    lab.drained(SOON).await;
    assert!(hec.ledger.counts_of(b"one").acknowledged >= 1);
}

/// A busy Splunk closes connections that are idle, and a request may meet the close.
#[tokio::test]
async fn connections_that_the_collector_closes_when_idle_lose_and_double_nothing() {
    let hec = Hec::with(HecConfig {
        keep_alive: Some(Duration::from_millis(60)),
        ..HecConfig::default()
    });
    let mut lab = Lab::with(&hec, SMALL);
    lab.start().await;
    // Pauses of about the time after which connections are closed.
    lab.send(|config| {
        config.connections = number(1);
        config.messages_per_frame = number(1);
        config.frames = Some(60);
        config.rate = Some(15.0);
    })
    .end()
    .await;
    lab.drained(SOON).await;
    assert_eq!(lab.audit(&hec).duplicates, 0);
}
