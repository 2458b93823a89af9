//! The database with its families by name.

use std::path::{Path, PathBuf};

use prost::Message;
use rocksdb::{ColumnFamily, DB, WriteBatch};

use crate::record::{ValueError, decode_value};

use super::{keys, options};

/// The open database.
#[derive(Debug)]
pub(super) struct Store {
    db: DB,
    path: PathBuf,
}

/// Why a stored value cannot be had.
#[derive(Debug)]
pub(super) enum GetError {
    Db(rocksdb::Error),
    Value(ValueError),
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, rocksdb::Error> {
        let db = DB::open_cf_descriptors(&options::database(), path, options::families())?;
        Ok(Self { db, path: path.to_owned() })
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
        self.db.write_opt(batch, &options::synced())
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
