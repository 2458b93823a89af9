//! Time as an argument. Nothing below floor 5 reads a clock.

use std::fmt;

/// Microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
///
/// Microseconds because Logplex writes at most six digits of a second (logplex drains send
/// `…:05.353034+00:00`) and Splunk's `time` goes out as a plain decimal of the same precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMicros(i64);

impl UnixMicros {
    /// Wraps a number of microseconds since the epoch.
    #[must_use]
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Microseconds from `earlier` to `self`; 0 when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        if self.0 > earlier.0 { self.0.abs_diff(earlier.0) } else { 0 }
    }
}

impl fmt::Display for UnixMicros {
    /// Seconds with six decimals, as Splunk's `time` wants them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:06}", magnitude / 1_000_000, magnitude % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_plain_decimals_and_never_a_float() {
        assert_eq!(UnixMicros::new(1_767_323_045_000_001).to_string(), "1767323045.000001");
        assert_eq!(UnixMicros::new(-1).to_string(), "-0.000001");
        assert_eq!(UnixMicros::new(0).to_string(), "0.000000");
    }
}
