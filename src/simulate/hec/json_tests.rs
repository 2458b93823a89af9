use super::*;

fn all(body: &str) -> Vec<Next<'_>> {
    let mut reader = Envelopes::new(body.as_bytes());
    let mut all = Vec::new();
    loop {
        let next = reader.next();
        let go_on = matches!(next, Next::Envelope(_));
        all.push(next);
        if !go_on {
            return all;
        }
    }
}

/// How many envelopes came before the end, and what the end was.
fn shape(body: &str) -> (usize, &'static str) {
    let all = all(body);
    let end = match all.last() {
        Some(Next::End) => "end",
        Some(Next::Invalid) => "invalid",
        Some(Next::UnknownKey) => "unknown key",
        Some(Next::Envelope(_)) | None => "nothing",
    };
    (all.len() - 1, end)
}

fn only(body: &str) -> Envelope<'_> {
    let first = all(body).swap_remove(0);
    let Next::Envelope(envelope) = first else { panic!("{body}: {first:?}") };
    envelope
}

fn text(body: &str) -> String {
    let event = only(body).event;
    let Event::Text(text) = event else { panic!("{body}: {event:?}") };
    text.to_owned_string()
}

#[test]
fn concatenated_arrays_and_nothing() {
    assert_eq!(shape(""), (0, "end"));
    assert_eq!(shape(" \n"), (0, "end"));
    assert_eq!(shape(r#"{"event":"a"}{"event":"b"}"#), (2, "end"));
    assert_eq!(shape("{\"event\":\"a\"} \n {\"event\":\"b\"}\n"), (2, "end"));
    assert_eq!(shape(r#"[{"event":"a"}, {"event":"b"}]"#), (2, "end"));
    assert_eq!(shape("[]"), (0, "end"));
    assert_eq!(shape(r#"[{"event":"a"}"#), (0, "invalid"));
    assert_eq!(shape(r#"[{"event":"a"}]{"#), (1, "invalid"));
    assert_eq!(shape(r#"{"event":"a"},{"event":"b"}"#), (1, "invalid"));
    assert_eq!(shape(r#""text""#), (0, "invalid"));
    assert_eq!(shape("{}"), (1, "end"));
}

#[test]
fn stops_at_the_first_unknown_key_and_at_the_first_bad_byte() {
    assert_eq!(shape(r#"{"event":"a"}{"event":"b","x":1}{"event":"c"}"#), (1, "unknown key"));
    assert_eq!(shape(r#"{"event":"a"}{"x":"#), (1, "unknown key"));
    assert_eq!(shape(r#"{"event":"a"}{"event":"b"#), (1, "invalid"));
    assert_eq!(shape(r#"{"event":"a",}"#), (0, "invalid"));
    assert_eq!(shape(r#"{"event" "a"}"#), (0, "invalid"));
    assert_eq!(shape("{\"event\":\"a\u{1}\"}"), (0, "invalid"));
    assert_eq!(shape(r#"{"event":"a\x"}"#), (0, "invalid"));
    assert_eq!(shape(r#"{"event":"\ud800"}"#), (0, "invalid"));
    assert_eq!(shape(r#"{"event":"\udc00\ud800"}"#), (0, "invalid"));
    assert_eq!(shape(r#"{"event":01}"#), (0, "invalid"));
    assert_eq!(shape(r#"{"event":tru}"#), (0, "invalid"));
    assert_eq!(shape(r#"{"host":{"a":1},"event":"a"}"#), (0, "invalid"));
}

#[test]
fn bytes_that_are_no_utf8_are_invalid_where_they_are() {
    for (body, before) in [
        (&b"{\"event\":\"a\"}{\"event\":\"\xff\"}"[..], 1),
        (b"{\"event\":\"a\"}\xff", 1),
        (b"\xff", 0),
    ] {
        let mut reader = Envelopes::new(body);
        for _ in 0..before {
            assert!(matches!(reader.next(), Next::Envelope(_)));
        }
        assert!(matches!(reader.next(), Next::Invalid));
    }
}

#[test]
fn every_prefix_of_a_body_is_invalid_or_empty_and_never_panics() {
    let body = r#" {"time":1.5,"event":"a\"\u00e9\ud83d\ude00","fields":{"a":"b","c":["d",1]}}"#;
    assert_eq!(shape(body), (1, "end"));
    for at in 2..body.len() {
        if let Some(prefix) = body.get(..at) {
            assert_eq!(shape(prefix), (0, "invalid"), "{prefix}");
        }
    }
}

#[test]
fn the_end_of_a_string_is_found_wherever_it_is() {
    for length in 0..80 {
        let filler = "é".repeat(length / 2) + &"x".repeat(length % 2);
        assert_eq!(text(&format!(r#"{{"event":"{filler}"}}"#)), filler);
        let escaped = format!(r#"{{"event":"{filler}\"{filler}"}}"#);
        assert_eq!(text(&escaped), format!("{filler}\"{filler}"));
        for bad in ["\u{1f}", "\0", "\n"] {
            let body = format!("{{\"event\":\"{filler}{bad}{filler}\"}}");
            assert_eq!(shape(&body), (0, "invalid"), "{body:?}");
        }
        let high = format!("{filler}\u{7f}\u{80}!#[]{filler}");
        assert_eq!(text(&format!(r#"{{"event":"{high}"}}"#)), high);
    }
}

#[test]
fn undoes_escapes() {
    assert_eq!(text(r#"{"event":"plain"}"#), "plain");
    assert_eq!(
        text(r#"{"event":"q\" b\\ s\/ n\n r\r t\t f\f b\b e\u00e9 z\u0000 \ud83d\ude00!"}"#),
        "q\" b\\ s/ n\n r\r t\t f\u{c} b\u{8} eé z\0 😀!"
    );
}

#[test]
fn events_of_all_kinds() {
    assert_eq!(only("{}").event, Event::Missing);
    for blank in ["null", "{}", "[]", "[ ]", "{\n}"] {
        assert_eq!(only(&format!("{{\"event\":{blank}}}")).event, Event::Blank, "{blank}");
    }
    for json in ["1", "-2.5e3", "true", "[[]]", r#"{"a":"}"}"#] {
        let body = format!("{{\"event\":{json}}}");
        assert_eq!(only(&body).event, Event::Json(json.as_bytes()), "{json}");
    }
}

#[test]
fn time_is_a_plain_decimal_or_refused() {
    for good in ["1767323045.000001", "0", "\"1767323045\"", "-1.5", "\"0.5\""] {
        let body = format!("{{\"time\":{good}}}");
        let time = only(&body).time;
        assert_eq!(time, Some(Ok(good.trim_matches('"').as_bytes())), "{good}");
    }
    for bad in ["1.79E9", "\"1e9\"", "\"now\"", "true", "null", "{}", "\"\"", "\"1.\"", "\" 1\""] {
        assert_eq!(only(&format!("{{\"time\":{bad}}}")).time, Some(Err(Invalid)), "{bad}");
    }
}

#[test]
fn fields_are_flat_or_refused() {
    for good in [r#"{"a":"b","c":1,"d":true,"e":["f","g"]}"#, "{}", r#"{ "a" : "b" , "c":"}" }"#] {
        let body = format!("{{\"fields\":{good}}}");
        assert_eq!(only(&body).fields, Some(Ok(good.as_bytes())), "{good}");
    }
    for bad in [r#"{"a":{"b":"c"}}"#, r#"{"a":["b",["c"]]}"#, r#"{"a":null}"#, "[]", "\"x\"", "1"] {
        assert_eq!(only(&format!("{{\"fields\":{bad}}}")).fields, Some(Err(Invalid)), "{bad}");
    }
}

#[test]
fn metadata_is_text() {
    let body = r#"{"host":"h\n","source":5,"sourcetype":null,"index":"i","channel":"x"}"#;
    let envelope = only(body);
    assert_eq!(envelope.host.map(Text::to_owned_string).as_deref(), Some("h\n"));
    assert_eq!(envelope.source.map(Text::to_owned_string).as_deref(), Some("5"));
    assert_eq!(envelope.sourcetype, None);
    assert_eq!(envelope.index.map(Text::to_owned_string).as_deref(), Some("i"));
    assert_eq!(envelope.length, body.len());
}

proptest::proptest! {
    /// serde_json writes, we read: the text comes back, whatever it is.
    #[test]
    fn agrees_with_serde_json_on_strings(event in ".*", host in ".*") {
        let body = serde_json::json!({ "event": event, "host": host }).to_string();
        proptest::prop_assert_eq!(text(&body), event);
        proptest::prop_assert_eq!(only(&body).host.map(Text::to_owned_string), Some(host));
    }

    #[test]
    fn never_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
        let mut reader = Envelopes::new(&body);
        while let Next::Envelope(_) = reader.next() {}
    }
}
