//! The driver: carries out what the machine decides and tells it what came of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Epoch};
use crate::delivery::{
    Acknowledgement, Action, Delivery, EndpointState, Event, Note, PollOutcome, PostOutcome,
    ReadBatch, ResendReason,
};
use crate::types::{BatchId, ChannelId, Position, PositionRange, Tail, UnixMicros};
use crate::wal::{CommitError, Floor, ReadError, Wal};

use super::client::HecClient;
use super::pack::{Body, Packer};
use super::{Config, Ended, Sink, SinkStatus};

/// The state is shown at least this often while anything happens.
const SHOW_EVERY: Duration = Duration::from_millis(500);

pub(super) struct Task {
    config: Config,
    wal: Wal,
    machine: Delivery,
    /// With the job that uses it, otherwise here.
    packer: Option<Box<Packer>>,
    /// Jobs that wait for the packer.
    packing: VecDeque<PackJob>,
    client: HecClient,
    bodies: HashMap<BatchId, Body>,
    jobs: JoinSet<Done>,
    tail: watch::Receiver<Tail>,
    floor: watch::Receiver<Floor>,
    status: Arc<watch::Sender<SinkStatus>>,
    stuck: Option<String>,
    shown: Option<Instant>,
    /// What is shown is not the latest, or grows old by itself as lag does.
    stale: bool,
    epoch: Epoch,
    metrics: Metrics,
}

/// Something to be made from the log.
#[derive(Clone, Copy)]
enum PackJob {
    Next { batch: BatchId, from: Position },
    Again { batch: BatchId, range: PositionRange },
}

/// A job that ended.
enum Done {
    Packed(Box<Packer>, PackJob, Result<Packed, ReadError>),
    /// A job that could not be done is due again.
    Again(PackJob),
    Posted {
        lane: crate::delivery::LaneId,
        outcome: PostOutcome,
        took: Duration,
    },
    Polled(ChannelId, PollOutcome),
    Committed(Result<(), CommitError>),
}

enum Packed {
    Next(ReadBatch, Option<Body>),
    Again(Body),
}

impl Task {
    pub(super) fn new(sink: Sink, epoch: Epoch) -> Self {
        let Sink { config, wal, machine, packer, client, status, drains: _ } = sink;
        let metrics = Metrics::new(&config);
        Self {
            tail: wal.tail(),
            floor: wal.floor(),
            metrics,
            config,
            wal,
            machine,
            packer: Some(Box::new(packer)),
            packing: VecDeque::new(),
            client,
            bodies: HashMap::new(),
            jobs: JoinSet::new(),
            status,
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
                Ok(()) = self.tail.changed() => {
                    let tail = *self.tail.borrow_and_update();
                    self.tell(Event::Tail(tail));
                }
                Ok(()) = self.floor.changed() => self.tell_floor(),
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
            Action::Encode { batch, range } => self.pack(PackJob::Again { batch, range }),
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
                self.jobs.spawn(async move {
                    let started = clock::instant();
                    let outcome = client.post(endpoint, channel, body).await;
                    Done::Posted { lane, outcome, took: clock::instant() - started }
                });
            }
            Action::Release(batch) => {
                self.bodies.remove(&batch);
            }
            Action::Poll { endpoint, channel, ids } => {
                let client = self.client.clone();
                self.jobs.spawn(async move {
                    Done::Polled(channel, client.poll(endpoint, channel, &ids).await)
                });
            }
            Action::Commit(mut checkpoint) => {
                checkpoint.saved = clock::unix_micros();
                let (wal, name) = (self.wal.clone(), self.config.name.clone());
                self.jobs
                    .spawn(async move { Done::Committed(wal.commit(&name, checkpoint).await) });
            }
            Action::Note(note) => self.note(&note),
        }
    }

    /// Starts a job if the packer is here, else keeps it for when it is back.
    fn pack(&mut self, job: PackJob) {
        let Some(mut packer) = self.packer.take() else {
            self.packing.push_back(job);
            return;
        };
        self.jobs.spawn_blocking(move || {
            let packed = match job {
                PackJob::Next { batch, from } => {
                    packer.next(batch, from).map(|(read, body)| Packed::Next(read, body))
                }
                PackJob::Again { range, .. } => packer.again(range).map(Packed::Again),
            };
            Done::Packed(packer, job, packed)
        });
    }

    fn on_done(&mut self, done: Done) -> Result<(), CommitError> {
        match done {
            Done::Packed(packer, job, packed) => {
                self.packer = Some(packer);
                if let Some(next) = self.packing.pop_front() {
                    self.pack(next);
                }
                self.on_packed(job, packed);
            }
            Done::Again(job) => self.pack(job),
            Done::Posted { lane, outcome, took } => {
                self.metrics.posted(&outcome, took);
                self.tell(Event::Posted { lane, outcome });
            }
            Done::Polled(channel, outcome) => self.tell(Event::Polled { channel, outcome }),
            Done::Committed(result) => {
                result?;
                self.tell(Event::Committed);
                self.show();
            }
        }
        Ok(())
    }

    fn on_packed(&mut self, job: PackJob, packed: Result<Packed, ReadError>) {
        match packed {
            Ok(Packed::Next(read, body)) => {
                self.unstick();
                self.bodies.extend(body.map(|body| (read.batch, body)));
                self.tell(Event::Read(read));
            }
            Ok(Packed::Again(body)) => {
                self.unstick();
                if let PackJob::Again { batch, .. } = job {
                    self.bodies.insert(batch, body);
                    self.tell(Event::Encoded(batch));
                }
            }
            Err(ReadError::Trimmed { at, .. }) if at < self.floor.borrow().offset => {
                // Dropped for want of space while it was asked for. Read anew from where the
                // machine goes on.
                self.tell_floor();
                match job {
                    PackJob::Next { batch, .. } => self.tell(Event::Read(nothing(batch))),
                    PackJob::Again { batch, .. } => {
                        if let Some(range) = self.machine.range(batch) {
                            self.pack(PackJob::Again { batch, range });
                        }
                    }
                }
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

    fn unstick(&mut self) {
        if self.stuck.take().is_some() {
            tracing::info!(destination = %self.config.name, "the log can be read again");
        }
    }

    fn note(&mut self, note: &Note) {
        let name = &self.config.name;
        let url = |endpoint: &crate::delivery::EndpointId| {
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
            Note::Acknowledged { after } => self.metrics.ack_latency.record(after.as_secs_f64()),
            Note::Resend { batch, reason } => {
                tracing::debug!(destination = %name, %batch, reason = reason.as_str(), "resend");
                self.metrics.resent(*reason);
            }
        }
    }

    /// Makes the state visible from outside.
    fn show(&mut self) {
        self.shown = Some(clock::instant());
        let tail = *self.tail.borrow();
        let status =
            SinkStatus { delivery: self.machine.status(), tail, stuck: self.stuck.clone() };
        self.metrics.show(&status);
        self.stale = status.delivery.pending(&status.tail) > 0;
        self.status.send_replace(status);
    }
}

/// A read that brought nothing.
fn nothing(batch: BatchId) -> ReadBatch {
    ReadBatch {
        batch,
        range: PositionRange::default(),
        messages: 0,
        filtered: 0,
        events: 0,
        messages_end: 0,
        received: UnixMicros::default(),
        caught_up: None,
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Handles, made once a destination.
struct Metrics {
    delivered: Counter,
    filtered: Counter,
    dropped: Counter,
    requests: [(&'static str, Counter); 5],
    request_seconds: Histogram,
    ack_latency: Histogram,
    resent: [(ResendReason, Counter); 4],
    pending: Gauge,
    lag: Gauge,
    in_flight: Gauge,
    held: Gauge,
    difference: Gauge,
}

impl Metrics {
    fn new(config: &Config) -> Self {
        let name = config.name.to_string();
        let label = || ("destination", name.clone());
        let request = |outcome: &'static str| {
            let labels = [label(), ("outcome", outcome.to_owned())];
            (outcome, metrics::counter!("forebay_hec_requests_total", &labels))
        };
        let resent = |reason: ResendReason| {
            let labels = [label(), ("reason", reason.as_str().to_owned())];
            (reason, metrics::counter!("forebay_resent_batches_total", &labels))
        };
        let required = config.delivery.acknowledgement == Acknowledgement::Required;
        metrics::gauge!("forebay_acknowledgement_required", &[label()])
            .set(f64::from(u8::from(required)));
        Self {
            delivered: metrics::counter!("forebay_delivered_messages_total", &[label()]),
            filtered: metrics::counter!("forebay_filtered_messages_total", &[label()]),
            dropped: metrics::counter!("forebay_dropped_messages_total", &[label()]),
            requests: ["accepted", "busy", "unreachable", "doubt", "fault"].map(request),
            request_seconds: metrics::histogram!("forebay_hec_request_seconds", &[label()]),
            ack_latency: metrics::histogram!("forebay_ack_latency_seconds", &[label()]),
            resent: [
                ResendReason::NotAccepted,
                ResendReason::Doubt,
                ResendReason::AckTimeout,
                ResendReason::ChannelForgotten,
            ]
            .map(resent),
            pending: metrics::gauge!("forebay_pending_messages", &[label()]),
            lag: metrics::gauge!("forebay_lag_seconds", &[label()]),
            in_flight: metrics::gauge!("forebay_batches_in_flight", &[label()]),
            held: metrics::gauge!("forebay_destination_held", &[label()]),
            difference: metrics::gauge!("forebay_books_difference", &[label()]),
        }
    }

    fn posted(&self, outcome: &PostOutcome, took: Duration) {
        let label = match outcome {
            PostOutcome::Accepted { .. } => "accepted",
            PostOutcome::Busy { .. } => "busy",
            PostOutcome::Unreachable { .. } => "unreachable",
            PostOutcome::Doubt { .. } => "doubt",
            PostOutcome::Fault(_) => "fault",
        };
        if let Some((_, counter)) = self.requests.iter().find(|(name, _)| *name == label) {
            counter.increment(1);
        }
        self.request_seconds.record(took.as_secs_f64());
    }

    fn resent(&self, reason: ResendReason) {
        if let Some((_, counter)) = self.resent.iter().find(|(known, _)| *known == reason) {
            counter.increment(1);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    fn show(&self, status: &SinkStatus) {
        let delivery = &status.delivery;
        self.delivered.absolute(delivery.totals.acknowledged);
        self.filtered.absolute(delivery.totals.filtered);
        self.dropped.absolute(delivery.totals.dropped);
        self.pending.set(delivery.pending(&status.tail) as f64);
        self.difference.set(delivery.difference(&status.tail) as f64);
        self.in_flight.set((delivery.batches_posting + delivery.batches_unacknowledged) as f64);
        let now = clock::unix_micros();
        let lag = delivery.oldest_unsettled.map_or(0, |oldest| now.since(oldest));
        self.lag.set(Duration::from_micros(lag).as_secs_f64());
        let held = |state: &EndpointState| matches!(state, EndpointState::Held { .. });
        let all_held = delivery.endpoints.iter().all(|endpoint| held(&endpoint.state));
        self.held.set(f64::from(u8::from(all_held || status.stuck.is_some())));
    }
}
