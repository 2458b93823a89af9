//! What each level of gzip costs and saves, on bodies as they go to a collector.
//!
//! Time is CPU time of the one thread, as Linux counts it in `/proc/thread-self/schedstat`, so
//! that a busy machine does not count. The counter moves with the scheduler's tick, so it is read
//! around many rounds and not around each.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench prints its figures, and its data is its own"
)]

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use forebay::hec::{Encoder, FrameFacts, Mapping, MappingConfig};
use forebay::logplex::{Profile, pieces};
use forebay::types::{Offset, UnixMicros};

const BODY: usize = 1_000_000;
const ROUNDS: u64 = 100;

/// Lines of a router and of dynos, with ids, addresses and numbers that do not repeat.
fn message(rng: &mut fastrand::Rng, number: u32) -> String {
    let time =
        format!("2026-01-02T03:04:{:02}.{:06}+00:00", number / 800 % 60, rng.u32(..1_000_000));
    let path = ["/", "/cart", "/checkout/7", "/api/v2/items", "/login", "/assets/app.js"];
    let path = path[rng.usize(..path.len())];
    let dyno = rng.u8(1..9);
    let address = format!("{}.{}.{}.{}", rng.u8(..), rng.u8(..), rng.u8(..), rng.u8(..));
    let id = format!("{:08x}-{:04x}-4{:03x}", rng.u32(..), rng.u16(..), rng.u16(..4096));
    let (took, bytes) = (rng.u32(1..900), rng.u32(200..90_000));
    match rng.u8(..4) {
        0 => format!(
            "<158>1 {time} host heroku router - at=info method=GET path=\"{path}\" \
             host=shop.example.com request_id={id} fwd=\"{address}\" dyno=web.{dyno} connect=0ms \
             service={took}ms status=200 bytes={bytes} protocol=https tls_version=tls1.3\n"
        ),
        1 => format!(
            "<190>1 {time} host app web.{dyno} - {{\"level\":\"info\",\"msg\":\"request\",\
             \"request_id\":\"{id}\",\"path\":\"{path}\",\"ms\":{took},\"ip\":\"{address}\"}}\n"
        ),
        2 => format!(
            "<190>1 {time} host app web.{dyno} - [{id}] Completed 200 OK in {took}ms (Views: \
             {}ms | ActiveRecord: {}ms | Allocations: {bytes})\n",
            took / 2,
            took / 3
        ),
        _ => format!(
            "<190>1 {time} host app worker.{dyno} - job {id} class=ReportJob queue=default \
             attempt=1 duration={took}ms customer={}\n",
            rng.u32(1000..99_999)
        ),
    }
}

/// One body of events.
fn body() -> Option<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mapping = Mapping::compile(&MappingConfig::default()).ok()?;
    let mut encoder = Encoder::new(mapping, BODY);
    let mut out = Vec::new();
    let mut frame = 0;
    while out.len() < BODY {
        let messages: Vec<_> = (0..50).map(|n| message(&mut rng, frame * 50 + n)).collect();
        let framed: String = messages.iter().map(|m| format!("{} {m}", m.len())).collect();
        let id = format!("{:032X}", rng.u128(..));
        encoder.start_frame(FrameFacts {
            drain_token: Some("d.fc6b856b-3332-4546-93de-7d0ee272c3bd"),
            frame_id: Some(&id),
            offset: Offset::new(u64::from(frame)),
            received: UnixMicros::new(1_767_323_046_000_000),
            query: "app=checkout",
            profile: Profile::Logplex,
            messages_claimed: Some(50),
            messages: 50,
        });
        for (index, piece) in (0..).zip(pieces(framed.as_bytes())) {
            encoder.encode(index, piece, &mut out);
        }
        frame += 1;
    }
    Some(out)
}

/// CPU time of this thread in nanoseconds.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

fn main() {
    let Some(body) = body() else { return };
    println!("a body of {} bytes, mean of {ROUNDS} rounds", body.len());
    println!("level  bytes    ratio  CPU ms/MB  MB/s of one core");
    for level in 0..=9 {
        let mut size = 0;
        let before = cpu();
        for _ in 0..ROUNDS {
            let out = Vec::with_capacity(body.len() / 6);
            let mut gzip = GzEncoder::new(out, Compression::new(level));
            let Ok(done) = gzip.write_all(&body).and_then(|()| gzip.finish()) else { return };
            size = done.len();
        }
        let (bytes, nanos) = (body.len() as f64, ((cpu() - before) / ROUNDS).max(1) as f64);
        println!(
            "{level:>5}  {size:>7}  {:>5.2}  {:>9.2}  {:>7.0}",
            bytes / size as f64,
            nanos / bytes,
            bytes * 1000.0 / nanos
        );
    }
}
