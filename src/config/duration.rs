//! Durations as people write them: `250ms`, `4s`, `1h30m`, `7d`.

use std::time::Duration;

const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DurationError {
    /// Not whole numbers with units, the largest unit first.
    Form,
    /// More milliseconds than 64 bits hold.
    TooLong,
}

/// Reads a duration: whole numbers, each with its unit, the largest unit first.
///
/// A number without a unit is refused: it could mean seconds or milliseconds.
pub(super) fn parse(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    if rest.is_empty() {
        return Err(DurationError::Form);
    }
    while !rest.is_empty() {
        let (number, behind) = split_at_first(rest, |c| !c.is_ascii_digit());
        let (unit, behind) = split_at_first(behind, |c| c.is_ascii_digit());
        if number.is_empty() {
            return Err(DurationError::Form);
        }
        // `find` goes on where the last unit was found: an earlier or equal unit is not there.
        let factor = units.find(|(name, _)| *name == unit).ok_or(DurationError::Form)?.1;
        let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
        let part = number.checked_mul(factor).ok_or(DurationError::TooLong)?;
        total = total.checked_add(part).ok_or(DurationError::TooLong)?;
        rest = behind;
    }
    Ok(Duration::from_millis(total))
}

fn split_at_first(text: &str, stop: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(stop).unwrap_or(text.len()))
}

/// The shortest text that [`parse`] reads as this duration. Cut to whole milliseconds.
pub(super) fn text(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, factor) in UNITS {
        if left >= factor {
            text.push_str(&format!("{}{name}", left / factor));
            left %= factor;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parse("4s"), Ok(Duration::from_secs(4)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse(" 7d "), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        assert_eq!(parse("90m"), Ok(Duration::from_secs(5400)));
    }

    #[test]
    fn refuses_what_could_mean_two_things() {
        for text in ["", "4", "s", "4 s", "1.5s", "-4s", "30m1h", "1h1h", "4sec", "1h30", "4S"] {
            assert_eq!(parse(text), Err(DurationError::Form), "{text:?}");
        }
        assert_eq!(parse("99999999999999999999s"), Err(DurationError::TooLong));
        assert_eq!(parse("9999999999999999999d"), Err(DurationError::TooLong));
        assert_eq!(parse("213503982334d18446744073709551615ms"), Err(DurationError::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(millis in 0u64..u64::MAX) {
            let duration = Duration::from_millis(millis);
            proptest::prop_assert_eq!(parse(&text(duration)), Ok(duration));
        }
    }
}
