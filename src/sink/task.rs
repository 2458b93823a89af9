//! The driver: carries out what the machine decides and tells it what came of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::clock::{self, Epoch};
use crate::delivery::{
    Action, Cut, Delivery, EndpointId, Event, Note, Parts, PollOutcome, PostOutcome, ReadBatch,
};
use crate::hec::Reason;
use crate::record::DeadLetter;
use crate::types::{BatchId, ChannelId, Position, PositionRange, Tail};
use crate::wal::{CommitError, Floor, LetterError, ReadError, Wal};

use super::client::HecClient;
use super::ledger::Ledger;
use super::numbers::Metrics;
use super::pack::{Again, Body, Source};
use super::{Config, Ended, SinkStatus, trail};

/// The state is shown at least this often while anything happens.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// What a task is made of.
pub(super) struct Makings {
    pub(super) config: Config,
    pub(super) wal: Wal,
    pub(super) machine: Delivery,
    pub(super) source: Box<dyn Source>,
    pub(super) client: HecClient,
    pub(super) ledger: Ledger,
    pub(super) tail: watch::Receiver<Tail>,
    /// Where the state is shown, and counted, if it is.
    pub(super) shown: Option<Arc<watch::Sender<SinkStatus>>>,
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
    client: HecClient,
    bodies: HashMap<BatchId, Body>,
    jobs: JoinSet<Done>,
    tail: watch::Receiver<Tail>,
    floor: watch::Receiver<Floor>,
    letters: watch::Receiver<u64>,
    status: Option<Arc<watch::Sender<SinkStatus>>>,
    stuck: Option<String>,
    shown: Option<Instant>,
    /// What is shown is not the latest, or grows old by itself as lag does.
    stale: bool,
    epoch: Epoch,
    metrics: Option<Metrics>,
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
        let Makings { config, wal, machine, source, client, ledger, tail, shown } = makings;
        Self {
            tail,
            floor: wal.floor(),
            letters: wal.letters_changed(),
            metrics: shown.is_some().then(|| Metrics::new(&config)),
            config,
            wal,
            machine,
            source: Some(source),
            packing: VecDeque::new(),
            ledger,
            client,
            bodies: HashMap::new(),
            jobs: JoinSet::new(),
            status: shown,
            stuck: None,
            shown: None,
            stale: false,
            epoch,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken, grace: Duration) -> Ended {
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
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => match done {
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
                Ok(()) = self.tail.changed(), if !self.ledger.is_finite() => {
                    let tail = *self.tail.borrow_and_update();
                    self.tell(Event::Tail(tail));
                }
                Ok(()) = self.floor.changed(), if !self.ledger.is_finite() => self.tell_floor(),
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
        let Floor { offset, messages_before } = *self.floor.borrow_and_update();
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
                let client = self.client.clone();
                let span =
                    trail::post(&self.config.name, batch, self.machine.range(batch), channel);
                let post = async move {
                    let started = clock::instant();
                    let outcome = client.post(endpoint, channel, body).await;
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
                let client = self.client.clone();
                let poll = async move {
                    let outcome = client.poll(endpoint, channel, &ids).await;
                    trail::polled(&outcome);
                    Done::Polled(channel, outcome)
                };
                self.jobs.spawn(poll.instrument(trail::poll(&self.config.name, channel)));
            }
            Action::Commit(mut checkpoint) => {
                checkpoint.saved = clock::unix_micros();
                checkpoint.endpoints.clone_from(&self.config.endpoints);
                let (wal, name) = (self.wal.clone(), self.config.name.clone());
                let commit = self.ledger.commit(checkpoint);
                self.jobs.spawn(async move { Done::Committed(commit.write(&wal, &name).await) });
            }
            Action::Note(note) => self.note(&note),
        }
    }

    /// Starts a job if the source is here, else keeps it for when it is back.
    fn pack(&mut self, job: PackJob) {
        let Some(mut source) = self.source.take() else {
            self.packing.push_back(job);
            return;
        };
        self.jobs.spawn_blocking(move || {
            let packed = match job {
                PackJob::Next { batch, from } => {
                    source.next(batch, from).map(|(read, body)| Packed::Next(read, body))
                }
                PackJob::Again { range, plain, .. } => {
                    source.again(range, plain).map(Packed::Again)
                }
                PackJob::Cut { range, cut, .. } => {
                    source.cut(range, cut).map(|parts| Packed::Cut(Box::new(parts)))
                }
                PackJob::Letter { range, .. } => {
                    source.letter(range).map(|found| Packed::Letter(found.map(Box::new)))
                }
            };
            Done::Packed(source, job, packed)
        });
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
            Done::Committed(result) => {
                result?;
                self.tell(Event::Committed);
                self.show();
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

    fn on_packed(&mut self, job: PackJob, packed: Result<Packed, ReadError>) {
        match packed {
            Ok(Packed::Next(read, body)) => {
                self.unstick();
                trail::read(&self.config.name, &read);
                self.bodies.extend(body.map(|body| (read.batch, body)));
                self.tell(Event::Read(read));
            }
            Ok(Packed::Again(Again { body, events, filtered })) => {
                self.unstick();
                if let PackJob::Again { batch, .. } = job {
                    self.bodies.insert(batch, body);
                    self.tell(Event::Encoded { batch, events, filtered });
                }
            }
            Ok(Packed::Cut(parts)) => {
                self.unstick();
                if let PackJob::Cut { batch, cut, .. } = job {
                    self.tell(Event::Split { batch, cut, parts: *parts });
                }
            }
            Ok(Packed::Letter(found)) => {
                self.unstick();
                if let PackJob::Letter { batch, endpoint, reason, .. } = job {
                    self.bury(batch, endpoint, &reason, found.map(|found| *found));
                }
            }
            Err(ReadError::Trimmed { at, .. })
                if !self.ledger.is_finite() && at < self.floor.borrow().offset =>
            {
                // Dropped for want of space while it was asked for. Read anew from where the
                // machine goes on.
                self.tell_floor();
                self.pack_what_is_left(job);
            }
            Err(ReadError::GivenUp { range: lost, messages_end })
                if let PackJob::Next { batch, from } = job =>
            {
                self.unstick();
                let name = &self.config.name;
                tracing::error!(destination = %name, frames = %lost, "passed over: given up");
                let range = PositionRange { start: from, end: Position::at(lost.end) };
                self.tell(Event::Lost { batch, range, messages_end });
            }
            Err(error) => {
                // The disk may come back; damage does not. Either way nothing is skipped.
                tracing::error!(destination = %self.config.name, %error, "held: the log cannot be read");
                self.stuck = Some(error.to_string());
                self.show();
                let again = clock::instant() + self.config.delivery.retry.hold;
                self.jobs.spawn(async move {
                    sleep_until(again.into()).await;
                    Done::Again(job)
                });
            }
        }
    }

    /// Does a job again, for what the machine still has of its batch.
    fn pack_what_is_left(&mut self, job: PackJob) {
        let left = |batch| self.machine.range(batch);
        let job = match job {
            PackJob::Next { batch, .. } => {
                return self.tell(Event::Read(ReadBatch::nothing(batch)));
            }
            PackJob::Again { batch, plain, .. } => {
                left(batch).map(|range| PackJob::Again { batch, range, plain })
            }
            PackJob::Cut { batch, cut, .. } => {
                left(batch).map(|range| PackJob::Cut { batch, range, cut })
            }
            PackJob::Letter { batch, endpoint, reason, .. } => {
                left(batch).map(|range| PackJob::Letter { batch, range, endpoint, reason })
            }
        };
        if let Some(job) = job {
            self.pack(job);
        }
    }

    /// Makes a dead letter durable.
    fn bury(
        &mut self,
        batch: BatchId,
        endpoint: EndpointId,
        reason: &Reason,
        found: Option<(Position, DeadLetter)>,
    ) {
        let (wal, name) = (self.wal.clone(), self.config.name.clone());
        let limit = self.config.dead_letters.max_size;
        let letter = found.map(|(at, letter)| {
            let letter = DeadLetter {
                code: reason.code,
                status: reason.status,
                text: reason.text.clone(),
                endpoint: self.config.endpoints.get(endpoint.get()).cloned().unwrap_or_default(),
                refused: clock::unix_micros(),
                ..letter
            };
            let (at, letter) = self.ledger.bury(at, letter);
            tracing::warn!(
                destination = %name, position = %at, event_id = letter.event_id, %reason,
                "an event is refused and goes to the dead letters"
            );
            (at, letter)
        });
        self.jobs.spawn(async move {
            match letter {
                Some((at, letter)) => Done::Buried(batch, wal.bury(&name, at, letter, limit).await),
                // The configuration has changed, and there is no event any more.
                None => Done::Buried(batch, Ok(())),
            }
        });
    }

    /// The end of what is read.
    fn end(&self) -> crate::types::Offset {
        self.tail.borrow().end
    }

    fn unstick(&mut self) {
        if self.stuck.take().is_some() {
            tracing::info!(destination = %self.config.name, "the log can be read again");
        }
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
        let (Some(shown), Some(metrics)) = (&self.status, &self.metrics) else { return };
        let delivery = self.machine.status();
        let full = (delivery.unburied > 0).then(|| "the dead letters are full".to_owned());
        let letters = self.wal.letter_book(&self.config.name);
        let stuck = self.stuck.clone().or(full);
        let status = SinkStatus { delivery, tail, stuck, letters };
        metrics.show(&status);
        self.stale = status.delivery.pending(&status.tail) > 0;
        shown.send_replace(status);
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
