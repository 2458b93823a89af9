use super::*;

const NOW: UnixMicros = UnixMicros::new(784_111_777_000_000); // Sun, 06 Nov 1994 08:49:37 GMT

/// What a verdict is, without what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Accepted,
    AcceptedSlowDown,
    Busy,
    Doubt,
    DoubtChannelLost,
    Endpoint,
    Fault,
    Partial(Option<u64>),
    TooLarge,
    Unknown,
}

fn kind(verdict: &Verdict) -> Kind {
    match verdict {
        Verdict::Accepted { slow_down: false, .. } => Kind::Accepted,
        Verdict::Accepted { slow_down: true, .. } => Kind::AcceptedSlowDown,
        Verdict::Busy { .. } => Kind::Busy,
        Verdict::Doubt { channel_lost: false, .. } => Kind::Doubt,
        Verdict::Doubt { channel_lost: true, .. } => Kind::DoubtChannelLost,
        Verdict::Endpoint { .. } => Kind::Endpoint,
        Verdict::Fault { .. } => Kind::Fault,
        Verdict::Partial { bad, .. } => Kind::Partial(*bad),
        Verdict::TooLarge { .. } => Kind::TooLarge,
        Verdict::Unknown { .. } => Kind::Unknown,
    }
}

#[test]
fn every_code_that_splunk_documents() {
    use Kind::*;
    for (code, status, text, extra, expected) in [
        (0, 200, "Success", "", Accepted),
        (1, 403, "Token disabled", "", Fault),
        (2, 401, "Token is required", "", Fault),
        (3, 401, "Invalid authorization", "", Fault),
        (4, 403, "Invalid token", "", Fault),
        (5, 400, "No data", "", Partial(None)),
        (6, 400, "Invalid data format", r#","invalid-event-number":2"#, Partial(Some(2))),
        (6, 400, "Invalid data format", "", Partial(None)),
        (7, 400, "Incorrect index", r#","invalid-event-number":1"#, Partial(Some(0))),
        (7, 400, "Incorrect index", r#","invalid-event-number":0"#, Partial(None)),
        (7, 400, "Incorrect index", "", Partial(None)),
        (8, 500, "Internal server error", "", Doubt),
        (9, 503, "Server is busy", "", Busy),
        (10, 400, "Data channel is missing", "", Fault),
        (11, 400, "Invalid data channel", "", DoubtChannelLost),
        (12, 400, "Event field is required", r#","invalid-event-number":0"#, Partial(Some(0))),
        (13, 400, "Event field cannot be blank", r#","invalid-event-number":9"#, Partial(Some(9))),
        (14, 400, "ACK is disabled", "", Fault),
        (
            15,
            400,
            "Error in handling indexed fields",
            r#","invalid-event-number":1"#,
            Partial(Some(1)),
        ),
        (16, 400, "Query string authorization is not enabled", "", Fault),
        (17, 200, "HEC is healthy", "", Unknown),
        (18, 503, "HEC is unhealthy, queues are full", "", Busy),
        (19, 503, "HEC is unhealthy, ack service unavailable", "", Busy),
        (20, 503, "HEC is unhealthy, queues are full, ack service unavailable", "", Busy),
        (21, 400, "Invalid token", "", Fault),
        (22, 400, "Token disabled", "", Fault),
        (23, 503, "Server is shutting down", "", DoubtChannelLost),
        (24, 200, "HEC queue is approaching its capacity limit", "", AcceptedSlowDown),
        (25, 200, "HEC ACK is approaching its capacity limit", "", AcceptedSlowDown),
        (26, 429, "HEC queue is at capacity and cannot process any more requests", "", Busy),
        (27, 429, "HEC ACK channel is at capacity", "", Busy),
        (28, 400, "Data channel is missing. If you have multiple indexers, …", "", Fault),
    ] {
        let body = format!(r#"{{"text":"{text}","code":{code}{extra}}}"#);
        let verdict = Verdict::of(status, body.as_bytes(), None, NOW);
        assert_eq!(kind(&verdict), expected, "{body}");
    }
}

#[test]
fn statuses_without_a_code() {
    use Kind::*;
    for (status, expected) in [
        (100, Unknown),
        (200, Unknown),
        (201, Unknown),
        (204, Unknown),
        (301, Fault),
        (302, Fault),
        (307, Fault),
        (400, Unknown),
        (401, Fault),
        (402, Unknown),
        (403, Fault),
        (404, Endpoint),
        (405, Fault),
        (407, Fault),
        (408, Doubt),
        (409, Unknown),
        (413, TooLarge),
        (415, Fault),
        (429, Busy),
        (431, Unknown),
        (499, Unknown),
        (500, Doubt),
        (501, Doubt),
        (502, Doubt),
        (503, Doubt),
        (504, Doubt),
        (520, Doubt),
        (600, Unknown),
        (0, Unknown),
    ] {
        for body in ["", "<html><h1>Gateway</h1></html>", "{}", "null", "[0]", r#"{"code":"0"}"#] {
            let verdict = Verdict::of(status, body.as_bytes(), None, NOW);
            assert_eq!(kind(&verdict), expected, "{status} {body}");
        }
    }
}

#[test]
fn splunks_own_404_and_405_say_404() {
    let body = br#"{"text":"The requested URL was not found on this server.","code":404}"#;
    assert_eq!(kind(&Verdict::of(404, body, None, NOW)), Kind::Endpoint);
    assert_eq!(kind(&Verdict::of(405, body, None, NOW)), Kind::Fault);
}

#[test]
fn a_code_counts_only_with_its_status() {
    use Kind::*;
    // Nothing but a 2xx accepts, and no error code in a 2xx does.
    for status in [100, 302, 400, 403, 404, 413, 429, 500, 503] {
        let verdict = Verdict::of(status, br#"{"text":"Success","code":0,"ackId":1}"#, None, NOW);
        assert!(!matches!(kind(&verdict), Accepted | AcceptedSlowDown), "{status}");
    }
    for code in (1..24).chain(26..29) {
        let body = format!(r#"{{"text":"?","code":{code},"ackId":1}}"#);
        assert_eq!(kind(&Verdict::of(200, body.as_bytes(), None, NOW)), Unknown, "{code}");
    }
    // Only a 400 refuses an event.
    for status in [401, 403, 404, 429, 500, 503] {
        let body = br#"{"text":"?","code":6,"invalid-event-number":0}"#;
        assert!(!matches!(kind(&Verdict::of(status, body, None, NOW)), Partial(_)), "{status}");
    }
}

#[test]
fn a_code_from_the_future_is_believed_with_an_id_to_ask_about() {
    let with = Verdict::of(200, br#"{"text":"?","code":29,"ackId":7}"#, None, NOW);
    assert_eq!(with, Verdict::Accepted { ack_id: Some(AckId::new(7)), slow_down: true });
    let without = Verdict::of(200, br#"{"text":"?","code":29}"#, None, NOW);
    assert_eq!(kind(&without), Kind::Unknown);
}

#[test]
fn the_ack_id_comes_from_any_answer_that_has_one() {
    let id = Some(AckId::new(3));
    let accepted = Verdict::of(200, br#"{"text":"Success","code":0,"ackId":3}"#, None, NOW);
    assert_eq!(accepted, Verdict::Accepted { ack_id: id, slow_down: false });
    let full = Verdict::of(200, br#"{"text":"?","code":25,"ackId":3}"#, None, NOW);
    assert_eq!(full, Verdict::Accepted { ack_id: id, slow_down: true });
    // As Splunk 7 wrote it in splunk/kafka-connect-splunk#200.
    let body =
        br#"{"text":"Event field cannot be blank","code":13,"invalid-event-number":2,"ackId":3}"#;
    let partial = Verdict::of(400, body, None, NOW);
    let reason = Reason { status: 400, code: Some(13), text: "Event field cannot be blank".into() };
    assert_eq!(partial, Verdict::Partial { code: 13, bad: Some(2), ack_id: id, reason });
    // Names that other programs have mistaken it for.
    let wrong = Verdict::of(200, br#"{"text":"Success","code":0,"ackID":3,"ack_id":3}"#, None, NOW);
    assert_eq!(wrong, Verdict::Accepted { ack_id: None, slow_down: false });
}

#[test]
fn an_answer_that_is_damaged_is_no_answer() {
    let body = br#"{"text":"Success","code":0,"ackId":3}"#;
    for end in 0..body.len() {
        assert_eq!(kind(&Verdict::of(200, &body[..end], None, NOW)), Kind::Unknown, "{end}");
    }
    for body in [
        r#"{"text":"Success","code":0,"ackId":-1}"#,
        r#"{"text":"Success","code":0,"ackId":"3"}"#,
        r#"{"text":"Success","code":0,"ackId":1.5}"#,
        r#"{"text":"Success","code":0,"code":0}"#,
        r#"{"text":"Success","code":0}{"text":"Success","code":0}"#,
        r#"{"text":"Success","code":-1}"#,
        r#"{"text":"Success","code":0.0}"#,
    ] {
        assert_eq!(kind(&Verdict::of(200, body.as_bytes(), None, NOW)), Kind::Unknown, "{body}");
    }
}

/// A proxy may have handed the request on before it lost the collector. Only what is known to be
/// the collector's own refusal says that nothing was taken.
#[test]
fn a_503_that_is_not_a_busy_collectors_leaves_doubt() {
    for body in [
        "",
        "upstream connect error or disconnect/reset before headers. reset reason: connection \
         termination",
        "<html><h1>503 Service Temporarily Unavailable</h1></html>",
        r#"{"message":"Service Unavailable"}"#,
        r#"{"text":"Service Unavailable","code":503}"#,
        r#"{"text":"Internal server error","code":8}"#,
        r#"{"text":"?","code":26}"#,
        r#"{"text":"Success","code":0,"ackId":1}"#,
    ] {
        assert_eq!(kind(&Verdict::of(503, body.as_bytes(), None, NOW)), Kind::Doubt, "{body}");
    }
    for code in [9, 18, 19, 20] {
        let body = format!(r#"{{"text":"?","code":{code}}}"#);
        assert_eq!(kind(&Verdict::of(503, body.as_bytes(), None, NOW)), Kind::Busy, "{code}");
        assert_eq!(kind(&Verdict::of(502, body.as_bytes(), None, NOW)), Kind::Doubt, "{code}");
    }
}

#[test]
fn retry_after_is_passed_on() {
    for (status, value, expected) in [
        (429, Some("7"), Some(Duration::from_secs(7))),
        (503, Some("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60))),
        (503, Some("later"), None),
        (503, None, None),
        (500, Some("1"), Some(Duration::from_secs(1))),
        (408, Some("1"), Some(Duration::from_secs(1))),
        (404, Some("1"), Some(Duration::from_secs(1))),
    ] {
        let verdict = Verdict::of(status, b"", value, NOW);
        let (Verdict::Busy { retry_after, .. }
        | Verdict::Doubt { retry_after, .. }
        | Verdict::Endpoint { retry_after, .. }) = verdict
        else {
            panic!("{verdict:?}")
        };
        assert_eq!(retry_after, expected, "{status} {value:?}");
    }
}

#[test]
fn texts_are_fit_for_a_log() {
    let text = |body: &str| Answer::parse(502, body.as_bytes()).text;
    assert_eq!(text("<html>\r\n  <h1>Bad\tgateway</h1>\n"), "<html> <h1>Bad gateway</h1>");
    assert_eq!(text(r#"{"text":"a\u0000b\u001b[31mc","code":9}"#), "a b [31mc");
    assert_eq!(text(&"é ".repeat(5000)).chars().count(), 199);
    assert_eq!(text(&"x".repeat(5000)).chars().count(), 200);
    assert_eq!(Answer::parse(502, b"\xff\xfe").text, "\u{fffd}\u{fffd}");
    let reason = Answer::parse(403, br#"{"text":"Invalid token","code":4}"#).reason();
    assert_eq!(reason.to_string(), "HTTP 403, code 4: Invalid token");
    assert_eq!(Answer::parse(502, b"").reason().to_string(), "HTTP 502");
}
