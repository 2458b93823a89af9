//! Which messages are behind the events of a batch: where it is cut, and what its bad event was.
//! The log is read again for that; nothing is kept in memory for the case.

use std::ops::ControlFlow;

use crate::delivery::{Cut, Part, Parts};
use crate::hec::encoder::Outcome;
use crate::logplex::{self, Piece};
use crate::record::DeadLetter;
use crate::types::{Position, PositionRange, UnixMicros};
use crate::wal::{Entry, ReadError};

use super::pack::{Packer, behind, facts};

/// A message of a batch.
struct Step<'a> {
    /// Where it is.
    at: Position,
    /// The message behind it.
    next: Position,
    /// Messages in the log before it, and before the one behind it.
    counted: (u64, u64),
    makes_event: bool,
    entry: &'a Entry,
    piece: Piece<'a>,
}

impl Packer {
    /// Calls `visit` with every message of a range.
    fn walk(
        &mut self,
        range: PositionRange,
        mut visit: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let Self { reader, encoder, pick, .. } = self;
        let pick = pick.as_ref();
        let mut scratch = Vec::new();
        reader.read(range.start.offset, behind(range), |entry| {
            encoder.start_frame(facts(&entry));
            let record = &entry.record;
            let picked = pick.is_none_or(|pick| pick.takes(record));
            let counted =
                |index: u32| record.messages_before + u64::from(index.min(record.messages));
            let mut pieces = (0u32..).zip(logplex::pieces(&record.body)).peekable();
            while let Some((index, piece)) = pieces.next() {
                let at = Position::new(entry.offset, index);
                if at < range.start {
                    encoder.skip(piece);
                    continue;
                }
                if at >= range.end {
                    return ControlFlow::Break(());
                }
                let is_last = pieces.peek().is_none();
                scratch.clear();
                let step = Step {
                    at,
                    next: if is_last {
                        Position::at(entry.offset.next())
                    } else {
                        Position::new(entry.offset, index + 1)
                    },
                    counted: (counted(index), counted(if is_last { u32::MAX } else { index + 1 })),
                    makes_event: encoder.encode(index, piece, &mut scratch) == Outcome::Event
                        && picked,
                    entry: &entry,
                    piece,
                };
                visit(&step)?;
            }
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    /// Where a batch is to be cut.
    pub(super) fn look_up(&mut self, range: PositionRange, cut: Cut) -> Result<Parts, ReadError> {
        let (before, alone) = match cut {
            Cut::Event(bad) => (bad, true),
            Cut::Half => {
                let mut events = 0;
                self.walk(range, |step| {
                    events += u64::from(step.makes_event);
                    ControlFlow::Continue(())
                })?;
                (events.div_ceil(2), false)
            }
        };
        let mut pieces = Pieces::new(range.start, before, alone);
        self.walk(range, |step| {
            pieces.take(step.next, step.counted, step.makes_event);
            ControlFlow::Continue(())
        })?;
        Ok(pieces.parts(range))
    }

    /// The message of the only event in a range, if there is one and no other.
    pub(super) fn find_letter(
        &mut self,
        range: PositionRange,
    ) -> Result<Option<(Position, DeadLetter)>, ReadError> {
        let node = self.reader.node().to_owned();
        let (mut found, mut several) = (None, false);
        self.walk(range, |step| {
            if !step.makes_event {
                return ControlFlow::Continue(());
            }
            if found.is_some() {
                several = true;
                return ControlFlow::Break(());
            }
            let record = &step.entry.record;
            let index = step.at.index;
            let event_id = match &record.frame_id {
                Some(id) => format!("{id}:{index}"),
                None => format!("{node}-{}:{index}", step.at.offset),
            };
            let letter = DeadLetter {
                event_id,
                code: None,
                status: 0,
                text: String::new(),
                endpoint: String::new(),
                refused: UnixMicros::default(),
                message: bytes::Bytes::copy_from_slice(step.piece.bytes),
                framing: step.piece.framing,
                drain_token: record.drain_token.clone(),
                frame_id: record.frame_id.clone(),
                messages_claimed: record.messages_claimed,
                messages: record.messages,
                query: record.query.clone(),
                profile: record.profile,
                received: record.received,
                refusals: 1,
                redrive: None,
            };
            found = Some((step.at, letter));
            ControlFlow::Continue(())
        })?;
        Ok(found.filter(|_| !several))
    }
}

/// The pieces of a batch in the making.
pub(super) struct Pieces {
    /// Events before the cut.
    before: u64,
    /// Whether the event behind the cut stands alone.
    alone: bool,
    seen: u64,
    /// Behind the last message that was taken in.
    cursor: Position,
    /// Messages in the log before it.
    counted: Option<u64>,
    /// Before, alone, behind.
    parts: [Option<Part>; 3],
}

impl Pieces {
    pub(super) const fn new(start: Position, before: u64, alone: bool) -> Self {
        Self { before, alone, seen: 0, cursor: start, counted: None, parts: [None; 3] }
    }

    /// Takes in the next message, which ends at `next`. A frame without messages in between
    /// belongs to it.
    pub(super) fn take(&mut self, next: Position, counted: (u64, u64), makes_event: bool) {
        let start = std::mem::replace(&mut self.cursor, next);
        let from = self.counted.replace(counted.1).unwrap_or(counted.0);
        let is_bad = self.alone && makes_event && self.seen == self.before;
        let index = if is_bad {
            1
        } else if self.seen < self.before || (self.alone && self.seen == self.before) {
            0
        } else {
            2
        };
        self.seen += u64::from(makes_event);
        let Some(slot) = self.parts.get_mut(index) else { return };
        let empty = Part {
            range: PositionRange { start, end: start },
            messages: 0,
            filtered: 0,
            events: 0,
        };
        let part = slot.get_or_insert(empty);
        let messages = counted.1.saturating_sub(from);
        part.range.end = next;
        part.messages += messages;
        part.events += u64::from(makes_event);
        if !makes_event {
            part.filtered = (part.filtered + messages).min(part.messages);
        }
    }

    /// The pieces. The last one ends where the batch does.
    pub(super) fn parts(mut self, range: PositionRange) -> Parts {
        if let Some(last) = self.parts.iter_mut().rev().find_map(Option::as_mut) {
            last.range.end = range.end;
        }
        let [before, bad, after] = self.parts;
        Parts { before, bad, after }
    }
}
