//! What the log is told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::types::ByteSize;

use super::group::GROUP_BYTES;
use super::options::{WRITE_BUFFER, WRITE_BUFFERS};

/// The log's settings. Built by `config`, which has checked them.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory the store lives in (`data_dir`). Created when missing.
    pub dir: PathBuf,
    /// A segment is sealed when it holds this much (`wal.segment_size`).
    pub segment_size: ByteSize,
    /// The log takes no more frames when it holds this much (`wal.max_size`).
    pub max_size: ByteSize,
    /// The log takes no more frames when the file system has less than this free
    /// (`wal.min_free`). Has to be [`Self::most_unflushed`] at least: what is in RocksDB's log is
    /// still to be written to table files when the last frame has been taken.
    pub min_free: ByteSize,
    /// How long delivered frames are kept for replays (`wal.retention`).
    pub retention: Duration,
    /// For how long a frame id is remembered (`wal.dedupe_window`).
    pub dedupe_window: Duration,
    /// The most memory the dedupe index may take (`wal.dedupe_memory`). When it is full, the
    /// oldest hour is forgotten first.
    pub dedupe_memory: ByteSize,
    /// What happens when undelivered frames fill the log (`wal.when_full`).
    pub when_full: WhenFull,
    /// What has happened to a frame before it is answered (`wal.durability`).
    pub durability: Durability,
    /// Where the log is kept (`wal.storage`).
    pub storage: Storage,
    /// What an operator has said about damage (`forebay serve --recover --skip-damaged`).
    pub on_damage: OnDamage,
}

/// What happens when frames that are not delivered fill the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// No more frames are taken. Nothing is lost.
    #[default]
    Hold,
    /// The oldest sealed segment goes, delivered or not. What a destination loses is counted.
    DropOldest,
}

/// What has happened to a frame before it is answered, and so what a 200 means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It is on stable storage.
    #[default]
    Fsync,
    /// It has been handed to the system, which is told to put it on stable storage at least this
    /// often. A power cut takes what came since; the end of the process takes nothing.
    Interval(Duration),
    /// It has been handed to the system, which puts it on stable storage when it likes. A power
    /// cut takes what it likes; the end of the process takes nothing.
    None,
}

/// As it is written in the configuration.
impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fsync => f.write_str("fsync"),
            Self::Interval(every) => write!(f, "interval:{}ms", every.as_millis()),
            Self::None => f.write_str("none"),
        }
    }
}

/// Where the log is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In `dir`.
    #[default]
    Disk,
    /// In memory: nothing outlives the process. For trials and tests.
    Memory,
}

/// What a start may do about damage, beyond refusing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnDamage {
    /// Go on without the records of RocksDB's log that are damaged or lost, and mend what contradicts
    /// itself without them.
    pub recover: bool,
    /// Read every retained frame, and go on without those that are damaged, and without every other
    /// value that is.
    pub skip_damaged: bool,
}

impl Config {
    /// The most bytes of frames that are in memory and RocksDB's log, and in no table file yet, when a
    /// frame may have a body of `max_body`. A write buffer is full when it has 16 MiB, and
    /// then it may have taken a group beyond that: which ends with the frame that fills it.
    #[must_use]
    pub const fn most_unflushed(max_body: ByteSize) -> ByteSize {
        let buffer = (WRITE_BUFFER + GROUP_BYTES) as u64 + max_body.get();
        ByteSize::bytes(buffer.saturating_mul(WRITE_BUFFERS.unsigned_abs() as u64))
    }

    /// What a 200 means, in a sentence for people.
    #[must_use]
    pub fn promise(&self) -> &'static str {
        match (self.storage, self.durability) {
            (Storage::Memory, _) => {
                "a frame is answered when it is in memory: nothing outlives the process"
            }
            (Storage::Disk, Durability::Fsync) => {
                "a frame is answered when it is on stable storage: neither the end of the process \
                 nor a power cut takes it"
            }
            (Storage::Disk, Durability::Interval(_)) => {
                "a frame is answered when the system has it: the end of the process does not take \
                 it, a power cut takes what came since the last sync"
            }
            (Storage::Disk, Durability::None) => {
                "a frame is answered when the system has it: the end of the process does not take \
                 it, a power cut may"
            }
        }
    }
}
