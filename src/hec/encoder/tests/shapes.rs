//! Formats, filters, overrides, and the fields that only some messages have.

use serde_json::{Value, json};

use super::super::super::mapping::{Filter, Format, Nul};
use super::*;

const WEB: &str = "<190>1 2026-01-02T03:04:05Z host app web.1 - ";
const ROUTER: &str = "<158>1 2026-01-02T03:04:05Z host heroku router - ";

/// The event of one message, as any JSON.
fn json_of(config: &MappingConfig, piece: &[u8]) -> Value {
    let mut encoder = encoder(config);
    encoder.start_frame(facts());
    let mut out = Vec::new();
    assert_eq!(encoder.encode(0, whole(piece), &mut out), Outcome::Event);
    serde_json::from_slice(&out)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out)))
}

fn outcome(config: &MappingConfig, token: Option<&str>, piece: &str) -> Outcome {
    let mut encoder = encoder(config);
    encoder.start_frame(FrameFacts { drain_token: token, ..facts() });
    encoder.encode(0, whole(piece.as_bytes()), &mut Vec::new())
}

#[test]
fn auto_embeds_whole_objects_byte_for_byte() {
    let config = MappingConfig { format: Format::Auto, ..config() };
    let object = r#"{"a": 1.50, "a":12345678901234567890123,  "b":"\u00e9/\/"}"#;
    let mut encoder = encoder(&config);
    encoder.start_frame(facts());
    let mut out = Vec::new();
    encoder.encode(0, whole(format!("{WEB}{object}\n").as_bytes()), &mut out);
    let end = format!("}},\"event\":{object}}}");
    assert!(out.ends_with(end.as_bytes()), "{}", String::from_utf8_lossy(&out));

    let cut = format!("{WEB}{{\"a\":\"{}\"}}", "x".repeat(MAX_EVENT));
    let texts = ["{\"a\":1", "[1,2]", "{}", "text {\"a\":1}", "{\"a\":\"\\ud800\"}", "{'a':1}"];
    let texts = texts.map(|text| format!("{WEB}{text}"));
    for piece in texts.iter().chain([&cut]) {
        let event = &json_of(&config, piece.as_bytes())["event"];
        let expected = piece.strip_prefix(WEB).unwrap();
        assert!(event.as_str().is_some_and(|text| expected.starts_with(text)), "{event}");
    }
    let lossy = [WEB.as_bytes(), b"{\"a\":\"\xff\"}"].concat();
    assert_eq!(json_of(&config, &lossy)["event"], "{\"a\":\"\u{fffd}\"}");
}

#[test]
fn json_says_where_the_message_comes_from() {
    let config = MappingConfig { format: Format::Json, ..config() };
    let made = json_of(&config, format!("{WEB}say \"hi\"\n").as_bytes());
    let expected = json!({
        "host": "host", "app": "checkout", "app_name": "app", "proc_id": "web.1",
        "severity": "info", "facility": "local7", "kind": "app", "message": "say \"hi\"",
    });
    assert_eq!(made["event"], expected);
    // A syslog drain has its token for a host.
    let piece = format!("<190>1 2026-01-02T03:04:05Z {TOKEN} app web.1 - x");
    assert_eq!(json_of(&config, piece.as_bytes())["event"]["host"], "-");
}

#[test]
fn router_lines_become_fields_if_asked_and_not_broken() {
    let on = MappingConfig { router_fields: true, ..config() };
    let line = "at=error code=H12 desc=\"Request timeout\" method=GET path=\"/\" dyno=web.1 \
                connect=0ms service=30000ms status=503 bytes=0 protocol=https";
    let made = json_of(&on, format!("{ROUTER}{line}\n").as_bytes());
    assert_eq!(made["event"], line);
    for (name, value) in [
        ("at", "error"),
        ("desc", "Request timeout"),
        ("status", "503"),
        ("service_ms", "30000"),
        ("router_dyno", "web.1"),
        ("dyno", "router"),
    ] {
        assert_eq!(made["fields"][name], value, "{made}");
    }
    assert!(made["fields"].get("path").is_none());

    let broken = format!("{ROUTER}at=error oops");
    assert!(json_of(&on, broken.as_bytes())["fields"].get("at").is_none());
    let elsewhere = format!("{WEB}at=error");
    assert!(json_of(&on, elsewhere.as_bytes())["fields"].get("at").is_none());
    let line = format!("{ROUTER}at=error");
    assert!(json_of(&config(), line.as_bytes())["fields"].get("at").is_none(), "off");
    // What is configured goes before, and stands there once.
    let own = MappingConfig { fields: [("at".to_owned(), "mine".to_owned())].into(), ..on };
    let made = event(&mut encoder(&own), facts(), line.as_bytes());
    assert_eq!(made.field("at"), Some("mine"));
}

#[test]
fn nul_is_kept_or_replaced() {
    let piece = format!("{WEB}a\0b\0");
    let made = json_of(&config(), piece.as_bytes());
    assert_eq!((&made["event"], made["fields"].get("nul")), (&json!("a\0b\0"), None));
    let replace = MappingConfig { nul: Nul::Replace, ..config() };
    let made = json_of(&replace, piece.as_bytes());
    assert_eq!(
        (&made["event"], &made["fields"]["nul"]),
        (&json!("a\u{fffd}b\u{fffd}"), &json!("replaced"))
    );
    assert!(
        json_of(&replace, WEB.replace("web.1 - ", "web.1 - x").as_bytes())["fields"]
            .get("nul")
            .is_none()
    );
}

/// A frame of messages from these sources with these texts, encoded from the message `skip` on.
fn chunks(messages: &[(&str, &str)], skip: usize) -> Vec<Option<String>> {
    let mut encoder = encoder(&config());
    encoder.start_frame(facts());
    let mut all = Vec::new();
    for (index, (header, text)) in (0u32..).zip(messages) {
        let piece = format!("{header}{text}");
        if (index as usize) < skip {
            encoder.skip(whole(piece.as_bytes()));
            continue;
        }
        let mut out = Vec::new();
        encoder.encode(index, whole(piece.as_bytes()), &mut out);
        all.push(Envelope::read(&out).field("chunk").map(str::to_owned));
    }
    all
}

#[test]
fn parts_of_a_split_line_are_numbered_wherever_a_batch_begins() {
    let full = "x".repeat(10_000);
    let (full, with_end) = (full.as_str(), format!("{full}\n"));
    let other = WEB.replace("web.1", "web.2");
    let later = WEB.replace(":05Z", ":06Z");
    let messages = [
        (WEB, "whole\n"),
        (WEB, full),
        (WEB, full),
        (WEB, "end\n"),
        (WEB, "whole\n"),
        (WEB, full),
        // Another dyno, another time: not the same line.
        (&*other, "whole\n"),
        (WEB, full),
        (&*later, "whole\n"),
        (WEB, &*with_end),
        (WEB, "whole\n"),
    ];
    let expected = ["", "1", "2", "3", "", "1", "", "1", "", "", ""];
    let expected = expected.map(|n| (!n.is_empty()).then(|| n.to_owned()));
    for skip in 0..messages.len() {
        assert_eq!(chunks(&messages, skip), expected[skip..], "from {skip}");
    }
}

#[test]
fn reports_of_loss_say_how_much() {
    let piece = "<172>1 2026-01-02T03:04:05Z host heroku logplex - Error L10 (output buffer \
                 overflow): 34 messages dropped since 2026-01-02T03:00:00+00:00.";
    let made = event(&mut encoder(&config()), facts(), piece.as_bytes());
    let said = [made.field("loss_code"), made.field("loss_messages")];
    assert_eq!(said, [Some("L10"), Some("34")]);
    let printed = piece.replace("heroku logplex", "app web.1");
    let made = event(&mut encoder(&config()), facts(), printed.as_bytes());
    assert_eq!(made.field("loss_code"), None, "an app can print anything");
}

#[test]
fn filters_by_drain_app_and_severity() {
    let with = |filter| MappingConfig { filter, ..config() };
    let (event, source) = (Outcome::Event, Outcome::Filtered(Filtered::Source));
    let line = format!("{WEB}x");
    let apps = with(Filter { apps: Some(vec!["checkout".into()]), ..Filter::default() });
    assert_eq!(outcome(&apps, Some(TOKEN), &line), event);
    assert_eq!(outcome(&apps, Some("d.other"), &line), source);
    let drains = with(Filter { drains: Some(vec![TOKEN.into()]), ..Filter::default() });
    assert_eq!(outcome(&drains, Some(TOKEN), &line), event);
    assert_eq!(outcome(&drains, Some("d.other"), &line), source);
    assert_eq!(outcome(&drains, None, &line), source);
    let severe = with(Filter { severity: Some(4), ..Filter::default() });
    for (pri, expected) in [(184, event), (188, event), (189, source), (191, source)] {
        let line = line.replace("<190>", &format!("<{pri}>"));
        assert_eq!(outcome(&severe, Some(TOKEN), &line), expected, "{pri}");
    }
    assert_eq!(outcome(&severe, Some(TOKEN), "no header"), event, "says nothing about it");
}

#[test]
fn filters_by_text() {
    let list = |all: &[&str]| all.iter().map(|&pattern| pattern.to_owned()).collect();
    let filter = Filter {
        include: list(&["ERROR", "^GET "]),
        exclude: list(&["healthz", r"\bdebug\b"]),
        ..Filter::default()
    };
    let config = MappingConfig { filter, ..config() };
    for (text, delivered) in [
        ("an ERROR", true),
        ("GET /", true),
        ("POST GET /", false),
        ("GET /healthz", false),
        ("ERROR debug", false),
        ("ERROR debugger", true),
    ] {
        let expected = if delivered { Outcome::Event } else { Outcome::Filtered(Filtered::Text) };
        assert_eq!(outcome(&config, None, &format!("{WEB}{text}")), expected, "{text}");
    }
}

#[test]
fn a_drain_goes_before_the_destination() {
    let own = DrainInfo {
        app: "checkout".to_owned(),
        host: Some("{{ app }}-eu".to_owned()),
        sourcetype: Some("own:{{ kind }}".to_owned()),
        index: Some("own".to_owned()),
        fields: [("team".to_owned(), "payments".to_owned()), ("a".to_owned(), "1".to_owned())]
            .into(),
        profile: Some(Profile::Shuttle),
        ..DrainInfo::default()
    };
    let config = MappingConfig {
        drains: Arc::new([(TOKEN.to_owned(), own)].into()),
        source: Some("everybody's".to_owned()),
        index: Some("everybody".to_owned()),
        fields: [("team".to_owned(), "nobody".to_owned()), ("b".to_owned(), "2".to_owned())].into(),
        ..config()
    };
    let mut encoder = encoder(&config);
    let line = format!("{WEB}- text");
    let made = event(&mut encoder, facts(), line.as_bytes());
    assert_eq!((&*made.host, &*made.source), ("checkout-eu", "everybody's"));
    assert_eq!((&*made.sourcetype, made.index.as_deref()), ("own:app", Some("own")));
    let fields = [made.field("team"), made.field("a"), made.field("b")];
    assert_eq!(fields, [Some("payments"), Some("1"), Some("2")]);
    assert_eq!(made.event, "text", "read as log-shuttle writes it");

    let other = FrameFacts { drain_token: Some("d.other"), ..facts() };
    let made = event(&mut encoder, other, line.as_bytes());
    assert_eq!((made.index.as_deref(), made.field("team")), (Some("everybody"), Some("nobody")));
    assert_eq!(made.event, "- text");
}

#[test]
fn listed_parameters_stand_in_and_others_are_not_seen() {
    let list = |all: &[&str]| Some(all.iter().map(|&name| name.to_owned()).collect());
    let query = "index=team_a&team=blue&host=h&app=shop&secret=x";
    let facts = FrameFacts { drain_token: None, query, ..facts() };
    let line = format!("{WEB}x");
    let template = Some("{{ query.secret }}|{{ query.team }}".to_owned());
    let config = MappingConfig {
        query: list(&["index", "team", "app"]),
        source: template.clone(),
        ..config()
    };
    let made = event(&mut encoder(&config), facts, line.as_bytes());
    assert_eq!((&*made.host, made.index.as_deref()), ("shop", Some("team_a")));
    assert_eq!((&*made.source, made.field("team")), ("|blue", Some("blue")));
    assert_eq!([made.field("secret"), made.field("app"), made.field("index")], [None; 3]);
    // The configuration wins.
    let config = MappingConfig { index: Some("mine".to_owned()), ..config };
    let made = event(&mut encoder(&config), facts, line.as_bytes());
    assert_eq!(made.index.as_deref(), Some("mine"));
    // Without a list only what a template names, and the app.
    let config = MappingConfig { query: None, index: None, source: template, ..config };
    let made = event(&mut encoder(&config), facts, line.as_bytes());
    assert_eq!((&*made.source, made.index, made.fields.0.get("team")), ("x|blue", None, None));
}

#[test]
fn what_is_no_index_is_not_named() {
    let config = MappingConfig { index: Some("{{ query.index }}".to_owned()), ..config() };
    for (query, index) in [
        ("index=team_a-1", Some("team_a-1")),
        ("index=_internal", Some("_internal")),
        ("index=Team", None),
        ("index=a b", None),
        ("index=-a", None),
    ] {
        let made = event(
            &mut encoder(&config),
            FrameFacts { query, ..facts() },
            format!("{WEB}x").as_bytes(),
        );
        assert_eq!(made.index.as_deref(), index, "{query}");
        assert_eq!(made.field("mapping_error"), index.is_none().then_some("index"), "{query}");
    }
}

#[test]
fn raw_is_the_message_as_it_came() {
    let encoder = encoder(&MappingConfig { kinds: Some(vec![Kind::App]), ..config() });
    let mut encoder = encoder.for_target(Target::Raw);
    encoder.start_frame(facts());
    let mut out = Vec::new();
    let line = [WEB.as_bytes(), b"a \xff \"b\"\n"].concat();
    assert_eq!(encoder.encode(0, whole(&line), &mut out), Outcome::Event);
    assert_eq!(
        encoder.encode(1, whole(line.strip_suffix(b"\n").unwrap()), &mut out),
        Outcome::Event
    );
    assert_eq!(out, [&*line, &*line].concat());
    let blank = format!("{WEB}\n");
    assert_eq!(
        encoder.encode(2, whole(blank.as_bytes()), &mut out),
        Outcome::Filtered(Filtered::Blank)
    );
    let router = format!("{ROUTER}x");
    assert_eq!(
        encoder.encode(3, whole(router.as_bytes()), &mut out),
        Outcome::Filtered(Filtered::Kind)
    );
}
