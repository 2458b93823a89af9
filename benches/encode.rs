//! From a frame to HEC events: what every message costs every destination, octet framing and
//! syslog header included. At 1 million messages a second a core has 1 µs for one.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay::hec::{Encoder, FrameFacts, Mapping, MappingConfig, Outcome};
use forebay::logplex::{Profile, pieces};
use forebay::types::{Offset, UnixMicros};

const MESSAGES: u32 = 100;
/// Bytes of one message between the length prefixes.
const MESSAGE: usize = 200;

/// A frame of 100 messages of 200 bytes, from eight dynos in turn. `text` is repeated to length.
fn frame(text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for n in 0..MESSAGES {
        let mut message = format!(
            "<190>1 2026-01-02T03:04:05.{:06}+00:00 host app web.{} - ",
            n * 7919,
            n % 8 + 1
        );
        let mut text = text.chars().cycle();
        while let Some(next) = text.next()
            && message.len() + next.len_utf8() < MESSAGE
        {
            message.push(next);
        }
        message.extend(std::iter::repeat_n('.', MESSAGE - 1 - message.len()));
        message.push('\n');
        body.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
    }
    body
}

/// One message of every source in turn, so that none is found twice in a row.
fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(u64::from(MESSAGES)));
    for (name, text) in [
        ("plain", "GET /checkout status=200 bytes=5120 took 12ms for a customer in Lisbon; "),
        (
            "quotes",
            "at=info method=GET path=\"/checkout/7\" host=shop.example.com fwd=\"1.2.3.4\" ",
        ),
        ("json", "{\"level\":\"info\",\"msg\":\"paid\",\"id\":42,\"path\":\"/a\",\"ok\":true}"),
        ("unicode", "Überweisung geprüft: 25 € für Łódź — 完了。"),
    ] {
        let body = frame(text);
        assert_eq!(body.len(), MESSAGES as usize * (MESSAGE + "200 ".len()), "{name}");
        let Ok(mapping) = Mapping::compile(&MappingConfig::default()) else { return };
        let mut encoder = Encoder::new(mapping, 1_000_000);
        let mut out = Vec::new();
        group.bench_function(format!("100x200B/{name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                encoder.start_frame(FrameFacts {
                    drain_token: Some("d.fc6b856b-3332-4546-93de-7d0ee272c3bd"),
                    frame_id: Some("09C557EAFCFB6CF2740EE62F62971098"),
                    offset: Offset::new(7),
                    received: UnixMicros::new(1_767_323_046_000_000),
                    query: "app=checkout",
                    profile: Profile::Logplex,
                    messages_claimed: Some(MESSAGES),
                    messages: MESSAGES,
                });
                for (index, piece) in (0..).zip(pieces(black_box(&body))) {
                    assert_eq!(encoder.encode(index, piece, &mut out), Outcome::Event);
                }
                black_box(out.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
