//! Every fault that `faults` does not show already, the script, and poison.

use super::*;

const GOOD: &str = r#"{"event":"a"}"#;
const SUCCESS: &str = r#"{"text":"Success","code":0,"ackId":0}"#;

impl World {
    fn meets(&self, kind: FaultKind) {
        self.handle.set_fault(Some(Fault::always(kind)));
    }

    /// All bytes until the connection closes.
    async fn everything(&self, request: impl AsRef<[u8]>) -> Vec<u8> {
        let mut client = self.connect().await;
        client.write(request).await;
        let mut all = Vec::new();
        // A reset is an end, too.
        drop(timeout(PATIENCE, client.stream.read_to_end(&mut all)).await.unwrap());
        all
    }

    fn accepted(&self) -> u64 {
        self.ledger.totals().accepted
    }
}

#[tokio::test]
async fn refusals_by_code_accept_nothing_and_show_in_the_health() {
    let healthy = (200, r#"{"text":"HEC is healthy","code":17}"#);
    let full = (503, r#"{"text":"HEC is unhealthy, queues are full","code":18}"#);
    let acks = (503, r#"{"text":"HEC is unhealthy, ack service unavailable","code":19}"#);
    let down = (503, r#"{"text":"Server is shutting down","code":23}"#);
    let busy = (503, r#"{"text":"Server is busy","code":9}"#);
    let ack_full = (
        429,
        r#"{"text":"HEC ACK channel is at capacity and cannot process any more requests","code":27}"#,
    );
    let world = World::new();
    for (kind, posted, health) in [
        (FaultKind::RetryAfter, busy, healthy),
        (FaultKind::Unhealthy, full, full),
        (FaultKind::AckFull, ack_full, acks),
        (FaultKind::ShuttingDown, down, down),
    ] {
        world.meets(kind);
        world.event(GOOD).await.is(posted.0, posted.1);
        let request = request("GET", "/services/collector/health?ack=1", &[], "");
        world.send(request).await.is(health.0, health.1);
        assert!(world.handle.stats().faults.contains_key(&kind), "{kind:?} is counted");
    }
    world.meets(FaultKind::ShuttingDown);
    world.send(poll(CHANNEL, "0")).await.is(503, down.1);
    assert_eq!(world.accepted(), 0);
}

#[tokio::test]
async fn retry_after_says_when() {
    let date = "Fri, 31 Dec 1999 23:59:59 GMT";
    for after in ["7", date] {
        let world = World::with(HecConfig { retry_after: after.to_owned(), ..config() });
        world.meets(FaultKind::RetryAfter);
        let answer = world.event(GOOD).await;
        let expected = format!("retry-after: {}\r\n", after.to_ascii_lowercase());
        assert!(answer.head.contains(&expected), "{answer:?}");
    }
}

#[tokio::test]
async fn a_warning_about_acks_is_an_acceptance() {
    let world = World::new();
    world.meets(FaultKind::ApproachingAckCapacity);
    let expected = r#"{"text":"HEC ACK is approaching its capacity limit","code":25,"ackId":0}"#;
    world.event(GOOD).await.is(200, expected);
    assert_eq!(world.poll(CHANNEL, "0").await, r#"{"acks":{"0":true}}"#);
}

#[tokio::test]
async fn acknowledgement_can_be_taken_away() {
    let world = World::new();
    world.event(GOOD).await.is(200, SUCCESS);
    world.meets(FaultKind::AckDisabled);
    world.event(GOOD).await.is(200, r#"{"text":"Success","code":0}"#);
    world.send(poll(CHANNEL, "0")).await.is(400, r#"{"text":"ACK is disabled","code":14}"#);
    world.handle.set_fault(None);
    assert_eq!(world.poll(CHANNEL, "0").await, r#"{"acks":{"0":true}}"#);
    assert_eq!(world.accepted(), 2);
}

#[tokio::test]
async fn proxies_answer_with_pages() {
    let world = World::new();
    for (kind, status) in [(FaultKind::BadGateway, 502), (FaultKind::NoTarget, 503)] {
        world.meets(kind);
        for request in [event(GOOD), poll(CHANNEL, "0")] {
            let answer = world.send(request).await;
            assert_eq!(answer.status, status);
            assert!(answer.body.starts_with("<!doctype html>"), "{answer:?}");
        }
    }
    assert_eq!(world.accepted(), 0);
    for (kind, status, accepted) in
        [(FaultKind::GatewayTimeout, 504, 1), (FaultKind::LostUpstream, 503, 2)]
    {
        world.meets(kind);
        let answer = world.event(GOOD).await;
        assert_eq!(answer.status, status);
        assert!(answer.body.starts_with("<!doctype html>"), "{answer:?}");
        assert_eq!(world.accepted(), accepted, "the proxy gave up, the indexer did not");
    }
}

#[tokio::test]
async fn resets_before_and_after_the_body_accept_nothing() {
    let world = World::new();
    world.meets(FaultKind::ResetBeforeBody);
    // Only the head is sent: the answer does not wait for the body.
    let head = "POST /services/collector/event HTTP/1.1\r\nHost: hec\r\nContent-Length: 9\r\n\r\n";
    assert!(world.everything(head).await.is_empty());
    world.meets(FaultKind::ResetAfterBody);
    assert!(world.everything(event(GOOD)).await.is_empty());
    assert_eq!((world.accepted(), world.handle.stats().unanswered), (0, 2));
}

#[tokio::test]
async fn a_slow_reply_is_late_and_in() {
    let slow = Duration::from_millis(300);
    let world = World::with(HecConfig { slow, ..config() });
    world.meets(FaultKind::SlowReply);
    let start = crate::clock::instant();
    world.event(GOOD).await.is(200, SUCCESS);
    assert!(start.elapsed() >= slow);
    // A poll that is given up spends nothing.
    let mut hasty = world.connect().await;
    hasty.write(poll(CHANNEL, "0")).await;
    while world.handle.stats().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    drop(hasty);
    while world.handle.stats().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    world.handle.set_fault(None);
    assert_eq!(world.poll(CHANNEL, "0").await, r#"{"acks":{"0":true}}"#);
}

#[tokio::test]
async fn an_answer_can_break_off() {
    let world = World::new();
    world.meets(FaultKind::TruncatedReply);
    let answer = String::from_utf8(world.everything(event(GOOD)).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(head.contains(&format!("content-length: {}", SUCCESS.len())), "{answer}");
    assert!(SUCCESS.starts_with(body) && body.len() < SUCCESS.len(), "{answer}");
    assert_eq!(world.accepted(), 1);
    // The `true` in it is spent, and the ledger does not claim that anybody read it.
    assert!(!world.everything(poll(CHANNEL, "0")).await.is_empty());
    world.handle.set_fault(None);
    assert_eq!(world.poll(CHANNEL, "0").await, r#"{"acks":{"0":false}}"#);
    assert_eq!(world.ledger.totals().acknowledged, 0);
}

#[tokio::test]
async fn an_answer_can_be_far_too_long() {
    let world = World::new();
    world.meets(FaultKind::OversizedReply);
    let answer = world.event(GOOD).await;
    assert!(answer.body.len() > 2 << 20 && answer.body.starts_with(SUCCESS));
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(json["ackId"], 0);
    assert_eq!(world.accepted(), 1);
}

#[tokio::test]
async fn a_restart_by_fault_serves_the_request_with_ids_from_0() {
    let world = World::new();
    world.handle.set_ack(AckMode::Never);
    world.event(r#"{"event":"lost"}"#).await.is(200, SUCCESS);
    world.handle.set_ack(AckMode::Never);
    world.meets(FaultKind::Restart);
    world.event(GOOD).await.is(200, SUCCESS);
    world.handle.set_fault(None);
    world.handle.set_ack(AckMode::AT_ONCE);
    assert_eq!(world.ledger.counts_of(b"lost").indexed, 0);
    assert_eq!(world.ledger.counts_of(b"a").indexed, 1);
    assert_eq!(world.poll(CHANNEL, "0").await, r#"{"acks":{"0":true}}"#);
}

#[tokio::test]
async fn a_reaped_channel_begins_anew_and_loses_no_event() {
    let world = World::new();
    world.handle.set_ack(AckMode::Never);
    world.event(GOOD).await.is(200, SUCCESS);
    world.meets(FaultKind::IdleReap);
    world.event(GOOD).await.is(200, SUCCESS);
    world.handle.set_fault(None);
    world.handle.set_ack(AckMode::AT_ONCE);
    assert_eq!(world.ledger.counts_of(b"a").indexed, 2);

    // And by time: idle means neither posted on nor polled.
    let idle = Duration::from_millis(200);
    let world = World::with(HecConfig { channel_idle: Some(idle), ..config() });
    world.event(GOOD).await.is(200, SUCCESS);
    world.event(GOOD).await.is(200, r#"{"text":"Success","code":0,"ackId":1}"#);
    let since = crate::clock::instant();
    while since.elapsed() <= idle {
        tokio::time::sleep(idle / 4).await;
    }
    world.event(GOOD).await.is(200, SUCCESS);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let idle = Duration::from_millis(100);
    let world = World::with(HecConfig { keep_alive: Some(idle), ..config() });
    let mut client = world.connect().await;
    client.write(event(GOOD)).await;
    client.answer().await.unwrap().is(200, SUCCESS);
    assert_eq!(client.answer().await, None);
}

#[tokio::test]
async fn a_script_goes_request_by_request() {
    let world = World::new();
    let script = Script::parse("post ok\npost busy 2\nack lost-ack-reply\npost detention", |_| {
        Err(String::new())
    });
    world.handle.set_script(&script.unwrap());
    world.meets(FaultKind::QueueFull);
    let statuses = async |count| {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(world.event(GOOD).await.status);
        }
        all
    };
    assert_eq!(statuses(3).await, [200, 503, 503]);
    // The next line waits for a poll; a post meets what it would meet without a script.
    assert_eq!(statuses(2).await, [429, 429]);
    assert!(world.everything(poll(CHANNEL, "0")).await.is_empty());
    assert_eq!(statuses(2).await, [404, 429]);
}

#[tokio::test]
async fn a_script_goes_by_time() {
    let ledger = Arc::new(HecLedger::new(1 << 20, 100));
    let server = HecServer::bind(config(), Arc::clone(&ledger)).unwrap();
    let handle = server.handle();
    let ms = |text: &str| {
        let number = text.strip_suffix("ms").and_then(|number| number.parse().ok());
        number.map(Duration::from_millis).ok_or_else(String::new)
    };
    let script = Script::parse("at 1ms busy\nat 400ms busy=0", ms).unwrap();
    handle.set_script(&script);
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(server.run(shutdown.clone()));
    let world = World { handle, ledger, shutdown, tasks };
    let status = async |wanted| {
        timeout(PATIENCE, async { while world.event(GOOD).await.status != wanted {} }).await
    };
    status(503).await.unwrap();
    status(200).await.unwrap();
}

#[tokio::test]
async fn poison_is_refused_for_good_and_the_prefix_is_in() {
    let of = |code, marker: &str| Poison { marker: marker.to_owned(), code };
    let poison = vec![
        of(PoisonCode::InvalidData, "P-06"),
        of(PoisonCode::IncorrectIndex, "P-07"),
        of(PoisonCode::EventRequired, "P-12"),
        of(PoisonCode::EventBlank, "P-13"),
        of(PoisonCode::IndexedFields, "P-15"),
    ];
    let world = World::with(HecConfig { poison, ..config() });
    let mut ack = 0;
    for code in ["06", "07", "12", "13", "15"] {
        let number = |bad: u64| bad + u64::from(code == "07");
        let code_number: u64 = code.parse().unwrap();
        let tail = |bad| format!("\"code\":{code_number},\"invalid-event-number\":{}", number(bad));
        for _ in 0..2 {
            let body = format!(r#"{GOOD}{GOOD}{{"event":"x P-{code} y"}}{GOOD}"#);
            let answer = world.event(body).await;
            assert_eq!(answer.status, 400);
            let expected = format!("{},\"ackId\":{ack}}}", tail(2));
            assert!(answer.body.ends_with(&expected), "{answer:?} {expected}");
            ack += 1;
            let answer = world.event(format!(r#"{{"event":{{"k":"P-{code}"}}}}{GOOD}"#)).await;
            assert!(answer.body.ends_with(&format!("{}}}", tail(0))), "{answer:?}");
        }
    }
    let counts = world.ledger.counts_of(b"a");
    assert_eq!((counts.accepted, world.accepted()), (20, 20));
}

/// Every fault, one after the other: nothing is ever counted as acknowledged that was not
/// indexed, and what a client was told it may rely on is in the index.
#[tokio::test]
async fn the_ledger_stays_the_truth_under_every_fault() {
    let world = World::with(HecConfig { slow: Duration::from_millis(1), ..config() });
    for (number, kind) in FaultKind::ALL.into_iter().enumerate() {
        if kind == FaultKind::Hang {
            continue;
        }
        world.meets(kind);
        let text = format!("event-{number}");
        let before = world.accepted();
        let answer = world.everything_with_close(&format!(r#"{{"event":"{text}"}}"#)).await;
        let counts = world.ledger.counts_of(text.as_bytes());
        assert_eq!(u64::from(counts.accepted), world.accepted() - before, "{kind:?}");
        let told = answer.starts_with("HTTP/1.1 200") && answer.contains("\"ackId\"");
        if told {
            assert_eq!(counts.accepted, 1, "{kind:?}: {answer}");
        }
        world.handle.set_fault(None);
    }
    let totals = world.ledger.totals();
    assert!(totals.acknowledged <= totals.indexed && totals.indexed <= totals.accepted);
}

impl World {
    async fn everything_with_close(&self, body: &str) -> String {
        let headers = [
            ("Authorization", "Splunk ack"),
            ("X-Splunk-Request-Channel", CHANNEL),
            ("Connection", "close"),
        ];
        let request = request("POST", "/services/collector/event", &headers, body);
        String::from_utf8(self.everything(request).await).unwrap()
    }
}
