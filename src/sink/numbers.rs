//! What is counted of a destination.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use crate::clock;
use crate::delivery::{Acknowledgement, EndpointState, PostOutcome, ResendReason};

use super::{Config, SinkStatus};

/// Handles, made once a destination.
pub(super) struct Metrics {
    delivered: Counter,
    filtered: Counter,
    dropped: Counter,
    skipped: Counter,
    rewound: Counter,
    requests: [(&'static str, Counter); 7],
    request_seconds: Histogram,
    ack_latency: Histogram,
    resent: [(ResendReason, Counter); 7],
    dead_lettered: Counter,
    letters: Gauge,
    letter_bytes: Gauge,
    lanes: Gauge,
    pending: Gauge,
    lag: Gauge,
    in_flight: Gauge,
    held: Gauge,
    required: Gauge,
    modes: [(Acknowledgement, Gauge); 3],
    paused: Gauge,
    difference: Gauge,
}

impl Metrics {
    pub(super) fn new(config: &Config) -> Self {
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
        let mode = |mode: Acknowledgement| {
            let labels = [label(), ("mode", mode.as_str().to_owned())];
            (mode, metrics::gauge!("forebay_acknowledgement", &labels))
        };
        Self {
            delivered: metrics::counter!("forebay_delivered_messages_total", &[label()]),
            filtered: metrics::counter!("forebay_filtered_messages_total", &[label()]),
            dropped: metrics::counter!("forebay_dropped_messages_total", &[label()]),
            skipped: metrics::counter!("forebay_skipped_messages_total", &[label()]),
            rewound: metrics::counter!("forebay_rewound_messages_total", &[label()]),
            requests: ["accepted", "busy", "unreachable", "doubt", "fault", "refused", "too_large"]
                .map(request),
            request_seconds: metrics::histogram!("forebay_hec_request_seconds", &[label()]),
            ack_latency: metrics::histogram!("forebay_ack_latency_seconds", &[label()]),
            resent: [
                ResendReason::NotAccepted,
                ResendReason::Doubt,
                ResendReason::AckTimeout,
                ResendReason::ChannelForgotten,
                ResendReason::ConnectionLost,
                ResendReason::Refused,
                ResendReason::Restart,
            ]
            .map(resent),
            dead_lettered: metrics::counter!("forebay_dead_lettered_messages_total", &[label()]),
            letters: metrics::gauge!("forebay_dead_letters", &[label()]),
            letter_bytes: metrics::gauge!("forebay_dead_letter_bytes", &[label()]),
            lanes: metrics::gauge!("forebay_lanes", &[label()]),
            pending: metrics::gauge!("forebay_pending_messages", &[label()]),
            lag: metrics::gauge!("forebay_lag_seconds", &[label()]),
            in_flight: metrics::gauge!("forebay_batches_in_flight", &[label()]),
            held: metrics::gauge!("forebay_destination_held", &[label()]),
            required: metrics::gauge!("forebay_acknowledgement_required", &[label()]),
            modes: [Acknowledgement::Required, Acknowledgement::Off, Acknowledgement::Auto]
                .map(mode),
            paused: metrics::gauge!("forebay_destination_paused", &[label()]),
            difference: metrics::gauge!("forebay_books_difference", &[label()]),
        }
    }

    pub(super) fn posted(&self, outcome: &PostOutcome, took: Duration) {
        let label = match outcome {
            PostOutcome::Accepted { .. } => "accepted",
            PostOutcome::Busy { .. } => "busy",
            PostOutcome::Unreachable { .. } | PostOutcome::Missing { .. } => "unreachable",
            PostOutcome::Severed { sent: false } => "unreachable",
            PostOutcome::Doubt { .. } | PostOutcome::Severed { sent: true } => "doubt",
            PostOutcome::Fault(_) | PostOutcome::Strange(_) => "fault",
            PostOutcome::Refused { .. } => "refused",
            PostOutcome::TooLarge { .. } => "too_large",
        };
        if let Some((_, counter)) = self.requests.iter().find(|(name, _)| *name == label) {
            counter.increment(1);
        }
        self.request_seconds.record(took.as_secs_f64());
    }

    pub(super) fn acknowledged(&self, after: Duration) {
        self.ack_latency.record(after.as_secs_f64());
    }

    pub(super) fn resent(&self, reason: ResendReason) {
        if let Some((_, counter)) = self.resent.iter().find(|(known, _)| *known == reason) {
            counter.increment(1);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub(super) fn show(&self, status: &SinkStatus) {
        let delivery = &status.delivery;
        self.delivered.absolute(delivery.totals.acknowledged);
        self.filtered.absolute(delivery.totals.filtered);
        self.dropped.absolute(delivery.totals.dropped);
        self.skipped.absolute(delivery.totals.skipped);
        self.rewound.absolute(delivery.totals.rewound);
        self.dead_lettered.absolute(delivery.totals.dead_lettered);
        self.letters.set(status.letters.letters as f64);
        self.letter_bytes.set(status.letters.bytes as f64);
        let lanes: usize = delivery.endpoints.iter().map(|endpoint| endpoint.lanes).sum();
        self.lanes.set(lanes as f64);
        self.pending.set(delivery.pending(&status.tail) as f64);
        self.difference.set(delivery.difference(&status.tail) as f64);
        self.required.set(f64::from(u8::from(delivery.acknowledgement != Acknowledgement::Off)));
        for (mode, gauge) in &self.modes {
            gauge.set(f64::from(u8::from(*mode == delivery.acknowledgement)));
        }
        self.paused.set(f64::from(u8::from(delivery.paused)));
        self.in_flight.set((delivery.batches_posting + delivery.batches_unacknowledged) as f64);
        let now = clock::unix_micros();
        let lag = delivery.oldest_unsettled.map_or(0, |oldest| now.since(oldest));
        self.lag.set(Duration::from_micros(lag).as_secs_f64());
        let held = |state: &EndpointState| matches!(state, EndpointState::Held { .. });
        let all_held = delivery.endpoints.iter().all(|endpoint| held(&endpoint.state));
        self.held.set(f64::from(u8::from(all_held || status.stuck.is_some())));
    }
}
