//! What the HEC took in, indexed and acknowledged.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::file::{self, LedgerError};
use crate::simulate::text_hash;

const HEAD: &str = "forebay-hec-ledger 1";

/// The ground truth at the HEC: every event that was accepted, and how far it came.
///
/// Kept as the batches that arrived (8 bytes an event, nothing is looked up while events come in)
/// and counted per message only when somebody asks. Several servers may write into one ledger.
#[derive(Debug)]
pub struct HecLedger {
    inner: Mutex<Inner>,
    totals: watch::Sender<HecTotals>,
    keep_hashes: usize,
    keep_events: usize,
}

#[derive(Debug, Default)]
struct Inner {
    batches: Vec<Batch>,
    hashes: usize,
    events: Vec<(BatchKey, KeptEvent)>,
}

/// The events that one request had accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The hash of each event's text, in the order of the body.
    pub hashes: Box<[u64]>,
    /// The events left the pipeline: they are in the index, for good.
    pub indexed: bool,
    /// The `true` for this request was sent out.
    pub acknowledged: bool,
}

/// Sums over all batches. A batch that was acknowledged was indexed, one that was indexed was
/// accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HecTotals {
    /// Requests of which at least one event was accepted.
    pub batches: u64,
    /// Events accepted, each copy counted.
    pub accepted: u64,
    /// Events indexed, each copy counted.
    pub indexed: u64,
    /// Events acknowledged, each copy counted.
    pub acknowledged: u64,
    /// Every batch is in the ledger. False once its limit was reached: the totals still count,
    /// but an audit can no longer vouch for single messages.
    pub complete: bool,
}

/// Names a batch in its ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchKey {
    /// None: the ledger was full, only the totals know this batch.
    index: Option<usize>,
    events: u64,
}

/// One event as it was posted, for tests that look at more than the text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeptEvent {
    /// `time` as written, without quotes.
    pub time: Option<String>,
    /// `host`, of the envelope or else of the query.
    pub host: Option<String>,
    /// `source`, of the envelope or else of the query.
    pub source: Option<String>,
    /// `sourcetype`, of the envelope or else of the query.
    pub sourcetype: Option<String>,
    /// `index`, of the envelope or else of the query.
    pub index: Option<String>,
    /// The indexed fields.
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// The text of a string event, unescaped; of any other event its JSON as written.
    pub event: String,
    /// The event is a JSON string (or a line of `/raw`).
    pub is_text: bool,
    /// The batch of this event was indexed. Filled in when the events are read.
    pub indexed: bool,
    /// The batch of this event was acknowledged. Filled in when the events are read.
    pub acknowledged: bool,
}

/// How often one message was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Copies accepted.
    pub accepted: u32,
    /// Copies indexed.
    pub indexed: u32,
    /// Copies acknowledged.
    pub acknowledged: u32,
}

impl Counts {
    const fn add(&mut self, batch: &Batch) {
        self.accepted = self.accepted.saturating_add(1);
        self.indexed = self.indexed.saturating_add(batch.indexed as u32);
        self.acknowledged = self.acknowledged.saturating_add(batch.acknowledged as u32);
    }
}

impl Default for HecLedger {
    /// Room for 256 million events (2 GiB), no full events.
    fn default() -> Self {
        Self::new(1 << 28, 0)
    }
}

impl HecLedger {
    /// A ledger for at most `keep_hashes` events (8 bytes each), which also keeps the first
    /// `keep_events` events in full.
    #[must_use]
    pub fn new(keep_hashes: usize, keep_events: usize) -> Self {
        let totals =
            HecTotals { batches: 0, accepted: 0, indexed: 0, acknowledged: 0, complete: true };
        Self {
            inner: Mutex::default(),
            totals: watch::Sender::new(totals),
            keep_hashes,
            keep_events,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the ledger was locked cannot leave a batch half entered.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many more full events are wanted.
    pub(in crate::simulate) fn wants_events(&self) -> usize {
        if self.keep_events == 0 {
            return 0;
        }
        self.keep_events.saturating_sub(self.lock().events.len())
    }

    /// Enters what one request had accepted.
    pub(in crate::simulate) fn accept(&self, hashes: Vec<u64>, events: Vec<KeptEvent>) -> BatchKey {
        let count = hashes.len() as u64;
        let mut inner = self.lock();
        let room = inner.hashes.saturating_add(hashes.len()) <= self.keep_hashes;
        let index = room.then(|| {
            inner.hashes += hashes.len();
            let hashes = hashes.into_boxed_slice();
            inner.batches.push(Batch { hashes, indexed: false, acknowledged: false });
            inner.batches.len() - 1
        });
        let key = BatchKey { index, events: count };
        let wanted = self.keep_events.saturating_sub(inner.events.len());
        inner.events.extend(events.into_iter().take(wanted).map(|event| (key, event)));
        self.totals.send_modify(|totals| {
            totals.batches += 1;
            totals.accepted += count;
            totals.complete &= room;
        });
        key
    }

    /// The batch is in the index. To be said once.
    pub(in crate::simulate) fn index(&self, key: BatchKey) {
        let mut inner = self.lock();
        if let Some(batch) = key.index.and_then(|index| inner.batches.get_mut(index)) {
            batch.indexed = true;
        }
        self.totals.send_modify(|totals| totals.indexed += key.events);
    }

    /// The `true` for an indexed batch was sent. To be said once.
    pub(in crate::simulate) fn acknowledge(&self, key: BatchKey) {
        let mut inner = self.lock();
        if let Some(batch) = key.index.and_then(|index| inner.batches.get_mut(index)) {
            batch.acknowledged = true;
        }
        self.totals.send_modify(|totals| totals.acknowledged += key.events);
    }

    /// The sums so far.
    #[must_use]
    pub fn totals(&self) -> HecTotals {
        *self.totals.borrow()
    }

    /// The sums as they change: `ledger.watch().wait_for(|t| t.indexed >= 10).await`.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<HecTotals> {
        self.totals.subscribe()
    }

    /// Shows every batch, in the order of arrival. The ledger is locked meanwhile.
    pub fn for_each(&self, mut show: impl FnMut(&Batch)) {
        self.lock().batches.iter().for_each(&mut show);
    }

    /// How often each message was seen, by the hash of its text.
    #[must_use]
    pub fn counts(&self) -> HashMap<u64, Counts> {
        let mut all = HashMap::<u64, Counts>::new();
        self.for_each(|batch| {
            for hash in &batch.hashes {
                all.entry(*hash).or_default().add(batch);
            }
        });
        all
    }

    /// How often one text was seen. Reads the whole ledger: for tests.
    #[must_use]
    pub fn counts_of(&self, text: &[u8]) -> Counts {
        let wanted = text_hash(text);
        let mut counts = Counts::default();
        self.for_each(|batch| {
            for _ in batch.hashes.iter().filter(|hash| **hash == wanted) {
                counts.add(batch);
            }
        });
        counts
    }

    /// The full events that were kept, in the order of arrival.
    #[must_use]
    pub fn events(&self) -> Vec<KeptEvent> {
        let inner = self.lock();
        let state = |key: &BatchKey| key.index.and_then(|index| inner.batches.get(index));
        inner
            .events
            .iter()
            .map(|(key, event)| KeptEvent {
                indexed: state(key).is_some_and(|batch| batch.indexed),
                acknowledged: state(key).is_some_and(|batch| batch.acknowledged),
                ..event.clone()
            })
            .collect()
    }

    /// Writes the ledger to a file: a head line, one line a batch, `end`. A batch is
    /// `acknowledged`, `indexed` or `accepted` (how far it came), then the hash of each event's
    /// text in hex. A ledger that was full adds `incomplete ACCEPTED INDEXED ACKNOWLEDGED`, the
    /// totals over all events. Kept events are not written. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_to(&self, path: &Path) -> Result<(), LedgerError> {
        let inner = self.lock();
        let totals = self.totals();
        file::write(path, HEAD, |out| {
            for batch in &inner.batches {
                let word = match (batch.indexed, batch.acknowledged) {
                    (_, true) => "acknowledged",
                    (true, false) => "indexed",
                    (false, false) => "accepted",
                };
                out.write_all(word.as_bytes())?;
                file::write_hashes(out, &batch.hashes)?;
            }
            if !totals.complete {
                let HecTotals { accepted, indexed, acknowledged, .. } = totals;
                writeln!(out, "incomplete {accepted} {indexed} {acknowledged}")?;
            }
            Ok(())
        })
    }

    /// Reads what [`Self::write_to`] wrote. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read, is cut off, or is no HEC ledger.
    pub fn load(path: &Path) -> Result<Self, LedgerError> {
        let ledger = Self::new(usize::MAX, 0);
        file::read(path, HEAD, |words| {
            let word = words.word()?;
            if word == "incomplete" {
                let (accepted, indexed) = (words.number()?, words.number()?);
                let acknowledged = words.number()?;
                ledger.totals.send_modify(|totals| {
                    *totals = HecTotals {
                        accepted,
                        indexed,
                        acknowledged,
                        complete: false,
                        batches: totals.batches,
                    };
                });
                return Ok(());
            }
            let (indexed, acknowledged) = match word {
                "acknowledged" => (true, true),
                "indexed" => (true, false),
                "accepted" => (false, false),
                _ => return Err("a batch is acknowledged, indexed or accepted"),
            };
            let key = ledger.accept(words.hashes()?, Vec::new());
            if indexed {
                ledger.index(key);
            }
            if acknowledged {
                ledger.acknowledge(key);
            }
            Ok(())
        })?;
        Ok(ledger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(ledger: &HecLedger, texts: &[&str]) -> BatchKey {
        let event = |text: &&str| KeptEvent { event: (*text).to_owned(), ..KeptEvent::default() };
        ledger.accept(
            texts.iter().map(|text| text_hash(text.as_bytes())).collect(),
            texts.iter().map(event).collect(),
        )
    }

    #[test]
    fn follows_each_copy_of_a_message() {
        let ledger = HecLedger::new(100, 3);
        let first = batch(&ledger, &["a", "b"]);
        let second = batch(&ledger, &["b", "c"]);
        ledger.index(first);
        ledger.acknowledge(first);
        ledger.index(second);
        batch(&ledger, &["c"]);

        assert_eq!(ledger.counts_of(b"b"), Counts { accepted: 2, indexed: 2, acknowledged: 1 });
        assert_eq!(ledger.counts_of(b"c"), Counts { accepted: 2, indexed: 1, acknowledged: 0 });
        assert_eq!(ledger.counts_of(b"d"), Counts::default());
        assert_eq!(ledger.counts()[&text_hash(b"b")], ledger.counts_of(b"b"));
        let HecTotals { batches, accepted, indexed, acknowledged, complete } = ledger.totals();
        assert_eq!((batches, accepted, indexed, acknowledged, complete), (3, 5, 4, 2, true));

        let kept = ledger.events();
        let facts: Vec<_> = kept.iter().map(|e| (&*e.event, e.indexed, e.acknowledged)).collect();
        assert_eq!(facts, [("a", true, true), ("b", true, true), ("b", true, false)]);
    }

    #[test]
    fn a_full_ledger_counts_on_and_says_so() {
        let ledger = HecLedger::new(2, 0);
        batch(&ledger, &["a", "b"]);
        let key = batch(&ledger, &["c"]);
        ledger.index(key);
        ledger.acknowledge(key);
        let totals = ledger.totals();
        assert_eq!((totals.accepted, totals.indexed, totals.acknowledged), (3, 1, 1));
        assert!(!totals.complete);
        assert_eq!(ledger.counts_of(b"c"), Counts::default());
    }

    #[test]
    fn the_file_brings_everything_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hec");
        for room in [100, 2] {
            let ledger = HecLedger::new(room, 0);
            let key = batch(&ledger, &["a"]);
            ledger.index(key);
            ledger.acknowledge(key);
            ledger.index(batch(&ledger, &["b"]));
            batch(&ledger, &["c"]);
            ledger.write_to(&path).unwrap();

            let loaded = HecLedger::load(&path).unwrap();
            assert_eq!(loaded.counts(), ledger.counts());
            assert_eq!(loaded.totals().accepted, 3);
            assert_eq!(loaded.totals().complete, room == 100);
        }
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hec");
        for (content, line) in [
            ("", 1),
            ("forebay-sender-ledger 1\nend\n", 1),
            ("forebay-hec-ledger 1\nindexed 00\n", 3),
            ("forebay-hec-ledger 1\nindexed xy\nend\n", 2),
            ("forebay-hec-ledger 1\nindexed 1\nseen 1\nend\n", 3),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = HecLedger::load(&path).unwrap_err();
            let LedgerError::Format { line: at, .. } = error else { panic!("{error}") };
            assert_eq!(at, line, "{content:?}");
        }
    }
}
