//! How a place in the log is written: an offset, a time, `earliest` or `latest`.

use axum::http::StatusCode;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::types::{Offset, UnixMicros};
use crate::wal::{Place, PlaceError};

use super::answer::Problem;

/// A place as JSON has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Written {
    /// An offset.
    Number(u64),
    /// A time, or a word.
    Text(String),
}

impl Written {
    /// What is meant.
    pub(super) fn place(&self) -> Result<Place, Problem> {
        match self {
            Self::Number(offset) => Ok(Place::Offset(Offset::new(*offset))),
            Self::Text(text) => match text.as_str() {
                "earliest" => Ok(Place::Earliest),
                "latest" => Ok(Place::Latest),
                text => time(text).map(Place::Time).ok_or_else(|| {
                    let text: String = text.chars().take(60).collect();
                    Problem::new(
                        StatusCode::BAD_REQUEST,
                        format!("`{text}` is no place in the log"),
                        "name an offset (a number), a time such as 2026-01-02T03:04:05Z, \
                         `earliest` or `latest`",
                    )
                }),
            },
        }
    }
}

fn time(text: &str) -> Option<UnixMicros> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    i64::try_from(nanos.div_euclid(1000)).ok().map(UnixMicros::new)
}

/// A moment as text.
pub(super) fn written(at: UnixMicros) -> String {
    let nanos = i128::from(at.get()) * 1000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{} us", at.get()))
}

/// There is no such place.
pub(super) fn no_place(error: &PlaceError) -> Problem {
    match error {
        PlaceError::NotRetained(retained) => {
            let since =
                retained.since.map(|since| format!(", which arrived from {} on", written(since)));
            let fix = format!(
                "name a place in {retained}{}, or `earliest`, or `latest`",
                since.unwrap_or_default()
            );
            Problem::new(StatusCode::CONFLICT, error.to_string(), fix)
        }
        PlaceError::Future => {
            let fix = "name a time of the past, or `latest`";
            Problem::new(StatusCode::BAD_REQUEST, error.to_string(), fix)
        }
        PlaceError::Read(_) => Problem::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let read = |json: &str| {
            let written: Written = serde_json::from_str(json).unwrap();
            written.place().map_err(|problem| problem.status())
        };
        let at = UnixMicros::new(1_767_323_045_000_001);
        assert_eq!(read("17"), Ok(Place::Offset(Offset::new(17))));
        assert_eq!(read("\"earliest\""), Ok(Place::Earliest));
        assert_eq!(read("\"latest\""), Ok(Place::Latest));
        assert_eq!(read("\"2026-01-02T03:04:05.000001Z\""), Ok(Place::Time(at)));
        assert_eq!(read("\"2026-01-02T05:04:05.000001+02:00\""), Ok(Place::Time(at)));
        assert_eq!(written(at), "2026-01-02T03:04:05.000001Z");
        for wrong in ["\"-1h\"", "\"\"", "\"17\"", "\"2026-01-02\""] {
            assert_eq!(read(wrong), Err(StatusCode::BAD_REQUEST), "{wrong}");
        }
        assert!(serde_json::from_str::<Written>("-1").is_err());
    }
}
