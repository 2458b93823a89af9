//! What the next process makes of a checkpoint.

use super::super::*;
use super::rig::{ACK_TIMEOUT, BATCH, RECALL, Rig, Sent, accepted, config, one_lane, refused};
use super::{MS, count};
use crate::record::{Ahead, Fate};

/// A process with three batches in flight on one channel, the first of which does not count (see
/// `restore.rs`), that is killed. Returns its last checkpoint, and a POST.
fn killed() -> (Checkpoint, Sent) {
    let mut rig = Rig::new(one_lane());
    rig.grow(4 * BATCH);
    let mut last = None;
    for ack in 0..4 {
        let sent = rig.send();
        rig.accepted(sent, ack);
        last = Some(sent);
    }
    rig.pass(Duration::from_secs(1));
    let checkpoint = rig.commits.last().unwrap().1.clone();
    (checkpoint, last.unwrap())
}

fn fates(checkpoint: &Checkpoint) -> Vec<Fate> {
    checkpoint.window.iter().map(|ahead| ahead.fate).collect()
}

#[test]
fn a_checkpoint_carries_what_is_in_flight_with_channel_and_id() {
    let (checkpoint, sent) = killed();
    assert_eq!(checkpoint.position, Position::ZERO);
    let in_flight =
        |ack| Fate::InFlight { endpoint: 0, channel: sent.channel, ack: AckId::new(ack) };
    assert_eq!(fates(&checkpoint), [Fate::Unsent, in_flight(1), in_flight(2), in_flight(3)]);
}

#[test]
fn the_next_process_asks_the_old_channel_and_posts_nothing_on_it() {
    let (checkpoint, old) = killed();
    let mut rig = Rig::from(one_lane(), &checkpoint);
    rig.tell(Event::Tick);
    let again = rig.send();
    assert_eq!(super::rig::offsets(rig.ranges[&again.batch]), 0..BATCH, "the first is sent again");
    assert_ne!(again.channel, old.channel);
    let polls = rig.polls();
    assert_eq!(polls, [(old.channel, vec![1, 2, 3])], "at once");
    rig.answered(old.channel, &[1, 3]);
    rig.accepted(again, 0);
    rig.pass(RECALL - 2 * MS);
    assert_eq!(rig.sends(), [], "2 may be acknowledged yet");
    for (channel, ids) in rig.polls() {
        rig.answered(channel, if channel == old.channel { &[] } else { &ids });
    }
    assert_eq!(rig.settled(), 2 * BATCH);
    rig.pass(2 * MS);
    let late = rig.send();
    assert_ne!(late.channel, old.channel);
    assert_eq!(super::rig::offsets(rig.ranges[&late.batch]), 2 * BATCH..3 * BATCH);
    assert_eq!(rig.resent().last().unwrap().1, ResendReason::Restart);
    // Late words settle nothing any more.
    rig.answered(old.channel, &[2]);
    assert_eq!(rig.settled(), 2 * BATCH);
    rig.accepted(late, 1);
    for _ in 0..3 {
        let (channel, ids) = rig.poll();
        rig.answered(channel, &ids);
        if rig.settled() == 4 * BATCH {
            return;
        }
    }
    panic!("{:?}", rig.machine.status());
}

#[test]
fn new_frames_do_not_wait_for_old_channels() {
    let (checkpoint, _) = killed();
    let mut rig = Rig::from(config(), &checkpoint);
    rig.grow(BATCH);
    let sent: Vec<_> =
        rig.sends().iter().map(|s| super::rig::offsets(rig.ranges[&s.batch])).collect();
    assert_eq!(sent, [0..BATCH, 4 * BATCH..5 * BATCH]);
}

/// What the last process was told and did not write down, nobody is told again: a window full of
/// that would deliver nothing until the recall ends.
#[test]
fn a_window_full_of_old_batches_does_not_stop_new_ones() {
    let (checkpoint, _) = killed();
    let window = checkpoint.window.len();
    let mut rig = Rig::from(Config { window: count(window), ..config() }, &checkpoint);
    rig.grow(10 * BATCH);
    let (mut indexed, mut ids) = (0, std::collections::BTreeMap::new());
    let end = rig.now + RECALL * 3 / 4;
    while rig.now < end {
        for sent in rig.sends() {
            let id = ids.entry(sent.channel).or_insert(0);
            rig.accepted(sent, *id);
            *id += 1;
            indexed += 1;
        }
        for (channel, asked) in rig.polls() {
            rig.answered(channel, if ids.contains_key(&channel) { &asked } else { &[] });
        }
        rig.pass(100 * MS);
    }
    assert_eq!(indexed, 1 + 10, "the first of the old ones, and all the new");
    assert_eq!(rig.settled(), BATCH, "the others may be acknowledged yet");
    let status = rig.machine.status();
    assert_eq!((status.batches_unsettled, status.batches_unacknowledged), (3 + 10, 3));
}

#[test]
fn a_window_of_another_position_says_nothing() {
    let (checkpoint, _) = killed();
    let moved = Checkpoint { position: Position::at(crate::types::Offset::new(2)), ..checkpoint };
    let machine = Delivery::new(one_lane(), &moved, 1);
    assert_eq!(machine.status().batches_unsettled, 0);
    assert_eq!(machine.read_position(), moved.position);
}

#[test]
fn an_endpoint_that_is_gone_and_acknowledgement_that_is_off_mean_sending_again() {
    let (mut checkpoint, _) = killed();
    let off = Config { acknowledgement: Acknowledgement::Off, ..one_lane() };
    for ahead in &mut checkpoint.window {
        if let Fate::InFlight { endpoint, .. } = &mut ahead.fate {
            *endpoint = 1;
        }
    }
    for (config, checkpoint) in [(one_lane(), checkpoint), (off, killed().0)] {
        let mut rig = Rig::from(config, &checkpoint);
        rig.tell(Event::Tick);
        assert_eq!(rig.polls(), []);
        let status = rig.machine.status();
        assert_eq!((status.batches_unsettled, status.batches_unacknowledged), (4, 0));
        assert_eq!(rig.sends().len(), 1);
    }
}

/// Killed before each recall ends, a destination would never deliver anything.
#[test]
fn a_window_that_has_grown_too_long_is_sent_again_at_once() {
    let (checkpoint, _) = killed();
    assert_eq!(checkpoint.window.len(), 4);
    let mut rig = Rig::from(Config { window: count(1), ..one_lane() }, &checkpoint);
    rig.tell(Event::Tick);
    assert_eq!(rig.polls(), []);
    let status = rig.machine.status();
    assert_eq!((status.batches_unsettled, status.batches_unacknowledged), (4, 0));
    assert_eq!(rig.sends().len(), 1);
}

#[test]
fn what_is_settled_beyond_the_cursor_is_not_sent_again() {
    let mut rig = Rig::new(config());
    rig.grow(3 * BATCH);
    // The first batch's POST hangs; the second has an event that is refused.
    let mut sends = rig.sends();
    sends.remove(0);
    for id in 0..20 {
        for sent in std::mem::take(&mut sends) {
            let events = super::rig::offsets(rig.ranges[&sent.batch]);
            let outcome = match events.clone().position(|at| at == 7) {
                Some(0) => refused(Some(0), None),
                Some(bad) => refused(Some(bad as u64), Some(id)),
                None => accepted(Some(id)),
            };
            rig.posted(sent, outcome);
        }
        for (channel, ids) in rig.polls() {
            rig.answered(channel, &ids);
        }
        rig.pass(Duration::from_secs(1));
        sends = rig.sends();
    }
    assert_eq!(rig.buried, [7]);
    let checkpoint = rig.commits.last().unwrap().1.clone();
    assert_eq!(checkpoint.position, Position::ZERO);
    let unsent: Vec<&Ahead> =
        checkpoint.window.iter().filter(|ahead| ahead.fate == Fate::Unsent).collect();
    assert!(fates(&checkpoint).contains(&Fate::DeadLettered), "{checkpoint:?}");
    assert!(fates(&checkpoint).contains(&Fate::Acknowledged), "{checkpoint:?}");
    assert_eq!(unsent.first().map(|ahead| super::rig::offsets(ahead.range)), Some(0..BATCH));
    let next = Delivery::new(Config { window: count(20), ..config() }, &checkpoint, 5);
    assert_eq!(next.status().batches_unsettled, checkpoint.window.len());
}

/// A process whose dead letters are full is killed, and there is nothing but refused events left:
/// nothing else that could be taken, to tell them from a collector that takes nothing.
#[test]
fn what_was_refused_for_its_own_sake_needs_no_new_proof_after_a_restart() {
    let mut rig = Rig::new(one_lane());
    rig.full = true;
    rig.grow(BATCH);
    let sent = rig.send();
    rig.posted(sent, refused(Some(3), Some(0)));
    let alone = rig.send();
    rig.posted(alone, refused(Some(0), None));
    let rest = rig.send();
    rig.accepted(rest, 1);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    rig.pass(Duration::from_secs(1));
    let checkpoint = rig.commits.last().unwrap().1.clone();
    assert_eq!(fates(&checkpoint), [Fate::Refused, Fate::Acknowledged]);
    let mut rig = Rig::from(one_lane(), &checkpoint);
    rig.tell(Event::Tick);
    let again = rig.send();
    assert_eq!(super::rig::offsets(rig.ranges[&again.batch]), 3..4, "perhaps it is taken now");
    rig.posted(again, refused(Some(0), None));
    assert_eq!((rig.buried.as_slice(), rig.settled()), (&[3][..], BATCH));
}

/// The other side: where others were only taken later, proof has to be found anew. The next
/// process may have another configuration.
#[test]
fn what_is_only_suspected_has_to_wait_for_proof_after_a_restart() {
    let mut rig = Rig::new(one_lane());
    rig.grow(2 * BATCH);
    let first = rig.send();
    rig.posted(first, refused(Some(0), None));
    let other = rig.send();
    rig.accepted(other, 0);
    let behind = rig.send();
    rig.accepted(behind, 1);
    let alone = rig.send();
    assert_eq!(super::rig::offsets(rig.ranges[&alone.batch]), 0..1);
    let checkpoint = rig.machine.checkpoint();
    let in_flight = Fate::InFlight { endpoint: 0, channel: behind.channel, ack: AckId::new(1) };
    assert_eq!(fates(&checkpoint), [Fate::Unsent, in_flight]);
}

#[test]
fn a_process_that_is_killed_again_hands_on_what_it_inherited() {
    let (checkpoint, old) = killed();
    let mut rig = Rig::from(one_lane(), &checkpoint);
    rig.tell(Event::Tick);
    rig.answered(old.channel, &[2]);
    rig.pass(Duration::from_secs(1));
    let second = rig.commits.last().unwrap().1.clone();
    let in_flight =
        |ack| Fate::InFlight { endpoint: 0, channel: old.channel, ack: AckId::new(ack) };
    assert_eq!(fates(&second), [Fate::Unsent, in_flight(1), Fate::Acknowledged, in_flight(3)]);
}

#[test]
fn a_collector_that_refuses_to_be_asked_about_old_channels_is_not_held_for_it() {
    let (checkpoint, old) = killed();
    let mut rig = Rig::from(one_lane(), &checkpoint);
    rig.tell(Event::Tick);
    let outcome = PollOutcome::Fault(HoldReason::new("invalid token"));
    rig.tell(Event::Polled { channel: old.channel, outcome });
    assert_eq!(rig.state(), EndpointState::Up);
    rig.pass(ACK_TIMEOUT);
    assert!(rig.resent().iter().filter(|(_, why)| *why == ResendReason::Restart).count() == 3);
}
