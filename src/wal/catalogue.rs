//! Segments: which there are, when one is sealed, which may go. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::generated::storage;
use crate::types::{ByteSize, Offset, OffsetRange, SegmentId, UnixMicros};

use super::handle::SegmentInfo;

/// A segment is sealed at the latest when its first frame is this old, so that retention by age
/// works for a trickle too.
pub(super) const MAX_AGE: Duration = Duration::from_hours(1);

/// A contiguous range of offsets, `[first, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) id: SegmentId,
    pub(super) first: Offset,
    pub(super) end: Offset,
    /// Messages in the log before the segment.
    pub(super) messages_before: u64,
    pub(super) messages: u64,
    /// Bytes of the values, before compression.
    pub(super) bytes: u64,
    pub(super) first_received: UnixMicros,
    pub(super) last_received: UnixMicros,
}

impl Segment {
    pub(super) const fn new(
        id: SegmentId,
        first: Offset,
        messages_before: u64,
        now: UnixMicros,
    ) -> Self {
        Self {
            id,
            first,
            end: first,
            messages_before,
            messages: 0,
            bytes: 0,
            first_received: now,
            last_received: now,
        }
    }

    /// Messages in the log before `end`.
    pub(super) const fn messages_end(&self) -> u64 {
        self.messages_before + self.messages
    }

    /// Takes in the next frame.
    pub(super) fn push(&mut self, messages: u32, bytes: usize, received: UnixMicros) {
        // A segment that is opened waits for its first frame, for hours perhaps; and clocks go
        // back, while what a segment is looked up by must hold all its frames.
        let first = if self.end == self.first { received } else { self.first_received };
        self.first_received = first.min(received);
        self.last_received =
            if self.end == self.first { received } else { self.last_received.max(received) };
        self.end = self.end.next();
        self.messages += messages as u64;
        self.bytes += bytes as u64;
    }

    /// Passes over frames that were given up.
    pub(super) const fn pass(&mut self, end: Offset, messages: u64) {
        self.end = end;
        self.messages += messages;
    }

    fn is_full(&self, size: ByteSize, now: UnixMicros) -> bool {
        let age = u64::try_from(MAX_AGE.as_micros()).unwrap_or(u64::MAX);
        self.end > self.first && (self.bytes >= size.get() || now.since(self.first_received) >= age)
    }

    /// The segment that takes the next frame, if this one, the active one, is to be sealed.
    pub(super) fn roll(&self, size: ByteSize, now: UnixMicros) -> Option<Self> {
        self.is_full(size, now).then(|| self.opened_next(now))
    }

    /// The segment behind this one, still empty.
    pub(super) const fn opened_next(&self, now: UnixMicros) -> Self {
        Self::new(self.id.next(), self.end, self.messages_end(), now)
    }

    /// As others see it.
    pub(super) fn info(&self, sealed: bool) -> SegmentInfo {
        SegmentInfo {
            id: self.id,
            frames: OffsetRange { start: self.first, end: self.end },
            messages_before: self.messages_before,
            messages: self.messages,
            bytes: ByteSize::bytes(self.bytes),
            first_received: self.first_received,
            last_received: self.last_received,
            sealed,
        }
    }

    pub(super) fn to_wire(self, sealed: bool) -> storage::Segment {
        storage::Segment {
            first_offset: self.first.get(),
            messages_before: self.messages_before,
            first_received_us: self.first_received.get(),
            seal: sealed.then(|| storage::Seal {
                end_offset: self.end.get(),
                messages: self.messages,
                bytes: self.bytes,
                last_received_us: self.last_received.get(),
            }),
        }
    }

    /// The segment, and whether it is sealed.
    pub(super) fn from_wire(id: SegmentId, wire: &storage::Segment) -> (Self, bool) {
        let first_received = UnixMicros::new(wire.first_received_us);
        let first = Offset::new(wire.first_offset);
        let open = Self::new(id, first, wire.messages_before, first_received);
        let Some(seal) = &wire.seal else { return (open, false) };
        let sealed = Self {
            end: Offset::new(seal.end_offset),
            messages: seal.messages,
            bytes: seal.bytes,
            last_received: UnixMicros::new(seal.last_received_us),
            ..open
        };
        (sealed, true)
    }
}

/// All segments, the oldest first.
#[derive(Clone, Debug)]
pub(super) struct Catalogue {
    sealed: VecDeque<Segment>,
    /// Bytes of the sealed ones: every group asks, and there may be tens of thousands.
    sealed_bytes: u64,
    pub(super) active: Segment,
}

impl Catalogue {
    pub(super) fn new(sealed: VecDeque<Segment>, active: Segment) -> Self {
        let sealed_bytes = sealed.iter().map(|segment| segment.bytes).sum();
        Self { sealed, sealed_bytes, active }
    }

    /// The sealed ones, the oldest first.
    pub(super) const fn sealed(&self) -> &VecDeque<Segment> {
        &self.sealed
    }

    /// Segments that were sealed, the oldest first, and the active one behind them.
    pub(super) fn roll(&mut self, sealed: Vec<Segment>, active: Segment) {
        self.sealed_bytes += sealed.iter().map(|segment| segment.bytes).sum::<u64>();
        self.sealed.extend(sealed);
        self.active = active;
    }

    /// So many of the oldest sealed ones have gone.
    pub(super) fn trim(&mut self, segments: usize) {
        let gone = self.sealed.drain(..segments.min(self.sealed.len()));
        self.sealed_bytes -= gone.map(|segment| segment.bytes).sum::<u64>();
    }

    /// Bytes of all frames in the log.
    pub(super) const fn bytes(&self) -> u64 {
        self.sealed_bytes + self.active.bytes
    }

    /// How many of the oldest sealed segments have to go, delivered or not, until the log holds
    /// less than `max_size`; at least one, if there is one.
    pub(super) fn in_the_way(&self, max_size: u64) -> usize {
        let mut used = self.bytes();
        let too_many = |segment: &&Segment| {
            let over = used >= max_size;
            used = used.saturating_sub(segment.bytes);
            over
        };
        self.sealed.iter().take_while(too_many).count().max(1).min(self.sealed.len())
    }

    /// How many of the oldest sealed segments may go: all their messages lie below `watermark`,
    /// and they are older than `retention`, or less than `wanted` bytes lie before them. One that has
    /// arrived while the clock was ahead is as old as what came behind it: it must not keep everything
    /// until its time comes.
    pub(super) fn droppable(
        &self,
        watermark: Offset,
        now: UnixMicros,
        retention: Duration,
        wanted: u64,
    ) -> usize {
        let keep = u64::try_from(retention.as_micros()).unwrap_or(u64::MAX);
        let mut freed = 0_u64;
        let may_go = |(segment, last): &(&Segment, UnixMicros)| {
            let goes = segment.end <= watermark && (now.since(*last) > keep || freed < wanted);
            freed = freed.saturating_add(segment.bytes);
            goes
        };
        self.sealed.iter().zip(self.last_received(now)).take_while(may_go).count()
    }

    /// When the last frame of each sealed segment arrived, and never later than now.
    fn last_received(&self, now: UnixMicros) -> Vec<UnixMicros> {
        let mut behind = self.active.first_received.min(now);
        let mut all: Vec<_> = self
            .sealed
            .iter()
            .rev()
            .map(|segment| {
                let last = segment.last_received;
                let last = if last > now { behind } else { last };
                behind = if segment.first_received > now { last } else { segment.first_received };
                last
            })
            .collect();
        all.reverse();
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn catalogue() -> Catalogue {
        let active = Segment::new(SegmentId::new(0), Offset::ZERO, 0, UnixMicros::new(0));
        Catalogue::new(VecDeque::new(), active)
    }

    fn append(catalogue: &mut Catalogue, now: i64) {
        let now = UnixMicros::new(now);
        if let Some(opened) = catalogue.active.roll(ByteSize::bytes(100), now) {
            catalogue.roll(vec![catalogue.active], opened);
        }
        catalogue.active.push(3, 60, now);
    }

    #[test]
    fn a_segment_is_sealed_by_size_and_by_age_and_never_empty() {
        let mut all = catalogue();
        assert_eq!(all.active.roll(ByteSize::bytes(0), UnixMicros::new(HOUR)), None);
        append(&mut all, 1);
        append(&mut all, 2);
        assert_eq!(all.sealed.len(), 0, "60 bytes are not 100");
        append(&mut all, 3);
        assert_eq!(all.sealed.len(), 1);
        assert_eq!(all.sealed[0].end, all.active.first);
        assert_eq!(all.active.messages_before, 6);
        append(&mut all, 3 + HOUR);
        assert_eq!(all.sealed.len(), 2, "old enough");
        assert_eq!(all.bytes(), 240);
    }

    proptest! {
        /// What a group asks for is kept, and is what would be counted.
        #[test]
        fn the_bytes_are_those_of_the_segments(steps in vec((0..4_usize, 0..3_usize), 0..40)) {
            let mut all = catalogue();
            for (now, (frames, trimmed)) in (0..).zip(steps) {
                for _ in 0..frames {
                    append(&mut all, now);
                }
                all.trim(trimmed);
                let counted = all.sealed.iter().map(|segment| segment.bytes).sum::<u64>();
                prop_assert_eq!(all.bytes(), counted + all.active.bytes);
                let again = Catalogue::new(all.sealed.clone(), all.active);
                prop_assert_eq!(again.bytes(), all.bytes());
            }
        }
    }

    #[test]
    fn a_segment_comes_back_from_its_catalogue_entry() {
        let mut all = catalogue();
        append(&mut all, 5);
        for sealed in [true, false] {
            let (back, was_sealed) = Segment::from_wire(all.active.id, &all.active.to_wire(sealed));
            assert_eq!(was_sealed, sealed);
            assert_eq!(back.first, all.active.first);
            assert!(!sealed || back == all.active);
        }
    }

    #[test]
    fn only_delivered_and_old_segments_go_and_as_many_as_are_wanted_when_space_is_short() {
        let mut all = catalogue();
        for now in 0..6 {
            append(&mut all, now);
        }
        assert_eq!(all.sealed.len(), 2);
        let (day, retention) = (UnixMicros::new(24 * HOUR), Duration::from_hours(1));
        let drop =
            |watermark, now, wanted| all.droppable(Offset::new(watermark), now, retention, wanted);
        assert_eq!(drop(0, day, u64::MAX), 0, "nothing is delivered");
        assert_eq!(drop(1, day, u64::MAX), 0, "half a segment is delivered");
        assert_eq!(drop(2, day, 0), 1);
        assert_eq!(drop(9, day, 0), 2, "the active segment stays");
        let young = UnixMicros::new(7);
        assert_eq!(drop(9, young, 0), 0, "too young");
        for (wanted, goes) in [(1, 1), (120, 1), (121, 2), (u64::MAX, 2)] {
            assert_eq!(drop(9, young, wanted), goes, "segments of 120 bytes, {wanted} are wanted");
        }
        assert_eq!(drop(9, day, 1), 2, "what is old goes in any case");
    }

    #[test]
    fn a_segment_of_a_clock_that_was_ahead_goes_with_what_came_behind_it() {
        let mut all = catalogue();
        let year = 8760 * HOUR;
        for now in [0, 1, 2, year, 4, 5, 6] {
            append(&mut all, now);
        }
        assert_eq!(all.sealed.len(), 3);
        assert_eq!(all.sealed[2].last_received, UnixMicros::new(year));
        let retention = Duration::from_hours(1);
        let drop = |now| all.droppable(Offset::new(9), UnixMicros::new(now), retention, 0);
        assert_eq!((drop(HOUR + 2), drop(HOUR + 5)), (1, 2));
        assert_eq!(drop(HOUR + 6), 3, "as old as the first frame behind it, which came at 5");
        // When nothing has come behind it, it stays for now.
        let mut all = catalogue();
        for now in [0, year, year, year] {
            append(&mut all, now);
        }
        let drop = |now| all.droppable(Offset::new(9), UnixMicros::new(now), retention, 0);
        assert_eq!((drop(2 * HOUR), drop(year + HOUR + 1)), (1, 2));
    }
}
