//! What it costs to cut a frame into messages and to read their headers.
//!
//! Framing runs once for every frame at ingest; framing and parsing run once for every frame and
//! destination. Neither may be noticeable beside the fsync and the encoding.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay::logplex::{Profile, count, parse, pieces};

const MESSAGES: usize = 100;

/// A frame of 100 router lines of 200 bytes each.
fn frame() -> Vec<u8> {
    let mut body = Vec::new();
    for number in 0..MESSAGES {
        let mut message = format!(
            "<158>1 2026-01-02T03:04:{:02}.{number:06}+00:00 host heroku router - at=info \
             method=GET path=\"/items/{number}\" ",
            number % 60
        );
        while message.len() < 199 {
            message.push('x');
        }
        message.push('\n');
        body.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
    }
    body
}

fn framing(c: &mut Criterion) {
    let body = frame();
    assert_eq!(count(&body) as usize, MESSAGES);

    let mut group = c.benchmark_group("framing");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("count/bytes", |b| b.iter(|| count(black_box(&body))));
    group.bench_function("pieces+parse/bytes", |b| b.iter(|| read(black_box(&body))));
    group.throughput(Throughput::Elements(MESSAGES as u64));
    group.bench_function("count/messages", |b| b.iter(|| count(black_box(&body))));
    let cut: Vec<_> = pieces(&body).collect();
    group.bench_function("syslog header/messages", |b| {
        b.iter(|| {
            let texts = cut.iter().map(|piece| parse(black_box(piece.bytes), Profile::Logplex));
            texts.map(|message| message.text.len()).sum::<usize>()
        });
    });
    group.bench_function("pieces+parse/messages", |b| b.iter(|| read(black_box(&body))));
    group.finish();
}

/// Reads every message of a frame and uses every part, so that nothing is optimised away.
fn read(body: &[u8]) -> usize {
    pieces(body)
        .map(|piece| {
            let message = black_box(parse(piece.bytes, Profile::Logplex));
            message.text.len()
        })
        .sum()
}

criterion_group!(benches, framing);
criterion_main!(benches);
