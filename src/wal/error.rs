//! What can go wrong, and what each failure obliges the caller to do.

use std::path::PathBuf;

use crate::record::ValueError;
use crate::types::{Offset, OffsetRange};

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
    #[error("{path} is in use by another process: {source}")]
    Locked {
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
    #[error("{path}: {what} is damaged: {source}")]
    Damaged {
        /// The store.
        path: PathBuf,
        /// Which value.
        what: String,
        /// How.
        source: ValueError,
    },
    /// Two values contradict each other.
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
    /// The position lies below what is retained.
    #[error("offset {at} is no longer retained; the log begins at {first}")]
    Trimmed {
        /// What was asked for.
        at: Offset,
        /// The first offset there is.
        first: Offset,
    },
}
