//! Reading everything: every crc, and whether what is stored fits together.
//!
//! Nothing is mended. What an operator has given up before is known, and no defect. Each thing that is wrong is told with its place, and the reading goes on
//! behind it. What is checked:
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

mod kept;

use std::collections::BTreeMap;
use std::fmt;

use crate::generated::storage;
use crate::logplex::{self, Profile};
use crate::record::{Checkpoint, Record, checked, decode_record, decode_value};
use crate::types::{DestinationName, Offset, OffsetRange, Position, SegmentId};

use super::catalogue::Segment;
use super::dedupe;
use super::gaps::Gap;
use super::inspect::ReadOnlyLog;
use super::keys;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// Where.
    pub part: Part,
    /// What.
    pub what: String,
}

/// A part of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The store marker.
    Marker,
    /// The trim point.
    TrimPoint,
    /// The catalogue of segments as a whole.
    Catalogue,
    /// One segment.
    Segment(SegmentId),
    /// One frame.
    Frame(Offset),
    /// Several frames.
    Frames(OffsetRange),
    /// A remembered frame id, and the offset it leads to, if that can be read.
    FrameId(Option<Offset>),
    /// A destination's checkpoint.
    Checkpoint(String),
    /// One of a destination's dead letters.
    DeadLetter(String, Position),
    /// All dead letters of a destination.
    DeadLetters(String),
    /// A column family.
    Family(String),
}

impl Part {
    /// What kind of part it is, in a word.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Marker => "marker",
            Self::TrimPoint => "trim_point",
            Self::Catalogue => "catalogue",
            Self::Segment(_) => "segment",
            Self::Frame(_) => "frame",
            Self::Frames(_) => "frames",
            Self::FrameId(_) => "frame_id",
            Self::Checkpoint(_) => "checkpoint",
            Self::DeadLetter(..) => "dead_letter",
            Self::DeadLetters(_) => "dead_letters",
            Self::Family(_) => "family",
        }
    }

    /// The first offset it is about.
    #[must_use]
    pub const fn offset(&self) -> Option<Offset> {
        match self {
            Self::Frame(offset) => Some(*offset),
            Self::Frames(range) => Some(range.start),
            Self::FrameId(offset) => *offset,
            Self::DeadLetter(_, at) => Some(at.offset),
            Self::Marker
            | Self::TrimPoint
            | Self::Catalogue
            | Self::Segment(_)
            | Self::Checkpoint(_)
            | Self::DeadLetters(_)
            | Self::Family(_) => None,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Marker => f.write_str("the store marker"),
            Self::TrimPoint => f.write_str("the trim point"),
            Self::Catalogue => f.write_str("the catalogue"),
            Self::Segment(id) => write!(f, "segment {id}"),
            Self::Frame(offset) => write!(f, "the frame at offset {offset}"),
            Self::Frames(range) => write!(f, "the frames {range}"),
            Self::FrameId(Some(offset)) => write!(f, "the remembered id of offset {offset}"),
            Self::FrameId(None) => f.write_str("a remembered frame id"),
            Self::Checkpoint(name) => write!(f, "the checkpoint of {name}"),
            Self::DeadLetter(name, at) => write!(f, "the dead letter {at} of {name}"),
            Self::DeadLetters(name) => write!(f, "the dead letters of {name}"),
            Self::Family(name) => write!(f, "the family {name}"),
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.what)
    }
}

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

/// What is known of a frame's id.
const UNKNOWN: u64 = 0;
const NONE: u64 = 1;

/// The first 8 bytes of a digest, and never [`UNKNOWN`] or [`NONE`].
fn print(digest: &keys::Digest) -> u64 {
    let head = digest.first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head));
    head | 2
}

/// The digest under which a frame's id is remembered. None without an id, and for log-shuttle,
/// whose ids belong to a user that the record does not name.
fn identity(record: &Record) -> Option<keys::Digest> {
    let id = record.frame_id.as_deref()?;
    let scope = record.drain_token.as_deref().unwrap_or_default();
    (record.profile == Profile::Logplex).then(|| dedupe::digest(scope, id))
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

    fn checkpoints(&mut self) -> Vec<(DestinationName, Checkpoint)> {
        let rows = match self.log.rows(keys::CURSORS) {
            Ok(rows) => rows,
            Err(error) => {
                self.defect(Part::Family(keys::CURSORS.to_owned()), error.to_string());
                return Vec::new();
            }
        };
        let mut all = Vec::new();
        for (key, value) in rows {
            self.done.checkpoints += 1;
            let text = String::from_utf8_lossy(&key).into_owned();
            match (DestinationName::new(&text), Checkpoint::decode(&value)) {
                (Ok(name), Ok(checkpoint)) => {
                    self.wanted.insert(checkpoint.position.offset, None);
                    all.push((name, checkpoint));
                }
                (Ok(name), Err(error)) => {
                    self.defect(Part::Checkpoint(name.to_string()), error.to_string());
                }
                (Err(_), _) => {
                    self.defect(Part::Checkpoint(text), "its key is no destination's name");
                }
            }
        }
        all
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

    /// The newest hour under which an id is remembered.
    fn newest_hour(&mut self) -> Option<u32> {
        match self.log.last_key(keys::FRAMES) {
            Ok(key) => key.and_then(|key| keys::frame_of(&key)).map(|(hour, _)| hour),
            Err(error) => {
                self.defect(Part::Family(keys::FRAMES.to_owned()), error.to_string());
                None
            }
        }
    }

    /// Compares the remembered ids that lead into a range with the frames there.
    fn frame_ids(&mut self, range: OffsetRange, end: Offset, prints: &[u64], newest: Option<u32>) {
        let first_round = range.start == self.done.first;
        let mut remembered = vec![false; prints.len()];
        let (mut seen, mut wrong) = (0, Vec::new());
        let scanned = self.log.scan(keys::FRAMES, |key, value| {
            seen += 1;
            let known = decode_value::<storage::FrameKey>(value);
            let (digest, offset) = match (keys::frame_of(key), known) {
                (Some((_, digest)), Ok(known)) => (digest, Offset::new(known.offset)),
                (None, _) if first_round => {
                    return wrong.push((None, "its key has a wrong length".to_owned()));
                }
                (_, Err(error)) if first_round => return wrong.push((None, error.to_string())),
                // Told in the first round.
                _ => return,
            };
            if offset >= end {
                if first_round {
                    let what = "there is no such frame: it would be taken for stored".to_owned();
                    wrong.push((Some(offset), what));
                }
                return;
            }
            // What lies below the trim point was delivered, and stays known for its time.
            let Some(index) = offset.get().checked_sub(range.start.get()) else { return };
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            let Some(found) = prints.get(index) else { return };
            if let Some(slot) = remembered.get_mut(index) {
                *slot = true;
            }
            if *found == NONE {
                wrong.push((Some(offset), "the frame has no id".to_owned()));
            } else if *found != UNKNOWN && *found != print(&digest) {
                wrong.push((Some(offset), "the frame has another id".to_owned()));
            }
        });
        if first_round {
            self.done.frame_ids = seen;
        }
        if let Err(error) = scanned
            && first_round
        {
            self.defect(Part::Family(keys::FRAMES.to_owned()), error.to_string());
            return;
        }
        for (offset, what) in wrong {
            self.defect(Part::FrameId(offset), what);
        }
        let Some(newest) = newest else { return };
        let forgotten = (range.start.get()..)
            .zip(remembered.iter().zip(prints))
            .filter(|(_, (remembered, print))| !**remembered && **print > NONE)
            .map(|(offset, _)| Offset::new(offset));
        for offset in forgotten.collect::<Vec<_>>() {
            if self.is_forgotten(offset, newest) {
                let what = "its id is not remembered: its next try would be stored twice";
                self.defect(Part::Frame(offset), what);
            }
        }
    }

    /// Whether a frame of the newest hour, whose id leads nowhere or elsewhere, is forgotten. An
    /// id that leads to a later frame is not: memory had run out in between.
    fn is_forgotten(&self, offset: Offset, newest: u32) -> bool {
        let value = self.log.raw(keys::RECORDS, &keys::record(offset)).ok().flatten();
        let Some(record) = value.and_then(|value| decode_record(&value).ok()) else {
            return false;
        };
        let (Some(digest), hour) = (identity(&record), dedupe::hour(record.received)) else {
            return false;
        };
        let there = |hour| {
            matches!(self.log.raw(keys::FRAMES, &keys::frame(hour, &digest)), Ok(Some(_)) | Err(_))
        };
        hour >= newest && !(newest..=hour).any(there)
    }

    fn balance(&mut self, all: &[(DestinationName, Checkpoint)], first: Offset, end: Offset) {
        for (name, checkpoint) in all {
            let Position { offset, index } = checkpoint.position;
            let part = || Part::Checkpoint(name.to_string());
            if offset < first || offset > end {
                let what = format!("is at {offset}, the log has [{first}, {end})");
                self.defect(part(), what);
                continue;
            }
            let (before, messages) = if offset == end {
                // Not when several numbers are possible.
                (self.running.first().copied().filter(|_| self.running.len() == 1), 0)
            } else {
                let found = self.wanted.get(&offset).copied().flatten();
                // A frame that cannot be read has been told.
                let Some((before, messages)) = found else { continue };
                (Some(before), messages)
            };
            if index > 0 && index >= messages {
                let what =
                    format!("is at message {index} of offset {offset}, which has {messages}");
                self.defect(part(), what);
                continue;
            }
            let settled = checkpoint.origin_messages.wrapping_add(checkpoint.totals.settled());
            if let Some(before) = before
                && before + u64::from(index) != settled
            {
                let what = format!(
                    "its books do not balance: {} messages before its origin and {} settled, but \
                     {} before its position",
                    checkpoint.origin_messages,
                    checkpoint.totals.settled(),
                    before + u64::from(index)
                );
                self.defect(part(), what);
            }
        }
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
