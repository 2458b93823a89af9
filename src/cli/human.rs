//! Numbers and times for people.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock;
use crate::config::parse_duration;
use crate::types::UnixMicros;

/// `1,234,567`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.5 GiB`.
pub(super) fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = value as f64;
    let mut unit = UNITS[0];
    for larger in UNITS.iter().skip(1) {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{value} B") } else { format!("{size:.1} {unit}") }
}

/// `3.2 s`, `4 m 10 s`, `2 h 5 m`, `3 d 4 h`.
pub(super) fn seconds(value: f64) -> String {
    if value < 60.0 {
        return format!("{value:.1} s");
    }
    let whole = Duration::try_from_secs_f64(value).map_or(0, |duration| duration.as_secs());
    let (days, hours) = (whole / 86_400, whole / 3600 % 24);
    let (minutes, seconds) = (whole / 60 % 60, whole % 60);
    if days > 0 {
        format!("{days} d {hours} h")
    } else if hours > 0 {
        format!("{hours} h {minutes} m")
    } else {
        format!("{minutes} m {seconds} s")
    }
}

/// `2026-01-02T03:04:05.000001Z`.
pub(super) fn rfc3339(at: UnixMicros) -> String {
    let nanos = i128::from(at.get()) * 1000;
    let text = OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok());
    // A year that no calendar has: damage, and shown as what it is.
    text.unwrap_or_else(|| at.to_string())
}

/// Reads a time as people write it for a command: RFC 3339, or a time ago such as `-2h`.
pub(super) fn parse_time(text: &str) -> Result<UnixMicros, String> {
    if let Some(ago) = text.strip_prefix('-') {
        let micros = parse_duration(ago)?.as_micros();
        let micros = i64::try_from(micros).unwrap_or(i64::MAX);
        return Ok(UnixMicros::new(clock::unix_micros().get().saturating_sub(micros)));
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        "a time is written as 2026-01-02T03:04:05Z, or as a time ago, such as -2h".to_owned()
    })?;
    let micros = time.unix_timestamp_nanos().div_euclid(1000);
    i64::try_from(micros).map(UnixMicros::new).map_err(|_| "this time is out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let counts = [0, 12, 999, 1000, 1_234_567].map(count);
        assert_eq!(counts, ["0", "12", "999", "1,000", "1,234,567"]);
        let sizes = [0, 1023, 1536, 5 << 30, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.5 KiB", "5.0 GiB", "16777216.0 TiB"]);
        let times = [0.04, 59.0, 250.0, 7500.0, 273_600.0].map(seconds);
        assert_eq!(times, ["0.0 s", "59.0 s", "4 m 10 s", "2 h 5 m", "3 d 4 h"]);
    }

    #[test]
    fn times_are_read_and_written() {
        let at = UnixMicros::new(1_767_323_045_000_001);
        assert_eq!(rfc3339(at), "2026-01-02T03:04:05.000001Z");
        assert_eq!(parse_time("2026-01-02T03:04:05.000001Z"), Ok(at));
        assert_eq!(parse_time("2026-01-02T05:04:05.000001+02:00"), Ok(at));
        let now = clock::unix_micros();
        let ago = now.since(parse_time("-2h").unwrap());
        assert!((7_199_000_000..=7_200_000_000).contains(&ago), "{ago}");
        for wrong in ["yesterday", "-2", "2026-13-01T00:00:00Z", ""] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
