//! A stretch of the log that is sent once more.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::generated::storage;
use crate::types::{DestinationName, Offset, OffsetRange, Position, UnixMicros};

use super::{Checkpoint, ValueError, decode_value, encode_value};

/// The most bytes of a replay's id.
const LONGEST_ID: usize = 32;

/// Names a replay. In every event that it sends, as the indexed field `forebay_replay`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayId(Arc<str>);

impl ReplayId {
    /// From 64 random bits.
    #[must_use]
    pub fn from_random(bits: u64) -> Self {
        Self(format!("r-{bits:016x}").into())
    }

    /// One that was written down: lower case letters, digits and `-`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(good);
        fits.then(|| Self(text.into()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which frames of a stretch are sent again. All, where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayFilter {
    /// Those of the drain whose token is this, or begins so.
    pub drain: Option<String>,
    /// Those of this app's drain.
    pub app: Option<String>,
    /// Those that arrived at this time or later.
    pub from: Option<UnixMicros>,
    /// Those that arrived before this time.
    pub to: Option<UnixMicros>,
}

/// Where a replay is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayState {
    /// To be sent: it keeps the segments that it still needs.
    Open,
    /// All of it is settled.
    Finished,
    /// An operator does not want the rest.
    Cancelled,
}

/// A stretch of the log that is sent to a destination once more, beside its own delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Its name.
    pub id: ReplayId,
    /// Where to.
    pub destination: DestinationName,
    /// The frames.
    pub range: OffsetRange,
    /// Messages in the log before the end of `range`.
    pub end_messages: u64,
    /// Which of them.
    pub filter: ReplayFilter,
    /// Events a second; none: as many as the collectors take.
    pub rate: Option<NonZeroU64>,
    /// Where it goes on. Its origin is the start of `range`; what the filter excludes counts as
    /// filtered.
    pub checkpoint: Checkpoint,
    /// Where it is in its life.
    pub state: ReplayState,
    /// When it was asked for.
    pub created: UnixMicros,
    /// When it was finished or cancelled.
    pub ended: Option<UnixMicros>,
}

impl Replay {
    /// Messages in its stretch, those that the filter excludes included.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.end_messages.saturating_sub(self.checkpoint.origin_messages)
    }

    /// Messages of the stretch that are not settled.
    #[must_use]
    pub const fn pending(&self) -> u64 {
        self.messages().saturating_sub(self.checkpoint.totals.settled())
    }

    /// Whether it is to be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == ReplayState::Open
    }

    /// Takes in how far it has come. One that is not open any more stays as it is: what was sent
    /// in the meantime changes nothing. False: it stays.
    pub fn advance(&mut self, checkpoint: Checkpoint, now: UnixMicros) -> bool {
        if !self.is_open() {
            return false;
        }
        self.checkpoint = checkpoint;
        if self.checkpoint.position >= Position::at(self.range.end) {
            self.end(ReplayState::Finished, now);
        }
        true
    }

    /// Moves it on to `to`, which `messages_before` messages in the log precede: the log has given
    /// up what lies below. What of that is not settled counts as dropped, and is returned. None
    /// when it needs nothing from below.
    pub fn lift(&mut self, to: Offset, messages_before: u64, now: UnixMicros) -> Option<u64> {
        if !self.is_open() {
            return None;
        }
        let (to, before) = (to.min(self.range.end), messages_before.min(self.end_messages));
        let mut checkpoint = self.checkpoint.clone();
        let lost = checkpoint.lift(Position::at(to), before)?;
        self.advance(checkpoint, now);
        Some(lost)
    }

    /// Ends it.
    pub fn end(&mut self, state: ReplayState, now: UnixMicros) {
        self.state = state;
        self.ended = Some(now);
        // Nobody goes on from there.
        self.checkpoint.window = Vec::new();
        self.checkpoint.endpoints = Vec::new();
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_value(&storage::Replay {
            id: self.id.to_string(),
            destination: self.destination.to_string(),
            start_offset: self.range.start.get(),
            end_offset: self.range.end.get(),
            end_messages: self.end_messages,
            drain: self.filter.drain.clone(),
            app: self.filter.app.clone(),
            from_us: self.filter.from.map(UnixMicros::get),
            to_us: self.filter.to.map(UnixMicros::get),
            rate: self.rate.map_or(0, NonZeroU64::get),
            checkpoint: Some(self.checkpoint.to_wire()),
            state: match self.state {
                ReplayState::Open => storage::ReplayState::Unspecified,
                ReplayState::Finished => storage::ReplayState::Finished,
                ReplayState::Cancelled => storage::ReplayState::Cancelled,
            }
            .into(),
            created_us: self.created.get(),
            ended_us: self.ended.map_or(0, UnixMicros::get),
        })
    }

    /// Checks and decodes a stored replay.
    ///
    /// # Errors
    /// When the value is not one that [`Self::encode`] made.
    pub fn decode(value: &[u8]) -> Result<Self, ValueError> {
        let wire: storage::Replay = decode_value(value)?;
        let state = match wire.state() {
            storage::ReplayState::Unspecified => ReplayState::Open,
            storage::ReplayState::Finished => ReplayState::Finished,
            storage::ReplayState::Cancelled => ReplayState::Cancelled,
        };
        Ok(Self {
            id: ReplayId::parse(&wire.id).ok_or(ValueError::Decode)?,
            destination: DestinationName::new(&wire.destination).map_err(|_| ValueError::Decode)?,
            range: OffsetRange {
                start: Offset::new(wire.start_offset),
                end: Offset::new(wire.end_offset),
            },
            end_messages: wire.end_messages,
            filter: ReplayFilter {
                drain: wire.drain,
                app: wire.app,
                from: wire.from_us.map(UnixMicros::new),
                to: wire.to_us.map(UnixMicros::new),
            },
            rate: NonZeroU64::new(wire.rate),
            checkpoint: Checkpoint::from_wire(wire.checkpoint.unwrap_or_default()),
            state,
            created: UnixMicros::new(wire.created_us),
            ended: (wire.ended_us != 0).then(|| UnixMicros::new(wire.ended_us)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Totals;

    pub(crate) fn replay() -> Replay {
        let position = Position::new(Offset::new(12), 1);
        let totals = Totals { acknowledged: 4, filtered: 1, ..Totals::default() };
        Replay {
            id: ReplayId::from_random(0xfe),
            destination: DestinationName::new("splunk").unwrap(),
            range: OffsetRange { start: Offset::new(10), end: Offset::new(20) },
            end_messages: 40,
            filter: ReplayFilter {
                drain: Some("d.1".to_owned()),
                app: Some("shop".to_owned()),
                from: Some(UnixMicros::new(3)),
                to: Some(UnixMicros::new(9)),
            },
            rate: NonZeroU64::new(500),
            checkpoint: Checkpoint {
                position,
                totals,
                origin_messages: 20,
                endpoints: vec!["https://a:8088".to_owned()],
                ..Checkpoint::default()
            },
            state: ReplayState::Open,
            created: UnixMicros::new(1),
            ended: None,
        }
    }

    const NOW: UnixMicros = UnixMicros::new(77);

    #[test]
    fn a_replay_comes_back_as_it_was() {
        let open = replay();
        assert_eq!(open.id.as_str(), "r-00000000000000fe");
        assert_eq!(Replay::decode(&open.encode()), Ok(open.clone()));
        for state in [ReplayState::Finished, ReplayState::Cancelled] {
            let mut ended = open.clone();
            ended.end(state, NOW);
            assert_eq!(Replay::decode(&ended.encode()), Ok(ended));
        }
        let all = Replay { filter: ReplayFilter::default(), rate: None, ..open };
        assert_eq!(Replay::decode(&all.encode()), Ok(all));
    }

    #[test]
    fn the_bytes_of_a_replay_are_frozen() {
        let hex: String = replay().encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = concat!(
        "01",
        "7485e259",
        "0a12722d30303030303030303030303030306665120673706c756e6b180a201428283203642e313a",
        "0473686f704003480950f4035a1c080c10011a040804100128143a0e68747470733a2f2f613a383038386801",
    );

    #[test]
    fn it_ends_when_all_is_settled_and_then_nothing_moves_it() {
        let mut moved = replay();
        assert_eq!((moved.messages(), moved.pending()), (20, 15));
        let end = Position::at(moved.range.end);
        let totals = Totals { acknowledged: 19, filtered: 1, ..Totals::default() };
        let last = Checkpoint { position: end, totals, ..moved.checkpoint.clone() };
        assert!(moved.advance(last.clone(), NOW));
        assert_eq!(
            (moved.state, moved.ended, moved.pending()),
            (ReplayState::Finished, Some(NOW), 0)
        );
        let mut cancelled = replay();
        cancelled.end(ReplayState::Cancelled, NOW);
        let before = cancelled.clone();
        assert!(!cancelled.advance(last, NOW));
        assert_eq!(cancelled.lift(Offset::new(15), 30, NOW), None);
        assert_eq!(cancelled, before);
    }

    #[test]
    fn what_the_log_drops_is_counted_and_never_beyond_the_end() {
        let mut lifted = replay();
        assert_eq!(lifted.lift(Offset::new(12), 24, NOW), None, "it needs nothing from there");
        assert_eq!(lifted.lift(Offset::new(15), 30, NOW), Some(5));
        assert_eq!((lifted.pending(), lifted.is_open()), (10, true));
        assert_eq!(lifted.lift(Offset::new(99), 300, NOW), Some(10));
        assert_eq!(lifted.checkpoint.position, Position::at(lifted.range.end));
        assert_eq!((lifted.checkpoint.totals.dropped, lifted.pending()), (15, 0));
        assert_eq!(lifted.state, ReplayState::Finished);
    }

    #[test]
    fn ids_are_what_a_path_and_a_field_can_hold() {
        assert_eq!(ReplayId::parse("r-00000000000000fe"), Some(replay().id));
        for wrong in ["", "R", "a/b", "a b", "ä", &"a".repeat(33)] {
            assert_eq!(ReplayId::parse(wrong), None, "{wrong}");
        }
    }
}
