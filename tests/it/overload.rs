use std::time::Duration;

use forebay::simulate::ledger::audit;
use forebay::simulate::logplex::{Report, Snapshot};
use tokio::time::sleep;

use crate::support::{
    Frame, Hec, Lab, Sending, Shim, from_environment, measured, number, peak_memory,
};

/// How long a sync takes on the disk of this test. So it is the disk that limits the relay, as it
/// should be, and not the processors that the senders need as well: four times its rate is then a
/// rate that they can make.
const SYNC: Duration = Duration::from_millis(250);

/// Frames of the size that Logplex aims at: some 100 KiB.
const MESSAGES: u32 = 50;
const BYTES: usize = 2000;

/// Memory for bodies that is a small part of what is offered at once: half of it, 4 MiB, is for
/// frames of this size.
const SMALL: &str = "max_body = \"1MiB\"\nmax_in_flight = \"8MiB\"\n";

/// How long a request is held at most, in seconds.
const HELD: u128 = 4;

/// Frames at a rate of so many a second, or as fast as answers come.
fn load(lab: &Lab, connections: u32, frames: Option<f64>) -> Sending {
    lab.send(|config| {
        config.connections = number(connections);
        config.messages_per_frame = number(MESSAGES);
        config.message_bytes = BYTES;
        config.rate = frames.map(|frames| frames * f64::from(MESSAGES));
    })
}

/// Lets it work for a while; what it has done by then, and all that it did.
async fn work(sending: Sending, seconds: u64) -> (Snapshot, Report) {
    sleep(Duration::from_secs(seconds)).await;
    let then = sending.progress.snapshot();
    (then, sending.stop().await)
}

/// The tries that were begun.
fn tries(at: &Snapshot) -> u64 {
    at.answers.values().sum::<u64>() + at.timeouts + at.broken + at.totals.in_flight()
}

/// Four times what it can take, offered for a while: requests wait, nothing is refused for good,
/// memory stays where it was, all that was answered 200 is durable, and when it is over it is over.
///
/// 20 s; `FOREBAY_OVERLOAD_SECONDS=60` is a minute.
#[tokio::test]
async fn overload_makes_requests_wait_and_loses_nothing() {
    let seconds = from_environment("FOREBAY_OVERLOAD_SECONDS").unwrap_or(20);
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "").ingest(SMALL);
    let Some(shim) = Shim::build(lab.path(), &lab.data_dir()) else { return };
    lab.environment(shim.environment());
    lab.start().await;
    shim.delay(SYNC);

    // As many as there is memory for, and some: with so many it does all it can, and each waits
    // for a second or so.
    let (_, sustained) = work(load(&lab, 80, None), 5).await;
    let answers: Vec<_> = sustained.end.answers.keys().copied().collect();
    assert_eq!(answers, [200], "that can be sustained: {sustained}");
    let rate = sustained.accepted_rate() / f64::from(MESSAGES);
    let idle = peak_memory(lab.process().id());

    // A sender has one frame outstanding, so the rate needs as many of them as requests are held.
    let frames = u128::from(sustained.end.totals.accepted_frames) * 4 * HELD;
    let connections = u32::try_from(frames * 1000 / sustained.elapsed.as_millis()).unwrap();
    let (then, overload) = work(load(&lab, connections, Some(4.0 * rate)), seconds).await;
    let start = forebay::clock::instant();
    assert_eq!(lab.post(&Frame::new("AFTER", &["after the overload"])).await, 200);
    let recovered = start.elapsed();
    let peak = peak_memory(lab.process().id());
    let offered = tries(&then) as f64 / seconds as f64;
    let accepted = then.answers[&200] as f64 / seconds as f64;
    let (_, after) = work(load(&lab, 8, Some(rate / 2.0)), 5).await;

    measured("seconds of overload", seconds);
    measured("sustained, frames/s", rate.round());
    measured("connections under overload", connections);
    measured("tried under overload, frames/s", offered.round());
    measured("taken under overload, frames/s", accepted.round());
    measured("answers under overload", overload.latency.since(&sustained.latency));
    measured("statuses under overload", format!("{:?}", overload.end.answers));
    measured("tries that took longer than Logplex waits", overload.end.timeouts);
    measured("the next answer after it, ms", recovered.as_millis());
    measured(
        "answers at half of the sustained rate after it",
        after.latency.since(&overload.latency),
    );
    measured("peak memory before, MiB", idle >> 10);
    measured("peak memory, MiB", peak >> 10);
    assert!(offered > 3.5 * rate, "{offered} is no overload of {rate} frames/s: {overload}");
    assert!(accepted > rate * 0.7, "it goes on at its rate: {accepted} of {rate} frames/s");
    let refused = overload.end.answers.keys().find(|status| !matches!(status, 200 | 503));
    assert_eq!(refused, None, "{overload}");
    assert!(recovered < Duration::from_secs(5), "{recovered:?}");
    let answers: Vec<_> = after.end.answers.keys().copied().collect();
    assert_eq!(answers, [200], "nothing is left of it: {after}");
    assert_eq!((after.end.timeouts, after.end.broken), (0, 0), "{after}");
    // It has offered a hundred MiB at any moment.
    assert!(peak < 200 << 10, "{peak} KiB");

    // What was answered 200 is on the disk.
    lab.kill();
    lab.environment(Vec::new());
    lab.start().await;
    lab.drained(Duration::from_secs(120)).await;
    let found = audit(&lab.sent, &hec.ledger);
    assert_eq!((found.lost, found.unacknowledged), (0, 0), "{found}");
}
