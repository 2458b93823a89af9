//! What can go wrong, and what each failure obliges the caller to do.

use std::path::PathBuf;

use crate::record::ValueError;
use crate::types::{DestinationName, Offset, OffsetRange};

/// The store cannot be opened. The process ends with exit code 74.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or looked at.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the store open.
    #[error("{path} is in use by another process: {holder}")]
    Locked {
        /// The store.
        path: PathBuf,
        /// Who, or what RocksDB said.
        holder: String,
    },
    /// A file that holds acknowledged data is damaged, with more of it behind the damage.
    #[error(
        "{path} is damaged at byte {at}; {records} records that were acknowledged lie behind that. \
         Nothing was changed. Restore the file from a copy, or run `forebay serve --recover` once: \
         it keeps every record that is whole, counts what is missing as dropped, and goes on"
    )]
    DamagedLog {
        /// The file of RocksDB's log.
        path: PathBuf,
        /// Where the first record begins that is not whole.
        at: u64,
        /// Whole records behind it.
        records: u64,
    },
    /// RocksDB's list of its files is damaged.
    #[error(
        "{path} is damaged at byte {at}, with {records} whole entries behind that: RocksDB does not \
         know its files any more. Nothing was changed. Restore the directory from a copy"
    )]
    DamagedFile {
        /// The file.
        path: PathBuf,
        /// Where the first entry begins that is not whole.
        at: u64,
        /// Whole entries behind it.
        records: u64,
    },
    /// A file without which the others mean nothing.
    #[error(
        "{path} is missing, but {left} is there: the store has lost files. Nothing was changed. \
         Restore the directory from a copy, or move what is left away to begin anew"
    )]
    Lost {
        /// What is missing.
        path: PathBuf,
        /// What is there.
        left: PathBuf,
    },
    /// A file of RocksDB's log is missing.
    #[error(
        "{path} has lost a file of RocksDB's log: {what} Restore it from a copy, or run `forebay \
         serve --recover` once: it counts what is missing as dropped, and goes on"
    )]
    LostLog {
        /// The store.
        path: PathBuf,
        /// What RocksDB said.
        what: String,
    },
    /// The log is shorter than it was seen to be.
    #[error(
        "{path}: the log ends at offset {end}, but had come to {seen} when it was last looked at: \
         at least {} acknowledged frames are missing, or files are. Restore the directory from a copy, or run `forebay serve --recover` once: it \
         counts what is missing as dropped, and goes on",
        .seen.since(*.end)
    )]
    WentBack {
        /// The store.
        path: PathBuf,
        /// Where it ends.
        end: Offset,
        /// Where it ended before.
        seen: Offset,
    },
    /// Opening does not come to an end.
    #[error(
        "{path}: RocksDB has not opened the store within {after:?}, and hangs: its files are \
         damaged in a way that it does not notice, or the disk does not answer. Nothing is known \
         to be lost. Look at the disk, then restore the directory from a copy"
    )]
    Hangs {
        /// The store.
        path: PathBuf,
        /// How long it was given.
        after: std::time::Duration,
    },
    /// A value of a format that this version does not know.
    #[error(
        "{path}: {what} has value format {found}, this version reads format {supported}; use a \
         newer forebay, or, if none ever ran here, it is damaged: then `forebay serve --skip-damaged` \
         goes on without it"
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Which value.
        what: String,
        /// Its format.
        found: u8,
        /// The format this version knows.
        supported: u8,
    },
    /// RocksDB finds a file damaged, or misses it.
    #[error(
        "{path}: {source}. Restore the directory from a copy, or run `forebay serve --skip-damaged` \
         once: it goes on without what cannot be read, and counts it. When it says the same, RocksDB \
         does not open its files at all, and only a copy helps"
    )]
    Unreadable {
        /// The store.
        path: PathBuf,
        /// What RocksDB said.
        source: rocksdb::Error,
    },
    /// RocksDB refuses.
    #[error("{path}: {source}")]
    Db {
        /// The store.
        path: PathBuf,
        /// What RocksDB said.
        source: rocksdb::Error,
    },
    /// The directory holds a database that forebay did not make.
    #[error("{path} holds a RocksDB that is not forebay's; set data_dir to a directory of its own")]
    Foreign {
        /// The store.
        path: PathBuf,
    },
    /// A newer forebay made this store.
    #[error(
        "{path} has layout {found}, this version reads layout {supported}; use a newer forebay"
    )]
    Layout {
        /// The store.
        path: PathBuf,
        /// The layout it has.
        found: u32,
        /// The layout this version knows.
        supported: u32,
    },
    /// A value is not what was written.
    #[error(
        "{path}: {what} is damaged: {source}. Restore the directory from a copy, or run `forebay serve \
         --skip-damaged` once: it goes on without what is damaged, and counts it"
    )]
    Damaged {
        /// The store.
        path: PathBuf,
        /// Which value.
        what: String,
        /// How.
        source: ValueError,
    },
    /// Two values contradict each other.
    #[error(
        "{path}: {what}. Restore the directory from a copy, or run `forebay serve --recover`, or with \
         --skip-damaged, once: they make fit what can be made to, and count what is missing. When they \
         say the same, only a copy helps"
    )]
    Contradiction {
        /// The store.
        path: PathBuf,
        /// The contradiction.
        what: String,
    },
    /// Something is not as it has to be.
    #[error("{path}: {what}")]
    Inconsistent {
        /// The store.
        path: PathBuf,
        /// The contradiction.
        what: String,
    },
    /// There is no log in the directory.
    #[error("{path} holds no log; name the directory that is data_dir in the configuration")]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// No thread for the appender.
    #[error("cannot start the appender thread: {0}")]
    Thread(std::io::Error),
}

/// A frame is not in the log. None of these can be the sender's fault, so none may become a 4xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// `max_size` is reached, or less than `min_free` is left. Passes when segments are dropped.
    #[error("no space is left for frames")]
    NoSpace,
    /// More frames wait than the queue holds. Passes.
    #[error("too many frames wait for the disk")]
    Overloaded,
    /// The relay stops.
    #[error("the log is closed")]
    Stopping,
    /// A write or a sync failed: the frame may or may not be durable, and the process ends.
    #[error("the log failed and takes no more frames")]
    Poisoned,
}

/// A checkpoint is not durable: whatever it would have allowed must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The relay stops.
    #[error("the log is closed")]
    Stopping,
    /// A write or a sync failed, and the process ends.
    #[error("the log failed and takes no more writes")]
    Poisoned,
}

/// A destination's cursor is not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// It is in use.
    #[error("{0} is configured: its cursor is in use. Remove the destination first, and restart")]
    Configured(DestinationName),
    /// There is none.
    #[error("there is no cursor of a destination {0}")]
    Unknown(DestinationName),
    /// The checkpoints cannot be read.
    #[error(transparent)]
    Read(#[from] OpenError),
    /// The removal is not durable.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// A stretch of the log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// RocksDB cannot read.
    #[error("cannot read the log at offset {at}: {source}")]
    Db {
        /// Where.
        at: Offset,
        /// What RocksDB said.
        source: rocksdb::Error,
    },
    /// A record is not what was written.
    #[error("the frame at offset {at} is damaged: {source}")]
    Damaged {
        /// Where.
        at: Offset,
        /// How.
        source: ValueError,
    },
    /// Records that should be there are not.
    #[error("the frames {missing} are missing from the log")]
    Gap {
        /// Which.
        missing: OffsetRange,
    },
    /// The frames were damaged or lost, and an operator has let them go: they count as dropped.
    #[error("the frames {range} were damaged and given up")]
    GivenUp {
        /// Which.
        range: OffsetRange,
        /// Messages in the log before the end of the stretch.
        messages_end: u64,
    },
    /// The position lies below what is retained.
    #[error("offset {at} is no longer retained; the log begins at {first}")]
    Trimmed {
        /// What was asked for.
        at: Offset,
        /// The first offset there is.
        first: Offset,
    },
}

/// A replay does not begin.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Its stretch is not there any more.
    #[error("offset {at} is no longer retained; the log begins at {first}")]
    NotRetained {
        /// Where it was to begin.
        at: Offset,
        /// The first offset there is.
        first: Offset,
    },
    /// So many are to be sent already.
    #[error("{0} replays are open already")]
    TooMany(usize),
    /// The log takes nothing more.
    #[error(transparent)]
    Commit(#[from] CommitError),
}
