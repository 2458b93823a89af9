//! How many POSTs may be in flight to one collector: more as long as that works, fewer at the
//! first sign of pressure (additive increase, multiplicative decrease).

use std::num::NonZeroUsize;
use std::time::Duration;

/// One lane, in the units in which the limit is counted.
const LANE: usize = 1024;

/// After a decrease, the next one has to wait for this long at least: the answers that are on
/// their way then tell of the same pressure.
const CALM: Duration = Duration::from_secs(1);

/// An answer that takes so many times longer than usual is a sign of pressure.
const SLOW: u32 = 4;

/// A wait below this is none, whatever is usual.
const QUICK: Duration = Duration::from_millis(250);

#[derive(Clone, Debug)]
pub(super) struct Lanes {
    limit: usize,
    max: usize,
    /// What an answer usually takes.
    usual: Option<Duration>,
    calm_until: Duration,
}

impl Lanes {
    pub(super) fn new(start: NonZeroUsize, max: NonZeroUsize) -> Self {
        let max = max.get().saturating_mul(LANE);
        let limit = start.get().saturating_mul(LANE).min(max);
        Self { limit, max, usual: None, calm_until: Duration::ZERO }
    }

    /// POSTs that may be in flight.
    pub(super) const fn get(&self) -> usize {
        self.limit / LANE
    }

    /// A POST was accepted after `took`; `busy` were in flight, this one included.
    pub(super) fn worked(&mut self, now: Duration, took: Duration, busy: usize) {
        let usual = *self.usual.get_or_insert(took);
        self.usual = Some(usual * 15 / 16 + took / 16);
        if took > QUICK && took > usual * SLOW {
            self.pressed(now, took);
        } else if busy >= self.get() {
            // One lane more once as many POSTs as there are lanes have worked.
            self.limit = (self.limit + LANE * LANE / self.limit.max(LANE)).min(self.max);
        }
    }

    /// The collector says, or shows, that it is given too much.
    pub(super) fn pressed(&mut self, now: Duration, took: Duration) {
        if now >= self.calm_until {
            self.limit = (self.limit / 2).max(LANE);
            self.calm_until = now + took.max(CALM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn lanes(start: usize, max: usize) -> Lanes {
        Lanes::new(NonZeroUsize::new(start).unwrap(), NonZeroUsize::new(max).unwrap())
    }

    #[test]
    fn what_works_and_is_wanted_grows_to_the_limit() {
        let mut lanes = lanes(2, 5);
        for _ in 0..100 {
            let busy = lanes.get();
            lanes.worked(Duration::ZERO, 30 * MS, busy - 1);
        }
        assert_eq!(lanes.get(), 2, "nobody waits for a lane");
        let mut seen = Vec::new();
        for _ in 0..100 {
            let busy = lanes.get();
            lanes.worked(Duration::ZERO, 30 * MS, busy);
            seen.push(lanes.get());
        }
        assert!(seen.is_sorted());
        assert_eq!(seen.iter().filter(|n| **n == 3).count(), 3, "a step takes a round of POSTs");
        assert_eq!(seen.last(), Some(&5));
    }

    #[test]
    fn pressure_halves_once_for_all_that_is_on_its_way() {
        let mut lanes = lanes(16, 16);
        for _ in 0..16 {
            lanes.pressed(Duration::from_secs(5), 30 * MS);
        }
        assert_eq!(lanes.get(), 8);
        lanes.pressed(Duration::from_secs(6), 30 * MS);
        assert_eq!(lanes.get(), 4);
        for second in 7..20 {
            lanes.pressed(Duration::from_secs(second), 30 * MS);
        }
        assert_eq!(lanes.get(), 1, "one always may");
    }

    #[test]
    fn answers_that_become_slow_are_pressure_and_slow_ones_that_are_usual_are_not() {
        let mut slow = lanes(8, 8);
        for _ in 0..50 {
            slow.worked(Duration::ZERO, Duration::from_secs(4), 8);
        }
        assert_eq!(slow.get(), 8);
        let mut rising = lanes(8, 8);
        for _ in 0..50 {
            rising.worked(Duration::ZERO, 40 * MS, 8);
        }
        rising.worked(Duration::from_secs(9), 200 * MS, 8);
        assert_eq!(rising.get(), 8, "quick all the same");
        rising.worked(Duration::from_secs(9), Duration::from_secs(2), 8);
        assert_eq!(rising.get(), 4);
    }
}
