//! Replays: stretches of the log that an operator wants sent once more.
//!
//! They go through a machine of their own, beside the log's, one after the other: at least once,
//! with the same `event_id`, marked with `forebay_replay`, on channels of their own, and over one
//! lane an endpoint. A replay has a checkpoint of its own in the store, so that a restart goes on
//! with it, and keeps the segments that it still needs. The books of the log do not change.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge};
use tokio::sync::watch;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Epoch};
use crate::delivery::Delivery;
use crate::hec::encoder::Encoder;
use crate::hec::mapping::Mapping;
use crate::record::{Replay, ReplayId};
use crate::types::{Position, Tail};
use crate::wal::Wal;

use super::chosen::Chosen;
use super::ledger::Ledger;
use super::names::{self, Places};
use super::pace::Pace;
use super::pack::Packer;
use super::pick::Pick;
use super::progress::{Progress, ReplayRun, Trouble};
use super::renew::Renewable;
use super::task::{Makings, Task};
use super::{Config, Ended, KnownDrains, SinkStatus, inherit};

/// How often it is looked at how the one that is sent comes on.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long one that ended before its time rests.
const REST: Duration = Duration::from_secs(5);

/// Sends replays until told to stop.
pub(super) struct Replaying {
    pub(super) config: Config,
    pub(super) wal: Wal,
    pub(super) client: Arc<Renewable>,
    /// The names of drains, and which are delivered, which can change.
    pub(super) drains: watch::Receiver<KnownDrains>,
    /// Where it is shown how the one that is sent comes on.
    pub(super) shown: Arc<watch::Sender<Option<ReplayRun>>>,
    /// What counts as delivered.
    pub(super) chosen: Chosen,
    /// The endpoints, where they can change.
    pub(super) set: Option<watch::Receiver<Places>>,
}

impl Replaying {
    pub(super) async fn run(mut self, stop: CancellationToken, grace: Duration) {
        let mut changed = self.wal.replays_changed();
        let mut metrics = Metrics::new(&self.config);
        while !stop.is_cancelled() {
            changed.mark_unchanged();
            metrics.show(&self.wal, &self.config);
            let Some(replay) = self.wal.open_replay(&self.config.name) else {
                self.shown.send_replace(None);
                metrics.run(None);
                tokio::select! {
                    _ = changed.changed() => {}
                    () = stop.cancelled() => {}
                }
                continue;
            };
            let Some(mode) = self.chosen.now() else {
                tokio::select! {
                    () = self.chosen.known() => {}
                    _ = changed.changed() => {}
                    () = stop.cancelled() => {}
                }
                continue;
            };
            self.config.delivery.acknowledgement = mode;
            names::follow(&mut self.set, &mut self.config, &mut self.client);
            let id = replay.id.clone();
            let stopping = stop.child_token();
            let mut progress = Progress::new(clock::instant(), settled(&replay));
            let Some((task, status)) = self.task(replay) else { return };
            let mut set = self.set.clone();
            let sending = task.run(stopping.clone(), &stop, grace);
            let sending = names::unless_changed(&mut set, &stopping, sending);
            let mut sending = std::pin::pin!(sending);
            let mut look = clock::instant();
            let ended = loop {
                tokio::select! {
                    ended = &mut sending => break ended,
                    () = sleep_until(look.into()) => {
                        look = clock::instant() + LOOK_EVERY;
                        let run = self.look(&id, &status.borrow(), &mut progress);
                        metrics.run(Some(&run));
                        self.shown.send_replace(Some(run));
                    }
                    _ = changed.changed() => {
                        metrics.show(&self.wal, &self.config);
                        if !self.is_open(&id) {
                            stopping.cancel();
                        }
                    }
                }
            };
            if ended == Ended::LogGone {
                return;
            }
            self.tell_the_end(&id);
            if self.is_open(&id) {
                tokio::select! {
                    () = tokio::time::sleep(REST) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    /// How a replay comes on.
    fn look(&self, id: &ReplayId, status: &SinkStatus, progress: &mut Progress) -> ReplayRun {
        let now = clock::instant();
        if let Some(replay) = self.wal.replay(id) {
            progress.saw(now, settled(&replay));
        }
        ReplayRun {
            id: id.clone(),
            trouble: Trouble::of(status, &status.endpoints),
            rate: progress.rate(now),
            stalled: progress.stalled(now),
        }
    }

    fn is_open(&self, id: &ReplayId) -> bool {
        self.wal.replay(id).is_some_and(|replay| replay.is_open())
    }

    fn tell_the_end(&self, id: &ReplayId) {
        let Some(replay) = self.wal.replay(id).filter(|replay| !replay.is_open()) else { return };
        let totals = replay.checkpoint.totals;
        tracing::info!(
            destination = %self.config.name,
            replay = %id,
            state = ?replay.state,
            acknowledged = totals.acknowledged,
            filtered = totals.filtered,
            dead_lettered = totals.dead_lettered,
            dropped = totals.dropped,
            "a replay has ended"
        );
    }

    /// What sends a replay, and where its state is seen. None when the configuration is no good
    /// after all.
    fn task(&self, replay: Replay) -> Option<(Task, watch::Receiver<SinkStatus>)> {
        let mut config = self.config.clone();
        let drains = Arc::clone(&self.drains.borrow());
        config.mapping = drains.within(config.mapping);
        // It compiled when the destination was opened.
        let mapping = Mapping::compile(&config.mapping).ok()?;
        config.delivery.lanes_per_endpoint = NonZeroUsize::MIN;
        config.delivery.max_lanes_per_endpoint = NonZeroUsize::MIN;
        if let Some(rate) = replay.rate {
            // A batch is at most what may go in a second.
            let most = usize::try_from(rate.get()).unwrap_or(usize::MAX);
            let most = NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN);
            config.delivery.batch.max_events = config.delivery.batch.max_events.min(most);
        }
        let (end, messages) = (replay.range.end, replay.end_messages);
        let tail = Tail { end, messages, bytes: 0 };
        let checkpoint = inherit(&config, &self.wal, replay.checkpoint.clone(), Position::at(end));
        let seed = uuid::Uuid::new_v4().as_u128();
        let machine = Delivery::new(config.delivery.clone(), &checkpoint, seed);
        let encoder = Encoder::new(mapping, config.max_event.as_usize())
            .for_target(config.target)
            .for_replay(replay.id.as_str());
        let pick = Pick::new(replay.filter.clone(), drains);
        let (limits, compression) = (config.delivery.batch, config.compression);
        let source = Packer::new(self.wal.reader(), encoder, limits, compression)
            .with_drains(self.drains.clone())
            .within(tail, pick);
        tracing::info!(
            destination = %config.name,
            replay = %replay.id,
            frames = %replay.range,
            from = %checkpoint.position,
            "a replay is sent"
        );
        let letters = self.wal.letter_book(&config.name);
        let delivery = machine.status();
        let (shown, status) = watch::channel(SinkStatus {
            endpoints: config.endpoints.clone().into(),
            delivery,
            tail,
            oldest: None,
            stuck: None,
            letters,
        });
        // Whoever holds the other end could move it: nobody does.
        let (_, tail) = watch::channel(tail);
        let makings = Makings {
            config,
            wal: self.wal.clone(),
            machine,
            source: Box::new(source),
            client: Arc::clone(&self.client),
            tail,
            shown: Some(Arc::new(shown)),
            control: None,
            set: None,
            pace: replay.rate.map(Pace::new),
            ledger: Ledger::replay(&replay),
        };
        Some((Task::new(makings, Epoch::start()), status))
    }
}

/// Messages of a replay that need nothing more.
const fn settled(replay: &Replay) -> u64 {
    replay.messages().saturating_sub(replay.pending())
}

/// What is counted of a destination's replays.
struct Metrics {
    open: Gauge,
    pending: Gauge,
    replayed: Counter,
    stuck: Gauge,
    stalled: Gauge,
    /// The replay that was shown last, and what it had acknowledged.
    seen: Option<(ReplayId, u64)>,
}

impl Metrics {
    fn new(config: &Config) -> Self {
        let label = [("destination", config.name.to_string())];
        Self {
            open: metrics::gauge!("forebay_replays", &label),
            pending: metrics::gauge!("forebay_replay_pending_messages", &label),
            replayed: metrics::counter!("forebay_replayed_messages_total", &label),
            stuck: metrics::gauge!("forebay_replay_stuck", &label),
            stalled: metrics::gauge!("forebay_replay_stalled_seconds", &label),
            seen: None,
        }
    }

    /// How the one that is sent comes on, if there is one.
    fn run(&self, run: Option<&ReplayRun>) {
        let trouble = run.and_then(|run| run.trouble.as_ref());
        let stuck = trouble.is_some_and(Trouble::needs_hands);
        self.stuck.set(f64::from(u8::from(stuck)));
        self.stalled.set(run.map_or(0.0, |run| run.stalled.as_secs_f64()));
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    fn show(&mut self, wal: &Wal, config: &Config) {
        let all = wal.replays();
        let open =
            || all.iter().filter(|replay| replay.is_open() && replay.destination == config.name);
        self.open.set(open().count() as f64);
        self.pending.set(open().map(Replay::pending).sum::<u64>() as f64);
        if let Some((id, before)) = &mut self.seen
            && let Some(replay) = all.iter().find(|replay| replay.id == *id)
        {
            let now = replay.checkpoint.totals.acknowledged;
            self.replayed.increment(now.saturating_sub(*before));
            *before = now;
        }
        let current = open().next();
        if current.is_some_and(|now| self.seen.as_ref().is_none_or(|(id, _)| now.id != *id)) {
            self.seen = current.map(|now| (now.id.clone(), now.checkpoint.totals.acknowledged));
        }
    }
}
