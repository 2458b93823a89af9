//! Seeded worlds: a log that grows, with events in it that no collector takes; collectors that are
//! busy, die, forget, lie, lose answers, acknowledge too late and refuse everything for a while;
//! proxies that lose them; hours in which nothing is sent and channels are forgotten; processes
//! that are killed and go on from their last durable checkpoint; a log that is full and drops its oldest
//! frames. Time is virtual, the truth is known, and every promise is checked at every step:
//!
//! 1. every message is indexed in the end, or in the dead letters, or makes no event, or the log has
//!    dropped it;
//! 2. no checkpoint passes one that is neither;
//! 3. no acknowledgement of another epoch settles anything (that follows from 2, as collectors
//!    here count from 0 again when they restart);
//! 4. without an ambiguous fault nothing is indexed twice;
//! 5. window and bodies are bounded;
//! 6. the dead letters hold exactly the poison, whatever else goes wrong.
//!
//! `FOREBAY_SIM_SEED=… cargo test simulation` replays one world, `FOREBAY_SIM_WORLDS=…` sets how
//! many run.

mod acts;
mod collectors;
mod faults;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use super::chance::Chance;
use super::model::Log;
use super::*;
use crate::record::Checkpoint;
use crate::types::{ByteSize, Offset};

const FAULTS_END: Duration = Duration::from_secs(120);
const WORLD_END: Duration = Duration::from_secs(4000);

/// What may go wrong in a world.
#[derive(Clone, Copy)]
struct Plan {
    /// Collectors fail in all ways.
    faults: bool,
    /// The process is killed now and then.
    kills: bool,
    /// How long old channels are asked after a start.
    recall: Duration,
    /// How long acknowledgements take, if not as usual.
    acks: Option<Duration>,
}

const ALL: Plan = Plan { faults: true, kills: true, recall: Duration::from_secs(4), acks: None };

/// A collector forgets a channel that nobody uses for so long. Splunk's own time is twice the
/// default of `ack_timeout`, too.
const IDLE: Duration = Duration::from_secs(40);

fn config(seed: u64, endpoints: usize, recall: Duration) -> Config {
    Config {
        endpoints: NonZeroUsize::new(endpoints).unwrap(),
        lanes_per_endpoint: NonZeroUsize::new(2).unwrap(),
        max_lanes_per_endpoint: NonZeroUsize::new(4).unwrap(),
        window: NonZeroUsize::new(12).unwrap(),
        batch: BatchLimits {
            max_bytes: ByteSize::bytes(1000),
            max_events: NonZeroUsize::new(5).unwrap(),
            linger: Duration::from_millis(250),
        },
        acknowledgement: if seed % 4 == 2 {
            Acknowledgement::Auto
        } else {
            Acknowledgement::Required
        },
        ack_timeout: Duration::from_secs(20),
        recall,
        longest_poll: Duration::from_secs(10),
        believe_refusals: false,
        retry: RetryLimits {
            initial: Duration::from_millis(250),
            max: Duration::from_secs(10),
            hold: Duration::from_secs(5),
        },
    }
}

/// What a collector remembers of one request.
struct Request {
    indexed_at: Duration,
    reported: bool,
}

#[derive(Default)]
struct Collector {
    channels: BTreeMap<ChannelId, Vec<Request>>,
    /// When each channel was posted on or asked about last.
    used: BTreeMap<ChannelId, Duration>,
    down_until: Duration,
}

/// What a POST or poll on its way will turn out to be.
enum Pending {
    /// Something the process is told, unless it has died meanwhile.
    Event(Event),
    Indexed {
        endpoint: usize,
        events: Vec<Position>,
        life: u64,
    },
    /// A POST reaches its collector.
    Arrives {
        lane: LaneId,
        endpoint: usize,
        channel: ChannelId,
        range: PositionRange,
    },
    /// A poll reaches its collector, which answers what is true then.
    Asked {
        endpoint: usize,
        channel: ChannelId,
        ids: Vec<AckId>,
    },
}

struct World {
    seed: u64,
    plan: Plan,
    endpoints: usize,
    chance: Chance,
    now: Duration,
    machine: Delivery,
    log: Log,
    collectors: Vec<Collector>,
    lives: Vec<u64>,
    /// By time, and with the process each is for.
    pending: BTreeMap<(Duration, u64), (u64, Pending)>,
    /// Which process this is.
    process: u64,
    kills: u64,
    serial: u64,
    /// Truth: how many times each message is in an index.
    indexed: BTreeMap<Position, u32>,
    bodies: BTreeMap<BatchId, PositionRange>,
    posting: BTreeMap<LaneId, ChannelId>,
    doubted: BTreeSet<ChannelId>,
    /// Nothing is sent or asked there any more.
    closed: BTreeSet<ChannelId>,
    polling: BTreeSet<ChannelId>,
    committed: Checkpoint,
    /// What a process that starts now finds.
    durable: Checkpoint,
    /// Events that no collector takes.
    poison: BTreeSet<Position>,
    buried: BTreeSet<Position>,
    /// Channels of processes that have died.
    old: BTreeSet<ChannelId>,
    channels: BTreeSet<ChannelId>,
    doubts: u32,
    /// Before this, the log has dropped what was not delivered.
    trimmed: Position,
}

impl World {
    fn new(seed: u64, plan: Plan) -> Self {
        let mut chance = Chance::new(u128::from(seed) << 64 | u128::from(seed));
        let endpoints = 1 + usize::from(chance.up_to(Duration::from_micros(1)).as_micros() == 1);
        let config = config(seed, endpoints, plan.recall);
        Self {
            seed,
            plan,
            endpoints,
            machine: Delivery::new(config, &Checkpoint::default(), u128::from(seed)),
            chance,
            now: Duration::ZERO,
            log: Log::default(),
            collectors: (0..endpoints).map(|_| Collector::default()).collect(),
            lives: vec![0; endpoints],
            pending: BTreeMap::new(),
            process: 0,
            kills: 0,
            serial: 0,
            indexed: BTreeMap::new(),
            bodies: BTreeMap::new(),
            posting: BTreeMap::new(),
            doubted: BTreeSet::new(),
            closed: BTreeSet::new(),
            polling: BTreeSet::new(),
            committed: Checkpoint::default(),
            durable: Checkpoint::default(),
            poison: BTreeSet::new(),
            buried: BTreeSet::new(),
            old: BTreeSet::new(),
            channels: BTreeSet::new(),
            doubts: 0,
            trimmed: Position::ZERO,
        }
    }

    fn dice(&mut self, sides: u64) -> u64 {
        u64::try_from(self.chance.up_to(Duration::from_micros(sides - 1)).as_micros()).unwrap()
    }

    fn later(&mut self, wait: Duration, what: Pending) {
        self.serial += 1;
        self.pending.insert((self.now + wait, self.serial), (self.process, what));
    }

    /// The log grows by a frame.
    fn grow(&mut self, poisonous: bool) {
        let offset = Offset::new(self.log.frames() as u64);
        let messages = 1 + u32::try_from(self.dice(4)).unwrap();
        self.log.push(messages);
        for at in (0..messages).map(|index| Position::new(offset, index)) {
            if poisonous && self.log.makes_event(at) && self.dice(14) == 0 {
                self.poison.insert(at);
            }
        }
        self.machine.handle(self.now, Event::Tail(self.log.tail()));
    }

    fn run(mut self) -> (u64, u64) {
        let last_frame = Duration::from_secs(100);
        let (mut next_frame, mut goal) = (Duration::ZERO, None);
        loop {
            if self.now >= next_frame {
                // At the end something is to come that can be taken: an event that was refused
                // waits for that.
                let early = self.now < last_frame;
                self.grow(early && !self.seed.is_multiple_of(3));
                let quiet = self.seed % 4 == 2 && self.dice(30) == 0;
                let wait = match early {
                    // Longer than a channel lives that nobody uses.
                    true if quiet => 45_000 + self.dice(20_000),
                    true => self.dice(1500),
                    false => 20_000,
                };
                next_frame = self.now + Duration::from_millis(wait);
            }
            if self.faulty() && self.dice(if self.stormy() { 40 } else { 400 }) == 0 {
                self.restart_a_collector();
            }
            if self.plan.kills && self.now < FAULTS_END && self.dice(250) == 0 {
                self.kill();
            }
            if self.faulty() && self.fills_up() && self.dice(150) == 0 {
                self.drop_the_oldest();
            }
            if self.seed % 7 == 6 {
                self.pause_or_resume();
            }
            if self.now >= FAULTS_END {
                // Where acknowledgements are always late, the tail is never reached.
                let tail = Position::at(self.log.tail().end);
                let goal = *goal.get_or_insert(tail);
                let wanted = if self.plan.acks.is_some() { goal } else { tail };
                if self.committed.position >= wanted {
                    break;
                }
            }
            self.carry_out();
            self.step(next_frame);
            let (seed, status) = (self.seed, || self.machine.status());
            assert!(self.now < WORLD_END, "seed {seed}: it never comes to rest: {:?}", status());
        }
        let total = self.log.messages_before(self.committed.position);
        assert_eq!(self.committed.totals.settled(), total, "seed {}: the books", self.seed);
        let dead = self.committed.totals.dead_lettered;
        // A letter may become durable in the moment in which the log drops its message.
        let letters = self.buried.len() as u64;
        assert!(dead <= letters, "seed {}: {dead} of {letters} dead letters", self.seed);
        let late = self.buried.iter().filter(|at| **at < self.trimmed).count() as u64;
        assert!(letters <= dead + late, "seed {}: {dead} of {letters} dead letters", self.seed);
        let is_left = |at: &&Position| **at >= self.trimmed || self.buried.contains(*at);
        let poison: BTreeSet<_> = self.poison.iter().filter(is_left).copied().collect();
        assert_eq!(self.buried, poison, "seed {}: the dead letters", self.seed);
        let dropped = self.committed.totals.dropped;
        let before = self.log.messages_before(self.trimmed);
        assert!(dropped <= before, "seed {}: {dropped} of {before} dropped", self.seed);
        self.machine.handle(self.now, Event::Stop);
        while !self.machine.stopped() {
            self.carry_out();
            self.step(WORLD_END);
            assert!(self.now < WORLD_END, "seed {}: the stop never ends", self.seed);
        }
        let duplicates = self.indexed.values().map(|n| u64::from(n - 1)).sum();
        if self.doubts == 0 {
            assert_eq!(duplicates, 0, "seed {}: duplicates", self.seed);
        }
        (duplicates, self.kills)
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
        let Some(entry) = self.pending.first_entry().filter(|entry| entry.key().0 <= next) else {
            return self.tell(Event::Tick);
        };
        let (process, what) = entry.remove();
        let alive = process == self.process;
        match what {
            Pending::Event(event) if alive => self.tell(event),
            Pending::Event(_) => {}
            Pending::Indexed { endpoint, events, life } => self.index(endpoint, events, life),
            Pending::Arrives { lane, endpoint, channel, range } => {
                let outcome = self.arrive(endpoint, channel, range);
                let wait = Duration::from_millis(self.dice(if self.stormy() { 500 } else { 30 }));
                if alive {
                    self.later(wait, Pending::Event(Event::Posted { lane, outcome }));
                }
            }
            Pending::Asked { endpoint, channel, ids } => {
                let outcome = self.answer_poll(endpoint, channel, &ids);
                let wait = Duration::from_millis(1 + self.dice(40));
                if alive {
                    self.later(wait, Pending::Event(Event::Polled { channel, outcome }));
                }
            }
        }
    }

    fn tell(&mut self, event: Event) {
        match &event {
            Event::Polled { channel, outcome } => {
                self.polling.remove(channel);
                if *outcome == PollOutcome::Severed {
                    self.doubts += 1;
                }
                if matches!(outcome, PollOutcome::Failed | PollOutcome::Severed) {
                    self.doubted.insert(*channel);
                }
            }
            Event::Posted { lane, outcome } => {
                let channel = self.posting.remove(lane).expect("it was posting");
                match outcome {
                    PostOutcome::Refused { bad, ack: None, .. } if *bad != Some(0) => {
                        self.doubted.insert(channel);
                    }
                    PostOutcome::Accepted { .. }
                    | PostOutcome::Busy { .. }
                    | PostOutcome::Refused { .. }
                    | PostOutcome::TooLarge { .. } => {}
                    PostOutcome::Doubt { .. }
                    | PostOutcome::Severed { .. }
                    | PostOutcome::Strange(_) => {
                        self.doubts += 1;
                        self.doubted.insert(channel);
                    }
                    // This batch was not taken; those before it on the channel are in doubt.
                    PostOutcome::Unreachable { .. }
                    | PostOutcome::Missing { .. }
                    | PostOutcome::Fault(_) => {
                        self.doubts += 1;
                        self.doubted.insert(channel);
                    }
                }
            }
            Event::Committed => self.durable = self.committed.clone(),
            Event::Tail(_) | Event::Read(_) | Event::Encoded { .. } | Event::Split { .. } => {}
            Event::DeadLettered(_) | Event::DeadLettersFull(_) | Event::Changed(_) => {}
            Event::Trimmed { .. } | Event::Lost { .. } | Event::Preflight { .. } => {}
            Event::Tick | Event::Stop | Event::Pause | Event::Resume | Event::Save => {}
        }
        self.machine.handle(self.now, event);
        let status = self.machine.status();
        let unsettled = status.batches_unsettled;
        assert!(unsettled <= 12 * 8, "seed {}: window {unsettled}", self.seed);
        assert_eq!(status.difference(&self.log.tail()), 0, "seed {}: the books", self.seed);
        assert_eq!(
            self.machine.lost_at(),
            acts::lost_at(&self.machine),
            "seed {}: who waits longest",
            self.seed
        );
        let bodies = self.bodies.len();
        assert!(bodies <= 2 * 4 * self.endpoints + 1, "seed {}: {bodies} bodies", self.seed);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn in_every_world_nothing_is_lost_and_the_books_balance() {
    if let Some(seed) = number("FOREBAY_SIM_SEED") {
        World::new(seed, ALL).run();
        return;
    }
    for seed in 0..number("FOREBAY_SIM_WORLDS").unwrap_or(1000) {
        let world = std::panic::catch_unwind(|| World::new(seed, ALL).run());
        assert!(world.is_ok(), "replay with FOREBAY_SIM_SEED={seed}");
    }
}

/// Without faults a partial rejection duplicates nothing, however many events are poison.
#[test]
fn poison_alone_duplicates_nothing() {
    let plan = Plan { faults: false, kills: false, ..ALL };
    for seed in 0..100 {
        assert_eq!(World::new(seed, plan).run(), (0, 0), "seed {seed}");
    }
}

/// Acknowledgements that take several times as long as they are waited for: delivery gets on, and
/// does not send everything again and again.
#[test]
fn acknowledgements_that_always_come_late_delay_delivery_and_double_little() {
    let (mut duplicates, mut events) = (0, 0);
    for (seed, acks) in (0..60).zip([25, 50, 90, 200].into_iter().cycle()) {
        let acks = Some(Duration::from_secs(acks));
        let plan = Plan { faults: false, kills: false, acks, ..ALL };
        let world = World::new(seed, plan);
        let (twice, _) = world.run();
        duplicates += twice;
        events += 200;
    }
    println!("{duplicates} duplicates of {events} events");
    assert!(duplicates > 0, "they do come late");
    assert!(duplicates < events / 4, "{duplicates} of {events}");
}

/// What it saves to ask the last process's channels: events that are indexed twice for each kill.
#[test]
fn old_channels_that_are_asked_save_most_duplicates_of_a_kill() {
    let per_kill = |recall| {
        let (mut duplicates, mut kills) = (0, 0);
        for seed in 0..100 {
            let plan = Plan { faults: false, kills: true, recall, ..ALL };
            let world = World::new(seed, plan).run();
            duplicates += world.0;
            kills += world.1;
        }
        assert!(kills > 100, "{kills}");
        duplicates as f64 / kills as f64
    };
    let (without, with) = (per_kill(Duration::ZERO), per_kill(Duration::from_secs(4)));
    println!("duplicates per kill: {without:.2} without asking old channels, {with:.2} with");
    // About a half; how many are outstanding at a kill depends on how soon questions are put.
    assert!(with < without * 0.6, "{with} of {without}");
}
