//! Events that collectors refuse.

use super::super::*;
use super::rig::{
    BATCH, HOLD, Rig, Sent, config, count, encoded, offsets, one_lane, parts, refused,
};
use super::{MS, accepted};
use crate::record::Fate;

/// The events of a batch that was sent.
pub(super) fn range(rig: &Rig, sent: Sent) -> std::ops::Range<u64> {
    offsets(rig.ranges[&sent.batch])
}

/// Answers POSTs and polls as a collector does that refuses `poison`, until nothing is sent.
pub(super) fn deliver(rig: &mut Rig, poison: &[u64]) {
    let mut ids = std::collections::BTreeMap::<ChannelId, u64>::new();
    for _ in 0..200 {
        for (channel, ids) in rig.polls() {
            rig.answered(channel, &ids);
        }
        let sends = rig.sends();
        if sends.is_empty() {
            let due = rig.machine.deadline();
            let Some(due) = due.filter(|due| *due < rig.now + HOLD) else { return };
            rig.now = due;
            rig.tell(Event::Tick);
        }
        for sent in sends {
            let events = range(rig, sent);
            let bad = events.clone().position(|at| poison.contains(&at));
            let next = ids.entry(sent.channel).or_insert(0);
            let id = *next;
            *next += u64::from(bad != Some(0));
            match bad {
                Some(0) => rig.posted(sent, refused(Some(0), None)),
                Some(bad) => rig.posted(sent, refused(Some(bad as u64), Some(id))),
                None => rig.accepted(sent, id),
            }
        }
    }
    panic!("it never ends");
}

#[test]
fn a_refused_event_is_dead_lettered_and_all_others_are_delivered_once() {
    for poison in [vec![0], vec![2], vec![4], vec![0, 1], vec![1, 3], vec![4, 5, 6]] {
        let mut rig = Rig::new(one_lane());
        rig.grow(3 * BATCH);
        deliver(&mut rig, &poison);
        assert_eq!(rig.buried, poison);
        let totals = rig.machine.checkpoint().totals;
        assert_eq!(totals.dead_lettered, poison.len() as u64);
        assert_eq!(totals.acknowledged, 3 * BATCH - poison.len() as u64);
        assert_eq!(rig.settled(), 3 * BATCH);
    }
}

#[test]
fn the_events_before_a_refused_one_wait_for_the_ack_id_of_the_refusal() {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let sent = rig.send();
    rig.posted(sent, refused(Some(3), Some(7)));
    let rest = rig.send();
    assert_eq!(range(&rig, rest), 3..4, "the refused one is tried alone: what is before it is in");
    rig.posted(rest, refused(Some(0), None));
    assert_eq!(rig.buried, [3], "others were taken since it was refused first");
    let behind = rig.send();
    assert_eq!(range(&rig, behind), 4..5);
    rig.accepted(behind, 8);
    assert_eq!(rig.settled(), 0, "a refusal settles nothing that has an ackId");
    let (channel, ids) = rig.poll();
    assert_eq!((channel, ids.as_slice()), (sent.channel, &[7, 8][..]));
    rig.answered(channel, &[7]);
    assert_eq!(rig.settled(), 4);
}

#[test]
fn an_acknowledgement_that_is_faster_than_the_cut_counts_for_what_was_taken_only() {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let sent = rig.send();
    rig.auto = false;
    rig.posted(sent, refused(Some(3), Some(7)));
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    assert_eq!(rig.settled(), 0, "the batch as a whole is not acknowledged");
    let (whole, cut) = (rig.ranges[&sent.batch], Cut::Event(3));
    rig.tell(Event::Split { batch: sent.batch, cut, parts: parts(whole, cut) });
    assert_eq!(rig.settled(), 3);
}

#[test]
fn without_an_ack_id_what_was_taken_is_sent_again() {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let sent = rig.send();
    rig.posted(sent, refused(Some(3), None));
    let mut again = Vec::new();
    for id in 0..2 {
        let sent = rig.send();
        again.push(range(&rig, sent));
        rig.accepted(sent, id);
    }
    assert_eq!(again, [0..3, 4..5], "all but the refused one, which waits for proof");
}

/// A receiver that is no Splunk may refuse the whole body, and name the event it was about.
#[test]
fn with_acknowledgement_off_a_refusal_settles_nothing() {
    for ack in [None, Some(7)] {
        let config = Config { acknowledgement: Acknowledgement::Off, ..one_lane() };
        let mut rig = Rig::new(config);
        rig.grow(BATCH);
        let sent = rig.send();
        rig.posted(sent, refused(Some(3), ack));
        assert_eq!(rig.settled(), 0);
        let before = rig.send();
        assert_eq!(range(&rig, before), 0..3, "sent again");
        rig.posted(before, accepted(None));
        assert_eq!(rig.settled(), 3);
        let behind = rig.send();
        assert_eq!(range(&rig, behind), 4..5);
        rig.posted(behind, accepted(None));
        let bad = rig.send();
        assert_eq!(range(&rig, bad), 3..4);
        rig.posted(bad, refused(Some(0), None));
        assert_eq!(rig.buried, [3], "others were taken since");
        assert_eq!(rig.settled(), BATCH);
    }
}

/// With acknowledgement off, many batches with a bad event each are no collector that refuses
/// everything, and one that refuses every event is.
#[test]
fn with_acknowledgement_off_a_burst_of_bad_events_holds_nothing() {
    let off = || {
        let acknowledgement = Acknowledgement::Off;
        Config { acknowledgement, window: count(50), ..one_lane() }
    };
    let mut rig = Rig::new(off());
    rig.grow(20 * BATCH);
    let mut steps = 0;
    while rig.settled() < 20 * BATCH {
        for sent in rig.sends() {
            let bad = range(&rig, sent).position(|at| at % BATCH == 2);
            let outcome = bad.map_or_else(|| accepted(None), |bad| refused(Some(bad as u64), None));
            rig.posted(sent, outcome);
        }
        rig.pass(100 * MS);
        steps += 1;
        assert!(steps < 1000, "{:?}", rig.machine.status());
    }
    assert_eq!(rig.buried.len(), 20);
    assert!(!rig.notes.iter().any(|note| matches!(note, Note::Held { .. })));
    let mut rig = Rig::new(off());
    rig.grow(20 * BATCH);
    for _ in 0..200 {
        for sent in rig.sends() {
            let last = range(&rig, sent).count() as u64 - 1;
            rig.posted(sent, refused(Some(last), None));
        }
        rig.pass(100 * MS);
    }
    assert!(matches!(rig.state(), EndpointState::Held { .. }), "{:?}", rig.machine.status());
    assert_eq!((rig.buried.as_slice(), rig.settled()), (&[0; 0][..], 0));
}

#[test]
fn a_lone_refused_event_waits_until_something_else_is_taken() {
    let mut rig = Rig::new(one_lane());
    rig.grow(1);
    let sent = rig.send();
    rig.posted(sent, refused(Some(0), None));
    for _ in 0..3 {
        rig.pass(HOLD);
        let again = rig.send();
        assert_eq!(range(&rig, again), 0..1);
        rig.posted(again, refused(Some(0), None));
        assert_eq!(rig.buried, [0; 0], "it may be the collector");
    }
    rig.grow(1);
    rig.pass(Duration::from_secs(1));
    let other = rig.send();
    assert_eq!(range(&rig, other), 1..2);
    rig.accepted(other, 0);
    let again = rig.send();
    assert_eq!(range(&rig, again), 0..1);
    rig.posted(again, refused(Some(0), None));
    assert_eq!(rig.buried, [0]);
}

#[test]
fn a_collector_that_refuses_everything_is_held_and_nothing_is_dead_lettered() {
    let mut rig = Rig::new(config());
    rig.grow(10 * BATCH);
    for _ in 0..400 {
        for sent in rig.sends() {
            rig.posted(sent, refused(Some(0), None));
        }
        rig.pass(HOLD / 2);
    }
    assert_eq!(rig.buried, [0; 0]);
    assert_eq!(rig.settled(), 0);
    let EndpointState::Held { reason, .. } = rig.state() else { panic!("not held") };
    assert!(reason.to_string().contains("refuses whatever it is given"), "{reason}");
    assert_eq!(held(&rig), 1, "the operator is told once");
    assert!(rig.machine.status().batches_unsettled <= 2 * 12 + 3, "it is not cut to dust");
    // Somebody mends it.
    rig.pass(HOLD * 2);
    deliver(&mut rig, &[7]);
    assert_eq!(rig.buried, [7], "only what is refused now");
    assert_eq!(rig.settled(), 10 * BATCH);
}

fn held(rig: &Rig) -> usize {
    rig.notes.iter().filter(|note| matches!(note, Note::Held { .. })).count()
}

#[test]
fn a_burst_of_bad_events_does_not_hold_a_collector_that_takes_others() {
    // The last of each batch. When all others are in, these are left, and are refused alone, one
    // after the other, with nothing taken in between.
    let mut rig = Rig::new(Config { window: count(40), ..config() });
    rig.grow(30 * BATCH);
    let poison: Vec<u64> = (0..30).map(|batch| batch * BATCH + 4).collect();
    deliver(&mut rig, &poison);
    rig.buried.sort_unstable();
    assert_eq!((rig.buried.as_slice(), held(&rig)), (poison.as_slice(), 0));
    assert_eq!(rig.settled(), 30 * BATCH);
}

/// A solid burst that is longer than the window: what proves that the collector takes others lies
/// behind it.
#[test]
fn a_burst_that_is_longer_than_the_window_ends_in_the_dead_letters() {
    let mut rig = Rig::new(config());
    let poison: Vec<u64> = (3..33).collect();
    for _ in 0..20 {
        rig.grow(2 * BATCH);
        deliver(&mut rig, &poison);
        rig.pass(HOLD);
    }
    rig.buried.sort_unstable();
    assert_eq!((rig.buried.as_slice(), rig.state()), (poison.as_slice(), EndpointState::Up));
    assert_eq!(rig.settled(), 40 * BATCH);
}

#[test]
fn one_collector_that_refuses_everything_does_not_bury_what_the_other_takes() {
    let mut rig = Rig::new(Config { endpoints: count(2), ..one_lane() });
    rig.grow(40 * BATCH);
    let mut id = 0;
    for _ in 0..400 {
        for sent in rig.sends() {
            if sent.endpoint.get() == 0 {
                rig.posted(sent, refused(Some(0), None));
            } else {
                rig.accepted(sent, id);
                id += 1;
            }
        }
        for (channel, ids) in rig.polls() {
            rig.answered(channel, &ids);
        }
        rig.pass(HOLD / 5);
    }
    assert_eq!(rig.buried, [0; 0]);
    assert_eq!(rig.settled(), 40 * BATCH);
    assert!(matches!(rig.state(), EndpointState::Held { .. }));
}

#[test]
fn a_refusal_without_a_number_is_first_taken_for_bad_compression_and_then_bisected() {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let sent = rig.send();
    rig.posted(sent, refused(None, None));
    assert_eq!(rig.plain, [sent.batch]);
    let mut asked = Vec::new();
    let mut id = 0;
    for _ in 0..20 {
        let Some(sent) = rig.sends().pop() else { break };
        let events = range(&rig, sent);
        asked.push(events.clone());
        if events.contains(&1) {
            rig.posted(sent, refused(None, None));
        } else {
            rig.accepted(sent, id);
            id += 1;
        }
    }
    assert_eq!(asked[..3], [0..5, 0..3, 3..5]);
    assert_eq!(rig.buried, [1]);
    assert_eq!(asked.iter().filter(|asked| **asked == (1..2)).count(), 2, "alone, and again");
    while rig.settled() < BATCH {
        rig.pass(Duration::from_millis(200));
        for (channel, ids) in rig.polls() {
            rig.answered(channel, &ids);
        }
    }
}

#[test]
fn a_body_that_is_too_large_is_halved() {
    let large = || PostOutcome::TooLarge {
        reason: Reason { status: 413, code: None, text: String::new() },
    };
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let mut taken = Vec::new();
    for id in 0..20 {
        let Some(sent) = rig.sends().pop() else { break };
        let events = range(&rig, sent);
        if events.clone().count() > 2 || events.contains(&4) {
            rig.posted(sent, large());
        } else {
            taken.extend(events);
            rig.accepted(sent, id);
        }
    }
    taken.sort_unstable();
    assert_eq!((taken.as_slice(), rig.buried.len()), (&[0, 1, 2, 3][..], 0));
    rig.grow(1);
    rig.pass(Duration::from_secs(1));
    for (channel, ids) in rig.polls() {
        rig.answered(channel, &ids);
    }
    let other = rig.send();
    rig.accepted(other, 99);
    let alone = rig.send();
    rig.posted(alone, large());
    assert_eq!(rig.buried, [4], "alone, and still too large");
}

#[test]
fn dead_letters_without_room_wait_and_are_not_dropped() {
    let mut rig = Rig::new(one_lane());
    rig.full = true;
    rig.grow(2 * BATCH);
    deliver(&mut rig, &[1]);
    assert_eq!((rig.settled(), rig.machine.status().unburied), (1, 1));
    for _ in 0..5 {
        rig.pass(HOLD);
        assert_eq!((rig.settled(), rig.machine.status().unburied), (1, 1));
    }
    rig.full = false;
    rig.pass(HOLD);
    assert_eq!((rig.buried.as_slice(), rig.settled()), (&[1][..], 2 * BATCH));
    rig.full = true;
    rig.tell(Event::Stop);
    assert!(rig.machine.stopped());
}

#[test]
fn a_dead_letter_that_is_not_durable_is_not_passed_and_a_stop_waits_for_it() {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let sent = rig.send();
    rig.posted(sent, refused(Some(1), Some(0)));
    let alone = rig.send();
    rig.auto = false;
    rig.posted(alone, refused(Some(0), None));
    let rest = rig.send();
    rig.accepted(rest, 1);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    assert_eq!(rig.settled(), 1);
    rig.pass(Duration::from_secs(1));
    let fates = |rig: &Rig| -> Vec<Fate> {
        rig.commits.last().unwrap().1.window.iter().map(|ahead| ahead.fate).collect()
    };
    assert_eq!(fates(&rig), [Fate::Refused, Fate::Acknowledged], "the next start sends it again");
    rig.tell(Event::Stop);
    assert!(!rig.machine.stopped());
    rig.tell(Event::DeadLettered(alone.batch));
    assert_eq!((rig.settled(), fates(&rig)), (BATCH, vec![]));
    assert!(rig.machine.stopped());
}

#[test]
fn an_answer_that_fits_no_event_is_bisected_and_never_believed() {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let sent = rig.send();
    rig.posted(sent, refused(Some(5), Some(0)));
    assert_eq!(rig.plain, [sent.batch]);
    let again = rig.send();
    rig.posted(again, refused(Some(u64::MAX), None));
    let half = rig.send();
    assert_eq!(range(&rig, half), 0..3);
}

#[test]
fn a_refusal_with_an_id_that_does_not_rise_is_a_forgotten_channel() {
    let mut rig = Rig::new(one_lane());
    rig.grow(2 * BATCH);
    let first = rig.send();
    rig.accepted(first, 4);
    let second = rig.send();
    rig.posted(second, refused(Some(3), Some(4)));
    let mut resent = rig.resent();
    resent.sort_by_key(|(batch, _)| *batch);
    let reason = ResendReason::ChannelForgotten;
    assert_eq!(resent, [(0, reason), (1, reason)]);
    assert_ne!(rig.send().channel, first.channel);
}

#[test]
fn a_wrong_url_holds_and_an_indexer_in_detention_rests() {
    let missing = || PostOutcome::Missing { after: None, reason: HoldReason::new("wrong URL") };
    let mut rig = Rig::new(Config { endpoints: count(2), ..one_lane() });
    rig.grow(3 * BATCH);
    let sends = rig.sends();
    rig.posted(sends[0], missing());
    assert!(matches!(rig.state(), EndpointState::Resting { .. }), "the other may be there");
    rig.posted(sends[1], missing());
    let states: Vec<_> = rig.machine.status().endpoints.into_iter().map(|e| e.state).collect();
    assert!(matches!(states[1], EndpointState::Held { .. }), "nobody is: {states:?}");

    let mut rig = Rig::new(one_lane());
    rig.grow(3 * BATCH);
    let sent = rig.send();
    rig.accepted(sent, 0);
    for _ in 0..5 {
        let sent = rig.send();
        rig.posted(sent, missing());
        assert!(matches!(rig.state(), EndpointState::Resting { .. }), "it was there once");
        rig.pass(Duration::from_secs(10));
    }
}

#[test]
fn answers_that_nobody_understands_are_tried_again_and_then_hold() {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let mut states = Vec::new();
    for _ in 0..3 {
        let sent = rig.send();
        rig.posted(sent, PostOutcome::Strange(HoldReason::new("<html>")));
        states.push(matches!(rig.state(), EndpointState::Held { .. }));
        rig.pass(Duration::from_secs(20));
    }
    assert_eq!(states, [false, false, true]);
    assert_eq!((rig.settled(), rig.buried.len()), (0, 0));
}

#[test]
fn a_batch_that_makes_no_event_any_more_is_settled_without_a_post() {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let sent = rig.send();
    rig.accepted(sent, 0);
    rig.auto = false;
    rig.pass(Duration::from_secs(60));
    let range = rig.ranges[&sent.batch];
    let Event::Encoded { batch, .. } = encoded(sent.batch, range) else { panic!("{range}") };
    rig.tell(Event::Encoded { batch, events: 0, filtered: BATCH });
    assert_eq!((rig.sends(), rig.settled()), (vec![], BATCH));
    assert_eq!(rig.machine.checkpoint().totals.filtered, BATCH);
}

#[test]
fn lanes_grow_while_all_of_them_work_and_are_halved_by_pressure() {
    let mut rig =
        Rig::new(Config { max_lanes_per_endpoint: count(8), window: count(500), ..config() });
    rig.grow(4000 * BATCH);
    let mut ids = std::collections::BTreeMap::<ChannelId, u64>::new();
    let mut most = Vec::new();
    for _ in 0..60 {
        let sends = rig.sends();
        most.push(sends.len());
        rig.now += 20 * MS;
        for sent in sends {
            let id = ids.entry(sent.channel).or_insert(0);
            rig.tell(Event::Posted { lane: sent.lane, outcome: accepted(Some(*id)) });
            *id += 1;
        }
        for (channel, ids) in rig.polls() {
            rig.answered(channel, &ids);
        }
    }
    assert_eq!(most[0], 2);
    assert_eq!(rig.machine.status().endpoints[0].lanes, 8, "{most:?}");
    let sends = rig.sends();
    rig.posted(sends[0], PostOutcome::Busy { after: None });
    assert_eq!(rig.machine.status().endpoints[0].lanes, 4);
}
