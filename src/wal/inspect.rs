//! Looking at a log without opening it for writing: one that is stopped, or one that a relay has
//! open at this moment.
//!
//! On a stopped log RocksDB opens read-only: nothing on the disk changes, a torn tail included.
//! On one that is in use it opens as a "secondary", which replays the log file of the relay that
//! runs: what is seen is the log as it was at the opening, consistent, and complete but for what
//! the relay writes afterwards. The last group may be seen while its sync is still on its way. All
//! table files are held open, so that a sweep of the relay takes nothing away.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use prost::Message;
use rocksdb::{ColumnFamily, DB, DBRawIterator, Options};
use rustix::process::{Flock, FlockType, fcntl_getlk};
use tempfile::TempDir;

use crate::generated::storage;
use crate::record::{Checkpoint, Record, ValueError, decode_record, decode_value};
use crate::types::{ByteSize, DestinationName, Offset, OffsetRange, SegmentId, Tail, UnixMicros};

use super::catalogue::Segment;
use super::error::{OpenError, ReadError};
use super::handle::SegmentInfo;
use super::recover::{self, db_error};
use super::{keys, options};

/// The families that the first layout had: every store has them.
const FAMILIES: [&str; 5] =
    [keys::RECORDS, keys::SEGMENTS, keys::FRAMES, keys::CURSORS, keys::META];

/// Facts about a store as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFacts {
    /// The layout of its keys.
    pub layout: u32,
    /// Part of the event ids of frames without a frame id.
    pub node: String,
    /// When it was made.
    pub created: UnixMicros,
}

/// A log that is only read.
#[derive(Debug)]
pub struct ReadOnlyLog {
    db: DB,
    path: PathBuf,
    holder: Option<u32>,
    /// The families that this version knows nothing of, too.
    families: Vec<String>,
    /// Where a secondary keeps its own log lines. Goes after the database.
    _scratch: Option<TempDir>,
}

impl ReadOnlyLog {
    /// Opens a log for reading. Not for a log that this process itself has open.
    ///
    /// # Errors
    /// When there is none, when it is foreign or from a newer version, and when RocksDB refuses
    /// it: that is damage which a start would refuse, too.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let io = |path: PathBuf| move |source| OpenError::Io { path, source };
        let current = dir.join("CURRENT");
        if !current.try_exists().map_err(io(current.clone()))? {
            return Err(OpenError::Missing { path: dir.to_owned() });
        }
        let families =
            DB::list_cf(&Options::default(), dir).map_err(|error| db_error(dir, error))?;
        if !FAMILIES.iter().all(|family| families.iter().any(|found| found == family)) {
            return Err(OpenError::Foreign { path: dir.to_owned() });
        }
        let mut database = options::database(options::Opening::Whole);
        database.create_if_missing(false);
        database.create_missing_column_families(false);
        let mut known = options::families();
        known.retain(|family| families.iter().any(|found| found == family.name()));
        let others = families.iter().filter(|name| known.iter().all(|f| f.name() != **name));
        let others: Vec<_> = others
            .map(|name| rocksdb::ColumnFamilyDescriptor::new(name, Options::default()))
            .collect();
        let all = known.into_iter().chain(others);
        let holder = holder(dir).map_err(io(dir.join("LOCK")))?;
        let (db, scratch) = if holder.is_some() {
            // A file that is not open can be deleted by the relay at any moment.
            database.set_max_open_files(-1);
            let scratch = tempfile::Builder::new()
                .prefix("forebay-secondary-")
                .tempdir()
                .map_err(io(std::env::temp_dir()))?;
            let db = DB::open_cf_descriptors_as_secondary(&database, dir, scratch.path(), all);
            (db, Some(scratch))
        } else {
            (DB::open_cf_descriptors_read_only(&database, dir, all, false), None)
        };
        let db = db.map_err(|error| db_error(dir, error))?;
        if holder.is_some() {
            // The relay may have flushed between the reading of its manifest and of its log: what
            // moved from one to the other meanwhile was seen in neither.
            db.try_catch_up_with_primary().map_err(|error| db_error(dir, error))?;
        }
        let log = Self { db, path: dir.to_owned(), holder, families, _scratch: scratch };
        // Damage to the marker is for whoever asks for it; another layout is for nobody.
        if let Ok(Some(marker)) = log.value::<storage::StoreMarker>(keys::META, keys::STORE) {
            recover::check_marker(dir, &marker)?;
        }
        Ok(log)
    }

    /// The process that has the log open, if there is one.
    #[must_use]
    pub const fn used_by(&self) -> Option<u32> {
        self.holder
    }

    /// Facts about the store.
    ///
    /// # Errors
    /// When its marker is missing or damaged.
    pub fn facts(&self) -> Result<StoreFacts, OpenError> {
        let marker = self
            .value::<storage::StoreMarker>(keys::META, keys::STORE)
            .map_err(|error| error.named(&self.path, "the store marker"))?
            .ok_or_else(|| self.inconsistent("there is no store marker"))?;
        Ok(StoreFacts {
            layout: marker.layout,
            node: marker.node,
            created: UnixMicros::new(marker.created_us),
        })
    }

    /// The first retained offset, and how many messages precede it.
    ///
    /// # Errors
    /// When the trim point is damaged.
    pub fn trimmed(&self) -> Result<(Offset, u64), OpenError> {
        let trim = self
            .value::<storage::TrimPoint>(keys::META, keys::TRIM)
            .map_err(|error| error.named(&self.path, "the trim point"))?
            .unwrap_or_default();
        Ok((Offset::new(trim.offset), trim.messages_before))
    }

    /// The segments, the oldest first. The active one is as its last record says, not counted.
    ///
    /// # Errors
    /// When the catalogue or the last record cannot be read.
    pub fn segments(&self) -> Result<Vec<SegmentInfo>, OpenError> {
        let mut all = Vec::new();
        for row in self.catalogue().map_err(|error| db_error(&self.path, error))? {
            let (segment, sealed) = row.map_err(|(what, error)| OpenError::Damaged {
                path: self.path.clone(),
                what,
                source: error,
            })?;
            all.push(segment.info(sealed));
        }
        if let Some(active) = all.last_mut().filter(|segment| !segment.sealed)
            && let Some((offset, record)) = self.last()?
            && offset >= active.frames.start
        {
            active.frames.end = offset.next();
            active.messages = (record.messages_before + u64::from(record.messages))
                .saturating_sub(active.messages_before);
            active.last_received = record.received;
        }
        Ok(all)
    }

    /// The end of the log, and the messages in it.
    ///
    /// # Errors
    /// When the last record or the catalogue cannot be read.
    pub fn tail(&self) -> Result<Tail, OpenError> {
        let all = self.segments()?;
        let bytes = all.iter().map(|segment| segment.bytes.get()).sum();
        let Some(active) = all.last() else {
            return Err(self.inconsistent("the catalogue is empty"));
        };
        let messages = active.messages_before + active.messages;
        Ok(Tail { end: active.frames.end, messages, bytes })
    }

    /// All checkpoints.
    ///
    /// # Errors
    /// When one is damaged.
    pub fn checkpoints(&self) -> Result<Vec<(DestinationName, Checkpoint)>, OpenError> {
        let mut all = Vec::new();
        let rows = self.rows(keys::CURSORS).map_err(|error| db_error(&self.path, error))?;
        for (key, value) in rows {
            let name = std::str::from_utf8(&key).ok().and_then(|n| DestinationName::new(n).ok());
            let name = name.ok_or_else(|| {
                self.inconsistent("a checkpoint has a key that is no destination's name")
            })?;
            let checkpoint = Checkpoint::decode(&value).map_err(|source| OpenError::Damaged {
                path: self.path.clone(),
                what: format!("the checkpoint of {name}"),
                source,
            })?;
            all.push((name, checkpoint));
        }
        Ok(all)
    }

    /// Bytes of all table files of the records.
    #[must_use]
    pub fn file_bytes(&self) -> Option<ByteSize> {
        let family = self.db.cf_handle(keys::RECORDS)?;
        let property = self.db.property_int_value_cf(family, "rocksdb.total-sst-files-size");
        property.ok().flatten().map(ByteSize::bytes)
    }

    /// Calls `visit` with every frame of a range, until it breaks. A damaged one is shown as
    /// such, and so is a gap, at its first offset; what comes behind is still read.
    ///
    /// # Errors
    /// When RocksDB cannot read.
    pub fn read(
        &self,
        range: OffsetRange,
        mut visit: impl FnMut(Offset, Result<Record, Unreadable>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut at = range.start;
        let failed = |at| move |source| ReadError::Db { at, source };
        let mut rows = self.records(range).map_err(failed(at))?;
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            let offset = keys::offset_of(key).unwrap_or(at);
            if offset > at {
                let missing = OffsetRange { start: at, end: offset };
                if visit(at, Err(Unreadable::Missing(missing))).is_break() {
                    return Ok(());
                }
            }
            let record = decode_record(value).map_err(Unreadable::Damaged);
            if visit(offset, record).is_break() {
                return Ok(());
            }
            at = offset.next();
            rows.next();
        }
        rows.status().map_err(failed(at))
    }

    pub(super) fn families(&self) -> impl Iterator<Item = &str> {
        self.families.iter().map(String::as_str)
    }

    /// The catalogue as it is written: each entry, or what is wrong with it.
    pub(super) fn catalogue(&self) -> Result<Vec<Entry>, rocksdb::Error> {
        let rows = self.rows(keys::SEGMENTS)?.into_iter().map(|(key, value)| {
            let id = keys::segment_of(&key).unwrap_or_else(|| SegmentId::new(u64::MAX));
            let wire = decode_value(&value).map_err(|error| (format!("segment {id}"), error))?;
            Ok(Segment::from_wire(id, &wire))
        });
        Ok(rows.collect())
    }

    /// Everything in a family that is small.
    pub(super) fn rows(&self, family: &str) -> Result<Vec<Row>, rocksdb::Error> {
        let mut all = Vec::new();
        self.scan(family, |key, value| all.push((key.to_vec(), value.to_vec())))?;
        Ok(all)
    }

    /// Shows everything in a family.
    pub(super) fn scan(
        &self,
        family: &str,
        mut show: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), rocksdb::Error> {
        let Some(family) = self.db.cf_handle(family) else { return Ok(()) };
        let mut rows = self.db.raw_iterator_cf_opt(family, options::whole());
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            show(key, value);
            rows.next();
        }
        rows.status()
    }

    /// The value under a key, as it is.
    pub(super) fn raw(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, rocksdb::Error> {
        let family: Option<&ColumnFamily> = self.db.cf_handle(family);
        family.map_or(Ok(None), |family| self.db.get_cf(family, key))
    }

    /// A durable message, if there is one under that key.
    pub(super) fn value<M: Message + Default>(
        &self,
        family: &str,
        key: &[u8],
    ) -> Result<Option<M>, ValueOrDb> {
        let value = self.raw(family, key).map_err(ValueOrDb::Db)?;
        value.map(|value| decode_value(&value).map_err(ValueOrDb::Value)).transpose()
    }

    /// The records of a range.
    pub(super) fn records(&self, range: OffsetRange) -> Result<DBRawIterator<'_>, rocksdb::Error> {
        let bounds = options::scan(&keys::record(range.start), &keys::record(range.end));
        // `open` has refused a store without this family.
        let family = self.db.cf_handle(keys::RECORDS);
        Ok(family.map_or_else(
            || self.db.raw_iterator(),
            |family| self.db.raw_iterator_cf_opt(family, bounds),
        ))
    }

    /// The last key of a family.
    pub(super) fn last_key(&self, family: &str) -> Result<Option<Vec<u8>>, rocksdb::Error> {
        let Some(family) = self.db.cf_handle(family) else { return Ok(None) };
        let mut rows = self.db.raw_iterator_cf_opt(family, options::whole());
        rows.seek_to_last();
        let key = rows.key().map(<[u8]>::to_vec);
        rows.status().map(|()| key)
    }

    /// The last record, if it can be read.
    fn last(&self) -> Result<Option<(Offset, Record)>, OpenError> {
        let failed = |error| db_error(&self.path, error);
        let Some(key) = self.last_key(keys::RECORDS).map_err(failed)? else { return Ok(None) };
        let Some(offset) = keys::offset_of(&key) else { return Ok(None) };
        let Some(value) = self.raw(keys::RECORDS, &key).map_err(failed)? else { return Ok(None) };
        let record = decode_record(&value).map_err(|source| OpenError::Damaged {
            path: self.path.clone(),
            what: format!("the frame at offset {offset}"),
            source,
        })?;
        Ok(Some((offset, record)))
    }

    fn inconsistent(&self, what: &str) -> OpenError {
        OpenError::Inconsistent { path: self.path.clone(), what: what.to_owned() }
    }
}

/// A row as it is stored.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// A catalogue entry and whether it is sealed, or its name and what is wrong with it.
pub(super) type Entry = Result<(Segment, bool), (String, ValueError)>;

/// Why a frame cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not what was written.
    #[error("damaged: {0}")]
    Damaged(ValueError),
    /// It is not there.
    #[error("the frames {0} are missing")]
    Missing(OffsetRange),
}

/// Why a stored value cannot be had.
#[derive(Debug)]
pub(super) enum ValueOrDb {
    Db(rocksdb::Error),
    Value(ValueError),
}

impl ValueOrDb {
    fn named(self, path: &Path, what: &str) -> OpenError {
        match self {
            Self::Db(error) => db_error(path, error),
            Self::Value(source) => {
                OpenError::Damaged { path: path.to_owned(), what: what.to_owned(), source }
            }
        }
    }
}

impl std::fmt::Display for ValueOrDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Db(error) => error.fmt(f),
            Self::Value(error) => error.fmt(f),
        }
    }
}

/// The process that holds RocksDB's lock. Asked without taking it: a relay that starts at this
/// moment must not find it taken.
pub(super) fn holder(dir: &Path) -> std::io::Result<Option<u32>> {
    let file = match File::open(dir.join("LOCK")) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let lock = fcntl_getlk(&file, &Flock::from(FlockType::ReadLock))?;
    Ok(lock.map(|lock| lock.pid.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())))
}
