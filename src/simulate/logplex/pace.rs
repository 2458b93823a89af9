//! A schedule that does not drift.

use std::time::{Duration, Instant};

/// When one connection's frames are due, each counted from the start and not from the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    start: Instant,
    /// Seconds between two frames of this connection.
    interval: f64,
    /// Seconds to this connection's first frame.
    offset: f64,
}

impl Pace {
    /// The schedule of connection `number` of `connections`, which take turns.
    pub(super) fn new(
        start: Instant,
        messages_per_second: f64,
        messages_per_frame: u32,
        connections: u32,
        number: u32,
    ) -> Self {
        let between_any_two = f64::from(messages_per_frame) / messages_per_second;
        Self {
            start,
            interval: between_any_two * f64::from(connections),
            offset: between_any_two * f64::from(number),
        }
    }

    /// When a frame is due, counted from 0.
    pub(super) fn due(&self, frame: u64) -> Instant {
        // f64 is exact for more frames than a run can have.
        let seconds = self.interval.mul_add(frame as f64, self.offset);
        let after = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        // A rate so low that the time cannot be told is a frame that is not sent in this century.
        let century = Duration::from_secs(100 * 365 * 86_400);
        self.start.checked_add(after.min(century)).unwrap_or(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_turns_and_nothing_drifts() {
        let start = crate::clock::instant();
        // 1000 messages a second, 10 in a frame: a frame every 10 ms over 4 connections.
        let due = |number, frame| {
            let due = Pace::new(start, 1000.0, 10, 4, number).due(frame) - start;
            due.as_secs_f64() * 1e3
        };
        for (number, frame, expected) in
            [(0, 0, 0.0), (1, 0, 10.0), (3, 0, 30.0), (0, 1, 40.0), (2, 1_000_000, 40_000_020.0)]
        {
            assert!((due(number, frame) - expected).abs() < 0.01, "{number} {frame}");
        }
    }

    #[test]
    fn an_absurd_rate_is_never_due() {
        let start = crate::clock::instant();
        let pace = Pace::new(start, f64::MIN_POSITIVE, 1, 1, 0);
        assert_eq!(pace.due(0), start);
        assert!(pace.due(1) > start + Duration::from_secs(86_400));
    }
}
