//! Sequences of operations on the machine, made of any bytes: for the fuzzer (`tests/fuzz`), and
//! for the tests, which replay its corpus.
//!
//! The account kept here knows what collectors have promised, and from nothing else follows what
//! a checkpoint may pass. Other than the property test in `machine_tests`, a sequence chooses the
//! configuration, the process dies and goes on from its last durable checkpoint, frames have
//! several messages, and in the end a world in which everything works must settle the whole log.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::{
    Acknowledgement, Action, BatchLimits, Config, Delivery, EndpointId, Event, HoldReason, LaneId,
    PollOutcome, PostOutcome, ReadBatch, RetryLimits,
};
use crate::record::Checkpoint;
use crate::types::{
    AckId, BatchId, ByteSize, ChannelId, Offset, Position, PositionRange, Tail, UnixMicros,
};

/// The first bytes are the configuration, the others operations.
pub fn operations(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut world = World::new(&mut bytes);
    while world.step(&mut bytes).is_some() {}
    world.settle();
}

/// What is left of the input. Reads 0 behind its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn below(&mut self, limit: u8) -> u8 {
        self.next().unwrap_or_default() % limit
    }

    fn number(&mut self, limit: u8) -> u64 {
        u64::from(self.below(limit))
    }
}

/// What is known of one channel.
#[derive(Default)]
struct Truth {
    endpoint: Option<EndpointId>,
    highest: Option<u64>,
    /// What each id stands for, as long as the ids rise.
    ids: BTreeMap<u64, BatchId>,
    /// No further POST may be made on it.
    doubted: bool,
}

/// What is on its way in one process; forgotten when it dies.
#[derive(Default)]
struct Flight {
    reading: Option<(BatchId, Position)>,
    encoding: Vec<BatchId>,
    posting: BTreeMap<LaneId, (ChannelId, BatchId)>,
    polling: BTreeMap<ChannelId, Vec<u64>>,
    channels: BTreeMap<ChannelId, Truth>,
    /// Each batch's range, as it was read, and whether it may be passed.
    batches: BTreeMap<BatchId, (PositionRange, bool)>,
    bodies: BTreeSet<BatchId>,
    committing: Option<Checkpoint>,
    stopped: bool,
    /// Something has been said that no sink says.
    nonsense: bool,
}

struct World {
    config: Config,
    lanes: usize,
    machine: Delivery,
    now: Duration,
    /// Messages of each frame.
    log: Vec<u32>,
    tail: Tail,
    flight: Flight,
    durable: Checkpoint,
    restarts: u128,
}

impl World {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let count = |number: u8| NonZeroUsize::MIN.saturating_add(usize::from(number));
        let millis = |number: u64| Duration::from_millis(number);
        let config = Config {
            endpoints: count(bytes.below(3)),
            lanes_per_endpoint: count(bytes.below(3)),
            window: count(bytes.below(12)),
            batch: BatchLimits {
                max_bytes: ByteSize::bytes(1000),
                max_events: count(4),
                linger: millis(bytes.number(4) * 100),
            },
            acknowledgement: if bytes.below(8) == 0 {
                Acknowledgement::Off
            } else {
                Acknowledgement::Required
            },
            ack_timeout: millis(5000 + 1000 * bytes.number(30)),
            retry: RetryLimits {
                initial: millis(1 + bytes.number(250)),
                max: millis(1000 + 1000 * bytes.number(10)),
                hold: millis(1000 + 1000 * bytes.number(10)),
            },
        };
        let durable = Checkpoint::default();
        Self {
            lanes: config.endpoints.get() * config.lanes_per_endpoint.get(),
            machine: Delivery::new(config.clone(), &durable, 0),
            config,
            now: Duration::from_secs(1000),
            log: Vec::new(),
            tail: Tail::default(),
            flight: Flight::default(),
            durable,
            restarts: 0,
        }
    }

    /// Takes the next operation; `None` when there is none.
    fn step(&mut self, bytes: &mut Bytes<'_>) -> Option<()> {
        match bytes.next()? % 16 {
            0 => self.wait(Duration::from_millis(1 + bytes.number(255) * 20)),
            1 => {
                // As the sink's timer would.
                let due = self.machine.deadline().unwrap_or(self.now);
                self.now = self.now.max(due);
                self.tell(Event::Tick);
            }
            2 => self.grow(bytes),
            3 | 4 => self.read(1 + bytes.number(5), bytes.below(4)),
            5 => {
                if let Some(batch) = self.flight.encoding.pop() {
                    self.tell(Event::Encoded(batch));
                }
            }
            6..=8 => self.post(bytes),
            9..=11 => self.poll(bytes),
            12 => self.committed(),
            13 => self.die(),
            14 => self.nonsense(bytes),
            _ if bytes.below(16) == 0 => {
                self.flight.stopped = true;
                self.tell(Event::Stop);
            }
            _ => self.tell(Event::Tick),
        }
        Some(())
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.tell(Event::Tick);
    }

    fn grow(&mut self, bytes: &mut Bytes<'_>) {
        for _ in 0..=bytes.below(4) {
            // A frame may be empty.
            let messages = u32::from(bytes.below(5));
            self.log.push(messages);
            self.tail.end = self.tail.end.next();
            self.tail.messages += u64::from(messages);
            self.tail.bytes += 90 * u64::from(messages);
        }
        self.tell(Event::Tail(self.tail));
    }

    /// Messages in the log before a position.
    fn before(&self, position: Position) -> u64 {
        let frames = usize::try_from(position.offset.get()).unwrap_or(usize::MAX);
        let whole: u64 = self.log.iter().take(frames).map(|messages| u64::from(*messages)).sum();
        whole + u64::from(position.index)
    }

    /// The end of a read of at most so many messages.
    fn end_of_read(&self, from: Position, most: u64) -> Position {
        let mut at = from;
        let mut left = most;
        while at.offset < self.tail.end {
            let frame = usize::try_from(at.offset.get()).ok().and_then(|frame| self.log.get(frame));
            let messages = frame.copied().unwrap_or_default() - at.index;
            if u64::from(messages) > left {
                let taken = u32::try_from(left).unwrap_or_default();
                return Position::new(at.offset, at.index + taken);
            }
            left -= u64::from(messages);
            at = Position::at(at.offset.next());
        }
        at
    }

    fn read(&mut self, most: u64, filtered: u8) {
        let Some((batch, from)) = self.flight.reading.take() else { return };
        let range = PositionRange { start: from, end: self.end_of_read(from, most) };
        let messages = self.before(range.end) - self.before(from);
        let filtered = u64::from(filtered).min(messages);
        // Known only once the machine has taken it: a stop turns a read away.
        if !self.flight.stopped && !range.is_empty() && from == self.machine.read_position() {
            self.flight.batches.insert(batch, (range, filtered == messages));
        }
        self.tell(Event::Read(ReadBatch {
            batch,
            range,
            messages,
            filtered,
            events: messages - filtered,
            messages_end: self.before(range.end),
            received: UnixMicros::default(),
            caught_up: (range.end.offset == self.tail.end).then_some(self.tail),
        }));
    }

    fn post(&mut self, bytes: &mut Bytes<'_>) {
        let Some(lane) = nth(self.flight.posting.keys(), bytes.below(16)) else { return };
        let kind = bytes.below(16);
        let id = (kind < 3).then(|| bytes.number(6));
        let after = match bytes.below(8) {
            0 => Some(Duration::from_secs(u64::MAX)),
            1 => Some(Duration::from_secs(3)),
            _ => None,
        };
        self.posted(lane, kind, id, after);
    }

    /// A POST ends: 0 to 9 with an id, `id` or one that rises.
    fn posted(&mut self, lane: LaneId, kind: u8, id: Option<u64>, after: Option<Duration>) {
        let Some((channel, batch)) = self.flight.posting.remove(&lane) else { return };
        let truth = self.flight.channels.entry(channel).or_default();
        let required = self.config.acknowledgement == Acknowledgement::Required;
        let outcome = match kind {
            0..=9 => {
                let next = truth.highest.map_or(0, |highest| highest + 1);
                let id = id.unwrap_or(next);
                if truth.highest.is_some_and(|highest| id <= highest) {
                    truth.ids.clear();
                    truth.doubted |= required;
                } else {
                    truth.highest = Some(id);
                    truth.ids.insert(id, batch);
                }
                PostOutcome::Accepted { ack: Some(AckId::new(id)), pressed: id % 2 == 1 }
            }
            10 => PostOutcome::Accepted { ack: None, pressed: false },
            11 => PostOutcome::Busy { after },
            12 => PostOutcome::Unreachable { after },
            13 | 14 => PostOutcome::Doubt { after },
            _ => PostOutcome::Fault(HoldReason::new("invalid token")),
        };
        truth.doubted |= (kind == 10 && required) || kind > 11;
        if kind <= 10 && !required {
            self.may_pass(batch);
        }
        self.tell(Event::Posted { lane, outcome });
    }

    fn may_pass(&mut self, batch: BatchId) {
        if let Some((_, may_pass)) = self.flight.batches.get_mut(&batch) {
            *may_pass = true;
        }
    }

    fn poll(&mut self, bytes: &mut Bytes<'_>) {
        let Some(channel) = nth(self.flight.polling.keys(), bytes.below(16)) else { return };
        let outcome = match bytes.below(8) {
            0 => PollOutcome::Failed,
            1 => PollOutcome::Fault(HoldReason::new("acknowledgement is disabled")),
            2 => PollOutcome::Answered { acked: Vec::new() },
            3 => PollOutcome::Answered { acked: vec![AckId::new(bytes.number(8))] },
            4 => {
                let asked = self.flight.polling.get(&channel).cloned().unwrap_or_default();
                let some = asked.into_iter().filter(|_| bytes.below(2) == 0).map(AckId::new);
                PollOutcome::Answered { acked: some.collect() }
            }
            _ => self.all(channel),
        };
        self.polled(channel, outcome);
    }

    /// The answer that says `true` to all that was asked.
    fn all(&self, channel: ChannelId) -> PollOutcome {
        let asked = self.flight.polling.get(&channel).cloned().unwrap_or_default();
        PollOutcome::Answered { acked: asked.into_iter().map(AckId::new).collect() }
    }

    fn polled(&mut self, channel: ChannelId, outcome: PollOutcome) {
        let asked = self.flight.polling.remove(&channel).unwrap_or_default();
        let truth = self.flight.channels.entry(channel).or_default();
        match &outcome {
            PollOutcome::Answered { acked } => {
                let said = acked.iter().map(|id| id.get()).filter(|id| asked.contains(id));
                let said: Vec<_> = said.filter_map(|id| truth.ids.get(&id).copied()).collect();
                for batch in said {
                    self.may_pass(batch);
                }
            }
            PollOutcome::Failed | PollOutcome::Fault(_) => truth.doubted = true,
        }
        self.tell(Event::Polled { channel, outcome });
    }

    fn committed(&mut self) {
        if let Some(checkpoint) = self.flight.committing.take() {
            self.durable = checkpoint;
            self.tell(Event::Committed);
        }
    }

    /// The process dies; the next one goes on from what is durable.
    fn die(&mut self) {
        // A commit on its way may have reached the disk or not; here it has not.
        self.flight = Flight::default();
        self.restarts += 1;
        self.machine = Delivery::new(self.config.clone(), &self.durable, self.restarts);
        self.tell(Event::Tail(self.tail));
    }

    /// What no sink says. None of it may move a checkpoint.
    fn nonsense(&mut self, bytes: &mut Bytes<'_>) {
        self.flight.nonsense = true;
        let id = AckId::new(bytes.number(9));
        let outcome = PollOutcome::Answered { acked: vec![id] };
        match bytes.below(5) {
            0 => {
                let start = Position::at(Offset::new(bytes.number(60)));
                let end = Position::at(Offset::new(bytes.number(80)));
                if start != self.machine.read_position() {
                    let messages = end.offset.since(start.offset);
                    self.tell(Event::Read(ReadBatch {
                        batch: BatchId::new(bytes.number(40)),
                        range: PositionRange { start, end },
                        messages,
                        filtered: messages,
                        events: 0,
                        messages_end: end.offset.get(),
                        received: UnixMicros::default(),
                        caught_up: None,
                    }));
                }
            }
            1 => self.tell(Event::Encoded(BatchId::new(bytes.number(40)))),
            2 => {
                let lane = LaneId(usize::from(bytes.below(12)));
                if !self.flight.posting.contains_key(&lane) {
                    let outcome = PostOutcome::Accepted { ack: Some(id), pressed: false };
                    self.tell(Event::Posted { lane, outcome });
                }
            }
            3 => {
                let channel = nth(self.flight.channels.keys(), bytes.below(16));
                let channel = channel.unwrap_or_else(|| ChannelId::from_random(7));
                if !self.flight.polling.contains_key(&channel) {
                    self.tell(Event::Polled { channel, outcome });
                }
            }
            _ => {
                if self.flight.committing.is_none() {
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
        assert!(status.batches_unsettled <= self.config.window.get(), "the window");
        assert!(status.batches_posting <= self.lanes, "a POST a lane");
        let flight = &self.flight;
        let bodies = flight.bodies.len();
        assert!(flight.nonsense || bodies <= 2 * self.lanes + 1, "{bodies} bodies");
        let due = self.machine.deadline();
        assert!(due.is_none_or(|at| at > self.now), "a deadline of the past: {due:?}");
    }

    fn carry_out(&mut self, action: Action) {
        let flight = &mut self.flight;
        let sane = !flight.nonsense;
        match action {
            Action::Read { batch, from } => {
                assert!(!sane || flight.reading.is_none(), "two reads");
                flight.bodies.insert(batch);
                flight.reading = Some((batch, from));
            }
            Action::Encode { batch, range } => {
                assert_eq!(flight.batches.get(&batch).map(|(range, _)| *range), Some(range));
                flight.bodies.insert(batch);
                flight.encoding.push(batch);
            }
            Action::Release(batch) => drop(flight.bodies.remove(&batch)),
            Action::Send { lane, endpoint, channel, batch } => {
                assert!(!sane || flight.bodies.contains(&batch), "{batch} has no body");
                let alone = flight.posting.values().all(|(other, _)| *other != channel);
                assert!(alone, "two POSTs on a channel");
                let truth = flight.channels.entry(channel).or_default();
                assert!(!truth.doubted, "a POST on a channel in doubt");
                assert_eq!(*truth.endpoint.get_or_insert(endpoint), endpoint);
                assert!(flight.posting.insert(lane, (channel, batch)).is_none(), "a busy lane");
            }
            Action::Poll { endpoint, channel, ids } => {
                let truth = flight.channels.entry(channel).or_default();
                assert_eq!(truth.endpoint, Some(endpoint));
                let ids: Vec<_> = ids.iter().map(|id| id.get()).collect();
                assert!(!ids.is_empty() && ids.is_sorted(), "{ids:?}");
                assert!(ids.iter().all(|id| truth.ids.contains_key(id)), "an id never given");
                assert!(flight.polling.insert(channel, ids).is_none(), "two polls of a channel");
            }
            Action::Commit(checkpoint) => self.commit(checkpoint),
            Action::Note(_) => {}
        }
    }

    fn commit(&mut self, checkpoint: Checkpoint) {
        assert!(self.flight.committing.is_none(), "two commits");
        assert!(checkpoint.position > self.durable.position, "a commit of nothing new");
        for (batch, (range, may_pass)) in &self.flight.batches {
            let passed = range.end <= checkpoint.position;
            assert!(*may_pass || !passed, "the checkpoint passed {batch}, which is not settled");
        }
        let settled = checkpoint.totals.settled();
        assert_eq!(settled, self.before(checkpoint.position), "a message, settled or not");
        self.flight.committing = Some(checkpoint);
    }

    /// From here on everything works, and so everything is settled in the end.
    fn settle(&mut self) {
        if self.flight.stopped {
            self.die();
        }
        for _ in 0..2000 + 20 * self.log.len() {
            if self.durable.position.offset == self.tail.end {
                return;
            }
            self.read(u64::MAX, 0);
            while let Some(batch) = self.flight.encoding.pop() {
                self.tell(Event::Encoded(batch));
            }
            while let Some(lane) = nth(self.flight.posting.keys(), 0) {
                self.posted(lane, 9, None, None);
            }
            while let Some(channel) = nth(self.flight.polling.keys(), 0) {
                self.polled(channel, self.all(channel));
            }
            self.committed();
            let due = self.machine.deadline().unwrap_or(self.now);
            self.now = self.now.max(due);
            self.tell(Event::Tick);
        }
        let status = self.machine.status();
        assert_eq!(self.durable.position.offset, self.tail.end, "stuck: {status:?}");
    }
}

fn nth<K: Copy>(
    mut keys: impl ExactSizeIterator<Item = impl std::ops::Deref<Target = K>>,
    pick: u8,
) -> Option<K> {
    if keys.len() == 0 { None } else { keys.nth(usize::from(pick) % keys.len()).map(|key| *key) }
}

#[cfg(test)]
mod tests {
    use crate::types::corpus;

    #[test]
    fn the_corpus_of_operations_holds() {
        for (name, data) in corpus("delivery") {
            println!("{name}");
            super::operations(&data);
        }
    }
}
