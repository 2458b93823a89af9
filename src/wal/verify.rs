//! Reading everything: every crc, and whether what is stored fits together.
//!
//! Nothing is mended. What an operator has given up before is known, and no defect. Each thing that
//! is wrong is told with its place, and the reading goes on behind it. What is checked:
//!
//! - the marker and the trim point are there and whole;
//! - the catalogue has no hole, begins at the trim point, and ends with its one open segment; a
//!   sealed segment holds the frames, messages and bytes that its seal says;
//! - every frame from the trim point on is there and whole, holds the messages it says, and as
//!   many precede it as it says;
//! - a remembered frame id leads to the frame that has it, never to one that is not there: that
//!   would refuse a frame for ever; and the ids of the newest hour are all remembered;
//! - a checkpoint lies in the log, and its totals add up to the messages before it (I8);
//! - every dead letter is whole, and there are as many as their totals say;
//! - every value that this version does not know, in families and among the facts about the store,
//!   has a right crc.

mod books;
mod defect;
mod ids;
mod kept;

pub use defect::{Defect, Part};
use ids::{NONE, UNKNOWN, identity, print};

use std::collections::BTreeMap;

use crate::generated::storage;
use crate::logplex;
use crate::record::{checked, decode_record};
use crate::types::{Offset, OffsetRange};

use super::catalogue::Segment;
use super::gaps::Gap;
use super::inspect::ReadOnlyLog;
use super::keys;

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// The first retained offset.
    pub first: Offset,
    /// The end of the log.
    pub end: Offset,
    /// Frames that could be read.
    pub frames: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Remembered frame ids.
    pub frame_ids: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Frames that are not there, or damaged, and were given up.
    pub given_up: u64,
    /// Values that this version does not know.
    pub other_values: u64,
    /// Things that are wrong.
    pub defects: u64,
}

/// So many offsets are read between two looks at the remembered frame ids: 8 bytes of memory
/// each.
const CHUNK: u64 = 1 << 22;

/// So many offsets behind an unreadable place are tried one by one before the steps grow: more
/// than a damaged block of a table file holds.
const TRIES: u64 = 4096;

impl ReadOnlyLog {
    /// Reads everything. `progress` hears now and then how many frames of how many are read;
    /// `found` hears of each defect as it is found. Blocking, for as long as the disk takes.
    pub fn verify(
        &self,
        progress: impl FnMut(u64, u64),
        found: impl FnMut(Defect),
    ) -> Verification {
        let run = Run {
            log: self,
            progress,
            found,
            done: Verification::default(),
            segments: Vec::new(),
            running: Vec::new(),
            sum: Sum::default(),
            at_segment: 0,
            wanted: BTreeMap::new(),
            given_up: Vec::new(),
        };
        run.all()
    }
}

/// The frames of the segment at hand.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    messages: u64,
    bytes: u64,
    last_received: Option<i64>,
    /// A frame is missing or damaged, which has been told: the sums say nothing more.
    broken: bool,
}

struct Run<'a, P, F> {
    log: &'a ReadOnlyLog,
    progress: P,
    found: F,
    done: Verification,
    segments: Vec<(Segment, bool)>,
    /// How many messages may precede the next frame: nothing while that is unknown, as a frame
    /// before it could not be read; and more than one number behind a frame that contradicts
    /// itself or what is before it, so that one wrong count is told once.
    running: Vec<u64>,
    sum: Sum,
    at_segment: usize,
    /// The offsets of checkpoints, and what was found there: messages before, and messages in it.
    wanted: BTreeMap<Offset, Option<(u64, u32)>>,
    /// What was damaged and given up, in the order of the log.
    given_up: Vec<Gap>,
}

impl<P: FnMut(u64, u64), F: FnMut(Defect)> Run<'_, P, F> {
    fn all(mut self) -> Verification {
        self.marker();
        self.gaps();
        let (first, before) = self.trim_point();
        self.done.first = first;
        self.catalogue(first, before);
        let end = self.end();
        self.done.end = end;
        let checkpoints = self.checkpoints();
        let newest = self.newest_hour();
        let mut at = first;
        loop {
            let until = Offset::new(at.get().saturating_add(CHUNK)).min(end);
            let range = OffsetRange { start: at, end: until };
            let prints = self.frames(range);
            self.frame_ids(range, end, &prints, newest);
            at = until;
            if at >= end {
                break;
            }
        }
        self.end_segments(end, false);
        self.balance(&checkpoints, first, end);
        self.letters();
        self.others();
        self.done
    }

    fn defect(&mut self, part: Part, what: impl Into<String>) {
        self.done.defects += 1;
        (self.found)(Defect { part, what: what.into() });
    }

    fn marker(&mut self) {
        match self.log.value::<storage::StoreMarker>(keys::META, keys::STORE) {
            Ok(Some(_)) => {}
            Ok(None) => self.defect(Part::Marker, "is missing"),
            Err(error) => self.defect(Part::Marker, error.to_string()),
        }
    }

    fn trim_point(&mut self) -> (Offset, Option<u64>) {
        match self.log.value::<storage::TrimPoint>(keys::META, keys::TRIM) {
            Ok(trim) => {
                let trim = trim.unwrap_or_default();
                (Offset::new(trim.offset), Some(trim.messages_before))
            }
            Err(error) => {
                self.defect(Part::TrimPoint, error.to_string());
                // The oldest segment says the same.
                let oldest = self.log.catalogue().ok().and_then(|rows| rows.into_iter().next());
                let first = oldest.and_then(Result::ok).map(|(segment, _)| segment.first);
                (first.unwrap_or_default(), None)
            }
        }
    }

    fn catalogue(&mut self, first: Offset, before: Option<u64>) {
        let rows = match self.log.catalogue() {
            Ok(rows) => rows,
            Err(error) => return self.defect(Part::Catalogue, error.to_string()),
        };
        let count = rows.len();
        for (number, row) in rows.into_iter().enumerate() {
            self.done.segments += 1;
            match row {
                Ok((segment, sealed)) => {
                    if sealed == (number + 1 == count) {
                        let what = if sealed {
                            "is sealed, and no segment follows it"
                        } else {
                            "is not sealed, and not the last"
                        };
                        self.defect(Part::Segment(segment.id), what);
                    }
                    self.segments.push((segment, sealed));
                }
                Err((name, error)) => {
                    self.defect(Part::Catalogue, format!("{name} is damaged: {error}"));
                }
            }
        }
        let Some((oldest, _)) = self.segments.first().copied() else {
            return self.defect(Part::Catalogue, "holds no segment");
        };
        if oldest.first != first {
            let what = format!("begins at offset {}, the log is trimmed to {first}", oldest.first);
            self.defect(Part::Catalogue, what);
        } else if before.is_some_and(|before| before != oldest.messages_before) {
            let what = format!(
                "says that {} messages precede it, the oldest segment says {}",
                before.unwrap_or_default(),
                oldest.messages_before
            );
            self.defect(Part::TrimPoint, what);
        }
        self.running = vec![oldest.messages_before];
        let pairs: Vec<_> = self
            .segments
            .iter()
            .zip(self.segments.iter().skip(1))
            .map(|((a, _), (b, _))| (*a, *b))
            .collect();
        for (segment, next) in pairs {
            if segment.end != next.first {
                let what =
                    format!("ends at offset {}, the next begins at {}", segment.end, next.first);
                self.defect(Part::Segment(segment.id), what);
            } else if segment.messages_end() != next.messages_before {
                let what = format!(
                    "ends after {} messages, the next begins after {}",
                    segment.messages_end(),
                    next.messages_before
                );
                self.defect(Part::Segment(segment.id), what);
            }
        }
    }

    /// The offset behind the last record, or the end of the sealed segments if that is further.
    fn end(&mut self) -> Offset {
        let catalogued = self.segments.last().map(|(segment, _)| segment.end).unwrap_or_default();
        // The log may end in what was given up.
        let catalogued =
            self.given_up.last().map_or(catalogued, |gap| gap.range.end.max(catalogued));
        match self.log.last_key(keys::RECORDS) {
            Ok(Some(key)) => match keys::offset_of(&key) {
                Some(offset) => offset.next().max(catalogued),
                None => {
                    self.defect(Part::Family(keys::RECORDS.to_owned()), "a key is no offset");
                    catalogued
                }
            },
            Ok(None) => catalogued,
            Err(error) => {
                let what = format!("its last frame cannot be read: {error}");
                self.defect(Part::Family(keys::RECORDS.to_owned()), what);
                catalogued
            }
        }
    }

    /// Reads the records of a range. Returns what is known of each frame's id.
    fn frames(&mut self, range: OffsetRange) -> Vec<u64> {
        let room = usize::try_from(range.len()).unwrap_or(usize::MAX);
        let mut prints = vec![UNKNOWN; room];
        let mut at = range.start;
        while at < range.end {
            let left = OffsetRange { start: at, end: range.end };
            let (reached, failure) = self.stretch(left, range.start, &mut prints);
            at = reached;
            let Some(error) = failure else { break };
            let readable = self.next_readable(OffsetRange { start: at, end: range.end });
            let lost = OffsetRange { start: at, end: readable };
            for lost in self.unknown(lost) {
                self.defect(Part::Frames(lost), format!("RocksDB cannot read them: {error}"));
            }
            self.skip_to(readable);
            at = readable;
        }
        if at < range.end {
            self.missing(OffsetRange { start: at, end: range.end });
        }
        prints
    }

    /// Reads on until the end of the range, or until RocksDB fails. Returns the offset reached.
    fn stretch(
        &mut self,
        range: OffsetRange,
        base: Offset,
        prints: &mut [u64],
    ) -> (Offset, Option<rocksdb::Error>) {
        let mut at = range.start;
        let mut rows = match self.log.records(range) {
            Ok(rows) => rows,
            Err(error) => return (at, Some(error)),
        };
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            let Some(offset) = keys::offset_of(key) else {
                self.defect(Part::Family(keys::RECORDS.to_owned()), "a key is no offset");
                rows.next();
                continue;
            };
            if offset > at {
                self.missing(OffsetRange { start: at, end: offset });
            }
            let print = self.frame(offset, value);
            let index = usize::try_from(offset.since(base)).unwrap_or(usize::MAX);
            if let Some(slot) = prints.get_mut(index) {
                *slot = print;
            }
            at = offset.next();
            if offset.get().is_multiple_of(1024) {
                let (first, end) = (self.done.first, self.done.end);
                (self.progress)(at.since(first), end.since(first));
            }
            rows.next();
        }
        match rows.status() {
            Ok(()) => (at, None),
            Err(error) => (at, Some(error)),
        }
    }

    fn missing(&mut self, range: OffsetRange) {
        for range in self.unknown(range) {
            self.defect(Part::Frames(range), "are missing");
        }
        self.skip_to(range.end);
    }

    /// Frames up to here could not be read.
    fn skip_to(&mut self, offset: Offset) {
        self.go_on_behind(offset);
        self.sum.broken = true;
        self.end_segments(offset, true);
    }

    /// Closes the sums of every sealed segment that ends at or before an offset.
    fn end_segments(&mut self, at: Offset, broken: bool) {
        while let Some((segment, true)) = self.segments.get(self.at_segment).copied()
            && segment.end <= at
        {
            let sum = std::mem::take(&mut self.sum);
            self.sum.broken = broken && segment.end < at;
            self.at_segment += 1;
            if sum.broken {
                continue;
            }
            let found = (sum.messages, sum.bytes);
            if found != (segment.messages, segment.bytes) {
                let what = format!(
                    "its seal says {} messages and {} bytes, its frames have {} and {}",
                    segment.messages, segment.bytes, found.0, found.1
                );
                self.defect(Part::Segment(segment.id), what);
            } else if sum.last_received.is_some_and(|last| last != segment.last_received.get()) {
                let what = "its seal says another time of arrival than its latest frame";
                self.defect(Part::Segment(segment.id), what);
            }
        }
    }

    /// One record. Returns what is known of its id.
    fn frame(&mut self, offset: Offset, value: &[u8]) -> u64 {
        self.end_segments(offset, false);
        let record = match decode_record(value) {
            Ok(record) => record,
            Err(error) => {
                if self.given_up_at(offset).is_some() {
                    self.done.given_up += 1;
                } else {
                    self.defect(Part::Frame(offset), format!("is damaged: {error}"));
                }
                self.go_on_behind(offset.next());
                self.sum.broken = true;
                return UNKNOWN;
            }
        };
        let said = record.messages_before;
        let mut bases = vec![said];
        if let Some(expected) = self.running.first()
            && !self.running.contains(&said)
        {
            let what = format!("says that {said} messages precede it, there are {expected}");
            bases.push(*expected);
            self.defect(Part::Frame(offset), what);
        }
        let counted = logplex::count(&record.body);
        if counted != record.messages {
            let what = format!("says it has {} messages, it has {counted}", record.messages);
            self.defect(Part::Frame(offset), what);
        }
        if let Some(slot) = self.wanted.get_mut(&offset) {
            *slot = Some((record.messages_before, record.messages));
        }
        let own = [record.messages, counted].map(u64::from);
        self.running =
            bases.iter().flat_map(|base| own.map(|own| base.saturating_add(own))).collect();
        self.running.dedup();
        self.sum.messages += u64::from(record.messages);
        self.sum.bytes += value.len() as u64;
        let received = record.received.get();
        // Frames arrive side by side, and are not stored in the order of their arrival.
        self.sum.last_received = self.sum.last_received.max(Some(received));
        self.done.frames += 1;
        self.done.messages += u64::from(record.messages);
        self.done.bytes += value.len() as u64;
        match (&record.frame_id, identity(&record)) {
            (None, _) => NONE,
            (Some(_), Some(digest)) => print(&digest),
            (Some(_), None) => UNKNOWN,
        }
    }

    /// The first offset behind the start of a range that can be read from, or the range's end.
    fn next_readable(&self, range: OffsetRange) -> Offset {
        let readable = |start: u64| -> Option<Offset> {
            let range = OffsetRange { start: Offset::new(start), end: range.end };
            let mut rows = self.log.records(range).ok()?;
            rows.seek_to_first();
            match (rows.key().and_then(keys::offset_of), rows.status()) {
                (Some(offset), Ok(())) => Some(offset),
                // Nothing is left in the range.
                (None, Ok(())) => Some(range.end),
                (_, Err(_)) => None,
            }
        };
        let (start, end) = (range.start.get(), range.end.get());
        let near = (start + 1..end.min(start.saturating_add(TRIES))).find_map(readable);
        if let Some(offset) = near {
            return offset;
        }
        let mut step = TRIES;
        while let Some(probe) = start.checked_add(step).filter(|probe| *probe < end) {
            if let Some(found) = readable(probe) {
                // Between the last step and this one lies the edge.
                let (mut low, mut high, mut best) = (start + step / 2, probe, found);
                while low + 1 < high {
                    let middle = low.midpoint(high);
                    match readable(middle) {
                        Some(offset) => (high, best) = (middle, offset),
                        None => low = middle,
                    }
                }
                return best;
            }
            step = step.saturating_mul(2);
        }
        range.end
    }

    /// What a newer forebay has added, families and further facts about the store: values in the
    /// common envelope.
    fn others(&mut self) {
        let known =
            ["default", keys::RECORDS, keys::SEGMENTS, keys::FRAMES, keys::CURSORS, keys::LETTERS];
        let others: Vec<String> =
            self.log.families().filter(|name| !known.contains(name)).map(str::to_owned).collect();
        for family in others {
            let (mut seen, mut wrong) = (0, Vec::new());
            let scanned = self.log.scan(&family, |key, value| {
                // These have been looked at.
                let seen_before = key == keys::STORE
                    || key == keys::TRIM
                    || key.starts_with(keys::GAP)
                    || keys::letter_totals_of(key).is_some();
                if family == keys::META && seen_before {
                    return;
                }
                seen += 1;
                let key = key.escape_ascii();
                wrong
                    .extend(checked(value).err().map(|error| format!("{key} is damaged: {error}")));
            });
            self.done.other_values += seen;
            for what in wrong {
                self.defect(Part::Family(family.clone()), what);
            }
            if let Err(error) = scanned {
                self.defect(Part::Family(family), error.to_string());
            }
        }
    }
}
