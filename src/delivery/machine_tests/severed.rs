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
