//! `when_full = "drop_oldest"`: cursors first, then the segment, and the loss is in every book.
//! Segments hold three frames.

use super::*;
use crate::record::Totals;
use crate::types::OffsetRange;

fn dropping(dir: &Path) -> Config {
    Config { max_size: ByteSize::bytes(20_000), when_full: WhenFull::DropOldest, ..config(dir) }
}

/// Appends frames of two messages, and sweeps whenever there is no space.
async fn pour(wal: &Wal, number: u64) {
    let mut taken = 0;
    while taken < number {
        match append(wal, frame(None, 2, &[b'x'; 1500])).await {
            Ok(_) => taken += 1,
            Err(AppendError::NoSpace) => {
                let sweeping = wal.clone();
                let swept = tokio::task::spawn_blocking(move || sweeping.sweep().unwrap());
                let dropped = swept.await.unwrap();
                assert!(!dropped.is_empty(), "nothing goes, and nothing comes in");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn range(start: u64, end: u64) -> OffsetRange {
    OffsetRange { start: Offset::new(start), end: Offset::new(end) }
}

#[test]
fn the_oldest_segment_goes_and_every_lagging_destination_counts_it() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dropping(dir.path())).unwrap();
    run(async {
        // A third one is ahead of everything that will go.
        commit(&wal, "never", 0).await;
        let some = Checkpoint {
            position: Position::new(Offset::new(1), 1),
            totals: Totals { acknowledged: 3, ..Totals::default() },
            ..Checkpoint::default()
        };
        wal.commit(&name("some"), some).await.unwrap();
        pour(&wal, 40).await;
    });
    let first = wal.first();
    assert!(first.get() >= 24, "a log of 20,000 bytes holds 12 frames: {first}");
    assert!(wal.status().bytes.get() < 26_000);
    let messages = first.get() * 2;
    let never = wal.checkpoint(&name("never")).unwrap().unwrap();
    assert_eq!(never.position, Position::at(first));
    assert_eq!(never.totals, Totals { dropped: messages, ..Totals::default() });
    let some = wal.checkpoint(&name("some")).unwrap().unwrap();
    assert_eq!(some.position, Position::at(first));
    assert_eq!(some.totals.settled(), messages, "the books balance: {some:?}");
    assert_eq!((some.totals.acknowledged, some.totals.dropped), (3, messages - 3));
    // One gap, however many segments it took, and the same after a restart.
    let gaps = wal.gaps();
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    assert_eq!((gap.cause, gap.range), (GapCause::Space, range(0, first.get())));
    assert_eq!((gap.messages_before, gap.messages), (0, messages));
    assert_eq!(gap.losses, [(name("never"), messages), (name("some"), messages - 3)]);
    assert_eq!(*wal.floor().borrow(), Floor { offset: first, messages_before: messages });
    close(wal);
    let (wal, _) = Wal::open(dropping(dir.path())).unwrap();
    assert_eq!((wal.gaps(), wal.first()), (gaps, first));
    assert_eq!(wal.checkpoint(&name("never")).unwrap(), Some(never));
    assert_eq!(read(&wal, first.get(), u64::MAX).unwrap().len() as u64, 40 - first.get());
}

#[test]
fn delivered_segments_go_first_and_nobody_loses() {
    let dir = tempfile::tempdir().unwrap();
    let keep = Config { retention: Duration::from_hours(24), ..dropping(dir.path()) };
    let (wal, _) = Wal::open(keep).unwrap();
    run(async {
        for number in 0..10 {
            pour(&wal, 4).await;
            commit(&wal, "splunk", 4 * (number + 1)).await;
        }
    });
    assert!(wal.first().get() > 20, "{}", wal.first());
    assert_eq!(wal.gaps(), []);
    assert_eq!(wal.checkpoint(&name("splunk")).unwrap().unwrap().totals.dropped, 0);
}

/// A destination that has not heard yet saves where it stood: that is lifted too, or the cursor
/// would point at what is not there.
#[test]
fn a_checkpoint_from_before_the_drop_is_lifted() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dropping(dir.path())).unwrap();
    run(async {
        commit(&wal, "splunk", 0).await;
        pour(&wal, 30).await;
    });
    let first = wal.first();
    let late = Checkpoint {
        position: Position::new(Offset::new(2), 1),
        totals: Totals { acknowledged: 4, filtered: 1, ..Totals::default() },
        ..Checkpoint::default()
    };
    let check = |wal: &Wal| {
        let stored = wal.checkpoint(&name("splunk")).unwrap().unwrap();
        assert_eq!(stored.position, Position::at(first));
        assert_eq!(stored.totals.acknowledged, 4);
        assert_eq!(stored.totals.settled(), first.get() * 2, "{stored:?}");
    };
    run(async { wal.commit(&name("splunk"), late.clone()).await.unwrap() });
    check(&wal);
    close(wal);
    let (wal, _) = Wal::open(dropping(dir.path())).unwrap();
    check(&wal);
    // The floor is remembered with the trim point.
    run(async { wal.commit(&name("splunk"), late).await.unwrap() });
    check(&wal);
}

#[test]
fn the_active_segment_never_goes_undelivered() {
    let dir = tempfile::tempdir().unwrap();
    let no_room = Config { min_free: ByteSize::mib(1 << 40), ..dropping(dir.path()) };
    let wal = open(&dir);
    run(async {
        commit(&wal, "splunk", 0).await;
        fill(&wal, 2).await;
    });
    close(wal);
    let (wal, _) = Wal::open(no_room).unwrap();
    run(async {
        assert_eq!(append(&wal, frame(None, 1, b"x")).await, Err(AppendError::NoSpace));
    });
    assert!(wal.sweep().unwrap().is_empty());
    assert_eq!((wal.first().get(), wal.gaps().len()), (0, 0));
    assert_eq!(read(&wal, 0, 9).unwrap().len(), 2);
}

#[test]
fn hold_drops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hold = Config { when_full: WhenFull::Hold, ..dropping(dir.path()) };
    let (wal, _) = Wal::open(hold).unwrap();
    run(async {
        commit(&wal, "splunk", 0).await;
        while append(&wal, frame(None, 2, &[b'x'; 1500])).await.is_ok() {}
    });
    assert!(wal.sweep().unwrap().is_empty());
    assert_eq!((wal.first().get(), wal.gaps().len()), (0, 0));
}

#[test]
fn an_orphans_cursor_pins_is_shown_and_can_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        fill(&wal, 10).await;
        commit(&wal, "old", 4).await;
        commit(&wal, "new", 10).await;
    });
    assert_eq!(wal.orphans().unwrap(), [], "nobody has said what is configured");
    let refused = run(wal.remove_checkpoint(&name("old"))).unwrap_err();
    assert!(matches!(refused, RemoveError::Configured(_)), "{refused}");
    wal.configured([name("new")]);
    let orphans = wal.orphans().unwrap();
    let [orphan] = &orphans[..] else { panic!("{orphans:?}") };
    assert_eq!((&orphan.name, &orphan.checkpoint), (&name("old"), &checkpoint(4)));
    // Segments 1 and 2 of three frames, and the active one.
    assert_eq!((orphan.segments, orphan.messages), (3, 10));
    let bytes: u64 = wal.segments()[1..].iter().map(|segment| segment.bytes.get()).sum();
    assert_eq!(orphan.bytes.get(), bytes);
    assert_eq!(wal.sweep().unwrap().end, Offset::new(3), "it pins");

    let refused = run(wal.remove_checkpoint(&name("new"))).unwrap_err();
    assert!(
        refused.to_string().starts_with("new is configured: its cursor is in use"),
        "{refused}"
    );
    let unknown = run(wal.remove_checkpoint(&name("nobody"))).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no cursor of a destination nobody");
    assert_eq!(run(wal.remove_checkpoint(&name("old"))).unwrap(), checkpoint(4));
    assert_eq!((wal.orphans().unwrap(), wal.sweep().unwrap().end), (vec![], Offset::new(9)));
    close(wal);
    assert_eq!(open(&dir).checkpoints().unwrap(), [(name("new"), checkpoint(10))]);
}

#[test]
fn segments_are_found_by_offset_and_frames_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    let start = received().get();
    let at = |number: u64| UnixMicros::new(start + 1000 * i64::try_from(number).unwrap());
    run(async {
        for number in 0..10 {
            let new = NewFrame { received: at(number), ..frame(None, 2, &[b'x'; 1500]) };
            append(&wal, new).await.unwrap();
        }
    });
    let check = |wal: &Wal| {
        let segments = wal.segments();
        let seen: Vec<_> = segments
            .iter()
            .map(|s| {
                (s.frames.start.get(), s.frames.end.get(), s.messages_before, s.messages, s.sealed)
            })
            .collect();
        assert_eq!(
            seen,
            [(0, 3, 0, 6, true), (3, 6, 6, 6, true), (6, 9, 12, 6, true), (9, 10, 18, 2, false)]
        );
        assert_eq!((segments[1].first_received, segments[1].last_received), (at(3), at(5)));
        assert_eq!((segments[3].first_received, segments[3].last_received), (at(9), at(9)));
        assert!(segments[..3].iter().all(|s| s.bytes.get() > 4500));
        for (offset, segment) in [(0, 0), (2, 0), (3, 1), (8, 2), (9, 3)] {
            assert_eq!(wal.segment_of(Offset::new(offset)), Some(segments[segment]), "{offset}");
        }
        assert_eq!(wal.segment_of(Offset::new(10)), None);
        let reader = wal.reader();
        for number in 0..10 {
            assert_eq!(reader.find(at(number)).unwrap(), Offset::new(number));
            let before = UnixMicros::new(at(number).get() - 1);
            assert_eq!(reader.find(before).unwrap(), Offset::new(number));
        }
        assert_eq!(reader.find(UnixMicros::new(0)).unwrap(), Offset::ZERO);
        assert_eq!(reader.find(at(10)).unwrap(), Offset::new(10), "the end");
    };
    check(&wal);
    close(wal);
    check(&open(&dir));
}
