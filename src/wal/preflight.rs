//! Before RocksDB opens the store: is it ours alone, is it whole, and if not, may it be mended?
//!
//! In order, and nothing is changed before the store is locked:
//!
//! 1. The lock. What follows may cut a file, which must not be another process's. Other programs that
//!    use RocksDB or LevelDB lock `LOCK`, not the directory: that is asked for, too.
//! 2. `CURRENT` is there, if anything of a store is: RocksDB would make a new one over the rest.
//! 3. The MANIFEST and every log file are read (`rocks_log.rs`).
//! 4. The MANIFEST names our column families, and no others (`recover.rs`): a log of a database that
//!    is not ours is not for us to cut.
//!
//! A log that ends in a record which is not whole was torn: by a power cut, or by a process that
//! ended while it wrote. The appender writes one record, syncs, and only then answers, so a tear
//! can only be the last record, and nobody was told that it is durable. The file is cut at the
//! end of its last whole record, and the report says so. Where a whole record lies behind the one
//! that is not, acknowledged data is damaged: that is never mended without being told to.
//!
//! Cutting is what RocksDB's `PointInTime` would do in memory. Doing it in the file makes it last:
//! were the torn file still there at the next start, with newer files behind it, it would look
//! like damage.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::{Config, Durability};
use super::error::OpenError;
use super::inspect;
use super::rocks_log::{self, Content, Survey};

/// The longest that opening may take. RocksDB replays at most a gigabyte of its log, which takes
/// seconds; an open that has not ended by now hangs.
pub(super) const OPEN_LIMIT: Duration = Duration::from_mins(10);

/// A torn last record, which was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file of RocksDB's log.
    pub file: PathBuf,
    /// Where the record began, and the file ends now.
    pub at: u64,
    /// How many bytes there were of it.
    pub bytes: u64,
    /// Whole records behind it that went too: only where `wal.durability` is not `fsync`, and so
    /// none of them was promised to outlive a power cut.
    pub records: u64,
}

/// Takes the store for this process. The lock goes with the file.
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
    let file = File::open(dir).map_err(|source| io_error(dir, source))?;
    match file.try_lock() {
        Ok(()) => match inspect::holder(dir) {
            Ok(None) => Ok(file),
            Ok(Some(pid)) => Err(OpenError::Locked { path: dir.to_owned(), holder: process(pid) }),
            Err(source) => Err(io_error(&dir.join("LOCK"), source)),
        },
        Err(TryLockError::WouldBlock) => {
            let holder = holder(&file).unwrap_or_else(|| "the system does not say which".into());
            Err(OpenError::Locked { path: dir.to_owned(), holder })
        }
        Err(TryLockError::Error(source)) => Err(io_error(dir, source)),
    }
}

/// Who holds a lock on the file, as Linux has it.
fn holder(file: &File) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{}", file.metadata().ok()?.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let mut words = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`
    let pid = words.find_map(|words| match words.as_slice() {
        [_, "FLOCK", _, _, pid, place, ..] if place.ends_with(&inode) => pid.parse::<u32>().ok(),
        _ => None,
    })?;
    Some(process(pid))
}

fn process(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("process {pid} ({})", name.trim_end())
}

/// A file of RocksDB's log: its number, what it holds, and where it is.
pub(super) type Log = (u64, Survey, PathBuf);

/// Looks at the files of a store that is locked. Changes nothing.
pub(super) fn look(config: &Config) -> Result<Vec<Log>, OpenError> {
    let files = Files::list(&config.dir)?;
    if !files.current {
        // A start that was killed while it made the store may leave a MANIFEST, and no data.
        if let Some(left) = files.data.first() {
            let path = config.dir.join("CURRENT");
            return Err(OpenError::Lost { path, left: left.clone() });
        }
        return Ok(Vec::new());
    }
    if let Some(path) = current_manifest(&config.dir)?
        && let Some(file) = exists(&path)?
    {
        let found = survey(&path, file, 0, Content::Edits)?;
        if let (Some(at), 1..) = (found.broken, found.behind) {
            return Err(OpenError::DamagedFile { path, at, records: found.behind });
        }
    }
    let mut found = Vec::new();
    for (number, path) in files.logs {
        let file = File::open(&path).map_err(|source| io_error(&path, source))?;
        found.push((number, survey(&path, file, number, Content::Batches)?, path));
    }
    Ok(found)
}

/// Mends what may be mended of the log files of a store that is ours.
pub(super) fn mend(config: &Config, logs: &[Log]) -> Result<Vec<TornTail>, OpenError> {
    let Some(first) = logs.iter().position(|(_, survey, _)| survey.broken.is_some()) else {
        return Ok(Vec::new());
    };
    let later = logs.get(first..).unwrap_or_default();
    let behind = later.iter().enumerate().map(|(n, (_, survey, _))| {
        if n == 0 { survey.behind } else { survey.records + survey.behind }
    });
    let behind: u64 = behind.sum();
    let salvage = behind > 0 && config.durability == Durability::Fsync;
    if salvage && !config.on_damage.recover {
        let (at, path) = later
            .first()
            .map(|(_, survey, path)| (survey.broken.unwrap_or_default(), path.clone()))
            .unwrap_or_default();
        return Err(OpenError::DamagedLog { path, at, records: behind });
    }
    let mut torn = Vec::new();
    for (n, (number, survey, path)) in later.iter().enumerate() {
        if salvage {
            if survey.broken.is_some() {
                rewrite(*number, path)?;
            }
            continue;
        }
        // Without a promise behind it, nothing behind the first tear can be told from chance:
        // what is kept is what lies before it.
        let at = if n == 0 { survey.whole } else { 0 };
        let records = if n == 0 { survey.behind } else { survey.records + survey.behind };
        if at < survey.len {
            cut(path, at)?;
            let (file, bytes) = (path.clone(), survey.len - at);
            torn.push(TornTail { file, at, bytes, records });
        }
    }
    Ok(torn)
}

fn cut(path: &Path, at: u64) -> Result<(), OpenError> {
    let cut = || {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(at)?;
        file.sync_all()
    };
    cut().map_err(|source| io_error(path, source))
}

/// Writes a damaged log file anew, with every record of it that is whole. The damaged one stays
/// beside it under another name.
fn rewrite(number: u64, path: &Path) -> Result<(), OpenError> {
    let (fresh, kept) = (path.with_extension("salvaged"), path.with_extension("damaged"));
    let write = || {
        let to = File::create(&fresh)?;
        let records = rocks_log::salvage(File::open(path)?, number, io::BufWriter::new(&to))?;
        to.sync_all()?;
        // The damaged file is complete under one of its names at any moment.
        if !kept.try_exists()? {
            std::fs::hard_link(path, &kept)?;
        }
        std::fs::rename(&fresh, path)?;
        Ok(records)
    };
    let records = write().map_err(|source| io_error(path, source))?;
    tracing::error!(
        file = %path.display(),
        kept_as = %kept.display(),
        records,
        "a damaged log file was written anew with its whole records, as --recover allows"
    );
    Ok(())
}

fn survey(path: &Path, file: File, number: u64, content: Content) -> Result<Survey, OpenError> {
    rocks_log::survey(file, number, content).map_err(|source| io_error(path, source))
}

/// The MANIFEST that `CURRENT` names.
fn current_manifest(dir: &Path) -> Result<Option<PathBuf>, OpenError> {
    let path = dir.join("CURRENT");
    let text = std::fs::read(&path).map_err(|source| io_error(&path, source))?;
    let name = text.strip_suffix(b"\n").and_then(|name| std::str::from_utf8(name).ok());
    let name = name.filter(|name| name.starts_with("MANIFEST-") && !name.contains('/'));
    match name {
        Some(name) => Ok(Some(dir.join(name))),
        None => Err(OpenError::Inconsistent {
            path,
            what: "does not name a MANIFEST: the file is damaged. Restore it from a copy"
                .to_owned(),
        }),
    }
}

fn exists(path: &Path) -> Result<Option<File>, OpenError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        // RocksDB says it better, with what it looked for.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error(path, source)),
    }
}

/// What is in the directory.
pub(super) struct Files {
    current: bool,
    /// RocksDB's log files with their numbers, the oldest first.
    pub(super) logs: Vec<(u64, PathBuf)>,
    /// Files that hold data.
    data: Vec<PathBuf>,
}

impl Files {
    pub(super) fn list(dir: &Path) -> Result<Self, OpenError> {
        let mut files = Self { current: false, logs: Vec::new(), data: Vec::new() };
        let entries = std::fs::read_dir(dir).map_err(|source| io_error(dir, source))?;
        for entry in entries {
            let path = entry.map_err(|source| io_error(dir, source))?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            let kind = path.extension().and_then(|kind| kind.to_str());
            files.current |= path.file_name().is_some_and(|name| name == "CURRENT");
            match (number, kind) {
                (Some(number), Some("log")) => {
                    files.logs.push((number, path.clone()));
                    files.data.push(path);
                }
                (Some(_), Some("sst")) => files.data.push(path),
                _ if path.file_name().is_some_and(|name| name == super::witness::FILE) => {
                    files.data.push(path);
                }
                _ => {}
            }
        }
        files.logs.sort();
        files.data.sort();
        Ok(files)
    }
}

pub(super) fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}

/// Runs `work` on a thread of its own, and stops waiting for it when it takes too long.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    dir: &Path,
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let (done, result) = crossbeam_channel::bounded(1);
    std::thread::Builder::new()
        .name("open".to_owned())
        // Nobody listens any more when the time is over.
        .spawn(move || drop(done.send(work())))
        .map_err(OpenError::Thread)?;
    match result.recv_timeout(limit) {
        Ok(result) => result,
        Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
            Err(OpenError::Hangs { path: dir.to_owned(), after: limit })
        }
        Err(crossbeam_channel::RecvTimeoutError::Disconnected) => {
            let what = "bug: opening has panicked".to_owned();
            Err(OpenError::Inconsistent { path: dir.to_owned(), what })
        }
    }
}
