//! What the machine does in the situations it was made for, one by one. All of them together, in
//! worlds of chance, are in `simulation.rs`; events that make no sense are in `random.rs`.

mod acks;
mod judged;
mod pause;
mod preflight;
mod random;
mod refused;
mod restart;
mod rig;
mod severed;
mod slow;
mod trim;

use super::*;
use crate::record::Totals;
use crate::types::Offset;
use rig::{ACK_TIMEOUT, BATCH, HOLD, LINGER, Rig, accepted, busy, config, count, fault, one_lane};

const MS: Duration = Duration::from_millis(1);

/// A rig that has read everything there is and has delivered it.
fn caught_up() -> Rig {
    let mut rig = Rig::new(one_lane());
    rig.grow(1);
    let sent = rig.send();
    rig.accepted(sent, 0);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.settled(), 1);
    rig.actions.clear();
    rig
}

#[test]
fn a_message_waits_for_company_and_no_longer_than_linger() {
    let mut rig = caught_up();
    rig.auto = false;
    rig.grow(1);
    assert_eq!(rig.machine.deadline(), Some(rig.now + LINGER));
    rig.wait(LINGER - MS);
    assert_eq!(rig.reads(), []);
    // Company does not make the first one wait for longer.
    rig.grow(1);
    rig.wait(MS);
    assert_eq!(rig.reads(), [Position::at(Offset::new(1))]);
}

#[test]
fn a_full_batch_is_read_at_once() {
    let mut rig = caught_up();
    rig.auto = false;
    rig.grow(BATCH - 1);
    assert_eq!(rig.reads(), []);
    rig.grow(1);
    assert_eq!(rig.reads(), [Position::at(Offset::new(1))]);
}

#[test]
fn a_batch_is_full_by_its_bytes_too() {
    let mut rig = caught_up();
    rig.auto = false;
    rig.tail.bytes += 899;
    rig.grow(1);
    assert_eq!(rig.reads(), []);
    rig.tail.bytes += 1;
    rig.tell(Event::Tail(rig.tail));
    assert_eq!(rig.reads().len(), 1);
}

#[test]
fn while_there_is_more_to_read_nothing_waits() {
    let mut rig = Rig::new(config());
    rig.auto = false;
    rig.grow(BATCH + 1);
    assert_eq!(rig.reads(), [Position::ZERO]);
    rig.grow(1);
    assert_eq!(rig.reads().len(), 1, "one read at a time");
    let read = rig.read(BatchId::new(0), Position::ZERO, BATCH);
    rig.tell(Event::Read(read));
    assert_eq!(rig.reads(), [Position::ZERO, Position::at(Offset::new(5))]);
}

#[test]
fn two_lanes_send_two_batches_at_once_on_channels_of_their_own() {
    let mut rig = Rig::new(config());
    rig.grow(3 * BATCH);
    let sends = rig.sends();
    let batches: Vec<_> = sends.iter().map(|sent| sent.batch.get()).collect();
    assert_eq!(batches, [0, 1]);
    assert_ne!(sends[0].lane, sends[1].lane);
    assert_ne!(sends[0].channel, sends[1].channel);
    // The third takes the lane that is free first, and its channel.
    rig.accepted(sends[1], 0);
    let third = rig.send();
    assert_eq!((third.lane, third.channel), (sends[1].lane, sends[1].channel));
    assert_eq!(third.batch.get(), 2);
    assert_eq!(rig.sends(), []);
}

#[test]
fn one_lane_has_one_post_in_flight() {
    let mut rig = Rig::new(one_lane());
    rig.grow(10 * BATCH);
    assert_eq!(rig.send().batch.get(), 0);
    rig.pass(Duration::from_mins(10));
    assert_eq!(rig.sends(), [], "however long it takes");
}

#[test]
fn a_busy_collector_is_left_alone_for_a_while_and_keeps_its_channel() {
    let mut rig = Rig::new(config());
    rig.grow(2 * BATCH);
    let sends = rig.sends();
    rig.posted(sends[0], busy());
    rig.posted(sends[1], busy());
    rig.pass(Duration::from_secs(2) - MS);
    assert_eq!(rig.sends(), []);
    rig.pass(MS);
    let again = rig.send();
    let was = sends.iter().find(|sent| sent.lane == again.lane).unwrap();
    assert_eq!(again.channel, was.channel);
    assert_eq!(again.batch.get(), 0, "the oldest, and no second POST before it has worked");
    rig.accepted(again, 0);
    assert_eq!(rig.send().batch.get(), 1);
    let reason = ResendReason::NotAccepted;
    assert_eq!(rig.resent(), [(0, reason), (1, reason)]);
}

#[test]
fn a_wish_to_wait_is_granted_though_another_lane_works() {
    let after = Some(Duration::from_secs(30));
    let mut rig = Rig::new(config());
    rig.grow(4 * BATCH);
    let sends = rig.sends();
    rig.posted(sends[0], PostOutcome::Busy { after });
    rig.accepted(sends[1], 0);
    rig.pass(Duration::from_secs(30) - MS);
    assert_eq!(rig.sends(), [], "that left before");
    rig.pass(MS);
    assert_eq!(rig.sends().len(), 1);
}

#[test]
fn after_an_answer_that_leaves_doubt_a_channel_takes_no_further_post() {
    let after = Some(Duration::from_secs(1));
    for outcome in
        [PostOutcome::Unreachable { after }, PostOutcome::Doubt { after }, fault(), accepted(None)]
    {
        let mut rig = Rig::new(one_lane());
        rig.grow(BATCH);
        let first = rig.send();
        rig.posted(first, outcome.clone());
        rig.pass(Duration::from_secs(10));
        let again = rig.send();
        assert_eq!(again.batch, first.batch);
        assert_ne!(again.channel, first.channel, "{outcome:?}");
        assert_eq!(rig.settled(), 0);
        assert_eq!(rig.released(), [0; 0], "the body is still at hand");
    }
}

#[test]
fn a_2xx_without_an_ack_id_holds_and_never_settles() {
    let mut rig = Rig::new(one_lane());
    rig.grow(2 * BATCH);
    for _ in 0..20 {
        let sent = rig.send();
        assert_eq!(sent.batch.get(), 0);
        rig.posted(sent, accepted(None));
        let EndpointState::Held { reason, until } = rig.state() else { panic!("not held") };
        assert!(reason.to_string().contains("useACK"), "{reason}");
        assert!(until >= rig.now + HOLD * 4 / 5, "it is not asked on and on");
        rig.pass(HOLD * 2);
    }
    assert_eq!(rig.settled(), 0);
    assert_eq!(rig.polls(), []);
    let held = rig.notes.iter().filter(|note| matches!(note, Note::Held { .. })).count();
    assert_eq!(held, 1, "the operator is told once");
}

#[test]
fn with_acknowledgement_off_a_2xx_settles_and_nobody_is_asked() {
    for ack in [None, Some(0)] {
        let config = Config { acknowledgement: Acknowledgement::Off, ..one_lane() };
        let mut rig = Rig::new(config);
        rig.grow(BATCH);
        let sent = rig.send();
        rig.posted(sent, accepted(ack));
        assert_eq!(rig.settled(), BATCH);
        assert_eq!(rig.released(), [0]);
        rig.pass(Duration::from_mins(10));
        assert_eq!((rig.polls(), rig.sends()), (vec![], vec![]));
        assert_eq!(rig.commits.last().unwrap().1.totals.acknowledged, BATCH);
    }
}

#[test]
fn with_acknowledgement_off_doubt_still_means_sending_again() {
    let config = Config { acknowledgement: Acknowledgement::Off, ..one_lane() };
    let mut rig = Rig::new(config);
    rig.grow(BATCH);
    let sent = rig.send();
    rig.posted(sent, PostOutcome::Doubt { after: None });
    assert_eq!(rig.settled(), 0);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.send().batch, sent.batch);
}

#[test]
fn a_held_collector_is_probed_by_one_post_and_resumes_when_that_works() {
    let mut rig = Rig::new(config());
    rig.grow(4 * BATCH);
    let sends = rig.sends();
    rig.posted(sends[0], fault());
    rig.posted(sends[1], fault());
    rig.pass(HOLD * 4 / 5 - MS);
    assert_eq!(rig.sends(), []);
    rig.pass(HOLD);
    let probe = rig.send();
    rig.posted(probe, fault());
    assert_eq!(rig.sends(), []);
    rig.pass(HOLD * 2);
    let probe = rig.send();
    rig.accepted(probe, 0);
    assert_eq!(rig.state(), EndpointState::Up);
    assert_eq!(rig.sends().len(), 2, "all lanes send again");
    let others: Vec<_> =
        rig.notes.iter().filter(|note| !matches!(note, Note::Resend { .. })).collect();
    assert!(matches!(others[..], [Note::Held { .. }, Note::Resumed { .. }]), "{others:?}");
}

#[test]
fn other_lanes_failures_do_not_shorten_a_hold() {
    let mut rig = Rig::new(config());
    rig.grow(2 * BATCH);
    let sends = rig.sends();
    rig.posted(sends[0], fault());
    let held = rig.state();
    rig.posted(sends[1], PostOutcome::Doubt { after: None });
    assert_eq!(rig.state(), held);
}

#[test]
fn a_collector_whose_queues_fill_up_gets_a_short_rest() {
    let mut rig = Rig::new(one_lane());
    rig.grow(2 * BATCH);
    let sent = rig.send();
    rig.posted(sent, PostOutcome::Accepted { ack: Some(AckId::new(0)), pressed: true });
    assert_eq!(rig.sends(), []);
    rig.now += Duration::from_millis(250);
    rig.tell(Event::Tick);
    // The first batch is asked about by now, and no POST may start meanwhile.
    let (channel, _) = rig.poll();
    rig.answered(channel, &[]);
    assert_eq!(rig.send().batch.get(), 1);
}

#[test]
fn what_one_collector_does_not_take_the_other_gets() {
    let config = Config { endpoints: count(2), ..one_lane() };
    let mut rig = Rig::new(config);
    rig.grow(2 * BATCH);
    let sends = rig.sends();
    assert_eq!([sends[0].endpoint.get(), sends[1].endpoint.get()], [0, 1]);
    rig.posted(sends[0], fault());
    rig.accepted(sends[1], 0);
    let again = rig.send();
    assert_eq!((again.batch, again.endpoint), (sends[0].batch, sends[1].endpoint));
    assert_eq!(again.channel, sends[1].channel, "a channel stays with its collector");
}

#[test]
fn a_stop_lets_go_of_what_was_never_sent_and_waits_for_the_rest() {
    let mut rig = Rig::new(one_lane());
    rig.grow(2 * BATCH);
    let sent = rig.send();
    (rig.auto, rig.auto_commit) = (false, false);
    rig.tell(Event::Stop);
    assert_eq!(rig.released(), [1]);
    assert!(!rig.machine.stopped(), "a POST is in flight");
    rig.grow(BATCH);
    rig.pass(Duration::from_secs(1));
    assert_eq!((rig.reads(), rig.sends()), (vec![], vec![]));
    rig.accepted(sent, 0);
    assert!(!rig.machine.stopped(), "not acknowledged");
    rig.tell(Event::Committed);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    assert_eq!(rig.settled(), BATCH);
    assert_eq!(rig.commits.last().unwrap().1.position.offset.get(), BATCH, "at once");
    assert!(!rig.machine.stopped(), "not durable");
    rig.tell(Event::Committed);
    assert!(rig.machine.stopped());
    assert_eq!(rig.sends(), []);
}

#[test]
fn a_stop_does_not_wait_for_what_was_refused() {
    let mut rig = Rig::new(one_lane());
    rig.grow(2 * BATCH);
    let sent = rig.send();
    rig.tell(Event::Stop);
    assert!(!rig.machine.stopped(), "nobody knows yet what became of it");
    rig.posted(sent, busy());
    assert!(rig.machine.stopped(), "the next start sends it");
}

#[test]
fn a_stop_remembers_what_is_settled_beyond_the_cursor() {
    let mut rig = Rig::new(config());
    rig.grow(2 * BATCH);
    let sends = rig.sends();
    rig.accepted(sends[1], 0);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    rig.posted(sends[0], busy());
    rig.tell(Event::Stop);
    assert!(rig.machine.stopped(), "the first is sent by the next start");
    let mut next = Rig::from(config(), &rig.commits.last().unwrap().1);
    next.tell(Event::Tick);
    let sent = next.send();
    next.accepted(sent, 0);
    let (channel, ids) = next.poll();
    next.answered(channel, &ids);
    assert_eq!(next.settled(), 2 * BATCH, "the second is not sent twice");
    assert_eq!(next.sends(), []);
}

#[test]
fn after_a_stop_the_last_checkpoint_does_not_wait_for_its_turn() {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let sent = rig.send();
    rig.accepted(sent, 0);
    rig.tell(Event::Stop);
    let (channel, ids) = rig.poll();
    // One has just been written.
    let before = rig.commits.len();
    rig.answered(channel, &ids);
    assert_eq!(rig.commits.len(), before + 1);
    assert!(rig.machine.stopped());
}

#[test]
fn an_idle_destination_stops_at_once() {
    let mut rig = caught_up();
    assert!(!rig.machine.stopped());
    rig.tell(Event::Stop);
    assert!(rig.machine.stopped());
}

#[test]
fn a_read_that_ends_after_the_stop_is_not_sent() {
    let mut rig = Rig::new(one_lane());
    rig.auto = false;
    rig.grow(BATCH);
    rig.tell(Event::Stop);
    let read = rig.read(BatchId::new(0), Position::ZERO, BATCH);
    rig.tell(Event::Read(read));
    assert_eq!((rig.released(), rig.sends()), (vec![0], vec![]));
    assert!(rig.machine.stopped());
    assert_eq!(rig.machine.status().read, Position::ZERO);
}

#[test]
fn checkpoints_are_written_one_at_a_time_and_200_ms_apart() {
    let config = Config { acknowledgement: Acknowledgement::Off, ..one_lane() };
    let mut rig = Rig::new(config);
    rig.grow(4 * BATCH);
    rig.auto_commit = false;
    let commits = |rig: &Rig| rig.commits.iter().map(|(_, c)| c.position.offset.get()).collect();
    let deliver = |rig: &mut Rig| {
        let sent = rig.send();
        rig.posted(sent, accepted(None));
    };
    deliver(&mut rig);
    deliver(&mut rig);
    rig.pass(Duration::from_secs(5));
    let so_far: Vec<u64> = commits(&rig);
    assert_eq!(so_far, [5], "the first is not durable yet");
    rig.tell(Event::Committed);
    rig.wait(Duration::from_millis(199));
    deliver(&mut rig);
    let so_far: Vec<u64> = commits(&rig);
    assert_eq!(so_far, [5]);
    rig.wait(MS);
    let so_far: Vec<u64> = commits(&rig);
    assert_eq!(so_far, [5, 15], "one for both");
}

#[test]
fn at_most_a_window_of_batches_is_unsettled() {
    let config = Config { window: count(3), ..one_lane() };
    let mut rig = Rig::new(config);
    rig.grow(100 * BATCH);
    for ack in 0..3 {
        let sent = rig.send();
        rig.accepted(sent, ack);
    }
    assert_eq!(rig.sends(), []);
    assert_eq!(rig.machine.status().batches_unsettled, 3);
    // Acknowledgements in the middle make no room: the window is a range.
    let (channel, ids) = rig.poll();
    assert_eq!(ids, [0, 1, 2]);
    rig.answered(channel, &[1]);
    assert_eq!((rig.machine.status().batches_unsettled, rig.sends()), (3, vec![]));
    let (channel, _) = rig.poll();
    rig.answered(channel, &[0]);
    assert_eq!(rig.settled(), 2 * BATCH);
    assert_eq!(rig.send().batch.get(), 3);
}

#[test]
fn no_more_bodies_are_made_than_lanes_can_take() {
    let config = Config { window: count(1000), ..config() };
    let mut rig = Rig::new(config);
    rig.grow(100 * BATCH);
    assert_eq!(rig.sends().len(), 2);
    rig.pass(Duration::from_mins(1));
    assert_eq!(rig.machine.status().batches_unsettled, 4, "two in POSTs, two at hand");
}

#[test]
fn a_batch_without_events_settles_without_a_post() {
    let mut rig = Rig::new(one_lane());
    rig.filtered = BATCH;
    rig.grow(BATCH);
    assert_eq!((rig.sends(), rig.released()), (vec![], vec![0]));
    assert_eq!(rig.settled(), BATCH);
    let filtered = Totals { filtered: BATCH, ..Totals::default() };
    assert_eq!(rig.commits.last().unwrap().1.totals, filtered);
}

#[test]
fn a_batch_without_events_waits_for_the_batches_before_it() {
    let mut rig = Rig::new(one_lane());
    rig.grow(1);
    let sent = rig.send();
    rig.filtered = BATCH;
    rig.grow(BATCH);
    assert_eq!(rig.settled(), 0);
    rig.accepted(sent, 0);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    assert_eq!(rig.settled(), 1 + BATCH);
    let totals = rig.machine.checkpoint().totals;
    assert_eq!((totals.acknowledged, totals.filtered), (1, BATCH));
}

#[test]
fn delivery_goes_on_from_its_checkpoint() {
    let totals = Totals { acknowledged: 7, filtered: 1, ..Totals::default() };
    let position = Position::at(Offset::new(10));
    let checkpoint = Checkpoint { position, totals, origin_messages: 2, ..Checkpoint::default() };
    let mut rig = Rig::from(one_lane(), &checkpoint);
    rig.auto = false;
    rig.grow(1);
    assert_eq!(rig.reads(), [position]);
    let read = rig.read(BatchId::new(0), position, BATCH);
    rig.tell(Event::Read(read));
    let sent = rig.send();
    rig.accepted(sent, 4);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    rig.pass(Duration::from_secs(1));
    let then = &rig.commits.last().unwrap().1;
    assert_eq!((then.position.offset.get(), then.totals.settled()), (11, 9));
    assert_eq!(then.origin_messages, 2);
}
