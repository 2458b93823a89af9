//! Several indexers behind one address.

use std::num::NonZeroUsize;

use super::*;

const GOOD: &str = r#"{"event":"a"}"#;

fn behind(balancer: Balancer) -> World {
    World::with(HecConfig { indexers: NonZeroUsize::new(3).unwrap(), balancer, ..config() })
}

fn ack_id(answer: &Answer) -> u64 {
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    json["ackId"].as_u64().unwrap()
}

/// A post with a cookie.
fn with_cookie(cookie: &str) -> Vec<u8> {
    let headers = [
        ("Authorization", "Splunk ack"),
        ("X-Splunk-Request-Channel", CHANNEL),
        ("Cookie", cookie),
    ];
    request("POST", "/services/collector/event", &headers, GOOD)
}

fn cookie_of(answer: &Answer) -> String {
    let line = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    // The head of an answer is in lower case here; the name is not.
    line.split(';').next().unwrap().replace("awsalb", "AWSALB")
}

#[tokio::test]
async fn round_robin_counts_ids_on_each_indexer() {
    let world = behind(Balancer::RoundRobin);
    let mut client = world.connect().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        client.write(event(GOOD)).await;
        ids.push(ack_id(&client.answer().await.unwrap()));
    }
    assert_eq!(ids, [0, 0, 0, 1, 1, 1], "one channel, one connection, three indexers");
    assert_eq!(world.handle.stats().channels, 3);
    for number in 0..3 {
        assert_eq!(world.handle.indexer_stats(number).accepted, 2);
    }
    // A poll reaches one of them, whose ids it spends; the next one asks another.
    assert_eq!(world.poll(CHANNEL, "0").await, r#"{"acks":{"0":true}}"#);
    assert_eq!(world.ledger.totals().acknowledged, 1);
}

#[tokio::test]
async fn a_connection_stays_with_its_indexer() {
    let world = behind(Balancer::Connection);
    let (mut first, mut second) = (world.connect().await, world.connect().await);
    for id in 0..3 {
        for client in [&mut first, &mut second] {
            client.write(event(GOOD)).await;
            assert_eq!(ack_id(&client.answer().await.unwrap()), id);
        }
    }
    let mut shares: Vec<_> = (0..3).map(|n| world.handle.indexer_stats(n).accepted).collect();
    shares.sort_unstable();
    assert_eq!(shares, [0, 3, 3]);
}

#[tokio::test]
async fn a_cookie_leads_back_and_its_value_changes() {
    let world = behind(Balancer::Cookie { lifetime: None });
    let mut answer = world.event(GOOD).await;
    let mut seen = vec![cookie_of(&answer)];
    for id in 1..4 {
        // Other requests in between do not lead it astray.
        world.event(GOOD).await;
        answer = world.send(with_cookie(&format!("other=1; {}", cookie_of(&answer)))).await;
        assert_eq!(ack_id(&answer), id + world_share(&world, id));
        seen.push(cookie_of(&answer));
    }
    seen.dedup();
    assert_eq!(seen.len(), 4, "each answer has another value: {seen:?}");
}

/// Posts without a cookie that came to the first indexer meanwhile: the third of them does.
fn world_share(_: &World, id: u64) -> u64 {
    u64::from(id >= 3)
}

#[tokio::test]
async fn a_cookie_expires() {
    let lifetime = Some(Duration::ZERO);
    let world = behind(Balancer::Cookie { lifetime });
    let mut ids = Vec::new();
    let mut answer = world.event(GOOD).await;
    for _ in 0..3 {
        // Zero has passed when a microsecond has.
        tokio::time::sleep(Duration::from_millis(1)).await;
        answer = world.send(with_cookie(&cookie_of(&answer))).await;
        ids.push(ack_id(&answer));
    }
    assert_eq!(ids, [0, 0, 1], "two further indexers, then the first again");
    let nonsense = world.send(with_cookie("AWSALB=99.x")).await;
    assert_eq!(nonsense.status, 200);
}

#[tokio::test]
async fn one_indexer_of_several_can_lack_the_token_and_restart() {
    let world = behind(Balancer::RoundRobin);
    world.handle.set_indexer_faults(1, &[Fault::always(FaultKind::InvalidToken)]);
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(world.event(GOOD).await.status);
    }
    assert_eq!(statuses, [200, 403, 200, 200, 403, 200]);
    world.handle.restart_indexer(0);
    assert_eq!(ack_id(&world.event(GOOD).await), 0, "the first has forgotten");
    assert_eq!(world.event(GOOD).await.status, 403);
    assert_eq!(ack_id(&world.event(GOOD).await), 2, "the third has not");
}

#[tokio::test]
async fn every_indexer_draws_for_itself() {
    let world = behind(Balancer::RoundRobin);
    let faults =
        [Fault::sometimes(FaultKind::Busy, 0.2, 5), Fault::sometimes(FaultKind::QueueFull, 0.2, 6)];
    world.handle.set_faults(&faults);
    for _ in 0..300 {
        world.event(GOOD).await;
    }
    for number in 0..3 {
        let answers = world.handle.indexer_stats(number).answers;
        for status in [200, 429, 503] {
            assert!(answers.get(&status).is_some_and(|n| *n > 3), "{number}: {answers:?}");
        }
    }
}
