//! Another machine goes on while the log has not written yet what the one before it has decided.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::control::{Control, Seek};
use super::names::Places;
use super::pack_tests::{Log, frame, new_frame};
use super::*;
use crate::clock;
use crate::types::Offset;
use crate::wal::Place;

const SOON: Duration = Duration::from_secs(30);

/// Says when it is dropped.
struct OnDrop(mpsc::SyncSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.try_send(()).ok();
    }
}

/// What a collector has seen.
#[derive(Default)]
struct Seen {
    /// Of each message how often it came.
    ones: usize,
    twos: usize,
    /// Where the stored cursor was at each request.
    stored: Vec<Position>,
}

/// A destination whose log writes nothing from the first frame on, until the second message's first
/// POST is given up: that is when one machine ends, and nothing of the next has begun.
struct Scene {
    log: Log,
    seen: Arc<Mutex<Seen>>,
    /// The second message is being posted.
    second: Arc<Notify>,
    handle: SinkHandle,
    control: tokio::sync::mpsc::Sender<Control>,
    set: watch::Sender<Places>,
    running: JoinSet<()>,
    _listening: JoinSet<()>,
}

/// The first message's first POST is answered by `first`; all others are accepted, but for the
/// second message's first one, which has no answer.
async fn scene(first: (u16, &'static str)) -> Scene {
    let log = Log::of(Vec::new());
    let (seen, second) = (Arc::<Mutex<Seen>>::default(), Arc::new(Notify::new()));
    let (given_up, gives_up) = mpsc::sync_channel(1);
    let (counts, posted, store) = (Arc::clone(&seen), Arc::clone(&second), log.wal.clone());
    let says = move |request: String| {
        let (counts, posted) = (Arc::clone(&counts), Arc::clone(&posted));
        let (given_up, store) = (given_up.clone(), store.clone());
        async move {
            let answer = {
                let mut seen = counts.lock().unwrap();
                let name = rig::config(([127, 0, 0, 1], 1).into()).name;
                let stored = store.checkpoint(&name).unwrap();
                seen.stored.extend(stored.map(|checkpoint| checkpoint.position));
                if request.starts_with("post /services/collector/ack") {
                    return (200, "{\"acks\":{\"1\":true,\"2\":true}}");
                }
                seen.ones += usize::from(request.contains("one"));
                seen.twos += usize::from(request.contains("two"));
                match (request.contains("two"), seen.ones, seen.twos) {
                    (false, 1, _) => Some(first),
                    (true, _, 1) => None,
                    _ => Some((200, "{\"text\":\"Success\",\"code\":0,\"ackId\":2}")),
                }
            };
            let Some(answer) = answer else {
                let _given_up = OnDrop(given_up);
                posted.notify_one();
                return std::future::pending().await;
            };
            answer
        }
    };
    let (address, listening) = rig::collector(says).await;
    let mut config = rig::config(address);
    config.delivery.batch.max_events = NonZeroUsize::MIN;
    // While a channel's POST has no answer, nobody asks on it.
    let lanes = NonZeroUsize::new(2).unwrap();
    (config.delivery.lanes_per_endpoint, config.delivery.max_lanes_per_endpoint) = (lanes, lanes);
    config.delivery.believe_refusals = true;
    let sink = Sink::open(config, log.wal.clone()).await.unwrap();
    let handle = sink.handle();
    let place = names::Place { url: format!("http://{address}"), address: None };
    let (set, places) = watch::channel(Places::from([place]));
    let control = sink.control.0.clone();
    let makings = task::Makings {
        tail: sink.wal.tail(),
        config: sink.config,
        wal: sink.wal,
        machine: sink.machine,
        source: Box::new(sink.packer),
        client: sink.client,
        ledger: ledger::Ledger::Log,
        shown: Some(sink.status),
        control: Some(sink.control.1),
        set: Some(places),
        pace: None,
    };
    let mut running = JoinSet::new();
    running.spawn(async move {
        let stop = CancellationToken::new();
        seek::deliver(makings, sink.drains, &stop, Duration::ZERO).await;
    });
    let new = new_frame(0, clock::unix_micros(), &frame(&["one", "two"]));
    let (wal, wait) = (log.wal.clone(), move |_| {
        gives_up.recv().ok();
    });
    running.spawn(async move {
        wal.append_noted(Wal::prepare(new), (), wait).await.unwrap();
    });
    Scene { log, seen, second, handle, control, set, running, _listening: listening }
}

impl Scene {
    async fn shows(&self, wanted: impl Fn(&SinkStatus) -> bool) {
        timeout(SOON, self.handle.wait_for(wanted)).await.expect("it is shown");
    }

    fn changes_endpoints(&self) {
        self.set.send_modify(|_| {});
    }

    /// Everything settles. How often each message was posted.
    async fn settles(&mut self) -> (usize, usize) {
        let all = Position::at(Offset::new(1));
        self.shows(|status| status.delivery.position == all).await;
        let (answer, written) = oneshot::channel();
        self.control.send(Control::Save(answer)).await.unwrap();
        timeout(SOON, written).await.unwrap().unwrap();
        let stored = self.log.wal.checkpoint(self.handle.name()).unwrap().unwrap();
        assert_eq!(stored.position, all);
        self.running.abort_all();
        let seen = self.seen.lock().unwrap();
        assert!(seen.stored.is_sorted(), "the stored cursor went back: {:?}", seen.stored);
        (seen.ones, seen.twos)
    }
}

const ACCEPTED: (u16, &str) = (200, "{\"text\":\"Success\",\"code\":0,\"ackId\":1}");

/// The first message is acknowledged, and the log has not written it.
async fn acknowledged() -> Scene {
    let scene = scene(ACCEPTED).await;
    let first = Position::new(Offset::ZERO, 1);
    scene.shows(|status| status.delivery.position == first).await;
    timeout(SOON, scene.second.notified()).await.expect("it is posted");
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_on_its_way_is_what_other_endpoints_go_on_from() {
    let mut scene = acknowledged().await;
    scene.changes_endpoints();
    assert_eq!(scene.settles().await, (1, 2), "what is acknowledged is sent once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_moves_what_was_on_its_way() {
    let mut scene = acknowledged().await;
    let (answer, moved) = oneshot::channel();
    let seek = Seek { to: Place::Latest, may_skip: true, answer };
    scene.control.send(Control::Seek(seek)).await.unwrap();
    let moved = timeout(SOON, moved).await.unwrap().unwrap().unwrap();
    assert_eq!(moved.skipped, 1, "what is acknowledged is not skipped");
    assert_eq!(scene.settles().await, (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_on_its_way_is_not_left_behind() {
    let refusal = "{\"text\":\"Invalid data format\",\"code\":6,\"invalid-event-number\":0}";
    let mut scene = scene((400, refusal)).await;
    timeout(SOON, scene.second.notified()).await.expect("it is posted");
    scene.changes_endpoints();
    let (ones, twos) = scene.settles().await;
    assert_eq!(twos, 2);
    // It is settled on one way: the letter is there, or it was sent again and accepted.
    let book = scene.log.wal.letter_book(scene.handle.name());
    assert_eq!(book.letters, u64::from(ones == 1), "{ones} {book:?}");
}

/// Whoever asks may go away before it is done: it is done, and the log tells of it.
#[tokio::test]
async fn what_an_operator_has_asked_for_is_told_though_nobody_waits() {
    let (heard, _listening) = rig::Heard::warnings();
    let mut scene = scene(ACCEPTED).await;
    timeout(SOON, scene.second.notified()).await.expect("it is posted");
    let (answer, _) = oneshot::channel();
    scene.control.send(Control::Pause(true, answer)).await.unwrap();
    let (answer, _) = oneshot::channel();
    let seek = Seek { to: Place::Latest, may_skip: true, answer };
    scene.control.send(Control::Seek(seek)).await.unwrap();
    scene.settles().await;
    for words in ["paused by an operator", "an operator has moved the cursor"] {
        assert_eq!(heard.lines(words).len(), 1, "{words}: {:?}", heard.lines(""));
    }
}
