//! Events in any order, sensible and not: answers to nobody, answers given twice, lanes and
//! channels that never were. The test keeps its own account of what collectors have promised; no
//! checkpoint may pass a batch that is not in it.

mod steps;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;
use super::rig::{config, count, encoded, fault, offsets, parts, refused};
use crate::record::Fate;
use crate::types::Offset;
use steps::{Answer, Nonsense, Step, step};

const COMMIT_INTERVAL: Duration = Duration::from_millis(200);

/// What the test knows of one channel.
#[derive(Default)]
struct Truth {
    endpoint: Option<EndpointId>,
    highest: Option<u64>,
    /// What each id stands for, as long as the ids rise.
    ids: BTreeMap<u64, PositionRange>,
    /// No further POST may be made on it.
    doubted: bool,
}

struct Account {
    machine: Delivery,
    now: Duration,
    tail: Tail,
    reading: Option<(BatchId, Position)>,
    encoding: Vec<BatchId>,
    posting: BTreeMap<LaneId, (ChannelId, PositionRange)>,
    polling: BTreeMap<ChannelId, Vec<u64>>,
    channels: BTreeMap<ChannelId, Truth>,
    /// Each batch's range at this moment.
    ranges: BTreeMap<BatchId, PositionRange>,
    /// Each message that was read: whether the checkpoint may pass it.
    may_pass: BTreeMap<u64, bool>,
    looking: Vec<(BatchId, PositionRange, Option<Cut>)>,
    /// Messages that were refused, alone, and whether anything was taken since the first time.
    refused: BTreeSet<u64>,
    bodies: BTreeSet<BatchId>,
    committing: bool,
    committed: Position,
    committed_at: Option<Duration>,
    stopped: bool,
    paused: bool,
    /// Nothing has been said that no sink says.
    sane: bool,
}

impl Account {
    fn new() -> Self {
        let config = Config { endpoints: count(2), window: count(6), ..config() };
        Self {
            machine: Delivery::new(config, &Checkpoint::default(), 3),
            now: Duration::ZERO,
            tail: Tail::default(),
            reading: None,
            encoding: Vec::new(),
            posting: BTreeMap::new(),
            polling: BTreeMap::new(),
            channels: BTreeMap::new(),
            ranges: BTreeMap::new(),
            may_pass: BTreeMap::new(),
            looking: Vec::new(),
            refused: BTreeSet::new(),
            bodies: BTreeSet::new(),
            committing: false,
            committed: Position::ZERO,
            committed_at: None,
            stopped: false,
            paused: false,
            sane: true,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Wait(millis) => {
                self.now += Duration::from_millis(millis);
                self.tell(Event::Tick);
            }
            Step::Grow(messages) => {
                self.tail.end = Offset::new(self.tail.end.get() + messages);
                self.tail.messages += messages;
                self.tail.bytes += messages * 90;
                self.tell(Event::Tail(self.tail));
            }
            Step::Read { most, filtered } => self.read(most, filtered),
            Step::Encode => {
                if let Some(batch) = self.encoding.pop() {
                    self.tell(encoded(batch, self.ranges[&batch]));
                }
            }
            Step::Look { room } => {
                let Some((batch, range, cut)) = self.looking.pop() else { return };
                if let Some(cut) = cut {
                    self.tell(Event::Split { batch, cut, parts: parts(range, cut) });
                } else if room {
                    let [at] = offsets(range).collect::<Vec<_>>()[..] else { panic!("{range}") };
                    assert!(self.refused.contains(&at), "{at} was never refused alone");
                    self.may_pass.insert(at, true);
                    self.tell(Event::DeadLettered(batch));
                } else {
                    self.tell(Event::DeadLettersFull(batch));
                }
            }
            Step::Post { pick, outcome } => self.post(pick, outcome),
            Step::Poll { pick, outcome } => self.poll(pick, outcome),
            Step::Commit => {
                if std::mem::take(&mut self.committing) {
                    self.committed_at = Some(self.now);
                    self.tell(Event::Committed);
                }
            }
            Step::Stop => {
                self.stopped = true;
                self.tell(Event::Stop);
            }
            Step::Pause(paused) => {
                self.paused = paused;
                self.tell(if paused { Event::Pause } else { Event::Resume });
            }
            Step::Save => self.tell(Event::Save),
            Step::Nonsense(nonsense) => self.nonsense(&nonsense),
        }
    }

    fn read(&mut self, most: u64, filtered: u64) {
        let Some((batch, from)) = self.reading.take() else { return };
        let messages = self.tail.end.since(from.offset).min(most);
        let filtered = if filtered == 2 { messages } else { 0 };
        let end = Position::at(Offset::new(from.offset.get() + messages));
        let range = PositionRange { start: from, end };
        // Known only once the machine has taken it: a stop turns a read away.
        if !self.stopped && !range.is_empty() {
            self.ranges.insert(batch, range);
            // The rig's pieces know nothing of filtered messages: all or none.
            self.may_pass.extend(offsets(range).map(|at| (at, filtered == messages)));
        }
        self.tell(Event::Read(ReadBatch {
            batch,
            range,
            messages,
            filtered,
            events: messages - filtered,
            messages_end: end.offset.get(),
            received: UnixMicros::default(),
            caught_up: (end.offset == self.tail.end).then_some(self.tail),
        }));
    }

    fn post(&mut self, pick: usize, answer: Answer) {
        let Some(lane) = nth(self.posting.keys(), pick) else { return };
        let (channel, range) = self.posting.remove(&lane).unwrap();
        let truth = self.channels.get_mut(&channel).unwrap();
        let after = None;
        let outcome = match answer {
            Answer::Good | Answer::Id(_) => {
                let next = truth.highest.map_or(0, |highest| highest + 1);
                let id = if let Answer::Id(id) = answer { id } else { next };
                if truth.highest.is_some_and(|highest| id <= highest) {
                    truth.ids.clear();
                    truth.doubted = true;
                } else {
                    truth.highest = Some(id);
                    truth.ids.insert(id, range);
                }
                PostOutcome::Accepted { ack: Some(AckId::new(id)), pressed: id % 2 == 1 }
            }
            Answer::Busy => PostOutcome::Busy { after },
            Answer::Nothing => PostOutcome::Accepted { ack: None, pressed: false },
            Answer::Unreachable => PostOutcome::Unreachable { after },
            Answer::Doubt => PostOutcome::Doubt { after },
            Answer::Severed => PostOutcome::Severed { sent: pick.is_multiple_of(2) },
            Answer::Fault => fault(),
            Answer::Refused { bad, ack } => {
                let events = offsets(range).count() as u64;
                let taken = bad.filter(|bad| *bad > 0 && *bad < events);
                truth.doubted |= !ack && bad.filter(|bad| *bad < events) != Some(0);
                let id = ack.then(|| truth.highest.map_or(0, |highest| highest + 1));
                truth.highest = id.or(truth.highest);
                if let (Some(taken), Some(id)) = (taken, id) {
                    let end = Position::at(Offset::new(range.start.offset.get() + taken));
                    truth.ids.insert(id, PositionRange { end, ..range });
                } else if let Some(id) = id {
                    truth.ids.insert(id, PositionRange { end: range.start, ..range });
                }
                if events == 1 {
                    self.refused.extend(offsets(range));
                }
                refused(bad, id)
            }
            Answer::TooLarge => {
                if offsets(range).count() == 1 {
                    self.refused.extend(offsets(range));
                }
                let reason = Reason { status: 413, code: None, text: String::new() };
                PostOutcome::TooLarge { reason }
            }
        };
        truth.doubted |= !matches!(answer, Answer::Good | Answer::Id(_) | Answer::Busy)
            && !matches!(answer, Answer::Refused { .. } | Answer::TooLarge);
        self.tell(Event::Posted { lane, outcome });
    }

    fn poll(&mut self, pick: usize, answer: Answer) {
        let Some(channel) = nth(self.polling.keys(), pick) else { return };
        let asked = self.polling.remove(&channel).unwrap();
        let acked = match answer {
            Answer::Good => asked.clone(),
            Answer::Id(id) => vec![id],
            Answer::Nothing | Answer::Busy | Answer::Refused { .. } | Answer::TooLarge => {
                Vec::new()
            }
            Answer::Unreachable | Answer::Doubt => {
                self.channels.get_mut(&channel).unwrap().doubted = true;
                return self.tell(Event::Polled { channel, outcome: PollOutcome::Failed });
            }
            Answer::Severed => {
                self.channels.get_mut(&channel).unwrap().doubted = true;
                return self.tell(Event::Polled { channel, outcome: PollOutcome::Severed });
            }
            Answer::Fault => {
                self.channels.get_mut(&channel).unwrap().doubted = true;
                let outcome = PollOutcome::Fault(HoldReason::new("invalid token"));
                return self.tell(Event::Polled { channel, outcome });
            }
        };
        for id in acked.iter().filter(|id| asked.contains(id)) {
            if let Some(range) = self.channels[&channel].ids.get(id) {
                self.may_pass.extend(offsets(*range).map(|at| (at, true)));
            }
        }
        let acked = acked.into_iter().map(AckId::new).collect();
        self.tell(Event::Polled { channel, outcome: PollOutcome::Answered { acked } });
    }

    fn nonsense(&mut self, nonsense: &Nonsense) {
        let outcome = |id| PollOutcome::Answered { acked: vec![AckId::new(id)] };
        self.sane = false;
        match *nonsense {
            Nonsense::Read { batch, from, to } => {
                let [start, end] = [from, to].map(|at| Position::at(Offset::new(at)));
                if start == self.machine.read_position() {
                    return;
                }
                let (batch, range) = (BatchId::new(batch), PositionRange { start, end });
                let messages = to.saturating_sub(from);
                self.tell(Event::Read(ReadBatch {
                    batch,
                    range,
                    messages,
                    filtered: messages,
                    events: 0,
                    messages_end: to,
                    received: UnixMicros::default(),
                    caught_up: None,
                }));
            }
            Nonsense::Encoded(batch) => {
                let batch = BatchId::new(batch);
                if !self.encoding.contains(&batch) {
                    self.tell(Event::Encoded { batch, events: 9, filtered: 9 });
                }
                self.tell(Event::DeadLettered(BatchId::new(999)));
                self.tell(Event::DeadLettersFull(batch));
                let parts = Parts::default();
                self.tell(Event::Split { batch, cut: Cut::Event(0), parts });
            }
            Nonsense::Posted { lane, id } => {
                if !self.posting.contains_key(&LaneId(lane)) {
                    let outcome =
                        PostOutcome::Accepted { ack: Some(AckId::new(id)), pressed: false };
                    self.tell(Event::Posted { lane: LaneId(lane), outcome });
                }
            }
            Nonsense::Polled { channel, id } => {
                let channel = ChannelId::from_random(channel);
                self.tell(Event::Polled { channel, outcome: outcome(id) });
            }
            Nonsense::PolledUnasked { pick, id } => {
                if let Some(channel) = nth(self.channels.keys(), pick)
                    && !self.polling.contains_key(&channel)
                {
                    self.tell(Event::Polled { channel, outcome: outcome(id) });
                }
            }
            Nonsense::Committed => {
                if !self.committing {
                    self.committed_at = Some(self.now);
                    self.tell(Event::Committed);
                }
            }
        }
    }

    fn tell(&mut self, event: Event) {
        let before = self.machine.checkpoint().position;
        self.machine.handle(self.now, event);
        while let Some(action) = self.machine.poll() {
            self.carry_out(action);
        }
        let status = self.machine.status();
        assert!(status.position >= before, "the checkpoint went back");
        assert_eq!(status.difference(&self.tail), 0, "the books");
        let lanes = 4;
        let most = machine::LEAST_GROWTH + 3 * 6;
        assert!(status.batches_unsettled <= most && status.batches_posting <= lanes);
        assert!(!self.sane || self.bodies.len() <= 2 * lanes + 1, "{} bodies", self.bodies.len());
        let due = self.machine.deadline();
        assert!(due.is_none_or(|at| at > self.now), "a deadline of the past: {due:?}");
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Read { batch, from } => {
                assert!(!self.sane || self.reading.is_none(), "two reads");
                self.bodies.insert(batch);
                self.reading = Some((batch, from));
            }
            Action::Encode { batch, range, .. } => {
                self.ranges.insert(batch, range);
                self.bodies.insert(batch);
                self.encoding.push(batch);
            }
            Action::Split { batch, range, cut } => self.looking.push((batch, range, Some(cut))),
            Action::DeadLetter { batch, range, .. } => self.looking.push((batch, range, None)),
            Action::Release(batch) => {
                self.bodies.remove(&batch);
            }
            Action::Send { lane, endpoint, channel, batch } => {
                assert!(!self.paused, "a POST while it is paused");
                assert!(!self.sane || self.bodies.contains(&batch), "{batch} has no body");
                let alone = self.posting.values().all(|(other, _)| *other != channel);
                assert!(alone, "two POSTs on a channel");
                let truth = self.channels.entry(channel).or_default();
                assert!(!truth.doubted, "a POST on a channel in doubt");
                assert_eq!(*truth.endpoint.get_or_insert(endpoint), endpoint);
                let first = truth.ids.first_key_value().map(|(id, _)| *id);
                let asked = self.polling.get(&channel);
                let asks_first = asked.is_some_and(|ids| first.is_some_and(|id| ids.contains(&id)));
                let settled =
                    first.is_some_and(|id| offsets(truth.ids[&id]).all(|at| self.may_pass[&at]));
                assert!(!asks_first || settled, "a POST while the first id is asked about");
                let range = self.ranges[&batch];
                assert!(self.posting.insert(lane, (channel, range)).is_none(), "a busy lane");
            }
            Action::Poll { endpoint, channel, ids } => {
                let truth = &self.channels[&channel];
                assert_eq!(truth.endpoint, Some(endpoint));
                let ids: Vec<_> = ids.iter().map(|id| id.get()).collect();
                assert!(!ids.is_empty() && ids.is_sorted());
                assert!(ids.iter().all(|id| truth.ids.contains_key(id)), "an id never given");
                let posting = self.posting.values().any(|(busy, _)| *busy == channel);
                let first = truth.ids.first_key_value().map(|(id, _)| id);
                assert!(!posting || ids.first() != first, "the first id, during a POST");
                assert!(self.polling.insert(channel, ids).is_none(), "two polls of a channel");
            }
            Action::Close(channel) => self.channels.get_mut(&channel).unwrap().doubted = true,
            Action::Preflight { .. } => panic!("it is known what counts"),
            Action::Commit(checkpoint) => self.commit(&checkpoint),
            Action::Note(_) => {}
        }
    }

    fn commit(&mut self, checkpoint: &Checkpoint) {
        assert!(!self.committing, "two commits");
        self.committing = true;
        assert!(checkpoint.position >= self.committed, "the checkpoint went back");
        self.committed = checkpoint.position;
        let soon = self.committed_at.is_some_and(|at| self.now < at + COMMIT_INTERVAL);
        assert!(self.stopped || !soon, "a commit too soon");
        let end = checkpoint.position.offset.get();
        let lost = self.may_pass.range(..end).find(|(_, may_pass)| !**may_pass);
        assert_eq!(lost, None, "the checkpoint passed what is not settled");
        assert_eq!(checkpoint.totals.settled(), end);
        for ahead in &checkpoint.window {
            let may_pass = offsets(ahead.range).all(|at| self.may_pass[&at]);
            let settled = matches!(ahead.fate, Fate::Acknowledged | Fate::DeadLettered);
            assert!(may_pass || !settled, "{ahead:?} is saved as settled");
            let Fate::InFlight { channel, ack, .. } = ahead.fate else { continue };
            assert_eq!(self.channels[&channel].ids.get(&ack.get()), Some(&ahead.range));
        }
    }
}

fn nth<K: Copy + Ord>(
    mut keys: impl ExactSizeIterator<Item = impl std::ops::Deref<Target = K>>,
    pick: usize,
) -> Option<K> {
    if keys.len() == 0 { None } else { keys.nth(pick % keys.len()).map(|key| *key) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_order_of_events_moves_the_checkpoint_past_what_is_not_settled(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let mut account = Account::new();
        for step in steps {
            account.take(step);
        }
    }
}
