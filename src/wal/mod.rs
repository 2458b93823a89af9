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
//! `meta` also holds the gaps (`gap/` and the first offset: what some destination never gets), the
//! replays (`replay/` and the id) and what the last close wrote (`closed`). Beside RocksDB's files lies `WITNESS`: how far the log had
//! come when it was last looked at, so that a store which has lost files is not taken for a
//! shorter one.
//!
//! # Opening
//!
//! The directory is locked for this process. RocksDB's log is read before RocksDB reads it: a
//! torn last record is cut off, damage is refused (`preflight.rs` says why RocksDB is not asked).
//! RocksDB opens under a watchdog. Then marker, trim point and catalogue are compared, the active
//! segment is counted again, and the end is compared with the witness. What an operator lets go
//! with `--recover` or `--skip-damaged` becomes a gap: offsets are never given out twice, and
//! every destination that lacks the frames counts their messages as dropped.
//!
//! # What may be lost
//!
//! Nothing that was answered, with `wal.durability = "fsync"`; [`Config::promise`] says what the
//! weaker settings mean. [`Durable`] is made by the appender alone, after a synced write,
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
mod count;
mod dedupe;
mod error;
mod failpoint;
mod gaps;
mod group;
mod handle;
mod inspect;
mod keys;
mod letters;
mod options;
mod place;
mod preflight;
mod read;
mod recover;
mod replays;
mod retention;
mod rocks_log;
mod salvage;
mod shared;
mod store;
#[cfg(test)]
mod tests;
mod verify;
mod witness;

pub use append::{NewFrame, PreparedFrame};
pub use checkpoint::LowWatermark;
pub use config::{Config, Durability, OnDamage, Storage, WhenFull};
pub use error::{AppendError, CommitError, OpenError, ReadError, RemoveError, ReplayError};
pub use gaps::{Floor, Gap, GapCause};
pub use group::{Appended, Durable};
pub use handle::{Closed, Orphan, SegmentInfo, Wal, WalStatus};
pub use inspect::{ReadOnlyLog, StoreFacts, Unreadable};
pub use letters::{LetterBook, LetterError, Removal};
pub use place::{Located, Place, PlaceError, Retained, SeekError};
pub use preflight::TornTail;
pub use read::{Entry, Reader};
pub use recover::RecoveryReport;
pub use retention::SweepError;
pub use verify::{Defect, Part, Verification};
