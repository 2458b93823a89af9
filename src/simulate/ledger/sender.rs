//! What the sender sent, and what it was told.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Histogram;
use super::file::{self, LedgerError};

const HEAD: &str = "forebay-sender-ledger 1";

/// The ground truth at the sender: every frame, its messages, and how it ended.
#[derive(Debug)]
pub struct SenderLedger {
    inner: Mutex<Inner>,
    totals: watch::Sender<SenderTotals>,
    keep_hashes: usize,
}

#[derive(Debug, Default)]
struct Inner {
    frames: Vec<FrameEntry>,
    reports: Vec<u64>,
    hashes: usize,
    latency: Histogram,
}

/// One frame, as its sender knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameEntry {
    /// The frame id, as it goes out in 32 hex digits.
    pub id: u128,
    /// The connection it went out on.
    pub connection: u32,
    /// The hash of each message's text, without the L10 lines that may have been put in front.
    pub hashes: Box<[u64]>,
    /// How it ended.
    pub outcome: Outcome,
    /// Tries used: 0 while it waits for a connection.
    pub tries: u8,
    /// Answers read. More tries than answers means that the receiver may have stored a copy the
    /// sender was not told about.
    pub answers: u8,
}

/// How a frame ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx: from here on every message of it is the receiver's duty.
    Accepted,
    /// Thrown away at once for this 4xx.
    Dropped4xx(u16),
    /// Thrown away after the last try.
    GaveUp,
    /// Not ended: being sent, or cut off when the sender stopped.
    InFlight,
}

/// Sums over all frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderTotals {
    /// Frames begun.
    pub frames: u64,
    /// Messages in them.
    pub messages: u64,
    /// Frames answered 2xx.
    pub accepted_frames: u64,
    /// Messages in them.
    pub accepted_messages: u64,
    /// Frames thrown away for a 4xx.
    pub dropped_frames: u64,
    /// Frames thrown away after the last try.
    pub gave_up_frames: u64,
    /// Messages in all frames thrown away.
    pub dropped_messages: u64,
    /// Tries beyond each frame's first.
    pub retries: u64,
    /// L10 lines sent (each try of a frame sends its own).
    pub reports: u64,
    /// Every frame is in the ledger, see [`super::HecTotals::complete`].
    pub complete: bool,
}

impl SenderTotals {
    const ZERO: Self = Self {
        frames: 0,
        messages: 0,
        accepted_frames: 0,
        accepted_messages: 0,
        dropped_frames: 0,
        gave_up_frames: 0,
        dropped_messages: 0,
        retries: 0,
        reports: 0,
        complete: true,
    };

    /// Frames that have not ended.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.frames.saturating_sub(self.accepted_frames + self.dropped_frames + self.gave_up_frames)
    }
}

/// Names a frame in its ledger.
#[derive(Clone, Copy, Debug)]
pub struct FrameKey {
    index: Option<usize>,
    messages: u64,
}

impl Default for SenderLedger {
    /// Room for 256 million messages (2 GiB).
    fn default() -> Self {
        Self::new(1 << 28)
    }
}

impl SenderLedger {
    /// A ledger for at most `keep_hashes` messages (8 bytes each).
    #[must_use]
    pub fn new(keep_hashes: usize) -> Self {
        let totals = watch::Sender::new(SenderTotals::ZERO);
        Self { inner: Mutex::default(), totals, keep_hashes }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the ledger was locked cannot leave a frame half entered.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a frame before it is sent for the first time.
    pub(in crate::simulate) fn begin(
        &self,
        id: u128,
        connection: u32,
        hashes: Vec<u64>,
    ) -> FrameKey {
        let messages = hashes.len() as u64;
        let mut inner = self.lock();
        let room = inner.hashes.saturating_add(hashes.len()) <= self.keep_hashes;
        let index = room.then(|| {
            inner.hashes += hashes.len();
            inner.frames.push(FrameEntry {
                id,
                connection,
                hashes: hashes.into_boxed_slice(),
                outcome: Outcome::InFlight,
                tries: 0,
                answers: 0,
            });
            inner.frames.len() - 1
        });
        self.totals.send_modify(|totals| {
            totals.frames += 1;
            totals.messages += messages;
            totals.complete &= room;
        });
        FrameKey { index, messages }
    }

    /// Enters how a frame ended. To be said once.
    pub(in crate::simulate) fn finish(
        &self,
        key: FrameKey,
        outcome: Outcome,
        tries: u8,
        answers: u8,
    ) {
        let mut inner = self.lock();
        if let Some(frame) = key.index.and_then(|index| inner.frames.get_mut(index)) {
            frame.outcome = outcome;
            frame.tries = tries;
            frame.answers = answers;
        }
        self.totals.send_modify(|totals| totals.finish(key.messages, outcome, tries));
    }

    /// Enters an L10 line that went out, by the hash of its text.
    pub(in crate::simulate) fn report(&self, hash: u64) {
        let mut inner = self.lock();
        let room = inner.hashes < self.keep_hashes;
        if room {
            inner.hashes += 1;
            inner.reports.push(hash);
        }
        self.totals.send_modify(|totals| {
            totals.reports += 1;
            totals.complete &= room;
        });
    }

    /// Enters the time from the start of a try to its answer.
    pub(in crate::simulate) fn answered(&self, after: Duration) {
        self.lock().latency.record(after);
    }

    /// The sums so far.
    #[must_use]
    pub fn totals(&self) -> SenderTotals {
        *self.totals.borrow()
    }

    /// The sums as they change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<SenderTotals> {
        self.totals.subscribe()
    }

    /// How long answers took, whatever they said.
    #[must_use]
    pub fn latency(&self) -> Histogram {
        self.lock().latency.clone()
    }

    /// Shows every frame, in the order they were begun. The ledger is locked meanwhile.
    pub fn for_each(&self, mut show: impl FnMut(&FrameEntry)) {
        self.lock().frames.iter().for_each(&mut show);
    }

    /// The hashes of all L10 lines sent.
    #[must_use]
    pub fn reports(&self) -> Vec<u64> {
        self.lock().reports.clone()
    }

    /// Writes the ledger to a file: a head line, records, `end`. Records:
    ///
    /// - `frame ID CONNECTION OUTCOME TRIES ANSWERS HASH...`: id in 32 hex digits, outcome
    ///   `accepted`, `dropped:STATUS`, `gave_up` or `in_flight`, the hashes of the messages in hex;
    /// - `reports HASH...`: the L10 lines;
    /// - `latency MAX` and `bucket NUMBER COUNT`: the histogram, in microseconds;
    /// - `incomplete FRAMES MESSAGES ACCEPTED_FRAMES ACCEPTED_MESSAGES`: the ledger was full.
    ///
    /// Blocks.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_to(&self, path: &Path) -> Result<(), LedgerError> {
        let inner = self.lock();
        let totals = self.totals();
        file::write(path, HEAD, |out| {
            for frame in &inner.frames {
                let FrameEntry { id, connection, outcome, tries, answers, .. } = frame;
                write!(out, "frame {id:032X} {connection} {outcome} {tries} {answers}")?;
                file::write_hashes(out, &frame.hashes)?;
            }
            out.write_all(b"reports")?;
            file::write_hashes(out, &inner.reports)?;
            writeln!(out, "latency {}", inner.latency.max().as_micros())?;
            for (index, count) in inner.latency.buckets() {
                writeln!(out, "bucket {index} {count}")?;
            }
            if !totals.complete {
                let SenderTotals { frames, messages, accepted_frames, accepted_messages, .. } =
                    totals;
                writeln!(
                    out,
                    "incomplete {frames} {messages} {accepted_frames} {accepted_messages}"
                )?;
            }
            Ok(())
        })
    }

    /// Reads what [`Self::write_to`] wrote. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read, is cut off, or is no sender ledger.
    pub fn load(path: &Path) -> Result<Self, LedgerError> {
        let ledger = Self::new(usize::MAX);
        file::read(path, HEAD, |words| {
            match words.word()? {
                "frame" => {
                    let id = u128::from_str_radix(words.word()?, 16)
                        .map_err(|_| "a frame id is expected")?;
                    let connection = words.number()?;
                    let outcome = words.word()?.parse()?;
                    let (tries, answers) = (words.number()?, words.number()?);
                    let key = ledger.begin(id, connection, words.hashes()?);
                    ledger.finish(key, outcome, tries, answers);
                }
                "reports" => words.hashes()?.into_iter().for_each(|hash| ledger.report(hash)),
                "latency" => ledger.lock().latency.set_max(words.number()?),
                "bucket" => {
                    if !ledger.lock().latency.add(words.number()?, words.number()?) {
                        return Err("there is no such bucket");
                    }
                }
                "incomplete" => {
                    let (frames, messages) = (words.number()?, words.number()?);
                    let (accepted_frames, accepted_messages) = (words.number()?, words.number()?);
                    ledger.totals.send_modify(|totals| {
                        *totals = SenderTotals {
                            frames,
                            messages,
                            accepted_frames,
                            accepted_messages,
                            complete: false,
                            ..*totals
                        };
                    });
                }
                _ => return Err("an unknown kind of record"),
            }
            Ok(())
        })?;
        Ok(ledger)
    }
}

impl SenderTotals {
    fn finish(&mut self, messages: u64, outcome: Outcome, tries: u8) {
        self.retries += u64::from(tries.saturating_sub(1));
        match outcome {
            Outcome::Accepted => {
                self.accepted_frames += 1;
                self.accepted_messages += messages;
            }
            Outcome::Dropped4xx(_) => {
                self.dropped_frames += 1;
                self.dropped_messages += messages;
            }
            Outcome::GaveUp => {
                self.gave_up_frames += 1;
                self.dropped_messages += messages;
            }
            Outcome::InFlight => {}
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Dropped4xx(status) => write!(f, "dropped:{status}"),
            Self::GaveUp => f.write_str("gave_up"),
            Self::InFlight => f.write_str("in_flight"),
        }
    }
}

impl FromStr for Outcome {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "accepted" => Ok(Self::Accepted),
            "gave_up" => Ok(Self::GaveUp),
            "in_flight" => Ok(Self::InFlight),
            _ => text
                .strip_prefix("dropped:")
                .and_then(|status| status.parse().ok())
                .map(Self::Dropped4xx)
                .ok_or("an outcome is expected"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(room: usize) -> SenderLedger {
        let ledger = SenderLedger::new(room);
        let outcomes =
            [Outcome::Accepted, Outcome::Dropped4xx(413), Outcome::GaveUp, Outcome::InFlight];
        for (number, outcome) in (1u8..).zip(outcomes) {
            let key = ledger.begin(u128::from(number) << 90, 7, vec![u64::from(number); 2]);
            ledger.finish(key, outcome, number, 1);
        }
        ledger.report(99);
        ledger.answered(Duration::from_micros(1_234));
        ledger.answered(Duration::from_micros(56));
        ledger
    }

    #[test]
    fn sums_by_outcome() {
        let totals = filled(100).totals();
        assert_eq!((totals.frames, totals.messages), (4, 8));
        assert_eq!((totals.accepted_frames, totals.accepted_messages), (1, 2));
        assert_eq!(
            (totals.dropped_frames, totals.gave_up_frames, totals.dropped_messages),
            (1, 1, 4)
        );
        assert_eq!((totals.retries, totals.reports, totals.in_flight()), (6, 1, 1));
    }

    #[test]
    fn the_file_brings_everything_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sender");
        for room in [100, 4] {
            let ledger = filled(room);
            ledger.write_to(&path).unwrap();
            let loaded = SenderLedger::load(&path).unwrap();

            let frames = |ledger: &SenderLedger| {
                let mut all = Vec::new();
                ledger.for_each(|frame| all.push(frame.clone()));
                all
            };
            assert_eq!(frames(&loaded), frames(&ledger));
            assert_eq!(loaded.reports(), ledger.reports());
            assert_eq!(loaded.latency(), ledger.latency());
            assert_eq!(loaded.totals().messages, ledger.totals().messages);
            assert_eq!(loaded.totals().complete, room == 100);
            if room == 100 {
                assert_eq!(loaded.totals(), ledger.totals());
            }
        }
    }
}
