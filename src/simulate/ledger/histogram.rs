//! Latencies, in buckets that grow with the value.

use std::fmt;
use std::time::Duration;

/// Buckets per power of two: a bucket is at most 1/32 of its value wide.
const STEPS: usize = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Powers of two above the linear part: up to 2^36 µs, 19 hours.
const OCTAVES: usize = 32;

/// A log-linear histogram of durations, in microseconds, exact below 32 µs and to 3 % above.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS * (OCTAVES + 1)], total: 0, max: 0 }
    }
}

impl Histogram {
    /// Adds one duration.
    pub fn record(&mut self, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.add(bucket(micros), 1);
        self.max = self.max.max(micros);
    }

    /// Adds everything of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (index, count) in other.buckets() {
            self.add(index, count);
        }
        self.max = self.max.max(other.max);
    }

    /// What was recorded since an earlier look at the same histogram. The maximum stays that of
    /// the whole.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = Self { max: self.max, ..Self::default() };
        for (index, count) in self.buckets() {
            let before = earlier.counts.get(index).copied().unwrap_or_default();
            since.add(index, count.saturating_sub(before));
        }
        since
    }

    /// How many durations were recorded.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.total
    }

    /// The longest duration, exactly.
    #[must_use]
    pub const fn max(&self) -> Duration {
        Duration::from_micros(self.max)
    }

    /// The duration that `share` (0 to 1) of all recorded ones do not exceed, to 3 %.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let mut below = 0u64;
        for (index, count) in self.buckets() {
            below += count;
            // f64 counts exactly to 2^53; nobody records that many durations.
            if below as f64 >= share.clamp(0.0, 1.0) * self.total as f64 {
                return Duration::from_micros(upper(index).min(self.max));
            }
        }
        self.max()
    }

    /// The buckets that hold something, ascending: (number, count).
    pub(super) fn buckets(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// Puts back what [`Self::buckets`] gave. False when there is no such bucket.
    pub(super) fn add(&mut self, index: usize, count: u64) -> bool {
        let Some(slot) = self.counts.get_mut(index) else { return false };
        *slot = slot.saturating_add(count);
        self.total = self.total.saturating_add(count);
        true
    }

    /// Restores the maximum of a histogram that was written to a file.
    pub(super) const fn set_max(&mut self, micros: u64) {
        self.max = micros;
    }
}

/// The bucket of a value: below 32 its own, then 32 for every power of two.
fn bucket(micros: u64) -> usize {
    let octave = (u64::BITS - micros.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let step = usize::try_from(micros >> octave).unwrap_or(usize::MAX);
    // `step` is below 64; in the linear part below 32.
    (octave as usize * STEPS + step).min(STEPS * (OCTAVES + 1) - 1)
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    if index < 2 * STEPS {
        return index as u64;
    }
    let octave = index / STEPS - 1;
    let step = index % STEPS + STEPS;
    ((step as u64 + 1) << octave) - 1
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({self})")
    }
}

impl fmt::Display for Histogram {
    /// `p50 1.2 ms, p99 4.1 ms, p99.9 8.0 ms, max 9.3 ms`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            write!(f, "{name} {:.2} ms, ", self.quantile(share).as_secs_f64() * 1e3)?;
        }
        write!(f, "max {:.2} ms", self.max().as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_more_than_a_32nd_below_its_buckets_end() {
        for micros in (0..5_000).chain((5_000..400_000_000).step_by(99_991)) {
            let end = upper(bucket(micros));
            assert!(micros <= end, "{micros} is above its bucket's end {end}");
            assert!(end - micros <= micros / 32, "{micros} lies in a bucket that ends at {end}");
        }
    }

    #[test]
    fn quantiles_of_known_values() {
        let mut all = Histogram::default();
        for ms in 1..=1000 {
            all.record(Duration::from_millis(ms));
        }
        for (share, ms) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0)] {
            let read = all.quantile(share).as_secs_f64() * 1e3;
            assert!((read / ms - 1.0).abs() < 0.035, "{share}: {read} for {ms}");
        }
        assert_eq!(all.max(), Duration::from_secs(1));
        assert_eq!(all.quantile(1.0), Duration::from_secs(1));
        assert_eq!(all.count(), 1000);
    }

    #[test]
    fn nothing_recorded_reads_as_zero_and_a_century_fits() {
        let mut all = Histogram::default();
        assert_eq!(all.quantile(0.99), Duration::ZERO);
        all.record(Duration::from_secs(100 * 365 * 86_400));
        assert_eq!(all.count(), 1);
        assert_eq!(all.quantile(0.5), Duration::from_micros(upper(STEPS * (OCTAVES + 1) - 1)));
    }

    #[test]
    fn a_part_is_what_came_since() {
        let mut all = Histogram::default();
        all.record(Duration::from_millis(10));
        all.record(Duration::from_secs(1));
        let earlier = all.clone();
        assert_eq!(all.since(&earlier).count(), 0);
        all.record(Duration::from_millis(10));
        let part = all.since(&earlier);
        assert_eq!((part.count(), part.max()), (1, Duration::from_secs(1)));
        assert!(part.quantile(0.99) < Duration::from_millis(11), "{part}");
    }

    #[test]
    fn merging_adds() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.record(Duration::from_micros(10));
        b.record(Duration::from_millis(10));
        a.merge(&b);
        assert_eq!((a.count(), a.max()), (2, Duration::from_millis(10)));
    }
}
