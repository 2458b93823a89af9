//! One request, from its head to its answer.
//!
//! The order is fixed: path, method, credentials, drain, content type, size, byte permit, body,
//! count, append, answer. What refuses for good comes first and needs no memory; nothing of a body is
//! read before there is room for all of it; nothing is answered 200 before it is durable.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, EXPECT};
use hyper::http::request;
use hyper::{Method, Request};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument as _;

use super::access::{Access, Source};
use super::activity::{Activity, Timeouts};
use super::addresses::Addresses;
use super::auth::Verdict;
use super::body::{self, BodyError, Gunzipped};
use super::config::Live;
use super::facts::{self, Coding, Facts, Given};
use super::gate::Gate;
use super::handle::IngestStatus;
use super::loss::Losses;
use super::metrics::{End, Metrics, OpenRequest, Seldom};
use super::patience::Patience;
use super::request_id::{RequestId, RequestIds};
use super::response::{self, Hangup, Refusal, Response};
use super::{Config, tls};
use crate::clock;
use crate::logplex::{Profile, Tally, tally};
use crate::types::{ByteSize, Offset};
use crate::wal::{AppendError, Appended, Durable, Wal};

/// The longest URI that is looked at.
const MAX_URI: usize = 4096;

/// How soon a frame is offered again to a log that is busy.
const OFFER_TO_BUSY: Duration = Duration::from_millis(50);

/// How soon a frame is offered again to a log without space, if the log does not say earlier that
/// there is some: the offer makes it look.
const OFFER_TO_FULL: Duration = Duration::from_millis(250);

/// Byte permits are counted in KiB, so that a `u32` holds any body.
const PERMIT: u64 = 1024;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Handler {
    pub(super) config: Config,
    pub(super) gate: Gate,
    pub(super) metrics: Metrics,
    pub(super) timeouts: Timeouts,
    /// How long a connection may take until its first request may come.
    pub(super) handshake: Duration,
    pub(super) addresses: Addresses,
    access: ArcSwap<Access>,
    losses: Losses,
    wal: Wal,
    /// Room for bodies, from their first byte until they are durable.
    memory: Arc<Semaphore>,
    patience: Patience,
    max_body: usize,
    warned: Seldom,
    ids: RequestIds,
}

/// A frame that could not be stored.
enum Failure {
    /// Never will be.
    Refused(Refusal),
    /// May be, at another try.
    Unavailable,
    /// The body broke off: there is nobody to answer.
    Broken,
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::Refused(Refusal::Size),
            BodyError::Broken => Self::Broken,
        }
    }
}

/// What the head of a request says, when it may be accepted.
struct Admitted<'a> {
    user: Option<&'a str>,
    source: Source<'a>,
    profile: Profile,
    coding: Coding,
}

impl Handler {
    pub(super) fn new(mut config: Config, wal: Wal) -> Self {
        let access = Access::new(std::mem::take(&mut config.live));
        // Less than one largest body would make that body wait forever.
        let memory = permits(config.max_in_flight.get()).max(frame_permits(config.max_body));
        let memory = usize::try_from(memory).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let metrics = Metrics::new();
        metrics.certificate(access.not_after());
        Self {
            gate: Gate::new(config.hold_after, config.close_after),
            metrics,
            timeouts: Timeouts::new(config.idle_timeout),
            handshake: tls::HANDSHAKE,
            addresses: Addresses::new(config.max_connections_per_address),
            access: ArcSwap::from_pointee(access),
            losses: Losses::default(),
            wal,
            memory: Arc::new(Semaphore::new(memory)),
            patience: Patience::new(config.ack_deadline),
            max_body: usize::try_from(config.max_body.get()).unwrap_or(usize::MAX),
            warned: Seldom::default(),
            ids: RequestIds::new(),
            config,
        }
    }

    /// The live settings of this moment.
    pub(super) fn access(&self) -> Arc<Access> {
        self.access.load_full()
    }

    /// Other settings, from now on.
    pub(super) fn reload(&self, live: Live) {
        let access = Access::new(live);
        self.metrics.certificate(access.not_after());
        self.access.store(Arc::new(access));
    }

    pub(super) fn status(&self) -> IngestStatus {
        IngestStatus {
            state: self.gate.state().as_str(),
            connections: self.metrics.connections(),
            requests: self.metrics.in_flight(),
            certificate_not_after: self.access.load().not_after(),
            upstream_loss: self.losses.lost(),
            unknown_drains: self.losses.strangers(),
        }
    }

    /// Whether the log has space, as far as it knows.
    pub(super) fn has_room(&self) -> bool {
        !self.wal.status().space_is_short
    }

    /// Resolves when the log has space, and its appender answers.
    pub(super) async fn well(&self) {
        self.wal.space().await;
        if !self.wal.is_alive().await {
            // It has ended, and takes nothing before a restart.
            self.gate.broken();
        }
    }

    /// How long a request may take at most, from the first byte of its head: what a graceful stop
    /// waits for.
    pub(super) const fn longest_request(&self) -> Duration {
        self.timeouts.head.saturating_add(self.config.ack_deadline)
    }

    /// Memory that bodies may still take.
    #[cfg(test)]
    pub(super) fn free_memory(&self) -> usize {
        self.memory.available_permits()
    }

    /// Handles one request.
    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        activity: &Activity,
    ) -> Result<Response, Hangup> {
        let started = activity.request_begins(clock::instant());
        let id = self.ids.of(request.headers());
        let span = tracing::debug_span!("request", request_id = %id);
        self.serve(request, peer, activity, started, &id).instrument(span).await
    }

    async fn serve(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        activity: &Activity,
        started: std::time::Instant,
        id: &RequestId,
    ) -> Result<Response, Hangup> {
        let mut open = OpenRequest::new(&self.metrics, started);
        let (head, body) = request.into_parts();
        let deadline = started.checked_add(self.config.ack_deadline).unwrap_or(started);
        let deadline = Instant::from_std(deadline);

        let access = self.access();
        let mut profile = facts::profile(&head.headers);
        let stored = match self.admit(&access, &head, activity) {
            Ok(admitted) => {
                profile = admitted.profile;
                let Admitted { user, source, coding, .. } = admitted;
                let given = Given {
                    user,
                    source,
                    profile,
                    query: access.query(head.uri.query().unwrap_or_default()),
                    peer,
                    received: clock::unix_micros(),
                };
                let facts = Facts::new(&head.headers, given);
                let store = self.store(&facts, source, coding, body, deadline);
                timeout_at(deadline, store).await.unwrap_or_else(|_| {
                    self.metrics.deadline_exceeded.increment(1);
                    Err(Failure::Unavailable)
                })
            }
            Err(refusal) => {
                // Who asks before sending a body need not send it.
                if !head.headers.contains_key(EXPECT) {
                    let discard = timeout_at(deadline, body::discard(body, self.max_body));
                    // Not read in time: the answer goes out all the same, and hyper closes.
                    discard.await.unwrap_or_default();
                }
                Err(Failure::Refused(refusal))
            }
        };

        let (end, answer) = match stored {
            Ok(durable) => (End::Accepted, Ok(response::accepted(&durable))),
            Err(Failure::Refused(refusal)) => {
                self.warn(refusal, peer, id);
                (End::Refused(refusal), Ok(response::called(response::refused(refusal), id)))
            }
            Err(Failure::Unavailable) => match response::unavailable(profile) {
                Ok(answer) => (End::Unavailable, Ok(response::called(answer, id))),
                Err(hangup) => (End::Unanswered, Err(hangup)),
            },
            Err(Failure::Broken) => {
                self.metrics.broken_bodies.increment(1);
                (End::Unanswered, Err(Hangup))
            }
        };
        open.ends(end);
        if end != End::Accepted {
            tracing::debug!(?end, "not stored");
        }
        activity.request_ends(clock::instant());
        answer
    }

    /// Refuses what can never be accepted, as far as the head says.
    fn admit<'a>(
        &self,
        access: &'a Access,
        head: &'a request::Parts,
        activity: &Activity,
    ) -> Result<Admitted<'a>, Refusal> {
        let path = head.uri.path();
        if path.len().saturating_add(head.uri.query().map_or(0, str::len)) > MAX_URI {
            return Err(Refusal::Uri);
        }
        let secret = match path.strip_prefix(self.config.path.as_str()) {
            Some("") => None,
            // Behind the path there may be a secret, and nothing else.
            Some(rest) if access.users.any_by_path() => {
                Some(rest.strip_prefix('/').ok_or(Refusal::Path)?)
            }
            Some(_) | None => return Err(Refusal::Path),
        };
        if head.method != Method::POST {
            return Err(Refusal::Method);
        }
        let headers = &head.headers;
        let authorization = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let verdict = access.users.check(authorization, secret);
        let user = match verdict {
            Verdict::User(number) => {
                access.users.used(number, clock::unix_micros());
                access.users.name(number)
            }
            Verdict::Anybody => None,
            Verdict::Nobody => {
                self.metrics.auth_failures.increment(1);
                return Err(Refusal::Credentials);
            }
        };
        let source = access.source(verdict, facts::drain_token(headers))?;
        facts::check_content_type(headers)?;
        if activity.has_two_lengths() {
            return Err(Refusal::Lengths);
        }
        let given = source.drain.and_then(|drain| drain.profile);
        let profile = given.unwrap_or_else(|| facts::profile(headers));
        Ok(Admitted { user, source, profile, coding: facts::coding(headers)? })
    }

    /// Takes a frame from its head to the log. Cancelled at the ack deadline; what has been
    /// handed to the log by then may still be stored, and the sender's next try is then found to
    /// be a duplicate.
    async fn store(
        &self,
        facts: &Facts,
        source: Source<'_>,
        coding: Coding,
        body: Incoming,
        deadline: Instant,
    ) -> Result<Durable, Failure> {
        let declared = body::declared_len(&body);
        if declared.is_some_and(|len| len > self.config.max_body.get()) {
            // More than this would not be waited for either.
            body::discard(body, self.max_body.saturating_mul(2)).await;
            return Err(Failure::Refused(Refusal::Size));
        }
        let room = match coding {
            Coding::Identity => declared.map_or(self.config.max_body, ByteSize::bytes),
            // The content may be as large as it likes.
            Coding::Gzip => self.config.max_body,
        };
        let mut permit = self.room(frame_permits(room), deadline).await?;
        let body = match coding {
            Coding::Identity => body::collect(body, self.max_body).await?,
            Coding::Gzip => {
                let ratio = self.config.max_gzip_ratio;
                match body::collect_gzip(body, self.max_body, ratio).await? {
                    Gunzipped::Content(content) => content,
                    Gunzipped::TooLarge => return Err(Failure::Refused(Refusal::Size)),
                    // Content is no reason to refuse.
                    Gunzipped::Damaged(raw) => {
                        self.metrics.damaged_gzip.increment(1);
                        raw
                    }
                }
            }
        };
        shrink(&mut permit, frame_permits(size_of(&body)));

        let tally = tally(&body);
        let appended = self.append(facts, &body, &tally, Arc::new(permit)).await?;
        if appended.duplicate {
            self.metrics.duplicate();
        } else {
            self.metrics.frame(&tally, facts.messages_claimed);
            self.losses.frame(source.label(), &body, facts);
            if source.is_stranger() {
                self.losses.stranger(source.token);
            }
        }
        self.metrics.odd_headers.increment(u64::from(facts.odd_headers));
        // By its offset a frame is found again in what the destinations log.
        tracing::debug!(
            offset = appended.durable.offset().map(Offset::get),
            messages = tally.messages,
            duplicate = appended.duplicate,
            "durable"
        );
        Ok(appended.durable)
    }

    /// Waits for room for a frame, while there is time to store it.
    async fn room(&self, permits: u64, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        if let Ok(permit) = Arc::clone(&self.memory).try_acquire_many_owned(permits) {
            return Ok(permit);
        }
        let _waiting = self.gate.waits();
        let last = deadline.checked_sub(self.patience.reserve()).unwrap_or(deadline);
        match timeout_at(last, Arc::clone(&self.memory).acquire_many_owned(permits)).await {
            // The semaphore is never closed.
            Ok(permit) => permit.map_err(|_| Failure::Unavailable),
            // Held all the same: a sender that is answered early tries again early.
            Err(_) => std::future::pending().await,
        }
    }

    /// Offers a frame to the log until it takes it. While the log has no room the request is
    /// held: its deadline ends this.
    async fn append(
        &self,
        facts: &Facts,
        body: &Bytes,
        tally: &Tally,
        permit: Arc<OwnedSemaphorePermit>,
    ) -> Result<Appended, Failure> {
        let _waiting = self.gate.waits();
        loop {
            let frame = Wal::prepare(facts.frame(body.clone(), tally.messages));
            let offered = self.patience.offer();
            let appended = self.wal.append(frame, Arc::clone(&permit)).await;
            drop(offered);
            match appended {
                Ok(appended) => {
                    self.gate.taken();
                    return Ok(appended);
                }
                Err(AppendError::NoSpace) => {
                    tokio::select! {
                        () = self.wal.space() => {}
                        () = sleep(OFFER_TO_FULL) => {}
                    }
                }
                Err(AppendError::Overloaded) => {
                    sleep(OFFER_TO_BUSY).await;
                }
                Err(AppendError::Stopping | AppendError::Poisoned) => {
                    self.gate.broken();
                    return Err(Failure::Unavailable);
                }
            }
        }
    }

    /// Says now and then that a sender loses frames. Never what it sent.
    fn warn(&self, refusal: Refusal, peer: IpAddr, id: &RequestId) {
        let now = u64::try_from(clock::unix_micros().get()).unwrap_or_default();
        if self.warned.now(now) {
            let code = refusal.status().as_u16();
            let reason = refusal.text().trim_end();
            tracing::warn!(%peer, request_id = %id, code, reason, "refused a request, which loses its messages");
        }
    }
}

/// Permits for so many bytes. An empty frame needs memory too.
const fn permits(bytes: u64) -> u64 {
    (bytes / PERMIT).saturating_add(1)
}

/// Permits for a frame with a body of this size: it is there twice, as it came and encoded for
/// the log.
const fn frame_permits(body: ByteSize) -> u64 {
    permits(body.get().saturating_mul(2))
}

fn size_of(body: &Bytes) -> ByteSize {
    ByteSize::bytes(u64::try_from(body.len()).unwrap_or(u64::MAX))
}

/// Gives back what a body of unknown size turned out not to need.
fn shrink(permit: &mut OwnedSemaphorePermit, needed: u64) {
    let needed = usize::try_from(needed).unwrap_or(usize::MAX);
    drop(permit.split(permit.num_permits().saturating_sub(needed)));
}
