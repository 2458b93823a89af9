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
mod texts;

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
