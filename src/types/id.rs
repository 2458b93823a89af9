//! Things that are named or numbered. Private fields: a number of one kind is never another.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

/// The number of a segment, dense from 0 in the order of creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(u64);

impl SegmentId {
    /// Wraps a raw segment number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The raw segment number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The segment after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A batch of one destination, numbered in the order of reading, fresh in every process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(u64);

impl BatchId {
    /// Wraps a raw batch number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The raw batch number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The batch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A HEC request channel: the GUID that goes out as `X-Splunk-Request-Channel`.
///
/// Splunk counts ackIds per channel, so a channel is used by one process, against one endpoint,
/// and is never used again once there is doubt about it (invariant I5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(Uuid);

impl ChannelId {
    /// A channel from 128 random bits, as a version 4 UUID. The caller brings the chance, so
    /// that a simulation can be repeated.
    #[must_use]
    pub const fn from_random(bits: u128) -> Self {
        Self(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid())
    }

    /// A channel that was written down.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// To be written down.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The number Splunk gives a request on a channel. Means nothing without the [`ChannelId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckId(u64);

impl AckId {
    /// Wraps a raw ackId.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The raw ackId.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The configured name of a destination; its identity on disk. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationName(Arc<str>);

/// Why a text is no [`DestinationName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("a name cannot be empty")]
    Empty,
    /// The name has more than [`DestinationName::MAX_LEN`] bytes.
    #[error("a name has at most {} characters", DestinationName::MAX_LEN)]
    TooLong,
    /// The name holds a character that would have to be quoted in a metric, a path or a shell.
    #[error("a name is made of letters, digits, `-`, `_` and `.`, not `{0}`")]
    Character(char),
}

impl DestinationName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Checks and wraps a name.
    ///
    /// # Errors
    /// When the name is empty, too long, or not made of letters, digits, `-`, `_` and `.`.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > Self::MAX_LEN {
            return Err(NameError::TooLong);
        }
        let odd = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        match name.chars().find(odd) {
            Some(c) => Err(NameError::Character(c)),
            None => Ok(Self(Arc::from(name))),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DestinationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for DestinationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_metrics_paths_and_shells() {
        assert!(DestinationName::new("splunk-prod_2.eu").is_ok());
        assert_eq!(DestinationName::new(""), Err(NameError::Empty));
        assert_eq!(DestinationName::new("a b"), Err(NameError::Character(' ')));
        assert_eq!(DestinationName::new("é"), Err(NameError::Character('é')));
        assert_eq!(DestinationName::new(&"x".repeat(65)), Err(NameError::TooLong));
    }

    #[test]
    fn channels_print_as_version_4_guids() {
        let channel = ChannelId::from_random(u128::MAX);
        assert_eq!(channel.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
