//! Every metric, once.
//!
//! Names follow Prometheus' rules: the prefix of the program, base units, `_total` on counters
//! and on nothing else. Labels take few values; a drain token or a frame id is never one.

use metrics::Unit;

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with the prefix `forebay_`.
    pub name: &'static str,
    /// What it counts like.
    pub kind: Kind,
    /// The unit of its value.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, in a sentence.
    pub help: &'static str,
}

/// What a metric counts like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows, until the next start.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often a value fell into each bucket; here are the upper bounds.
    Histogram(&'static [f64]),
}

/// Answers to senders: from 1 ms to the 5 s after which Logplex gives up, dense where the ack
/// deadline lies.
const ANSWER: &[f64] = &[
    0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.025, 0.06, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0,
];
/// Writing and syncing: from 50 µs, what a good disk takes, to 1 s, what a sick one does.
const COMMIT: &[f64] = &[
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0,
];
/// Requests to a collector: from a neighbour to the default time limit.
const REQUEST: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Acknowledgements: about a second from an idle indexer, minutes from a cluster that restarts;
/// at 300 s the batch is sent again.
const ACK: &[f64] =
    &[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0];
/// Frames in one sync.
const GROUP: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

const fn metric(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, unit, labels, help }
}

use Kind::{Counter, Gauge, Histogram};
use Unit::{Bytes, Count, Seconds};

const NONE: &[&str] = &[];
const DESTINATION: &[&str] = &["destination"];

/// Every metric of the program.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    metric("forebay_build_info", Gauge, Count, &["version"],
        "Always 1; the label says which version runs."),
    metric("forebay_config_last_reload_successful", Gauge, Count, NONE,
        "1 when the last reload of the configuration was taken, or there was none; 0 when it was refused and the old one stays."),
    metric("forebay_config_last_reload_seconds", Gauge, Seconds, NONE,
        "When the configuration was last taken, in seconds since 1970."),
    metric("forebay_config_restart_needed", Gauge, Count, NONE,
        "How many keys of the configuration were changed that only a restart can change."),

    metric("forebay_http_requests_total", Counter, Count, &["code"],
        "Requests from senders, by the status of their answer; `none` is a connection that ended without one."),
    metric("forebay_http_request_duration_seconds", Histogram(ANSWER), Seconds, NONE,
        "From the first byte of a sender's request to its answer. Logplex gives up at 5."),
    metric("forebay_http_connections", Gauge, Count, NONE,
        "Connections of senders that are open."),
    metric("forebay_http_connections_refused_total", Counter, Count, &["reason"],
        "Connections that were closed before their first request: by address, too many from one address, without a PROXY header, for TLS, or too slow with it."),
    metric("forebay_ingest_state", Gauge, Count, &["state"],
        "1 for the state ingest is in: `open`; `holding`, requests wait for the log; `closed`, connections are refused."),
    metric("forebay_tls_certificate_not_after_seconds", Gauge, Seconds, NONE,
        "The end of the certificate's life, in seconds since 1970; 0 without TLS."),
    metric("forebay_http_connection_panics_total", Counter, Count, NONE,
        "Connections of senders that were lost to a bug of forebay."),
    metric("forebay_http_broken_bodies_total", Counter, Count, NONE,
        "Requests whose body broke off. Nothing of them is stored; the sender tries again."),
    metric("forebay_odd_headers_total", Counter, Count, NONE,
        "Frame ids, drain tokens and message counts that make no sense and were ignored."),
    metric("forebay_damaged_gzip_total", Counter, Count, NONE,
        "Bodies that did not decompress and were stored as they came."),
    metric("forebay_frames_received_total", Counter, Count, NONE,
        "Frames that are durable in the log, each counted once."),
    metric("forebay_frames_duplicate_total", Counter, Count, NONE,
        "Frames that had been stored before: the sender had not heard the answer in time."),
    metric("forebay_messages_received_total", Counter, Count, NONE,
        "Messages in the frames that are durable in the log."),
    metric("forebay_message_bytes_received_total", Counter, Bytes, NONE,
        "Bytes of the messages in the frames that are durable in the log."),
    metric("forebay_frame_count_mismatch_total", Counter, Count, NONE,
        "Frames that hold another number of messages than Logplex-Msg-Count says. Stored all the same."),
    metric("forebay_framing_errors_total", Counter, Count, &["kind"],
        "Messages whose length prefix is wrong (`bad_length`) or longer than the rest of the body (`truncated`). Stored all the same."),
    metric("forebay_upstream_loss_messages_total", Counter, Count, &["code", "drain"],
        "Messages that were lost before they came here, as Logplex (L10) and log-shuttle (L12, L13) report them; by the drain's app, `unknown` for drains that are not configured."),
    metric("forebay_unknown_drain_frames_total", Counter, Count, NONE,
        "Frames of drains that are not configured although others are."),
    metric("forebay_auth_success_total", Counter, Count, &["credential", "deprecated"],
        "Requests with good credentials, by the name of the user. Those of a deprecated one are to be changed at their sender."),
    metric("forebay_auth_failures_total", Counter, Count, NONE,
        "Requests with wrong credentials or none. Logplex throws such a frame away."),
    metric("forebay_ack_deadline_exceeded_total", Counter, Count, NONE,
        "Requests that were not durable within ingest.ack_deadline and were asked to come again."),

    metric("forebay_wal_commit_seconds", Histogram(COMMIT), Seconds, NONE,
        "Time of one write to the log with its sync."),
    metric("forebay_wal_group_frames", Histogram(GROUP), Count, NONE,
        "Frames that were made durable by one sync."),
    metric("forebay_wal_bytes", Gauge, Bytes, NONE,
        "Bytes of the frames in the log, before compression."),
    metric("forebay_wal_max_bytes", Gauge, Bytes, NONE,
        "What forebay_wal_bytes may be at most: wal.max_size."),
    metric("forebay_replay_pinned_bytes", Gauge, Bytes, NONE,
        "Bytes of frames that could go, and stay only because a replay that is open has not sent them."),
    metric("forebay_wal_segments", Gauge, Count, NONE,
        "Segments in the log."),
    metric("forebay_wal_durable_offset", Gauge, Count, NONE,
        "The offset behind the last durable frame."),
    metric("forebay_wal_trimmed_offset", Gauge, Count, NONE,
        "The offset of the oldest frame in the log."),
    metric("forebay_wal_free_bytes", Gauge, Bytes, NONE,
        "Bytes free on the log's file system."),
    metric("forebay_dedupe_entries", Gauge, Count, NONE,
        "Frame ids that are remembered."),
    metric("forebay_dedupe_window_seconds", Gauge, Seconds, NONE,
        "How far back frame ids are remembered, to the hour."),
    metric("forebay_wal_durability", Gauge, Count, &["mode"],
        "Always 1; the label says what has happened to a frame before it is answered: wal.durability."),
    metric("forebay_wal_gaps", Gauge, Count, NONE,
        "Stretches of the log that some destination never gets: dropped for want of space, or damaged and given up."),
    metric("forebay_orphaned_destinations", Gauge, Count, NONE,
        "Destinations that are not configured any more and still keep messages in the log."),
    metric("forebay_wal_poisoned", Gauge, Count, NONE,
        "1 after a write or a sync has failed: nothing more is accepted, and the program stops."),

    metric("forebay_delivered_messages_total", Counter, Count, DESTINATION,
        "Messages the destination has acknowledged."),
    metric("forebay_filtered_messages_total", Counter, Count, DESTINATION,
        "Messages that do not go to the destination: blank, or excluded by its filter."),
    metric("forebay_dropped_messages_total", Counter, Count, DESTINATION,
        "Messages the destination never gets: dropped for want of space, or damaged and given up."),
    metric("forebay_skipped_messages_total", Counter, Count, DESTINATION,
        "Messages the destination never gets: an operator has moved its cursor forward."),
    metric("forebay_rewound_messages_total", Counter, Count, DESTINATION,
        "Messages that count twice: an operator has moved the cursor back, and they are sent again."),
    metric("forebay_hec_requests_total", Counter, Count, &["destination", "outcome"],
        "Requests with events, by what became of them."),
    metric("forebay_hec_request_seconds", Histogram(REQUEST), Seconds, DESTINATION,
        "Time of one request with events."),
    metric("forebay_ack_latency_seconds", Histogram(ACK), Seconds, DESTINATION,
        "From the answer to a request with events to its acknowledgement."),
    metric("forebay_dead_lettered_messages_total", Counter, Count, DESTINATION,
        "Messages that the collectors refuse, since the destination began. They are in the dead letters, or were."),
    metric("forebay_dead_letters", Gauge, Count, DESTINATION,
        "Dead letters that are kept."),
    metric("forebay_dead_letter_bytes", Gauge, Bytes, DESTINATION,
        "Bytes of the dead letters that are kept."),
    metric("forebay_lanes", Gauge, Count, DESTINATION,
        "Requests that may be in flight at once, over all endpoints; adapts to what they take."),
    metric("forebay_pending_messages", Gauge, Count, DESTINATION,
        "Messages accepted from senders and not yet settled at the destination."),
    metric("forebay_lag_seconds", Gauge, Seconds, DESTINATION,
        "Age of the oldest message that is not settled at the destination."),
    metric("forebay_batches_in_flight", Gauge, Count, DESTINATION,
        "Batches that were sent and are not settled."),
    metric("forebay_resent_batches_total", Counter, Count, &["destination", "reason"],
        "Batches that were sent again. Each may be a duplicate in Splunk."),
    metric("forebay_destination_held", Gauge, Count, DESTINATION,
        "1 while the destination waits for an operator: wrong token, wrong URL, acknowledgement disabled."),
    metric("forebay_destination_paused", Gauge, Count, DESTINATION,
        "1 while an operator has paused the destination: nothing is sent, and nothing is lost."),
    metric("forebay_books_difference", Gauge, Count, DESTINATION,
        "Messages accepted and rewound, less acknowledged, dead-lettered, filtered, skipped, dropped and pending. Anything but 0 is a bug."),
    metric("forebay_replays", Gauge, Count, DESTINATION,
        "Replays that are to be sent to the destination, the one that is being sent included."),
    metric("forebay_replay_pending_messages", Gauge, Count, DESTINATION,
        "Messages in their stretches that are not settled."),
    metric("forebay_replayed_messages_total", Counter, Count, DESTINATION,
        "Messages of replays that the destination has acknowledged. They are not in forebay_delivered_messages_total."),
    metric("forebay_replay_stuck", Gauge, Count, DESTINATION,
        "1 while the replay that is being sent waits for an operator: all collectors are held, the log cannot be read, or the dead letters are full."),
    metric("forebay_replay_stalled_seconds", Gauge, Seconds, DESTINATION,
        "How long nothing of the replay that is being sent has been settled; 0 when there is none."),
    metric("forebay_acknowledgement_required", Gauge, Count, DESTINATION,
        "1 when a message counts as delivered only once the indexers have acknowledged it."),
    metric("forebay_acknowledgement", Gauge, Count, &["destination", "mode"],
        "1 for what counts as delivered now: `required`, `off`, or `unknown` while `acknowledgement = \"auto\"` has not chosen yet and nothing is sent."),
    metric("forebay_tls_unverified", Gauge, Count, DESTINATION,
        "1 when the collectors' certificates are not checked (destination.tls.verify = false)."),
];

#[cfg(test)]
mod tests;
