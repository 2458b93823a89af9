//! The machine: what it holds, what it reads, and when it saves. What goes out is in `dispatch.rs`,
//! how answers are judged in `settle.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::record::Checkpoint;
use crate::types::{BatchId, ChannelId, Position, Tail, UnixMicros};

use super::chance::Chance;
use super::channel::Channel;
use super::endpoint::Endpoint;
use super::lanes::Lanes;
use super::patience::Patience;
use super::refuse::GROWTH;
use super::window::{Batch, Settled, Stage, Window};
use super::{Action, Config, EndpointId, Event, ReadBatch};

/// A checkpoint is written at most this often; the log's next group carries it.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);

/// While events are refused, the window may hold this many batches, however small it is meant to be:
/// what proves that others are taken has to be read. Their bodies are bounded elsewhere.
pub(super) const LEAST_GROWTH: usize = 64;

/// One destination's delivery.
#[derive(Debug)]
pub struct Delivery {
    pub(super) config: Config,
    pub(super) chance: Chance,
    pub(super) window: Window,
    /// Batches that wait for a lane: what was refused least first, and then the oldest.
    pub(super) queue: BTreeSet<(u32, Position, BatchId)>,
    /// Batches that wait for something else than a lane: suspects, and dead letters without room.
    pub(super) waiting: BTreeSet<BatchId>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) lanes: Vec<Lane>,
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    pub(super) actions: VecDeque<Action>,
    /// Where the next read begins.
    pub(super) read: Position,
    /// Messages in the log before `read`, as the log has it.
    pub(super) messages_read: u64,
    /// The batch that the read on its way is for.
    pub(super) reading: Option<BatchId>,
    tail: Tail,
    /// The tail at the last read that reached it; none while there is known to be more.
    caught_up: Option<Tail>,
    /// When the first message that is not read was seen.
    waiting_since: Option<Duration>,
    /// Messages in the log before the destination's origin.
    pub(super) origin_messages: u64,
    committed: Position,
    committing: Option<Position>,
    commit_not_before: Duration,
    /// Something beyond the cursor is to be saved.
    pub(super) changed: bool,
    /// How many POSTs were accepted, wholly or in part.
    pub(super) accepted: u64,
    /// How many POSTs were refused, and 1: what was sent before a refusal and what after.
    pub(super) marks: u64,
    /// Until when the last process's channels are asked.
    pub(super) recall_until: Option<Duration>,
    started: bool,
    pub(super) stopping: bool,
    /// An operator wants nothing to be sent.
    pub(super) paused: bool,
    /// The time of the last event.
    now: Duration,
    pub(super) next_lane: usize,
}

/// One sequence of POSTs.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) endpoint: EndpointId,
    pub(super) channel: Option<ChannelId>,
    pub(super) posting: Option<Posting>,
}

/// A POST on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posting {
    pub(super) batch: BatchId,
    /// The channel it is on, which may have been retired meanwhile.
    pub(super) channel: ChannelId,
    /// When it left.
    pub(super) since: Duration,
    /// The machine's count of refusals then.
    pub(super) mark: u64,
    /// Whether it was known then that a refusal is the event's own fault.
    pub(super) proof: bool,
    /// How many rests and holds the endpoint had had then.
    pub(super) rests: u64,
}

impl Delivery {
    /// Goes on from a checkpoint. `seed` is the machine's only source of chance.
    #[must_use]
    pub fn new(config: Config, checkpoint: &Checkpoint, seed: u128) -> Self {
        let endpoints = config.endpoints.get();
        let lane = |i| Lane { endpoint: EndpointId(i % endpoints), channel: None, posting: None };
        let lanes = Lanes::new(config.lanes_per_endpoint, config.max_lanes_per_endpoint);
        let count = config.max_lanes_per_endpoint.max(config.lanes_per_endpoint).get();
        let mut machine = Self {
            chance: Chance::new(seed),
            window: Window::new(checkpoint.position, checkpoint.totals),
            queue: BTreeSet::new(),
            waiting: BTreeSet::new(),
            endpoints: (0..endpoints)
                .map(|_| Endpoint::new(lanes.clone(), Patience::new(config.ack_timeout)))
                .collect(),
            lanes: (0..endpoints * count).map(lane).collect(),
            channels: BTreeMap::new(),
            actions: VecDeque::new(),
            read: checkpoint.position,
            messages_read: checkpoint.origin_messages + checkpoint.totals.settled(),
            reading: None,
            tail: Tail::default(),
            caught_up: None,
            waiting_since: None,
            origin_messages: checkpoint.origin_messages,
            committed: checkpoint.position,
            committing: None,
            commit_not_before: Duration::ZERO,
            changed: false,
            accepted: 0,
            marks: 1,
            recall_until: None,
            started: false,
            stopping: false,
            paused: checkpoint.paused,
            now: Duration::ZERO,
            next_lane: 0,
            config,
        };
        machine.restore(checkpoint);
        machine
    }

    /// What lies before `end` need not be read; `messages` are in the log before it.
    pub(super) const fn read_to(&mut self, end: Position, messages: u64) {
        self.read = end;
        self.messages_read = messages;
    }

    /// Takes in what happened. `now` never goes back.
    pub fn handle(&mut self, now: Duration, event: Event) {
        self.now = now;
        if !std::mem::replace(&mut self.started, true) && !self.undecided() {
            self.start_recall(now);
        }
        match event {
            Event::Tail(tail) => self.tail = tail,
            Event::Read(batch) => self.on_read(batch),
            Event::Encoded { batch, events, filtered } => {
                self.on_encoded(batch, events, filtered);
            }
            Event::Split { batch, cut, parts } => self.on_split(now, batch, cut, &parts),
            Event::DeadLettered(batch) => self.on_dead_lettered(batch),
            Event::DeadLettersFull(batch) => self.on_dead_letters_full(now, batch),
            Event::Changed(batch) => self.on_changed(batch),
            Event::Posted { lane, outcome } => self.on_posted(now, lane, outcome),
            Event::Polled { channel, outcome } => self.on_polled(now, channel, outcome),
            Event::Preflight { endpoint, said } => self.on_preflight(now, endpoint, said),
            Event::Trimmed { to, messages_before } => self.on_trimmed(to, messages_before),
            Event::Lost { batch, range, messages_end } => self.on_lost(batch, range, messages_end),
            Event::Committed => {
                self.committed = self.committing.take().unwrap_or(self.committed);
                self.commit_not_before = now + COMMIT_INTERVAL;
            }
            Event::Pause => self.pause(true),
            Event::Resume => self.pause(false),
            // Whoever asked waits for the next checkpoint, and so there is one.
            Event::Save => self.changed = true,
            Event::Tick => {}
            Event::Stop => self.on_stop(now),
        }
        self.decide(now);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle`] with [`Event::Tick`], unless something happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let linger = self
            .waiting_since
            .filter(|_| self.may_read())
            .map(|since| since + self.config.batch.linger);
        let wakes = self
            .endpoints
            .iter()
            .filter(|endpoint| {
                let sends = !self.queue.is_empty() && self.sends();
                let asks = self.undecided() && !self.stopping && !endpoint.asking;
                !endpoint.is_tried() && (sends || asks)
            })
            .filter_map(Endpoint::wakes)
            // An endpoint that may be tried already waits for something else: a body, or a poll.
            // Naming the past would turn the sink round and round until that has come.
            .filter(|until| *until > self.now);
        let polls = self.channels.values().filter_map(Channel::poll_due);
        let polls = polls.filter(|_| !self.undecided());
        let commit = self.commit_due().then_some(self.commit_not_before);
        let waits = self.waits_until().filter(|_| !self.stopping);
        let all = linger.into_iter().chain(wakes).chain(polls).chain(commit);
        all.chain(self.lost_at()).chain(waits).chain(self.recall_until).min()
    }

    /// Whether a stop is complete: nothing is in flight and the checkpoint is durable.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopping && self.nothing_in_flight() && self.committing.is_none() && !self.commit_due()
    }

    /// What the checkpoint would say now. `saved` and `endpoints` are left empty: the sink knows
    /// the time of day, and the collectors' names.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            position: self.window.settled(),
            totals: self.window.totals(),
            origin_messages: self.origin_messages,
            saved: UnixMicros::default(),
            window: self.window_to_save(),
            endpoints: Vec::new(),
            paused: self.paused,
        }
    }

    pub(super) const fn origin_messages(&self) -> u64 {
        self.origin_messages
    }

    /// The position up to which the log has been read.
    #[must_use]
    pub const fn read_position(&self) -> Position {
        self.read
    }

    fn on_read(&mut self, read: ReadBatch) {
        let wanted = self.reading == Some(read.batch);
        if wanted {
            self.reading = None;
        }
        let usable = wanted && !self.stopping && read.range.start == self.read;
        if !usable || read.range.is_empty() {
            // Never sent: it is read again, by this process or the next.
            self.actions.push_back(Action::Release(read.batch));
            return;
        }
        self.caught_up = read.caught_up;
        self.waiting_since = None;
        self.read_to(read.range.end, read.messages_end);
        let (id, has_events) = (read.batch, read.events > 0);
        let settled = Stage::Settled(Settled::Acknowledged);
        self.window.insert(
            id,
            Batch {
                range: read.range,
                messages: read.messages,
                filtered: read.filtered,
                events: read.events,
                received: read.received,
                stage: if has_events { Stage::Ready } else { settled },
                refused: 0,
                plain: false,
                suspect: None,
                refusal: None,
            },
        );
        if has_events {
            self.enqueue(id);
        } else {
            self.actions.push_back(Action::Release(id));
        }
    }

    /// A body is there again. The configuration may have changed since the batch was made, and
    /// with it what makes an event.
    fn on_encoded(&mut self, id: BatchId, events: u64, filtered: u64) {
        match self.window.get_mut(id) {
            Some(batch) if batch.stage == Stage::Fetching => {
                if batch.events != events {
                    batch.is_innocent();
                }
                batch.events = events;
                batch.filtered = filtered.min(batch.messages);
                if events > 0 {
                    batch.stage = Stage::Ready;
                    return;
                }
                self.dequeue(id);
                self.window.settle(id, Settled::Acknowledged);
            }
            _ => {}
        }
        self.actions.push_back(Action::Release(id));
    }

    fn on_stop(&mut self, now: Duration) {
        self.stopping = true;
        for channel in self.channels.values_mut() {
            channel.hurry(now);
        }
        // The next start sends it. What is settled beyond it is saved, and not sent again.
        for (_, _, id) in std::mem::take(&mut self.queue) {
            if let Some(batch) = self.window.get_mut(id) {
                batch.stage = Stage::Faded;
            }
            self.actions.push_back(Action::Release(id));
        }
    }

    /// Sends nothing more, or goes on. It is saved in either case: whoever asked waits for that.
    const fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.changed = true;
    }

    /// Whether anything may be read and sent.
    pub(super) const fn sends(&self) -> bool {
        !self.stopping && !self.paused && !self.undecided()
    }

    /// Puts a batch among those that wait for a lane.
    pub(super) fn enqueue(&mut self, id: BatchId) {
        if let Some(batch) = self.window.get(id) {
            self.queue.insert((batch.refused, batch.range.start, id));
        }
    }

    pub(super) fn dequeue(&mut self, id: BatchId) {
        if let Some(batch) = self.window.get(id) {
            self.queue.remove(&(batch.refused, batch.range.start, id));
        }
    }

    /// Whether waiting would save nothing: no POST, no acknowledgement and no dead letter is
    /// outstanding. A batch that was refused need not hold up a stop; the next start sends it.
    fn nothing_in_flight(&self) -> bool {
        self.window.iter().all(|(_, batch)| match batch.stage {
            Stage::Ready
            | Stage::Faded
            | Stage::Fetching
            | Stage::Suspect { .. }
            | Stage::Unburied { .. }
            | Stage::Settled(_) => true,
            // Of the last process, and nobody is asked yet.
            Stage::Unacked { .. } => self.undecided(),
            Stage::Posting(_) | Stage::Splitting { .. } | Stage::Burying => false,
        })
    }

    /// Everything that may have become possible.
    fn decide(&mut self, now: Duration) {
        self.give_up_on_lost_batches(now);
        self.end_recall(now);
        self.try_the_refused_again(now);
        self.preflight(now);
        self.ask(now);
        self.send(now);
        self.fetch();
        self.read_on(now);
        // After a stop the interval does not matter: the last commit ends the wait.
        if self.commit_due() && (self.stopping || now >= self.commit_not_before) {
            self.committing = Some(self.window.settled());
            self.changed = false;
            self.actions.push_back(Action::Commit(self.checkpoint()));
        }
    }

    fn commit_due(&self) -> bool {
        self.committing.is_none() && (self.changed || self.committed != self.window.settled())
    }

    /// Whether the window takes another batch. While an event at its front is refused, it waits for
    /// proof that others are taken: those may have to be read first. While the last process's
    /// channels are asked, its batches must not keep new ones waiting: what that process was told
    /// and did not write down, nobody is told again, and the front waits to the end of the recall.
    fn has_room(&self) -> bool {
        let window = self.config.window.get();
        let refused = self.queue.first().is_some_and(|(refused, _, _)| *refused > 0);
        if self.waiting.is_empty() && !refused && self.recall_until.is_none() {
            return self.window.len() < window;
        }
        // What is settled behind such an event may fill the window, and has proven nothing if it was
        // taken before the event was refused: then more is read, or nothing would be taken any more.
        // (The simulation found this.)
        let stuck = || self.window.iter().all(|(_, batch)| batch.is_settled_or_refused());
        let most = window.saturating_mul(GROWTH + 2).max(LEAST_GROWTH);
        let long = self.window.len() >= most;
        let most = if long && stuck() { most.saturating_add(window) } else { most };
        self.window.len() < most && self.unsettled_and_not_waiting() < window
    }

    /// Whether there may be one more body. Bodies of what was refused must not keep out the one
    /// that is taken, and that proves something.
    fn has_room_for_a_body(&self) -> bool {
        let refused = self.queue.first().is_some_and(|(refused, _, _)| *refused > 0);
        self.bodies_waiting() < self.bodies_allowed() + usize::from(refused)
    }

    fn may_read(&self) -> bool {
        self.reading.is_none()
            && self.sends()
            && self.has_room()
            && self.has_room_for_a_body()
            && self.tail.end > self.read.offset
    }

    fn read_on(&mut self, now: Duration) {
        if self.tail.end > self.read.offset && self.waiting_since.is_none() {
            self.waiting_since = Some(now);
        }
        if !self.may_read() {
            return;
        }
        let limits = &self.config.batch;
        let full = self.caught_up.is_none_or(|then| {
            let max_events = limits.max_events.get() as u64;
            self.tail.messages.saturating_sub(then.messages) >= max_events
                || self.tail.bytes.saturating_sub(then.bytes) >= limits.max_bytes.get()
        });
        let old = self.waiting_since.is_some_and(|since| now >= since + limits.linger);
        if full || old {
            let batch = self.window.allocate();
            self.reading = Some(batch);
            self.actions.push_back(Action::Read { batch, from: self.read });
        }
    }
}
