//! How long an endpoint's acknowledgements are waited for.
//!
//! `ack_timeout` is what an operator thinks that they take at most. Where they take longer for a
//! while (a rolling restart, replication that lags), to send everything again each time that it is
//! over would feed the indexers that cannot follow the same batches again and again. So when a
//! batch has waited in vain, the others are given twice the time, and the batch that is sent again
//! tells which of two it was: the state was lost, then its own acknowledgement comes soon, and the
//! others are sent again at once; or acknowledgements are slow, then the others' come.
//!
//! An ackId is asked about on, though its batch has been sent again ([`Patience::gives_up_after`]):
//! nothing else is ever posted on its channel, so it means what it meant. Hence delivery gets on
//! however slow acknowledgements are, up to that bound.

use std::time::Duration;

/// What `ack_timeout` may grow to, unless four times its own is more. A collector that is mended
/// after a long standstill has forgotten what it was sent before, and that is found out only then.
const MOST: Duration = Duration::from_mins(10);

#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// `ack_timeout`.
    least: Duration,
    limit: Duration,
    /// When it grew last.
    grown: Option<Duration>,
}

impl Patience {
    pub(super) const fn new(ack_timeout: Duration) -> Self {
        Self { least: ack_timeout, limit: ack_timeout, grown: None }
    }

    /// How long after its 2xx a batch may stay without acknowledgement.
    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    fn most(&self) -> Duration {
        self.least.saturating_mul(4).max(MOST)
    }

    /// How long after its 2xx an ackId is asked about at all.
    pub(super) fn gives_up_after(&self) -> Duration {
        self.most().saturating_mul(2)
    }

    /// A batch that was accepted at `since` has waited in vain. Returns whether that is news: what
    /// was accepted before the limit grew last tells the same as the batch that made it grow.
    pub(super) fn ran_out(&mut self, now: Duration, since: Duration) -> bool {
        let news = self.grown.is_none_or(|grown| since >= grown);
        if news {
            self.limit = self.limit.saturating_mul(2).min(self.most());
            self.grown = Some(now);
        }
        news
    }

    /// A batch that was accepted at `since` was acknowledged, `after` its 2xx.
    pub(super) fn heard(&mut self, since: Duration, after: Duration) {
        let wanted = after.saturating_mul(2).clamp(self.least, self.most());
        if after >= self.limit {
            self.limit = wanted;
        } else if self.grown.is_none_or(|grown| since >= grown) {
            self.limit = self.limit.min(wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn the_limit_doubles_once_for_all_that_was_accepted_before_and_has_an_end() {
        let mut patience = Patience::new(5 * MINUTE);
        assert!(patience.ran_out(5 * MINUTE, Duration::ZERO));
        assert_eq!(patience.limit(), 10 * MINUTE);
        assert!(!patience.ran_out(10 * MINUTE, 4 * MINUTE), "accepted before it grew");
        assert_eq!(patience.limit(), 10 * MINUTE);
        assert!(patience.ran_out(15 * MINUTE, 5 * MINUTE));
        assert!(patience.ran_out(35 * MINUTE, 15 * MINUTE));
        assert_eq!(patience.limit(), 20 * MINUTE);
        assert_eq!(patience.gives_up_after(), 40 * MINUTE);
    }

    #[test]
    fn an_acknowledgement_that_comes_soon_resets_it_and_a_slow_one_does_not() {
        let mut patience = Patience::new(5 * MINUTE);
        patience.ran_out(5 * MINUTE, Duration::ZERO);
        patience.heard(MINUTE, 6 * MINUTE);
        assert_eq!(patience.limit(), 10 * MINUTE, "slow");
        patience.heard(4 * MINUTE, MINUTE);
        assert_eq!(patience.limit(), 10 * MINUTE, "from before the trouble");
        patience.heard(6 * MINUTE, 4 * MINUTE);
        assert_eq!(patience.limit(), 8 * MINUTE);
        patience.heard(6 * MINUTE, MINUTE);
        assert_eq!(patience.limit(), 5 * MINUTE, "never less than what was asked for");
        patience.heard(6 * MINUTE, 7 * MINUTE);
        assert_eq!(patience.limit(), 14 * MINUTE, "one that was given up already");
    }
}
