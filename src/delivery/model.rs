//! A log as the tests of the machine know it: frames, the messages of each, and which of them make
//! no event.

use super::{Cut, Part, Parts, ReadBatch};
use crate::types::{BatchId, Offset, Position, PositionRange, Tail, UnixMicros};

/// Messages of each frame. A frame may be empty.
#[derive(Default)]
pub(super) struct Log(Vec<u32>);

impl Log {
    pub(super) fn push(&mut self, messages: u32) {
        self.0.push(messages);
    }

    pub(super) fn frames(&self) -> usize {
        self.0.len()
    }

    fn messages_of(&self, offset: Offset) -> u32 {
        let frame = usize::try_from(offset.get()).unwrap_or(usize::MAX);
        self.0.get(frame).copied().unwrap_or_default()
    }

    /// Messages in the log before a position.
    pub(super) fn messages_before(&self, at: Position) -> u64 {
        let frames = usize::try_from(at.offset.get()).unwrap_or(usize::MAX);
        let whole: u64 = self.0.iter().take(frames).map(|n| u64::from(*n)).sum();
        whole + u64::from(at.index)
    }

    pub(super) fn tail(&self) -> Tail {
        let end = Offset::new(self.0.len() as u64);
        let messages = self.messages_before(Position::at(end));
        Tail { end, messages, bytes: messages * 100 }
    }

    /// Whether a message makes an event: every seventh is filtered out.
    pub(super) fn makes_event(&self, at: Position) -> bool {
        !self.messages_before(at).is_multiple_of(7)
    }

    /// The messages of a range, in order.
    pub(super) fn positions(&self, range: PositionRange) -> Vec<Position> {
        let (mut all, mut at) = (Vec::new(), range.start);
        while at < range.end && at.offset.get() < self.0.len() as u64 {
            if at.index < self.messages_of(at.offset) {
                all.push(at);
            }
            at = self.behind(at);
        }
        all
    }

    /// The messages of a range that make an event.
    pub(super) fn events(&self, range: PositionRange) -> Vec<Position> {
        let mut all = self.positions(range);
        all.retain(|at| self.makes_event(*at));
        all
    }

    /// Behind a message, or behind a frame that has none.
    pub(super) fn behind(&self, at: Position) -> Position {
        if at.index + 1 < self.messages_of(at.offset) {
            Position::new(at.offset, at.index + 1)
        } else {
            Position::at(at.offset.next())
        }
    }

    /// What a stretch is. None if it has no message.
    pub(super) fn part(&self, range: PositionRange) -> Option<Part> {
        let messages = self.positions(range).len() as u64;
        let events = self.events(range).len() as u64;
        let filtered = messages - events;
        (messages > 0).then_some(Part { range, messages, filtered, events })
    }

    /// Cuts as the sink does. What does not fit the log (any more) is one piece.
    pub(super) fn cut(&self, range: PositionRange, cut: Cut) -> Parts {
        let events = self.events(range);
        let bad = match cut {
            Cut::Event(bad) => usize::try_from(bad).ok().and_then(|bad| events.get(bad)),
            Cut::Half => events.get(events.len() / 2),
        };
        let Some(&bad) = bad else {
            return Parts { before: self.part(range), bad: None, after: None };
        };
        let PositionRange { start, end } = range;
        let (mut bad_start, mut bad_end) = (bad, bad);
        if matches!(cut, Cut::Event(_)) {
            bad_end = self.behind(bad);
        }
        // Frames without a message belong to what comes behind them, the last to the last.
        let part = |start, end| self.part(PositionRange { start, end });
        if part(start, bad_start).is_none() {
            bad_start = start;
        }
        if part(bad_end, end).is_none() {
            bad_end = end;
        }
        Parts {
            before: part(start, bad_start),
            bad: part(bad_start, bad_end),
            after: part(bad_end, end),
        }
    }

    /// What a read finds, up to so many events.
    pub(super) fn read(&self, batch: BatchId, from: Position, most: u64) -> ReadBatch {
        let (mut at, mut events) = (from, 0);
        let tail = self.tail();
        while at.offset < tail.end && events < most {
            let is_message = at.index < self.messages_of(at.offset);
            events += u64::from(is_message && self.makes_event(at));
            at = self.behind(at);
        }
        let messages = self.messages_before(at) - self.messages_before(from);
        ReadBatch {
            batch,
            range: PositionRange { start: from, end: at },
            messages,
            filtered: messages - events,
            events,
            messages_end: self.messages_before(at),
            received: UnixMicros::default(),
            caught_up: (at.offset == tail.end).then_some(tail),
        }
    }
}
