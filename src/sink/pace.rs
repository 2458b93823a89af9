//! How fast a replay is read.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Lets so many events a second through, a batch at a time: a batch goes when those before it have
/// had their time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    rate: NonZeroU64,
    ready: Option<Instant>,
}

impl Pace {
    pub(super) const fn new(rate: NonZeroU64) -> Self {
        Self { rate, ready: None }
    }

    /// When the next batch may be read, if that is not now.
    pub(super) fn wait(&self, now: Instant) -> Option<Instant> {
        self.ready.filter(|ready| *ready > now)
    }

    /// A batch with so many events was read.
    pub(super) fn took(&mut self, now: Instant, events: u64) {
        let nanos = u128::from(events) * 1_000_000_000 / u128::from(self.rate.get());
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        // What was not used in the past is not saved up.
        let from = self.ready.map_or(now, |ready| ready.max(now));
        self.ready = from.checked_add(time).or(self.ready);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    proptest! {
        /// Whatever batches come, and however late: never more than the rate, but for one batch.
        #[test]
        fn no_stretch_of_time_sees_more_than_the_rate(
            rate in 1u64..5000,
            steps in proptest::collection::vec((0u64..3000, 0u64..2000), 1..60),
        ) {
            let start = clock::instant();
            let (mut pace, mut now) = (Pace::new(NonZeroU64::new(rate).unwrap()), start);
            let mut sent: Vec<(Instant, u64)> = Vec::new();
            for (events, idle) in steps {
                now = pace.wait(now).unwrap_or(now);
                prop_assert_eq!(pace.wait(now), None);
                pace.took(now, events);
                sent.push((now, events));
                now += Duration::from_millis(idle);
            }
            for first in 0..sent.len() {
                let mut events = 0;
                for last in first..sent.len() {
                    let allowed = (sent[last].0 - sent[first].0).as_secs_f64() * rate as f64;
                    prop_assert!(events as f64 <= allowed + 1.0, "{} > {}", events, allowed);
                    events += sent[last].1;
                }
            }
        }
    }

    #[test]
    fn a_batch_has_its_time() {
        let (start, mut pace) = (clock::instant(), Pace::new(NonZeroU64::new(100).unwrap()));
        assert_eq!(pace.wait(start), None);
        pace.took(start, 50);
        assert_eq!(pace.wait(start), Some(start + Duration::from_millis(500)));
        assert_eq!(pace.wait(start + Duration::from_secs(1)), None);
    }
}
