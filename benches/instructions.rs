//! How many instructions a message costs on the hot path, counted by callgrind: a figure that does
//! not depend on what else the machine does, and so one that CI can hold.
//!
//! Each part is run under valgrind twice, with some work and with twice of it. The difference is
//! what the work costs; starting, opening and closing fall out. The figures are compared with
//! `benches/instructions.txt`: more than 5 % away from there, in either direction, is an error.
//! After a change that is meant, `cargo bench --bench instructions -- --record` writes it anew.
#![expect(clippy::unwrap_used, reason = "a bench that cannot set itself up has nothing to say")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for a terminal")]

#[path = "parts/delivery.rs"]
mod delivery;
mod parts;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use bytes::Bytes;
use delivery::Destination;
use forebay::hec::{Encoder, FrameFacts, Mapping, MappingConfig, Outcome};
use forebay::logplex::{Profile, count, parse, pieces};
use forebay::types::{ByteSize, Offset, UnixMicros};
use forebay::wal::Wal;
use parts::{config, new_frame};

const MESSAGES: u32 = 100;
/// Bytes of one message.
const MESSAGE: usize = 200;
/// How far from what is recorded a figure may be.
const MARGIN: f64 = 0.05;

/// The parts, and how many frames each is given, once and twice.
const PARTS: [(&str, u64); 5] =
    [("count", 400), ("parse", 200), ("encode", 200), ("append", 1500), ("deliver", 20_000)];

/// A frame of 100 router lines of 200 bytes.
fn frame(seed: u32) -> Bytes {
    let mut body = Vec::new();
    for n in 0..MESSAGES {
        let mut message = format!(
            "<158>1 2026-01-02T03:04:05.{:06}+00:00 host heroku router - at=info method=GET \
             path=\"/items/{n}\" request_id={:x} ",
            n * 7919,
            u64::from(seed * MESSAGES + n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        );
        message.extend(std::iter::repeat_n('.', MESSAGE - 1 - message.len()));
        message.push('\n');
        body.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
    }
    Bytes::from(body)
}

fn work(part: &str, frames: u64) {
    let body = frame(1);
    match part {
        "count" => {
            for _ in 0..frames {
                assert_eq!(count(black_box(&body)), MESSAGES);
            }
        }
        "parse" => {
            for _ in 0..frames {
                for piece in pieces(black_box(&body)) {
                    black_box(parse(piece.bytes, Profile::Logplex));
                }
            }
        }
        "encode" => encode(&body, frames),
        "append" => append(frames),
        "deliver" => deliver(frames),
        _ => unreachable!("a part of PARTS"),
    }
}

fn encode(body: &[u8], frames: u64) {
    let mapping = Mapping::compile(&MappingConfig::default()).unwrap();
    let (mut encoder, mut out) = (Encoder::new(mapping, 1_000_000), Vec::new());
    for offset in 0..frames {
        out.clear();
        encoder.start_frame(FrameFacts {
            drain_token: Some("d.fc6b856b-3332-4546-93de-7d0ee272c3bd"),
            frame_id: Some("09C557EAFCFB6CF2740EE62F62971098"),
            offset: Offset::new(offset),
            received: UnixMicros::new(1_767_323_046_000_000),
            query: "app=checkout",
            profile: Profile::Logplex,
            messages_claimed: Some(MESSAGES),
            messages: MESSAGES,
        });
        for (index, piece) in (0..).zip(pieces(black_box(body))) {
            assert_eq!(encoder.encode(index, piece, &mut out), Outcome::Event);
        }
        black_box(out.len());
    }
}

/// Frames of 50 at a time, so that groups form and a sync is shared, as under load.
fn append(frames: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(config(dir.path(), ByteSize::mib(1024), ByteSize::mib(16))).unwrap();
    let bodies: Vec<Bytes> = (0..50).map(frame).collect();
    runtime.block_on(async {
        let mut id = 0;
        while id < frames {
            let some = bodies.iter().map(|body| {
                id += 1;
                wal.append(Wal::prepare(new_frame(id, MESSAGES, body)), ())
            });
            for stored in some.collect::<Vec<_>>() {
                assert!(!stored.await.unwrap().duplicate);
            }
        }
    });
    wal.close();
}

/// The delivery machine alone, a frame a batch, with some hundreds of them in flight.
fn deliver(frames: u64) {
    let mut destination = Destination::new(Duration::from_millis(1));
    for _ in 0..frames {
        destination.frame();
    }
    let messages = destination.acknowledged() + destination.in_flight() * u64::from(MESSAGES);
    assert_eq!(messages, frames * u64::from(MESSAGES));
}

/// Instructions of one run of this program under callgrind.
fn instructions(part: &str, frames: u64) -> u64 {
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--work", part, &frames.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{part}: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    collected.and_then(|(_, number)| number.trim().parse().ok()).unwrap()
}

fn recorded(path: &Path) -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let rows = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    });
    rows.collect()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, part, frames] = &args[..]
        && flag == "--work"
    {
        work(part, frames.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("SKIPPED, NOTHING IS HELD: valgrind is not installed");
        return ExitCode::from(u8::from(std::env::var_os("FOREBAY_CI").is_some()));
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let record = args.iter().any(|arg| arg == "--record");
    let before = recorded(&path);
    let mut text = String::from(
        "# Instructions a message of 200 bytes, by callgrind. Written by\n\
         # cargo bench --bench instructions -- --record\n",
    );
    let mut failed = false;
    println!("| part | instructions a message | recorded | change |\n|---|---|---|---|");
    for (part, frames) in PARTS {
        let more = instructions(part, 2 * frames).saturating_sub(instructions(part, frames));
        let cost = more as f64 / (frames * u64::from(MESSAGES)) as f64;
        let known = before.get(part).copied();
        let change = known.map(|known| cost / known - 1.0);
        println!(
            "| {part} | {cost:.1} | {} | {} |",
            known.map_or_else(|| "none".to_owned(), |known| format!("{known:.1}")),
            change.map_or_else(|| "none".to_owned(), |change| format!("{:+.1} %", change * 100.0)),
        );
        text.push_str(&format!("{part} {cost:.1}\n"));
        failed |= change.is_none_or(|change| change.abs() > MARGIN);
    }
    if record {
        std::fs::write(&path, text).unwrap();
        return ExitCode::SUCCESS;
    }
    if failed {
        eprintln!(
            "error: a part is more than {:.0} % away from benches/instructions.txt: find out why; \
             if it is meant, record it with: cargo bench --bench instructions -- --record",
            MARGIN * 100.0
        );
    }
    ExitCode::from(u8::from(failed))
}
