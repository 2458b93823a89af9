//! The database with its families by name.

use std::fs::File;
use std::path::{Path, PathBuf};

use prost::Message;
use rocksdb::{ColumnFamily, DB, Env, WriteBatch};

use crate::record::{ValueError, decode_value};

use super::keys;
use super::options::{self, Opening};

/// The open database.
pub(super) struct Store {
    db: DB,
    path: PathBuf,
    /// Keeps other processes out. Goes after the database; none when it is in memory.
    _lock: Option<File>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Whether a write waits until it is on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    Now,
    Later,
}

/// Why a stored value cannot be had.
#[derive(Debug)]
pub(super) enum GetError {
    Db(rocksdb::Error),
    Value(ValueError),
}

impl Store {
    /// Opens or makes the store in a directory, which `lock` belongs to.
    pub(super) fn open(
        path: &Path,
        opening: Opening,
        lock: Option<File>,
    ) -> Result<Self, rocksdb::Error> {
        let options = options::database(opening);
        let db = DB::open_cf_descriptors(&options, path, options::families())?;
        Ok(Self { db, path: path.to_owned(), _lock: lock })
    }

    /// Makes a store in memory.
    pub(super) fn in_memory() -> Result<Self, rocksdb::Error> {
        let mut options = options::database(Opening::Whole);
        options.set_env(&Env::mem_env()?);
        let path = PathBuf::from("/memory");
        let db = DB::open_cf_descriptors(&options, &path, options::families())?;
        Ok(Self { db, path, _lock: None })
    }

    pub(super) const fn db(&self) -> &DB {
        &self.db
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    #[expect(clippy::expect_used, reason = "open() opens every family in keys::ALL or fails")]
    pub(super) fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family is opened with the store")
    }

    /// Writes and syncs. When this returns, the batch is durable; when it fails, nobody knows.
    pub(super) fn write_synced(&self, batch: WriteBatch) -> Result<(), rocksdb::Error> {
        self.write(batch, Sync::Now)
    }

    /// Writes. A synced write takes everything before it along.
    pub(super) fn write(&self, batch: WriteBatch, sync: Sync) -> Result<(), rocksdb::Error> {
        self.db.write_opt(batch, &options::write(sync))
    }

    /// Syncs what was written without.
    pub(super) fn sync(&self) -> Result<(), rocksdb::Error> {
        self.db.flush_wal(true)
    }

    /// A durable message, if there is one under that key.
    pub(super) fn get<M: Message + Default>(
        &self,
        family: &str,
        key: &[u8],
    ) -> Result<Option<M>, GetError> {
        let value = self.db.get_pinned_cf(self.family(family), key).map_err(GetError::Db)?;
        value.map(|value| decode_value(&value).map_err(GetError::Value)).transpose()
    }

    /// Calls `visit` with every key and value of a family from `from` on, until it says stop.
    pub(super) fn scan<E: From<rocksdb::Error>>(
        &self,
        family: &str,
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rows = self.db.raw_iterator_cf(self.family(family));
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            visit(key, value)?;
            rows.next();
        }
        rows.status().map_err(E::from)
    }

    /// Makes a small family anew, empty, whatever is in its files.
    pub(super) fn renew(&mut self, family: &str) -> Result<(), rocksdb::Error> {
        self.db.drop_cf(family)?;
        self.db.create_cf(family, &options::small_family())
    }

    /// Behind the last key of the records, from what RocksDB knows of its files without reading them.
    /// Right when nothing was written since the opening, which has put all there is into files.
    pub(super) fn last_record_by_files(&self) -> Result<Option<Vec<u8>>, rocksdb::Error> {
        let files = self.db.live_files()?.into_iter();
        let records = files.filter(|file| file.column_family_name == keys::RECORDS);
        Ok(records.filter_map(|file| file.end_key).max())
    }

    /// Whether a family holds nothing.
    pub(super) fn is_empty(&self, family: &str) -> Result<bool, rocksdb::Error> {
        let mut rows = self.db.raw_iterator_cf(self.family(family));
        rows.seek_to_first();
        let empty = !rows.valid();
        rows.status().map(|()| empty)
    }

    /// Deletes the files that hold nothing but records below `end`. What is left of a file that
    /// spans `end` goes with a later call; readers never look there.
    pub(super) fn delete_files_below(
        &self,
        family: &str,
        last: &[u8],
    ) -> Result<(), rocksdb::Error> {
        // RocksDB takes the upper end as inclusive here, unlike everywhere else.
        self.db.delete_file_in_range_cf(self.family(family), &[][..], last)
    }

    /// Bytes of all table files of the records.
    pub(super) fn record_file_bytes(&self) -> Option<u64> {
        let family = self.family(keys::RECORDS);
        self.db.property_int_value_cf(family, "rocksdb.total-sst-files-size").ok().flatten()
    }
}
