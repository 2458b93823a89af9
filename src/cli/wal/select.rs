//! Which frames a command is about.

use std::collections::BTreeMap;

use crate::cli::human::parse_time;
use crate::record::Record;
use crate::types::{Offset, OffsetRange, UnixMicros};
use crate::wal::{OpenError, ReadOnlyLog, SegmentInfo};

/// How far a frame's time of arrival may lie before the moment at which it was stored, with room
/// to spare: a request is answered after seconds at most.
const SLACK_MICROS: i64 = 60_000_000;

/// A stretch of the log, and what has to be true of a frame in it.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Selection {
    /// From this offset on.
    #[arg(long, value_name = "OFFSET")]
    from: Option<u64>,
    /// Up to this offset, and without it.
    #[arg(long, value_name = "OFFSET")]
    to: Option<u64>,
    /// Only frames that arrived at this time or later: 2026-01-02T03:04:05Z, or -2h.
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    since: Option<UnixMicros>,
    /// Only frames that arrived before this time: 2026-01-02T03:04:05Z, or -2h.
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    until: Option<UnixMicros>,
    /// Only frames of the drain whose token is this, or begins so.
    #[arg(long, value_name = "TOKEN")]
    drain: Option<String>,
    /// Only frames of the drain of this app: as the `[[drain]]` of the configuration names it, or
    /// else `app=` in the drain's URL.
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// At most this many frames.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

impl Selection {
    /// The stretch to read: what was asked for, as far as it is there, without segments that lie
    /// outside of the time asked for.
    pub(super) fn range(&self, log: &ReadOnlyLog) -> Result<OffsetRange, OpenError> {
        Ok(self.range_in(&log.segments()?))
    }

    fn range_in(&self, segments: &[SegmentInfo]) -> OffsetRange {
        let first = segments.first().map(|segment| segment.frames.start).unwrap_or_default();
        let last = segments.last().map(|segment| segment.frames.end).unwrap_or_default();
        let mut range = OffsetRange {
            start: self.from.map_or(first, Offset::new).max(first),
            end: self.to.map_or(last, Offset::new).min(last),
        };
        if let Some(since) = self.since {
            let late = |s: &&SegmentInfo| s.last_received.get() + SLACK_MICROS >= since.get();
            let start = segments.iter().find(late).map_or(last, |segment| segment.frames.start);
            range.start = range.start.max(start);
        }
        if let Some(until) = self.until {
            let behind = |s: &&SegmentInfo| s.first_received.get() - SLACK_MICROS > until.get();
            let end = segments.iter().find(behind).map_or(last, |segment| segment.frames.start);
            range.end = range.end.min(end);
        }
        range
    }

    /// The most frames to take.
    pub(super) fn limit(&self) -> u64 {
        self.limit.unwrap_or(u64::MAX)
    }

    /// Whether a frame of the stretch is one of those asked for.
    pub(super) fn takes(&self, record: &Record, names: &AppNames) -> bool {
        let token = record.drain_token.as_deref().unwrap_or_default();
        self.since.is_none_or(|since| record.received >= since)
            && self.until.is_none_or(|until| record.received < until)
            && self.drain.as_ref().is_none_or(|drain| token.starts_with(drain.as_str()))
            && self.app.as_ref().is_none_or(|app| names.app(record).as_ref() == Some(app))
    }
}

/// The names of apps by their drain's token.
#[derive(Clone, Debug, Default)]
pub(super) struct AppNames(BTreeMap<String, String>);

impl AppNames {
    pub(super) fn new(drains: &[(String, String)]) -> Self {
        Self(drains.iter().cloned().collect())
    }

    /// The app a frame comes from, as far as the frame and the configuration say.
    pub(super) fn app(&self, record: &Record) -> Option<String> {
        let configured = record.drain_token.as_ref().and_then(|token| self.0.get(token));
        configured.cloned().or_else(|| {
            let url = reqwest::Url::parse(&format!("http://drain/?{}", record.query)).ok()?;
            let app = url.query_pairs().find(|(name, _)| name == "app");
            app.map(|(_, app)| app.into_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logplex::Profile;
    use crate::types::{ByteSize, SegmentId};

    const MINUTE: i64 = 60_000_000;

    fn segment(id: u64, range: (u64, u64), minutes: (i64, i64)) -> SegmentInfo {
        SegmentInfo {
            id: SegmentId::new(id),
            frames: OffsetRange { start: Offset::new(range.0), end: Offset::new(range.1) },
            messages_before: 0,
            messages: 0,
            bytes: ByteSize::bytes(0),
            first_received: UnixMicros::new(minutes.0 * MINUTE),
            last_received: UnixMicros::new(minutes.1 * MINUTE),
            sealed: true,
        }
    }

    fn range(selection: &Selection) -> (u64, u64) {
        let all = [
            segment(0, (10, 20), (0, 10)),
            segment(1, (20, 30), (10, 20)),
            segment(2, (30, 35), (20, 30)),
        ];
        let range = selection.range_in(&all);
        (range.start.get(), range.end.get())
    }

    #[test]
    fn a_stretch_is_what_is_there_of_what_was_asked_for() {
        let at = |minutes: i64| Some(UnixMicros::new(minutes * MINUTE));
        let none = Selection::default();
        for (selection, wanted) in [
            (none.clone(), (10, 35)),
            (Selection { from: Some(3), to: Some(99), ..none.clone() }, (10, 35)),
            (Selection { from: Some(12), to: Some(13), ..none.clone() }, (12, 13)),
            (Selection { since: at(15), ..none.clone() }, (20, 35)),
            // A minute of slack: the segment before may hold a frame that was stored late.
            (Selection { since: at(11), ..none.clone() }, (10, 35)),
            (Selection { until: at(15), ..none.clone() }, (10, 30)),
            (Selection { since: at(99), ..none.clone() }, (35, 35)),
            (Selection { since: at(15), until: at(15), from: Some(25), ..none }, (25, 30)),
        ] {
            assert_eq!(range(&selection), wanted, "{selection:?}");
        }
    }

    #[test]
    fn frames_are_told_apart_by_time_drain_and_app() {
        let record = |token: &str, query: &str, received| Record {
            drain_token: Some(token.to_owned()),
            frame_id: None,
            messages_claimed: None,
            messages: 0,
            messages_before: 0,
            received: UnixMicros::new(received),
            peer: String::new(),
            query: query.to_owned(),
            profile: Profile::Logplex,
            body: bytes::Bytes::new(),
        };
        let names = AppNames::new(&[("d.1".to_owned(), "shop".to_owned())]);
        let takes = |selection: &Selection| {
            let all = [record("d.1", "app=other", 1), record("d.2", "a=b&app=the%20blog", 2)];
            all.map(|record| selection.takes(&record, &names))
        };
        let none = Selection::default();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(takes(&none), [true, true]);
        assert_eq!(takes(&Selection { drain: text("d.2"), ..none.clone() }), [false, true]);
        assert_eq!(takes(&Selection { app: text("shop"), ..none.clone() }), [true, false]);
        assert_eq!(takes(&Selection { app: text("the blog"), ..none.clone() }), [false, true]);
        assert_eq!(takes(&Selection { app: text("other"), ..none.clone() }), [false, false]);
        let at = |micros| Some(UnixMicros::new(micros));
        assert_eq!(takes(&Selection { since: at(2), ..none.clone() }), [false, true]);
        assert_eq!(takes(&Selection { until: at(2), ..none }), [true, false]);
    }
}
