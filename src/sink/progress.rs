//! How a replay comes on: what it settles in a second, since when nothing has moved, and what stands
//! in its way. What is shown of it lives in this process only; how far it is stands in the store.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::delivery::{EndpointState, EndpointStatus};
use crate::record::ReplayId;

use super::SinkStatus;

/// What the rate is of: the last so much time.
const WINDOW: Duration = Duration::from_secs(30);

/// Less says nothing about a rate: a batch may settle at once and the next one much later.
const LEAST: Duration = Duration::from_secs(2);

/// Samples are at least so far apart, so that their number is bounded.
const APART: Duration = Duration::from_millis(500);

/// The replay that a destination sends now.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayRun {
    /// Which.
    pub id: ReplayId,
    /// What stands in its way, if anything does.
    pub trouble: Option<Trouble>,
    /// Messages settled a second, over the last half minute; none while that is not known.
    pub rate: Option<f64>,
    /// How long nothing of it has been settled.
    pub stalled: Duration,
}

/// What stands in the way of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No collector takes anything, for a reason that passes by itself.
    Resting(String),
    /// All collectors wait for an operator.
    Held(String),
    /// The log cannot be read, or no dead letter be written.
    Stuck(String),
}

impl Trouble {
    /// What stands in the way, by the state of what sends. `urls` are the collectors'.
    pub(super) fn of(status: &SinkStatus, urls: &[String]) -> Option<Self> {
        if let Some(why) = &status.stuck {
            return Some(Self::Stuck(why.clone()));
        }
        let endpoints = &status.delivery.endpoints;
        if endpoints.iter().any(|endpoint| endpoint.state == EndpointState::Up) {
            return None;
        }
        let held = |(url, endpoint): (&String, &EndpointStatus)| match &endpoint.state {
            EndpointState::Held { reason, .. } => Some(format!("{url} is held: {reason}")),
            EndpointState::Up | EndpointState::Resting { .. } => None,
        };
        let reasons: Vec<String> = urls.iter().zip(endpoints).filter_map(held).collect();
        if reasons.len() == endpoints.len() {
            return Some(Self::Held(reasons.join("; ")));
        }
        let which = urls.join(", ");
        Some(Self::Resting(format!("no answer from {which} that would do; it is tried again")))
    }

    /// Whether it waits for an operator.
    #[must_use]
    pub const fn needs_hands(&self) -> bool {
        match self {
            Self::Resting(_) => false,
            Self::Held(_) | Self::Stuck(_) => true,
        }
    }
}

/// What was seen of a replay's progress.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// When, and what was settled then.
    samples: VecDeque<(Instant, u64)>,
    /// When it last moved.
    moved: Instant,
    settled: u64,
}

impl Progress {
    pub(super) fn new(now: Instant, settled: u64) -> Self {
        Self { samples: VecDeque::from([(now, settled)]), moved: now, settled }
    }

    /// So many of its messages are settled.
    pub(super) fn saw(&mut self, now: Instant, settled: u64) {
        if settled != self.settled {
            (self.moved, self.settled) = (now, settled);
        }
        if self.samples.back().is_none_or(|(at, _)| now.duration_since(*at) >= APART) {
            self.samples.push_back((now, settled));
        }
        // The one behind tells what the window began with.
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Messages settled a second.
    pub(super) fn rate(&self, now: Instant) -> Option<f64> {
        let (then, before) = self.samples.front()?;
        let time = now.duration_since(*then);
        let settled = self.settled.saturating_sub(*before);
        (time >= LEAST).then(|| settled as f64 / time.as_secs_f64())
    }

    /// How long nothing has moved.
    pub(super) fn stalled(&self, now: Instant) -> Duration {
        now.duration_since(self.moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_rate_is_that_of_the_last_half_minute() {
        let start = clock::instant();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut progress = Progress::new(start, 100);
        assert_eq!(progress.rate(at(1)), None, "a second says nothing");
        for second in 1..=10 {
            progress.saw(at(second), 100 + 50 * second);
        }
        assert_eq!(progress.rate(at(10)), Some(50.0));
        assert_eq!(progress.stalled(at(12)), Duration::from_secs(2));
        // Nothing more comes: the rate falls, and is nothing in the end.
        for second in 11..=100 {
            progress.saw(at(second), 600);
        }
        assert_eq!(progress.rate(at(100)), Some(0.0));
        assert_eq!(progress.stalled(at(100)), Duration::from_secs(90));
        assert!(progress.samples.len() < 64, "{}", progress.samples.len());
    }
}
