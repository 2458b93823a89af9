use std::collections::BTreeMap;
use std::fmt;

use proptest::prelude::*;
use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};

use super::super::mapping::{DrainInfo, MappingConfig};
use super::*;
use crate::logplex::{Framing, Kind, pieces};

mod bounds;
mod cache;
mod shapes;

const TOKEN: &str = "d.fc6b856b-3332-4546-93de-7d0ee272c3bd";
const FRAME_ID: &str = "09C557EAFCFB6CF2740EE62F62971098";
/// 2026-01-02T03:04:06.5Z, a second and a half after the vectors were written.
const RECEIVED: UnixMicros = UnixMicros::new(1_767_323_046_500_000);
const MAX_EVENT: usize = 1_000_000;

/// An event as Splunk takes it: these keys, each once, and no other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    time: f64,
    /// `time` as it was written: a float would not show the difference.
    #[serde(skip)]
    time_text: String,
    host: String,
    source: String,
    sourcetype: String,
    index: Option<String>,
    fields: Fields,
    event: String,
}

/// A flat object of strings, each key once.
#[derive(Debug)]
struct Fields(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Flat;
        impl<'de> Visitor<'de> for Flat {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a flat object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if fields.insert(key, value).is_some() {
                        return Err(A::Error::custom("a key appears twice"));
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Flat)
    }
}

impl Envelope {
    fn read(bytes: &[u8]) -> Self {
        let text = str::from_utf8(bytes).unwrap();
        let mut read: Self =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(read.time >= 0.0);
        let time = text.strip_prefix("{\"time\":").and_then(|rest| rest.split_once(','));
        read.time_text = time.unwrap().0.to_owned();
        read
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.0.get(name).map(String::as_str)
    }
}

fn facts() -> FrameFacts<'static> {
    FrameFacts {
        drain_token: Some(TOKEN),
        frame_id: Some(FRAME_ID),
        offset: Offset::new(42),
        received: RECEIVED,
        query: "",
        profile: Profile::Logplex,
        messages_claimed: Some(1),
        messages: 1,
    }
}

fn config() -> MappingConfig {
    let drains =
        [(TOKEN.to_owned(), DrainInfo { app: "checkout".to_owned(), ..DrainInfo::default() })];
    MappingConfig {
        drains: Arc::new(drains.into()),
        node: "node-1".to_owned(),
        ..MappingConfig::default()
    }
}

fn encoder(config: &MappingConfig) -> Encoder {
    Encoder::new(Mapping::compile(config).unwrap(), MAX_EVENT)
}

fn whole(bytes: &[u8]) -> Piece<'_> {
    Piece { bytes, framing: Framing::Counted }
}

/// The only event of a frame of one message.
fn event(encoder: &mut Encoder, facts: FrameFacts<'_>, piece: &[u8]) -> Envelope {
    let mut out = Vec::new();
    encoder.start_frame(facts);
    assert_eq!(encoder.encode(0, whole(piece), &mut out), Outcome::Event);
    Envelope::read(&out)
}

/// What a frame's body becomes, event by event.
fn events(encoder: &mut Encoder, facts: FrameFacts<'_>, body: &[u8]) -> Vec<(Outcome, String)> {
    encoder.start_frame(facts);
    let encode = |(index, piece)| {
        let mut out = Vec::new();
        let outcome = encoder.encode(index, piece, &mut out);
        (outcome, String::from_utf8(out).unwrap())
    };
    (0..).zip(pieces(body)).map(encode).collect()
}

#[test]
fn golden_bytes() {
    let blank = || (Outcome::Filtered(Filtered::Blank), String::new());
    let made = |time: &str, source: &str, fields: &str, flags: &str, index: u32, text: &str| {
        let kind = match source {
            "app/postgres" => "postgres",
            "heroku/logplex" => "logplex",
            "heroku/web" => "system",
            _ => "app",
        };
        let event = format!(
            "{{\"time\":{time},\"host\":\"checkout\",\"source\":\"heroku:checkout:{source}\",\
             \"sourcetype\":\"heroku:{kind}\",\"fields\":{{\"heroku_app\":\"checkout\",\
             \"drain\":\"checkout\",{fields}{flags},\"event_id\":\"{FRAME_ID}:{index}\"}},\
             \"event\":\"{text}\"}}"
        );
        (Outcome::Event, event)
    };
    let web = "\"appname\":\"app\",\"dyno\":\"web.1\",\"dyno_type\":\"web\",\
               \"severity\":\"info\",\"facility\":\"local7\"";
    let time = "1767323045.000001";
    let head = "<190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 -";
    let cases = [
        (format!("58 {head} \n").into_bytes(), vec![blank()]),
        (format!("57 {head} ").into_bytes(), vec![blank()]),
        (format!("56 {head}").into_bytes(), vec![blank()]),
        (
            b"83 <134>1 2026-01-02T03:04:05.000001+00:00 host app postgres.1167776 - [YELLOW] [13-2]"
                .to_vec(),
            vec![made(
                time,
                "app/postgres",
                "\"appname\":\"app\",\"dyno\":\"postgres.1167776\",\"dyno_type\":\"postgres\",\
                 \"severity\":\"info\",\"facility\":\"local0\"",
                "",
                0,
                "[YELLOW] [13-2]",
            )],
        ),
        (
            format!("64 {head} h\u{e9}llo\n").into_bytes(),
            vec![made(time, "app/web", web, "", 0, "h\u{e9}llo")],
        ),
        (
            [format!("60 {head} ").as_bytes(), b"\xff\x00\n"].concat(),
            vec![made(time, "app/web", web, ",\"utf8\":\"lossy\"", 0, "\u{fffd}\\u0000")],
        ),
        (
            b"142 <172>1 2014-11-11T08:24:25+00:00 host heroku logplex - Error L10 (output buffer \
              overflow): 1 messages dropped since 2014-11-07T23:29:45+00:00.93 <45>1 \
              2014-11-11T08:24:24.064853+00:00 host heroku web.1 - State changed from starting to \
              up\n"
                .to_vec(),
            vec![
                made(
                    "1415694265.000000",
                    "heroku/logplex",
                    "\"appname\":\"heroku\",\"dyno\":\"logplex\",\"dyno_type\":\"logplex\",\
                     \"severity\":\"warning\",\"facility\":\"local5\"",
                    ",\"loss_code\":\"L10\",\"loss_messages\":\"1\"",
                    0,
                    "Error L10 (output buffer overflow): 1 messages dropped since \
                     2014-11-07T23:29:45+00:00.",
                ),
                made(
                    "1415694264.064853",
                    "heroku/web",
                    "\"appname\":\"heroku\",\"dyno\":\"web.1\",\"dyno_type\":\"web\",\
                     \"severity\":\"notice\",\"facility\":\"syslog\"",
                    "",
                    1,
                    "State changed from starting to up",
                ),
            ],
        ),
    ];
    let mut encoder = encoder(&config());
    for (body, expected) in cases {
        let messages = u32::try_from(expected.len()).unwrap();
        let facts = FrameFacts { messages_claimed: Some(messages), messages, ..facts() };
        let made = events(&mut encoder, facts, &body);
        assert_eq!(made, expected, "{}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn log_shuttle_has_a_hostname_and_no_ids() {
    let body =
        b"78 <190>1 2026-01-02T03:04:05.000001+00:00 shuttle token shuttle - - Hello World\n";
    let facts = FrameFacts {
        drain_token: None,
        frame_id: None,
        profile: Profile::Shuttle,
        messages_claimed: None,
        ..facts()
    };
    let made = events(&mut encoder(&config()), facts, body);
    assert_eq!(
        made,
        [(
            Outcome::Event,
            "{\"time\":1767323045.000001,\"host\":\"shuttle\",\
             \"source\":\"heroku:shuttle:token/shuttle\",\"sourcetype\":\"heroku:app\",\
             \"fields\":{\"heroku_app\":\"shuttle\",\"appname\":\"token\",\"dyno\":\"shuttle\",\
             \"dyno_type\":\"shuttle\",\"severity\":\"info\",\"facility\":\"local7\",\
             \"event_id\":\"node-1-42:0\"},\"event\":\"Hello World\"}"
                .to_owned()
        )]
    );
}

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
fn times() {
    let mut encoder = encoder(&config());
    for (written, expected, source) in [
        ("2026-01-02T03:04:05.000001+00:00", "1767323045.000001", None),
        ("2026-01-02T03:04:05Z", "1767323045.000000", None),
        ("1970-01-01T00:00:00Z", "0.000000", None),
        ("9999-12-31T23:59:59.999999Z", "253402300799.999999", None),
        ("1969-12-31T23:59:59.999999Z", "1767323046.500000", Some("received")),
        ("2012-10-11T03:47:48Z+00:00", "1767323046.500000", Some("received")),
        ("-", "1767323046.500000", Some("received")),
    ] {
        let made = event(&mut encoder, facts(), format!("<1>1 {written} h a p - x").as_bytes());
        assert_eq!(
            (made.time_text.as_str(), made.field("ts_source")),
            (expected, source),
            "{written}"
        );
    }
}

#[test]
fn flags_are_there_when_they_apply() {
    let mut encoder = encoder(&config());
    let flags = ["utf8", "framing", "count_mismatch", "truncated", "ts_source", "mapping_error"];
    let piece = b"<190>1 2026-01-02T03:04:05Z host app web.1 - text\n";
    let plain = event(&mut encoder, facts(), piece);
    assert!(flags.iter().all(|flag| plain.field(flag).is_none()), "{plain:?}");

    let fewer = FrameFacts { messages_claimed: Some(2), ..facts() };
    assert_eq!(event(&mut encoder, fewer, piece).field("count_mismatch"), Some("1"));
    let unclaimed = FrameFacts { messages_claimed: None, ..facts() };
    assert_eq!(event(&mut encoder, unclaimed, piece).field("count_mismatch"), None);

    for framing in [Framing::Truncated, Framing::BadLength] {
        let mut out = Vec::new();
        encoder.encode(0, Piece { bytes: piece, framing }, &mut out);
        assert_eq!(Envelope::read(&out).field("framing"), framing.as_flag());
        assert!(framing.as_flag().is_some());
    }
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

#[test]
fn kinds_are_filtered_hit_or_miss() {
    let config = MappingConfig { kinds: Some(vec![Kind::Router, Kind::Api]), ..config() };
    let mut encoder = encoder(&config);
    encoder.start_frame(facts());
    for _ in 0..3 {
        for (source, delivered) in [
            ("heroku router", true),
            ("app api", true),
            ("app web.1", false),
            ("heroku web.1", false),
        ] {
            let mut out = Vec::new();
            let piece = format!("<190>1 2026-01-02T03:04:05Z host {source} - text");
            let outcome = encoder.encode(0, whole(piece.as_bytes()), &mut out);
            let filtered = Outcome::Filtered(Filtered::Kind);
            assert_eq!(outcome, if delivered { Outcome::Event } else { filtered }, "{source}");
            assert_eq!(out.is_empty(), !delivered);
        }
        let headless = encoder.encode(0, whole(b"text"), &mut Vec::new());
        assert_eq!(headless, Outcome::Filtered(Filtered::Kind));
    }
}

#[test]
fn event_ids_are_stable_and_can_be_left_out() {
    let piece = b"<190>1 2026-01-02T03:04:05Z host app web.1 - text\n";
    let id =
        |facts| event(&mut encoder(&config()), facts, piece).field("event_id").map(str::to_owned);
    assert_eq!(id(facts()), Some(format!("{FRAME_ID}:0")));
    let again = FrameFacts { received: UnixMicros::new(9), offset: Offset::new(9), ..facts() };
    assert_eq!(id(again), Some(format!("{FRAME_ID}:0")));
    assert_eq!(id(FrameFacts { frame_id: None, ..facts() }), Some("node-1-42:0".to_owned()));
    let odd = FrameFacts { frame_id: Some("a\"b\\"), ..facts() };
    assert_eq!(id(odd), Some("a\"b\\:0".to_owned()));

    let mut without = encoder(&MappingConfig { event_id: false, ..config() });
    assert_eq!(event(&mut without, facts(), piece).field("event_id"), None);
    let mut out = Vec::new();
    encoder(&config()).encode(u32::MAX, whole(piece), &mut out);
    assert_eq!(Envelope::read(&out).field("event_id"), Some("node-1-0:4294967295"));
}

/// Where no drain is configured, none is a stranger.
#[test]
fn a_drain_that_nobody_configured_is_marked() {
    let piece = b"<190>1 2026-01-02T03:04:05Z host app web.1 - text\n";
    let mark = |config: &MappingConfig, drain_token| {
        let facts = FrameFacts { drain_token, ..facts() };
        event(&mut encoder(config), facts, piece).field("unknown_drain").map(str::to_owned)
    };
    let unknown = "d.12345678-0000-0000-0000-000000000000";
    assert_eq!(mark(&config(), Some(TOKEN)), None);
    assert_eq!(mark(&config(), Some(unknown)), Some("1".to_owned()));
    assert_eq!(mark(&config(), None), None, "log-shuttle has no token that could be configured");
    let nobody = MappingConfig { drains: Arc::default(), ..config() };
    assert_eq!(mark(&nobody, Some(unknown)), None);
}

#[test]
fn where_the_app_name_comes_from() {
    let unknown = "d.12345678-0000-0000-0000-000000000000";
    let query = "app=from%20query";
    for (token, query, hostname, expected) in [
        (Some(TOKEN), query, "shuttle", "checkout"),
        (Some(unknown), query, "shuttle", "from query"),
        (Some(unknown), "app=", "shuttle", "shuttle"),
        (Some(unknown), "", "host", "12345678"),
        (Some(unknown), "", "heroku", "12345678"),
        (Some(unknown), "", "-", "12345678"),
        (Some(unknown), "", unknown, "12345678"),
        (
            Some("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"),
            "",
            "host",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ),
        (None, "", "host", "heroku"),
        (Some("d."), "", "host", "heroku"),
    ] {
        let facts = FrameFacts { drain_token: token, query, ..facts() };
        let piece = format!("<190>1 2026-01-02T03:04:05Z {hostname} app web.1 - text");
        let made = event(&mut encoder(&config()), facts, piece.as_bytes());
        assert_eq!(made.field("heroku_app"), Some(expected), "{token:?} {query} {hostname}");
        assert_eq!(made.host, expected);
    }
}

#[test]
fn a_drain_token_never_goes_out_whole() {
    let piece = format!("<190>1 2026-01-02T03:04:05Z {TOKEN} app web.1 - text");
    let mut encoder = encoder(&MappingConfig { drains: Arc::default(), ..config() });
    let mut out = Vec::new();
    encoder.start_frame(facts());
    encoder.encode(0, whole(piece.as_bytes()), &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("\"drain\":\"fc6b856b\""), "{text}");
    assert!(!text.contains(TOKEN), "{text}");
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
