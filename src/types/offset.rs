//! Where things are in the log.
//!
//! ```text
//!  trimmed        checkpoint      sent            read          durable end
//!     │               │             │               │                │
//! ────┼───────────────┼─────────────┼───────────────┼────────────────┼──────▶ offsets
//!     │  retained     │ in flight   │ encoded,      │ durable,       │
//!     │  (replayable) │ (window)    │ waiting       │ not yet read   │
//! ```
//!
//! `trimmed ≤ checkpoint ≤ sent ≤ read ≤ durable end` (invariant I4).

use std::fmt;
use std::str::FromStr;

/// The number of a frame in the log, dense from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// The offset of the first frame a log ever holds.
    pub const ZERO: Self = Self(0);

    /// Wraps a raw frame number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The raw frame number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset of the frame after this one. Saturates: at a million frames a second the log
    /// would be 584,000 years old.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// How many frames lie in `[other, self)`; 0 when `other` is ahead.
    #[must_use]
    pub const fn since(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A half-open range of offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OffsetRange {
    /// The first offset in the range.
    pub start: Offset,
    /// The first offset behind the range.
    pub end: Offset,
}

impl OffsetRange {
    /// How many frames the range holds.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end.since(self.start)
    }

    /// Whether the range holds no frame.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.end.0 <= self.start.0
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// A message in the log: a frame and the message's index in it.
///
/// The position behind the last message of a frame is always written as `(offset + 1, 0)`, so
/// that equal places are equal values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The frame.
    pub offset: Offset,
    /// The message's index in the frame, from 0.
    pub index: u32,
}

impl Position {
    /// The first message a log ever holds.
    pub const ZERO: Self = Self::at(Offset::ZERO);

    /// The first message of the frame at `offset`.
    #[must_use]
    pub const fn at(offset: Offset) -> Self {
        Self { offset, index: 0 }
    }

    /// The message `index` of the frame at `offset`.
    #[must_use]
    pub const fn new(offset: Offset, index: u32) -> Self {
        Self { offset, index }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.offset, self.index)
    }
}

/// A text that is no [`Position`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position is written as offset:index, such as 12:3")]
pub struct ParsePositionError;

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (offset, index) = text.split_once(':').ok_or(ParsePositionError)?;
        // A sign would be read, too, and the same place have two names.
        if !digits(offset) || !digits(index) {
            return Err(ParsePositionError);
        }
        let offset = offset.parse().map_err(|_| ParsePositionError)?;
        let index = index.parse().map_err(|_| ParsePositionError)?;
        Ok(Self::new(Offset::new(offset), index))
    }
}

/// A half-open range of messages. A batch is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PositionRange {
    /// The first message in the range.
    pub start: Position,
    /// The first message behind the range.
    pub end: Position,
}

impl PositionRange {
    /// Whether the range holds no message.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }
}

impl fmt::Display for PositionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// The durable end of the log, and how much was ever in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The first offset that is not durable.
    pub end: Offset,
    /// Messages in the log before `end`.
    pub messages: u64,
    /// Body bytes before `end`; only differences mean anything.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_order_by_frame_then_message() {
        let mut all = vec![
            Position::new(Offset::new(2), 0),
            Position::new(Offset::new(1), 7),
            Position::new(Offset::new(1), 2),
        ];
        all.sort();
        assert_eq!(
            all,
            [
                Position::new(Offset::new(1), 2),
                Position::new(Offset::new(1), 7),
                Position::at(Offset::new(2)),
            ]
        );
    }

    #[test]
    fn positions_are_read_as_they_are_written() {
        let at = Position::new(Offset::new(u64::MAX), u32::MAX);
        assert_eq!(at.to_string().parse(), Ok(at));
        for wrong in ["", "1", ":", "1:", ":1", "+1:1", "1:-1", "1:4294967296", "1:1:1", " 1:1"] {
            assert_eq!(wrong.parse::<Position>(), Err(ParsePositionError), "{wrong}");
        }
    }

    #[test]
    fn a_range_counts_frames_and_never_underflows() {
        let range = OffsetRange { start: Offset::new(3), end: Offset::new(5) };
        assert_eq!(range.len(), 2);
        assert!(!range.is_empty());
        let backward = OffsetRange { start: Offset::new(5), end: Offset::new(3) };
        assert_eq!(backward.len(), 0);
        assert!(backward.is_empty());
    }
}
