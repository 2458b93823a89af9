//! Who is told what, and when.

use std::task::Poll;

use tokio::sync::oneshot;

use super::*;
use crate::wal::shared::Space;

/// Keeps the appender inside of its current group until it is opened: the group's frame has a
/// permit that takes its time to go.
pub(super) struct Gate(crossbeam_channel::Sender<()>);

struct Slow {
    entered: Option<oneshot::Sender<()>>,
    opened: crossbeam_channel::Receiver<()>,
}

impl Drop for Slow {
    fn drop(&mut self) {
        drop(self.entered.take());
        // Ends with the gate, opened or dropped.
        assert!(self.opened.recv().is_err(), "nothing is ever sent");
    }
}

impl Gate {
    /// Returns when the appender stands still. Its frame is durable by then.
    pub(super) async fn shut(wal: &Wal) -> Self {
        let (gate, opened) = crossbeam_channel::bounded(0);
        let (entered, standing) = oneshot::channel();
        let permit = Slow { entered: Some(entered), opened };
        let appended = wal.append(Wal::prepare(frame(None, 1, b"gate")), permit).await;
        assert!(appended.is_ok());
        drop(standing.await);
        Self(gate)
    }

    pub(super) fn open(self) {
        drop(self.0);
    }
}

/// Puts a request on its way and leaves it there.
async fn start<T>(future: &mut (impl Future<Output = T> + Unpin)) {
    std::future::poll_fn(|context| {
        assert!(std::pin::Pin::new(&mut *future).poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[test]
fn a_sender_that_gives_up_does_not_take_its_frame_back() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        let gate = Gate::shut(&wal).await;
        let mut append = Box::pin(append(&wal, frame(Some("A"), 4, b"a")));
        start(&mut append).await;
        drop(append);
        gate.open();
        let mut tail = wal.tail();
        tail.wait_for(|tail| tail.end == Offset::new(2)).await.unwrap();
        assert!(super::append(&wal, frame(Some("A"), 4, b"a")).await.unwrap().duplicate);
    });
    assert_eq!(&read(&wal, 1, 2).unwrap()[0].record.body[..], b"a");
}

#[test]
fn the_permit_comes_back_with_the_answer_stored_or_refused_or_a_duplicate() {
    let dir = tempfile::tempdir().unwrap();
    let short = Config { min_free: ByteSize::mib(1 << 40), ..config(dir.path()) };
    let (wal, _) = Wal::open(short).unwrap();
    run(async {
        let (permit, gone) = oneshot::channel::<()>();
        let refused = wal.append(Wal::prepare(frame(None, 1, b"a")), permit).await;
        assert_eq!(refused, Err(AppendError::NoSpace));
        assert!(gone.await.is_err());
    });
    close(wal);
    let wal = open(&dir);
    run(async {
        for duplicate in [false, true] {
            let (permit, gone) = oneshot::channel::<()>();
            let appended = wal.append(Wal::prepare(frame(Some("A"), 1, b"a")), permit).await;
            assert_eq!(appended.unwrap().duplicate, duplicate);
            assert!(gone.await.is_err());
        }
    });
}

#[test]
fn a_frame_that_waits_is_neither_answered_nor_visible() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        let gate = Gate::shut(&wal).await;
        let mut append = Box::pin(append(&wal, frame(Some("A"), 1, b"a")));
        start(&mut append).await;
        start(&mut append).await;
        assert_eq!(tail(&wal).end, Offset::new(1), "the gate's own frame");
        assert_eq!(read(&wal, 0, u64::MAX).unwrap().len(), 1);
        gate.open();
        let appended = append.await.unwrap();
        // The answer is the later of the two: whoever hears of a frame can read it.
        assert_eq!(tail(&wal).end, Offset::new(2));
        assert_eq!(read(&wal, 1, 2).unwrap()[0].offset, appended.durable.offset().unwrap());
    });
}

#[test]
fn what_came_before_the_close_is_stored_and_what_came_after_it_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        let gate = Gate::shut(&wal).await;
        let mut before = Box::pin(append(&wal, frame(None, 1, b"before")));
        let checkpoint_before = name("before");
        let mut commit_before = Box::pin(wal.commit(&checkpoint_before, checkpoint(1)));
        start(&mut before).await;
        start(&mut commit_before).await;
        let closing = {
            let wal = wal.clone();
            tokio::task::spawn_blocking(move || wal.close())
        };
        while wal.requests.len() < 3 {
            tokio::task::yield_now().await;
        }
        let mut after = Box::pin(append(&wal, frame(None, 1, b"after")));
        let checkpoint_after = name("after");
        let mut commit_after = Box::pin(wal.commit(&checkpoint_after, checkpoint(1)));
        start(&mut after).await;
        start(&mut commit_after).await;
        gate.open();
        assert_eq!(before.await.unwrap().durable.offset(), Some(Offset::new(1)));
        assert_eq!(commit_before.await, Ok(()));
        assert_eq!(after.await, Err(AppendError::Stopping));
        assert_eq!(commit_after.await, Err(CommitError::Stopping));
        closing.await.unwrap();
        assert_eq!(append(&wal, frame(None, 1, b"later")).await, Err(AppendError::Stopping));
        assert_eq!(wal.commit(&name("later"), checkpoint(1)).await, Err(CommitError::Stopping));
    });
    // Closing twice is closing.
    close(wal);
    let wal = open(&dir);
    assert_eq!(tail(&wal).end, Offset::new(2));
    assert_eq!(wal.checkpoints().unwrap(), [(name("before"), checkpoint(1))]);
}

#[test]
fn a_closed_log_can_still_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(fill(&wal, 4));
    let reader = wal.reader();
    close(wal);
    let end = reader.read(Offset::ZERO, Offset::new(9), |_| ControlFlow::Continue(()));
    assert_eq!(end.unwrap(), Offset::new(4));
}

#[test]
fn the_last_handle_closes_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    let other = wal.clone();
    drop(wal);
    run(fill(&other, 1));
    drop(other);
    // Still in use, if anything were left of it.
    assert_eq!(tail(&open(&dir)).end, Offset::new(1));
}

/// How many changes each group has that was written behind a sequence number, by RocksDB's log.
fn groups_since(wal: &Wal, sequence: u64) -> Vec<usize> {
    let groups = wal.shared.store.db().get_updates_since(sequence).unwrap();
    groups.map(|group| group.unwrap().1.len()).collect()
}

#[test]
fn checkpoints_alone_become_durable_without_a_frame_and_join_one_group() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    let before = wal.shared.store.db().latest_sequence_number();
    let started = clock::instant();
    run(async {
        let mut commits = tokio::task::JoinSet::new();
        for number in 0..8 {
            let wal = wal.clone();
            commits.spawn(async move {
                // The last word of each destination counts.
                commit(&wal, &format!("splunk-{}", number % 4), number).await;
            });
        }
        commits.join_all().await;
    });
    assert!(clock::instant() - started < Duration::from_secs(10), "they wait for 200 ms at most");
    assert_eq!(groups_since(&wal, before), [8], "one sync for all of them");
    let stored = wal.checkpoints().unwrap();
    let offsets: Vec<_> =
        stored.iter().map(|(_, checkpoint)| checkpoint.position.offset.get()).collect();
    assert_eq!(offsets, [4, 5, 6, 7]);
    assert_eq!(wal.checkpoint(&name("splunk-2")).unwrap(), Some(checkpoint(6)));
    assert_eq!(wal.checkpoint(&name("splunk")).unwrap(), None);
    let status = wal.status();
    close(wal);
    let wal = open(&dir);
    assert_eq!(wal.checkpoints().unwrap(), stored);
    assert_eq!(wal.status().tail, status.tail);
}

#[test]
fn a_frame_takes_waiting_checkpoints_along() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        let gate = Gate::shut(&wal).await;
        let before = wal.shared.store.db().latest_sequence_number();
        let destination = name("splunk");
        let mut commit = Box::pin(wal.commit(&destination, checkpoint(1)));
        start(&mut commit).await;
        let mut append = Box::pin(append(&wal, frame(None, 1, b"a")));
        start(&mut append).await;
        gate.open();
        append.await.unwrap();
        commit.await.unwrap();
        assert_eq!(groups_since(&wal, before), [2]);
    });
}

#[test]
fn an_appender_that_dies_poisons_the_log() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a permit that panics, as this test wants it");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        assert!(wal.append(Wal::prepare(frame(None, 1, b"a")), Bomb).await.is_ok());
        assert_eq!(wal.poisoned().await, "the appender panicked");
        assert_eq!(append(&wal, frame(None, 1, b"b")).await, Err(AppendError::Poisoned));
        assert_eq!(wal.commit(&name("splunk"), checkpoint(1)).await, Err(CommitError::Poisoned));
    });
    assert_eq!(wal.status().poisoned.as_deref(), Some("the appender panicked"));
    assert_eq!(*wal.shared.space.borrow(), Space::Enough);
    close(wal);
    assert_eq!(tail(&open(&dir)).end, Offset::new(1));
}

/// While the disk hangs, the frames of senders that have given up stay in the queue. A destination
/// that wants to save its checkpoint then must not stop the thread that all others run on.
#[test]
fn a_full_queue_of_frames_stops_no_thread() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    let gate = run(Gate::shut(&wal));
    let (polled, was_polled) = crossbeam_channel::bounded(1);
    std::thread::scope(|scope| {
        let (wal, gate) = (&wal, gate);
        scope.spawn(move || {
            run(async {
                for _ in 0..recover::FRAMES {
                    // Given up at once.
                    start(&mut Box::pin(append(wal, frame(None, 1, b"")))).await;
                }
                let more = append(wal, frame(None, 1, b"")).await;
                assert_eq!(more, Err(AppendError::Overloaded));
                let names: Vec<_> =
                    (0..recover::BESIDE + 3).map(|n| name(&format!("splunk-{n}"))).collect();
                let mut commits: Vec<_> =
                    names.iter().map(|name| Box::pin(wal.commit(name, checkpoint(1)))).collect();
                for commit in &mut commits {
                    start(commit).await;
                }
                polled.send(()).unwrap();
                gate.open();
                // Those that found no place are handed over when there is one.
                for commit in commits {
                    commit.await.unwrap();
                }
            });
        });
        let returned = was_polled.recv_timeout(PATIENCE);
        if returned.is_err() {
            // A thread that stands still cannot be told to end.
            eprintln!("a checkpoint has stopped its thread");
            std::process::abort();
        }
    });
    assert_eq!(wal.checkpoints().unwrap().len(), recover::BESIDE + 3);
    assert_eq!(tail(&wal).end.get(), recover::FRAMES as u64 + 1);
}
