//! The driver: carries out what the machine decides and tells it what came of it.

mod jobs;
mod rest;
mod wait;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::clock::{self, Epoch};
use crate::delivery::{
    Action, Cut, Delivery, EndpointId, Event, Note, Parts, PollOutcome, PostOutcome, Preflight,
    ReadBatch,
};
use crate::hec::Reason;
use crate::record::DeadLetter;
use crate::types::{BatchId, ChannelId, Offset, Position, PositionRange, Tail, UnixMicros};
use crate::wal::{CommitError, Floor, LetterError, ReadError, Wal};

use super::control::{Asked, Control, Controls, Seek};
use super::ledger::Ledger;
use super::link::Links;
use super::names::Places;
use super::numbers::Metrics;
use super::pace::Pace;
use super::pack::{Again, Body, Source};
use super::renew::Renewable;
use super::{Config, Ended, SinkStatus, trail};
use wait::{asked_for, changed, ended, until};

/// The state is shown at least this often while anything happens.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// How long a seek, or a change of endpoints, waits for what is in flight. What is not settled by then is sent again, or
/// skipped.
const SEEK_GRACE: Duration = Duration::from_secs(2);

/// What a task is made of.
pub(super) struct Makings {
    pub(super) config: Config,
    pub(super) wal: Wal,
    pub(super) machine: Delivery,
    pub(super) source: Box<dyn Source>,
    pub(super) client: Arc<Renewable>,
    pub(super) ledger: Ledger,
    pub(super) tail: watch::Receiver<Tail>,
    /// Where the state is shown, and counted, if it is.
    pub(super) shown: Option<Arc<watch::Sender<SinkStatus>>>,
    /// What an operator asks for, where one can.
    pub(super) control: Option<Controls>,
    /// The endpoints, where they can change. It ends when they do.
    pub(super) set: Option<watch::Receiver<Places>>,
    /// How fast it is read, if there is a limit.
    pub(super) pace: Option<Pace>,
}

pub(super) struct Task {
    config: Config,
    wal: Wal,
    machine: Delivery,
    /// With the job that uses it, otherwise here.
    source: Option<Box<dyn Source>>,
    /// Jobs that wait for it.
    packing: VecDeque<PackJob>,
    /// Where what is settled is written down.
    ledger: Ledger,
    client: Arc<Renewable>,
    links: Links,
    bodies: HashMap<BatchId, Body>,
    jobs: JoinSet<Done>,
    /// Of these there is one at a time.
    commits: JoinSet<Done>,
    tail: watch::Receiver<Tail>,
    floor: watch::Receiver<Floor>,
    letters: watch::Receiver<u64>,
    status: Option<Arc<watch::Sender<SinkStatus>>>,
    stuck: Option<String>,
    shown: Option<Instant>,
    /// What is shown is not the latest, or grows old by itself as lag does.
    stale: bool,
    /// The last frame that was looked up because nothing from it on is read, and when it arrived.
    waiting: Option<(Offset, Option<UnixMicros>)>,
    looking_up: bool,
    epoch: Epoch,
    metrics: Option<Metrics>,
    control: Option<Controls>,
    set: Option<watch::Receiver<Places>>,
    /// What has stopped it, if another machine is to go on.
    wanted: Option<Wanted>,
    pace: Option<Pace>,
    /// Who waits for the next commit, and for the one on its way.
    asked: Vec<Asked>,
    committing: Vec<Asked>,
}

/// Why another machine is to go on.
pub(super) enum Wanted {
    /// An operator wants it to go on from elsewhere.
    Seek(Seek),
    /// There are other endpoints now.
    Endpoints,
}

/// Something to be made from the log.
#[derive(Clone)]
enum PackJob {
    Next { batch: BatchId, from: Position },
    Again { batch: BatchId, range: PositionRange, plain: bool },
    Cut { batch: BatchId, range: PositionRange, cut: Cut },
    Letter { batch: BatchId, range: PositionRange, endpoint: EndpointId, reason: Reason },
}

/// A job that ended.
enum Done {
    Packed(Box<dyn Source>, PackJob, Result<Packed, ReadError>),
    /// A job that could not be done is due again.
    Again(PackJob),
    Posted {
        lane: crate::delivery::LaneId,
        outcome: PostOutcome,
        took: Duration,
    },
    Polled(ChannelId, PollOutcome),
    Preflight(EndpointId, Preflight),
    /// When the frame arrived, if that can be read.
    LookedUp(Offset, Option<UnixMicros>),
    Committed(Result<(), CommitError>),
    Buried(BatchId, Result<(), LetterError>),
}

enum Packed {
    Next(ReadBatch, Option<Body>),
    Again(Again),
    Cut(Box<Parts>),
    Letter(Option<Box<(Position, DeadLetter)>>),
}

impl Task {
    pub(super) fn new(makings: Makings, epoch: Epoch) -> Self {
        let Makings { config, wal, machine, source, client, ledger, tail, .. } = makings;
        let Makings { shown, control, set, pace, .. } = makings;
        Self {
            tail,
            floor: wal.floor(),
            letters: wal.letters_changed(),
            // What is counted is the log's; a replay is counted by whoever sends it.
            metrics: matches!(ledger, Ledger::Log).then(|| Metrics::new(&config)),
            config,
            wal,
            machine,
            source: Some(source),
            packing: VecDeque::new(),
            ledger,
            links: client.now().links(),
            client,
            bodies: HashMap::new(),
            jobs: JoinSet::new(),
            commits: JoinSet::new(),
            status: shown,
            stuck: None,
            shown: None,
            stale: false,
            waiting: None,
            looking_up: false,
            epoch,
            control,
            set,
            wanted: None,
            pace,
            asked: Vec::new(),
            committing: Vec::new(),
        }
    }

    /// Works until `stopping`, or until there is nothing left. What comes after it goes on from what
    /// is written, unless that is the `stop` of the destination.
    pub(super) async fn run(
        mut self,
        stopping: CancellationToken,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Ended {
        let ended = self.work(&stopping, grace).await;
        if ended == Ended::CutShort && !stop.is_cancelled() {
            return self.write_the_rest(stop, grace).await.err().unwrap_or(ended);
        }
        ended
    }

    /// The same; but what is wanted instead of a stop is given back, and whatever was begun has
    /// ended then: nothing more is written.
    pub(super) async fn run_until_wanted(
        mut self,
        stop: &CancellationToken,
        grace: Duration,
    ) -> (Ended, Option<(Wanted, Controls)>) {
        let ended = self.work(stop, grace).await;
        let Some(wanted) = self.wanted.take().zip(self.control.take()) else {
            return (ended, None);
        };
        if ended == Ended::CutShort
            && let Err(ended) = self.write_the_rest(stop, grace).await
        {
            return (ended, None);
        }
        self.jobs.shutdown().await;
        (ended, Some(wanted))
    }

    async fn work(&mut self, stop: &CancellationToken, grace: Duration) -> Ended {
        let mut deadline = None;
        let tail = *self.tail.borrow_and_update();
        self.tell(Event::Tail(tail));
        loop {
            if self.machine.stopped() {
                self.show();
                return Ended::Clean;
            }
            let wake = self.machine.deadline().map(|at| self.epoch.instant(at));
            let wake = wake.into_iter().chain(deadline).chain(self.show_due()).min();
            tokio::select! {
                // What is done first, then what is new: else a busy log starves the answers.
                biased;
                Some(done) = ended(&mut self.commits, &mut self.jobs) => match done {
                    Ok(done) => if self.on_done(done).is_err() {
                        return Ended::LogGone;
                    },
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => return Ended::CutShort,
                },
                () = stop.cancelled(), if deadline.is_none() => {
                    deadline = Some(clock::instant() + grace);
                    self.tell(Event::Stop);
                }
                Some(control) = asked_for(&mut self.control), if self.wanted.is_none() => {
                    self.obey(control);
                    self.stop_if_wanted(&mut deadline);
                }
                () = changed(&mut self.set), if self.wanted.is_none() => {
                    self.wanted = Some(Wanted::Endpoints);
                    self.stop_if_wanted(&mut deadline);
                }
                Ok(()) = self.tail.changed(), if !self.ledger.is_finite() => {
                    let tail = *self.tail.borrow_and_update();
                    self.tell(Event::Tail(tail));
                }
                Ok(()) = self.floor.changed(), if self.ledger.is_of_the_log() => self.tell_floor(),
                // Dead letters are sent again and purged by others.
                Ok(()) = self.letters.changed(), if self.status.is_some() => {
                    self.stale = true;
                }
                () = until(wake) => {
                    if deadline.is_some_and(|deadline| deadline <= clock::instant()) {
                        self.show();
                        return Ended::CutShort;
                    }
                    self.tell(Event::Tick);
                }
            }
        }
    }

    /// Does what an operator asks for.
    fn obey(&mut self, control: Control) {
        // Whoever asks for something to be written down hears of it with the next commit.
        match control {
            Control::Pause(paused, answer) => {
                self.asked.push(Asked { paused: Some(paused), answer });
                self.tell(if paused { Event::Pause } else { Event::Resume });
            }
            Control::Save(answer) => {
                self.asked.push(Asked { paused: None, answer });
                self.tell(Event::Save);
            }
            Control::Seek(seek) => self.wanted = Some(Wanted::Seek(seek)),
        }
    }

    /// Ends soon if another machine is to go on.
    fn stop_if_wanted(&mut self, deadline: &mut Option<Instant>) {
        if self.wanted.is_some() && deadline.is_none() {
            *deadline = Some(clock::instant() + SEEK_GRACE);
            self.tell(Event::Stop);
        }
    }

    fn tell(&mut self, event: Event) {
        self.machine.handle(self.epoch.now(), event);
        while let Some(action) = self.machine.poll() {
            self.carry_out(action);
        }
        if self.shown.is_none_or(|shown| clock::instant() - shown >= SHOW_EVERY) {
            self.show();
        } else {
            self.stale = true;
        }
    }

    /// When the state has to be shown again. A destination that is held hears of nothing for long,
    /// and what waits for it must be seen all the same.
    fn show_due(&self) -> Option<Instant> {
        self.shown.filter(|_| self.stale).map(|shown| shown + SHOW_EVERY)
    }

    /// The log has dropped what cursors still stood at.
    fn tell_floor(&mut self) {
        let floor = *self.floor.borrow_and_update();
        let Floor { offset, messages_before } = self.ledger.floor(floor);
        self.tell(Event::Trimmed { to: Position::at(offset), messages_before });
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Read { batch, from } => self.pack(PackJob::Next { batch, from }),
            Action::Encode { batch, range, plain } => {
                self.pack(PackJob::Again { batch, range, plain });
            }
            Action::Split { batch, range, cut } => self.pack(PackJob::Cut { batch, range, cut }),
            Action::DeadLetter { batch, range, endpoint, reason } => {
                self.pack(PackJob::Letter { batch, range, endpoint, reason });
            }
            Action::Send { lane, endpoint, channel, batch } => {
                let Some(body) = self.bodies.get(&batch).cloned() else {
                    // The machine sends what it has; were it wrong, this is a retry, not a loss.
                    tracing::error!(%batch, "bug: a batch without a body is to be sent");
                    let outcome = PostOutcome::Busy { after: None };
                    let took = Duration::ZERO;
                    self.jobs.spawn(async move { Done::Posted { lane, outcome, took } });
                    return;
                };
                let (client, link) = (self.client.now(), self.links.of(channel));
                let span =
                    trail::post(&self.config.name, batch, self.machine.range(batch), channel);
                let post = async move {
                    let started = clock::instant();
                    let outcome = client.post(endpoint, channel, &link, body).await;
                    let took = clock::instant() - started;
                    trail::posted(&outcome, took);
                    Done::Posted { lane, outcome, took }
                };
                self.jobs.spawn(post.instrument(span));
            }
            Action::Release(batch) => {
                self.bodies.remove(&batch);
            }
            Action::Poll { endpoint, channel, ids } => {
                let (client, link) = (self.client.now(), self.links.of(channel));
                let poll = async move {
                    let outcome = client.poll(endpoint, channel, &link, &ids).await;
                    trail::polled(&outcome);
                    Done::Polled(channel, outcome)
                };
                self.jobs.spawn(poll.instrument(trail::poll(&self.config.name, channel)));
            }
            Action::Close(channel) => self.links.close(channel),
            Action::Preflight { endpoint, channel } => {
                let client = self.client.now();
                self.jobs.spawn(async move {
                    Done::Preflight(endpoint, client.preflight(endpoint, channel).await)
                });
            }
            Action::Commit(checkpoint) => self.commit(checkpoint),
            Action::Note(note) => self.note(&note),
        }
    }

    fn on_done(&mut self, done: Done) -> Result<(), CommitError> {
        match done {
            Done::Packed(source, job, packed) => {
                self.source = Some(source);
                if let Some(next) = self.packing.pop_front() {
                    self.pack(next);
                }
                self.on_packed(job, packed);
            }
            Done::Again(job) => self.pack(job),
            Done::Posted { lane, outcome, took } => {
                if let Some(metrics) = &self.metrics {
                    metrics.posted(&outcome, took);
                }
                self.tell(Event::Posted { lane, outcome });
            }
            Done::Polled(channel, outcome) => self.tell(Event::Polled { channel, outcome }),
            Done::Preflight(endpoint, said) => {
                trail::preflight(&self.config.name, endpoint, &said);
                self.tell(Event::Preflight { endpoint, said });
            }
            Done::LookedUp(at, received) => self.looked_up(at, received),
            Done::Committed(result) => {
                result?;
                let answered = std::mem::take(&mut self.committing);
                self.tell(Event::Committed);
                self.show();
                answered.into_iter().for_each(|asked| asked.done(&self.config.name));
                if self.ledger.is_finite() && self.machine.status().position.offset >= self.end() {
                    self.tell(Event::Stop);
                }
            }
            Done::Buried(batch, Ok(())) => self.tell(Event::DeadLettered(batch)),
            Done::Buried(batch, Err(LetterError::Full)) => {
                tracing::error!(
                    destination = %self.config.name,
                    "there is no room for dead letters: redrive or purge some, or raise \
                     destination.dead_letters.max_size; nothing is lost"
                );
                self.tell(Event::DeadLettersFull(batch));
                self.show();
            }
            Done::Buried(_, Err(LetterError::Commit(error))) => return Err(error),
        }
        Ok(())
    }

    /// The end of what is read.
    fn end(&self) -> Offset {
        self.tail.borrow().end
    }

    fn note(&mut self, note: &Note) {
        let name = &self.config.name;
        let url = |endpoint: &EndpointId| {
            self.config.endpoints.get(endpoint.get()).cloned().unwrap_or_default()
        };
        match note {
            Note::Held { endpoint, reason } => {
                let endpoint = url(endpoint);
                tracing::error!(destination = %name, endpoint, %reason, "held, nothing is lost");
                self.show();
            }
            Note::Resumed { endpoint } => {
                tracing::info!(destination = %name, endpoint = url(endpoint), "resumed");
                self.show();
            }
            Note::Chosen(mode) => {
                trail::chosen(name, *mode);
                self.show();
            }
            Note::Acknowledged { batch, range, after } => {
                trail::acknowledged(name, *batch, *range, *after);
                if let Some(metrics) = &self.metrics {
                    metrics.acknowledged(*after);
                }
            }
            Note::DeadLettered => self.show(),
            Note::Resend { batch, reason } => {
                tracing::debug!(destination = %name, %batch, reason = reason.as_str(), "resend");
                if let Some(metrics) = &self.metrics {
                    metrics.resent(*reason);
                }
            }
        }
    }

    /// Makes the state visible from outside.
    fn show(&mut self) {
        self.shown = Some(clock::instant());
        let tail = *self.tail.borrow();
        self.stale = false;
        if self.status.is_none() {
            return;
        }
        let delivery = self.machine.status();
        let oldest = self.oldest(&delivery, &tail);
        let Some(shown) = &self.status else { return };
        let full = (delivery.unburied > 0).then(|| {
            "the dead letters are full: redrive or purge some, or raise \
             destination.dead_letters.max_size"
                .to_owned()
        });
        let letters = self.wal.letter_book(&self.config.name);
        let stuck = self.stuck.clone().or(full);
        let endpoints = Arc::clone(&shown.borrow().endpoints);
        let status = SinkStatus { endpoints, delivery, tail, oldest, stuck, letters };
        if let Some(metrics) = &self.metrics {
            metrics.show(&status);
        }
        self.stale = status.delivery.pending(&status.tail) > 0;
        shown.send_replace(status);
    }
}
