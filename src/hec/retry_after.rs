//! `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.

use std::time::Duration;

use crate::types::UnixMicros;

/// How long to wait, by a `Retry-After` header received at `now`. A date in the past is no wait;
/// what is neither seconds nor a date is ignored.
#[must_use]
pub fn parse(value: &str, now: UnixMicros) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // A number too large for a u64 is a wait without end; the caller clamps it.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = UnixMicros::new(date(value.as_bytes())?.checked_mul(1_000_000)?);
    Some(Duration::from_micros(at.since(now)))
}

const WEEKDAYS: [&[u8]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [(&[u8], i64); 12] = [
    (b"Jan", 31),
    (b"Feb", 29),
    (b"Mar", 31),
    (b"Apr", 30),
    (b"May", 31),
    (b"Jun", 30),
    (b"Jul", 31),
    (b"Aug", 31),
    (b"Sep", 30),
    (b"Oct", 31),
    (b"Nov", 30),
    (b"Dec", 31),
];

/// Seconds since 1970 of an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`, and of nothing else:
/// the two obsolete forms have not been sent by anything for decades.
fn date(text: &[u8]) -> Option<i64> {
    let fixed = |from: usize, expected: &[u8]| {
        (text.get(from..from + expected.len())? == expected).then_some(())
    };
    let number = |from: usize, digits: usize| {
        text.get(from..from + digits)?
            .iter()
            .try_fold(0i64, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
    };
    if text.len() != 29 {
        return None;
    }
    fixed(3, b", ")?;
    fixed(7, b" ")?;
    fixed(11, b" ")?;
    fixed(16, b" ")?;
    fixed(19, b":")?;
    fixed(22, b":")?;
    fixed(25, b" GMT")?;
    let weekday = text.get(..3)?;
    let (day, year) = (number(5, 2)?, number(12, 4)?);
    let (hour, minute, second) = (number(17, 2)?, number(20, 2)?, number(23, 2)?);
    let month_name = text.get(8..11)?;
    let (month, (_, longest)) = (1i64..).zip(MONTHS).find(|(_, (name, _))| *name == month_name)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if day == 0 || day > longest || (month == 2 && day == 29 && !leap) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_since_1970(year, month, day);
    let weekday_index = usize::try_from(days.rem_euclid(7)).ok()?;
    (WEEKDAYS.get(weekday_index) == Some(&weekday))
        .then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March here, so that
/// the leap day is the last of its year and the months before it follow one formula.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros::new(784_111_777_000_000); // Sun, 06 Nov 1994 08:49:37

    #[test]
    fn seconds() {
        assert_eq!(parse("0", NOW), Some(Duration::ZERO));
        assert_eq!(parse(" 120 ", NOW), Some(Duration::from_secs(120)));
        assert_eq!(parse("99999999999999999999", NOW), Some(Duration::from_secs(u64::MAX)));
        for wrong in ["", "-1", "+1", "1.5", "1 s", "soon"] {
            assert_eq!(parse(wrong, NOW), None, "{wrong}");
        }
    }

    #[test]
    fn dates_are_exact() {
        for (text, seconds) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
            ("Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600),
            ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
            ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
        ] {
            assert_eq!(date(text.as_bytes()), Some(seconds), "{text}");
        }
    }

    #[test]
    fn a_date_counts_from_now() {
        assert_eq!(parse("Sun, 06 Nov 1994 08:50:07 GMT", NOW), Some(Duration::from_secs(30)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:36 GMT", NOW), Some(Duration::ZERO));
        let half_past = UnixMicros::new(NOW.get() + 500_000);
        let wait = parse("Sun, 06 Nov 1994 08:49:38 GMT", half_past);
        assert_eq!(wait, Some(Duration::from_millis(500)));
    }

    #[test]
    fn what_is_no_date_is_ignored() {
        for wrong in [
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Mon, 29 Feb 2100 00:00:00 GMT",
            "Tue, 00 Feb 2000 12:00:00 GMT",
            "Tue, 31 Apr 2001 12:00:00 GMT",
        ] {
            assert_eq!(date(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
