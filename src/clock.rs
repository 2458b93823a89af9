//! The only reader of clocks. Everything else is told the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::types::UnixMicros;

/// The wall clock. A clock before 1970 reads as 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn unix_micros() -> UnixMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixMicros::new(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub fn instant() -> Instant {
    Instant::now()
}

/// A start from which the pure state machines count their time.
#[derive(Clone, Copy, Debug)]
pub struct Epoch(Instant);

impl Epoch {
    /// Time starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(instant())
    }

    /// Time since the start.
    #[must_use]
    pub fn now(self) -> Duration {
        instant().saturating_duration_since(self.0)
    }

    /// The instant at which `now()` will read `at`.
    #[must_use]
    pub fn instant(self, at: Duration) -> Instant {
        self.0.checked_add(at).unwrap_or(self.0)
    }
}
