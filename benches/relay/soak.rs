//! A backlog, built, left behind by a SIGKILL, drained, and its space taken back.

use std::time::Duration;

use forebay::clock;

use super::case::{Case, Load, Setting, build};
use super::children::{Hec, NOW_AND_THEN, Running, within};
use super::options::{Options, Relay};
use super::proc::{Used, files, memory, peak_memory};

/// What may be left on the disk when everything is delivered and every sealed segment is gone: the
/// segment that is written to, and what RocksDB has not flushed.
const LEFT: u64 = 512 << 20;

const CASE: Case = Case {
    connections: 8,
    messages: 1000,
    gzip: false,
    destinations: 1,
    drains: 1,
    load: Load::Peak,
    setting: Setting::Usual,
};

const MB: f64 = 1e6;

pub(super) async fn run(options: &Options, size: u64) {
    let dir = options.directory();
    let mut hec = Hec::start(options.hec, Duration::ZERO);
    let relay = Relay::Forebay;
    println!("| what | figure |\n|---|---|");

    hec.hold();
    let (mut running, took) = Running::start(options, &relay, &CASE, dir.path()).await;
    row("start of a new log to listening, ms", took.as_millis());
    let started = clock::instant();
    let messages = build(options, &CASE, &mut running, size).await;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = running.message_bytes().unwrap();
    let built = Used::of(running.id());
    let (count, on_disk) = files(&running.data());
    row("backlog, messages", messages);
    row("backlog, MB of messages", mb(bytes));
    row("built in, s", format!("{seconds:.1}"));
    row("accepted while building, messages/s", format!("{:.0}", messages as f64 / seconds));
    row("files", count);
    row("on the disk, MB", mb(on_disk as f64));
    row("written per byte accepted", format!("{:.2}", built.written as f64 / bytes));
    row("peak memory while building, MB", mb(peak_memory(running.id()) as f64));

    running.kill();
    let (mut running, took) = Running::start(options, &relay, &CASE, dir.path()).await;
    row("SIGKILL with that backlog, start to listening, ms", took.as_millis());
    row("memory after that start, MB", mb(memory(running.id()) as f64));

    hec.go();
    let started = clock::instant();
    let drained = within(Duration::from_secs(7200), NOW_AND_THEN, || {
        running.check();
        hec.taken().acknowledged >= messages
    })
    .await;
    assert!(drained, "the backlog is not delivered");
    let seconds = started.elapsed().as_secs_f64();
    row("drained in, s", format!("{seconds:.1}"));
    row("delivered, messages/s", format!("{:.0}", messages as f64 / seconds));
    row("delivered more than once, messages", hec.taken().indexed - messages);
    row("peak memory while draining, MB", mb(peak_memory(running.id()) as f64));

    // Its sealed segments go with the next sweep, and their files with them.
    let started = clock::instant();
    let gone = || running.status()["log"]["segments"] == 1;
    let gone = within(Duration::from_secs(600), NOW_AND_THEN, gone).await;
    row(
        "all sealed segments were gone after, s",
        format!("{:.1}", started.elapsed().as_secs_f64()),
    );
    let back = || files(&running.data()).1 < LEFT;
    let back = within(Duration::from_secs(60), NOW_AND_THEN, back).await;
    row("their space was free after, s", format!("{:.1}", started.elapsed().as_secs_f64()));
    let (count, on_disk) = files(&running.data());
    row("files left", count);
    row("left on the disk, MB", mb(on_disk as f64));
    let all = Used::of(running.id());
    let written = (built.written + all.written) as f64;
    row("written per byte accepted, all in all", format!("{:.2}", written / bytes));
    row("CPU of building, s per million", format!("{:.2}", built.cpu / messages as f64 * MB));
    row(
        "CPU of starting and draining, s per million",
        format!("{:.2}", all.cpu / messages as f64 * MB),
    );
    assert!(gone && back, "the space is not taken back");
    running.stop().await;
}

fn mb(bytes: f64) -> String {
    format!("{:.0}", bytes / MB)
}

fn row(what: &str, figure: impl std::fmt::Display) {
    println!("| {what} | {figure} |");
}
