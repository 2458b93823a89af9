//! The indexer behind the HTTP side: channels, the pipeline, acknowledgements, faults.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::config::{AckMode, HecConfig};
use super::faults::{Fault, FaultKind, Script, Timed};
use super::request::Route;
use crate::clock;
use crate::simulate::ledger::{BatchKey, HecLedger, KeptEvent};

/// A channel of a token: Splunk keeps acknowledgements per both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ChannelKey {
    pub(super) token: usize,
    pub(super) guid: u128,
}

/// What a simulated HEC has seen since it was started. Restarts do not reset it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HecStats {
    /// Answers by HTTP status.
    pub answers: BTreeMap<u16, u64>,
    /// Requests whose connection was closed without an answer.
    pub unanswered: u64,
    /// Requests being read or answered.
    pub in_flight: usize,
    /// Polls of `/ack` that were answered or spent.
    pub polls: u64,
    /// Bytes of `/event` and `/raw` bodies, as they came.
    pub body_bytes: u64,
    /// Events accepted.
    pub accepted: u64,
    /// Events indexed.
    pub indexed: u64,
    /// Events acknowledged.
    pub acknowledged: u64,
    /// Channels that hold acknowledgement state.
    pub channels: usize,
    /// Requests accepted and not yet indexed.
    pub unindexed_requests: usize,
    /// How often each fault hit.
    pub faults: BTreeMap<FaultKind, u64>,
}

impl HecStats {
    /// Adds what another indexer has seen.
    pub(super) fn add(&mut self, other: Self) {
        let Self {
            answers,
            unanswered,
            in_flight,
            polls,
            body_bytes,
            accepted,
            indexed,
            acknowledged,
            channels,
            unindexed_requests,
            faults,
        } = other;
        for (status, count) in answers {
            *self.answers.entry(status).or_default() += count;
        }
        for (kind, count) in faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.unanswered += unanswered;
        self.in_flight += in_flight;
        self.polls += polls;
        self.body_bytes += body_bytes;
        self.accepted += accepted;
        self.indexed += indexed;
        self.acknowledged += acknowledged;
        self.channels += channels;
        self.unindexed_requests += unindexed_requests;
    }
}

/// Where a request stands that was accepted.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    batch: BatchKey,
    events: u64,
    ack: Option<(ChannelKey, u64)>,
}

#[derive(Debug, Default)]
struct Channel {
    /// The id of the next request; how many there were.
    next: u64,
    /// Ids not yet reported: with their batch once that is indexed.
    ids: HashMap<u64, Option<(BatchKey, u64)>>,
    /// When it was last posted on or polled.
    used: Option<Instant>,
}

#[derive(Debug)]
struct State {
    channels: HashMap<ChannelKey, Channel>,
    /// Requests on their way to the index, by the time they reach it; the number keeps those of
    /// one instant apart.
    pipeline: BTreeMap<(Instant, u64), Waiting>,
    /// Requests that stand still under [`AckMode::Never`].
    stalled: Vec<Waiting>,
    accepted_requests: u64,
    /// Ids in all channels.
    open_ids: usize,
    ack: AckMode,
    delays: fastrand::Rng,
    /// Each draws by itself; the first that hits is it.
    faults: Vec<(Fault, fastrand::Rng)>,
    script: Script,
    stats: HecStats,
}

/// One indexer.
#[derive(Debug)]
pub(super) struct Indexer {
    pub(super) config: HecConfig,
    pub(super) ledger: Arc<HecLedger>,
    state: Mutex<State>,
    /// The earliest time in the pipeline has changed.
    wake: Notify,
    /// Moves whenever the fault does.
    fault_changes: watch::Sender<u64>,
}

/// A fault that hit, and what to wait for when it hangs.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) kind: FaultKind,
    changes: watch::Receiver<u64>,
}

impl Hit {
    /// Until the fault is lifted or replaced.
    pub(super) async fn lifted(mut self) {
        if self.changes.changed().await.is_err() {
            // The server is gone, and this request with it.
            std::future::pending::<()>().await;
        }
    }
}

impl Indexer {
    pub(super) fn new(config: HecConfig, ledger: Arc<HecLedger>) -> Self {
        let state = State {
            channels: HashMap::new(),
            pipeline: BTreeMap::new(),
            stalled: Vec::new(),
            accepted_requests: 0,
            open_ids: 0,
            ack: config.ack,
            delays: fastrand::Rng::with_seed(config.seed),
            faults: Vec::new(),
            script: Script::default(),
            stats: HecStats::default(),
        };
        Self {
            config,
            ledger,
            state: Mutex::new(state),
            wake: Notify::new(),
            fault_changes: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for one more accepted request.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        let waiting = state.pipeline.len() + state.stalled.len();
        state.open_ids.max(waiting) < self.config.max_pending
    }

    /// Takes accepted events into the pipeline, or straight into the index, and gives the request
    /// its ackId.
    pub(super) fn accept(
        &self,
        hashes: Vec<u64>,
        events: Vec<KeptEvent>,
        channel: Option<ChannelKey>,
        at_once: bool,
    ) -> Option<u64> {
        let count = hashes.len() as u64;
        let mut state = self.lock();
        // Under the lock, so that the ledger's order is the order of acceptance.
        let batch = self.ledger.accept(hashes, events);
        state.stats.accepted += count;
        state.accepted_requests += 1;
        let ack = channel.map(|key| {
            let channel = state.channels.entry(key).or_default();
            let id = channel.next;
            channel.next += 1;
            channel.used.get_or_insert_with(clock::instant);
            channel.ids.insert(id, None);
            state.open_ids += 1;
            (key, id)
        });
        let waiting = Waiting { batch, events: count, ack };
        if at_once {
            state.index(&self.ledger, waiting);
        } else if state.enter(&self.ledger, waiting, clock::instant()) {
            self.wake.notify_one();
        }
        ack.map(|(_, id)| id)
    }

    /// What a poll reports: `true` once for an id whose request is indexed, `false` for any other.
    /// `spend_only` keeps the ledger from counting what the client will not read.
    pub(super) fn poll(&self, key: ChannelKey, ids: &[u64], spend_only: bool) -> Vec<bool> {
        let mut state = self.lock();
        state.index_due(&self.ledger, clock::instant());
        state.stats.polls += 1;
        let mut reported = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(channel) = state.channels.get_mut(&key) else {
                reported.push(false);
                continue;
            };
            let indexed = channel.ids.get(id).copied().flatten();
            reported.push(indexed.is_some());
            if let Some((batch, events)) = indexed {
                channel.ids.remove(id);
                state.open_ids -= 1;
                if !spend_only {
                    self.ledger.acknowledge(batch);
                    state.stats.acknowledged += events;
                }
            }
        }
        reported
    }

    /// Indexes what is due and does what the script says by time, for ever.
    pub(super) async fn run(&self) {
        let start = clock::instant();
        let timed = std::mem::take(&mut self.lock().script.timed);
        let by_time = async {
            for timed in timed {
                tokio::time::sleep_until((start + timed.at).into()).await;
                self.set_share(&timed);
            }
        };
        tokio::join!(by_time, self.index_for_ever());
    }

    async fn index_for_ever(&self) {
        loop {
            let next = self.lock().index_due(&self.ledger, clock::instant());
            match next {
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due.into()) => {}
                        () = self.wake.notified() => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }

    /// What this request meets: what the script says, or else the first fault that hits.
    pub(super) fn fault(&self, route: Option<Route>) -> Option<Hit> {
        let mut state = self.lock();
        let kind = match state.script.next(route) {
            Some(scripted) => scripted?,
            None => state.faults.iter_mut().find_map(|(fault, rng)| {
                let hit = fault.kind.hits(route) && rng.f64() < fault.share;
                hit.then_some(fault.kind)
            })?,
        };
        *state.stats.faults.entry(kind).or_default() += 1;
        // Subscribed under the lock: a change after this is seen.
        Some(Hit { kind, changes: self.fault_changes.subscribe() })
    }

    pub(super) fn set_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut state = self.lock();
        let seeded = |fault: Fault| (fault, fastrand::Rng::with_seed(fault.seed));
        state.faults = faults.into_iter().map(seeded).collect();
        self.fault_changes.send_modify(|changes| *changes += 1);
    }

    /// Sets one fault and leaves the others.
    fn set_share(&self, timed: &Timed) {
        let mut state = self.lock();
        state.faults.retain(|(fault, _)| fault.kind != timed.kind);
        if timed.share > 0.0 {
            let seed = self.config.seed ^ u64::from(timed.kind as u8);
            let fault = Fault::sometimes(timed.kind, timed.share, seed);
            state.faults.push((fault, fastrand::Rng::with_seed(seed)));
        }
        self.fault_changes.send_modify(|changes| *changes += 1);
    }

    /// Replaces what is left of a script by another one. What it does by time begins with
    /// [`run`](Self::run).
    pub(super) fn set_script(&self, script: Script) {
        self.lock().script = script;
    }

    /// Forgets one channel, as one that was idle for too long.
    pub(super) fn forget(&self, key: ChannelKey) {
        let mut state = self.lock();
        if let Some(channel) = state.channels.remove(&key) {
            state.open_ids -= channel.ids.len();
        }
    }

    /// A channel is used: it is forgotten first, if that is too long ago.
    pub(super) fn touch(&self, key: ChannelKey) {
        let Some(most) = self.config.channel_idle else { return };
        let now = clock::instant();
        let idle = self.lock().channels.get(&key).and_then(|channel| channel.used);
        if idle.is_some_and(|used| now.saturating_duration_since(used) > most) {
            self.forget(key);
        }
        if let Some(channel) = self.lock().channels.get_mut(&key) {
            channel.used = Some(now);
        }
    }

    pub(super) fn set_ack(&self, ack: AckMode) {
        let mut state = self.lock();
        state.ack = ack;
        let now = clock::instant();
        let held = std::mem::take(&mut state.stalled);
        let flowing = std::mem::take(&mut state.pipeline);
        // A request that is on its way keeps its time, unless everything stops.
        match ack {
            AckMode::Never => {
                state.stalled = held.into_iter().chain(flowing.into_values()).collect()
            }
            AckMode::After { .. } => {
                state.pipeline = flowing;
                for waiting in held {
                    state.enter(&self.ledger, waiting, now);
                }
            }
        }
        self.wake.notify_one();
    }

    pub(super) fn restart(&self) {
        let mut state = self.lock();
        state.index_due(&self.ledger, clock::instant());
        state.channels.clear();
        state.open_ids = 0;
        state.pipeline.clear();
        state.stalled.clear();
    }

    pub(super) fn stats(&self) -> HecStats {
        let mut state = self.lock();
        state.index_due(&self.ledger, clock::instant());
        HecStats {
            channels: state.channels.len(),
            unindexed_requests: state.pipeline.len() + state.stalled.len(),
            ..state.stats.clone()
        }
    }

    /// A request begins; the guard's end is its end.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.lock().stats.in_flight += 1;
        InFlight { indexer: Arc::clone(self), answered: None }
    }

    pub(super) fn received(&self, bytes: usize) {
        self.lock().stats.body_bytes += bytes as u64;
    }
}

impl State {
    /// Puts a request on its way. True when it became the next to arrive.
    fn enter(&mut self, ledger: &HecLedger, waiting: Waiting, now: Instant) -> bool {
        let (min, max) = match self.ack {
            AckMode::Never => {
                self.stalled.push(waiting);
                return false;
            }
            AckMode::After { min, max } => (min, max),
        };
        let spread = u64::try_from(max.saturating_sub(min).as_nanos()).unwrap_or(u64::MAX);
        let delay = min + Duration::from_nanos(self.delays.u64(0..=spread));
        if delay.is_zero() {
            self.index(ledger, waiting);
            return false;
        }
        let key = (now + delay, self.accepted_requests);
        let next = self.pipeline.first_key_value().is_none_or(|(first, _)| key < *first);
        // A number is used once per way through the pipeline, except that requests released
        // from a standstill share one: then the next free instant is taken.
        let mut key = key;
        while self.pipeline.contains_key(&key) {
            key.0 += Duration::from_nanos(1);
        }
        self.pipeline.insert(key, waiting);
        next
    }

    fn index(&mut self, ledger: &HecLedger, waiting: Waiting) {
        ledger.index(waiting.batch);
        self.stats.indexed += waiting.events;
        if let Some((key, id)) = waiting.ack
            && let Some(slot) = self.channels.get_mut(&key).and_then(|c| c.ids.get_mut(&id))
        {
            *slot = Some((waiting.batch, waiting.events));
        }
    }

    /// Indexes all that is due; when the next one is.
    fn index_due(&mut self, ledger: &HecLedger, now: Instant) -> Option<Instant> {
        while let Some(entry) = self.pipeline.first_entry() {
            let (due, _) = *entry.key();
            if due > now {
                return Some(due);
            }
            let waiting = entry.remove();
            self.index(ledger, waiting);
        }
        None
    }
}

/// A request between its head and its answer.
#[derive(Debug)]
pub(super) struct InFlight {
    indexer: Arc<Indexer>,
    answered: Option<u16>,
}

impl InFlight {
    pub(super) fn count(&self) -> usize {
        self.indexer.lock().stats.in_flight
    }

    pub(super) fn answered(mut self, status: u16) {
        self.answered = Some(status);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.indexer.lock();
        state.stats.in_flight -= 1;
        match self.answered {
            Some(status) => *state.stats.answers.entry(status).or_default() += 1,
            None => state.stats.unanswered += 1,
        }
    }
}
