//! What it costs to make the log's value of a frame, and to check and read it: once at ingest, and
//! once for each destination.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay::logplex::Profile;
use forebay::record::{PreparedRecord, Record, decode_record};
use forebay::types::UnixMicros;

fn frame(messages: u32) -> Record {
    let mut body = Vec::new();
    for n in 0..messages {
        let message = format!("<190>1 2026-01-02T03:04:05.{n:06}+00:00 host app web.1 - {n:0141}");
        body.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
    }
    Record {
        drain_token: Some("d.fc6b856b-3332-4546-93de-7d0ee272c3bd".to_owned()),
        frame_id: Some("09C557EAFCFB6CF2740EE62F62971098".to_owned()),
        messages_claimed: Some(messages),
        messages,
        messages_before: 0,
        received: UnixMicros::new(1_767_323_046_000_000),
        peer: "203.0.113.7".to_owned(),
        query: "app=checkout".to_owned(),
        profile: Profile::Logplex,
        body: Bytes::from(body),
    }
}

fn record(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    for messages in [10, 100, 1000] {
        let frame = frame(messages);
        group.throughput(Throughput::Bytes(frame.body.len() as u64));
        group.bench_function(format!("make/{messages} x 200 B"), |b| {
            b.iter(|| PreparedRecord::new(black_box(&frame)).finish(7));
        });
        let value = PreparedRecord::new(&frame).finish(7);
        assert_eq!(decode_record(&value).map(|record| record.messages), Ok(messages));
        group.bench_function(format!("check and read/{messages} x 200 B"), |b| {
            b.iter(|| decode_record(black_box(&value)).map(|record| record.body.len()));
        });
    }
    group.finish();
}

criterion_group!(benches, record);
criterion_main!(benches);
