//! Reading frames to count them: the active segment at every start, the sealed ones when an
//! operator wants damage passed over.

use std::collections::VecDeque;

use crate::record::decode_record;
use crate::types::{Offset, OffsetRange};

use super::catalogue::Segment;
use super::config::OnDamage;
use super::error::OpenError;
use super::gaps::Gaps;
use super::recover::{damaged, db_error, inconsistent};
use super::store::Store;
use super::{keys, options};

/// Frames that are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) range: OffsetRange,
    /// Messages in the log before the range, and in it.
    pub(super) messages_before: u64,
    pub(super) messages: u64,
}

/// Counts the active segment, which is the end of the log, and returns what had to be given up.
pub(super) fn active(
    store: &Store,
    segment: &mut Segment,
    gaps: &Gaps,
    allowed: OnDamage,
) -> Result<Vec<Lost>, OpenError> {
    let last = last_key(store, segment.first)?;
    let mut counting = Counting {
        store,
        segment,
        gaps,
        damage_may_go: allowed.skip_damaged,
        holes_may_be: allowed.recover || allowed.skip_damaged,
        lost: Vec::new(),
    };
    counting.read(last)?;
    // The log may end in what an earlier start has given up.
    while let Some(gap) = gaps.damage_at(counting.segment.end) {
        counting.segment.pass(gap.range.end, gap.messages_end() - counting.segment.messages_end());
    }
    // Or in frames that are there, and damaged: nothing behind them says what was in them.
    if counting.segment.end < last {
        counting.pass(last, counting.segment.messages_end())?;
    }
    Ok(counting.lost)
}

/// As many bytes of frames as RocksDB's log can have held, and several times that: when a part of it is
/// lost, frames of sealed segments can be among it.
const LOG_REACHES: u64 = 4 << 30;

/// How many of the newest sealed segments are read, when damage or loss may go.
pub(super) fn looked_at(sealed: &VecDeque<Segment>, allowed: OnDamage) -> usize {
    if allowed.skip_damaged {
        return sealed.len();
    }
    let mut before = 0;
    let within = |segment: &&Segment| {
        let within = before < LOG_REACHES;
        before += segment.bytes;
        within
    };
    if allowed.recover { sealed.iter().rev().take_while(within).count() } else { 0 }
}

/// Reads a sealed segment, and returns what is missing in it, or damaged where that may go.
pub(super) fn sealed(
    store: &Store,
    segment: &Segment,
    gaps: &Gaps,
    allowed: OnDamage,
) -> Result<Vec<Lost>, OpenError> {
    let mut again =
        Segment::new(segment.id, segment.first, segment.messages_before, segment.first_received);
    let mut counting = Counting {
        store,
        segment: &mut again,
        gaps,
        damage_may_go: allowed.skip_damaged,
        holes_may_be: true,
        lost: Vec::new(),
    };
    counting.read(segment.end)?;
    if counting.segment.end < segment.end {
        counting.pass(segment.end, segment.messages_end())?;
    }
    Ok(counting.lost)
}

/// Behind the last frame there is a key for. When that does not read, RocksDB knows it all the same, and
/// whoever reads up to there finds the damage.
fn last_key(store: &Store, first: Offset) -> Result<Offset, OpenError> {
    let mut rows = store.db().raw_iterator_cf(store.family(keys::RECORDS));
    rows.seek_to_last();
    let mut last = rows.key().and_then(keys::offset_of);
    if rows.status().is_err() {
        let key = store.last_record_by_files().map_err(|error| db_error(store.path(), error))?;
        last = key.as_deref().and_then(keys::offset_of);
    }
    Ok(last.map_or(first, Offset::next).max(first))
}

struct Counting<'a> {
    store: &'a Store,
    /// Its end is where the count has come to.
    segment: &'a mut Segment,
    /// What earlier starts have given up.
    gaps: &'a Gaps,
    damage_may_go: bool,
    holes_may_be: bool,
    lost: Vec<Lost>,
}

impl Counting<'_> {
    /// Reads the frames up to `until`.
    fn read(&mut self, until: Offset) -> Result<(), OpenError> {
        let mut from = self.segment.end;
        while from < until {
            let bounds = options::scan(&keys::record(from), &keys::record(until));
            let family = self.store.family(keys::RECORDS);
            let mut rows = self.store.db().raw_iterator_cf_opt(family, bounds);
            rows.seek_to_first();
            while let Some((key, value)) = rows.item() {
                let offset = keys::offset_of(key).ok_or_else(|| {
                    inconsistent(self.store, "a frame has a key that is no offset".to_owned())
                })?;
                from = offset.next();
                self.frame(offset, value)?;
                rows.next();
            }
            match rows.status() {
                Ok(()) => return Ok(()),
                // A block of a table file: try behind it, frame by frame.
                Err(_) if self.gaps.damage_at(from).is_some() => from = from.next(),
                Err(error) if self.damage_may_go => {
                    tracing::debug!(at = from.get(), %error, "cannot be read");
                    from = from.next();
                }
                Err(error) => return Err(db_error(self.store.path(), error)),
            }
        }
        Ok(())
    }

    fn frame(&mut self, offset: Offset, value: &[u8]) -> Result<(), OpenError> {
        let record = match decode_record(value) {
            Ok(record) => record,
            // It becomes a part of the hole before the next frame that is whole.
            Err(_) if self.damage_may_go || self.gaps.damage_at(offset).is_some() => return Ok(()),
            Err(error) => {
                return Err(damaged(self.store, &format!("the frame at offset {offset}"), error));
            }
        };
        let (end, before) = (self.segment.end, self.segment.messages_end());
        if (offset, record.messages_before) != (end, before) {
            if offset <= end || record.messages_before < before {
                return Err(self.odd(offset, record.messages_before));
            }
            self.pass(offset, record.messages_before)?;
        }
        self.segment.push(record.messages, value.len(), record.received);
        Ok(())
    }

    /// Passes over frames that are not there, if that is known or allowed.
    fn pass(&mut self, to: Offset, messages_before: u64) -> Result<(), OpenError> {
        let (end, before) = (self.segment.end, self.segment.messages_end());
        let known = self.gaps.damage_at(end).is_some_and(|gap| gap.range.end >= to);
        if !known {
            if !self.holes_may_be {
                return Err(self.odd(to, messages_before));
            }
            self.lost.push(Lost {
                range: OffsetRange { start: end, end: to },
                messages_before: before,
                messages: messages_before.saturating_sub(before),
            });
        }
        self.segment.pass(to, messages_before.saturating_sub(before));
        Ok(())
    }

    fn odd(&self, offset: Offset, messages_before: u64) -> OpenError {
        let (end, before) = (self.segment.end, self.segment.messages_end());
        let what = format!(
            "the frame at offset {offset} says that {messages_before} messages precede it; \
             expected is offset {end} after {before} messages"
        );
        inconsistent(self.store, what)
    }
}
