//! One request, from its head to its answer.
//!
//! The order is fixed: path, method, credentials, drain, content type, size, memory, body, count,
//! append, answer. What refuses for good comes first and needs no memory; of a body nothing is kept
//! for which there is no memory; nothing is answered 200 before it is durable.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, EXPECT};
use hyper::http::request;
use hyper::{Method, Request};
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
use super::memory::{LARGEST_FRAME, Memory, NoRoom, Room, Wait};
use super::metrics::{End, Metrics, OpenRequest, Seldom};
use super::patience::Patience;
use super::receipt::{Books, Deposit, Receipt};
use super::request_id::{RequestId, RequestIds};
use super::response::{self, Hangup, Refusal, Response};
use super::{Config, tls};
use crate::clock;
use crate::logplex::{Profile, tally};
use crate::types::Offset;
use crate::wal::{AppendError, Appended, Durable, Wal};

/// The longest URI that is looked at.
const MAX_URI: usize = 4096;

/// How soon a frame is offered again to a log that is busy.
const OFFER_TO_BUSY: Duration = Duration::from_millis(50);

/// How soon a frame is offered again to a log without space, if the log does not say earlier that
/// there is some: the offer makes it look.
const OFFER_TO_FULL: Duration = Duration::from_millis(250);

/// How long the rest of a refused body is read at least, although the request's time is up. What
/// was refused would be refused again: the sender has to hear it.
const LINGER: Duration = Duration::from_millis(500);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Handler {
    pub(super) config: Config,
    pub(super) gate: Gate,
    pub(super) metrics: Arc<Metrics>,
    pub(super) timeouts: Timeouts,
    /// How long a connection may take until its first request may come.
    pub(super) handshake: Duration,
    pub(super) addresses: Addresses,
    access: ArcSwap<Access>,
    books: Books,
    wal: Wal,
    memory: Memory,
    patience: Patience,
    max_body: usize,
    warned: Seldom,
    warned_of_no_request: Seldom,
    /// How often the log was asked whether it is well.
    #[cfg(test)]
    pub(super) asked: std::sync::atomic::AtomicUsize,
    ids: RequestIds,
}

/// A frame that could not be stored.
enum Failure {
    /// Never will be.
    Refused(Refusal),
    /// May be, at another try.
    Unavailable,
    /// The same, but there is no memory for it now: one that is answered early comes again early.
    NoRoom,
    /// The body broke off: there is nobody to answer.
    Broken,
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::Refused(Refusal::Size),
            BodyError::Broken => Self::Broken,
            BodyError::NoRoom => Self::NoRoom,
        }
    }
}

impl From<NoRoom> for Failure {
    fn from(NoRoom: NoRoom) -> Self {
        Self::NoRoom
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
        let metrics = Arc::new(Metrics::new());
        metrics.certificate(access.not_after());
        Self {
            gate: Gate::new(config.hold_after, config.close_after),
            books: Books { metrics: Arc::clone(&metrics), losses: Arc::new(Losses::new()) },
            metrics,
            timeouts: Timeouts::new(config.idle_timeout),
            handshake: tls::HANDSHAKE,
            addresses: Addresses::new(config.max_connections_per_address),
            access: ArcSwap::from_pointee(access),
            wal,
            memory: Memory::new(config.max_in_flight, config.max_body),
            patience: Patience::new(config.ack_deadline),
            max_body: usize::try_from(config.max_body.get()).unwrap_or(usize::MAX),
            warned: Seldom::default(),
            warned_of_no_request: Seldom::default(),
            #[cfg(test)]
            asked: std::sync::atomic::AtomicUsize::new(0),
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
            upstream_loss: self.books.losses.lost(),
            unknown_drains: self.books.losses.strangers(),
        }
    }

    /// Whether the log has space, as far as it knows.
    pub(super) fn has_room(&self) -> bool {
        !self.wal.status().space_is_short
    }

    /// Resolves when the log has space, and its appender answers.
    pub(super) async fn well(&self) {
        #[cfg(test)]
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
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
        self.memory.free()
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
        let (head, mut body) = request.into_parts();
        let deadline = started.checked_add(self.config.ack_deadline).unwrap_or(started);
        let deadline = Instant::from_std(deadline);

        let access = self.access();
        let mut profile = facts::profile(&head.headers);
        let mut unread = true;
        let stored = match self.admit(&access, &head, body::declared_len(&body), activity) {
            Ok(admitted) => {
                activity.proves();
                profile = admitted.profile;
                unread = false;
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
                let store = self.store(&facts, source, coding, &mut body, deadline);
                timeout_at(deadline, held(store)).await.unwrap_or_else(|_| {
                    self.metrics.deadline_exceeded.increment(1);
                    Err(Failure::Unavailable)
                })
            }
            Err(refusal) => {
                if refusal == Refusal::Credentials {
                    activity.disproves(clock::instant());
                }
                Err(Failure::Refused(refusal))
            }
        };
        if let Err(Failure::Refused(refusal)) = stored {
            // Who asks before sending a body need not send it.
            if !(unread && head.headers.contains_key(EXPECT)) {
                // Of one that is too large much is on its way. More would not be waited for.
                let most = if refusal == Refusal::Size { 2 } else { 1 };
                let discard = body::discard(&mut body, self.max_body.saturating_mul(most));
                let until = deadline.max(Instant::from_std(clock::instant()) + LINGER);
                // Not read in time: the answer goes out all the same, and hyper closes.
                timeout_at(until, discard).await.unwrap_or_default();
            }
        }
        drop(body);

        let (end, answer) = match stored {
            Ok(durable) => (End::Accepted, Ok(response::accepted(&durable))),
            Err(Failure::Refused(refusal)) => {
                self.warn(refusal, peer, id);
                (End::Refused(refusal), Ok(response::called(response::refused(refusal), id)))
            }
            Err(Failure::Unavailable | Failure::NoRoom) => match response::unavailable(profile) {
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
        declared: Option<u64>,
        activity: &Activity,
    ) -> Result<Admitted<'a>, Refusal> {
        let path = head.uri.path();
        if path.len().saturating_add(head.uri.query().map_or(0, str::len)) > MAX_URI {
            return Err(Refusal::Uri);
        }
        let own = self.config.path.as_str();
        let secret = if path == own {
            None
        } else if access.users.any_by_path() {
            // Behind the path there may be a secret, and nothing else.
            let rest = path.strip_prefix(own.strip_suffix('/').unwrap_or(own));
            Some(rest.and_then(|rest| rest.strip_prefix('/')).ok_or(Refusal::Path)?)
        } else {
            return Err(Refusal::Path);
        };
        if head.method != Method::POST {
            return Err(Refusal::Method);
        }
        let headers = &head.headers;
        let authorization = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let verdict = access.users.check(authorization, secret);
        let user = match verdict {
            Verdict::User(number) => {
                access.users.used(number);
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
        let coding = facts::coding(headers)?;
        if declared.is_some_and(|len| len > self.config.max_body.get()) {
            return Err(Refusal::Size);
        }
        let given = source.drain.and_then(|drain| drain.profile);
        let profile = given.unwrap_or_else(|| facts::profile(headers));
        Ok(Admitted { user, source, profile, coding })
    }

    /// Takes a frame from its head to the log. Cancelled at the ack deadline; what has been
    /// handed to the log by then may still be stored, and is counted then; the sender's next try is
    /// found to be a duplicate.
    async fn store(
        &self,
        facts: &Facts,
        source: Source<'_>,
        coding: Coding,
        body: &mut Incoming,
        deadline: Instant,
    ) -> Result<Durable, Failure> {
        let (body, room) = self.collect(coding, body, deadline).await?;
        let receipt = Receipt::new(facts, source, &body, tally(&body));
        let messages = receipt.tally.messages;
        let appended = self.append(facts, &body, receipt, room).await?;
        // By its offset a frame is found again in what the destinations log.
        tracing::debug!(
            offset = appended.durable.offset().map(Offset::get),
            messages,
            duplicate = appended.duplicate,
            "durable"
        );
        Ok(appended.durable)
    }

    /// Reads a body, with memory for it.
    async fn collect(
        &self,
        coding: Coding,
        body: &mut Incoming,
        deadline: Instant,
    ) -> Result<(Bytes, Room), Failure> {
        let wait = Wait { gate: &self.gate, patience: &self.patience, deadline };
        if let (Coding::Identity, Some(declared)) = (coding, body::declared_len(body))
            && declared <= LARGEST_FRAME
        {
            let room = self.memory.whole(declared, wait).await?;
            return Ok((body::collect_declared(body, declared).await?, room));
        }
        let mut memory = self.memory.growing(wait, coding == Coding::Gzip);
        let body = match coding {
            Coding::Identity => body::collect(body, self.max_body, &mut memory).await?,
            Coding::Gzip => {
                let ratio = self.config.max_gzip_ratio;
                match body::collect_gzip(body, self.max_body, ratio, &mut memory).await? {
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
        let room = memory.whole(body.len());
        Ok((body, room))
    }

    /// Offers a frame to the log until it takes it. While the log has no room the request is
    /// held: its deadline ends this.
    async fn append(
        &self,
        facts: &Facts,
        body: &Bytes,
        receipt: Receipt,
        room: Room,
    ) -> Result<Appended, Failure> {
        let _waiting = self.gate.waits();
        let deposit = Arc::new(Deposit::new(receipt, room, self.gate.hands_over()));
        loop {
            let frame = Wal::prepare(facts.frame(body.clone(), deposit.receipt.tally.messages));
            let offered = self.patience.offer();
            let note = {
                let (books, deposit) = (self.books.clone(), Arc::clone(&deposit));
                move |appended| books.count(&deposit.receipt, appended)
            };
            let appended = self.wal.append_noted(frame, Arc::clone(&deposit), note).await;
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
        if self.warned.now() {
            let code = refusal.status().as_u16();
            let reason = refusal.text().trim_end();
            tracing::warn!(%peer, request_id = %id, code, reason, "refused a request, which loses its messages");
        }
    }

    /// hyper has answered what it could not read: 431 when a head is too large, 400 when it is none.
    pub(super) fn unreadable(&self, peer: IpAddr, error: &hyper::Error) {
        let too_large = error.is_parse_too_large();
        self.metrics.unreadable(too_large);
        if self.warned_of_no_request.now() {
            let code = if too_large { 431 } else { 400 };
            tracing::warn!(%peer, code, reason = %error, "refused what is no request; a sender of logs would lose its messages");
        }
    }
}

/// Keeps a request without memory until its time is up. What it had of memory is given back.
async fn held<T>(store: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match store.await {
        Err(Failure::NoRoom) => std::future::pending().await,
        stored => stored,
    }
}
