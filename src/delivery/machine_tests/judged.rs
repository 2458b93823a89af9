//! What is found out of a refused event before it is buried, and when that is not about it.

use super::super::*;
use super::refused::{deliver, range};
use super::rig::{BATCH, HOLD, LINGER, Rig, Sent, accepted, count, one_lane, refused};
use crate::record::{Ahead, Fate};
use crate::types::Offset;

/// A body that is not understood as a whole says nothing of its only event either.
#[test]
fn a_lone_event_in_a_body_that_is_not_understood_is_sent_plain_before_it_is_judged() {
    let mut rig = Rig::new(one_lane());
    rig.grow(1);
    let sent = rig.send();
    rig.posted(sent, refused(None, None));
    assert_eq!(rig.plain, [sent.batch]);
    let plain = rig.send();
    assert_eq!(range(&rig, plain), 0..1);
    rig.accepted(plain, 0);
    assert_eq!(rig.machine.status().suspects, 0);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    // One that was refused for another reason first.
    rig.grow(1);
    rig.pass(Duration::from_secs(1));
    let sent = rig.send();
    rig.posted(sent, refused(Some(0), None));
    rig.grow(1);
    rig.pass(Duration::from_secs(1));
    let other = rig.send();
    rig.accepted(other, 1);
    let again = rig.send();
    assert_eq!(range(&rig, again), 1..2);
    rig.posted(again, refused(None, None));
    assert_eq!((rig.buried.as_slice(), rig.plain.last()), (&[][..], Some(&again.batch)));
    let plain = rig.send();
    rig.posted(plain, refused(Some(0), None));
    assert_eq!(rig.buried, [1], "it is the event after all");
}

/// The smallest window: what proves that others are taken lies behind more bad events than a few
/// windows hold.
#[test]
fn a_small_window_grows_over_a_burst_of_bad_events() {
    let mut rig = Rig::new(Config { window: count(1), ..one_lane() });
    let poison: Vec<u64> = (0..8).collect();
    // Each is a batch of its own.
    for bad in &poison {
        rig.grow(1);
        rig.pass(LINGER);
        let sent = rig.send();
        assert_eq!(range(&rig, sent), *bad..bad + 1);
        rig.posted(sent, refused(Some(0), None));
    }
    rig.grow(BATCH);
    for _ in 0..20 {
        deliver(&mut rig, &poison);
        rig.pass(HOLD);
    }
    rig.buried.sort_unstable();
    assert_eq!((rig.buried.as_slice(), rig.state()), (poison.as_slice(), EndpointState::Up));
    assert_eq!(rig.settled(), 8 + BATCH);
}

/// Three messages, of which one makes an event, and that is refused: it is about to be buried.
fn burying() -> (Rig, Sent) {
    let mut rig = Rig::new(one_lane());
    rig.filtered = 2;
    rig.grow(3);
    let sent = rig.send();
    rig.posted(sent, refused(Some(0), None));
    rig.grow(1);
    rig.pass(LINGER);
    let other = rig.send();
    rig.auto = false;
    rig.posted(other, accepted(Some(0)));
    assert!(encodes(&rig, sent.batch));
    rig.actions.clear();
    rig.tell(Event::Encoded { batch: sent.batch, events: 1, filtered: 2 });
    let again = rig.send();
    assert_eq!(again.batch, sent.batch);
    rig.posted(again, refused(Some(0), None));
    assert_eq!(letters(&mut rig), [again.batch]);
    (rig, again)
}

/// The dead letters that were asked for since the last look.
fn letters(rig: &mut Rig) -> Vec<BatchId> {
    let mut letters = Vec::new();
    rig.actions.retain(|action| {
        let Action::DeadLetter { batch, .. } = action else { return true };
        letters.push(*batch);
        false
    });
    letters
}

fn encodes(rig: &Rig, wanted: BatchId) -> bool {
    rig.actions.iter().any(|a| matches!(a, Action::Encode { batch, .. } if *batch == wanted))
}

/// Which messages make an event has changed since one was refused: nobody can tell which one that
/// was. What there is now is sent, and judged for itself.
#[test]
fn a_batch_that_makes_other_events_than_were_refused_is_sent_again_and_not_buried() {
    let (mut rig, sent) = burying();
    let batch = sent.batch;
    rig.tell(Event::Changed(batch));
    assert!(encodes(&rig, batch), "{:?}", rig.actions);
    rig.tell(Event::Encoded { batch, events: 2, filtered: 1 });
    let again = rig.send();
    assert_eq!(again.batch, batch);
    // One of them is refused: it is one of two, and a suspect that nothing is known of.
    rig.auto = true;
    rig.posted(again, refused(None, None));
    assert_eq!((letters(&mut rig), rig.buried.as_slice()), (vec![], &[][..]));

    // No event is left: that is filtered.
    let (mut rig, sent) = burying();
    let batch = sent.batch;
    rig.tell(Event::Changed(batch));
    rig.tell(Event::Encoded { batch, events: 0, filtered: 3 });
    rig.pass(Duration::from_millis(1));
    assert_eq!((rig.sends(), rig.settled()), (vec![], 3));
    let totals = rig.machine.checkpoint().totals;
    assert_eq!((totals.filtered, totals.dead_lettered), (3, 0));

    // Nobody asked.
    let (mut rig, _) = burying();
    rig.tell(Event::Changed(BatchId::new(77)));
    rig.tell(Event::Changed(BatchId::new(1)));
    assert!(!encodes(&rig, BatchId::new(1)));

    // A stop does not wait for more than is on its way.
    let (mut rig, sent) = burying();
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    rig.tell(Event::Stop);
    assert!(!rig.machine.stopped());
    rig.tell(Event::Changed(sent.batch));
    rig.pass(Duration::from_secs(1));
    assert!(rig.machine.stopped());
}

/// What the last process knew to be refused for its own sake is another event now.
#[test]
fn what_makes_other_events_after_a_restart_is_not_the_guilty_one() {
    let at = |offset| Position::at(Offset::new(offset));
    let ahead = Ahead {
        range: PositionRange { start: at(0), end: at(3) },
        messages: 3,
        filtered: 2,
        events: 1,
        received: UnixMicros::default(),
        fate: Fate::Refused,
    };
    let checkpoint = Checkpoint { window: vec![ahead], ..Checkpoint::default() };
    for (events, guilty) in [(1, true), (2, false)] {
        let mut rig = Rig::from(one_lane(), &checkpoint);
        rig.auto = false;
        rig.tell(Event::Tick);
        let batch = BatchId::new(0);
        assert!(encodes(&rig, batch));
        rig.tell(Event::Encoded { batch, events, filtered: 3 - events });
        let fates: Vec<_> =
            rig.machine.checkpoint().window.iter().map(|ahead| ahead.fate).collect();
        assert_eq!(fates == [Fate::Refused], guilty, "{events} events: {fates:?}");
    }
}
