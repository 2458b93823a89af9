//! `[wal]`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::raw::RawSection;
use crate::config::read::{Placed, Reader};
use crate::config::report::{Report, Reported, Scope};
use crate::config::table;
use crate::types::ByteSize;
use crate::wal::Config;

/// The log's settings, but for where it is.
#[derive(Debug)]
pub(super) struct Log {
    segment_size: ByteSize,
    max_size: ByteSize,
    min_free: ByteSize,
    retention: Duration,
    dedupe_window: Duration,
    dedupe_memory: ByteSize,
}

impl Log {
    /// The log's settings, in a directory.
    pub(super) fn at(self, dir: PathBuf) -> Config {
        let Self { segment_size, max_size, min_free, retention, dedupe_window, dedupe_memory } =
            self;
        Config { dir, segment_size, max_size, min_free, retention, dedupe_window, dedupe_memory }
    }
}

pub(super) fn resolve(root: &RawSection<'_>, report: &mut Report<'_>) -> Result<Log, Reported> {
    let mut reader = Reader::new(root.one("wal"), report);
    // One word each so far: read, so that another is refused.
    let storage = reader.choice(&table::STORAGE, &[("disk", ())]);
    let durability = reader.choice(&table::DURABILITY, &[("fsync", ())]);
    let when_full = reader.choice(&table::WHEN_FULL, &[("hold", ())]);
    let segment_size = reader.size(&table::SEGMENT_SIZE);
    let max_size = reader.size(&table::MAX_SIZE);
    let min_free = reader.size(&table::MIN_FREE);
    let retention = reader.time(&table::RETENTION);
    let dedupe_window = reader.time(&table::DEDUPE_WINDOW);
    let dedupe_memory = reader.size(&table::DEDUPE_MEMORY);
    let halves = match (&segment_size, &max_size) {
        (Ok(segment_size), Ok(max_size)) => two_segments(segment_size, max_size, report),
        _ => Ok(()),
    };

    storage?;
    durability?;
    when_full?;
    halves?;
    Ok(Log {
        segment_size: segment_size?.value,
        max_size: max_size?.value,
        min_free: min_free?.value,
        retention: retention?.value,
        dedupe_window: dedupe_window?.value,
        dedupe_memory: dedupe_memory?.value,
    })
}

/// Space is given back a segment at a time, and never the active one.
fn two_segments(
    segment_size: &Placed<ByteSize>,
    max_size: &Placed<ByteSize>,
    report: &mut Report<'_>,
) -> Result<(), Reported> {
    let most = max_size.value.get().div_euclid(2);
    if segment_size.value.get() <= most {
        return Ok(());
    }
    let problem =
        format!("{} is more than half of wal.max_size ({})", segment_size.value, max_size.value);
    let at = segment_size.at.or(max_size.at);
    let fix = format!("write at most {}, or make wal.max_size larger", ByteSize::bytes(most));
    Err(report.mistake(Scope::File, table::SEGMENT_SIZE.path, at, problem, fix))
}
