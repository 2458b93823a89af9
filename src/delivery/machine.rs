//! The machine: what it holds, what it reads, what it sends. How answers are judged is in
//! `settle.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::record::Checkpoint;
use crate::types::{BatchId, ChannelId, Position, Tail, UnixMicros};

use super::chance::Chance;
use super::channel::Channel;
use super::endpoint::Endpoint;
use super::window::{Batch, Stage, Window};
use super::{Action, Config, EndpointId, Event, LaneId, ReadBatch};

/// A checkpoint is written at most this often; the log's next group carries it.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);

/// One destination's delivery.
#[derive(Debug)]
pub struct Delivery {
    pub(super) config: Config,
    pub(super) chance: Chance,
    pub(super) window: Window,
    /// Batches that wait for a lane, the oldest first.
    pub(super) queue: BTreeSet<BatchId>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) lanes: Vec<Lane>,
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    pub(super) actions: VecDeque<Action>,
    /// Where the next read begins.
    pub(super) read: Position,
    /// Messages in the log before `read`, as the log has it.
    pub(super) messages_read: u64,
    pub(super) reading: bool,
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
    pub(super) stopping: bool,
    /// The time of the last event.
    now: Duration,
    /// The highest batch ever sent: a stop waits until nothing below it is unsettled.
    pub(super) sent_end: BatchId,
    next_lane: usize,
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
}

impl Delivery {
    /// Goes on from a checkpoint. `seed` is the machine's only source of chance.
    #[must_use]
    pub fn new(config: Config, checkpoint: &Checkpoint, seed: u128) -> Self {
        let endpoints = config.endpoints.get();
        let lane = |i| Lane { endpoint: EndpointId(i % endpoints), channel: None, posting: None };
        Self {
            chance: Chance::new(seed),
            window: Window::new(checkpoint.position, checkpoint.totals),
            queue: BTreeSet::new(),
            endpoints: (0..endpoints).map(|_| Endpoint::new()).collect(),
            lanes: (0..endpoints * config.lanes_per_endpoint.get()).map(lane).collect(),
            channels: BTreeMap::new(),
            actions: VecDeque::new(),
            read: checkpoint.position,
            messages_read: checkpoint.origin_messages + checkpoint.totals.settled(),
            reading: false,
            tail: Tail::default(),
            caught_up: None,
            waiting_since: None,
            origin_messages: checkpoint.origin_messages,
            committed: checkpoint.position,
            committing: None,
            commit_not_before: Duration::ZERO,
            stopping: false,
            now: Duration::ZERO,
            sent_end: BatchId::new(0),
            next_lane: 0,
            config,
        }
    }

    /// Takes in what happened. `now` never goes back.
    pub fn handle(&mut self, now: Duration, event: Event) {
        self.now = now;
        match event {
            Event::Tail(tail) => self.tail = tail,
            Event::Read(batch) => self.on_read(batch),
            Event::Encoded(batch) => self.on_encoded(batch),
            Event::Posted { lane, outcome } => self.on_posted(now, lane, outcome),
            Event::Polled { channel, outcome } => self.on_polled(now, channel, outcome),
            Event::Trimmed { to, messages_before } => self.on_trimmed(to, messages_before),
            Event::Lost { batch, range, messages_end } => self.on_lost(batch, range, messages_end),
            Event::Committed => {
                self.committed = self.committing.take().unwrap_or(self.committed);
                self.commit_not_before = now + COMMIT_INTERVAL;
            }
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
            .filter(|endpoint| endpoint.posting == 0 && !self.queue.is_empty())
            .filter_map(Endpoint::wakes)
            // An endpoint that may be tried already waits for something else: a body, or a poll.
            // Naming the past would turn the sink round and round until that has come.
            .filter(|until| *until > self.now);
        let polls = self.channels.values().filter_map(Channel::poll_due);
        let commit = self.commit_due().then_some(self.commit_not_before);
        linger.into_iter().chain(wakes).chain(polls).chain(commit).chain(self.lost_at()).min()
    }

    /// Whether a stop is complete: nothing is in flight and the checkpoint is durable.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopping
            && self.nothing_in_flight()
            && self.committing.is_none()
            && self.committed == self.window.settled()
    }

    /// What the checkpoint would say now. `saved` is left at 0: the sink knows the time of day.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            position: self.window.settled(),
            totals: self.window.totals(),
            origin_messages: self.origin_messages,
            saved: UnixMicros::default(),
        }
    }

    /// The position up to which the log has been read.
    #[must_use]
    pub const fn read_position(&self) -> Position {
        self.read
    }

    fn on_read(&mut self, read: ReadBatch) {
        self.reading = false;
        let id = self.window.next_id();
        let usable = !self.stopping && read.batch == id && read.range.start == self.read;
        if !usable || read.range.is_empty() {
            // Never sent: it is read again, by this process or the next.
            self.actions.push_back(Action::Release(read.batch));
            return;
        }
        self.caught_up = read.caught_up;
        self.waiting_since = None;
        self.read = read.range.end;
        self.messages_read = read.messages_end;
        let has_events = read.events > 0;
        self.window.push(Batch {
            range: read.range,
            messages: read.messages,
            filtered: read.filtered,
            dropped: 0,
            received: read.received,
            stage: if has_events { Stage::Ready } else { Stage::Settled },
            resend: false,
        });
        if has_events {
            self.queue.insert(id);
        } else {
            self.actions.push_back(Action::Release(id));
        }
    }

    fn on_encoded(&mut self, id: BatchId) {
        match self.window.get_mut(id) {
            Some(batch) if batch.stage == Stage::Fetching => batch.stage = Stage::Ready,
            _ => self.actions.push_back(Action::Release(id)),
        }
    }

    fn on_stop(&mut self, now: Duration) {
        self.stopping = true;
        for channel in self.channels.values_mut() {
            channel.hurry(now);
        }
        // What was never sent is read again by the next start. What lies below something that
        // was sent still goes out: else that would be sent twice.
        for id in self.queue.split_off(&self.sent_end) {
            self.actions.push_back(Action::Release(id));
        }
    }

    /// Whether waiting would save nothing: no POST and no acknowledgement is outstanding, and
    /// nothing that is settled waits for a batch before it. A batch that was refused need not
    /// hold up a stop; the next start sends it.
    fn nothing_in_flight(&self) -> bool {
        self.window.iter().all(|(_, batch)| match batch.stage {
            Stage::Ready | Stage::Faded | Stage::Fetching => true,
            Stage::Posting(_) | Stage::Unacked { .. } | Stage::Settled => false,
        })
    }

    /// Everything that may have become possible.
    fn decide(&mut self, now: Duration) {
        self.give_up_on_lost_batches(now);
        self.ask(now);
        self.send(now);
        self.fetch();
        self.read_on(now);
        // After a stop the interval does not matter: the last commit ends the wait.
        if self.commit_due() && (self.stopping || now >= self.commit_not_before) {
            self.committing = Some(self.window.settled());
            self.actions.push_back(Action::Commit(self.checkpoint()));
        }
    }

    fn commit_due(&self) -> bool {
        self.committing.is_none() && self.committed != self.window.settled()
    }

    /// Deals the waiting batches out to the lanes that may send.
    fn send(&mut self, now: Duration) {
        let ready: Vec<BatchId> =
            self.queue.iter().copied().filter(|id| self.stage_is(*id, Stage::Ready)).collect();
        for id in ready {
            let Some(lane) = self.free_lane(now) else { return };
            self.post(lane, id);
        }
    }

    fn stage_is(&self, id: BatchId, stage: Stage) -> bool {
        self.window.get(id).is_some_and(|batch| batch.stage == stage)
    }

    /// The next lane in turn whose endpoint takes a POST.
    fn free_lane(&mut self, now: Duration) -> Option<LaneId> {
        let count = self.lanes.len();
        let free = |lane: &Lane| {
            let channel = lane.channel.and_then(|id| self.channels.get(&id));
            lane.posting.is_none()
                && self.endpoints.get(lane.endpoint.0).is_some_and(|e| e.admits(now))
                && channel.is_none_or(|channel| !channel.wants_quiet(now))
        };
        let index = (0..count)
            .map(|step| (self.next_lane + step) % count)
            .find(|index| self.lanes.get(*index).is_some_and(free))?;
        self.next_lane = (index + 1) % count;
        Some(LaneId(index))
    }

    fn post(&mut self, id: LaneId, batch: BatchId) {
        let Some(lane) = self.lanes.get_mut(id.0) else { return };
        let endpoint = lane.endpoint;
        let channel = *lane.channel.get_or_insert_with(|| {
            let fresh = self.chance.channel();
            self.channels.insert(fresh, Channel::new(endpoint, id));
            fresh
        });
        lane.posting = Some(Posting { batch, channel });
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.posting = true;
        }
        if let Some(endpoint) = self.endpoints.get_mut(endpoint.0) {
            endpoint.posting += 1;
        }
        if let Some(batch) = self.window.get_mut(batch) {
            batch.stage = Stage::Posting(id);
        }
        self.queue.remove(&batch);
        self.sent_end = self.sent_end.max(batch.next());
        self.actions.push_back(Action::Send { lane: id, endpoint, channel, batch });
    }

    /// How many bodies may be in the sink's hands besides those in POSTs.
    fn bodies_allowed(&self) -> usize {
        self.lanes.len()
    }

    fn bodies_waiting(&self) -> usize {
        let in_hand = |id: &&BatchId| {
            let stage = self.window.get(**id).map(|batch| batch.stage);
            matches!(stage, Some(Stage::Ready | Stage::Fetching))
        };
        self.queue.iter().filter(in_hand).count()
    }

    /// Reads bodies again for batches that have to be sent again, the oldest first.
    fn fetch(&mut self) {
        let mut room = self.bodies_allowed().saturating_sub(self.bodies_waiting());
        let faded: Vec<BatchId> =
            self.queue.iter().copied().filter(|id| self.stage_is(*id, Stage::Faded)).collect();
        for id in faded {
            if room == 0 {
                return;
            }
            room -= 1;
            if let Some(batch) = self.window.get_mut(id) {
                batch.stage = Stage::Fetching;
                self.actions.push_back(Action::Encode { batch: id, range: batch.range });
            }
        }
    }

    fn ask(&mut self, now: Duration) {
        for (id, channel) in &mut self.channels {
            if channel.poll_due().is_some_and(|due| due <= now) {
                let ids = channel.ask();
                let (endpoint, channel) = (channel.endpoint, *id);
                self.actions.push_back(Action::Poll { endpoint, channel, ids });
            }
        }
    }

    fn may_read(&self) -> bool {
        !self.reading
            && !self.stopping
            && self.window.len() < self.config.window.get()
            && self.bodies_waiting() < self.bodies_allowed()
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
            self.reading = true;
            let batch = self.window.next_id();
            self.actions.push_back(Action::Read { batch, from: self.read });
        }
    }
}
