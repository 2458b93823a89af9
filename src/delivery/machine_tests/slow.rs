//! Acknowledgements that take longer than they are waited for, and channels that nobody uses.

use super::acks::unacked;
use super::rig::{ACK_TIMEOUT, BATCH, Rig, Sent, busy, config, encoded, fault, one_lane, refused};
use super::*;
use crate::hec::Reason;
use crate::record::Fate;

/// The longest rest after a first failure.
const REST: Duration = Duration::from_millis(250);

const HOUR: Duration = Duration::from_hours(1);

/// Lets time pass and answers every question, until it is enough.
fn hear(
    rig: &mut Rig,
    acknowledged: impl Fn(ChannelId, u64) -> bool,
    enough: impl Fn(&Rig) -> bool,
) {
    for _ in 0..2000 {
        for (channel, ids) in rig.polls() {
            let acked: Vec<_> = ids.into_iter().filter(|id| acknowledged(channel, *id)).collect();
            rig.answered(channel, &acked);
        }
        if enough(rig) {
            return;
        }
        let due = rig.machine.deadline().expect("something is to come");
        rig.now = rig.now.max(due);
        rig.tell(Event::Tick);
    }
    panic!("it is never enough");
}

/// Nothing is acknowledged until the first batch is sent again.
fn waited_in_vain(rig: &mut Rig) {
    hear(rig, |_, _| false, |rig| !rig.resent().is_empty());
    assert_eq!(rig.resent(), [(0, ResendReason::AckTimeout)], "the oldest alone");
}

/// Four batches that are accepted, under the ids 0 to 3, by a collector that is given 5 minutes.
fn four_unacked() -> (Rig, Sent) {
    let mut rig = Rig::new(Config { ack_timeout: Duration::from_mins(5), ..one_lane() });
    rig.grow(4 * BATCH);
    let first = rig.send();
    rig.accepted(first, 0);
    for ack in 1..4 {
        let sent = rig.send();
        rig.accepted(sent, ack);
    }
    (rig, first)
}

#[test]
fn slow_acknowledgements_double_one_batch_and_not_the_window() {
    let (mut rig, old) = four_unacked();
    let began = rig.now;
    waited_in_vain(&mut rig);
    rig.pass(REST);
    let copy = rig.send();
    assert_eq!(copy.batch, old.batch);
    assert_ne!(copy.channel, old.channel);
    rig.accepted(copy, 0);
    let almost = began + Duration::from_mins(9);
    hear(&mut rig, |_, _| false, |rig| rig.now > almost);
    assert_eq!(rig.resent().len(), 1, "the others are given twice the time");
    // The old channel says so of all four: nothing else was posted on it.
    hear(&mut rig, |channel, _| channel == old.channel, |rig| rig.settled() > 0);
    assert_eq!(rig.settled(), 4 * BATCH);
    rig.actions.clear();
    rig.pass(Duration::from_mins(10));
    assert_eq!((rig.polls(), rig.sends()), (vec![], vec![]), "nobody asks about the copy");
    // As slow as that is known now.
    rig.grow(BATCH);
    rig.pass(Duration::from_secs(1));
    let next = rig.send();
    rig.accepted(next, 1);
    let almost = rig.now + Duration::from_mins(9);
    hear(&mut rig, |_, _| false, |rig| rig.now > almost);
    assert_eq!(rig.resent().len(), 1);
}

#[test]
fn when_acknowledgements_are_lost_everything_is_sent_again_at_once() {
    let (mut rig, old) = four_unacked();
    let began = rig.now;
    waited_in_vain(&mut rig);
    rig.pass(REST);
    let copy = rig.send();
    rig.accepted(copy, 0);
    // The copy's acknowledgement comes as usual, and the others' do not.
    hear(&mut rig, |channel, _| channel != old.channel, |rig| rig.resent().len() > 1);
    assert_eq!(rig.resent().len(), 4, "all that was accepted before");
    assert!(rig.now < began + Duration::from_mins(6), "{:?}", rig.now - began);
}

#[test]
fn an_acknowledgement_that_is_late_counts_as_a_failure_of_the_collector() {
    let (mut rig, _) = unacked(1);
    waited_in_vain(&mut rig);
    assert!(matches!(rig.state(), EndpointState::Resting { .. }));
    let mut rig = Rig::new(config());
    rig.grow(2 * BATCH);
    for sent in rig.sends() {
        rig.accepted(sent, 0);
    }
    hear(&mut rig, |_, _| false, |rig| !rig.resent().is_empty());
    assert_eq!(rig.machine.status().endpoints[0].lanes, 1, "of two");
}

/// Whatever has become of its copy by then.
#[test]
fn the_first_acknowledgement_counts_whichever_it_is() {
    for copy in ["being read", "to be read", "read", "on its way", "accepted"] {
        let (mut rig, old) = unacked(1);
        rig.auto = copy != "being read";
        if copy == "to be read" {
            rig.tell(Event::Pause);
        }
        waited_in_vain(&mut rig);
        match copy {
            "read" => rig.tell(Event::Pause),
            "on its way" | "accepted" => {
                rig.pass(REST);
                let sent = rig.send();
                if copy == "accepted" {
                    rig.accepted(sent, 0);
                }
            }
            _ => {}
        }
        hear(&mut rig, |channel, _| channel == old.channel, |rig| rig.settled() > 0);
        assert_eq!(rig.settled(), BATCH, "{copy}");
        assert_eq!(rig.released().last(), Some(&0), "{copy}: the body is let go");
        if copy == "being read" {
            rig.tell(encoded(old.batch, rig.ranges[&old.batch]));
            assert_eq!(rig.released(), [0]);
        }
        rig.tell(Event::Resume);
        rig.pass(Duration::from_secs(1));
        assert_eq!(rig.sends(), [], "{copy}");
        assert_eq!(rig.commits.last().unwrap().1.totals.acknowledged, BATCH);
        rig.pass(ACK_TIMEOUT);
        assert_eq!(rig.polls(), [], "{copy}: nobody asks about the copy");
    }
}

/// The same, and then the answer to the copy's POST comes, whatever it is.
#[test]
fn the_answer_to_a_copy_of_what_is_acknowledged_changes_nothing() {
    let reason = || Reason { status: 413, code: None, text: String::new() };
    for outcome in [
        accepted(Some(0)),
        accepted(None),
        busy(),
        fault(),
        PostOutcome::Doubt { after: None },
        PostOutcome::Unreachable { after: None },
        PostOutcome::TooLarge { reason: reason() },
        PostOutcome::Strange(HoldReason::new("a page")),
        refused(Some(0), None),
        refused(Some(2), Some(0)),
        refused(None, None),
    ] {
        let (mut rig, old) = unacked(1);
        waited_in_vain(&mut rig);
        rig.pass(REST);
        let copy = rig.send();
        hear(&mut rig, |channel, _| channel == old.channel, |rig| rig.settled() > 0);
        rig.posted(copy, outcome.clone());
        rig.pass(Duration::from_secs(30));
        let status = rig.machine.status();
        assert_eq!((rig.settled(), status.batches_unsettled), (BATCH, 0), "{outcome:?}");
        assert_eq!((rig.sends(), rig.polls()), (vec![], vec![]), "{outcome:?}");
        assert_eq!(rig.buried, [0; 0], "{outcome:?}");
    }
}

/// The batch that is acknowledged late has an unsettled one before it, and so is still known.
#[test]
fn the_answer_to_a_copy_changes_nothing_behind_an_unsettled_batch_either() {
    let settled = |rig: &Rig| {
        rig.machine.checkpoint().window.iter().any(|ahead| ahead.fate == Fate::Acknowledged)
    };
    let reason = Reason { status: 413, code: None, text: String::new() };
    let too_large = PostOutcome::TooLarge { reason };
    for outcome in [accepted(Some(1)), busy(), refused(Some(2), Some(1)), too_large] {
        let mut rig = Rig::new(config());
        rig.grow(2 * BATCH);
        let sends = rig.sends();
        rig.accepted(sends[1], 0);
        hear(&mut rig, |_, _| false, |rig| !rig.resent().is_empty());
        rig.pass(REST);
        rig.accepted(sends[0], 0);
        let copy = rig.send();
        assert_eq!(copy.batch, sends[1].batch);
        hear(&mut rig, |channel, _| channel == sends[1].channel, settled);
        rig.posted(copy, outcome.clone());
        assert!(settled(&rig), "{outcome:?}");
        assert_eq!(rig.settled(), 0);
        hear(&mut rig, |channel, _| channel == sends[0].channel, |rig| rig.settled() > 0);
        assert_eq!(rig.settled(), 2 * BATCH, "{outcome:?}");
        assert_eq!((rig.sends(), rig.resent().len()), (vec![], 1), "{outcome:?}");
    }
}

/// A collector that forgets a channel sends nothing again that is sent again already.
#[test]
fn what_was_given_up_on_a_forgotten_channel_is_not_sent_again_a_second_time() {
    let (mut rig, old) = unacked(2);
    rig.grow(BATCH);
    let third = rig.send();
    hear(&mut rig, |_, _| false, |rig| !rig.resent().is_empty());
    assert_eq!(rig.resent(), [(1, ResendReason::AckTimeout)], "the first is taboo during a POST");
    assert_eq!(third.channel, old.channel);
    rig.accepted(third, 0);
    let mut resent = rig.resent();
    resent.sort_by_key(|(batch, _)| *batch);
    let forgotten = ResendReason::ChannelForgotten;
    assert_eq!(resent, [(0, forgotten), (1, ResendReason::AckTimeout), (2, forgotten)]);
}

#[test]
fn an_id_is_not_asked_about_for_ever() {
    let (mut rig, old) = unacked(1);
    let (began, mut last) = (rig.now, rig.now);
    while rig.now < began + Duration::from_hours(2) {
        for (channel, _) in rig.polls() {
            last = if channel == old.channel { rig.now } else { last };
            rig.answered(channel, &[]);
        }
        for sent in rig.sends() {
            rig.accepted(sent, 0);
        }
        rig.now = rig.now.max(rig.machine.deadline().expect("something is to come"));
        rig.tell(Event::Tick);
    }
    let asked = (last - began).as_secs() / 60;
    assert!((19..22).contains(&asked), "{asked} minutes: twice the longest limit");
    assert!(rig.resent().len() < 20, "{} times in two hours", rig.resent().len());
}

#[test]
fn a_channel_that_nobody_used_for_long_is_left_before_the_next_post() {
    for (ack_timeout, idle) in [(ACK_TIMEOUT, ACK_TIMEOUT), (HOUR, Duration::from_mins(5))] {
        for (wait, stays) in [(idle - MS, true), (idle, false)] {
            let mut rig = Rig::new(Config { ack_timeout, ..one_lane() });
            rig.grow(BATCH);
            let old = rig.send();
            rig.accepted(old, 0);
            let (channel, ids) = rig.poll();
            rig.answered(channel, &ids);
            rig.pass(wait);
            rig.actions.clear();
            rig.grow(BATCH);
            let next = rig.send();
            assert_eq!(next.channel == old.channel, stays, "{wait:?}");
            // The collector counts a fresh one from 0.
            rig.accepted(next, u64::from(stays));
            let (channel, ids) = rig.poll();
            rig.answered(channel, &ids);
            assert_eq!((rig.settled(), rig.resent()), (2 * BATCH, vec![]));
        }
    }
}

#[test]
fn questions_keep_a_channel_in_use_and_refused_posts_do_not() {
    let mut rig = Rig::new(Config { ack_timeout: HOUR, ..one_lane() });
    rig.grow(BATCH);
    let old = rig.send();
    rig.accepted(old, 0);
    let later = rig.now + Duration::from_mins(8);
    hear(&mut rig, |_, _| false, |rig| rig.now > later);
    rig.grow(BATCH);
    let second = rig.send();
    assert_eq!(second.channel, old.channel, "it was asked about all the time");
    rig.accepted(second, 1);
    hear(&mut rig, |_, _| true, |rig| rig.settled() == 2 * BATCH);
    // Who is busy may not even have looked at the channel.
    rig.grow(BATCH);
    let mut sent = rig.send();
    let began = rig.now;
    while rig.now < began + Duration::from_mins(6) {
        rig.posted(sent, busy());
        rig.pass(Duration::from_secs(30));
        sent = rig.send();
    }
    assert_ne!(sent.channel, old.channel);
}

/// A POST that nobody answers is one lane less, and not the end of the endpoint until it times out.
#[test]
fn a_post_that_hangs_does_not_keep_others_from_trying_after_a_rest() {
    let failures = [busy(), fault()];
    for failure in failures {
        let mut rig = Rig::new(config());
        rig.grow(10 * BATCH);
        let sends = rig.sends();
        assert_eq!(sends.len(), 2);
        rig.posted(sends[1], failure.clone());
        rig.pass(MS);
        assert_eq!(rig.sends(), [], "{failure:?}");
        rig.pass(HOLD * 5 / 4);
        let probe = rig.send();
        assert_eq!(probe.lane, sends[1].lane);
        rig.pass(HOLD * 3);
        assert_eq!(rig.sends(), [], "one tries");
        rig.accepted(probe, 0);
        for ack in 1..6 {
            let next = rig.send();
            rig.accepted(next, ack);
        }
        // The other is heard of in the end.
        let last = rig.send();
        rig.accepted(sends[0], 0);
        assert_ne!(rig.send().lane, last.lane);
    }
}
