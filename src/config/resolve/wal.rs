//! `[wal]`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::parse_duration;
use crate::config::raw::RawSection;
use crate::config::read::{Placed, Reader};
use crate::config::report::{Report, Reported, Scope};
use crate::config::table;
use crate::types::ByteSize;
use crate::wal::{Config, Durability, OnDamage, Storage, WhenFull};

/// The log's settings, but for where it is.
#[derive(Debug)]
pub(super) struct Log {
    segment_size: ByteSize,
    max_size: ByteSize,
    min_free: Placed<ByteSize>,
    retention: Duration,
    dedupe_window: Duration,
    dedupe_memory: ByteSize,
    when_full: WhenFull,
    durability: Durability,
    storage: Storage,
}

impl Log {
    /// The log's settings, in a directory.
    pub(super) fn at(self, dir: PathBuf) -> Config {
        Config {
            dir,
            segment_size: self.segment_size,
            max_size: self.max_size,
            min_free: self.min_free.value,
            retention: self.retention,
            dedupe_window: self.dedupe_window,
            dedupe_memory: self.dedupe_memory,
            when_full: self.when_full,
            durability: self.durability,
            storage: self.storage,
            // Said on the command line, once, and never in a file.
            on_damage: OnDamage::default(),
        }
    }
}

pub(super) fn resolve(root: &RawSection<'_>, report: &mut Report<'_>) -> Result<Log, Reported> {
    let mut reader = Reader::new(root.one("wal"), report);
    let storage =
        reader.choice(&table::STORAGE, &[("disk", Storage::Disk), ("memory", Storage::Memory)]);
    let durability = durability(&mut reader);
    let full = [("hold", WhenFull::Hold), ("drop_oldest", WhenFull::DropOldest)];
    let when_full = reader.choice(&table::WHEN_FULL, &full);
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

    halves?;
    Ok(Log {
        segment_size: segment_size?.value,
        max_size: max_size?.value,
        min_free: min_free?,
        retention: retention?.value,
        dedupe_window: dedupe_window?.value,
        dedupe_memory: dedupe_memory?.value,
        when_full: when_full?,
        durability: durability?,
        storage: storage?,
    })
}

/// What the log has taken has room in table files, whatever the size of its frames.
pub(super) fn takes_what_is_unflushed(log: &Log, max_body: ByteSize, report: &mut Report<'_>) {
    let least = Config::most_unflushed(max_body);
    if log.storage == Storage::Memory || log.min_free.value >= least {
        return;
    }
    let problem = format!(
        "{} is less than what may still have to go into table files when bodies have up to {max_body} \
         (ingest.max_body)",
        log.min_free.value
    );
    let fix = format!("write at least {least}, or make ingest.max_body smaller");
    report.mistake(Scope::File, table::MIN_FREE.path, log.min_free.at, problem, fix);
}

/// `fsync`, `none`, or `interval:` with a duration.
fn durability(reader: &mut Reader<'_, '_, '_>) -> Result<Durability, Reported> {
    let key = &table::DURABILITY;
    let words = reader.text(key)?;
    let text = words.value.text.as_str();
    let every = match text {
        "fsync" => return Ok(Durability::Fsync),
        "none" => return Ok(Durability::None),
        _ => text.strip_prefix("interval:").and_then(|every| parse_duration(every).ok()),
    };
    match every {
        Some(every) if (SHORTEST..=LONGEST).contains(&every) => Ok(Durability::Interval(every)),
        Some(_) => {
            let problem = format!("the interval in {} is out of bounds", words.value.shown);
            let fix = "write an interval from 10ms to 1m, such as \"interval:100ms\"";
            Err(reader.mistake(key, words.at, problem, fix))
        }
        None => {
            let problem = format!(
                "{} is not \"fsync\", \"interval:\" with a duration, or \"none\"",
                words.value.shown
            );
            let fix = "write \"fsync\", or, to lose up to that much in a power cut, such as \
                       \"interval:100ms\"";
            Err(reader.mistake(key, words.at, problem, fix))
        }
    }
}

/// The bounds of an interval between syncs: less is `fsync` with more work, more is `none`.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_mins(1);

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
