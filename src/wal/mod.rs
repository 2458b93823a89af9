//! The log: every frame that was answered 200, until every destination has it and retention ends.
//!
//! One RocksDB, one thread that writes. What is where:
//!
//! | column family | key | value |
//! |---|---|---|
//! | `records` | offset, 8 bytes big-endian | the frame (`Record`) |
//! | `segments` | segment number, 8 bytes big-endian | the catalogue entry (`Segment`) |
//! | `frames` | hour of arrival, 4 bytes big-endian; 16 bytes of SHA-256 | `FrameKey` |
//! | `cursors` | destination name | `Checkpoint` |
//! | `dead_letters` | destination name, 0, offset and index, big-endian | `DeadLetter` |
//! | `meta` | a name | `StoreMarker`, `TrimPoint`, `LetterTotals` |
//!
//! A segment is a catalogue entry over a range of offsets; its records are dropped whole, by
//! deleting the files that hold nothing else. One column family holds all records, because keys
//! only ascend there: compactions only move files, and nothing is ever rewritten or walked over.
//!
//! # What may be lost
//!
//! Nothing that was answered. [`Durable`] is made by the appender alone, after a synced write,
//! and a 200 cannot be built without one (P1). A frame that was not answered may or may not be
//! in the log after a crash; the sender's retry finds its frame id and is not stored twice (I3).
//!
//! # When something fails
//!
//! The first failed write or sync poisons the log for good (I1): every later append is refused,
//! [`Wal::poisoned`] resolves, the process ends and recovers at the next start. A failed fsync is
//! never retried: the kernel may have dropped the pages it could not write. Running out of space
//! is foreseen instead: below a reserve frames are refused while reads, checkpoints and the
//! dropping of segments go on.

mod append;
mod catalogue;
mod checkpoint;
mod config;
mod dedupe;
mod error;
mod group;
mod handle;
mod keys;
mod letters;
mod options;
mod read;
mod recover;
mod retention;
mod store;
#[cfg(test)]
mod tests;

pub use append::{NewFrame, PreparedFrame};
pub use checkpoint::LowWatermark;
pub use config::Config;
pub use error::{AppendError, CommitError, OpenError, ReadError};
pub use group::{Appended, Durable};
pub use handle::{Wal, WalStatus};
pub use letters::{LetterBook, LetterError, Removal};
pub use read::{Entry, Reader};
pub use recover::RecoveryReport;
pub use retention::SweepError;
