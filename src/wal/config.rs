//! What the log is told.

use std::path::PathBuf;
use std::time::Duration;

use crate::types::ByteSize;

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
    /// (`wal.min_free`). Has to stay above twice RocksDB's write buffer: RocksDB only resumes
    /// after a full disk when about one write buffer is free.
    pub min_free: ByteSize,
    /// How long delivered frames are kept for replays (`wal.retention`).
    pub retention: Duration,
    /// For how long a frame id is remembered (`wal.dedupe_window`).
    pub dedupe_window: Duration,
    /// The most memory the dedupe index may take (`wal.dedupe_memory`). When it is full, the
    /// oldest hour is forgotten first.
    pub dedupe_memory: ByteSize,
}
