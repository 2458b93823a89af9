//! Seeded worlds: a log that grows, collectors that are busy, die, forget, lie and lose answers.
//! Time is virtual, the truth is known, and every promise is checked at every step.
//!
//! `FOREBAY_SIM_SEED=… cargo test simulation` replays one world, `FOREBAY_SIM_WORLDS=…` sets how
//! many run.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use super::chance::Chance;
use super::*;
use crate::record::Checkpoint;
use crate::types::{ByteSize, Offset, Tail, UnixMicros};

const FAULTS_END: Duration = Duration::from_secs(120);
const WORLD_END: Duration = Duration::from_secs(4000);

fn config(endpoints: usize) -> Config {
    Config {
        endpoints: NonZeroUsize::new(endpoints).unwrap(),
        lanes_per_endpoint: NonZeroUsize::new(2).unwrap(),
        window: NonZeroUsize::new(12).unwrap(),
        batch: BatchLimits {
            max_bytes: ByteSize::bytes(1000),
            max_events: NonZeroUsize::new(5).unwrap(),
            linger: Duration::from_millis(250),
        },
        acknowledgement: Acknowledgement::Required,
        ack_timeout: Duration::from_secs(20),
        retry: RetryLimits {
            initial: Duration::from_millis(250),
            max: Duration::from_secs(10),
            hold: Duration::from_secs(5),
        },
    }
}

/// What a collector remembers of one request.
struct Request {
    range: PositionRange,
    indexed_at: Duration,
    reported: bool,
}

#[derive(Default)]
struct Collector {
    channels: BTreeMap<ChannelId, Vec<Request>>,
    down_until: Duration,
}

/// What a POST or poll on its way will turn out to be.
enum Pending {
    Event(Event),
    Indexed {
        endpoint: usize,
        channel: ChannelId,
        id: usize,
        life: u64,
    },
    /// A poll reaches its collector, which answers what is true then.
    Asked {
        endpoint: usize,
        channel: ChannelId,
        ids: Vec<AckId>,
        faults: bool,
    },
}

struct World {
    seed: u64,
    chance: Chance,
    now: Duration,
    machine: Delivery,
    /// Messages of each frame; a message whose number is divisible by 7 makes no event.
    frames: Vec<u32>,
    collectors: Vec<Collector>,
    lives: Vec<u64>,
    pending: BTreeMap<(Duration, u64), Pending>,
    serial: u64,
    /// Truth: how many times each message is in an index.
    indexed: BTreeMap<Position, u32>,
    bodies: BTreeMap<BatchId, PositionRange>,
    posting: BTreeMap<LaneId, ChannelId>,
    doubted: BTreeSet<ChannelId>,
    polling: BTreeSet<ChannelId>,
    committed: Checkpoint,
    doubts: u32,
    /// Before this, the log has dropped what was not delivered.
    trimmed: Position,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(u128::from(seed) << 64 | u128::from(seed));
        let endpoints = 1 + usize::from(chance.up_to(Duration::from_micros(1)).as_micros() == 1);
        Self {
            seed,
            machine: Delivery::new(config(endpoints), &Checkpoint::default(), u128::from(seed)),
            chance,
            now: Duration::ZERO,
            frames: Vec::new(),
            collectors: (0..endpoints).map(|_| Collector::default()).collect(),
            lives: vec![0; endpoints],
            pending: BTreeMap::new(),
            serial: 0,
            indexed: BTreeMap::new(),
            bodies: BTreeMap::new(),
            posting: BTreeMap::new(),
            doubted: BTreeSet::new(),
            polling: BTreeSet::new(),
            committed: Checkpoint::default(),
            doubts: 0,
            trimmed: Position::ZERO,
        }
    }

    fn dice(&mut self, sides: u64) -> u64 {
        u64::try_from(self.chance.up_to(Duration::from_micros(sides - 1)).as_micros()).unwrap()
    }

    fn later(&mut self, wait: Duration, what: Pending) {
        self.serial += 1;
        self.pending.insert((self.now + wait, self.serial), what);
    }

    /// Every other world: collectors that restart all the time, come back at once, answer slowly
    /// and index fast. What a restarted collector says about a batch that a POST on its way has
    /// just brought there is mistaken for another batch here, if anywhere.
    const fn stormy(&self) -> bool {
        self.seed % 2 == 1
    }

    fn messages_before(&self, at: Position) -> u64 {
        let frames = usize::try_from(at.offset.get()).unwrap();
        self.frames[..frames].iter().map(|n| u64::from(*n)).sum::<u64>() + u64::from(at.index)
    }

    /// All positions of a range, in order.
    fn positions(&self, range: PositionRange) -> Vec<Position> {
        let (mut at, mut all) = (range.start, Vec::new());
        while at < range.end {
            all.push(at);
            at = self.after(at);
        }
        all
    }

    fn after(&self, at: Position) -> Position {
        if at.index + 1 < self.frames[usize::try_from(at.offset.get()).unwrap()] {
            Position::new(at.offset, at.index + 1)
        } else {
            Position::at(at.offset.next())
        }
    }

    fn makes_event(&self, at: Position) -> bool {
        !self.messages_before(at).is_multiple_of(7)
    }

    fn tail(&self) -> Tail {
        let end = Offset::new(self.frames.len() as u64);
        let messages = self.messages_before(Position::at(end));
        Tail { end, messages, bytes: messages * 100 }
    }

    fn read(&self, batch: BatchId, from: Position) -> ReadBatch {
        let (mut at, mut events, mut filtered) = (from, 0, 0);
        while at.offset < self.tail().end && events < 5 {
            if self.makes_event(at) {
                events += 1
            } else {
                filtered += 1
            }
            at = self.after(at);
        }
        let range = PositionRange { start: from, end: at };
        let messages = self.messages_before(at) - self.messages_before(from);
        let caught_up = (at.offset == self.tail().end).then(|| self.tail());
        let (messages_end, received) = (self.messages_before(at), UnixMicros::default());
        ReadBatch { batch, range, messages, filtered, events, messages_end, received, caught_up }
    }

    fn run(mut self) {
        let last_frame = Duration::from_secs(100);
        let mut next_frame = Duration::ZERO;
        loop {
            let (faults, stop) = (self.now < FAULTS_END, self.now >= FAULTS_END);
            if self.now >= next_frame && self.now < last_frame {
                let messages = 1 + u32::try_from(self.dice(4)).unwrap();
                self.frames.push(messages);
                next_frame = self.now + Duration::from_millis(self.dice(1500));
                self.machine.handle(self.now, Event::Tail(self.tail()));
            }
            if faults && self.dice(if self.stormy() { 40 } else { 400 }) == 0 {
                self.restart_a_collector();
            }
            if faults && self.seed.is_multiple_of(3) && self.dice(150) == 0 {
                self.drop_the_oldest();
            }
            if stop && self.committed.position == Position::at(self.tail().end) {
                break;
            }
            self.carry_out(faults);
            self.step(next_frame.min(last_frame));
            assert!(self.now < WORLD_END, "seed {}: the world never comes to rest", self.seed);
        }
        let total = self.tail().messages;
        assert_eq!(self.committed.totals.settled(), total, "seed {}: the books", self.seed);
        self.machine.handle(self.now, Event::Stop);
        while !self.machine.stopped() {
            self.carry_out(false);
            self.step(WORLD_END);
            assert!(self.now < WORLD_END, "seed {}: the stop never ends", self.seed);
        }
        if self.doubts == 0 {
            assert!(self.indexed.values().all(|n| *n == 1), "seed {}: duplicates", self.seed);
        }
    }

    /// The log is full: frames go, and with them the cursors move.
    fn drop_the_oldest(&mut self) {
        let first = self.committed.position.offset.get();
        let left = self.tail().end.get().saturating_sub(first);
        let to = Position::at(Offset::new(first + self.dice(left + 1)));
        if to > self.trimmed {
            self.trimmed = to;
            let messages_before = self.messages_before(to);
            self.tell(Event::Trimmed { to, messages_before });
        }
    }

    /// Lets time pass to the next thing that happens.
    fn step(&mut self, next_frame: Duration) {
        let mut next = self.machine.deadline().unwrap_or(WORLD_END).max(self.now);
        if let Some(((at, _), _)) = self.pending.first_key_value() {
            next = next.min(*at);
        }
        for known in [next_frame, FAULTS_END] {
            next = if known > self.now { next.min(known) } else { next };
        }
        // A deadline that does not move time must at least make the machine act.
        if next == self.now && self.pending.first_key_value().is_none_or(|((at, _), _)| *at > next)
        {
            next += Duration::from_micros(1);
        }
        self.now = next;
        match self.pending.first_entry().filter(|entry| entry.key().0 <= next) {
            Some(entry) => match entry.remove() {
                Pending::Event(event) => self.tell(event),
                Pending::Indexed { endpoint, channel, id, life } => {
                    self.index(endpoint, channel, id, life);
                }
                Pending::Asked { endpoint, channel, ids, faults } => {
                    let outcome = self.answer_poll(endpoint, channel, &ids, faults);
                    let wait = Duration::from_millis(1 + self.dice(40));
                    self.later(wait, Pending::Event(Event::Polled { channel, outcome }));
                }
            },
            None => self.tell(Event::Tick),
        }
    }

    fn tell(&mut self, event: Event) {
        match &event {
            Event::Polled { channel, outcome } => {
                self.polling.remove(channel);
                if *outcome == PollOutcome::Failed {
                    self.doubted.insert(*channel);
                }
            }
            Event::Posted { lane, outcome } => {
                let channel = self.posting.remove(lane).expect("it was posting");
                match outcome {
                    PostOutcome::Accepted { .. } | PostOutcome::Busy { .. } => {}
                    PostOutcome::Doubt { .. } => {
                        self.doubts += 1;
                        self.doubted.insert(channel);
                    }
                    PostOutcome::Unreachable { .. } | PostOutcome::Fault(_) => {
                        self.doubted.insert(channel);
                    }
                }
            }
            Event::Tail(_) | Event::Read(_) | Event::Encoded(_) => {}
            Event::Trimmed { .. } | Event::Lost { .. } => {}
            Event::Committed | Event::Tick | Event::Stop => {}
        }
        self.machine.handle(self.now, event);
        let status = self.machine.status();
        assert!(status.batches_unsettled <= 12, "seed {}: window", self.seed);
        assert_eq!(status.difference(&self.tail()), 0, "seed {}: the books", self.seed);
        assert!(self.bodies.len() <= 2 * 4 + 1, "seed {}: {} bodies", self.seed, self.bodies.len());
    }

    /// A request reaches the index, unless its collector died before.
    fn index(&mut self, endpoint: usize, channel: ChannelId, id: usize, life: u64) {
        if self.lives[endpoint] != life {
            return;
        }
        let range = self.collectors[endpoint].channels[&channel][id].range;
        for at in self.positions(range) {
            if self.makes_event(at) {
                *self.indexed.entry(at).or_default() += 1;
            }
        }
    }

    fn restart_a_collector(&mut self) {
        let endpoint = usize::try_from(self.dice(self.collectors.len() as u64)).unwrap();
        let wait = Duration::from_millis(if self.stormy() { 0 } else { self.dice(8000) });
        self.collectors[endpoint].channels.clear();
        self.collectors[endpoint].down_until = self.now + wait;
        self.lives[endpoint] += 1;
        self.doubts += 1;
    }

    fn carry_out(&mut self, faults: bool) {
        while let Some(action) = self.machine.poll() {
            match action {
                Action::Read { batch, from } => {
                    let read = self.read(batch, from);
                    assert!(self.bodies.insert(batch, read.range).is_none());
                    self.later(Duration::from_micros(300), Pending::Event(Event::Read(read)));
                }
                Action::Encode { batch, range } => {
                    assert!(self.bodies.insert(batch, range).is_none());
                    let event = Event::Encoded(batch);
                    self.later(Duration::from_micros(300), Pending::Event(event));
                }
                Action::Send { lane, endpoint, channel, batch } => {
                    assert!(!self.doubted.contains(&channel), "seed {}: doubt", self.seed);
                    let alone = self.posting.values().all(|other| *other != channel);
                    assert!(alone, "seed {}: two POSTs on a channel", self.seed);
                    assert!(self.posting.insert(lane, channel).is_none());
                    let (wait, outcome) = self.post(endpoint.get(), channel, batch, faults);
                    self.later(wait, Pending::Event(Event::Posted { lane, outcome }));
                }
                Action::Release(batch) => {
                    self.bodies.remove(&batch);
                }
                Action::Poll { endpoint, channel, ids } => {
                    assert!(self.polling.insert(channel), "seed {}: two polls", self.seed);
                    let endpoint = endpoint.get();
                    let wait =
                        Duration::from_millis(if self.stormy() { self.dice(300) } else { 1 });
                    self.later(wait, Pending::Asked { endpoint, channel, ids, faults });
                }
                Action::Commit(checkpoint) => self.commit(checkpoint),
                Action::Note(_) => {}
            }
        }
    }

    /// Invariant 1: whatever lies below a checkpoint is in an index.
    fn commit(&mut self, checkpoint: Checkpoint) {
        assert!(checkpoint.position >= self.committed.position, "seed {}: back", self.seed);
        let range = PositionRange { start: self.committed.position, end: checkpoint.position };
        for at in self.positions(range) {
            assert!(
                at < self.trimmed || !self.makes_event(at) || self.indexed.contains_key(&at),
                "seed {}: the checkpoint {} passed {at}, which is in no index",
                self.seed,
                checkpoint.position,
            );
        }
        assert_eq!(
            checkpoint.totals.settled(),
            self.messages_before(checkpoint.position),
            "seed {}: the books",
            self.seed
        );
        self.committed = checkpoint;
        self.later(Duration::from_millis(5), Pending::Event(Event::Committed));
    }

    fn post(
        &mut self,
        endpoint: usize,
        channel: ChannelId,
        batch: BatchId,
        faults: bool,
    ) -> (Duration, PostOutcome) {
        let range = *self.bodies.get(&batch).expect("a body is kept until it is released");
        let wait = Duration::from_millis(1 + self.dice(if self.stormy() { 900 } else { 60 }));
        if self.collectors[endpoint].down_until > self.now {
            return (wait, PostOutcome::Unreachable { after: None });
        }
        let fault = if faults { self.dice(14) } else { u64::MAX };
        match fault {
            0 => return (wait, PostOutcome::Busy { after: Some(Duration::from_millis(700)) }),
            1 => return (wait, PostOutcome::Fault(HoldReason::new("invalid token"))),
            // Not taken, and the connection breaks.
            2 => return (wait, PostOutcome::Doubt { after: None }),
            _ => {}
        }
        let slow = self.dice(30) == 0 && faults;
        let usual = if self.stormy() { 1 + self.dice(400) } else { 50 + self.dice(3000) };
        let delay = Duration::from_millis(if slow { 25_000 } else { usual });
        let requests = self.collectors[endpoint].channels.entry(channel).or_default();
        let id = requests.len();
        requests.push(Request { range, indexed_at: self.now + delay, reported: false });
        let life = self.lives[endpoint];
        self.later(delay, Pending::Indexed { endpoint, channel, id, life });
        if fault == 3 {
            // Taken, but the answer is lost.
            return (wait, PostOutcome::Doubt { after: None });
        }
        if slow {
            self.doubts += 1;
        }
        (wait, PostOutcome::Accepted { ack: Some(AckId::new(id as u64)), pressed: fault == 4 })
    }

    fn answer_poll(
        &mut self,
        endpoint: usize,
        channel: ChannelId,
        ids: &[AckId],
        faults: bool,
    ) -> PollOutcome {
        assert!(!ids.is_empty(), "an empty question is illegal");
        if self.collectors[endpoint].down_until > self.now {
            return PollOutcome::Failed;
        }
        let now = self.now;
        let mut acked = Vec::new();
        if let Some(requests) = self.collectors[endpoint].channels.get_mut(&channel) {
            for id in ids {
                let request = requests.get_mut(usize::try_from(id.get()).unwrap());
                if let Some(request) = request
                    && request.indexed_at < now
                    && !request.reported
                {
                    request.reported = true;
                    acked.push(*id);
                }
            }
        }
        match if faults { self.dice(25) } else { u64::MAX } {
            0 => {
                // Consumed, but the answer is lost: those ids will never be true again.
                self.doubts += 1;
                PollOutcome::Failed
            }
            1 => {
                // An answer about an id nobody asked for; it may be of a batch sent meanwhile.
                acked.extend(ids.last().map(|last| AckId::new(last.get() + 1)));
                PollOutcome::Answered { acked }
            }
            _ => PollOutcome::Answered { acked },
        }
    }
}

#[test]
fn in_every_world_nothing_is_lost_and_the_books_balance() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    if let Some(seed) = number("FOREBAY_SIM_SEED") {
        return World::new(seed).run();
    }
    for seed in 0..number("FOREBAY_SIM_WORLDS").unwrap_or(1000) {
        let world = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(world.is_ok(), "replay with FOREBAY_SIM_SEED={seed}");
    }
}
