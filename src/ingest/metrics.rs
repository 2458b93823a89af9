//! Ingest's metrics. Handles are made once: a lookup by name costs more than the counting.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::gate::State;
use super::response::Refusal;
use crate::clock::Epoch;
use crate::logplex::Tally;
use crate::types::UnixMicros;

/// Why a connection is closed before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwelcome {
    /// Its address is not among `ingest.allow`.
    Address,
    /// Its address has as many connections as it may.
    TooMany,
    /// A proxy that does not say for whom it connects.
    Proxy,
    /// The TLS handshake failed.
    Tls,
    /// The handshake took too long.
    Slow,
}

impl Unwelcome {
    const ALL: [Self; 5] = [Self::Address, Self::TooMany, Self::Proxy, Self::Tls, Self::Slow];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::TooMany => "too_many",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Slow => "slow",
        }
    }
}

/// How a request ended, as its metric says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// 200.
    Accepted,
    /// A 4xx.
    Refused(Refusal),
    /// 503.
    Unavailable,
    /// Closed without an answer, by us or by the sender.
    Unanswered,
}

/// The metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    accepted: Counter,
    unavailable: Counter,
    unanswered: Counter,
    refused: [(Refusal, Counter); Refusal::ALL.len()],
    duration: Histogram,
    connections: Gauge,
    open: AtomicUsize,
    states: [(&'static str, Gauge); State::SHOWN.len()],
    unwelcome: [(Unwelcome, Counter); Unwelcome::ALL.len()],
    certificate: Gauge,
    in_flight: AtomicUsize,
    no_request: Counter,
    large_head: Counter,
    pub(super) broken_bodies: Counter,
    pub(super) auth_failures: Counter,
    pub(super) deadline_exceeded: Counter,
    pub(super) connection_panics: Counter,
    pub(super) odd_headers: Counter,
    pub(super) damaged_gzip: Counter,
    frames: Counter,
    duplicates: Counter,
    messages: Counter,
    message_bytes: Counter,
    mismatches: Counter,
    truncated: Counter,
    bad_length: Counter,
}

impl Metrics {
    /// Registers every metric with the recorder that is installed now.
    pub(super) fn new() -> Self {
        let unwelcome = |why: Unwelcome| counter!("forebay_http_connections_refused_total", "reason" => why.as_str());
        let requests =
            |code: &str| counter!("forebay_http_requests_total", "code" => code.to_owned());
        Self {
            accepted: requests("200"),
            unavailable: requests("503"),
            unanswered: requests("none"),
            refused: Refusal::ALL.map(|refusal| (refusal, requests(refusal.status().as_str()))),
            duration: histogram!("forebay_http_request_duration_seconds"),
            connections: gauge!("forebay_http_connections"),
            open: AtomicUsize::new(0),
            states: State::SHOWN
                .map(|state| (state, gauge!("forebay_ingest_state", "state" => state))),
            unwelcome: Unwelcome::ALL.map(|why| (why, unwelcome(why))),
            certificate: gauge!("forebay_tls_certificate_not_after_seconds"),
            in_flight: AtomicUsize::new(0),
            no_request: requests("400"),
            large_head: requests("431"),
            broken_bodies: counter!("forebay_http_broken_bodies_total"),
            auth_failures: counter!("forebay_auth_failures_total"),
            deadline_exceeded: counter!("forebay_ack_deadline_exceeded_total"),
            connection_panics: counter!("forebay_http_connection_panics_total"),
            odd_headers: counter!("forebay_odd_headers_total"),
            damaged_gzip: counter!("forebay_damaged_gzip_total"),
            frames: counter!("forebay_frames_received_total"),
            duplicates: counter!("forebay_frames_duplicate_total"),
            messages: counter!("forebay_messages_received_total"),
            message_bytes: counter!("forebay_message_bytes_received_total"),
            mismatches: counter!("forebay_frame_count_mismatch_total"),
            truncated: counter!("forebay_framing_errors_total", "kind" => "truncated"),
            bad_length: counter!("forebay_framing_errors_total", "kind" => "bad_length"),
        }
    }

    /// A request has ended.
    pub(super) fn request(&self, end: End, took: Duration) {
        match end {
            End::Accepted => self.accepted.increment(1),
            End::Refused(refusal) => {
                if let Some((_, counter)) = self.refused.iter().find(|(known, _)| *known == refusal)
                {
                    counter.increment(1);
                }
            }
            End::Unavailable => self.unavailable.increment(1),
            End::Unanswered => self.unanswered.increment(1),
        }
        self.duration.record(took);
    }

    /// hyper has refused a head: one that is too large, or what is none.
    pub(super) fn unreadable(&self, too_large: bool) {
        let counter = if too_large { &self.large_head } else { &self.no_request };
        counter.increment(1);
    }

    /// A frame is in the log that was not there before.
    pub(super) fn frame(&self, tally: &Tally, claimed: Option<u32>) {
        self.frames.increment(1);
        self.messages.increment(u64::from(tally.messages));
        self.message_bytes.increment(tally.bytes);
        self.truncated.increment(u64::from(tally.truncated));
        self.bad_length.increment(u64::from(tally.bad_length));
        if claimed.is_some_and(|claimed| claimed != tally.messages) {
            self.mismatches.increment(1);
        }
    }

    /// A frame was in the log already.
    pub(super) fn duplicate(&self) {
        self.duplicates.increment(1);
    }

    /// What the accept loop does from now on.
    pub(super) fn state(&self, state: State) {
        for (name, gauge) in &self.states {
            gauge.set(if *name == state.as_str() { 1.0 } else { 0.0 });
        }
    }

    /// The end of the certificate's life; 0 without one.
    pub(super) fn certificate(&self, not_after: Option<UnixMicros>) {
        // Seconds fit into a float for as long as there will be certificates.
        let seconds = not_after.map_or(0, |at| at.get() / 1_000_000);
        self.certificate.set(seconds as f64);
    }

    /// A connection was closed before its first request.
    pub(super) fn unwelcome(&self, why: Unwelcome) {
        if let Some((_, counter)) = self.unwelcome.iter().find(|(known, _)| *known == why) {
            counter.increment(1);
        }
    }

    /// How many requests have a head and no answer yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many connections are open.
    pub(super) fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// A connection is open for as long as the guard lives.
    pub(super) fn connection(&self) -> OpenConnection<'_> {
        self.connections.increment(1);
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self)
    }
}

/// One connection in the gauge.
#[derive(Debug)]
pub(super) struct OpenConnection<'a>(&'a Metrics);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.connections.decrement(1);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a request when it ends, also when it ends because its connection is gone.
#[derive(Debug)]
pub(super) struct OpenRequest<'a> {
    metrics: &'a Metrics,
    started: Instant,
    end: End,
}

impl<'a> OpenRequest<'a> {
    pub(super) fn new(metrics: &'a Metrics, started: Instant) -> Self {
        metrics.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { metrics, started, end: End::Unanswered }
    }

    pub(super) const fn ends(&mut self, end: End) {
        self.end = end;
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        let took = crate::clock::instant().saturating_duration_since(self.started);
        self.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.metrics.request(self.end, took);
    }
}

/// Lets one in a while through: for log lines that a sender can cause as often as it likes. By the
/// clock that never steps back.
#[derive(Debug)]
pub(super) struct Seldom {
    epoch: Epoch,
    /// Microseconds from the epoch to when it may say yes again.
    next: AtomicU64,
}

impl Default for Seldom {
    fn default() -> Self {
        Self { epoch: Epoch::start(), next: AtomicU64::new(0) }
    }
}

impl Seldom {
    const EVERY: Duration = Duration::from_secs(10);

    /// Whether ten seconds have passed since this last said yes.
    pub(super) fn now(&self) -> bool {
        self.at(self.epoch.now())
    }

    fn at(&self, since_epoch: Duration) -> bool {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let next = self.next.load(Ordering::Relaxed);
        let then = micros(since_epoch.saturating_add(Self::EVERY));
        micros(since_epoch) >= next
            && self.next.compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seldom_says_yes_once_in_ten_seconds() {
        let seldom = Seldom::default();
        assert!(seldom.now());
        assert!(!seldom.now());
        let seldom = Seldom::default();
        assert!(seldom.at(Duration::ZERO));
        assert!(!seldom.at(Duration::from_millis(9_999)));
        assert!(seldom.at(Duration::from_millis(10_000)));
        assert!(!seldom.at(Duration::from_millis(19_999)));
        assert!(seldom.at(Duration::from_millis(60_000)));
    }
}
