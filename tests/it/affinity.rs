//! `destination.affinity`: several indexers behind one balancer.

use std::num::NonZeroUsize;
use std::time::Duration;

use forebay::simulate::hec::{Balancer, Fault, FaultKind, HecConfig};
use forebay::simulate::ledger::{Audit, audit};

use crate::support::{Hec, Lab, SOON, eventually, measured};

/// Quick, and with so many channels that each indexer has some.
const COMMON: &str = "lanes = 4\nack_timeout = \"2s\"\n";
const BATCHES: &str = "[destination.batch]\nmax_events = 50\nlinger = \"5ms\"\n";

fn behind(balancer: Balancer, change: impl FnOnce(&mut HecConfig)) -> Hec {
    let indexers = NonZeroUsize::new(3).unwrap();
    let mut config = HecConfig { indexers, balancer, ..HecConfig::default() };
    change(&mut config);
    Hec::with(config)
}

fn lab(hec: &Hec, affinity: &str) -> Lab {
    let mut lab = Lab::with(hec, BATCHES);
    let keys = format!("{COMMON}affinity = \"{affinity}\"\n{BATCHES}");
    lab.edit(BATCHES, &keys);
    lab
}

async fn resent(lab: &Lab, reason: &str) -> f64 {
    let labels = format!("destination=\"splunk\",reason=\"{reason}\"");
    let series = format!("forebay_resent_batches_total{{{labels}}}");
    lab.metric(&series).await.unwrap_or_default()
}

/// Sends frames while `meanwhile` goes on, waits until all is delivered, and compares the books.
async fn delivered(lab: &Lab, hec: &Hec, meanwhile: impl AsyncFnOnce()) -> Audit {
    let sending = lab.send(|config| config.rate = Some(2000.0));
    sending.accepted(100).await;
    meanwhile().await;
    sending.accepted(100).await;
    sending.stop().await;
    lab.drained(Duration::from_secs(60)).await;
    lab.audit(hec)
}

/// How many indexers have taken something.
fn used(hec: &Hec) -> usize {
    (0..3).filter(|number| hec.handle().indexer_stats(*number).accepted > 0).count()
}

#[tokio::test]
async fn cookies_keep_each_channel_with_its_indexer() {
    let hec = behind(Balancer::Cookie { lifetime: None }, |_| {});
    let mut lab = lab(&hec, "cookie");
    lab.start().await;
    let found = delivered(&lab, &hec, async || {}).await;
    assert_eq!(found.duplicates, 0, "{found}");
    assert_eq!(used(&hec), 3, "channels are spread over the indexers");
    assert!(!lab.log().contains("AWSALB"), "no cookie is in the log");
}

/// A few frames, as everything of them is sent until its acknowledgement happens to be heard.
async fn delivered_in_the_end(lab: &Lab, hec: &Hec) -> Audit {
    lab.send(|config| config.frames = Some(15)).end().await;
    lab.drained(Duration::from_secs(60)).await;
    lab.audit(hec)
}

/// Without: nothing is lost, and much is sent twice.
#[tokio::test]
async fn without_cookies_nothing_is_lost_and_much_is_doubled() {
    let hec = behind(Balancer::Cookie { lifetime: None }, |_| {});
    let mut lab = lab(&hec, "none");
    lab.start().await;
    let found = delivered_in_the_end(&lab, &hec).await;
    measured("duplicates behind a cookie balancer without cookies", found.duplicates);
    assert!(found.duplicates > 0, "{found}");
}

/// A cookie that expires leads elsewhere: the ids tell, and what was outstanding is sent again.
#[tokio::test]
async fn cookies_that_expire_lose_nothing() {
    let lifetime = Some(Duration::from_millis(700));
    let hec = behind(Balancer::Cookie { lifetime }, |_| {});
    let mut lab = lab(&hec, "cookie");
    lab.start().await;
    let found = delivered(&lab, &hec, async || {
        eventually(SOON, "a channel is led elsewhere", async || {
            resent(&lab, "channel_forgotten").await + resent(&lab, "ack_timeout").await > 0.0
        })
        .await;
    })
    .await;
    measured("duplicates with cookies that live for 700 ms", found.duplicates);
}

#[tokio::test]
async fn a_connection_keeps_each_channel_with_its_indexer() {
    let hec = behind(Balancer::Connection, |_| {});
    let mut lab = lab(&hec, "connection");
    lab.start().await;
    let found = delivered(&lab, &hec, async || {}).await;
    assert_eq!(found.duplicates, 0, "{found}");
    assert_eq!(used(&hec), 3, "connections are spread over the indexers");
    assert_eq!(resent(&lab, "connection_lost").await, 0.0);
}

/// Without: polls take any connection, and so reach any indexer.
#[tokio::test]
async fn without_a_connection_of_its_own_nothing_is_lost_and_much_is_doubled() {
    let hec = behind(Balancer::Connection, |_| {});
    let mut lab = lab(&hec, "none");
    lab.start().await;
    let found = delivered_in_the_end(&lab, &hec).await;
    measured("duplicates behind a balancer of layer 4 without affinity", found.duplicates);
    assert!(found.duplicates > 0, "{found}");
}

/// Connections break before, in and behind a POST, and in a question; indexers restart. No
/// acknowledgement is taken from a connection that leads elsewhere: all that is settled is indexed.
#[tokio::test]
async fn connections_that_break_lose_nothing_and_confirm_nothing() {
    let hec = behind(Balancer::Connection, |_| {});
    let mut lab = lab(&hec, "connection");
    lab.start().await;
    let sending = lab.send(|config| config.rate = Some(2000.0));
    let kinds = [
        FaultKind::ResetBeforeBody,
        FaultKind::ResetAfterBody,
        FaultKind::ResetAfterIndexing,
        FaultKind::LostAckReply,
        FaultKind::TruncatedReply,
    ];
    let faults = kinds.map(|kind| Fault::sometimes(kind, 0.05, 7));
    for round in 0..6 {
        hec.handle().set_faults(&faults);
        sending.accepted(50).await;
        hec.handle().set_faults(&[]);
        hec.handle().restart_indexer(round % 3);
        sending.accepted(20).await;
    }
    sending.stop().await;
    lab.drained(Duration::from_secs(60)).await;
    let found = lab.audit(&hec);
    measured("duplicates with connections that break", found.duplicates);
    assert!(resent(&lab, "connection_lost").await > 0.0, "channels ended with their connections");
}

/// A collector that closes idle connections: what waits for its acknowledgement keeps them in use,
/// and what comes after a pause goes over a fresh one. Neither is doubled.
#[tokio::test]
async fn idle_connections_that_are_closed_double_nothing() {
    let hec = behind(Balancer::Connection, |config| {
        config.keep_alive = Some(Duration::from_secs(1));
    });
    let mut lab = lab(&hec, "connection");
    lab.start().await;
    for _ in 0..3 {
        let sending = lab.send(|config| config.frames = Some(20));
        sending.end().await;
        lab.drained(SOON).await;
        let before = forebay::clock::instant();
        eventually(SOON, "the connections are closed", async || {
            before.elapsed() > Duration::from_millis(1500)
        })
        .await;
    }
    let found = audit(&lab.sent, &hec.ledger);
    assert!(found.is_clean() && found.duplicates == 0, "{found}");
}

/// The process is killed: its connections are gone, and what was in flight is sent again at once.
#[tokio::test]
async fn after_a_kill_nothing_is_asked_over_another_connection() {
    let hec = behind(Balancer::Connection, |_| {});
    let mut lab = lab(&hec, "connection");
    lab.start().await;
    let sending = lab.send(|config| config.rate = Some(1000.0));
    sending.accepted(50).await;
    // A checkpoint is written every 200 ms, and knows what is in flight.
    lab.moves("a checkpoint", |status| &status["destinations"][0]["checkpoint"]).await;
    lab.kill();
    lab.start().await;
    sending.accepted(50).await;
    sending.stop().await;
    lab.drained(SOON).await;
    assert!(resent(&lab, "restart").await > 0.0, "what was in flight is sent again");
    assert_eq!(resent(&lab, "connection_lost").await, 0.0, "a question has no connection");
    let found = lab.audit(&hec);
    measured("duplicates of a kill with a connection for each channel", found.duplicates);
}

/// A peer that closes each connection behind its answer: everything is taken, and nobody can be asked
/// about any of it. That has an end, and an operator is told what to mend.
#[tokio::test]
async fn connections_that_end_behind_each_answer_are_held_and_the_reason_is_told() {
    let hec = behind(Balancer::Connection, |config| {
        config.keep_alive = Some(Duration::from_millis(1));
    });
    let mut lab = lab(&hec, "connection");
    lab.start().await;
    lab.send(|config| config.frames = Some(15)).end().await;
    eventually(SOON, "the endpoint is held", async || {
        lab.log().contains("channels are lost before anything on them is acknowledged")
    })
    .await;
    assert!(resent(&lab, "connection_lost").await >= 10.0, "it was tried");
}
