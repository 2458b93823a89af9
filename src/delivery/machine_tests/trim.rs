//! The log drops what was not delivered, or has lost it: the books go on to balance, which the rig
//! checks at every step, and nothing waits for what is not there.

use super::rig::refused;
use super::*;

fn trimmed(rig: &mut Rig, to: u64) {
    let to = Position::at(Offset::new(to));
    let messages_before = to.offset.get();
    rig.tell(Event::Trimmed { to, messages_before });
}

fn dropped(rig: &Rig) -> u64 {
    rig.machine.checkpoint().totals.dropped
}

#[test]
fn what_was_never_read_is_dropped_and_reading_goes_on_behind_it() {
    let mut rig = Rig::new(one_lane());
    rig.auto = false;
    rig.grow(20);
    assert_eq!(rig.reads(), [Position::ZERO]);
    trimmed(&mut rig, 12);
    assert_eq!((rig.settled(), dropped(&rig)), (12, 12));
    // The read that was on its way brings what nobody wants any more.
    rig.actions.clear();
    let late = rig.read(BatchId::new(0), Position::ZERO, BATCH);
    rig.tell(Event::Read(late));
    assert_eq!(rig.released(), [0]);
    assert_eq!(rig.reads(), [Position::at(Offset::new(12))]);
}

#[test]
fn batches_on_their_way_are_dropped_and_their_acknowledgements_settle_nothing() {
    let mut rig = Rig::new(one_lane());
    rig.grow(2 * BATCH);
    let first = rig.send();
    rig.accepted(first, 0);
    let second = rig.send();
    trimmed(&mut rig, 2 * BATCH);
    assert_eq!((rig.settled(), dropped(&rig)), (2 * BATCH, 2 * BATCH));
    // The POST ends, and the acknowledgement comes: for nobody.
    rig.accepted(second, 1);
    rig.answered(first.channel, &[0, 1]);
    assert_eq!(rig.machine.checkpoint().totals.acknowledged, 0);
    rig.pass(Duration::from_mins(5));
    assert_eq!(rig.polls(), [], "there is nothing to ask about");
    assert_eq!(rig.sends(), []);
    // And the next batch goes its usual way.
    rig.grow(BATCH);
    let third = rig.send();
    rig.accepted(third, 2);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    assert_eq!((rig.settled(), dropped(&rig)), (3 * BATCH, 2 * BATCH));
}

#[test]
fn what_was_acknowledged_out_of_order_counts_as_acknowledged() {
    let mut rig = Rig::new(config());
    rig.grow(2 * BATCH);
    let sends = rig.sends();
    let [first, second] = sends[..] else { panic!("{sends:?}") };
    rig.accepted(second, 0);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    assert_eq!(rig.settled(), 0, "the first is on its way");
    trimmed(&mut rig, 2 * BATCH);
    let totals = rig.machine.checkpoint().totals;
    assert_eq!((totals.acknowledged, totals.dropped), (BATCH, BATCH));
    rig.accepted(first, 0);
    assert_eq!(rig.settled(), 2 * BATCH);
}

#[test]
fn a_batch_that_is_cut_is_sent_again_without_what_is_gone() {
    let mut rig = Rig::new(one_lane());
    rig.auto = false;
    rig.grow(BATCH);
    let read = rig.read(BatchId::new(0), Position::ZERO, BATCH);
    rig.tell(Event::Read(read));
    let sent = rig.send();
    rig.accepted(sent, 0);
    trimmed(&mut rig, 2);
    assert_eq!((rig.settled(), dropped(&rig)), (2, 2));
    rig.actions.clear();
    // It is never acknowledged, so it is made again: of what there still is.
    rig.pass(ACK_TIMEOUT * 3);
    let encode = |action: &Action| match action {
        Action::Encode { range, .. } => Some(*range),
        Action::Read { .. } | Action::Send { .. } | Action::Release(_) => None,
        Action::Split { .. } | Action::DeadLetter { .. } => None,
        Action::Poll { .. } | Action::Preflight { .. } | Action::Close(_) => None,
        Action::Commit(_) | Action::Note(_) => None,
    };
    let wanted = PositionRange {
        start: Position::at(Offset::new(2)),
        end: Position::at(Offset::new(BATCH)),
    };
    let encodes: Vec<_> = rig.actions.iter().filter_map(encode).collect();
    let polled = rig.polls();
    if encodes.is_empty() {
        // The collector was asked and says nothing: then it is given up.
        for (channel, _) in polled {
            rig.answered(channel, &[]);
        }
    }
    let encodes: Vec<_> = rig.actions.iter().filter_map(encode).collect();
    assert_eq!(encodes, [wanted]);
    assert_eq!(rig.machine.range(BatchId::new(0)), Some(wanted));
    rig.tell(Event::Encoded { batch: BatchId::new(0), events: BATCH - 2, filtered: 0 });
    let again = rig.send();
    rig.accepted(again, 0);
    rig.auto = true;
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    let totals = rig.machine.checkpoint().totals;
    assert_eq!((rig.settled(), totals.acknowledged, totals.dropped), (BATCH, BATCH - 2, 2));
}

#[test]
fn a_trim_behind_the_cursor_changes_nothing() {
    let mut rig = caught_up();
    trimmed(&mut rig, 1);
    trimmed(&mut rig, 0);
    assert_eq!((rig.settled(), dropped(&rig)), (1, 0));
}

#[test]
fn a_stretch_that_is_lost_settles_as_dropped_when_what_lies_before_it_has_settled() {
    let mut rig = Rig::new(one_lane());
    rig.auto = false;
    rig.grow(10);
    let read = rig.read(BatchId::new(0), Position::ZERO, 3);
    rig.tell(Event::Read(read));
    let sent = rig.send();
    rig.wait(LINGER);
    assert_eq!(rig.reads().last(), Some(&Position::at(Offset::new(3))));
    let range =
        PositionRange { start: Position::at(Offset::new(3)), end: Position::at(Offset::new(7)) };
    rig.tell(Event::Lost { batch: BatchId::new(1), range, messages_end: 7 });
    assert_eq!((rig.settled(), dropped(&rig)), (0, 0), "in the order of the log");
    rig.accepted(sent, 0);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    let totals = rig.machine.checkpoint().totals;
    assert_eq!((rig.settled(), totals.acknowledged, totals.dropped), (7, 3, 4));
    // One that nobody asked for is none.
    rig.tell(Event::Lost { batch: BatchId::new(9), range, messages_end: 9 });
    assert_eq!((rig.settled(), dropped(&rig)), (7, 4));
}

#[test]
fn a_lost_stretch_beyond_the_cursor_counts_as_dropped_after_a_restart_too() {
    let mut rig = Rig::new(one_lane());
    rig.auto = false;
    rig.grow(7);
    let read = rig.read(BatchId::new(0), Position::ZERO, 3);
    rig.tell(Event::Read(read));
    let sent = rig.send();
    rig.wait(LINGER);
    let range =
        PositionRange { start: Position::at(Offset::new(3)), end: Position::at(Offset::new(7)) };
    rig.tell(Event::Lost { batch: BatchId::new(1), range, messages_end: 7 });
    rig.accepted(sent, 0);
    let mut rig = Rig::from(one_lane(), &rig.machine.checkpoint());
    rig.wait(LINGER);
    let again = rig.send();
    rig.accepted(again, 0);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    let totals = rig.machine.checkpoint().totals;
    assert_eq!((rig.settled(), totals.acknowledged, totals.dropped), (7, 3, 4));
}

#[test]
fn a_refused_event_that_is_dropped_waits_for_nothing_and_is_no_dead_letter() {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let sent = rig.send();
    rig.posted(sent, refused(Some(0), None));
    assert_eq!(rig.machine.status().suspects, 1);
    trimmed(&mut rig, 1);
    assert_eq!((rig.settled(), dropped(&rig), rig.machine.status().suspects), (1, 1, 0));
    let rest = rig.send();
    rig.accepted(rest, 0);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    assert_eq!((rig.settled(), rig.buried.len()), (BATCH, 0));
}

/// What is cut in the middle and waits for a lane has another place in the queue; what is gone has
/// none.
#[test]
fn what_waits_for_a_lane_is_sent_without_what_is_gone() {
    let mut rig = Rig::new(one_lane());
    rig.grow(3 * BATCH);
    let first = rig.send();
    rig.posted(first, busy());
    trimmed(&mut rig, BATCH + 2);
    rig.pass(HOLD);
    let mut sent = Vec::new();
    for id in 0..2 {
        let next = rig.send();
        sent.push(next.batch);
        rig.accepted(next, id);
    }
    assert_eq!(sent, [BatchId::new(1), BatchId::new(2)]);
    rig.pass(Duration::from_secs(1));
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    let totals = rig.machine.checkpoint().totals;
    assert_eq!((rig.settled(), totals.dropped), (3 * BATCH, BATCH + 2));
}

/// Something may have been taken, under an id that nobody was told.
#[test]
fn a_refusal_of_what_is_gone_still_puts_its_channel_in_doubt() {
    let mut rig = Rig::new(one_lane());
    rig.grow(2 * BATCH);
    let gone = rig.send();
    trimmed(&mut rig, BATCH);
    rig.posted(gone, refused(Some(3), None));
    let next = rig.send();
    assert_ne!(next.channel, gone.channel);
    assert_eq!(rig.buried, [0; 0]);
}
