//! Sequences of operations on the machine, made of any bytes: for the fuzzer (`tests/fuzz`), and
//! for the tests, which replay its corpus.
//!
//! The account kept here knows what collectors have promised and which dead letters are durable,
//! and from nothing else follows what a checkpoint may pass. Other than the property test in
//! `machine_tests`, a sequence chooses the configuration, the process dies and goes on from its
//! last durable checkpoint, the log drops frames, and in the end a world in which everything works
//! must settle the whole log.

mod answers;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::channel::Channel;
use super::machine::LEAST_GROWTH;
use super::model::Log;
use super::refuse::GROWTH;
use super::{
    Acknowledgement, Action, BatchLimits, Config, Cut, Delivery, EndpointId, Event, LaneId,
    RetryLimits,
};
use crate::record::{Checkpoint, Fate};
use crate::types::{BatchId, ByteSize, ChannelId, Offset, Position, PositionRange};

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

/// What is known of one channel. It outlives processes, as in the collectors.
#[derive(Default)]
struct Truth {
    endpoint: Option<EndpointId>,
    highest: Option<u64>,
    /// The messages that each id stands for, as long as the ids rise.
    ids: BTreeMap<u64, PositionRange>,
    /// All ids that were ever told. The next process may ask for one that means nothing any more.
    told: BTreeSet<u64>,
    /// No further POST may be made on it.
    doubted: bool,
    /// When it was last posted on or asked about.
    used: Duration,
}

/// What is on its way in one process; forgotten when it dies.
#[derive(Default)]
struct Flight {
    reading: Option<(BatchId, Position)>,
    encoding: Vec<(BatchId, PositionRange)>,
    cutting: Vec<(BatchId, PositionRange, Cut)>,
    burying: Vec<(BatchId, PositionRange)>,
    posting: BTreeMap<LaneId, (ChannelId, PositionRange)>,
    polling: BTreeMap<ChannelId, Vec<u64>>,
    bodies: BTreeMap<BatchId, PositionRange>,
    /// Channels on which this process has posted.
    own: BTreeSet<ChannelId>,
    /// Channels that something is kept for.
    open: BTreeSet<ChannelId>,
    closed: BTreeSet<ChannelId>,
    committing: Option<Checkpoint>,
    /// Endpoints that are being asked whether they acknowledge.
    asked: BTreeSet<EndpointId>,
    /// What each said last.
    said: BTreeMap<EndpointId, Option<bool>>,
    stopped: bool,
    /// Something has been said that no sink says.
    nonsense: bool,
}

struct World {
    config: Config,
    lanes: usize,
    machine: Delivery,
    now: Duration,
    log: Log,
    /// Before this, the log has dropped everything.
    trimmed: Position,
    /// Messages that collectors have promised, or whose dead letters are durable.
    kept: BTreeSet<Position>,
    channels: BTreeMap<ChannelId, Truth>,
    flight: Flight,
    durable: Checkpoint,
    restarts: u128,
}

impl World {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let count = |number: u8| NonZeroUsize::MIN.saturating_add(usize::from(number));
        let millis = |number: u64| Duration::from_millis(number);
        let lanes = count(bytes.below(3));
        let config = Config {
            endpoints: count(bytes.below(3)),
            lanes_per_endpoint: lanes,
            max_lanes_per_endpoint: lanes.saturating_add(usize::from(bytes.below(3))),
            window: count(bytes.below(12)),
            batch: BatchLimits {
                max_bytes: ByteSize::bytes(1000),
                max_events: count(4),
                linger: millis(bytes.number(4) * 100),
            },
            acknowledgement: match bytes.below(8) {
                0 => Acknowledgement::Off,
                1 => Acknowledgement::Auto,
                _ => Acknowledgement::Required,
            },
            ack_timeout: millis(5000 + 1000 * bytes.number(30)),
            recall: millis(1000 * bytes.number(10)),
            longest_poll: millis(10_000),
            believe_refusals: bytes.below(8) == 7,
            retry: RetryLimits {
                initial: millis(1 + bytes.number(250)),
                max: millis(1000 + 1000 * bytes.number(10)),
                hold: millis(1000 + 1000 * bytes.number(10)),
            },
        };
        let durable = Checkpoint::default();
        Self {
            lanes: config.endpoints.get() * config.max_lanes_per_endpoint.get(),
            machine: Delivery::new(config.clone(), &durable, 0),
            config,
            now: Duration::from_secs(1000),
            log: Log::default(),
            trimmed: Position::ZERO,
            kept: BTreeSet::new(),
            channels: BTreeMap::new(),
            flight: Flight::default(),
            durable,
            restarts: 0,
        }
    }

    /// Takes the next operation; `None` when there is none.
    fn step(&mut self, bytes: &mut Bytes<'_>) -> Option<()> {
        match bytes.next()? % 20 {
            0 => self.wait(Duration::from_millis(1 + bytes.number(255) * 20)),
            1 => {
                // As the sink's timer would.
                let due = self.machine.deadline().unwrap_or(self.now);
                self.now = self.now.max(due);
                self.tell(Event::Tick);
            }
            2 => self.grow(bytes),
            3 | 4 => self.read(1 + bytes.number(5)),
            5 => self.encoded(),
            6..=8 => self.post(bytes),
            9..=11 => self.poll(bytes),
            12 => self.committed(),
            13 => self.die(),
            14 => self.nonsense(bytes),
            15 => self.cut(),
            16 => self.bury(bytes.below(4) > 0),
            17 => self.drop_the_oldest(bytes),
            18 => self.lose(1 + bytes.number(3)),
            _ if bytes.below(16) == 0 => {
                self.flight.stopped = true;
                self.tell(Event::Stop);
            }
            _ if self.undecided() => self.say(bytes),
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
            self.log.push(u32::from(bytes.below(5)));
        }
        self.tell(Event::Tail(self.log.tail()));
    }

    fn read(&mut self, most: u64) {
        let Some((batch, from)) = self.flight.reading.take() else { return };
        let read = self.log.read(batch, from, most);
        self.flight.bodies.entry(batch).and_modify(|body| *body = read.range);
        self.tell(Event::Read(read));
    }

    fn encoded(&mut self) {
        let Some((batch, range)) = self.flight.encoding.pop() else { return };
        let part = self.log.part(range);
        let (events, filtered) = part.map_or((0, 0), |part| (part.events, part.filtered));
        self.tell(Event::Encoded { batch, events, filtered });
    }

    fn cut(&mut self) {
        let Some((batch, range, cut)) = self.flight.cutting.pop() else { return };
        let parts = self.log.cut(range, cut);
        self.tell(Event::Split { batch, cut, parts });
    }

    /// A dead letter becomes durable, or finds no room.
    fn bury(&mut self, room: bool) {
        let Some((batch, range)) = self.flight.burying.pop() else { return };
        let events = self.log.events(range);
        if events.len() != 1 {
            self.tell(Event::Changed(batch));
        } else if room {
            self.kept.extend(events);
            self.tell(Event::DeadLettered(batch));
        } else {
            self.tell(Event::DeadLettersFull(batch));
        }
    }

    /// The log drops frames; the stored cursor is lifted before the process is told.
    fn drop_the_oldest(&mut self, bytes: &mut Bytes<'_>) {
        let first = self.trimmed.offset.get();
        let left = self.log.tail().end.get().saturating_sub(first);
        let to = Position::at(Offset::new(first + bytes.number(8).min(left)));
        if to <= self.trimmed {
            return;
        }
        self.trimmed = to;
        let messages_before = self.log.messages_before(to);
        self.durable.lift(to, messages_before);
        if let Some(committing) = &mut self.flight.committing {
            committing.lift(to, messages_before);
        }
        self.tell(Event::Trimmed { to, messages_before });
    }

    /// What is to be read is damaged, and was given up by the operator.
    fn lose(&mut self, frames: u64) {
        let Some((batch, from)) = self.flight.reading.take() else { return };
        let end = from.offset.get().saturating_add(frames).min(self.log.tail().end.get());
        let range = PositionRange { start: from, end: Position::at(Offset::new(end)) };
        if range.end < range.start {
            return;
        }
        self.flight.bodies.remove(&batch);
        // It is gone for this process and for every other.
        self.kept.extend(self.log.positions(range));
        let messages_end = self.log.messages_before(range.end);
        self.tell(Event::Lost { batch, range, messages_end });
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
        self.tell(Event::Tail(self.log.tail()));
    }

    fn tell(&mut self, event: Event) {
        let before = self.machine.checkpoint().position;
        let undecided = self.undecided();
        self.machine.handle(self.now, event);
        self.check_choice(undecided);
        while let Some(action) = self.machine.poll() {
            self.carry_out(action);
        }
        let known = |id: &ChannelId| self.machine.channels.contains_key(id);
        assert!(self.flight.open.iter().all(known), "what is kept for a channel never goes");
        let useless = self.machine.channels.values().any(Channel::is_done);
        assert!(!useless, "a channel of no use stays");
        let status = self.machine.status();
        assert!(status.position >= before, "the checkpoint went back");
        assert_eq!(status.difference(&self.log.tail()), 0, "the books");
        let most = self.config.window.get() * (GROWTH + 4) + LEAST_GROWTH + 2;
        assert!(status.batches_unsettled <= most, "the window: {}", status.batches_unsettled);
        assert!(status.batches_posting <= self.lanes, "a POST a lane");
        let flight = &self.flight;
        let bodies = flight.bodies.len();
        assert!(flight.nonsense || bodies <= 2 * self.lanes + 2, "{bodies} bodies");
        let due = self.machine.deadline();
        assert!(due.is_none_or(|at| at > self.now), "a deadline of the past: {due:?}");
    }

    fn carry_out(&mut self, action: Action) {
        let flight = &mut self.flight;
        let sane = !flight.nonsense;
        let waits = matches!(action, Action::Preflight { .. } | Action::Commit(_))
            || matches!(action, Action::Note(_) | Action::Release(_) | Action::Close(_));
        let mode = self.machine.status().acknowledgement;
        assert!(waits || mode != Acknowledgement::Auto, "{action:?} before it is known");
        match action {
            Action::Read { batch, from } => {
                assert!(!sane || flight.reading.is_none(), "two reads");
                flight.bodies.insert(batch, PositionRange { start: from, end: from });
                flight.reading = Some((batch, from));
            }
            Action::Encode { batch, range, .. } => {
                flight.bodies.insert(batch, range);
                flight.encoding.push((batch, range));
            }
            Action::Split { batch, range, cut } => {
                assert!(!flight.bodies.contains_key(&batch), "{batch} is cut and has a body");
                flight.cutting.push((batch, range, cut));
            }
            Action::DeadLetter { batch, range, .. } => {
                let events = self.log.events(range).len();
                let gone = range.start <= self.trimmed && events == 0;
                assert!(events == 1 || gone, "a dead letter of {events} events");
                flight.burying.push((batch, range));
            }
            Action::Release(batch) => drop(flight.bodies.remove(&batch)),
            Action::Send { lane, endpoint, channel, batch } => {
                let body = flight.bodies.get(&batch).copied();
                assert!(!sane || body.is_some(), "{batch} has no body");
                let alone = flight.posting.values().all(|(other, _)| *other != channel);
                assert!(alone, "two POSTs on a channel");
                let known = self.channels.contains_key(&channel);
                assert!(!known || flight.own.contains(&channel), "another process's channel");
                flight.own.insert(channel);
                flight.open.insert(channel);
                assert!(!flight.closed.contains(&channel), "a POST on a closed channel");
                let truth = self.channels.entry(channel).or_default();
                assert!(!truth.doubted, "a POST on a channel in doubt");
                // Collectors forget what is idle; the machine knows of no more uses than this.
                let idle = self.now.saturating_sub(truth.used);
                let limit = self.config.ack_timeout.min(Duration::from_mins(5));
                assert!(!known || idle < limit, "a POST on a channel that is idle for {idle:?}");
                truth.used = self.now;
                assert_eq!(*truth.endpoint.get_or_insert(endpoint), endpoint);
                // Nonsense can release a body; the sink then makes do without the POST.
                let range = body.or_else(|| self.machine.range(batch));
                let posting = (channel, range.unwrap_or_default());
                assert!(flight.posting.insert(lane, posting).is_none(), "a busy lane");
            }
            Action::Poll { endpoint, channel, ids } => {
                let truth = self.channels.entry(channel).or_default();
                assert_eq!(truth.endpoint, Some(endpoint));
                truth.used = self.now;
                let ids: Vec<_> = ids.iter().map(|id| id.get()).collect();
                assert!(!ids.is_empty() && ids.is_sorted(), "{ids:?}");
                flight.open.insert(channel);
                assert!(!flight.closed.contains(&channel), "a poll of a closed channel");
                assert!(ids.iter().all(|id| truth.told.contains(id)), "an id never given");
                assert!(flight.polling.insert(channel, ids).is_none(), "two polls of a channel");
            }
            Action::Close(channel) => {
                flight.open.remove(&channel);
                assert!(flight.closed.insert(channel), "closed twice");
            }
            Action::Preflight { endpoint, channel } => {
                assert!(!self.channels.contains_key(&channel), "a channel that is used");
                assert!(flight.asked.insert(endpoint), "two questions at a time");
            }
            Action::Commit(checkpoint) => self.commit(checkpoint),
            Action::Note(_) => {}
        }
    }

    /// Whether nobody has to send a message (again).
    fn is_settled(&self, at: Position) -> bool {
        at < self.trimmed || !self.log.makes_event(at) || self.kept.contains(&at)
    }

    fn commit(&mut self, mut checkpoint: Checkpoint) {
        assert!(self.flight.committing.is_none(), "two commits");
        // One that was decided on before the log dropped frames is lifted like those in the store.
        checkpoint.lift(self.trimmed, self.log.messages_before(self.trimmed));
        assert!(checkpoint.position >= self.durable.position, "a commit that goes back");
        let passed = PositionRange { start: self.durable.position, end: checkpoint.position };
        let known = checkpoint.window.iter().filter(|ahead| {
            matches!(ahead.fate, Fate::Acknowledged | Fate::DeadLettered | Fate::Dropped)
        });
        for range in known.map(|ahead| ahead.range).chain([passed]) {
            for at in self.log.positions(range) {
                assert!(self.is_settled(at), "the checkpoint says of {at} that it is settled");
            }
        }
        let settled = checkpoint.totals.settled();
        let before = self.log.messages_before(checkpoint.position);
        assert_eq!(settled, before, "a message, settled or not");
        self.flight.committing = Some(checkpoint);
    }

    /// From here on everything works, and so everything is settled in the end.
    fn settle(&mut self) {
        if self.flight.stopped {
            self.die();
        }
        for _ in 0..2000 + 20 * self.log.frames() {
            if self.durable.position.offset == self.log.tail().end {
                return;
            }
            self.read(u64::MAX);
            while !self.flight.encoding.is_empty() {
                self.encoded();
            }
            while !self.flight.cutting.is_empty() {
                self.cut();
            }
            while !self.flight.burying.is_empty() {
                self.bury(true);
            }
            self.everything_is_taken();
            self.committed();
            let due = self.machine.deadline().unwrap_or(self.now);
            self.now = self.now.max(due);
            self.tell(Event::Tick);
        }
        let status = self.machine.status();
        assert_eq!(self.durable.position.offset, self.log.tail().end, "stuck: {status:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::types::corpus;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_operations_hold(data in proptest::collection::vec(any::<u8>(), 0..800)) {
            super::operations(&data);
        }
    }

    #[test]
    fn the_corpus_of_operations_holds() {
        for (name, data) in corpus("delivery") {
            println!("{name}");
            super::operations(&data);
        }
    }
}
