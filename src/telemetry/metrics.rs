//! The recorder that the macros of `metrics` count into.

use std::time::Duration;

use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::figures::Figures;
use super::table::{Kind, METRICS};

/// How often [`Metrics::upkeep`] wants to be called. Samples of histograms pile up between two
/// calls, 16 bytes each.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Everything that is counted in this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(PrometheusHandle);

/// There can be only one recorder in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metrics are already being recorded in this process")]
pub struct AlreadyInstalled;

impl Metrics {
    /// From now on, everything is counted. What was counted before is lost.
    ///
    /// # Errors
    /// When this was done before.
    pub fn install() -> Result<Self, AlreadyInstalled> {
        let recorder = recorder();
        let metrics = Self(recorder.handle());
        ::metrics::set_global_recorder(recorder).map_err(|_| AlreadyInstalled)?;
        describe();
        Ok(metrics)
    }

    /// All values, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// All values, as numbers.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures::of(&self.render())
    }

    /// Sorts the samples of histograms into their buckets. Nobody else does it: without a call
    /// every [`UPKEEP_EVERY`], memory grows until the next [`render`](Self::render).
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// A recorder that knows the buckets of every histogram.
fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let Kind::Histogram(buckets) = metric.kind {
            builder = with_buckets(builder, metric.name, buckets);
        }
    }
    builder.build_recorder()
}

/// The builder refuses an empty list and takes itself along; a test sees to it that there is none.
fn with_buckets(builder: PrometheusBuilder, name: &str, buckets: &[f64]) -> PrometheusBuilder {
    let matcher = Matcher::Full(name.to_owned());
    builder.set_buckets_for_metric(matcher, buckets).unwrap_or_default()
}

/// Gives every metric its help text, and says which program this is.
fn describe() {
    for metric in METRICS {
        let (name, unit, help) = (metric.name, metric.unit, metric.help);
        match metric.kind {
            Kind::Counter => ::metrics::describe_counter!(name, unit, help),
            Kind::Gauge => ::metrics::describe_gauge!(name, unit, help),
            Kind::Histogram(_) => ::metrics::describe_histogram!(name, unit, help),
        }
    }
    ::metrics::gauge!("forebay_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts into a recorder of its own and returns the text.
    fn rendered(count: impl FnOnce()) -> String {
        let recorder = recorder();
        let metrics = Metrics(recorder.handle());
        ::metrics::with_local_recorder(&recorder, || {
            describe();
            count();
        });
        metrics.upkeep();
        metrics.render()
    }

    #[test]
    fn the_text_has_help_type_and_labels() {
        let text = rendered(|| {
            ::metrics::counter!("forebay_http_requests_total", "code" => "200").increment(3);
            ::metrics::gauge!("forebay_pending_messages", "destination" => "splunk").set(7.0);
        });
        for line in [
            "# TYPE forebay_http_requests_total counter",
            "forebay_http_requests_total{code=\"200\"} 3",
            "# TYPE forebay_pending_messages gauge",
            "forebay_pending_messages{destination=\"splunk\"} 7",
            concat!("forebay_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.contains("# HELP forebay_http_requests_total "), "{text}");
    }

    #[test]
    fn histograms_have_the_buckets_of_the_table() {
        for metric in METRICS {
            let Kind::Histogram(buckets) = metric.kind else { continue };
            let text = rendered(|| ::metrics::histogram!(metric.name).record(0.0));
            let found = text.lines().filter(|l| l.starts_with(&format!("{}_bucket", metric.name)));
            // One more: +Inf.
            assert_eq!(found.count(), buckets.len() + 1, "{text}");
        }
    }

    #[test]
    fn only_one_recorder_can_be_installed() {
        // Whichever test of this process comes first, the second call fails.
        let first = Metrics::install();
        assert_eq!(Metrics::install().err(), Some(AlreadyInstalled));
        if let Ok(metrics) = first {
            assert!(metrics.render().contains("forebay_build_info"));
        }
    }
}
