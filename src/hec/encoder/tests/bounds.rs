//! What a sender writes in a header makes no event that no collector takes.

use super::*;
use crate::hec::mapping::Format;

/// Where a text is cut.
const TEXT: usize = 1000;

/// What an event may take beside twelve bytes for each of its text: six where it stands, and six
/// where a part of it is a field of the router's. Every value is cut at 4 KiB, escaped with six
/// bytes for one at most, and there are about twenty.
const BESIDE: usize = 512 << 10;

/// A field of a header: a few bytes, over and over.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => prop::sample::select(vec![1u8, b'"', b'.', b'x', 0xc3, 0xa9, 0xff]),
        1 => any::<u8>().prop_filter("a space ends the field", |byte| *byte != b' '),
    ];
    let times = prop_oneof![2 => 0..9usize, 1 => 0..90_000usize];
    (prop::collection::vec(byte, 1..5), times).prop_map(|(bytes, times)| bytes.repeat(times))
}

fn bounded(config: &MappingConfig) -> Encoder {
    Encoder::new(Mapping::compile(config).unwrap(), TEXT)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_event_has_a_bound_whatever_its_header_is(
        hostname in field(),
        app_name in field(),
        proc_id in field(),
        text in field(),
        query in "(app|q|team)=(%01|x|&|app=){0,1300}",
        json: bool,
    ) {
        let all = "{{ app }}{{ host }}{{ app_name }}{{ proc_id }}{{ proc_type }}{{ query.q }}";
        let config = MappingConfig {
            host: Some(all.to_owned()),
            source: Some(all.to_owned()),
            sourcetype: Some(all.to_owned()),
            fields: [("all".to_owned(), all.to_owned())].into(),
            query: Some(["app", "q", "team"].map(str::to_owned).to_vec()),
            format: if json { Format::Json } else { Format::Text },
            router_fields: true,
            ..MappingConfig::default()
        };
        let mut encoder = bounded(&config);
        let header = b"<158>1 2026-01-02T03:04:05Z ";
        let fields = [&hostname[..], &app_name, &proc_id, b"-"].join(&b' ');
        let piece = [header, &fields[..], b" text ", &text].concat();
        let unknown = FrameFacts { drain_token: None, query: &query, ..facts() };
        encoder.start_frame(unknown);
        let mut out = Vec::new();
        prop_assert_eq!(encoder.encode(0, whole(&piece), &mut out), Outcome::Event);
        prop_assert!(out.len() <= BESIDE + 12 * TEXT, "{} bytes", out.len());
        let event: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let lengths = [&hostname, &app_name, &proc_id].map(Vec::len);
        if lengths.iter().any(|length| *length > 1024) {
            prop_assert_eq!(&event["fields"]["truncated"], "1");
        } else if lengths.iter().all(|length| *length < 100) && query.len() < 300 {
            let cut = String::from_utf8_lossy(&text).len() + 5 > TEXT;
            prop_assert_eq!(event["fields"].get("truncated").is_some(), cut);
        }
    }
}

#[test]
fn a_field_is_cut_between_two_characters() {
    let mut encoder = bounded(&config());
    for (proc_id, expected) in [
        ("x".repeat(1024), None),
        ("x".repeat(1025), Some("x".repeat(1024))),
        ("\u{e9}".repeat(512), None),
        ("\u{e9}".repeat(513), Some("\u{e9}".repeat(512))),
        (format!("x{}", "\u{e9}".repeat(512)), Some(format!("x{}", "\u{e9}".repeat(511)))),
        (
            format!("xxx{}", "\u{1f600}".repeat(256)),
            Some(format!("xxx{}", "\u{1f600}".repeat(255))),
        ),
    ] {
        let piece = format!("<190>1 2026-01-02T03:04:05Z host app {proc_id} - text");
        let made = event(&mut encoder, facts(), piece.as_bytes());
        assert_eq!(made.field("truncated"), expected.as_ref().map(|_| "1"));
        assert_eq!(made.field("dyno"), Some(&*expected.unwrap_or(proc_id)));
        assert_eq!(made.event, "text");
    }
}

/// A frame of nothing but a header of 8 MiB, written so that each byte of it takes six.
#[test]
fn the_largest_frame_makes_no_poison() {
    let mut encoder = bounded(&config());
    let proc_id = "\u{1}".repeat(8 << 20);
    let piece = format!("<190>1 2026-01-02T03:04:05Z host app {proc_id} - text");
    let mut out = Vec::new();
    encoder.start_frame(facts());
    assert_eq!(encoder.encode(0, whole(piece.as_bytes()), &mut out), Outcome::Event);
    assert!(out.len() < 32 << 10, "{} bytes", out.len());
    let made = Envelope::read(&out);
    assert_eq!((made.field("truncated"), &*made.event), (Some("1"), "text"));
}
