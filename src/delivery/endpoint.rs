//! The health of one collector, shared by all lanes to it: a circuit breaker.

use std::time::Duration;

use super::chance::Chance;
use super::lanes::Lanes;
use super::patience::Patience;
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
    /// Those of them that left since the last rest or hold began.
    fresh: usize,
    /// How many rests and holds there were: what left before the last one and what after.
    rests: u64,
    /// How many may be.
    pub(super) lanes: Lanes,
    /// How long its acknowledgements are waited for.
    pub(super) patience: Patience,
    /// It is held because of a poll, not of a POST.
    for_a_poll: bool,
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
    /// Channels that were lost with batches on them since an acknowledgement was heard last. Those
    /// that were in use at the same time count as one.
    losses: u32,
    /// When the last one was counted.
    lost_at: Option<Duration>,
}

impl Endpoint {
    pub(super) const fn new(lanes: Lanes, patience: Patience) -> Self {
        Self {
            health: Health::Up,
            failures: 0,
            posting: 0,
            fresh: 0,
            rests: 0,
            lanes,
            patience,
            for_a_poll: false,
            refusals: 0,
            took_at: 0,
            missing: false,
            asking: false,
            says_off: false,
            odd: 0,
            losses: 0,
            lost_at: None,
        }
    }

    /// A POST leaves. Returns what [`Self::ended`] wants to know.
    pub(super) const fn left(&mut self) -> u64 {
        self.posting += 1;
        self.fresh += 1;
        self.rests
    }

    /// A POST ended that had left after so many rests and holds.
    pub(super) const fn ended(&mut self, rests: u64) {
        self.posting = self.posting.saturating_sub(1);
        if rests == self.rests {
            self.fresh = self.fresh.saturating_sub(1);
        }
    }

    /// Whether a POST is on its way that tells how things are since the last rest or hold began.
    pub(super) const fn is_tried(&self) -> bool {
        self.fresh > 0
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

    /// Whether a lane may send now. An endpoint that comes back is asked by one POST first. Those
    /// that left before are not waited for: one of them may hang until its time is up.
    pub(super) const fn admits(&self, now: Duration) -> bool {
        match &self.health {
            Health::Up => true,
            Health::Resting { until } | Health::Held { until, .. } => {
                !self.is_tried() && until.as_nanos() <= now.as_nanos()
            }
        }
    }

    /// It is not used before then, and what is on its way tells nothing about the time behind that.
    fn rest_until(&mut self, until: Duration) {
        self.health = Health::Resting { until };
        self.begins_anew();
    }

    const fn begins_anew(&mut self) {
        self.rests += 1;
        self.fresh = 0;
    }

    /// When a lane may send, if that is later than now.
    pub(super) const fn wakes(&self) -> Option<Duration> {
        match &self.health {
            Health::Up => None,
            Health::Resting { until } | Health::Held { until, .. } => Some(*until),
        }
    }

    /// A POST was accepted. Returns whether the endpoint had been held, and is not any more.
    pub(super) fn worked(
        &mut self,
        now: Duration,
        limits: &RetryLimits,
        chance: &mut Chance,
    ) -> bool {
        self.odd = 0;
        self.missing = false;
        if self.loses_everything() {
            // That was never the question. Whether it is acknowledged is, and until that is known
            // the next one waits.
            if let Health::Held { until, .. } = &mut self.health {
                *until = (*until).max(now + chance.around(limits.hold));
            }
            return false;
        }
        // A POST that left before the rest began. What was asked for then is granted.
        if matches!(self.health, Health::Resting { until } if until > now) {
            return false;
        }
        self.failures = 0;
        self.for_a_poll = false;
        matches!(std::mem::replace(&mut self.health, Health::Up), Health::Held { .. })
    }

    /// A poll was answered. Returns whether the endpoint had been held because of one.
    pub(super) fn polls_work(&mut self) -> bool {
        let ends = matches!(self.health, Health::Held { .. }) && self.for_a_poll;
        if ends {
            self.health = Health::Up;
            self.for_a_poll = false;
        }
        ends
    }

    /// An acknowledgement did not come in time. That counts as a failure, while it is none to
    /// be accepted.
    pub(super) fn acknowledges_late(
        &mut self,
        now: Duration,
        limits: &RetryLimits,
        chance: &mut Chance,
    ) {
        self.lanes.pressed(now, Duration::ZERO);
        if self.health == Health::Up {
            self.failed(now, None, limits, chance);
        }
    }

    /// A POST failed for a reason that passes. `after` is what the peer asked for.
    pub(super) fn failed(
        &mut self,
        now: Duration,
        after: Option<Duration>,
        limits: &RetryLimits,
        chance: &mut Chance,
    ) {
        let after = after.unwrap_or_default().min(MAX_RETRY_AFTER);
        match &mut self.health {
            // The other lanes' POSTs that fail with this one tell nothing new, but perhaps how long
            // to wait.
            Health::Resting { until } | Health::Held { until, .. } if *until > now => {
                *until = (*until).max(now + after);
                return;
            }
            Health::Held { .. } | Health::Up | Health::Resting { .. } => {}
        }
        let wait = self.backoff(limits, chance).max(after);
        if self.loses_everything()
            && let Health::Held { until, .. } = &mut self.health
        {
            // It fails for another reason now, and the one that it is held for is as it was.
            *until = now + wait;
            self.begins_anew();
            return;
        }
        self.rest_until(now + wait);
    }

    /// The wait after one more failure.
    fn backoff(&mut self, limits: &RetryLimits, chance: &mut Chance) -> Duration {
        let longest = limits.backoff(self.failures);
        self.failures = self.failures.saturating_add(1);
        chance.up_to(longest)
    }

    /// A POST was accepted with the remark that queues fill up: rest a little, without a failure.
    pub(super) fn pressed(&mut self, now: Duration, limits: &RetryLimits) {
        if self.health == Health::Up {
            self.rest_until(now + limits.initial);
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
        let rests = match self.health {
            Health::Resting { until } => until,
            Health::Up | Health::Held { .. } => Duration::ZERO,
        };
        let until = (now + wait).max(rests);
        let begins = self.wakes().is_none_or(|until| until <= now);
        self.health = Health::Held { until, reason };
        if begins {
            self.begins_anew();
        }
        self.for_a_poll = false;
        // What channels were lost for is found out anew when this has been mended.
        self.losses = 0;
        news
    }

    /// A poll failed for a reason an operator has to mend. Returns whether that is news.
    pub(super) fn hold_for_a_poll(
        &mut self,
        now: Duration,
        reason: HoldReason,
        limits: &RetryLimits,
        chance: &mut Chance,
    ) -> bool {
        let posts_fail = matches!(self.health, Health::Held { .. }) && !self.for_a_poll;
        let news = self.hold(now, reason, limits, chance);
        self.for_a_poll = !posts_fail;
        news
    }
}

/// Channels that end before anything on them is acknowledged.
impl Endpoint {
    /// A channel that was first used at `born` is lost, with batches on it whose acknowledgement
    /// cannot be heard any more. Returns whether the endpoint is to be held for that
    /// ([`Self::hold_for_losses`]).
    ///
    /// The first one costs nothing: connections end, and collectors restart. While no
    /// acknowledgement is heard, each further one is a failure. To send again at once what was lost
    /// would only bring it there once more, as often as the collector can take it.
    pub(super) fn lost_a_channel(
        &mut self,
        now: Duration,
        born: Duration,
        limits: &RetryLimits,
        chance: &mut Chance,
    ) -> bool {
        let held = matches!(self.health, Health::Held { .. }) && !self.loses_everything();
        // What was in use when the last one was counted was lost with it.
        if held || self.lost_at.is_some_and(|at| born < at) {
            return false;
        }
        self.lost_at = Some(now);
        self.losses = self.losses.saturating_add(1);
        if self.loses_everything() {
            return true;
        }
        let Some(failures) = self.losses.checked_sub(2) else { return false };
        let until = now + chance.up_to(limits.backoff(failures));
        match &mut self.health {
            Health::Resting { until: rests } if *rests > now => *rests = (*rests).max(until),
            Health::Up | Health::Resting { .. } | Health::Held { .. } => self.rest_until(until),
        }
        false
    }

    /// Whether so many channels were lost that the next ones will be, too.
    const fn loses_everything(&self) -> bool {
        self.losses >= LOSSES
    }

    /// Channels are lost again and again. Returns whether that is news.
    pub(super) fn hold_for_losses(
        &mut self,
        now: Duration,
        reason: HoldReason,
        limits: &RetryLimits,
        chance: &mut Chance,
    ) -> bool {
        let losses = self.losses;
        let news = self.hold(now, reason, limits, chance);
        self.losses = losses;
        news
    }

    /// An acknowledgement was heard: some channels last for long enough. Returns whether the
    /// endpoint had been held because none did.
    pub(super) fn acknowledged(&mut self) -> bool {
        let ends = self.loses_everything() && matches!(self.health, Health::Held { .. });
        self.losses = 0;
        if ends {
            self.failures = 0;
            self.health = Health::Up;
        }
        ends
    }
}

impl RetryLimits {
    /// The longest wait after one more failure.
    fn backoff(&self, failures: u32) -> Duration {
        self.initial.saturating_mul(2u32.saturating_pow(failures.min(30))).min(self.max)
    }
}

/// So many answers in a row that nobody understands hold an endpoint.
const ODD: u32 = 3;

/// So many channels that are lost one after the other, and no acknowledgement in between, hold an
/// endpoint.
const LOSSES: u32 = 10;

/// The longest `Retry-After` that is honoured: a proxy's "come back tomorrow" is not.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn new() -> Endpoint {
        let lanes = Lanes::new(NonZeroUsize::MIN, NonZeroUsize::MIN);
        Endpoint::new(lanes, Patience::new(Duration::from_mins(5)))
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
        endpoint.worked(now, &LIMITS, &mut chance);
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

    #[test]
    fn of_two_wishes_to_wait_the_longer_one_counts() {
        let seconds = Duration::from_secs;
        let (mut endpoint, mut chance) = (new(), Chance::new(3));
        endpoint.failed(Duration::ZERO, Some(seconds(10)), &LIMITS, &mut chance);
        endpoint.failed(seconds(1), Some(seconds(30)), &LIMITS, &mut chance);
        assert_eq!(endpoint.wakes(), Some(seconds(31)));
        endpoint.failed(seconds(2), Some(seconds(3)), &LIMITS, &mut chance);
        assert_eq!(endpoint.wakes(), Some(seconds(31)));
        endpoint.failed(seconds(2), Some(Duration::from_hours(24)), &LIMITS, &mut chance);
        assert_eq!(endpoint.wakes(), Some(seconds(2) + MAX_RETRY_AFTER));
        endpoint.hold(seconds(3), HoldReason::new("invalid token"), &LIMITS, &mut chance);
        assert_eq!(endpoint.wakes(), Some(seconds(2) + MAX_RETRY_AFTER));
    }

    #[test]
    fn a_success_that_left_before_a_rest_does_not_end_it() {
        let seconds = Duration::from_secs;
        let (mut endpoint, mut chance) = (new(), Chance::new(3));
        endpoint.failed(seconds(1), Some(seconds(30)), &LIMITS, &mut chance);
        assert!(!endpoint.worked(seconds(2), &LIMITS, &mut chance));
        assert!(!endpoint.admits(seconds(30)));
        assert!(endpoint.admits(seconds(31)));
        endpoint.worked(seconds(32), &LIMITS, &mut chance);
        assert_eq!(endpoint.health, Health::Up);
    }

    #[test]
    fn a_hold_that_a_poll_began_ends_with_one_and_another_does_not() {
        let (mut endpoint, mut chance) = (new(), Chance::new(3));
        let reason = || HoldReason::new("invalid token");
        assert!(endpoint.hold_for_a_poll(Duration::ZERO, reason(), &LIMITS, &mut chance));
        assert!(!endpoint.hold_for_a_poll(Duration::ZERO, reason(), &LIMITS, &mut chance));
        assert!(endpoint.polls_work());
        assert_eq!(endpoint.health, Health::Up);
        assert!(!endpoint.polls_work());
        // A POST was refused, too.
        for post_first in [true, false] {
            if !post_first {
                endpoint.hold_for_a_poll(Duration::ZERO, reason(), &LIMITS, &mut chance);
            }
            endpoint.hold(Duration::ZERO, reason(), &LIMITS, &mut chance);
            if post_first {
                endpoint.hold_for_a_poll(Duration::ZERO, reason(), &LIMITS, &mut chance);
            }
            assert!(!endpoint.polls_work());
            assert!(endpoint.worked(Duration::ZERO, &LIMITS, &mut chance));
        }
    }
}
