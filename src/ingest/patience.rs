//! How long a request waits for memory, so that it is not too late when it gets some.
//!
//! Memory is given in the order in which requests came. When more come than the log takes, that
//! queue grows until its first has waited for as long as any request is held. Then each frame has
//! its memory just when there is no time left: it is stored, answered 503 all the same, and sent
//! again. The log works at its full rate and nothing of it is of use, for as long as the overload
//! lasts. So the last part of a request's time is kept for the log: who has no memory by then gets
//! none, and those behind it get it in time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;

/// How much a new time counts beside those before it: one in so many.
const MEMORY: u64 = 8;

/// Knows how long the log takes for a frame these days.
#[derive(Debug)]
pub(super) struct Patience {
    held: Duration,
    /// Microseconds.
    log_takes: AtomicU64,
}

/// A frame that has been offered to the log.
#[derive(Debug)]
pub(super) struct Offered<'a> {
    patience: &'a Patience,
    since: Instant,
}

impl Patience {
    /// For requests that are held for so long at most.
    pub(super) const fn new(held: Duration) -> Self {
        Self { held, log_takes: AtomicU64::new(0) }
    }

    /// The time at the end of a request that belongs to the log: twice of what it takes, between
    /// an eighth and a half of all.
    pub(super) fn reserve(&self) -> Duration {
        let takes = Duration::from_micros(self.log_takes.load(Ordering::Relaxed));
        takes.saturating_mul(2).clamp(self.held / 8, self.held / 2)
    }

    /// A frame is offered to the log, until this is dropped.
    pub(super) fn offer(&self) -> Offered<'_> {
        Offered { patience: self, since: clock::instant() }
    }

    fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        // What another request writes meanwhile may be lost: there will be more.
        let before = self.log_takes.load(Ordering::Relaxed);
        let now = (before / MEMORY).saturating_mul(MEMORY - 1).saturating_add(micros / MEMORY);
        self.log_takes.store(now, Ordering::Relaxed);
    }
}

impl Drop for Offered<'_> {
    /// Also when the request ran out of time: so much it took at least.
    fn drop(&mut self) {
        self.patience.took(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_gets_twice_of_what_it_takes_and_never_more_than_half() {
        let patience = Patience::new(Duration::from_secs(4));
        assert_eq!(patience.reserve(), Duration::from_millis(500));
        (0..100).for_each(|_| patience.took(Duration::from_millis(600)));
        let reserve = patience.reserve();
        assert!((1100..=1200).contains(&reserve.as_millis()), "{reserve:?}");
        (0..100).for_each(|_| patience.took(Duration::from_secs(60)));
        assert_eq!(patience.reserve(), Duration::from_secs(2));
        (0..100).for_each(|_| patience.took(Duration::from_micros(100)));
        assert_eq!(patience.reserve(), Duration::from_millis(500));
        drop(patience.offer());
        patience.took(Duration::MAX);
        assert_eq!(patience.reserve(), Duration::from_secs(2));
    }
}
