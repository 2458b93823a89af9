//! Opening the log: what is trusted, what is counted again, what is refused.
//!
//! Trusted: what RocksDB gives back (it has checked its own checksums), the marker, the trim
//! point, and the seals of the catalogue, if they fit together. Counted again: the active
//! segment, record by record with its crc, since its catalogue entry is only written when it is
//! opened and sealed. So the work is bounded by one segment, not by the backlog. Refused: a
//! foreign store, a newer layout, a damaged value, a catalogue with holes.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rocksdb::{DB, Options, WriteBatch};

use crate::clock;
use crate::generated::storage;
use crate::record::{ValueError, decode_record, decode_value, encode_value};
use crate::types::{Offset, SegmentId, Tail, UnixMicros};

use super::append::Request;
use super::catalogue::{Catalogue, Segment};
use super::config::Config;
use super::dedupe::{Dedupe, hour};
use super::error::OpenError;
use super::group::Appender;
use super::handle::{Closer, Shared, Wal};
use super::keys;
use super::letters;
use super::store::{GetError, Store};

/// The layout of keys and families this version writes.
const LAYOUT: u32 = 1;
const PRODUCT: &str = "forebay";

/// Requests that may wait for the appender. Frames are bounded in bytes by ingest's permits; this
/// bounds their number.
const QUEUE: usize = 16 * 1024;

/// What opening found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the store was made just now.
    pub created: bool,
    /// The first retained offset.
    pub first: Offset,
    /// The durable end.
    pub end: Offset,
    /// Segments, the active one included.
    pub segments: usize,
    /// Frames that were counted again.
    pub recounted: u64,
    /// Frame ids that are remembered.
    pub frame_ids: usize,
    /// How long it took.
    pub took: Duration,
}

pub(super) fn open(config: Config) -> Result<(Wal, RecoveryReport), OpenError> {
    let started = clock::instant();
    make_directory(&config.dir)?;
    refuse_foreign(&config.dir)?;
    let store = Store::open(&config.dir).map_err(|error| db_error(&config.dir, error))?;
    let (marker, created) = marker(&store)?;
    let trim = get::<storage::TrimPoint>(&store, keys::META, keys::TRIM, "the trim point")?;
    let trimmed = Offset::new(trim.unwrap_or_default().offset);
    let (catalogue, recounted) = catalogue(&store, trimmed)?;
    let dedupe = remembered(&store, &config)?;
    let letters = letters::read_books(&store)?;
    let tail = Tail {
        end: catalogue.active.end,
        messages: catalogue.active.messages_end(),
        bytes: catalogue.bytes(),
    };
    let report = RecoveryReport {
        created,
        first: trimmed,
        end: tail.end,
        segments: catalogue.sealed.len() + 1,
        recounted,
        frame_ids: dedupe.len(),
        took: clock::instant() - started,
    };
    let (requests, queue) = crossbeam_channel::bounded::<Request>(QUEUE);
    let shared = Shared::new(config, store, marker.node, catalogue, tail, trimmed, letters);
    let shared = Arc::new(shared);
    let appender = Appender::new(Arc::clone(&shared), queue.clone(), dedupe, tail);
    let (alive, ended) = crossbeam_channel::bounded::<()>(0);
    std::thread::Builder::new()
        .name("appender".to_owned())
        .spawn(move || {
            // Goes after the appender with its hold on the store, when that panics too.
            let _alive = alive;
            appender.run();
        })
        .map_err(OpenError::Thread)?;
    let closer = Arc::new(Closer::new(requests.clone(), ended));
    Ok((Wal { shared, requests, left: queue, closer }, report))
}

fn make_directory(dir: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::DirBuilderExt;
    // Customers' logs are nobody else's business.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| OpenError::Io { path: dir.to_owned(), source })
}

/// Refuses a database that forebay did not make, before opening it for writing changes it.
fn refuse_foreign(dir: &Path) -> Result<(), OpenError> {
    let current = dir.join("CURRENT");
    let exists = current.try_exists().map_err(|source| OpenError::Io { path: current, source })?;
    if !exists {
        return Ok(());
    }
    let families = DB::list_cf(&Options::default(), dir).map_err(|e| db_error(dir, e))?;
    let ours = |name: &String| name == "default" || keys::ALL.contains(&name.as_str());
    let foreign = || Err(OpenError::Foreign { path: dir.to_owned() });
    if !families.iter().all(ours) {
        return foreign();
    }
    let needed = keys::ALL.iter().filter(|family| !keys::ADDED.contains(family));
    if needed.into_iter().all(|family| families.iter().any(|found| found == family)) {
        return Ok(());
    }
    // What lacks a family is left from a start that was killed, and empty, or is not ours.
    let db = DB::open_cf_for_read_only(&Options::default(), dir, &families, false)
        .map_err(|error| db_error(dir, error))?;
    for family in families.iter().filter_map(|name| db.cf_handle(name)) {
        let mut rows = db.raw_iterator_cf(family);
        rows.seek_to_first();
        if rows.valid() {
            return foreign();
        }
        rows.status().map_err(|error| db_error(dir, error))?;
    }
    Ok(())
}

/// The marker, made when the store is new.
fn marker(store: &Store) -> Result<(storage::StoreMarker, bool), OpenError> {
    let path = || store.path().to_owned();
    let found = get::<storage::StoreMarker>(store, keys::META, keys::STORE, "the store marker")?;
    if let Some(marker) = found {
        if marker.product != PRODUCT {
            return Err(OpenError::Foreign { path: path() });
        }
        if marker.layout != LAYOUT {
            let (found, supported) = (marker.layout, LAYOUT);
            return Err(OpenError::Layout { path: path(), found, supported });
        }
        return Ok((marker, false));
    }
    // A start that was killed while it made the store leaves empty families and no marker.
    for family in keys::ALL.into_iter().chain(["default"]) {
        if !store.is_empty(family).map_err(|error| db_error(store.path(), error))? {
            return Err(OpenError::Foreign { path: path() });
        }
    }
    let now = clock::unix_micros();
    let node = uuid::Uuid::new_v4().simple().to_string();
    let marker = storage::StoreMarker {
        product: PRODUCT.to_owned(),
        layout: LAYOUT,
        node: node.chars().take(12).collect(),
        created_us: now.get(),
    };
    let first = Segment::new(SegmentId::new(0), Offset::ZERO, 0, now);
    let mut batch = WriteBatch::default();
    batch.put_cf(store.family(keys::META), keys::STORE, encode_value(&marker));
    let entry = encode_value(&first.to_wire(false));
    batch.put_cf(store.family(keys::SEGMENTS), keys::segment(first.id), entry);
    store.write_synced(batch).map_err(|error| db_error(store.path(), error))?;
    Ok((marker, true))
}

/// The catalogue, with the active segment counted again. Returns how many frames that were.
fn catalogue(store: &Store, trimmed: Offset) -> Result<(Catalogue, u64), OpenError> {
    let mut rows: Vec<(Segment, bool)> = Vec::new();
    scan(store, keys::SEGMENTS, &[], |key, value| {
        let id = keys::segment_of(key).ok_or_else(|| {
            inconsistent(store, "a segment has a key that is no number".to_owned())
        })?;
        let wire =
            decode_value(value).map_err(|error| damaged(store, &format!("segment {id}"), error))?;
        rows.push(Segment::from_wire(id, &wire));
        Ok(())
    })?;
    let Some((mut active, false)) = rows.pop() else {
        return Err(inconsistent(store, "the catalogue has no active segment".to_owned()));
    };
    let mut sealed = VecDeque::with_capacity(rows.len());
    for (segment, is_sealed) in rows {
        if !is_sealed {
            let what = format!("segment {} is not sealed, and not the last", segment.id);
            return Err(inconsistent(store, what));
        }
        sealed.push_back(segment);
    }
    let ends = sealed.iter().map(|segment: &Segment| segment.end);
    let firsts = sealed.iter().skip(1).chain([&active]).map(|segment: &Segment| segment.first);
    if let Some((end, first)) = ends.zip(firsts).find(|(end, first)| end != first) {
        let what = format!("a segment ends at offset {end}, the next begins at {first}");
        return Err(inconsistent(store, what));
    }
    let oldest = sealed.front().unwrap_or(&active).first;
    if oldest != trimmed {
        let what = format!("the log is trimmed to {trimmed}, the oldest segment is {oldest}");
        return Err(inconsistent(store, what));
    }
    recount(store, &mut active)?;
    let recounted = active.end.since(active.first);
    Ok((Catalogue { sealed, active }, recounted))
}

/// Reads the active segment to its end, which is the end of the log.
fn recount(store: &Store, active: &mut Segment) -> Result<(), OpenError> {
    let from = keys::record(active.first);
    scan(store, keys::RECORDS, &from, |key, value| {
        let offset = keys::offset_of(key)
            .ok_or_else(|| inconsistent(store, "a frame has a key that is no offset".to_owned()))?;
        let record = decode_record(value)
            .map_err(|error| damaged(store, &format!("the frame at offset {offset}"), error))?;
        let (end, before) = (active.end, active.messages_end());
        if (offset, record.messages_before) != (end, before) {
            let what = format!(
                "the frame at offset {offset} says that {} messages precede it; expected is \
                 offset {end} after {before} messages",
                record.messages_before
            );
            return Err(inconsistent(store, what));
        }
        active.push(record.messages, value.len(), record.received);
        Ok(())
    })
}

fn remembered(store: &Store, config: &Config) -> Result<Dedupe, OpenError> {
    let now = clock::unix_micros();
    let mut dedupe = Dedupe::new(config.dedupe_window, config.dedupe_memory);
    let window = i64::try_from(config.dedupe_window.as_micros()).unwrap_or(i64::MAX);
    let from = hour(UnixMicros::new(now.get().saturating_sub(window)));
    scan(store, keys::FRAMES, &from.to_be_bytes(), |key, _| {
        let (hour, digest) = keys::frame_of(key).ok_or_else(|| {
            inconsistent(store, "a frame id has a key of wrong length".to_owned())
        })?;
        dedupe.load(hour, &digest);
        dedupe.expire(now);
        Ok(())
    })?;
    Ok(dedupe)
}

pub(super) fn scan(
    store: &Store,
    family: &str,
    from: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let mut failure = None;
    let result = store.scan::<Stop>(family, from, |key, value| {
        visit(key, value).map_err(|error| {
            failure = Some(error);
            Stop(None)
        })
    });
    match (result, failure) {
        (_, Some(error)) => Err(error),
        (Err(Stop(Some(error))), None) => Err(db_error(store.path(), error)),
        (Ok(()) | Err(Stop(None)), None) => Ok(()),
    }
}

/// Ends a scan: RocksDB's error, or none when the visitor has its own.
struct Stop(Option<rocksdb::Error>);

impl From<rocksdb::Error> for Stop {
    fn from(error: rocksdb::Error) -> Self {
        Self(Some(error))
    }
}

pub(super) fn get<M: prost::Message + Default>(
    store: &Store,
    family: &str,
    key: &[u8],
    what: &str,
) -> Result<Option<M>, OpenError> {
    store.get(family, key).map_err(|error| match error {
        GetError::Db(error) => db_error(store.path(), error),
        GetError::Value(error) => damaged(store, what, error),
    })
}

pub(super) fn db_error(path: &Path, source: rocksdb::Error) -> OpenError {
    let path = path.to_owned();
    // RocksDB has no kind of its own for this; the text is the only sign.
    if source.kind() == rocksdb::ErrorKind::IOError && source.as_ref().contains("/LOCK") {
        return OpenError::Locked { path, source };
    }
    OpenError::Db { path, source }
}

pub(super) fn damaged(store: &Store, what: &str, source: ValueError) -> OpenError {
    OpenError::Damaged { path: store.path().to_owned(), what: what.to_owned(), source }
}

pub(super) fn inconsistent(store: &Store, what: String) -> OpenError {
    OpenError::Inconsistent { path: store.path().to_owned(), what }
}
