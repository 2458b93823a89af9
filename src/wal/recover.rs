//! Opening the log: what is trusted, what is counted again, what is refused.
//!
//! Trusted: what RocksDB gives back (it has checked its own checksums), the marker, the trim
//! point, and the seals of the catalogue, if they fit together. Counted again: the active
//! segment, record by record with its crc, since its catalogue entry is only written when it is
//! opened and sealed. So the work is bounded by one segment and by what RocksDB had not flushed,
//! not by the backlog. Mended: a torn last record of RocksDB's log (`preflight.rs`). Refused, each
//! with what to do about it: a store that another process has open, a foreign store, a newer
//! layout or format, a damaged or missing file of RocksDB, a damaged value, a catalogue with
//! holes, a log that has lost its end. What an operator may let go, with `--recover` and
//! `--skip-damaged`: frames are given up as ranges of offsets, counted, and written down (`gaps.rs`);
//! all else is mended in the store before it is compared (`salvage.rs`).

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rocksdb::{DB, Options, WriteBatch};

use crate::clock;
use crate::generated::storage;
use crate::record::{FORMAT, ValueError, decode_value, encode_value};
use crate::types::{Offset, OffsetRange, SegmentId, Tail, UnixMicros};

use super::append::Request;
use super::catalogue::{Catalogue, Segment};
use super::config::{Config, Storage};
use super::count::{self, Lost};
use super::dedupe::{Dedupe, hour};
use super::error::OpenError;
use super::gaps::{self, Floor, Gap, GapCause, Gaps};
use super::group::Appender;
use super::handle::{Closer, Wal};
use super::options::Opening;
use super::preflight::{self, OPEN_LIMIT, TornTail};
use super::shared::{Found, Shared};
use super::store::{GetError, Store};
use super::{checkpoint, keys, letters, replays, salvage, witness};

/// The layout of keys and families this version writes.
const LAYOUT: u32 = 1;
const PRODUCT: &str = "forebay";

/// Frames that may wait for the appender. They are bounded in bytes by ingest's permits; this bounds
/// their number.
pub(super) const FRAMES: usize = 16 * 1024;

/// Requests that may wait beside them: checkpoints, letters, replays, trims. While the disk hangs,
/// frames that their senders have given up stay in the queue; these must find a place all the same.
pub(super) const BESIDE: usize = 1024;

/// What opening found.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Last records of RocksDB's log that were not whole, and were cut off: never answered, and
    /// left by a power cut or by a process that ended while it wrote.
    pub torn: Vec<TornTail>,
    /// Frames that this start has given up, as an operator wished.
    pub given_up: Vec<OffsetRange>,
    /// How long it took.
    pub took: Duration,
}

pub(super) fn open(config: Config) -> Result<(Wal, RecoveryReport), OpenError> {
    let started = clock::instant();
    let (mut store, torn) = match config.storage {
        Storage::Memory => {
            let dir = &config.dir;
            (Store::in_memory().map_err(|error| db_error(dir, error))?, Vec::new())
        }
        Storage::Disk => on_disk(&config)?,
    };
    let seen = match config.storage {
        Storage::Memory => None,
        Storage::Disk => witness::read(&config.dir)?,
    };
    salvage::mend(&mut store, config.on_damage, seen.as_ref())?;
    let (marker, created) = marker(&store, seen.as_ref().filter(|_| !config.on_damage.recover))?;
    // A witness of another store says nothing about this one.
    let seen = seen.filter(|seen| seen.node == marker.node || created);
    let trim = get::<storage::TrimPoint>(&store, keys::META, keys::TRIM, "the trim point")?;
    let trimmed = Offset::new(trim.unwrap_or_default().offset);
    let mut gaps = Gaps::read(&store)?;
    let (mut catalogue, mut lost) = catalogue(&store, &config, trimmed, &gaps)?;
    lost.extend(missing_end(&store, &config, &mut catalogue, seen.as_ref())?);
    let recounted = catalogue.active.end.since(catalogue.active.first);
    let given_up: Vec<_> = lost.iter().map(|lost| lost.range).collect();
    give_up(&store, &mut gaps, lost, trimmed)?;
    let dedupe = remembered(&store, &config)?;
    let letters = letters::read_books(&store)?;
    let replays = replays::read_all(&store)?;
    let tail = Tail {
        end: catalogue.active.end,
        messages: catalogue.active.messages_end(),
        bytes: catalogue.bytes(),
    };
    let report = RecoveryReport {
        created,
        first: trimmed,
        end: tail.end,
        segments: catalogue.sealed().len() + 1,
        recounted,
        frame_ids: dedupe.len(),
        torn,
        given_up,
        took: clock::instant() - started,
    };
    let (requests, queue) = crossbeam_channel::bounded::<Request>(FRAMES + BESIDE);
    let oldest = catalogue.sealed().front().unwrap_or(&catalogue.active);
    let floor = Floor { offset: oldest.first, messages_before: oldest.messages_before };
    let report_too = report.clone();
    let node = marker.node;
    let found =
        Found { node, catalogue, tail, trimmed, gaps, letters, replays, report: report_too };
    let shared = Arc::new(Shared::new(config, store, found));
    // RocksDB has replayed its log into files by now, synced.
    shared.witness(tail);
    let appender = Appender::new(Arc::clone(&shared), queue.clone(), dedupe, tail, floor);
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

fn on_disk(config: &Config) -> Result<(Store, Vec<TornTail>), OpenError> {
    make_directory(&config.dir)?;
    let lock = preflight::lock(&config.dir)?;
    let logs = preflight::look(config)?;
    let dir = config.dir.clone();
    preflight::within(OPEN_LIMIT, &config.dir, move || refuse_foreign(&dir))?;
    let torn = preflight::mend(config, &logs)?;
    for torn in &torn {
        tracing::warn!(
            file = %torn.file.display(),
            at = torn.at,
            bytes = torn.bytes,
            records = torn.records,
            "the log ended in a record that was not whole, and was cut there: a power cut, or the \
             end of the process, came while it was written, so nobody was told that it is durable"
        );
    }
    let opening = if config.on_damage.recover { Opening::Salvaged } else { Opening::Whole };
    let dir = config.dir.clone();
    let store = preflight::within(OPEN_LIMIT, &config.dir, move || {
        Store::open(&dir, opening, Some(lock)).map_err(|error| db_error(&dir, error))
    })?;
    Ok((store, torn))
}

/// Where the log ends before the place that something else has seen, frames are missing. Refused,
/// or given up, if an operator wishes so: their offsets are not used again.
fn missing_end(
    store: &Store,
    config: &Config,
    catalogue: &mut Catalogue,
    seen: Option<&witness::Witness>,
) -> Result<Option<Lost>, OpenError> {
    let active = &mut catalogue.active;
    let (mut end, mut messages) = (active.end, active.messages_end());
    if let Some(seen) = seen {
        (end, messages) = (end.max(seen.end), messages.max(seen.messages));
    }
    let allowed = config.on_damage.recover || config.on_damage.skip_damaged;
    if end > active.end && !allowed {
        let (path, seen) = (store.path().to_owned(), end);
        return Err(OpenError::WentBack { path, end: active.end, seen });
    }
    if allowed {
        // No cursor may stand at an offset that is given out a second time.
        for (_, checkpoint) in checkpoint::read_all(store)? {
            let position = checkpoint.position;
            let behind = if position.index > 0 { position.offset.next() } else { position.offset };
            (end, messages) = (end.max(behind), messages.max(gaps::settled(&checkpoint)));
        }
    }
    if end <= active.end {
        return Ok(None);
    }
    let lost = Lost {
        range: OffsetRange { start: active.end, end },
        messages_before: active.messages_end(),
        messages: messages.saturating_sub(active.messages_end()),
    };
    active.pass(end, lost.messages);
    Ok(Some(lost))
}

/// Writes down what is given up, for operators and for the reader, before anything goes on.
fn give_up(
    store: &Store,
    gaps: &mut Gaps,
    lost: Vec<Lost>,
    trimmed: Offset,
) -> Result<(), OpenError> {
    if lost.is_empty() {
        return Ok(());
    }
    let checkpoints = checkpoint::read_all(store)?;
    let now = clock::unix_micros();
    let mut batch = WriteBatch::default();
    for Lost { range, messages_before, messages } in lost {
        let mut gap = Gap {
            cause: GapCause::Damage,
            range,
            messages_before,
            messages,
            first_recorded: now,
            last_recorded: now,
            losses: Vec::new(),
        };
        let losses = checkpoints.iter().map(|(name, at)| (name.clone(), gap.lost_by(at)));
        gap.losses = losses.filter(|(_, messages)| *messages > 0).collect();
        tracing::error!(
            frames = %range,
            messages,
            losses = ?gap.losses.iter().map(|(n, m)| format!("{n}: {m}")).collect::<Vec<_>>(),
            "frames are damaged or missing and are given up, as an operator wished: every \
             destination that has not got them counts them as dropped"
        );
        gaps::stage(store, &mut batch, gaps.add(gap, trimmed));
    }
    store.write_synced(batch).map_err(|error| db_error(store.path(), error))
}

/// Makes the directory and those above it that are missing, and their names durable: without that,
/// a power cut could take the whole log with the name of its directory.
fn make_directory(dir: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::DirBuilderExt;
    let missing: Vec<&Path> = dir
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !above.exists())
        .collect();
    // Customers' logs are nobody else's business.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| preflight::io_error(dir, source))?;
    for made in missing {
        let above = made.parent().filter(|above| !above.as_os_str().is_empty());
        let above = above.unwrap_or_else(|| Path::new("."));
        std::fs::File::open(above)
            .and_then(|above| above.sync_all())
            .map_err(|source| preflight::io_error(above, source))?;
    }
    Ok(())
}

/// Refuses a database that forebay did not make, before anything of it is changed.
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
fn marker(
    store: &Store,
    seen: Option<&witness::Witness>,
) -> Result<(storage::StoreMarker, bool), OpenError> {
    let path = || store.path().to_owned();
    let found = get::<storage::StoreMarker>(store, keys::META, keys::STORE, "the store marker")?;
    if let Some(marker) = found {
        check_marker(store.path(), &marker)?;
        return Ok((marker, false));
    }
    // A start that was killed while it made the store leaves empty families and no marker.
    for family in keys::ALL.into_iter().chain(["default"]) {
        if !store.is_empty(family).map_err(|error| db_error(store.path(), error))? {
            return Err(OpenError::Foreign { path: path() });
        }
    }
    if let Some(seen) = seen {
        // It was in use before, and what it held was in log files that are gone.
        let (path, seen) = (path(), seen.end);
        return Err(OpenError::WentBack { path, end: Offset::ZERO, seen });
    }
    let now = clock::unix_micros();
    let node = uuid::Uuid::new_v4().simple().to_string();
    let marker = fresh_marker(node.chars().take(12).collect());
    let first = Segment::new(SegmentId::new(0), Offset::ZERO, 0, now);
    let mut batch = WriteBatch::default();
    batch.put_cf(store.family(keys::META), keys::STORE, encode_value(&marker));
    let entry = encode_value(&first.to_wire(false));
    batch.put_cf(store.family(keys::SEGMENTS), keys::segment(first.id), entry);
    store.write_synced(batch).map_err(|error| db_error(store.path(), error))?;
    Ok((marker, true))
}

/// The marker of a store of this name that is made now.
pub(super) fn fresh_marker(node: String) -> storage::StoreMarker {
    let created_us = clock::unix_micros().get();
    storage::StoreMarker { product: PRODUCT.to_owned(), layout: LAYOUT, node, created_us }
}

/// Refuses what another program or a newer forebay has made.
pub(super) fn check_marker(path: &Path, marker: &storage::StoreMarker) -> Result<(), OpenError> {
    let path = || path.to_owned();
    if marker.product != PRODUCT {
        return Err(OpenError::Foreign { path: path() });
    }
    if marker.layout != LAYOUT {
        let (found, supported) = (marker.layout, LAYOUT);
        return Err(OpenError::Layout { path: path(), found, supported });
    }
    Ok(())
}

/// The entries of the catalogue, the oldest first, and whether each is sealed.
pub(super) fn catalogue_rows(store: &Store) -> Result<Vec<(Segment, bool)>, OpenError> {
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
    Ok(rows)
}

/// The catalogue, with the active segment counted again, and the frames that are given up.
fn catalogue(
    store: &Store,
    config: &Config,
    trimmed: Offset,
    gaps: &Gaps,
) -> Result<(Catalogue, Vec<Lost>), OpenError> {
    let mut rows = catalogue_rows(store)?;
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
    let mut lost = Vec::new();
    for segment in sealed.iter().skip(sealed.len() - count::looked_at(&sealed, config.on_damage)) {
        lost.extend(count::sealed(store, segment, gaps, config.on_damage)?);
    }
    lost.extend(count::active(store, &mut active, gaps, config.on_damage)?);
    Ok((Catalogue::new(sealed, active), lost))
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
    let said = source.as_ref();
    // RocksDB has no kinds of its own for these; the text is the only sign.
    if source.kind() == rocksdb::ErrorKind::IOError && said.contains("/LOCK") {
        return OpenError::Locked { path, holder: said.to_owned() };
    }
    if source.kind() == rocksdb::ErrorKind::Corruption && said.contains("Missing WAL") {
        return OpenError::LostLog { path, what: said.to_owned() };
    }
    let missing = || said.contains("No such file or directory");
    if source.kind() == rocksdb::ErrorKind::Corruption
        || source.kind() == rocksdb::ErrorKind::IOError && missing()
    {
        return OpenError::Unreadable { path, source };
    }
    OpenError::Db { path, source }
}

pub(super) fn damaged(store: &Store, what: &str, source: ValueError) -> OpenError {
    let (path, what) = (store.path().to_owned(), what.to_owned());
    match source {
        ValueError::Format(found) => OpenError::Newer { path, what, found, supported: FORMAT },
        ValueError::Short(_) | ValueError::Crc { .. } | ValueError::Decode => {
            OpenError::Damaged { path, what, source }
        }
    }
}

/// Two values contradict each other, or a key is none.
pub(super) fn inconsistent(store: &Store, what: String) -> OpenError {
    OpenError::Contradiction { path: store.path().to_owned(), what }
}
