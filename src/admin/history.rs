//! `/v1/history`: the last ten minutes of the figures that the status page draws.
//!
//! Kept here, so that whoever opens the page in the middle of a trouble sees how it began. Rates
//! and quantiles are made of the same counters and histograms that `/metrics` shows.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::telemetry::Buckets;
use crate::types::UnixMicros;

use super::View;

/// How often a sample is to be taken.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(2);

/// How many samples are kept: ten minutes of them.
const SAMPLES: usize = 300;

/// Over how many samples a rate or a quantile is made: 10 s.
const WINDOW: usize = 5;

/// The samples. A ring of fixed length.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Sample>>);

/// The counters of a moment. Those that come from metrics are missing where none are collected.
#[derive(Clone, Debug, Default)]
struct Sample {
    at: UnixMicros,
    frames: Option<f64>,
    messages: Option<f64>,
    bytes: Option<f64>,
    answers: Buckets,
    log_bytes: u64,
    destinations: Vec<DestinationSample>,
}

#[derive(Clone, Debug, Default)]
struct DestinationSample {
    acknowledged: u64,
    pending: u64,
    lag_seconds: f64,
    acknowledgements: Buckets,
}

/// The samples as rows of numbers, the oldest first. Where nothing is known, null.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryRows {
    /// The time between two samples, in seconds.
    pub every_seconds: f64,
    /// The time over which a rate or a quantile is made, in seconds.
    pub window_seconds: f64,
    /// When each sample was taken, in seconds since 1970.
    pub at: Vec<f64>,
    /// What comes in.
    pub ingest: IngestRows,
    /// The log.
    pub log: LogRows,
    /// The destinations, in the order of configuration.
    pub destinations: Vec<DestinationRows>,
}

/// What comes in, sample by sample.
#[derive(Clone, Debug, Serialize)]
pub struct IngestRows {
    /// Frames a second.
    pub frames_per_second: Vec<Option<f64>>,
    /// Messages a second.
    pub messages_per_second: Vec<Option<f64>>,
    /// Bytes of messages a second.
    pub bytes_per_second: Vec<Option<f64>>,
    /// Half of the requests were answered within this time, in seconds.
    pub answer_p50_seconds: Vec<Option<f64>>,
    /// 99 of 100 requests were answered within this time, in seconds.
    pub answer_p99_seconds: Vec<Option<f64>>,
}

/// The log, sample by sample.
#[derive(Clone, Debug, Serialize)]
pub struct LogRows {
    /// Bytes of all retained frames, before compression.
    pub bytes: Vec<u64>,
}

/// A destination, sample by sample.
#[derive(Clone, Debug, Serialize)]
pub struct DestinationRows {
    /// Its name.
    pub name: String,
    /// Messages acknowledged a second.
    pub acknowledged_per_second: Vec<Option<f64>>,
    /// Messages that are not settled.
    pub pending: Vec<u64>,
    /// Age of the oldest message that is not settled, in seconds.
    pub lag_seconds: Vec<f64>,
    /// Half of the batches were acknowledged within this time, in seconds.
    pub acknowledgement_p50_seconds: Vec<Option<f64>>,
    /// 99 of 100 batches were acknowledged within this time, in seconds.
    pub acknowledgement_p99_seconds: Vec<Option<f64>>,
}

impl History {
    /// Takes a sample. The oldest goes when there are enough.
    pub fn sample(&self, view: &View) {
        let sample = Sample::of(view);
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == SAMPLES {
            ring.pop_front();
        }
        ring.push_back(sample);
    }

    /// What there is.
    #[must_use]
    pub fn rows(&self, names: &[String]) -> HistoryRows {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let samples: Vec<&Sample> = ring.iter().collect();
        rows(&samples, names)
    }
}

impl Sample {
    fn of(view: &View) -> Self {
        let figures = view.metrics.as_ref().map(crate::telemetry::Metrics::figures);
        let value = |series: &str| figures.as_ref().and_then(|figures| figures.value(series));
        let buckets = |name: &str, destination: Option<&str>| {
            figures.as_ref().map(|it| it.buckets(name, destination)).unwrap_or_default()
        };
        let at = clock::unix_micros();
        let destinations = view.sinks.iter().map(|sink| {
            let status = sink.status();
            DestinationSample {
                acknowledged: status.delivery.totals.acknowledged,
                pending: status.delivery.pending(&status.tail),
                lag_seconds: status.lag(at).as_secs_f64(),
                acknowledgements: buckets(
                    "forebay_ack_latency_seconds",
                    Some(sink.name().as_str()),
                ),
            }
        });
        Self {
            at,
            frames: value("forebay_frames_received_total"),
            messages: value("forebay_messages_received_total"),
            bytes: value("forebay_message_bytes_received_total"),
            answers: buckets("forebay_http_request_duration_seconds", None),
            log_bytes: view.wal.status().bytes.get(),
            destinations: destinations.collect(),
        }
    }
}

fn rows(samples: &[&Sample], names: &[String]) -> HistoryRows {
    let ingest = IngestRows {
        frames_per_second: rates(samples, |sample| sample.frames),
        messages_per_second: rates(samples, |sample| sample.messages),
        bytes_per_second: rates(samples, |sample| sample.bytes),
        answer_p50_seconds: quantiles(samples, 0.5, |sample| Some(&sample.answers)),
        answer_p99_seconds: quantiles(samples, 0.99, |sample| Some(&sample.answers)),
    };
    let destination = |(number, name): (usize, &String)| {
        let of = |sample: &&Sample| sample.destinations.get(number).cloned().unwrap_or_default();
        let acknowledgements = |sample| acknowledgements(sample, number);
        DestinationRows {
            name: name.clone(),
            acknowledged_per_second: rates(samples, |sample| {
                sample.destinations.get(number).map(|it| it.acknowledged as f64)
            }),
            pending: samples.iter().map(|sample| of(sample).pending).collect(),
            lag_seconds: samples.iter().map(|sample| of(sample).lag_seconds).collect(),
            acknowledgement_p50_seconds: quantiles(samples, 0.5, acknowledgements),
            acknowledgement_p99_seconds: quantiles(samples, 0.99, acknowledgements),
        }
    };
    HistoryRows {
        every_seconds: SAMPLE_EVERY.as_secs_f64(),
        window_seconds: SAMPLE_EVERY.as_secs_f64() * WINDOW as f64,
        at: samples.iter().map(|sample| sample.at.get() as f64 / 1e6).collect(),
        ingest,
        log: LogRows { bytes: samples.iter().map(|sample| sample.log_bytes).collect() },
        destinations: names.iter().enumerate().map(destination).collect(),
    }
}

fn acknowledgements(sample: &Sample, number: usize) -> Option<&Buckets> {
    sample.destinations.get(number).map(|it| &it.acknowledgements)
}

/// Each sample with the one at the beginning of its window; the first has none.
fn windows<'a>(
    samples: &'a [&'a Sample],
) -> impl Iterator<Item = (Option<&'a Sample>, &'a Sample)> {
    samples.iter().enumerate().map(|(number, sample)| {
        let begin = number.saturating_sub(WINDOW);
        (samples.get(begin).filter(|_| begin < number).copied(), *sample)
    })
}

fn rates(samples: &[&Sample], of: impl Fn(&Sample) -> Option<f64>) -> Vec<Option<f64>> {
    let rate = |(earlier, now): (Option<&Sample>, &Sample)| {
        let earlier = earlier?;
        let seconds = Duration::from_micros(now.at.since(earlier.at)).as_secs_f64();
        // A clock that was set back makes no rate.
        (seconds > 0.0).then_some(())?;
        Some((of(now)? - of(earlier)?) / seconds)
    };
    windows(samples).map(rate).collect()
}

fn quantiles<'a>(
    samples: &'a [&'a Sample],
    quantile: f64,
    of: impl Fn(&'a Sample) -> Option<&'a Buckets>,
) -> Vec<Option<f64>> {
    let one = |(earlier, now): (Option<&'a Sample>, &'a Sample)| {
        of(now)?.quantile_since(of(earlier?)?, quantile)
    };
    windows(samples).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: i64, messages: f64, acknowledged: u64) -> Sample {
        Sample {
            at: UnixMicros::new(seconds * 1_000_000),
            messages: Some(messages),
            destinations: vec![DestinationSample { acknowledged, ..Default::default() }],
            ..Default::default()
        }
    }

    #[test]
    fn rates_are_over_the_window_and_the_first_sample_has_none() {
        let samples: Vec<Sample> = (0_u32..8)
            .map(|n| sample(i64::from(n) * 2, f64::from(n * 200), u64::from(n)))
            .collect();
        let samples: Vec<&Sample> = samples.iter().collect();
        let found = rows(&samples, &["splunk".to_owned()]);
        let rate = &found.ingest.messages_per_second;
        assert_eq!((rate[0], rate[1], rate[7]), (None, Some(100.0), Some(100.0)));
        assert_eq!(found.destinations[0].acknowledged_per_second[7], Some(0.5));
        // What is not collected is not made up.
        assert_eq!(found.ingest.frames_per_second, [None; 8]);
        assert_eq!(found.ingest.answer_p99_seconds, [None; 8]);
        assert_eq!((found.window_seconds, found.at.len()), (10.0, 8));
    }

    #[test]
    fn a_rate_that_has_ended_is_gone_when_its_window_is() {
        let counts = [0.0, 500.0, 500.0, 500.0, 500.0, 500.0, 500.0];
        let samples: Vec<Sample> =
            counts.iter().zip(0_i64..).map(|(count, n)| sample(n * 2, *count, 0)).collect();
        let samples: Vec<&Sample> = samples.iter().collect();
        let rate = rows(&samples, &[]).ingest.messages_per_second;
        assert_eq!((rate[1], rate[5], rate[6]), (Some(250.0), Some(50.0), Some(0.0)));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_rate() {
        let (one, other) = (sample(10, 0.0, 0), sample(4, 5.0, 0));
        assert_eq!(rates(&[&one, &other], |sample| sample.messages), [None, None]);
    }
}
