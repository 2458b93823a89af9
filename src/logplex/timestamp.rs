//! RFC 3339 times to microseconds, in integers.

use crate::types::UnixMicros;

/// Reads `2026-01-02T03:04:05.000001+00:00`.
///
/// The fraction has one to nine digits or is left out with its point; digits behind the sixth are
/// cut off, not rounded. The zone is `Z` or `±hh:mm`. A second of 60 is the first of the next
/// minute, as POSIX counts it. Anything else is `None`, also a date no calendar has.
#[inline]
pub(super) fn parse(text: &[u8]) -> Option<UnixMicros> {
    let (date_time, rest) = text.split_first_chunk::<19>()?;
    #[rustfmt::skip]
    let [y1, y2, y3, y4, b'-', o1, o2, b'-', d1, d2, b'T' | b't',
         h1, h2, b':', m1, m2, b':', s1, s2] = *date_time else { return None };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let (month, day) = (two(o1, o2)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    let month_fits = (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    if !month_fits || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (micros, rest) = match rest {
        [b'.', digits @ ..] => fraction(digits)?,
        rest => (0, rest),
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second
        - zone(rest)?;
    // Years have four digits: at most 253,402,387,200 seconds.
    Some(UnixMicros::new(seconds * 1_000_000 + micros))
}

/// Two digits.
#[inline]
fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

/// The digits behind the point as microseconds, and what follows them.
#[inline]
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    // What Logplex writes: six digits.
    if let Some(([a, b, c, d, e, f], rest @ [b'+' | b'-' | b'Z', ..])) = text.split_first_chunk() {
        return Some((two(*a, *b)? * 10_000 + two(*c, *d)? * 100 + two(*e, *f)?, rest));
    }
    let mut micros = 0;
    let mut unit = 100_000;
    let mut rest = text;
    while let [digit @ b'0'..=b'9', tail @ ..] = rest {
        micros += i64::from(digit & 0x0f) * unit;
        unit /= 10;
        rest = tail;
    }
    let digits = text.len().wrapping_sub(rest.len());
    (1..=9).contains(&digits).then_some((micros, rest))
}

/// How many seconds the local time of a zone is ahead of UTC.
#[inline]
fn zone(text: &[u8]) -> Option<i64> {
    match *text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(h1, h2)?, two(m1, m2)?);
            let ahead = hours * 3_600 + minutes * 60;
            (hours <= 23 && minutes <= 59).then_some(if sign == b'-' { -ahead } else { ahead })
        }
        _ => None,
    }
}

/// Whether a year of the Gregorian calendar has a 29 February.
const fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

/// The days of a month, 1 to 12.
const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, years 0 to 9999.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`: years begin
/// in March, so that the leap day is their last, and 400 of them are 146,097 days. Shifting all
/// of it by one such era keeps January of year 0 from being negative.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let march_year = year + if month <= 2 { 399 } else { 400 };
    let (era, of_era) = (march_year / 400, march_year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + day_of_year;
    // 719,468 days from 0000-03-01 to 1970-01-01.
    (era - 1) * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(text: &str) -> Option<i64> {
        parse(text.as_bytes()).map(UnixMicros::get)
    }

    /// Days since 1970-01-01 by walking the calendar: slow, and nothing in common with the above.
    fn days_by_walking(year: i64, month: i64, day: i64) -> i64 {
        let length = |y: i64, m: i64| match m {
            2 if y % 400 == 0 || (y % 4 == 0 && y % 100 != 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let year_length = |y: i64| (1..=12).map(|m| length(y, m)).sum::<i64>();
        let years = if year >= 1970 {
            (1970..year).map(year_length).sum::<i64>()
        } else {
            -(year..1970).map(year_length).sum::<i64>()
        };
        years + (1..month).map(|m| length(year, m)).sum::<i64>() + day - 1
    }

    #[test]
    fn known_times_are_exact() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.000001+00:00", 1),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("2026-01-02T03:04:05.000001+00:00", 1_767_323_045_000_001),
            ("2012-10-11T03:47:20+00:00", 1_349_927_240_000_000),
            ("2014-11-11T08:24:24.064853+00:00", 1_415_694_264_064_853),
            ("2026-01-02T03:04:05.1-00:00", 1_767_323_045_100_000),
            ("2026-01-02T05:34:05.999999999+02:30", 1_767_323_045_999_999),
            ("2026-01-01T21:04:05-06:00", 1_767_323_045_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000),
            ("2026-01-02t03:04:05z", 1_767_323_045_000_000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
            ("9999-12-31T23:59:60.999999-23:59", 253_402_387_140_999_999),
        ] {
            assert_eq!(micros(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "-",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05Z+00:00",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05.1234567890Z",
            "2026-01-02T03:04:05.1",
            "2026-01-02 03:04:05Z",
            "2026-00-02T03:04:05Z",
            "2026-13-02T03:04:05Z",
            "2026-01-00T03:04:05Z",
            "2026-01-32T03:04:05Z",
            "2026-02-29T03:04:05Z",
            "1900-02-29T03:04:05Z",
            "2026-04-31T03:04:05Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T03:60:00Z",
            "2026-01-02T03:04:61Z",
            "2026-01-02T03:04:05+24:00",
            "2026-01-02T03:04:05+00:60",
            "2026-01-02T03:04:05+0000",
            "2026-01-02T03:04:05 ",
            "2O26-01-02T03:04:05Z",
            "2026-01-02T03:04:0/Z",
        ] {
            assert_eq!(micros(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_time_is_what_walking_the_calendar_says(
            year in 0_i64..=9999, month in 1_i64..=12, day in 1_i64..=31,
            (hour, minute, second) in (0_i64..24, 0_i64..60, 0_i64..=60),
            nanos in 0_i64..1_000_000_000, digits in 0_usize..=9,
            (ahead, zone_hour, zone_minute) in (any::<bool>(), 0_i64..24, 0_i64..60),
        ) {
            let exists = days_by_walking(year, month, day) < days_by_walking(year, month, 28) + 4
                && (day <= 28 || {
                    let (next_year, next) =
                        if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                    days_by_walking(year, month, day) < days_by_walking(next_year, next, 1)
                });
            let all_digits = format!("{nanos:09}").into_bytes();
            let fraction = if digits == 0 {
                String::new()
            } else {
                format!(".{nanos:09}").chars().take(digits + 1).collect()
            };
            let sign = if ahead { '+' } else { '-' };
            let text = format!(
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}\
                 {sign}{zone_hour:02}:{zone_minute:02}"
            );
            let kept = (0..9).map(|place| if place < digits.min(6) { all_digits[place] } else { b'0' });
            let kept = kept.take(6).fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
            let zone = (zone_hour * 60 + zone_minute) * if ahead { 60 } else { -60 };
            let seconds = days_by_walking(year, month, day) * 86_400
                + hour * 3600 + minute * 60 + second - zone;
            let expected = exists.then_some(seconds * 1_000_000 + kept);
            prop_assert_eq!(micros(&text), expected, "{}", text);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..48)) {
            prop_assert!(parse(&bytes).is_none() || bytes.len() >= 20);
        }
    }
}
