//! Acknowledgements: what they settle, and what becomes of those that do not come.

use super::super::*;
use super::MS;
use super::rig::{ACK_TIMEOUT, BATCH, Rig, Sent, accepted, config, encoded, fault, one_lane};

/// One lane with `batches` of them accepted, under the ids 0, 1, …, and none acknowledged.
pub(super) fn unacked(batches: u64) -> (Rig, Sent) {
    let mut rig = Rig::new(one_lane());
    rig.grow(batches * BATCH);
    let mut sent = rig.send();
    rig.accepted(sent, 0);
    for ack in 1..batches {
        sent = rig.send();
        rig.accepted(sent, ack);
    }
    assert_eq!(rig.sends(), []);
    rig.actions.clear();
    (rig, sent)
}

#[test]
fn acknowledgements_out_of_order_move_the_checkpoint_over_the_settled_prefix_only() {
    let (mut rig, sent) = unacked(4);
    let mut acked = |ids: &[u64]| {
        let (channel, _) = rig.poll();
        assert_eq!(channel, sent.channel);
        rig.answered(channel, ids);
        rig.settled() / BATCH
    };
    assert_eq!(acked(&[2]), 0);
    assert_eq!(acked(&[1]), 0);
    assert_eq!(acked(&[0]), 3);
    assert_eq!(acked(&[3]), 4);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.commits.last().unwrap().1.totals.acknowledged, 4 * BATCH);
}

#[test]
fn the_body_is_let_go_at_the_2xx_and_read_again_when_it_is_needed_again() {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let sent = rig.send();
    assert_eq!(rig.released(), [0; 0]);
    rig.accepted(sent, 0);
    assert_eq!(rig.released(), [0]);
    rig.auto = false;
    rig.pass(ACK_TIMEOUT * 2);
    let range = rig.ranges[&sent.batch];
    assert!(rig.actions.contains(&Action::Encode { batch: sent.batch, range, plain: false }));
    assert_eq!(rig.sends(), [], "not before the body is there");
    rig.tell(encoded(sent.batch, range));
    rig.pass(Duration::from_millis(250));
    assert_eq!(rig.send().batch, sent.batch);
}

#[test]
fn an_id_that_does_not_rise_sends_everything_on_the_channel_again_on_a_fresh_one() {
    for id in [0, 1, 2] {
        let (mut rig, old) = unacked(3);
        rig.grow(BATCH);
        let sent = rig.send();
        assert_eq!(sent.channel, old.channel);
        rig.accepted(sent, id);
        let reason = ResendReason::ChannelForgotten;
        let mut resent = rig.resent();
        resent.sort_by_key(|(batch, _)| *batch);
        assert_eq!(resent, [(0, reason), (1, reason), (2, reason), (3, reason)]);
        // Late words about the old channel mean nothing.
        rig.answered(old.channel, &[0, 1, 2, 3]);
        assert_eq!(rig.settled(), 0);
        let mut again = Vec::new();
        for ack in 0..4 {
            let sent = rig.send();
            again.push((sent.batch.get(), sent.channel));
            rig.accepted(sent, ack);
        }
        let fresh = again[0].1;
        assert_ne!(fresh, old.channel);
        again.sort_unstable();
        assert_eq!(again, [(0, fresh), (1, fresh), (2, fresh), (3, fresh)]);
        let (channel, ids) = rig.poll();
        assert_eq!((channel, ids.as_slice()), (fresh, &[0, 1, 2, 3][..]));
        rig.answered(channel, &ids);
        assert_eq!(rig.settled(), 4 * BATCH);
    }
}

#[test]
fn ids_may_leave_gaps_as_long_as_they_rise() {
    let mut rig = Rig::new(one_lane());
    rig.grow(2 * BATCH);
    for id in [17, 4000] {
        let sent = rig.send();
        rig.accepted(sent, id);
    }
    let (channel, ids) = rig.poll();
    assert_eq!(ids, [17, 4000]);
    rig.answered(channel, &ids);
    assert_eq!((rig.settled(), rig.resent()), (2 * BATCH, vec![]));
}

#[test]
fn a_batch_that_stays_unacknowledged_is_sent_again_on_a_fresh_channel() {
    let (mut rig, old) = unacked(1);
    let accepted_at = rig.now;
    while rig.resent().is_empty() {
        let (channel, _) = rig.poll();
        assert_eq!(channel, old.channel);
        rig.answered(channel, &[]);
        assert!(rig.now < accepted_at + ACK_TIMEOUT * 2);
    }
    assert!(rig.now >= accepted_at + ACK_TIMEOUT);
    assert_eq!(rig.resent(), [(0, ResendReason::AckTimeout)]);
    rig.pass(Duration::from_millis(250));
    let again = rig.send();
    assert_eq!(again.batch, old.batch);
    assert_ne!(again.channel, old.channel);
    // Both are asked about. Unasked, neither settles anything.
    rig.answered(old.channel, &[0]);
    assert_eq!(rig.settled(), 0);
    rig.accepted(again, 0);
    rig.pass(Duration::from_secs(15));
    let mut asked: Vec<_> = rig.polls().into_iter().map(|(channel, _)| channel).collect();
    asked.sort_unstable();
    let mut both = [old.channel, again.channel];
    both.sort_unstable();
    assert_eq!(asked, both);
    rig.answered(again.channel, &[0]);
    assert_eq!(rig.settled(), BATCH);
}

#[test]
fn an_acknowledgement_in_the_last_poll_counts_though_the_time_is_over() {
    let (mut rig, sent) = unacked(1);
    let (channel, ids) = rig.poll();
    rig.now += ACK_TIMEOUT + Duration::from_secs(1);
    rig.answered(channel, &ids);
    assert_eq!((rig.settled(), rig.resent()), (BATCH, vec![]));
    assert_eq!(channel, sent.channel);
}

#[test]
fn when_polls_are_not_answered_at_all_twice_the_time_is_given() {
    let (mut rig, _) = unacked(1);
    let accepted_at = rig.now;
    rig.poll();
    rig.pass(accepted_at + ACK_TIMEOUT * 2 - MS - rig.now);
    assert_eq!(rig.resent(), []);
    rig.pass(MS);
    assert_eq!(rig.resent(), [(0, ResendReason::AckTimeout)]);
    assert_eq!(rig.polls(), [], "the poll on its way is not overtaken");
}

#[test]
fn a_failed_poll_settles_nothing_retires_the_channel_and_is_asked_again() {
    let reason = HoldReason::new("invalid token");
    for outcome in [PollOutcome::Failed, PollOutcome::Fault(reason)] {
        let (mut rig, old) = unacked(2);
        let (channel, ids) = rig.poll();
        rig.tell(Event::Polled { channel, outcome: outcome.clone() });
        assert_eq!((rig.settled(), rig.resent()), (0, vec![]));
        rig.grow(BATCH);
        rig.pass(Duration::from_secs(10));
        let fresh = rig.send();
        assert_ne!(fresh.channel, old.channel, "{outcome:?}");
        let again = rig.polls();
        assert_eq!(again, [(channel, ids.clone())]);
        rig.answered(channel, &ids);
        assert_eq!(rig.settled(), 2 * BATCH, "nothing else was ever posted on it");
    }
}

#[test]
fn a_poll_that_an_operator_has_to_mend_holds_the_collector() {
    let (mut rig, _) = unacked(1);
    let (channel, _) = rig.poll();
    let outcome = PollOutcome::Fault(HoldReason::new("acknowledgement is disabled"));
    rig.tell(Event::Polled { channel, outcome });
    let EndpointState::Held { reason, .. } = rig.state() else { panic!("not held") };
    assert_eq!(reason.to_string(), "acknowledgement is disabled");
    // Nothing is there to be posted, so that another poll is what shows that it is mended.
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    assert_eq!((rig.state(), rig.settled()), (EndpointState::Up, BATCH));
    assert!(rig.notes.iter().any(|note| matches!(note, Note::Resumed { .. })));
}

#[test]
fn a_hold_because_of_a_post_does_not_end_with_a_poll() {
    let (mut rig, _) = unacked(2);
    rig.grow(BATCH);
    let third = rig.send();
    rig.posted(third, fault());
    let (channel, _) = rig.poll();
    rig.answered(channel, &[]);
    assert!(matches!(rig.state(), EndpointState::Held { .. }));
}

#[test]
fn only_ids_that_were_asked_about_count() {
    let (mut rig, sent) = unacked(1);
    let (channel, ids) = rig.poll();
    assert_eq!(ids, [0]);
    rig.grow(2 * BATCH);
    rig.answered(channel, &[]);
    let second = rig.send();
    rig.accepted(second, 1);
    rig.send();
    let (channel, ids) = rig.poll();
    assert_eq!((channel, ids.as_slice()), (sent.channel, &[1][..]), "the first is taboo");
    rig.answered(channel, &[0, 1, 9]);
    assert_eq!(rig.settled(), 0, "0 was not asked");
}

#[test]
fn polls_of_one_channel_do_not_overlap_and_those_of_two_do() {
    let mut rig = Rig::new(config());
    rig.grow(2 * BATCH);
    for sent in rig.sends() {
        rig.accepted(sent, 0);
    }
    rig.pass(ACK_TIMEOUT);
    let mut channels: Vec<_> = rig.polls().into_iter().map(|(channel, _)| channel).collect();
    channels.dedup();
    assert_eq!(channels.len(), 2);
}

#[test]
fn the_first_id_of_a_channel_is_never_asked_about_during_a_post() {
    let mut rig = Rig::new(one_lane());
    rig.grow(2 * BATCH);
    let first = rig.send();
    rig.accepted(first, 0);
    let second = rig.send();
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.polls(), [], "a restarted collector would give this POST the same id");
    rig.accepted(second, 1);
    assert_eq!(rig.poll().1, [0, 1]);
}

#[test]
fn no_post_starts_while_the_first_id_is_asked_about() {
    let (mut rig, sent) = unacked(1);
    let (channel, _) = rig.poll();
    rig.grow(BATCH);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.sends(), []);
    rig.answered(channel, &[]);
    assert_eq!(rig.send().channel, sent.channel);
}

#[test]
fn once_the_first_batch_is_settled_posts_and_polls_go_on_together() {
    let (mut rig, sent) = unacked(2);
    let (channel, _) = rig.poll();
    rig.answered(channel, &[0]);
    rig.grow(2 * BATCH);
    let third = rig.send();
    assert_eq!(rig.poll().1, [1], "during a POST");
    rig.accepted(third, 2);
    assert_eq!(rig.send().channel, sent.channel, "during a poll");
}

#[test]
fn doubt_about_a_post_is_doubt_about_the_first_batch_of_its_channel() {
    let (mut rig, old) = unacked(2);
    rig.grow(BATCH);
    let third = rig.send();
    rig.posted(third, PostOutcome::Doubt { after: None });
    assert_eq!(rig.resent(), [(0, ResendReason::Doubt), (2, ResendReason::Doubt)]);
    // The id 0 may be the third batch's now; 1 cannot be.
    let (channel, ids) = rig.poll();
    assert_eq!((channel, ids.as_slice()), (old.channel, &[1][..]));
    rig.answered(channel, &[0, 1]);
    assert_eq!(rig.settled(), 0);
}

#[test]
fn an_unreachable_collector_may_still_acknowledge_what_it_has() {
    let (mut rig, old) = unacked(2);
    rig.grow(BATCH);
    let third = rig.send();
    rig.posted(third, PostOutcome::Unreachable { after: None });
    assert_eq!(rig.resent(), [(2, ResendReason::NotAccepted)]);
    let (channel, ids) = rig.poll();
    assert_eq!((channel, ids.as_slice()), (old.channel, &[0, 1][..]));
    rig.answered(channel, &ids);
    assert_eq!(rig.settled(), 2 * BATCH);
}

#[test]
fn a_post_that_is_answered_on_a_retired_channel_is_asked_about_there() {
    let (mut rig, old) = unacked(2);
    let (channel, _) = rig.poll();
    rig.answered(channel, &[0]);
    rig.grow(BATCH);
    let third = rig.send();
    let (channel, _) = rig.poll();
    rig.tell(Event::Polled { channel, outcome: PollOutcome::Failed });
    rig.accepted(third, 2);
    assert_eq!(third.channel, old.channel);
    let (channel, ids) = rig.poll();
    assert_eq!((channel, ids.as_slice()), (old.channel, &[1, 2][..]));
    rig.answered(channel, &ids);
    assert_eq!(rig.settled(), 3 * BATCH);
}

#[test]
fn a_collector_that_says_nothing_new_is_asked_more_and_more_seldom() {
    let (mut rig, _) = unacked(1);
    let mut asked = Vec::new();
    for _ in 0..6 {
        let (channel, _) = rig.poll();
        asked.push(rig.now);
        rig.answered(channel, &[]);
    }
    let waits: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.is_sorted(), "{waits:?}");
    assert!(waits[0] <= Duration::from_millis(600) && waits[4] >= Duration::from_secs(4));
}

#[test]
fn an_answer_to_a_post_that_nobody_sent_changes_nothing() {
    let (mut rig, sent) = unacked(1);
    let before = rig.machine.status();
    rig.posted(sent, accepted(Some(9)));
    rig.posted(Sent { lane: LaneId(99), ..sent }, accepted(Some(9)));
    rig.answered(ChannelId::from_random(3), &[0]);
    assert_eq!(rig.machine.status(), before);
}

#[test]
fn a_channel_that_was_used_for_long_is_drained_and_replaced() {
    let (mut rig, old) = unacked(1);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    // Used all the time, so that it is not left for having been idle.
    let mut ack = 1;
    while ack < 61 {
        rig.pass(Duration::from_secs(10));
        rig.actions.clear();
        rig.grow(BATCH);
        let sent = rig.send();
        assert_eq!(sent.channel, old.channel);
        if ack < 60 {
            rig.accepted(sent, ack);
            let (channel, ids) = rig.poll();
            rig.answered(channel, &ids);
        } else {
            rig.grow(BATCH);
            rig.accepted(sent, ack);
        }
        ack += 1;
    }
    let fresh = rig.send();
    assert_ne!(fresh.channel, old.channel, "it is seen at the answer");
    // What is outstanding on the old one is still asked for there.
    let (channel, ids) = rig.poll();
    assert_eq!((channel, ids.as_slice()), (old.channel, &[60][..]));
    rig.answered(channel, &ids);
    assert_eq!((rig.settled(), rig.resent()), (61 * BATCH, vec![]));
}
