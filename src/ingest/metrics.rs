//! Ingest's metrics. Handles are made once: a lookup by name costs more than the counting.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use memchr::memmem;
use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};

use super::response::Refusal;
use crate::logplex::{LossCode, Profile, Tally, loss, parse, pieces};

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
    in_flight: AtomicUsize,
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
    upstream_loss: [(LossCode, Counter); LossCode::ALL.len()],
}

impl Metrics {
    /// Registers every metric with the recorder that is installed now.
    pub(super) fn new() -> Self {
        describe();
        let requests =
            |code: &str| counter!("forebay_http_requests_total", "code" => code.to_owned());
        Self {
            accepted: requests("200"),
            unavailable: requests("503"),
            unanswered: requests("none"),
            refused: Refusal::ALL.map(|refusal| (refusal, requests(refusal.status().as_str()))),
            duration: histogram!("forebay_http_request_duration_seconds"),
            connections: gauge!("forebay_http_connections"),
            in_flight: AtomicUsize::new(0),
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
            upstream_loss: LossCode::ALL.map(|code| {
                let counter =
                    counter!("forebay_upstream_loss_messages_total", "code" => code.as_str());
                (code, counter)
            }),
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

    /// Counts the messages that a frame reports as lost before they came to us. One search
    /// through the body, for nearly every frame in vain.
    pub(super) fn upstream_loss(&self, body: &[u8], profile: Profile) {
        if memmem::find(body, b"Error L1").is_none() {
            return;
        }
        for lost in pieces(body).filter_map(|piece| loss(&parse(piece.bytes, profile))) {
            if let Some((_, counter)) =
                self.upstream_loss.iter().find(|(code, _)| *code == lost.code)
            {
                counter.increment(lost.messages);
            }
        }
    }

    /// How many requests have a head and no answer yet.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A connection is open for as long as the guard lives.
    pub(super) fn connection(&self) -> OpenConnection<'_> {
        self.connections.increment(1);
        OpenConnection(&self.connections)
    }
}

/// One connection in the gauge.
#[derive(Debug)]
pub(super) struct OpenConnection<'a>(&'a Gauge);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.decrement(1);
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

/// Lets one in a while through: for log lines that a sender can cause as often as it likes.
#[derive(Debug, Default)]
pub(super) struct Seldom(AtomicU64);

impl Seldom {
    const EVERY_MICROS: u64 = 10_000_000;

    /// Whether ten seconds have passed since this last said yes.
    pub(super) fn now(&self, unix_micros: u64) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        unix_micros.saturating_sub(last) >= Self::EVERY_MICROS
            && self
                .0
                .compare_exchange(last, unix_micros, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// Help texts and units.
fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge};

    counter!(
        "forebay_http_requests_total",
        "Requests by the status of their answer; none: closed without one."
    );
    metrics::describe_histogram!(
        "forebay_http_request_duration_seconds",
        Unit::Seconds,
        "From the first byte of a request to its answer. Logplex gives up after 5 s."
    );
    gauge!("forebay_http_connections", "Open connections.");
    counter!("forebay_http_broken_bodies_total", "Requests whose body broke off.");
    counter!("forebay_http_connection_panics_total", "Connections lost to a bug of forebay.");
    counter!(
        "forebay_auth_failures_total",
        "Requests with wrong or no credentials: each loses a frame."
    );
    counter!(
        "forebay_ack_deadline_exceeded_total",
        "Requests that were not durable within the ack deadline: each costs the sender a try."
    );
    counter!("forebay_odd_headers_total", "Frame ids, drain tokens and counts that were ignored.");
    counter!(
        "forebay_damaged_gzip_total",
        "Bodies that did not decompress and were stored as they came."
    );
    counter!("forebay_frames_received_total", "Frames stored.");
    counter!("forebay_frames_duplicate_total", "Frames that were in the log already.");
    counter!("forebay_messages_received_total", "Messages stored.");
    counter!("forebay_message_bytes_received_total", Unit::Bytes, "Bytes of the messages stored.");
    counter!(
        "forebay_frame_count_mismatch_total",
        "Frames with another number of messages than Logplex-Msg-Count says."
    );
    counter!("forebay_framing_errors_total", "Messages that could not be cut out by their length.");
    counter!(
        "forebay_upstream_loss_messages_total",
        "Messages that were lost before they came here, as the sender reports them."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seldom_says_yes_once_in_ten_seconds() {
        let seldom = Seldom::default();
        let start = 1_767_323_045_000_000;
        assert!(seldom.now(start));
        assert!(!seldom.now(start + 9_999_999));
        assert!(seldom.now(start + 10_000_000));
        assert!(!seldom.now(start + 10_000_001));
    }
}
