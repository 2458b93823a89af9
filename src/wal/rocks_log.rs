//! RocksDB's log, read by ourselves before RocksDB opens it.
//!
//! RocksDB cannot be left to judge a log file that is not whole. With
//! `TolerateCorruptedTailRecords` one flipped bit in a length, in the last block of a file, or one
//! that makes a record look recycled, reads as the end of the log, and everything behind it is
//! gone in silence; a run of zeros is skipped without a word; a damaged type can hang the open
//! (facebook/rocksdb#13333). With `PointInTime` every damage does that. So the files are read here
//! first, and RocksDB only ever opens a log that is whole.
//!
//! The format (`db/log_format.h` of RocksDB): blocks of 32 KiB; in them physical records,
//!
//! ```text
//! bytes 0..4   crc32c of all that follows, masked, little-endian
//! bytes 4..6   length of the payload, little-endian
//! byte  6      type: 1 full, 2 first, 3 middle, 4 last; 5 to 8 the same, recyclable
//! bytes 7..11  recyclable types only: the low half of the file's number
//! then         the payload
//! ```
//!
//! A record never crosses a block; less than 7 bytes at the end of one are zeros. A logical record
//! is one full or a first, middles and a last. In a log it is a write batch, which begins with a
//! sequence number (8 bytes) and a count (4 bytes): the sequences of a file are dense.

use std::fs::File;
use std::io::{self, Read, Write};

use super::crc32c::{crc32c, masked};

/// Bytes of a block.
pub(super) const BLOCK: usize = 32 * 1024;
const HEADER: usize = 7;
const RECYCLABLE_HEADER: usize = 11;
/// Sequence and count at the start of a write batch.
const BATCH_HEAD: usize = 12;

/// What the logical records of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Write batches, in a log.
    Batches,
    /// Version edits, in a MANIFEST.
    Edits,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Bytes of the file.
    pub(super) len: u64,
    /// Whole records, one behind the other from the start.
    pub(super) records: u64,
    /// The byte behind the last of them.
    pub(super) whole: u64,
    /// Where the first record begins that is not whole.
    pub(super) broken: Option<u64>,
    /// Whole records behind that one: what a torn write cannot leave, since it was the last.
    pub(super) behind: u64,
    /// Where the first of them begins.
    pub(super) first_behind: Option<u64>,
    /// The file ends within the broken record, as that record has it: nothing is overwritten.
    pub(super) cut: bool,
}

/// One physical record.
#[derive(Clone, Copy)]
struct Piece<'a> {
    part: Part,
    payload: &'a [u8],
    size: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Full,
    First,
    Middle,
    Last,
    /// Says something about the log, and is no record of it.
    Aside,
}

/// Reads the record at the start of `bytes`, if there is a whole one.
fn piece(bytes: &[u8], number: u32) -> Option<Piece<'_>> {
    let (header, _) = bytes.split_first_chunk::<HEADER>()?;
    let &[a, b, c, d, low, high, kind] = header;
    let (part, header) = match kind {
        1 => (Part::Full, HEADER),
        2 => (Part::First, HEADER),
        3 => (Part::Middle, HEADER),
        4 => (Part::Last, HEADER),
        5 => (Part::Full, RECYCLABLE_HEADER),
        6 => (Part::First, RECYCLABLE_HEADER),
        7 => (Part::Middle, RECYCLABLE_HEADER),
        8 => (Part::Last, RECYCLABLE_HEADER),
        // Compression, timestamp sizes, the log before this one.
        9 | 10 | 130 => (Part::Aside, HEADER),
        11 | 131 => (Part::Aside, RECYCLABLE_HEADER),
        _ => return None,
    };
    let size = header + usize::from(u16::from_le_bytes([low, high]));
    let covered = bytes.get(6..size)?;
    if masked(crc32c(covered)) != u32::from_le_bytes([a, b, c, d]) {
        return None;
    }
    if header == RECYCLABLE_HEADER && bytes.get(HEADER..header)? != number.to_le_bytes() {
        return None;
    }
    Some(Piece { part, payload: bytes.get(header..size)?, size })
}

/// Where the next record can be found in the rest of a block behind damage: a record that begins
/// there, and is followed by nothing but records up to the end of the block. The chain keeps out
/// what only looks like a record in the body of a frame.
fn resume(rest: &[u8], last: bool, number: u32) -> Option<usize> {
    let chained = |from: usize| {
        let mut at = from;
        loop {
            let left = rest.get(at..).unwrap_or_default();
            match piece(left, number) {
                Some(piece) => at += piece.size,
                // The last block of a file may end in the tear.
                None => return at > from && (left.len() < HEADER || last),
            }
        }
    };
    let begins = |from: &usize| {
        let kind = rest.get(from + 6);
        kind.is_some_and(|kind| matches!(kind, 1..=8)) && chained(*from)
    };
    (1..rest.len()).find(begins)
}

/// A logical record in the making.
#[derive(Clone, Copy)]
struct Open {
    start: u64,
    head: [u8; BATCH_HEAD],
    filled: usize,
}

impl Open {
    fn new(start: u64) -> Self {
        Self { start, head: [0; BATCH_HEAD], filled: 0 }
    }

    fn push(&mut self, payload: &[u8]) {
        let room = self.head.get_mut(self.filled..).unwrap_or_default();
        let take = room.len().min(payload.len());
        for (slot, byte) in room.iter_mut().zip(payload) {
            *slot = *byte;
        }
        self.filled += take;
    }

    /// The first sequence of the batch, and the first behind it.
    fn sequences(&self) -> Option<(u64, u64)> {
        let (sequence, count) = self.head.split_first_chunk::<8>()?;
        let sequence = u64::from_le_bytes(*sequence);
        let count = u32::from_le_bytes(count.try_into().ok()?);
        (self.filled == BATCH_HEAD).then(|| (sequence, sequence.saturating_add(count.into())))
    }
}

/// Takes in the physical records of a file.
struct Surveyor {
    survey: Survey,
    content: Content,
    open: Option<Open>,
    /// The sequence behind the last whole record.
    next_sequence: Option<u64>,
}

/// Whether a logical record has just ended that is to be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Whole,
    No,
}

impl Surveyor {
    const fn new(content: Content) -> Self {
        let survey = Survey {
            len: 0,
            records: 0,
            whole: 0,
            broken: None,
            behind: 0,
            first_behind: None,
            cut: false,
        };
        Self { survey, content, open: None, next_sequence: None }
    }

    fn broken(&mut self, at: u64) {
        let start = self.open.take().map_or(at, |open| open.start);
        self.survey.broken.get_or_insert(start);
    }

    fn take(&mut self, at: u64, piece: &Piece<'_>) -> Ended {
        match piece.part {
            Part::Aside => {
                if self.open.is_none() && self.survey.broken.is_none() {
                    self.survey.whole = at + piece.size as u64;
                }
                return Ended::No;
            }
            Part::Full | Part::First => {
                if self.open.is_some() {
                    self.broken(at);
                }
                self.open = Some(Open::new(at));
            }
            Part::Middle | Part::Last => {
                if self.open.is_none() {
                    self.broken(at);
                    return Ended::No;
                }
            }
        }
        if let Some(open) = &mut self.open {
            open.push(piece.payload);
        }
        if matches!(piece.part, Part::Full | Part::Last)
            && let Some(open) = self.open.take()
        {
            return self.end(&open, at + piece.size as u64);
        }
        Ended::No
    }

    fn end(&mut self, open: &Open, end: u64) -> Ended {
        let fits = match (self.content, open.sequences()) {
            (Content::Edits, _) => true,
            (Content::Batches, None) => false,
            (Content::Batches, Some((first, next))) => {
                let fits = match self.next_sequence {
                    None => true,
                    // Behind damage some are missing.
                    Some(wanted) if self.survey.broken.is_some() => first >= wanted,
                    Some(wanted) => first == wanted,
                };
                if fits {
                    self.next_sequence = Some(next);
                }
                fits
            }
        };
        if !fits {
            self.survey.broken.get_or_insert(open.start);
            // A record that is whole, and not the one that belongs here: records are missing.
            let beyond = |(first, _): (u64, u64)| self.next_sequence.is_some_and(|n| first > n);
            if open.sequences().is_some_and(beyond) {
                self.next_sequence = open.sequences().map(|(_, next)| next);
            } else {
                return Ended::No;
            }
        }
        if self.survey.broken.is_some() {
            self.survey.behind += 1;
            self.survey.first_behind.get_or_insert(open.start);
        } else {
            self.survey.records += 1;
            self.survey.whole = end;
        }
        Ended::Whole
    }
}

/// Gets whole logical records.
type Keep<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// Reads a file to its end. `number` is the file's; `keep` gets every whole logical record, the
/// ones behind damage included, if it wants them.
fn walk(
    mut file: impl Read,
    number: u64,
    content: Content,
    mut keep: Option<&mut Keep<'_>>,
) -> io::Result<Survey> {
    #[expect(clippy::cast_possible_truncation, reason = "a record holds the low half")]
    let number = number as u32;
    let mut surveyor = Surveyor::new(content);
    let (mut block, mut start) = (Vec::with_capacity(BLOCK), 0u64);
    let mut logical = Vec::new();
    loop {
        block.clear();
        file.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        let last = block.len() < BLOCK;
        let mut at = 0;
        while let Some(rest) = block.get(at..).filter(|rest| !rest.is_empty()) {
            let place = start + at as u64;
            if let Some(piece) = piece(rest, number) {
                let ended = surveyor.take(place, &piece);
                if let Some(keep) = &mut keep {
                    match piece.part {
                        Part::Full | Part::First => {
                            logical.clear();
                            logical.extend_from_slice(piece.payload);
                        }
                        Part::Middle | Part::Last => logical.extend_from_slice(piece.payload),
                        Part::Aside => {}
                    }
                    if ended == Ended::Whole {
                        keep(&logical)?;
                    }
                }
                at += piece.size;
                continue;
            }
            if BLOCK - at < HEADER {
                // The end of a block, which no record fits into.
                break;
            }
            let claimed = rest.get(4..6).map(|length| {
                HEADER + length.iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte))
            });
            let cut = last && claimed.is_none_or(|claimed| claimed > rest.len());
            surveyor.survey.cut |= cut && surveyor.survey.broken.is_none();
            surveyor.broken(place);
            match resume(rest, last, number) {
                Some(step) => at += step,
                None => break,
            }
        }
        start += block.len() as u64;
        if last {
            break;
        }
    }
    surveyor.survey.len = start;
    if surveyor.open.is_some() {
        surveyor.survey.cut |= surveyor.survey.broken.is_none();
        surveyor.broken(start);
    }
    Ok(surveyor.survey)
}

/// Looks at every record of a file.
pub(super) fn survey(file: File, number: u64, content: Content) -> io::Result<Survey> {
    walk(file, number, content, None)
}

/// Writes every whole record of one log into another, and returns how many.
pub(super) fn salvage(from: File, number: u64, to: impl Write) -> io::Result<u64> {
    let mut writer = Writer { to, at: 0 };
    let mut records = 0;
    let mut keep = |record: &[u8]| {
        records += 1;
        writer.append(record)
    };
    walk(from, number, Content::Batches, Some(&mut keep))?;
    writer.to.flush()?;
    Ok(records)
}

/// Writes records as RocksDB does.
struct Writer<W> {
    to: W,
    /// Where in the block.
    at: usize,
}

impl<W: Write> Writer<W> {
    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let (mut rest, mut first) = (record, true);
        loop {
            let room = BLOCK - self.at;
            if room < HEADER {
                self.to.write_all([0; HEADER].get(..room).unwrap_or_default())?;
                self.at = 0;
                continue;
            }
            let (payload, behind) = rest.split_at(rest.len().min(room - HEADER));
            let kind = match (first, behind.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4u8,
            };
            let mut covered = Vec::with_capacity(payload.len() + 1);
            covered.push(kind);
            covered.extend_from_slice(payload);
            // At most a block.
            let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
            self.to.write_all(&masked(crc32c(&covered)).to_le_bytes())?;
            self.to.write_all(&length.to_le_bytes())?;
            self.to.write_all(&covered)?;
            self.at += HEADER + payload.len();
            (rest, first) = (behind, false);
            if rest.is_empty() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
#[path = "rocks_log_tests.rs"]
mod tests;
