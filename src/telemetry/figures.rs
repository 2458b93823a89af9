//! The metrics of a moment as numbers, for those who make rates and quantiles of them here, as a
//! Prometheus would elsewhere.

use std::collections::BTreeMap;

/// The values of all series at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Reads what [`Metrics::render`](super::Metrics::render) writes.
    pub(super) fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(values.collect())
    }

    /// The value of a series, by its name and labels as they are written in the text.
    #[must_use]
    pub fn value(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// The buckets of a histogram; of one destination, or of one without labels.
    #[must_use]
    pub fn buckets(&self, name: &str, destination: Option<&str>) -> Buckets {
        let labels = destination.map_or_else(String::new, |it| format!("destination=\"{it}\","));
        let begin = format!("{name}_bucket{{{labels}le=\"");
        let bucket = |(series, count): (&String, &f64)| {
            let bound = series.strip_prefix(&begin)?.strip_suffix("\"}")?;
            Some((bound.parse().ok()?, *count))
        };
        let from_there = self.0.range(begin.clone()..);
        let of_it = from_there.take_while(|(series, _)| series.starts_with(&begin));
        let mut buckets: Vec<(f64, f64)> = of_it.filter_map(bucket).collect();
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        Buckets(buckets)
    }
}

/// A histogram at a moment: the upper bounds of its buckets, and how many values have been at or
/// below each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// The quantile of what came since `earlier`, as Prometheus' `histogram_quantile` has it: by
    /// linear interpolation within a bucket, and the largest bound for what is beyond it. None when
    /// nothing came.
    #[must_use]
    pub fn quantile_since(&self, earlier: &Self, quantile: f64) -> Option<f64> {
        let came: Vec<(f64, f64)> = self
            .0
            .iter()
            .map(|(bound, count)| {
                let before = earlier.0.iter().find(|(known, _)| known == bound);
                (*bound, count - before.map_or(0.0, |(_, before)| *before))
            })
            .collect();
        let (_, all) = came.last().filter(|(_, all)| *all > 0.0)?;
        let rank = quantile * all;
        let (mut from, mut below) = (0.0, 0.0);
        for (bound, count) in came {
            if count >= rank && count > below {
                let part = (rank - below) / (count - below);
                return Some(if bound.is_finite() { from + (bound - from) * part } else { from });
            }
            if bound.is_finite() {
                (from, below) = (bound, count);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        # TYPE answers histogram\n\
        answers_bucket{le=\"0.5\"} 8\nanswers_bucket{le=\"0.25\"} 4\nanswers_bucket{le=\"10\"} 10\n\
        answers_bucket{le=\"+Inf\"} 12\nanswers_sum 3.5\nanswers_count 12\n\n\
        acks_bucket{destination=\"a\",le=\"1\"} 1\nacks_bucket{destination=\"a\",le=\"+Inf\"} 1\n\
        acks_bucket{destination=\"ab\",le=\"1\"} 7\nframes_total{code=\"200\"} 3\n";

    #[test]
    fn series_are_found_by_what_is_written() {
        let figures = Figures::of(TEXT);
        assert_eq!(figures.value("frames_total{code=\"200\"}"), Some(3.0));
        assert_eq!(figures.value("frames_total"), None);
        let answers = Buckets(vec![(0.25, 4.0), (0.5, 8.0), (10.0, 10.0), (f64::INFINITY, 12.0)]);
        assert_eq!(figures.buckets("answers", None), answers);
        let acks = Buckets(vec![(1.0, 1.0), (f64::INFINITY, 1.0)]);
        assert_eq!(figures.buckets("acks", Some("a")), acks);
        assert_eq!(figures.buckets("acks", None), Buckets::default());
    }

    #[test]
    fn quantiles_are_those_of_prometheus() {
        let now = Figures::of(TEXT).buckets("answers", None);
        let never = Buckets::default();
        let close = |found: Option<f64>, expected: f64| {
            assert!((found.unwrap() - expected).abs() < 1e-9, "{found:?}, not {expected}");
        };
        // Rank 6 of 12: half-way between the 4 up to 0.25 and the 8 up to 0.5.
        close(now.quantile_since(&never, 0.5), 0.375);
        close(now.quantile_since(&never, 0.25), 0.1875);
        // Beyond the last bound nothing is known but that.
        close(now.quantile_since(&never, 0.99), 10.0);
        // Only what came since: 2 in the second bucket.
        let before = Buckets(vec![(0.25, 4.0), (0.5, 6.0), (10.0, 8.0), (f64::INFINITY, 10.0)]);
        close(now.quantile_since(&before, 0.5), 0.375);
        assert_eq!(now.quantile_since(&now, 0.99), None);
        assert_eq!(never.quantile_since(&never, 0.99), None);
    }
}
