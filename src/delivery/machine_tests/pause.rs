//! An operator pauses a destination: nothing more is sent, what is in flight is seen through, and a
//! restart changes nothing of it.

use super::rig::{RECALL, offsets};
use super::*;

#[test]
fn a_paused_destination_sends_nothing_and_goes_on_asking() {
    let mut rig = Rig::new(one_lane());
    rig.grow(3 * BATCH);
    let first = rig.send();
    rig.tell(Event::Pause);
    rig.accepted(first, 0);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.sends(), []);
    assert_eq!(rig.settled(), 0);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    assert_eq!(rig.settled(), BATCH, "the cursor moves on with what was in flight");
    rig.grow(3 * BATCH);
    rig.pass(Duration::from_mins(20));
    assert_eq!((rig.sends(), rig.settled()), (vec![], BATCH));
    let pending = rig.machine.status().pending(&rig.tail);
    assert_eq!(pending, 5 * BATCH, "what comes in meanwhile waits, and is counted");
    rig.tell(Event::Resume);
    let next = rig.send();
    assert_eq!(offsets(rig.ranges[&next.batch]), BATCH..2 * BATCH);
}

#[test]
fn a_pause_is_in_the_checkpoint_and_outlives_a_restart() {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let sent = rig.send();
    rig.tell(Event::Pause);
    rig.pass(Duration::from_secs(1));
    let saved = rig.commits.last().expect("a pause is saved at once").1.clone();
    assert!(saved.paused);
    rig.accepted(sent, 0);
    rig.pass(Duration::from_secs(1));
    let saved = rig.commits.last().unwrap().1.clone();
    let mut next = Rig::from(one_lane(), &saved);
    next.grow(2 * BATCH);
    // The acknowledgements of the last process are asked for, and what it sent is not sent again.
    next.pass(RECALL + Duration::from_mins(1));
    assert_eq!(next.sends(), []);
    assert!(next.machine.status().paused);
    next.tell(Event::Resume);
    next.pass(Duration::from_secs(1));
    assert!(!next.sends().is_empty());
    assert!(!next.commits.last().unwrap().1.paused);
}

#[test]
fn how_far_it_has_come_is_saved_when_asked_for_and_not_only_in_time() {
    let mut rig = Rig::new(one_lane());
    rig.pass(Duration::from_secs(1));
    let before = rig.commits.len();
    rig.tell(Event::Save);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.commits.len(), before + 1, "even where nothing is new: somebody waits for it");
    rig.pass(Duration::from_mins(1));
    assert_eq!(rig.commits.len(), before + 1, "once");
}

#[test]
fn what_fails_while_it_is_paused_waits_and_a_stop_still_ends() {
    let mut rig = Rig::new(one_lane());
    rig.grow(2 * BATCH);
    let first = rig.send();
    rig.tell(Event::Pause);
    rig.posted(first, PostOutcome::Doubt { after: None });
    rig.pass(Duration::from_mins(10));
    assert_eq!(rig.sends(), []);
    rig.tell(Event::Stop);
    rig.pass(Duration::from_secs(1));
    assert!(rig.machine.stopped());
}
