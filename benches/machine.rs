//! What the delivery machine itself costs a batch, by how many are in flight: reading, sending,
//! asking, acknowledging and saving, without a log, a socket or a body. A batch has up to 5,000
//! messages and costs milliseconds elsewhere; what must not be is that it costs more the more others
//! are in flight.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

#[path = "parts/delivery.rs"]
mod delivery;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use delivery::Destination;

fn machine(c: &mut Criterion) {
    let mut group = c.benchmark_group("machine");
    group.throughput(Throughput::Elements(1));
    for micros in [20_000, 1_000, 100] {
        let mut destination = Destination::new(Duration::from_micros(micros));
        for _ in 0..10_000 {
            destination.frame();
        }
        let in_flight = destination.in_flight();
        let name = format!("a batch, {in_flight} in flight");
        group.bench_function(name, |b| b.iter(|| destination.frame()));
        assert!(destination.acknowledged() > 0, "{micros}");
    }
    group.finish();
}

criterion_group!(benches, machine);
criterion_main!(benches);
