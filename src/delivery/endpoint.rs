//! The health of one collector, shared by all lanes to it: a circuit breaker.

use std::time::Duration;

use super::chance::Chance;
use super::lanes::Lanes;
use super::{HoldReason, RetryLimits};

/// Whether an endpoint takes batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// All its lanes may send.
    Up,
    /// It failed for a reason that passes. After `until`, one lane may try.
    Resting { until: Duration },
    /// It failed for a reason that an operator has to mend. After `until`, one lane may look
    /// whether that has happened.
    Held { until: Duration, reason: HoldReason },
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) health: Health,
    /// Failures in a row.
    failures: u32,
    /// POSTs on their way.
    pub(super) posting: usize,
    /// How many may be.
    pub(super) lanes: Lanes,
    /// Refusals of events in a row, with nothing taken in between.
    pub(super) refusals: u32,
    /// The destination's count of refusals when the last POST left that this endpoint accepted:
    /// it took something after that many refusals. 0: it has never taken anything.
    pub(super) took_at: u64,
    /// Its last answer was "not found".
    pub(super) missing: bool,
    /// It is being asked whether it acknowledges.
    pub(super) asking: bool,
    /// When it was asked last, it said that it does not.
    pub(super) says_off: bool,
    /// Answers in a row that nobody understands.
    odd: u32,
}

impl Endpoint {
    pub(super) const fn new(lanes: Lanes) -> Self {
        Self {
            health: Health::Up,
            failures: 0,
            posting: 0,
            lanes,
            refusals: 0,
            took_at: 0,
            missing: false,
            asking: false,
            says_off: false,
            odd: 0,
        }
    }

    /// It took events that were sent after `mark` refusals.
    pub(super) fn took(&mut self, mark: u64) {
        self.refusals = 0;
        self.took_at = self.took_at.max(mark);
    }

    /// An answer that nobody understands. Returns whether there have been too many: a balancer
    /// that stumbles is one thing, a proxy in between another.
    pub(super) const fn strange(&mut self) -> bool {
        self.odd = self.odd.saturating_add(1);
        self.odd >= ODD
    }

    /// Whether a lane may send now. An endpoint that comes back is asked by one POST first.
    pub(super) const fn admits(&self, now: Duration) -> bool {
        match &self.health {
            Health::Up => true,
            Health::Resting { until } | Health::Held { until, .. } => {
                self.posting == 0 && until.as_nanos() <= now.as_nanos()
            }
        }
    }

    /// When a lane may send, if that is later than now.
    pub(super) const fn wakes(&self) -> Option<Duration> {
        match &self.health {
            Health::Up => None,
            Health::Resting { until } | Health::Held { until, .. } => Some(*until),
        }
    }

    /// A POST was accepted. Returns whether the endpoint had been held.
    pub(super) fn worked(&mut self) -> bool {
        self.failures = 0;
        self.odd = 0;
        self.missing = false;
        matches!(std::mem::replace(&mut self.health, Health::Up), Health::Held { .. })
    }

    /// A POST failed for a reason that passes. `after` is what the peer asked for.
    pub(super) fn failed(
        &mut self,
        now: Duration,
        after: Option<Duration>,
        limits: &RetryLimits,
        chance: &mut Chance,
    ) {
        match self.health {
            // The other lanes' POSTs that fail with this one tell nothing new.
            Health::Resting { until } | Health::Held { until, .. } if until > now => return,
            Health::Held { .. } | Health::Up | Health::Resting { .. } => {}
        }
        let wait = self.backoff(limits, chance);
        let wait = wait.max(after.unwrap_or_default().min(MAX_RETRY_AFTER));
        self.health = Health::Resting { until: now + wait };
    }

    /// The wait after one more failure.
    fn backoff(&mut self, limits: &RetryLimits, chance: &mut Chance) -> Duration {
        let doubled = limits.initial.saturating_mul(2u32.saturating_pow(self.failures.min(30)));
        self.failures = self.failures.saturating_add(1);
        chance.up_to(doubled.min(limits.max))
    }

    /// A POST was accepted with the remark that queues fill up: rest a little, without a failure.
    pub(super) fn pressed(&mut self, now: Duration, limits: &RetryLimits) {
        if self.health == Health::Up {
            self.health = Health::Resting { until: now + limits.initial };
        }
    }

    /// A POST failed for a reason an operator has to mend. Returns whether that is news.
    pub(super) fn hold(
        &mut self,
        now: Duration,
        reason: HoldReason,
        limits: &RetryLimits,
        chance: &mut Chance,
    ) -> bool {
        let wait = chance.around(limits.hold);
        self.hold_for(now, reason, wait)
    }

    /// It cannot be used, for a reason that may pass. Returns whether that is news.
    pub(super) fn hold_shortly(
        &mut self,
        now: Duration,
        reason: HoldReason,
        limits: &RetryLimits,
        chance: &mut Chance,
    ) -> bool {
        let wait = self.backoff(limits, chance);
        self.hold_for(now, reason, wait)
    }

    fn hold_for(&mut self, now: Duration, reason: HoldReason, wait: Duration) -> bool {
        let news = !matches!(&self.health, Health::Held { reason: held, .. } if *held == reason);
        self.health = Health::Held { until: now + wait, reason };
        news
    }
}

/// So many answers in a row that nobody understands hold an endpoint.
const ODD: u32 = 3;

/// The longest `Retry-After` that is honoured: a proxy's "come back tomorrow" is not.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn new() -> Endpoint {
        Endpoint::new(Lanes::new(NonZeroUsize::MIN, NonZeroUsize::MIN))
    }

    const LIMITS: RetryLimits = RetryLimits {
        initial: Duration::from_millis(250),
        max: Duration::from_secs(30),
        hold: Duration::from_secs(30),
    };

    #[test]
    fn waits_grow_to_the_limit_and_start_again_after_a_success() {
        let (mut endpoint, mut chance) = (new(), Chance::new(3));
        let (mut now, mut longest) = (Duration::ZERO, Duration::ZERO);
        for failure in 0..40u32 {
            endpoint.failed(now, None, &LIMITS, &mut chance);
            let until = endpoint.wakes().unwrap();
            let bound = LIMITS.initial.saturating_mul(2u32.saturating_pow(failure.min(20)));
            assert!(until - now <= bound.min(LIMITS.max));
            longest = longest.max(until - now);
            now = until;
        }
        assert!(longest > LIMITS.max / 2, "full jitter reaches the upper half: {longest:?}");
        assert!(endpoint.admits(now));
        endpoint.worked();
        endpoint.failed(now, None, &LIMITS, &mut chance);
        assert!(endpoint.wakes().unwrap() - now <= LIMITS.initial);
    }

    #[test]
    fn a_peers_wish_to_wait_is_honoured_within_reason() {
        let (mut endpoint, mut chance) = (new(), Chance::new(3));
        endpoint.failed(Duration::ZERO, Some(Duration::from_secs(20)), &LIMITS, &mut chance);
        assert_eq!(endpoint.wakes(), Some(Duration::from_secs(20)));
        let (mut endpoint, day) = (new(), Duration::from_hours(24));
        endpoint.failed(Duration::ZERO, Some(day), &LIMITS, &mut chance);
        assert_eq!(endpoint.wakes(), Some(MAX_RETRY_AFTER));
    }

    #[test]
    fn lanes_that_fail_together_count_once() {
        let (mut endpoint, mut chance) = (new(), Chance::new(3));
        endpoint.failed(Duration::ZERO, Some(Duration::from_secs(1)), &LIMITS, &mut chance);
        let until = endpoint.wakes();
        endpoint.failed(Duration::from_millis(1), None, &LIMITS, &mut chance);
        assert_eq!(endpoint.wakes(), until);
    }
}
