//! Bodies, codes, channels and acknowledgements.

use super::*;

const SUCCESS: &str = r#"{"text":"Success","code":0,"ackId":0}"#;

#[tokio::test]
async fn accepts_and_writes_down_what_came() {
    let world = World::new();
    let body = concat!(
        r#"{"time":1767323045.000001,"host":"h","source":"s","sourcetype":"t","index":"i","#,
        r#""event":"caf\u00e9 \"x\"","fields":{"a":"b"}}"#,
        r#"{"event":{"k":[1]}}{"event":7,"host":"own"}"#,
    );
    let path = "/services/collector?host=d%20h&index=di";
    world.send(post(path, "ack", Some(CHANNEL), body)).await.is(200, SUCCESS);

    let kept = world.ledger.events();
    assert_eq!(kept.len(), 3);
    let [first, second, third] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!((&*first.event, first.is_text), ("café \"x\"", true));
    assert_eq!(first.time.as_deref(), Some("1767323045.000001"));
    let metadata = [&first.host, &first.source, &first.sourcetype, &first.index];
    assert_eq!(
        metadata.map(|value| value.as_deref()),
        [Some("h"), Some("s"), Some("t"), Some("i")]
    );
    assert_eq!(serde_json::Value::from(first.fields.clone()), serde_json::json!({"a": "b"}));
    assert_eq!((&*second.event, second.is_text), (r#"{"k":[1]}"#, false));
    assert_eq!(second.host.as_deref(), Some("d h"));
    assert_eq!((third.host.as_deref(), third.index.as_deref()), (Some("own"), Some("di")));
    assert!(kept.iter().all(|event| event.indexed && !event.acknowledged));
    let counts = world.ledger.counts_of("café \"x\"".as_bytes());
    assert_eq!(counts, Counts { accepted: 1, indexed: 1, acknowledged: 0 });
}

#[tokio::test]
async fn refusals_name_the_event_and_carry_the_prefix() {
    const GOOD: &str = r#"{"event":"g"}"#;
    let cases = [
        (r#"{"event":"#, "Invalid data format", 6),
        (r#""text""#, "Invalid data format", 6),
        (r#"{"host":"h"}"#, "Event field is required", 12),
        (r#"{"event":null}"#, "Event field cannot be blank", 13),
        (r#"{"event":""}"#, "Event field cannot be blank", 13),
        (r#"{"event":" \n\t"}"#, "Event field cannot be blank", 13),
        (r#"{"event":{}}"#, "Event field cannot be blank", 13),
        (r#"{"event":[]}"#, "Event field cannot be blank", 13),
        (r#"{"event":"a","fields":{"a":{"b":"c"}}}"#, "Error in handling indexed fields", 15),
        (r#"{"event":"a","time":1.79E9}"#, "Error in handling indexed fields", 15),
        (r#"{"event":"a","time":"soon"}"#, "Error in handling indexed fields", 15),
    ];
    let world = World::new();
    let mut accepted = 0;
    for (ack_id, (bad, text, code)) in cases.into_iter().enumerate() {
        let number =
            |n: u64| format!(r#"{{"text":"{text}","code":{code},"invalid-event-number":{n}"#);
        world.event(format!("{bad}{GOOD}")).await.is(400, &format!("{}}}", number(0)));
        let expected = format!("{},\"ackId\":{ack_id}}}", number(2));
        world.event(format!("{GOOD}\n{GOOD}{bad}{GOOD}")).await.is(400, &expected);
        accepted += 2;
        assert_eq!(world.handle.stats().accepted, accepted, "{bad}");

        let plain = post("/services/collector", "plain", None, format!("{GOOD}{bad}"));
        world.send(plain).await.is(400, &format!("{}}}", number(1)));
        accepted += 1;
    }
    assert_eq!(world.handle.stats().indexed, accepted);
}

#[tokio::test]
async fn a_wrong_index_is_named_one_too_high() {
    let world = World::new();
    let narrow = |body: &str| post("/services/collector/event", "narrow", Some(CHANNEL), body);
    let (good, bad) = (r#"{"index":"main","event":"g"}"#, r#"{"index":"other","event":"b"}"#);
    let body = format!("{good}{good}{bad}{good}");
    let expected = r#"{"text":"Incorrect index","code":7,"invalid-event-number":3,"ackId":0}"#;
    world.send(narrow(&body)).await.is(400, expected);
    assert_eq!(world.handle.stats().accepted, 2);
    let expected = r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#;
    world.send(narrow(bad)).await.is(400, expected);
    // Without a name of its own the event goes to the token's default index.
    world
        .send(narrow(r#"{"event":"g"}"#))
        .await
        .is(200, r#"{"text":"Success","code":0,"ackId":1}"#);
    let by_query =
        post("/services/collector?index=other", "narrow", Some(CHANNEL), r#"{"event":"g"}"#);
    world.send(by_query).await.is(400, expected);
    // An empty list takes any name.
    world.event(bad).await.is(200, SUCCESS);
}

#[tokio::test]
async fn an_unknown_key_ends_the_reading_in_silence() {
    let world = World::new();
    let body = r#"{"event":"a"}{"event":"b","severity":"info"}{"event":"c"}"#;
    world.event(body).await.is(200, SUCCESS);
    assert_eq!(world.handle.stats().accepted, 1);
    world
        .event(r#"{"severity":"info","event":"a"}"#)
        .await
        .is(400, r#"{"text":"No data","code":5}"#);
    assert_eq!(world.handle.stats().accepted, 1);
}

#[tokio::test]
async fn fields_alone_are_accepted_and_are_no_event() {
    let world = World::new();
    world.event(r#"{"fields":{"a":"b"}}"#).await.is(200, SUCCESS);
    assert_eq!(world.handle.stats().accepted, 0);
    assert_eq!(world.poll(CHANNEL, "0").await, r#"{"acks":{"0":true}}"#);
}

#[tokio::test]
async fn empty_bodies_and_arrays() {
    let world = World::new();
    for empty in ["", " \n "] {
        world.event(empty).await.is(400, r#"{"text":"No data","code":5}"#);
    }
    world.event(r#"[{"event":"a"},{"event":"b"}]"#).await.is(200, SUCCESS);
    assert_eq!(world.handle.stats().accepted, 2);
}

#[tokio::test]
async fn an_event_can_be_too_large() {
    let world = World::with(HecConfig { max_event_size: 40, ..config() });
    let fits = r#"{"event":"123456789012345678901234567"}"#;
    assert_eq!(fits.len(), 39);
    let large = r#"{"event":"12345678901234567890123456789"}"#;
    let expected = r#"{"text":"Invalid data format","code":6,"invalid-event-number":1,"ackId":0}"#;
    world.event(format!("{fits}{large}")).await.is(400, expected);
}

#[tokio::test]
async fn a_body_can_be_too_large() {
    let world = World::with(HecConfig { max_content_length: 1000, ..config() });
    let body = r#"{"event":"0123456789"}"#.repeat(1 << 16);
    let answer = world.event(&body).await;
    assert_eq!(answer.status, 413);
    assert!(answer.body.contains("too large (maximum is 1000)"), "{answer:?}");
    let chunked = format!(
        "POST /services/collector HTTP/1.1\r\nHost: hec\r\nAuthorization: Splunk plain\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    assert_eq!(world.send(chunked).await.status, 413);
    // The limit counts what comes out of the compression, too.
    let compressed = gzip(&r#"{"event":"0123456789"}"#.repeat(100));
    assert!(compressed.len() < 1000);
    assert_eq!(world.send(compressed).await.status, 413);
    assert_eq!(world.handle.stats().accepted, 0);
}

fn gzip(body: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    encoded("gzip", &encoder.finish().unwrap())
}

fn encoded(encoding: &str, body: &[u8]) -> Vec<u8> {
    let headers = [
        ("Authorization", "Splunk ack"),
        ("X-Splunk-Request-Channel", CHANNEL),
        ("Content-Encoding", encoding),
    ];
    request("POST", "/services/collector/event", &headers, body)
}

#[tokio::test]
async fn gzip_and_nothing_else() {
    let world = World::new();
    world.send(gzip(r#"{"event":"a"}"#)).await.is(200, SUCCESS);
    let bad = r#"{"text":"Invalid data format","code":6}"#;
    world.send(encoded("gzip", b"no gzip")).await.is(400, bad);
    for other in ["deflate", "zstd", "snappy"] {
        let answer = world.send(encoded(other, b"x")).await;
        assert_eq!(answer.status, 415);
        assert!(answer.head.contains("content-type: text/html"), "{answer:?}");
        assert!(answer.body.starts_with("<!doctype html>"), "{answer:?}");
    }
}

#[tokio::test]
async fn checks_token_then_query_then_acknowledgement_then_channel_then_body() {
    let world = World::new();
    let (no_channel, bad) = (None, "{");
    let event = "/services/collector/event";
    let cases = [
        (request("POST", event, &[], bad), 401, "Token is required", 2),
        (
            request("POST", event, &[("Authorization", "Splunk")], bad),
            401,
            "Invalid authorization",
            3,
        ),
        (
            request("POST", event, &[("Authorization", "Bearer ack")], bad),
            401,
            "Invalid authorization",
            3,
        ),
        (post(event, "wrong", no_channel, bad), 403, "Invalid token", 4),
        (post(event, "off", no_channel, bad), 403, "Token disabled", 1),
        (post("/services/collector?token=wrong", "ack", no_channel, bad), 403, "Invalid token", 4),
        (
            post("/services/collector?token=ack", "plain", no_channel, bad),
            400,
            "Query string authorization is not enabled",
            16,
        ),
        (post("/services/collector/ack", "plain", no_channel, bad), 400, "ACK is disabled", 14),
        (
            post("/services/collector/ack", "ack", no_channel, bad),
            400,
            "Data channel is missing",
            10,
        ),
        (post(event, "ack", no_channel, bad), 400, "Data channel is missing", 10),
        (
            post("/services/collector/raw", "ack", no_channel, bad),
            400,
            "Data channel is missing",
            10,
        ),
        (post(event, "ack", Some("one"), bad), 400, "Invalid data channel", 11),
        (post("/services/collector?channel=x", "ack", None, bad), 400, "Invalid data channel", 11),
    ];
    for (request, status, text, code) in cases {
        let expected = format!(r#"{{"text":"{text}","code":{code}}}"#);
        world.send(request).await.is(status, &expected);
    }
    // And each of them passes once its condition holds.
    let good = r#"{"event":"a"}"#;
    let query = format!("/services/collector?token=query&channel={CHANNEL}");
    world.send(request("POST", &query, &[], good)).await.is(200, r#"{"text":"Success","code":0}"#);
    let query = format!("/services/collector?channel={CHANNEL}");
    world.send(post(&query, "ack", None, good)).await.is(200, SUCCESS);
    let basic = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "x:plain");
    let basic = request("POST", event, &[("Authorization", &format!("Basic {basic}"))], good);
    world.send(basic).await.is(200, r#"{"text":"Success","code":0}"#);
}

#[tokio::test]
async fn routes_methods_and_health() {
    let world = World::new();
    for alias in ["", "/event", "/event/1.0"] {
        let path = format!("/services/collector{alias}");
        let good = post(&path, "plain", None, r#"{"event":"a"}"#);
        world.send(good).await.is(200, r#"{"text":"Success","code":0}"#);
        world.send(request("GET", &path, &[], "")).await.is(405, NOT_FOUND);
        let options = world.send(request("OPTIONS", &path, &[], "")).await;
        options.is(200, "");
        assert!(options.head.contains("allow: post,options"), "{options:?}");
    }
    for path in ["/", "/services/collector/nothing", "/services/collector/event/"] {
        world.send(post(path, "ack", Some(CHANNEL), "{}")).await.is(404, NOT_FOUND);
    }
    for path in ["/health", "/health/1.0", "/health?ack=1", "/health?ack=true&token=wrong"] {
        let path = format!("/services/collector{path}");
        let healthy = r#"{"text":"HEC is healthy","code":17}"#;
        world.send(request("GET", &path, &[], "")).await.is(200, healthy);
    }
    let options = world.send(request("OPTIONS", "/services/collector/health", &[], "")).await;
    assert!(options.head.contains("allow: get,head,options"), "{options:?}");
}

#[tokio::test]
async fn raw_lines_are_events() {
    let world = World::new();
    let body = "one\ntwo\r\n\n  \nthree";
    let raw = "/services/collector/raw?sourcetype=st";
    world.send(post(raw, "plain", None, body)).await.is(200, r#"{"text":"Success","code":0}"#);
    let kept = world.ledger.events();
    let texts: Vec<_> = kept.iter().map(|event| &*event.event).collect();
    assert_eq!(texts, ["one", "two", "three"]);
    assert_eq!(kept[0].sourcetype.as_deref(), Some("st"));
    world.send(post(raw, "ack", Some(CHANNEL), body)).await.is(200, SUCCESS);
    world.send(post(raw, "plain", None, "\n")).await.is(400, r#"{"text":"No data","code":5}"#);
}

#[tokio::test]
async fn ids_count_per_channel_and_true_is_said_once() {
    let world = World::new();
    let good = r#"{"event":"a"}"#;
    for id in 0..2 {
        let expected = format!(r#"{{"text":"Success","code":0,"ackId":{id}}}"#);
        world.event(good).await.is(200, &expected);
    }
    let other = post("/services/collector", "ack", Some(OTHER_CHANNEL), good);
    world.send(other).await.is(200, SUCCESS);
    // The same GUID on another token is another channel.
    let other = post("/services/collector", "narrow", Some(CHANNEL), good);
    world.send(other).await.is(200, SUCCESS);
    assert_eq!(world.handle.stats().channels, 3);

    // A channel nobody posted on, and ids nobody was given, read false.
    let unknown = "2bd84bbd-d4a1-4b1a-b9f1-ee1c6a5b2b8a";
    assert_eq!(world.poll(unknown, "0,1").await, r#"{"acks":{"0":false,"1":false}}"#);
    assert_eq!(world.poll(CHANNEL, "1,7").await, r#"{"acks":{"1":true,"7":false}}"#);
    assert_eq!(world.poll(CHANNEL, "0,1").await, r#"{"acks":{"0":true,"1":false}}"#);
    assert_eq!(world.poll(OTHER_CHANNEL, "0").await, r#"{"acks":{"0":true}}"#);
    assert_eq!(world.ledger.totals().acknowledged, 3);
    assert_eq!(world.handle.stats().acknowledged, 3);
}

#[tokio::test]
async fn an_ack_comes_with_the_index_and_not_before() {
    let hour = Duration::from_secs(3600);
    let world = World::with(HecConfig { ack: AckMode::After { min: hour, max: hour }, ..config() });
    world.event(r#"{"event":"slow"}"#).await.is(200, SUCCESS);
    assert_eq!(world.poll(CHANNEL, "0").await, r#"{"acks":{"0":false}}"#);
    assert_eq!(world.handle.stats().unindexed_requests, 1);

    let short = Duration::from_millis(5);
    world.handle.set_ack(AckMode::After { min: short, max: 2 * short });
    world.event(r#"{"event":"fast"}"#).await.is(200, r#"{"text":"Success","code":0,"ackId":1}"#);
    // Nobody polls: the pipeline moves by itself.
    world.wait_indexed(1).await;
    assert_eq!(
        world.ledger.counts_of(b"fast"),
        Counts { accepted: 1, indexed: 1, acknowledged: 0 }
    );
    assert_eq!(world.poll(CHANNEL, "0,1").await, r#"{"acks":{"0":false,"1":true}}"#);
}

#[tokio::test]
async fn a_standstill_ends_when_the_mode_changes() {
    let world = World::with(HecConfig { ack: AckMode::Never, ..config() });
    for _ in 0..3 {
        assert_eq!(world.event(r#"{"event":"a"}"#).await.status, 200);
    }
    assert_eq!(world.poll(CHANNEL, "0,1,2").await, r#"{"acks":{"0":false,"1":false,"2":false}}"#);
    assert_eq!(world.ledger.totals().indexed, 0);
    let delay = Duration::from_millis(1);
    world.handle.set_ack(AckMode::After { min: delay, max: delay });
    world.wait_indexed(3).await;
    assert_eq!(world.poll(CHANNEL, "0,1,2").await, r#"{"acks":{"0":true,"1":true,"2":true}}"#);
}

#[tokio::test]
async fn polls_that_are_no_polls() {
    let world = World::new();
    let ack = |body: &str| post("/services/collector/ack", "ack", Some(CHANNEL), body);
    world.send(ack("")).await.is(400, r#"{"text":"No data","code":5}"#);
    world.send(ack("{}")).await.is(400, r#"{"text":"Invalid data format","code":6}"#);
    world
        .send(ack(r#"{"acks":["0"]}"#))
        .await
        .is(400, r#"{"text":"Invalid data format","code":6}"#);
}

#[tokio::test]
async fn a_connection_is_kept_and_requests_may_follow_each_other() {
    let world = World::new();
    let mut client = world.connect().await;
    let good = r#"{"event":"a"}"#;
    client.write([event(good), event("{"), poll(CHANNEL, "0")].concat()).await;
    client.answer().await.unwrap().is(200, SUCCESS);
    let refused = r#"{"text":"Invalid data format","code":6,"invalid-event-number":0}"#;
    client.answer().await.unwrap().is(400, refused);
    client.answer().await.unwrap().is(200, r#"{"acks":{"0":true}}"#);
}
