//! Restarts, stops and faults.

use super::*;

const GOOD: &str = r#"{"event":"a"}"#;
const SUCCESS: &str = r#"{"text":"Success","code":0,"ackId":0}"#;

impl World {
    fn fault(&self, kind: FaultKind) {
        self.handle.set_fault(Some(Fault::always(kind)));
    }

    /// A request that ends without an answer.
    async fn unanswered(&self, request: impl AsRef<[u8]>) {
        let mut client = self.connect().await;
        client.write(request).await;
        assert_eq!(client.answer().await, None);
    }
}

#[tokio::test]
async fn a_restart_forgets_acks_and_loses_what_was_not_indexed() {
    let world = World::new();
    world.event(GOOD).await.is(200, SUCCESS);
    world.handle.set_ack(AckMode::Never);
    assert_eq!(world.event(r#"{"event":"lost"}"#).await.status, 200);
    world.handle.restart();
    assert_eq!(world.handle.stats().channels, 0);
    world.handle.set_ack(AckMode::AT_ONCE);

    assert_eq!(world.poll(CHANNEL, "0,1").await, r#"{"acks":{"0":false,"1":false}}"#);
    assert_eq!(world.ledger.counts_of(b"a").indexed, 1);
    assert_eq!(
        world.ledger.counts_of(b"lost"),
        Counts { accepted: 1, indexed: 0, acknowledged: 0 }
    );
    // Ids begin again, so an id from before now names another request.
    world.event(GOOD).await.is(200, SUCCESS);
    assert_eq!(world.poll(CHANNEL, "0").await, r#"{"acks":{"0":true}}"#);
}

#[tokio::test]
async fn a_stop_closes_everything_and_the_port_is_free_at_once() {
    let world = World::new();
    let listen = world.handle.local_addr();
    world.fault(FaultKind::Hang);
    let (mut idle, mut hanging) = (world.connect().await, world.connect().await);
    idle.write(request("GET", "/services/collector/health", &[], "")).await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    hanging.write(event(GOOD)).await;
    world.wait_accepted(1).await;
    world.stop().await;
    assert_eq!(idle.answer().await, None);
    assert_eq!(hanging.answer().await, None);

    let next = World::with(HecConfig { listen, ..config() });
    next.event(GOOD).await.is(200, SUCCESS);
}

#[tokio::test]
async fn refusals_that_accept_nothing() {
    let world = World::new();
    for (kind, status, body) in [
        (FaultKind::Busy, 503, r#"{"text":"Server is busy","code":9}"#),
        (
            FaultKind::QueueFull,
            429,
            r#"{"text":"HEC queue is at capacity and cannot process any more requests","code":26}"#,
        ),
        (FaultKind::InvalidToken, 403, r#"{"text":"Invalid token","code":4}"#),
        (FaultKind::Detention, 404, NOT_FOUND),
    ] {
        world.fault(kind);
        world.event(GOOD).await.is(status, body);
        world.send(post("/services/collector/raw", "plain", None, "x")).await.is(status, body);
        let polled = world.send(poll(CHANNEL, "0")).await.status;
        let all_routes = matches!(kind, FaultKind::InvalidToken | FaultKind::Detention);
        let expected = if all_routes { status } else { 200 };
        assert_eq!(polled, expected, "{kind:?}");
    }
    assert_eq!(world.handle.stats().accepted, 0);
    world.handle.set_fault(None);
    world.event(GOOD).await.is(200, SUCCESS);
}

#[tokio::test]
async fn full_queues_and_detention_show_in_the_health() {
    let world = World::new();
    let health = request("GET", "/services/collector/health", &[], "");
    world.fault(FaultKind::QueueFull);
    let full = r#"{"text":"HEC is unhealthy, queues are full","code":18}"#;
    world.send(&health).await.is(503, full);
    world.fault(FaultKind::Detention);
    world.send(&health).await.is(404, NOT_FOUND);
    world.fault(FaultKind::Busy);
    world.send(&health).await.is(200, r#"{"text":"HEC is healthy","code":17}"#);
}

#[tokio::test]
async fn a_warning_is_an_acceptance() {
    let world = World::new();
    world.fault(FaultKind::ApproachingCapacity);
    let expected = r#"{"text":"HEC queue is approaching its capacity limit","code":24,"ackId":0}"#;
    world.event(GOOD).await.is(200, expected);
    assert_eq!(world.poll(CHANNEL, "0").await, r#"{"acks":{"0":true}}"#);
}

#[tokio::test]
async fn errors_and_resets_come_after_the_indexing() {
    let hour = Duration::from_secs(3600);
    let world = World::with(HecConfig { ack: AckMode::After { min: hour, max: hour }, ..config() });
    world.fault(FaultKind::ServerError);
    world.event(GOOD).await.is(500, r#"{"text":"Internal server error","code":8}"#);
    world.fault(FaultKind::ResetAfterIndexing);
    world.unanswered(event(GOOD)).await;
    let counts = world.ledger.counts_of(b"a");
    assert_eq!(counts, Counts { accepted: 2, indexed: 2, acknowledged: 0 });
    let stats = world.handle.stats();
    assert_eq!((stats.answers.get(&500), stats.unanswered), (Some(&1), 1));
}

#[tokio::test]
async fn a_portal_answers_with_a_page() {
    let world = World::new();
    world.fault(FaultKind::Captive);
    for request in [event(GOOD), poll(CHANNEL, "0"), request("GET", "/anything", &[], "")] {
        let answer = world.send(request).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.starts_with("<!doctype html>"), "{answer:?}");
    }
    assert_eq!(world.handle.stats().accepted, 0);
}

#[tokio::test]
async fn a_hanging_post_is_in_and_is_answered_when_the_fault_is_lifted() {
    let world = World::new();
    world.event(GOOD).await.is(200, SUCCESS);
    world.fault(FaultKind::Hang);
    let (mut posting, mut polling) = (world.connect().await, world.connect().await);
    posting.write(event(GOOD)).await;
    polling.write(poll(CHANNEL, "0")).await;
    world.wait_accepted(2).await;
    let early = timeout(Duration::from_millis(50), posting.answer()).await;
    assert!(early.is_err(), "answered while hanging: {early:?}");

    world.handle.set_fault(None);
    posting.answer().await.unwrap().is(200, r#"{"text":"Success","code":0,"ackId":1}"#);
    polling.answer().await.unwrap().is(200, r#"{"acks":{"0":true}}"#);
}

#[tokio::test]
async fn a_lost_ack_reply_spends_the_true() {
    let world = World::new();
    world.event(GOOD).await.is(200, SUCCESS);
    world.fault(FaultKind::LostAckReply);
    world.unanswered(poll(CHANNEL, "0")).await;
    world.handle.set_fault(None);
    assert_eq!(world.poll(CHANNEL, "0").await, r#"{"acks":{"0":false}}"#);
    // The client was never told, and the ledger does not claim it was.
    assert_eq!(world.ledger.totals().acknowledged, 0);
}

#[tokio::test]
async fn a_share_of_the_requests_is_hit() {
    let world = World::new();
    world.handle.set_fault(Some(Fault::sometimes(FaultKind::Busy, 0.3, 7)));
    let mut client = world.connect().await;
    for _ in 0..400 {
        client.write(event(GOOD)).await;
        client.answer().await.unwrap();
    }
    let answers = world.handle.stats().answers;
    let (good, busy) = (answers[&200], answers[&503]);
    assert_eq!(good + busy, 400);
    assert!((80..160).contains(&busy), "{busy} of 400");
    assert_eq!(world.handle.stats().accepted, good);
}

#[tokio::test]
async fn limits_answer_busy() {
    let world = World::with(HecConfig { max_pending: 2, ..config() });
    for _ in 0..2 {
        assert_eq!(world.event(GOOD).await.status, 200);
    }
    let busy = r#"{"text":"Server is busy","code":9}"#;
    world.event(GOOD).await.is(503, busy);
    // Reading an acknowledgement makes room.
    world.poll(CHANNEL, "0").await;
    assert_eq!(world.event(GOOD).await.status, 200);

    let world = World::with(HecConfig { max_requests: 1, ..config() });
    world.fault(FaultKind::Hang);
    let mut hanging = world.connect().await;
    hanging.write(event(GOOD)).await;
    world.wait_accepted(1).await;
    world.event(GOOD).await.is(503, busy);
}

#[tokio::test]
async fn tokens_do_not_show() {
    let shown = format!("{:?}", World::new().handle);
    assert!(!shown.contains("narrow"), "{shown}");
}
