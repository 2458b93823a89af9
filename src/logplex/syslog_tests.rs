use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const TIME: &str = "2026-01-02T03:04:05.000001+00:00";

fn text_of(line: &str, profile: Profile) -> String {
    let message = parse(line.as_bytes(), profile);
    assert!(message.header.is_some(), "{line}");
    String::from_utf8(message.text.to_vec()).unwrap()
}

#[test]
fn every_field_is_where_it_belongs() {
    let line = format!("<158>1 {TIME} host heroku router - at=info  status=200 \n");
    let message = parse(line.as_bytes(), Profile::Logplex);
    let expected = Header {
        pri: 158,
        timestamp: Some(UnixMicros::new(1_767_323_045_000_001)),
        hostname: b"host",
        app_name: b"heroku",
        proc_id: b"router",
        msg_id: b"-",
        routing: b"host heroku router",
        structured_data: b"",
    };
    assert_eq!(message.header, Some(expected));
    assert_eq!(message.text, b"at=info  status=200 ");
    assert!(message.had_newline);
}

#[test]
fn the_old_order_of_fields_is_read_like_any_other() {
    let line = format!("<40>1 {TIME} heroku web.3 d.73ea7440 - Starting\n");
    let header = parse(line.as_bytes(), Profile::Logplex).header.unwrap();
    assert_eq!(header.routing, b"heroku web.3 d.73ea7440");
    assert_eq!((header.app_name, header.proc_id), (&b"web.3"[..], &b"d.73ea7440"[..]));
}

#[test]
fn only_one_newline_is_taken_off_and_nothing_else() {
    for (end, text, had_newline) in [
        ("text", "text", false),
        ("text\n", "text", true),
        ("text\n\n", "text\n", true),
        ("text\r\n", "text\r", true),
        (" \t text \t", " \t text \t", false),
    ] {
        let line = format!("<190>1 {TIME} host app web.1 - {end}");
        let message = parse(line.as_bytes(), Profile::Logplex);
        assert_eq!((message.text, message.had_newline), (text.as_bytes(), had_newline));
    }
}

#[test]
fn a_bad_time_costs_only_the_time() {
    for time in ["-", "", "yesterday", "2012-11-30T06:45:48Z+00:00"] {
        let line = format!("<190>1 {time} host app web.1 - text");
        let header = parse(line.as_bytes(), Profile::Logplex).header.unwrap();
        assert_eq!(header.timestamp, None, "{time}");
        assert_eq!(header.routing, b"host app web.1");
    }
}

#[test]
fn fields_may_hold_anything_but_a_space() {
    let line = b"<190>1 - \xff\n\0 [a] \"b\" - text";
    let header = parse(line, Profile::Logplex).header.unwrap();
    assert_eq!(header.hostname, b"\xff\n\0");
    assert_eq!(header.routing, b"\xff\n\0 [a] \"b\"");
    let header = parse(b"<190>1     ", Profile::Logplex).header.unwrap();
    assert_eq!((header.routing, header.msg_id), (&b"  "[..], &b""[..]));
}

#[test]
fn what_has_no_whole_header_is_all_text() {
    for line in [
        "",
        "\n",
        "plain text\n",
        "<190>",
        "<190>1",
        "<190>1 ",
        "<190>1 2026-01-02T03:04:05Z host app web.1",
        "<190>2 2026-01-02T03:04:05Z host app web.1 - x",
        "<192>1 2026-01-02T03:04:05Z host app web.1 - x",
        "<999>1 2026-01-02T03:04:05Z host app web.1 - x",
        "<1900>1 2026-01-02T03:04:05Z host app web.1 - x",
        "<>1 2026-01-02T03:04:05Z host app web.1 - x",
        "<x>1 2026-01-02T03:04:05Z host app web.1 - x",
        "<19/>1 2026-01-02T03:04:05Z host app web.1 - x",
        " <190>1 2026-01-02T03:04:05Z host app web.1 - x",
        "<190>1\t2026-01-02T03:04:05Z host app web.1 - x",
    ] {
        for profile in [Profile::Logplex, Profile::Shuttle, Profile::Other] {
            let message = parse(line.as_bytes(), profile);
            let text = line.strip_suffix('\n').unwrap_or(line);
            assert_eq!(message.header, None, "{line}");
            assert_eq!(message.text, text.as_bytes());
            assert_eq!(message.had_newline, line.len() > text.len());
        }
    }
}

#[test]
fn priorities_have_names() {
    let names = |pri: u8| {
        let line = format!("<{pri}>1 - - - - -");
        let header = parse(line.as_bytes(), Profile::Logplex).header.unwrap();
        assert_eq!(header.pri, pri);
        (header.facility(), header.severity())
    };
    assert_eq!(names(0), ("kern", "emerg"));
    assert_eq!(names(45), ("syslog", "notice"));
    assert_eq!(names(134), ("local0", "info"));
    assert_eq!(names(158), ("local3", "info"));
    assert_eq!(names(172), ("local5", "warning"));
    assert_eq!(names(191), ("local7", "debug"));
    let facilities: BTreeSet<_> = (0..24).map(|facility| names(facility * 8).0).collect();
    let severities: BTreeSet<_> = (0..8).map(|severity| names(severity).1).collect();
    assert_eq!((facilities.len(), severities.len()), (24, 8));
}

#[test]
fn process_types_are_what_stands_before_the_dot() {
    for (proc_id, expected) in
        [("web.1", "web"), ("router", "router"), ("a.b.c", "a"), (".1", ""), ("", "")]
    {
        let line = format!("<190>1 - host app {proc_id} - x");
        let header = parse(line.as_bytes(), Profile::Logplex).header.unwrap();
        assert_eq!(header.proc_type(), expected.as_bytes());
    }
}

#[test]
fn text_from_logplex_is_never_structured_data() {
    for text in [
        "- - list item",
        "- [YELLOW] [13-2] x",
        "-",
        "[id key=\"value\"] text",
        "[\"json\", \"array\"]",
        "[INFO] text",
    ] {
        let line = format!("<190>1 {TIME} host app web.1 - {text}");
        assert_eq!(text_of(&line, Profile::Logplex), text);
        let header = parse(line.as_bytes(), Profile::Logplex).header.unwrap();
        assert_eq!(header.structured_data, b"");
    }
}

#[test]
fn structured_data_from_others_is_split_off_only_when_complete() {
    for (rest, data, text) in [
        ("- text", "", "text"),
        ("-", "", ""),
        ("- ", "", ""),
        ("- - text", "", "- text"),
        ("- [id key=\"value\"] text", "", "[id key=\"value\"] text"),
        ("-text", "", "-text"),
        ("text", "", "text"),
        ("", "", ""),
        ("[id key=\"value\"] text", "[id key=\"value\"]", "text"),
        ("[id key=\"value\"]", "[id key=\"value\"]", ""),
        ("[a b=\"1\" c=\"\"][d e=\"2\"] text", "[a b=\"1\" c=\"\"][d e=\"2\"]", "text"),
        (r#"[a b="\"\\\]\x"] text"#, r#"[a b="\"\\\]\x"]"#, "text"),
        ("[a b=\"é\"] text", "[a b=\"é\"]", "text"),
        // Not complete, or only looks like it.
        ("[YELLOW] [13-2] text", "", "[YELLOW] [13-2] text"),
        ("[YELLOW]", "", "[YELLOW]"),
        ("[id key=\"value\"]text", "", "[id key=\"value\"]text"),
        ("[id key=\"value] text", "", "[id key=\"value] text"),
        ("[id key=\"val]ue\"] text", "", "[id key=\"val]ue\"] text"),
        ("[id key=value] text", "", "[id key=value] text"),
        ("[id key] text", "", "[id key] text"),
        ("[id  key=\"value\"] text", "", "[id  key=\"value\"] text"),
        ("[id key=\"value\"", "", "[id key=\"value\""),
        ("[id key=\"value\\\"", "", "[id key=\"value\\\""),
        ("[a b=\"1\"][c] text", "", "[a b=\"1\"][c] text"),
        ("[a b=\"1\"][ text", "", "[a b=\"1\"][ text"),
        ("[ text", "", "[ text"),
        ("[", "", "["),
        ("[\"json\", \"array\"]", "", "[\"json\", \"array\"]"),
        (
            "[aaaaaaaaaabbbbbbbbbbccccccccccddd b=\"1\"] x",
            "",
            "[aaaaaaaaaabbbbbbbbbbccccccccccddd b=\"1\"] x",
        ),
    ] {
        let line = format!("<190>1 {TIME} host app web.1 - {rest}");
        for profile in [Profile::Shuttle, Profile::Other] {
            let message = parse(line.as_bytes(), profile);
            let header = message.header.unwrap();
            assert_eq!(header.structured_data, data.as_bytes(), "{rest}");
            assert_eq!(message.text, text.as_bytes(), "{rest}");
        }
    }
}

proptest! {
    /// A message is its header, one space, its text and its newline: nothing added or lost.
    #[test]
    fn a_message_from_logplex_can_be_put_together_again(
        pri in 0_u8..=191,
        fields in proptest::collection::vec("[^ ]{0,12}", 5..=5),
        text in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut line = format!("<{pri}>1 {} ", fields.join(" ")).into_bytes();
        line.extend_from_slice(&text);
        let message = parse(&line, Profile::Logplex);
        let header = message.header.unwrap();
        let joined = fields[1..4].join(" ");
        prop_assert_eq!(header.pri, pri);
        prop_assert_eq!(header.routing, joined.as_bytes());
        prop_assert_eq!(header.hostname, fields[1].as_bytes());
        prop_assert_eq!(header.app_name, fields[2].as_bytes());
        prop_assert_eq!(header.proc_id, fields[3].as_bytes());
        prop_assert_eq!(header.msg_id, fields[4].as_bytes());
        let mut again = message.text.to_vec();
        if message.had_newline {
            again.push(b'\n');
        }
        prop_assert_eq!(again, text);
    }

    #[test]
    fn no_bytes_panic(
        start in prop_oneof![Just(""), Just("<190>1 "), Just("<190>1 - h a p m "), Just("<1>1 - h a p m [i k=\"")],
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut line = start.as_bytes().to_vec();
        line.extend_from_slice(&bytes);
        for profile in [Profile::Logplex, Profile::Shuttle, Profile::Other] {
            let message = parse(&line, profile);
            prop_assert!(line.strip_suffix(b"\n").unwrap_or(&line).ends_with(message.text));
            if let Some(header) = message.header {
                prop_assert!(Kind::ALL.contains(&header.kind()));
            }
        }
    }
}
