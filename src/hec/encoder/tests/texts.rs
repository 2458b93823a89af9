//! What becomes of the text of a message: it goes out as it came, or is cut, or is blank.

use super::*;

#[test]
fn structured_data_stays_in_the_text() {
    let facts = || FrameFacts { profile: Profile::Shuttle, ..facts() };
    let mut encoder = encoder(&config());
    for (rest, expected) in [
        ("[a b=\"c\"] text\n", "[a b=\"c\"] text"),
        ("[a b=\"c\"] text", "[a b=\"c\"] text"),
        ("[a b=\"c\"][d e=\"f\"]\n", "[a b=\"c\"][d e=\"f\"]"),
        ("[a b=\"c\"] \n", "[a b=\"c\"]"),
        ("- text\n", "text"),
        ("[YELLOW] text\n", "[YELLOW] text"),
    ] {
        let piece = format!("<190>1 2026-01-02T03:04:05Z h app web.1 - {rest}");
        assert_eq!(event(&mut encoder, facts(), piece.as_bytes()).event, expected, "{rest:?}");
    }
}

#[test]
fn what_has_no_header_is_all_text() {
    let made = event(&mut encoder(&config()), facts(), b"GET / HTTP/1.1\r\n");
    assert_eq!(made.event, "GET / HTTP/1.1\r");
    assert_eq!(made.time_text, "1767323046.500000");
    assert_eq!(made.source, "heroku:checkout:-/-");
    assert_eq!(made.sourcetype, "heroku:app");
    let fields: Vec<_> = made.fields.0.keys().map(String::as_str).collect();
    assert_eq!(fields, ["drain", "event_id", "heroku_app", "ts_source"]);
    assert_eq!(made.field("ts_source"), Some("received"));
}

#[test]
fn long_texts_are_cut_between_characters() {
    let mut encoder = Encoder::new(Mapping::compile(&config()).unwrap(), 8);
    let mut made = |text: &[u8]| {
        let piece = [b"<190>1 2026-01-02T03:04:05Z host app web.1 - ", text].concat();
        let made = event(&mut encoder, facts(), &piece);
        (made.event.clone(), made.field("truncated").is_some(), made.field("utf8").is_some())
    };
    assert_eq!(made(b"12345678\n"), ("12345678".into(), false, false));
    assert_eq!(made(b"123456789"), ("12345678".into(), true, false));
    assert_eq!(made("1234567\u{e9}".as_bytes()), ("1234567".into(), true, false));
    assert_eq!(made("12345\u{1f600}".as_bytes()), ("12345".into(), true, false));
    // Three bytes of U+FFFD for each byte that was none: the limit is on what goes out.
    assert_eq!(made(b"\xff\xff\xff"), ("\u{fffd}\u{fffd}".into(), true, true));
    // Quotes count once, however they are written.
    assert_eq!(made(b"\"\"\"\"\"\"\"\""), ("\"\"\"\"\"\"\"\"".into(), false, false));
}

#[test]
fn blank_texts_never_go_out() {
    let mut encoder = Encoder::new(Mapping::compile(&config()).unwrap(), 8);
    encoder.start_frame(facts());
    for text in ["", "\n", "\n\n", " ", "\t \r\n", "\u{b}\u{c}", "         cut away"] {
        for header in ["", "<190>1 2026-01-02T03:04:05Z host app web.1 - "] {
            let mut out = Vec::new();
            let piece = format!("{header}{text}");
            let outcome = encoder.encode(0, whole(piece.as_bytes()), &mut out);
            assert_eq!(outcome, Outcome::Filtered(Filtered::Blank), "{piece:?}");
            assert!(out.is_empty());
        }
    }
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let header = "<(0|45|190|191|192|x)>1 (2026-01-02T03:04:05(\\.[0-9]{1,6})?Z|-|x) [!-~]{0,8} \
                  [!-~]{0,8} (web\\.1|logplex|\\PC{0,9}) - ";
    prop_oneof![
        4 => (header, prop::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(header, text)| [header.as_bytes(), &text].concat()),
        2 => (header, "(\\PC|[\"\\\\\n\t \u{0}-\u{1f}]){0,80}")
            .prop_map(|(header, text)| [header.as_bytes(), text.as_bytes()].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..80),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// I9: the bytes of a message reach Splunk as they came, less one trailing newline; what is
    /// not UTF-8 becomes U+FFFD and is flagged.
    #[test]
    fn text_is_never_altered(
        piece in line(),
        logplex in any::<bool>(),
        index in any::<u32>(),
        query in "\\PC{0,12}",
    ) {
        let profile = if logplex { Profile::Logplex } else { Profile::Other };
        let config = MappingConfig {
            index: Some("{{ query.index }}".to_owned()),
            fields: [("team".to_owned(), "{{ proc_id }}{{ query.team }}".to_owned())].into(),
            ..config()
        };
        let mut encoder = encoder(&config);
        encoder.start_frame(FrameFacts { profile, query: &query, ..facts() });
        let mut out = b"before".to_vec();
        let outcome = encoder.encode(index, whole(&piece), &mut out);
        let made = out.strip_prefix(b"before").unwrap();

        let message = logplex::parse(&piece, profile);
        let line = piece.strip_suffix(b"\n").unwrap_or(&piece);
        prop_assert!(line.ends_with(message.text));
        let blank = message.text.iter().all(|b| matches!(b, 9..=13 | 32))
            && message.header.is_none_or(|header| header.structured_data.is_empty());
        if blank {
            prop_assert_eq!(outcome, Outcome::Filtered(Filtered::Blank));
            prop_assert!(made.is_empty());
        } else {
            prop_assert_eq!(outcome, Outcome::Event);
            let made = Envelope::read(made);
            let expected = String::from_utf8_lossy(message.text);
            prop_assert!(made.event.ends_with(&*expected));
            prop_assert!(made.event.bytes().any(|b| !matches!(b, 9..=13 | 32)));
            if logplex {
                prop_assert_eq!(&made.event, &*expected);
            }
            let lossy = std::str::from_utf8(message.text).is_err();
            prop_assert_eq!(made.field("utf8").is_some(), lossy);
            prop_assert!(!made.host.is_empty() && !made.source.is_empty());
            prop_assert!(made.sourcetype.starts_with("heroku:"));
            prop_assert!(made.index.is_none_or(|index| !index.trim().is_empty()));
        }
    }
}
