//! Replays keep what they need, come back after a restart, and are trimmed as cursors are.

use super::*;
use crate::record::{Replay, ReplayFilter, ReplayId, ReplayState, Totals};
use crate::types::OffsetRange;

fn replay(number: u64, start: u64, end: u64) -> Replay {
    Replay {
        id: ReplayId::from_random(number),
        destination: name("splunk"),
        range: OffsetRange { start: Offset::new(start), end: Offset::new(end) },
        end_messages: end,
        filter: ReplayFilter::default(),
        rate: None,
        checkpoint: Checkpoint { origin_messages: start, ..checkpoint(start) },
        state: ReplayState::Open,
        created: UnixMicros::new(i64::try_from(number).unwrap()),
        ended: None,
    }
}

fn at(of: &Replay, offset: u64) -> Checkpoint {
    let acknowledged = offset - of.range.start.get();
    let totals = Totals { acknowledged, ..Totals::default() };
    let origin_messages = of.checkpoint.origin_messages;
    Checkpoint { totals, origin_messages, ..checkpoint(offset) }
}

#[test]
fn an_open_replay_keeps_its_segments_and_one_that_has_ended_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(fill(&wal, 12));
    run(commit(&wal, "splunk", 12));
    let (one, other) = (replay(1, 3, 9), replay(2, 6, 12));
    wal.start_replay(one.clone()).unwrap();
    wal.start_replay(other.clone()).unwrap();
    wal.sweep().unwrap();
    assert_eq!(wal.first(), Offset::new(3));
    run(async {
        assert!(wal.advance_replay(&one.id, at(&one, 6)).await.unwrap());
    });
    wal.sweep().unwrap();
    assert_eq!(wal.first(), Offset::new(6));
    // A restart changes nothing.
    close(wal);
    let wal = open(&dir);
    assert_eq!(wal.replay(&one.id).unwrap().checkpoint, at(&one, 6));
    assert_eq!(wal.open_replay(&name("splunk")).unwrap().id, one.id, "the oldest first");
    wal.sweep().unwrap();
    assert_eq!(wal.first(), Offset::new(6));
    run(async {
        assert!(wal.advance_replay(&one.id, at(&one, 9)).await.unwrap());
        let ended = wal.replay(&one.id).unwrap();
        assert_eq!((ended.state, ended.pending()), (ReplayState::Finished, 0));
        assert!(!wal.advance_replay(&one.id, at(&one, 3)).await.unwrap(), "it has ended");
        assert!(!wal.cancel_replay(&one.id).await.unwrap());
        assert!(wal.cancel_replay(&other.id).await.unwrap());
    });
    wal.sweep().unwrap();
    assert_eq!(wal.first(), Offset::new(9), "the active segment stays");
    assert_eq!(wal.open_replay(&name("splunk")), None);
    let late = wal.start_replay(replay(3, 6, 12)).unwrap_err();
    assert!(late.to_string().contains("no longer retained; the log begins at 9"), "{late}");
}

#[test]
fn a_full_log_that_drops_moves_replays_on_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let max_size = ByteSize::bytes(8000);
    let config = Config { max_size, when_full: WhenFull::DropOldest, ..config(dir.path()) };
    let wal = Wal::open(config.clone()).unwrap().0;
    run(fill(&wal, 6));
    run(commit(&wal, "splunk", 6));
    let (short, long) = (replay(1, 0, 2), replay(2, 1, 6));
    wal.start_replay(short.clone()).unwrap();
    wal.start_replay(long.clone()).unwrap();
    wal.sweep().unwrap();
    assert_eq!(wal.first(), Offset::new(3));
    let moved = |wal: &Wal| {
        let short = wal.replay(&short.id).unwrap();
        assert_eq!((short.state, short.checkpoint.totals.dropped), (ReplayState::Finished, 2));
        let long = wal.replay(&long.id).unwrap();
        assert_eq!((long.state, long.checkpoint.totals.dropped), (ReplayState::Open, 2));
        assert_eq!((long.checkpoint.position, long.pending()), (checkpoint(3).position, 3));
    };
    moved(&wal);
    // What was decided on before it heard of that is lifted, too.
    run(wal.advance_replay(&long.id, at(&long, 2))).unwrap();
    let late = wal.replay(&long.id).unwrap().checkpoint;
    assert_eq!((late.position, late.totals.dropped), (checkpoint(3).position, 1));
    assert_eq!(late.totals.settled(), 2);
    run(wal.advance_replay(
        &long.id,
        Checkpoint { totals: Totals { dropped: 2, ..Totals::default() }, ..late },
    ))
    .unwrap();
    close(wal);
    moved(&Wal::open(config).unwrap().0);
}

#[test]
fn the_list_is_bounded_and_forgets_the_oldest_that_have_ended() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(fill(&wal, 2));
    for number in 0..40 {
        wal.start_replay(replay(number, 0, 2)).unwrap();
        run(wal.cancel_replay(&ReplayId::from_random(number))).unwrap();
    }
    assert_eq!(wal.replays().len(), 32);
    assert_eq!(wal.replays()[0].id, ReplayId::from_random(8));
    for number in 100..116 {
        wal.start_replay(replay(number, 0, 2)).unwrap();
    }
    let refused = wal.start_replay(replay(200, 0, 2)).unwrap_err();
    assert_eq!(refused.to_string(), "16 replays are open already");
    close(wal);
    assert_eq!(open(&dir).replays().len(), 48);
}

#[test]
fn places_are_found_and_what_is_not_retained_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    let at = |wal: &Wal, place| {
        let found = wal.locate(place).map_err(|error| error.to_string());
        found.map(|found| (found.offset.get(), found.messages_before))
    };
    let offset = |at| Place::Offset(Offset::new(at));
    assert_eq!(at(&wal, Place::Earliest), Ok((0, 0)));
    assert_eq!(at(&wal, Place::Time(UnixMicros::new(1))), Ok((0, 0)), "all there ever was");
    run(fill(&wal, 9));
    assert_eq!(at(&wal, Place::Earliest), Ok((0, 0)));
    assert_eq!(at(&wal, Place::Latest), Ok((9, 9)));
    assert_eq!(at(&wal, offset(4)), Ok((4, 4)));
    assert_eq!(at(&wal, offset(9)), Ok((9, 9)));
    assert_eq!(at(&wal, Place::Time(UnixMicros::new(1))), Ok((0, 0)));
    assert_eq!(at(&wal, Place::Time(clock::unix_micros())), Ok((9, 9)));
    run(commit(&wal, "splunk", 5));
    wal.sweep().unwrap();
    let gone = "what is asked for is not retained; the log has the frames [3, 9)".to_owned();
    for place in [offset(2), offset(10), Place::Time(UnixMicros::new(1))] {
        assert_eq!(at(&wal, place), Err(gone.clone()), "{place:?}");
    }
    assert_eq!(at(&wal, Place::Earliest), Ok((3, 3)));
    let future = Place::Time(UnixMicros::new(clock::unix_micros().get() + 60_000_000));
    assert_eq!(at(&wal, future), Err("that time has not come yet".to_owned()));
}
