//! What the machine does until the collectors have said whether they acknowledge, and then.

use super::rig::{RECALL, offsets};
use super::*;

fn auto(endpoints: usize) -> Config {
    let acknowledgement = Acknowledgement::Auto;
    Config { endpoints: count(endpoints), acknowledgement, ..one_lane() }
}

fn unknown() -> Preflight {
    Preflight::Unknown(HoldReason::new("HTTP 503"))
}

fn mode(rig: &Rig) -> Acknowledgement {
    rig.machine.status().acknowledgement
}

fn chosen(rig: &Rig) -> Vec<Acknowledgement> {
    let chosen = |note: &Note| {
        let Note::Chosen(mode) = note else { return None };
        Some(*mode)
    };
    rig.notes.iter().filter_map(chosen).collect()
}

fn held(rig: &Rig, endpoint: usize) -> Option<String> {
    let endpoints = rig.machine.status().endpoints;
    let EndpointState::Held { reason, .. } = &endpoints[endpoint].state else { return None };
    Some(reason.to_string())
}

/// Asks until it is asked again.
fn asked_again(rig: &mut Rig) -> Vec<usize> {
    for _ in 0..100 {
        let asked = rig.preflights();
        if !asked.is_empty() {
            return asked;
        }
        let due = rig.machine.deadline().expect("it asks again");
        rig.now = rig.now.max(due);
        rig.tell(Event::Tick);
    }
    panic!("it does not ask again: {:?}", rig.machine.status());
}

#[test]
fn nothing_is_read_before_the_collectors_have_said() {
    let mut rig = Rig::new(auto(1));
    rig.grow(3 * BATCH);
    assert_eq!(rig.preflights(), [0]);
    rig.pass(Duration::from_secs(100));
    assert_eq!(
        (rig.actions.len(), mode(&rig)),
        (0, Acknowledgement::Auto),
        "one question at a time"
    );
    rig.said(0, Preflight::On);
    assert_eq!(chosen(&rig), [Acknowledgement::Required]);
    let sent = rig.send();
    rig.posted(sent, accepted(None));
    assert!(held(&rig, 0).unwrap().contains("no ackId"), "what was chosen stays");
    assert_eq!((rig.settled(), mode(&rig)), (0, Acknowledgement::Required));
    rig.said(0, Preflight::Off);
    assert_eq!(mode(&rig), Acknowledgement::Required, "nobody has asked");
}

#[test]
fn one_that_acknowledges_decides_for_all() {
    for first in [0, 1] {
        let mut rig = Rig::new(auto(2));
        rig.grow(BATCH);
        assert_eq!(rig.preflights(), [0, 1]);
        rig.said(1 - first, Preflight::Off);
        assert_eq!(mode(&rig), Acknowledgement::Auto);
        assert!(held(&rig, 1 - first).unwrap().contains("until each of them has said so"));
        rig.said(first, Preflight::On);
        assert_eq!(chosen(&rig), [Acknowledgement::Required]);
        assert!(held(&rig, 1 - first).unwrap().contains("no ackId"), "held as without auto");
        assert_eq!(rig.send().endpoint, EndpointId(first));
    }
}

/// Whatever the order, and however often: `off` only when the latest word of each was `off`.
#[test]
fn off_needs_every_endpoint() {
    let mut rig = Rig::new(auto(2));
    rig.grow(BATCH);
    assert_eq!(rig.preflights(), [0, 1]);
    rig.said(0, Preflight::Off);
    rig.said(1, unknown());
    for _ in 0..20 {
        for endpoint in asked_again(&mut rig) {
            rig.said(endpoint, if endpoint == 0 { Preflight::Off } else { unknown() });
        }
        assert_eq!((mode(&rig), rig.sends()), (Acknowledgement::Auto, vec![]));
        assert!(held(&rig, 1).unwrap().contains("HTTP 503"));
    }
    // The first cannot be reached any more when the other says that it is off.
    while held(&rig, 0).unwrap() != "HTTP 503" {
        for _ in asked_again(&mut rig) {
            rig.said(0, unknown());
            rig.said(1, unknown());
        }
    }
    while !asked_again(&mut rig).contains(&1) {
        rig.said(0, unknown());
    }
    rig.said(1, Preflight::Off);
    assert_eq!(mode(&rig), Acknowledgement::Auto, "a word that was taken back");
    rig.said(0, Preflight::Off);
    while mode(&rig) == Acknowledgement::Auto {
        for endpoint in asked_again(&mut rig) {
            rig.said(endpoint, Preflight::Off);
        }
    }
    assert_eq!(chosen(&rig), [Acknowledgement::Off]);
    let sent = rig.send();
    rig.posted(sent, accepted(None));
    assert_eq!(rig.settled(), BATCH);
}

/// Soon at first, for a collector that starts together with us; then ever more slowly.
#[test]
fn the_questions_back_off() {
    let mut rig = Rig::new(auto(1));
    rig.tell(Event::Tick);
    assert_eq!(rig.preflights(), [0]);
    rig.said(0, unknown());
    let (start, mut asked) = (rig.now, 0);
    while rig.now - start < Duration::from_mins(10) {
        assert_eq!(asked_again(&mut rig), [0]);
        rig.said(0, unknown());
        asked += 1;
    }
    assert!((60..400).contains(&asked), "{asked} times in 10 minutes, waits are up to 10 s");
    let held = rig.notes.iter().filter(|note| matches!(note, Note::Held { .. })).count();
    assert_eq!(held, 1, "told once");
}

#[test]
fn a_stop_waits_for_nobody() {
    let mut rig = Rig::new(auto(1));
    rig.grow(BATCH);
    rig.tell(Event::Stop);
    assert!(rig.machine.stopped());
    rig.said(0, Preflight::On);
    assert_eq!(rig.sends(), []);
}

/// A process that leaves batches in flight.
fn killed() -> (Checkpoint, ChannelId) {
    let mut rig = Rig::new(one_lane());
    rig.grow(3 * BATCH);
    let mut channel = None;
    for ack in 0..3 {
        let sent = rig.send();
        channel = Some(sent.channel);
        rig.accepted(sent, ack);
    }
    rig.pass(Duration::from_secs(1));
    (rig.commits.last().unwrap().1.clone(), channel.unwrap())
}

#[test]
fn what_was_in_flight_is_asked_for_once_it_is_known_that_one_can_ask() {
    let (checkpoint, old) = killed();
    let mut rig = Rig::from(auto(1), &checkpoint);
    rig.tell(Event::Tick);
    rig.preflights();
    // For however long: no ack timeout runs meanwhile, and a stop hands it on.
    rig.pass(10 * ACK_TIMEOUT);
    assert_eq!((rig.polls(), rig.sends()), (vec![], vec![]));
    assert_eq!(rig.machine.checkpoint().window, checkpoint.window, "the next process may ask");
    rig.said(0, Preflight::On);
    assert_eq!(rig.polls(), [(old, vec![1, 2])]);
    rig.answered(old, &[1, 2]);
    let first = rig.send();
    assert_eq!(offsets(rig.ranges[&first.batch]), 0..BATCH, "only that is sent again");
    rig.accepted(first, 0);
    let (channel, ids) = rig.poll();
    rig.answered(channel, &ids);
    assert_eq!(rig.settled(), 3 * BATCH);
}

#[test]
fn a_stop_does_not_wait_for_what_nobody_can_be_asked_about_yet() {
    let (checkpoint, _) = killed();
    let mut rig = Rig::from(auto(1), &checkpoint);
    rig.tell(Event::Stop);
    assert!(rig.machine.stopped(), "{:?}", rig.machine.status());
    assert_eq!(rig.polls(), []);
    assert_eq!(rig.machine.checkpoint().window, checkpoint.window);
}

#[test]
fn what_was_in_flight_is_sent_again_when_nobody_acknowledges_any_more() {
    let (checkpoint, _) = killed();
    let mut rig = Rig::from(auto(1), &checkpoint);
    rig.tell(Event::Tick);
    rig.said(0, Preflight::Off);
    assert_eq!(rig.polls(), []);
    for batch in 0..3 {
        let sent = rig.send();
        assert_eq!(offsets(rig.ranges[&sent.batch]), batch * BATCH..(batch + 1) * BATCH);
        assert_eq!(rig.settled(), batch * BATCH, "a word of the last process settles nothing");
        rig.posted(sent, accepted(None));
    }
    assert_eq!(rig.settled(), 3 * BATCH);
    rig.pass(RECALL * 3);
    assert_eq!(rig.polls(), []);
}

#[test]
fn a_paused_destination_learns_what_counts_and_sends_nothing() {
    let mut rig = Rig::new(auto(1));
    rig.tell(Event::Pause);
    rig.grow(BATCH);
    rig.said(0, Preflight::On);
    rig.pass(Duration::from_secs(10));
    assert_eq!((mode(&rig), rig.sends()), (Acknowledgement::Required, vec![]));
    rig.tell(Event::Resume);
    assert_eq!(rig.sends().len(), 1);
}
