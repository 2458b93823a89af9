//! A channel that stands on a connection, and the connection is lost.

use super::rig::offsets;
use super::*;

/// Channels that were closed since the last look.
fn closed(rig: &mut Rig) -> Vec<ChannelId> {
    let mut closed = Vec::new();
    rig.actions.retain(|action| {
        let Action::Close(channel) = action else { return true };
        closed.push(*channel);
        false
    });
    closed
}

/// Two batches are outstanding on the channel, and a third is on its way.
fn outstanding() -> (Rig, rig::Sent) {
    let mut rig = Rig::new(one_lane());
    rig.grow(3 * BATCH);
    for ack in 0..2 {
        let sent = rig.send();
        rig.accepted(sent, ack);
    }
    let sent = rig.send();
    (rig, sent)
}

#[test]
fn what_is_outstanding_is_sent_again_and_nobody_is_asked() {
    for sent in [false, true] {
        let (mut rig, lost) = outstanding();
        rig.posted(lost, PostOutcome::Severed { sent });
        assert_eq!(closed(&mut rig), [lost.channel]);
        if sent {
            assert!(matches!(rig.state(), EndpointState::Resting { .. }), "{:?}", rig.state());
        } else {
            assert_eq!(rig.state(), EndpointState::Up, "nothing is wrong with the endpoint");
        }
        rig.pass(Duration::from_secs(1));
        let mut again = Vec::new();
        for ack in 0..3 {
            let sent = rig.send();
            assert_ne!(sent.channel, lost.channel);
            again.push(offsets(rig.ranges[&sent.batch]).start);
            rig.accepted(sent, ack);
        }
        again.sort_unstable();
        assert_eq!(again, [0, BATCH, 2 * BATCH]);
        assert!(rig.polls().iter().all(|(channel, _)| *channel != lost.channel));
        // What another indexer would say of the old channel settles nothing.
        rig.answered(lost.channel, &[0, 1, 2]);
        assert_eq!(rig.settled(), 0);
        let last = if sent { ResendReason::Doubt } else { ResendReason::NotAccepted };
        let lost = ResendReason::ConnectionLost;
        let reasons: Vec<_> = rig.resent().iter().map(|(_, reason)| *reason).collect();
        assert_eq!(reasons, [lost, lost, last]);
    }
}

#[test]
fn a_question_that_finds_the_connection_lost_ends_the_channel() {
    let (mut rig, third) = outstanding();
    rig.accepted(third, 2);
    let (channel, ids) = rig.poll();
    assert_eq!(ids, [0, 1, 2]);
    rig.tell(Event::Polled { channel, outcome: PollOutcome::Severed });
    assert_eq!(closed(&mut rig), [channel]);
    assert_eq!(rig.state(), EndpointState::Up);
    assert_ne!(rig.send().channel, channel, "at once");
    assert_eq!(rig.resent().len(), 3);
    rig.pass(ACK_TIMEOUT);
    assert!(rig.polls().iter().all(|(other, _)| *other != channel));
}

#[test]
fn a_channel_is_closed_when_all_on_it_is_settled_and_it_takes_no_more() {
    let (mut rig, third) = outstanding();
    rig.posted(third, PostOutcome::Unreachable { after: None });
    assert_eq!(closed(&mut rig), [], "two are still asked about");
    let (channel, _) = rig.poll();
    assert_eq!(channel, third.channel);
    rig.answered(channel, &[0, 1]);
    assert_eq!(closed(&mut rig), [channel]);
}

/// Questions keep the connection in use.
#[test]
fn questions_are_never_further_apart_than_is_wished() {
    let longest = Duration::from_secs(2);
    let mut rig = Rig::new(Config { longest_poll: longest, ..one_lane() });
    rig.grow(BATCH);
    let sent = rig.send();
    rig.accepted(sent, 0);
    for _ in 0..20 {
        let before = rig.now;
        let (channel, _) = rig.poll();
        assert!(rig.now - before <= longest * 6 / 5, "{:?}", rig.now - before);
        if rig.now - before > ACK_TIMEOUT {
            break;
        }
        rig.answered(channel, &[]);
        if !rig.sends().is_empty() {
            return;
        }
    }
    panic!("the ack timeout has not come: {:?}", rig.machine.status());
}

/// The next POST of one lane, whenever the machine wants it.
fn next_send(rig: &mut Rig) -> rig::Sent {
    let sends = next_sends(rig);
    assert_eq!(sends.len(), 1, "{sends:?}");
    sends[0]
}

/// The next POSTs, whenever the machine wants them. Questions until then bring nothing.
fn next_sends(rig: &mut Rig) -> Vec<rig::Sent> {
    for _ in 0..1000 {
        let sends = rig.sends();
        if !sends.is_empty() {
            return sends;
        }
        for (channel, _) in rig.polls() {
            rig.answered(channel, &[]);
        }
        rig.now = rig.machine.deadline().expect("a POST is to come").max(rig.now);
        rig.tell(Event::Tick);
    }
    panic!("no POST came: {:?}", rig.machine.status());
}

fn severed(rig: &mut Rig, channel: ChannelId) {
    rig.tell(Event::Polled { channel, outcome: PollOutcome::Severed });
}

fn held(rig: &Rig) -> usize {
    rig.notes.iter().filter(|note| matches!(note, Note::Held { .. })).count()
}

/// A peer that closes each connection behind its answer takes everything, and nobody can be asked
/// about any of it. Before, the same batch was sent again and again at wire speed, while the
/// endpoint was shown as up.
#[test]
fn channels_that_are_lost_before_anything_is_acknowledged_thin_out_and_hold() {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let mut times = Vec::new();
    for _ in 0..50 {
        let sent = next_send(&mut rig);
        times.push(rig.now);
        rig.accepted(sent, 0);
        let (channel, _) = rig.poll();
        severed(&mut rig, channel);
    }
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[0] < 200 * MS, "one may be lost: {gaps:?}");
    let slow: Vec<_> = gaps.iter().filter(|gap| **gap > HOLD / 2).collect();
    assert!(slow.len() >= 35, "they thin out: {gaps:?}");
    let EndpointState::Held { reason, .. } = rig.state() else { panic!("not held: {gaps:?}") };
    assert!(reason.to_string().contains("destination.affinity"), "{reason}");
    assert_eq!(held(&rig), 1, "the operator is told once");
    // It is probed, and neither a 2xx nor a question that is answered ends it.
    rig.grow(5 * BATCH);
    let probe = next_send(&mut rig);
    rig.accepted(probe, 0);
    rig.pass(HOLD / 2);
    assert_eq!(rig.sends(), [], "one at a time");
    assert!(matches!(rig.state(), EndpointState::Held { .. }), "{:?}", rig.state());
    let (channel, ids) = rig.poll();
    assert_eq!((channel, ids.as_slice()), (probe.channel, &[0][..]));
    rig.answered(channel, &[0]);
    assert_eq!((rig.state(), rig.settled()), (EndpointState::Up, BATCH));
    assert!(rig.notes.iter().any(|note| matches!(note, Note::Resumed { .. })));
    rig.send();
}

/// Several indexers that answer in turn: each begins to count at 0.
#[test]
fn ids_that_never_rise_hold_as_well() {
    let mut rig = Rig::new(one_lane());
    rig.grow(8 * BATCH);
    let begun = rig.now;
    for _ in 0..100 {
        let sent = next_send(&mut rig);
        rig.accepted(sent, 0);
    }
    let EndpointState::Held { reason, .. } = rig.state() else { panic!("not held") };
    assert!(reason.to_string().contains("destination.affinity"), "{reason}");
    assert!(rig.now - begun > HOLD * 40, "{:?}", rig.now - begun);
    // The last id did not rise either.
    let sent = next_send(&mut rig);
    rig.accepted(sent, 0);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    assert_eq!(rig.state(), EndpointState::Up);
}

/// A collector that restarts takes all connections with it, and that is one thing that happened.
#[test]
fn many_channels_that_are_lost_at_once_count_once() {
    let lanes = count(8);
    let many = Config { lanes_per_endpoint: lanes, max_lanes_per_endpoint: lanes, ..config() };
    let mut rig = Rig::new(Config { window: count(40), ..many });
    let lose = |rig: &mut Rig| {
        rig.pass(100 * MS);
        let polls = rig.polls();
        assert_eq!(polls.len(), 8);
        for (channel, _) in polls {
            severed(rig, channel);
        }
    };
    // Something comes through between two restarts: nothing waits.
    for _ in 0..30 {
        rig.grow(8 * BATCH);
        let sends = rig.sends();
        assert_eq!((sends.len(), rig.state()), (8, EndpointState::Up));
        for sent in sends {
            rig.accepted(sent, 0);
        }
        lose(&mut rig);
        let sends = rig.sends();
        assert_eq!((sends.len(), rig.state()), (8, EndpointState::Up), "at once");
        for sent in sends {
            rig.accepted(sent, 0);
        }
        rig.pass(100 * MS);
        for (channel, ids) in rig.polls() {
            rig.answered(channel, &ids);
        }
        assert_eq!(rig.settled(), rig.tail.end.get());
        // Channels that nobody has used for so long are left: the next round has fresh ones.
        rig.pass(ACK_TIMEOUT);
    }
    // Nothing does: it is not held before the tenth.
    rig.grow(8 * BATCH);
    for restart in 0..10 {
        assert_eq!(held(&rig), 0, "restart {restart}");
        let mut sends = next_sends(&mut rig);
        while let Some(sent) = sends.pop() {
            rig.accepted(sent, 0);
            sends.extend(rig.sends());
        }
        lose(&mut rig);
    }
    assert_eq!(held(&rig), 1);
}

/// The first batch is acknowledged, the second is outstanding, and the third is on its way.
fn retired_during_a_post() -> (Rig, rig::Sent) {
    let mut rig = Rig::new(one_lane());
    rig.grow(BATCH);
    let first = rig.send();
    rig.accepted(first, 0);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    rig.grow(2 * BATCH);
    let second = rig.send();
    rig.accepted(second, 1);
    let third = rig.send();
    let (channel, ids) = rig.poll();
    assert_eq!((channel, ids.as_slice()), (third.channel, &[1][..]));
    rig.tell(Event::Polled { channel, outcome: PollOutcome::Failed });
    (rig, third)
}

/// Out of use, and everything on it settled: when its last POST ends, it is closed, however that
/// ends.
#[test]
fn a_channel_that_is_drained_during_its_last_post_is_closed_behind_it() {
    let reason = || Reason { status: 413, code: None, text: String::new() };
    let outcomes =
        [busy(), PostOutcome::TooLarge { reason: reason() }, rig::refused(Some(0), None)];
    for outcome in outcomes {
        let (mut rig, third) = retired_during_a_post();
        let (channel, ids) = rig.poll();
        rig.answered(channel, &ids);
        assert_eq!(closed(&mut rig), [], "a POST is on its way");
        rig.posted(third, outcome.clone());
        assert_eq!(closed(&mut rig), [channel], "{outcome:?}");
    }
}

/// The answer to a POST names what was taken, and the log cannot tell any more what that was.
#[test]
fn a_channel_is_closed_when_what_is_outstanding_on_it_fits_nothing() {
    let (mut rig, third) = retired_during_a_post();
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    rig.auto = false;
    rig.posted(third, rig::refused(Some(2), Some(2)));
    assert_eq!(closed(&mut rig), [], "an acknowledgement is to come");
    let (batch, parts) = (third.batch, Parts::default());
    rig.tell(Event::Split { batch, cut: Cut::Event(2), parts });
    assert_eq!(closed(&mut rig), [channel]);
}
