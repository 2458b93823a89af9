//! Stretches of the log that some destinations never get: what was dropped for want of space, and
//! what was damaged and given up. Durable, shown to operators, and for damage the reader's map.

use rocksdb::WriteBatch;

use crate::generated::storage;
use crate::record::{Checkpoint, decode_value, encode_value};
use crate::types::{DestinationName, Offset, OffsetRange, Position, UnixMicros};

use super::error::OpenError;
use super::keys;
use super::recover::{damaged, db_error};
use super::store::Store;

/// Why a stretch is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapCause {
    /// `when_full = "drop_oldest"` dropped it before every destination had it.
    Space,
    /// It was damaged or lost, and an operator let it go.
    Damage,
}

impl GapCause {
    /// As text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Space => "space",
            Self::Damage => "damage",
        }
    }
}

/// A stretch of the log that some destinations never get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub cause: GapCause,
    /// The frames.
    pub range: OffsetRange,
    /// Messages in the log before the stretch.
    pub messages_before: u64,
    /// Messages in the stretch.
    pub messages: u64,
    /// When it began.
    pub first_recorded: UnixMicros,
    /// When it was last made longer.
    pub last_recorded: UnixMicros,
    /// What each destination lost, as of its last synced checkpoint: what was acknowledged in the
    /// moments before is counted here too, and not in the destination's own books.
    pub losses: Vec<(DestinationName, u64)>,
}

/// So many are kept; the oldest go first, unless the reader still needs them.
const KEPT: usize = 1000;

impl Gap {
    /// Messages in the log before the end of the stretch.
    #[must_use]
    pub const fn messages_end(&self) -> u64 {
        self.messages_before + self.messages
    }

    /// What a destination at this checkpoint does not get of it.
    pub(super) fn lost_by(&self, checkpoint: &Checkpoint) -> u64 {
        self.messages_end().saturating_sub(self.messages_before.max(settled(checkpoint)))
    }

    fn encode(&self) -> Vec<u8> {
        encode_value(&storage::Gap {
            cause: match self.cause {
                GapCause::Space => storage::GapCause::Space,
                GapCause::Damage => storage::GapCause::Damage,
            }
            .into(),
            first_offset: self.range.start.get(),
            end_offset: self.range.end.get(),
            messages_before: self.messages_before,
            messages: self.messages,
            first_recorded_us: self.first_recorded.get(),
            last_recorded_us: self.last_recorded.get(),
            losses: self
                .losses
                .iter()
                .map(|(name, messages)| storage::GapLoss {
                    destination: name.to_string(),
                    messages: *messages,
                })
                .collect(),
        })
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, crate::record::ValueError> {
        let wire: storage::Gap = decode_value(value)?;
        let loss = |loss: &storage::GapLoss| {
            Some((DestinationName::new(&loss.destination).ok()?, loss.messages))
        };
        Ok(Self {
            cause: match wire.cause() {
                storage::GapCause::Space => GapCause::Space,
                storage::GapCause::Damage | storage::GapCause::Unspecified => GapCause::Damage,
            },
            range: OffsetRange {
                start: Offset::new(wire.first_offset),
                end: Offset::new(wire.end_offset),
            },
            messages_before: wire.messages_before,
            messages: wire.messages,
            first_recorded: UnixMicros::new(wire.first_recorded_us),
            last_recorded: UnixMicros::new(wire.last_recorded_us),
            losses: wire.losses.iter().filter_map(loss).collect(),
        })
    }
}

/// Messages in the log before a checkpoint's position.
pub(super) const fn settled(checkpoint: &Checkpoint) -> u64 {
    checkpoint.origin_messages.wrapping_add(checkpoint.totals.settled())
}

/// The first offset that cursors may stand at, and how many messages precede it. Rises when
/// `drop_oldest` moves the cursors that lag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// The offset.
    pub offset: Offset,
    /// Messages in the log before it.
    pub messages_before: u64,
}

impl Floor {
    /// Moves a checkpoint that lies below the floor onto it. What it passes over is dropped, and
    /// is returned.
    pub(super) fn lift(self, checkpoint: &mut Checkpoint) -> Option<u64> {
        checkpoint.lift(Position::at(self.offset), self.messages_before)
    }
}

/// A change of a row: its key, and what stands there from now on.
pub(super) type Row = ([u8; 12], Option<Vec<u8>>);

/// Puts changes into a batch.
pub(super) fn stage(store: &Store, batch: &mut WriteBatch, rows: Vec<Row>) {
    let family = store.family(keys::META);
    for (key, value) in rows {
        match value {
            Some(value) => batch.put_cf(family, key, value),
            None => batch.delete_cf(family, key),
        }
    }
}

/// All gaps, in the order of the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Gaps(Vec<Gap>);

impl Gaps {
    pub(super) fn read(store: &Store) -> Result<Self, OpenError> {
        let mut gaps = Vec::new();
        let mut failure = None;
        let scanned = store.scan::<rocksdb::Error>(keys::META, keys::GAP, |key, value| {
            if key.starts_with(keys::GAP) {
                match Gap::decode(value) {
                    Ok(gap) => gaps.push(gap),
                    Err(error) => failure = Some(damaged(store, "a gap record", error)),
                }
            }
            Ok(())
        });
        scanned.map_err(|error| db_error(store.path(), error))?;
        failure.map_or(Ok(Self(gaps)), Err)
    }

    pub(super) fn all(&self) -> &[Gap] {
        &self.0
    }

    /// The damage that an offset lies in.
    pub(super) fn damage_at(&self, at: Offset) -> Option<&Gap> {
        let holds = |gap: &&Gap| gap.range.start <= at && at < gap.range.end;
        self.0.iter().filter(|gap| gap.cause == GapCause::Damage).find(holds)
    }

    /// Takes a gap in, as the rest of one of the same kind that ends where it begins, and says
    /// which rows of the store change.
    pub(super) fn add(&mut self, gap: Gap, trimmed: Offset) -> Vec<Row> {
        let mut rows = Vec::new();
        let joins = |last: &Gap| last.cause == gap.cause && last.range.end == gap.range.start;
        let before = self.0.iter().position(joins).filter(|_| gap.cause == GapCause::Space);
        let grown = match before.and_then(|index| self.0.get_mut(index)) {
            Some(last) => {
                last.range.end = gap.range.end;
                last.messages += gap.messages;
                last.last_recorded = gap.last_recorded;
                for (name, messages) in gap.losses {
                    match last.losses.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, all)) => *all += messages,
                        None => last.losses.push((name, messages)),
                    }
                }
                last.clone()
            }
            None => {
                self.0.push(gap.clone());
                self.0.sort_by_key(|gap| gap.range.start);
                gap
            }
        };
        rows.push((keys::gap(grown.range.start), Some(grown.encode())));
        while self.0.len() > KEPT {
            let done = |gap: &Gap| gap.range.end <= trimmed;
            let Some(index) = self.0.iter().position(done) else { break };
            rows.push((keys::gap(self.0.remove(index).range.start), None));
        }
        rows
    }
}
