//! Sizes in bytes, as people write them.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Why a text is no [`ByteSize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No number at the start.
    #[error("a size is a whole number and a unit, such as 128MiB")]
    Number,
    /// The unit is unknown or missing.
    #[error("the unit of a size is one of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB")]
    Unit,
    /// More than 2^64 - 1 bytes.
    #[error("this size is larger than a file can be")]
    TooLarge,
}

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl ByteSize {
    /// That many bytes.
    #[must_use]
    pub const fn bytes(value: u64) -> Self {
        Self(value)
    }

    /// That many times 2^20 bytes. Saturates.
    #[must_use]
    pub const fn mib(value: u64) -> Self {
        Self(value.saturating_mul(1 << 20))
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as an index; saturates where `usize` is narrower.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(SizeError::Number);
        }
        let number: u64 = number.parse().map_err(|_| SizeError::TooLarge)?;
        let unit = unit.trim();
        let factor = UNITS.iter().find(|(name, _)| *name == unit).ok_or(SizeError::Unit)?.1;
        number.checked_mul(factor).map(Self).ok_or(SizeError::TooLarge)
    }
}

impl fmt::Display for ByteSize {
    /// The largest unit that divides the size, so that printing and parsing are inverse.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |&&(_, factor): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(factor);
        let (unit, factor) =
            UNITS.iter().filter(fits).max_by_key(|(_, factor)| *factor).unwrap_or(&UNITS[0]);
        write!(f, "{}{unit}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!("128MiB".parse(), Ok(ByteSize::mib(128)));
        assert_eq!("1MB".parse(), Ok(ByteSize::bytes(1_000_000)));
        assert_eq!(" 7 KiB ".parse(), Ok(ByteSize::bytes(7168)));
        assert_eq!("0B".parse(), Ok(ByteSize::bytes(0)));
    }

    #[test]
    fn refuses_what_could_mean_two_things() {
        assert_eq!("128".parse::<ByteSize>(), Err(SizeError::Unit));
        assert_eq!("128mb".parse::<ByteSize>(), Err(SizeError::Unit));
        assert_eq!("MiB".parse::<ByteSize>(), Err(SizeError::Number));
        assert_eq!("99999999999999999999B".parse::<ByteSize>(), Err(SizeError::TooLarge));
        assert_eq!("99999999999TiB".parse::<ByteSize>(), Err(SizeError::TooLarge));
    }

    proptest::proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(bytes in 0u64..u64::MAX) {
            let size = ByteSize::bytes(bytes);
            proptest::prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
