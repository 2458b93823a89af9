//! What it costs to render the templates of a source: host, source, sourcetype, index, fields. What
//! was rendered is kept, for some thousand sources; here no source comes again before it is
//! forgotten, so that every message has its templates rendered. The difference to the first row is
//! theirs.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay::hec::{Encoder, FrameFacts, Mapping, MappingConfig};
use forebay::logplex::{Profile, pieces};
use forebay::types::{Offset, UnixMicros};

const MESSAGES: u32 = 100;
/// More sources than are kept, by far.
const FRAMES: u32 = 300;

/// Frames of 200-byte messages. `sources` is how many dynos write in turn.
fn frames(sources: u32) -> Vec<Vec<u8>> {
    let message = |n: u32| {
        let dyno = n % sources;
        format!("<190>1 2026-01-02T03:04:05.000001+00:00 host app worker.{dyno:06} - {n:0135}\n")
    };
    let frame = |first: u32| {
        let messages = (first * MESSAGES..(first + 1) * MESSAGES).map(message);
        messages.flat_map(|text| format!("{} {text}", text.len()).into_bytes()).collect()
    };
    (0..FRAMES).map(frame).collect()
}

fn templates(c: &mut Criterion) {
    let usual = MappingConfig::default();
    let mut rich = MappingConfig {
        host: Some("{{ app }}.{{ host }}".to_owned()),
        source: Some("{{ query.stage or 'production' }}/{{ app }}/{{ proc_id }}".to_owned()),
        index: Some(
            "heroku_{% if severity == 'error' %}errors{% else %}logs{% endif %}".to_owned(),
        ),
        ..MappingConfig::default()
    };
    for (name, template) in
        [("team", "{{ query.team }}"), ("unit", "{{ proc_id }}"), ("level", "{{ severity }}")]
    {
        rich.fields.insert(name.to_owned(), template.to_owned());
    }
    let mut group = c.benchmark_group("templates");
    group.throughput(Throughput::Elements(u64::from(MESSAGES)));
    for (name, config, sources) in [
        ("usual, kept", &usual, 8),
        ("usual, rendered for each", &usual, FRAMES * MESSAGES),
        ("index, conditions and fields, kept", &rich, 8),
        ("index, conditions and fields, rendered for each", &rich, FRAMES * MESSAGES),
    ] {
        let compiled = Mapping::compile(config);
        assert!(compiled.is_ok(), "{name}: {:?}", compiled.err());
        let Ok(mapping) = compiled else { return };
        let (mut encoder, mut out) = (Encoder::new(mapping, 1_000_000), Vec::new());
        let frames = frames(sources);
        let mut turn = frames.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                encoder.start_frame(FrameFacts {
                    drain_token: Some("d.fc6b856b-3332-4546-93de-7d0ee272c3bd"),
                    frame_id: Some("09C557EAFCFB6CF2740EE62F62971098"),
                    offset: Offset::new(7),
                    received: UnixMicros::new(1_767_323_046_000_000),
                    query: "app=checkout&team=payments",
                    profile: Profile::Logplex,
                    messages_claimed: Some(MESSAGES),
                    messages: MESSAGES,
                });
                let frame = turn.next().map_or(&[][..], Vec::as_slice);
                for (index, piece) in (0..).zip(pieces(black_box(frame))) {
                    encoder.encode(index, piece, &mut out);
                }
                black_box(out.len())
            });
        });
        assert!(out.len() > MESSAGES as usize * 200, "{name}: {}", out.len());
    }
    group.finish();
}

criterion_group!(benches, templates);
criterion_main!(benches);
