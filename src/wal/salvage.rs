//! What an operator lets go beside the frames: `--recover` and `--skip-damaged`, for everything that is
//! small.
//!
//! A batch that is damaged in RocksDB's log takes more along than its frame: the seal of a segment, a
//! trim, a dead letter, a checkpoint. What comes behind it then contradicts what was before. And a table
//! file of a small family may not read, or a value in it not decode. Here this is mended in the store,
//! before the start looks at it as it always does:
//!
//! - The catalogue is made to fit from its neighbours, the trim point and the records. How many messages
//!   a segment holds is always known: the next one says how many precede it.
//! - The totals of dead letters say what is there; what is missing counts as lost.
//! - A cursor that is damaged begins again at the oldest frame there is, and one that stands before it
//!   is moved there: nothing is passed over that could be sent.
//! - A family that does not read is made anew with the rows that do. For the frame ids that is none:
//!   frames that their senders send again may be stored twice.
//!
//! Values are only given up with `--skip-damaged`. Each is named in the log. It can be broken off and
//! done again at any moment, but for the one between the end of a family and its beginning: the runbook
//! has the directory copied first.

use std::collections::BTreeMap;

use rocksdb::WriteBatch;

use crate::clock;
use crate::generated::storage;
use crate::record::{
    Checkpoint, DeadLetter, LetterTotals, Replay, decode_record, decode_value, encode_value,
};
use crate::types::{DestinationName, Offset, SegmentId, UnixMicros};

use super::catalogue::Segment;
use super::config::OnDamage;
use super::error::OpenError;
use super::gaps::{Floor, Gap};
use super::recover::{db_error, get, inconsistent, scan};
use super::store::Store;
use super::witness::Witness;
use super::{checkpoint, keys, letters, options, recover, replays};

/// The families that are small.
const SMALL: [&str; 5] = [keys::SEGMENTS, keys::FRAMES, keys::CURSORS, keys::META, keys::LETTERS];

/// Mends what an operator allows. Frames are not looked at for damage (`count.rs`).
pub(super) fn mend(
    store: &mut Store,
    allowed: OnDamage,
    seen: Option<&Witness>,
) -> Result<(), OpenError> {
    if allowed == OnDamage::default() || is_new(store) {
        return Ok(());
    }
    if allowed.skip_damaged {
        for family in SMALL {
            renew(store, family)?;
        }
    }
    marker(store, seen)?;
    let gone = if allowed.skip_damaged { undecodable(store)? } else { Gone::default() };
    let oldest = mend_catalogue(store, gone.trim)?;
    cursors(store, oldest, &gone.cursors)?;
    letter_totals(store)
}

/// Whether there is nothing in it: it is made by this start. What does not read is something.
fn is_new(store: &Store) -> bool {
    keys::ALL.into_iter().all(|family| store.is_empty(family).is_ok_and(|empty| empty))
}

type Row = (Vec<u8>, Vec<u8>);

/// Makes a family anew when it cannot be read to its end, with what can. The bounds of a family bound
/// what is held here: dead letters have theirs in the configuration, of frame ids nothing is kept.
fn renew(store: &mut Store, family: &str) -> Result<(), OpenError> {
    let path = store.path().to_owned();
    let failed = |error| db_error(&path, error);
    let keep = family != keys::FRAMES;
    let mut rows: Vec<Row> = Vec::new();
    let error = {
        let mut all = store.db().raw_iterator_cf_opt(store.family(family), options::whole());
        all.seek_to_first();
        while let Some((key, value)) = all.item() {
            if keep {
                rows.push((key.to_vec(), value.to_vec()));
            }
            all.next();
        }
        let Err(error) = all.status() else { return Ok(()) };
        // What lies behind the damage, from the end.
        let last = rows.last().map(|(key, _)| key.clone());
        let mut all = store.db().raw_iterator_cf_opt(store.family(family), options::whole());
        all.seek_to_last();
        while let Some((key, value)) = all.item().filter(|_| keep) {
            if last.as_ref().is_some_and(|last| key <= last.as_slice()) {
                break;
            }
            rows.push((key.to_vec(), value.to_vec()));
            all.prev();
        }
        error
    };
    let lost = match family {
        keys::FRAMES => "frames that their senders send again may be stored twice",
        keys::CURSORS => "a destination whose cursor is gone begins where `destination.start` says",
        _ => "what cannot be read of it is given up",
    };
    tracing::error!(family, %error, kept = rows.len(), "a part of the store does not read, and is \
         made anew, as an operator wished: {lost}");
    store.renew(family).map_err(failed)?;
    let mut batch = WriteBatch::default();
    for (key, value) in rows {
        batch.put_cf(store.family(family), key, value);
    }
    store.write_synced(batch).map_err(failed)
}

fn given_up(what: &str, error: &dyn std::fmt::Display) {
    tracing::error!(%error, "{what} is damaged and given up, as an operator wished");
}

/// The store's own name, from the witness, when it is gone: other names would give events other ids.
fn marker(store: &Store, seen: Option<&Witness>) -> Result<(), OpenError> {
    let family = store.family(keys::META);
    let value = store.db().get_cf(family, keys::STORE).map_err(|e| db_error(store.path(), e))?;
    let value = value.map(|value| decode_value::<storage::StoreMarker>(&value));
    let error = match value {
        // A newer layout is nothing to be mended.
        Some(Ok(marker)) => return recover::check_marker(store.path(), &marker),
        Some(Err(error)) => error.to_string(),
        None => "it is missing".to_owned(),
    };
    let Some(seen) = seen else {
        let what = format!(
            "the store marker cannot be read ({error}), and there is no WITNESS that has its name: \
             nothing says that this is forebay's, or which one"
        );
        return Err(inconsistent(store, what));
    };
    tracing::error!(error, node = seen.node, "the store marker is made anew from the witness");
    let mut batch = WriteBatch::default();
    let fresh = recover::fresh_marker(seen.node.clone());
    batch.put_cf(family, keys::STORE, encode_value(&fresh));
    store.write_synced(batch).map_err(|error| db_error(store.path(), error))
}

/// What was damaged and is missing now.
#[derive(Default)]
struct Gone {
    cursors: Vec<DestinationName>,
    trim: bool,
}

/// Removes every value that does not decode, and says so.
fn undecodable(store: &Store) -> Result<Gone, OpenError> {
    let mut gone = Gone::default();
    let mut batch = WriteBatch::default();
    for family in SMALL {
        scan(store, family, &[], |key, value| {
            let shown = || key.escape_ascii().to_string();
            let odd = || "its key is none".to_owned();
            let bad = match family {
                keys::SEGMENTS => match keys::segment_of(key) {
                    Some(id) => decode_value::<storage::Segment>(value)
                        .err()
                        .map(|error| (format!("segment {id}"), error.to_string())),
                    None => Some((format!("the segment {}", shown()), odd())),
                },
                keys::CURSORS => {
                    let text = std::str::from_utf8(key).ok();
                    match text.and_then(|name| DestinationName::new(name).ok()) {
                        Some(name) => Checkpoint::decode(value).err().map(|error| {
                            gone.cursors.push(name.clone());
                            (format!("the checkpoint of {name}"), error.to_string())
                        }),
                        None => Some((format!("the checkpoint {}", shown()), odd())),
                    }
                }
                keys::LETTERS => match keys::letter_of(key) {
                    Some((name, at)) => DeadLetter::decode(value).err().map(|error| {
                        (format!("the dead letter {at} of {name}"), error.to_string())
                    }),
                    None => Some((format!("the dead letter {}", shown()), odd())),
                },
                keys::FRAMES => keys::frame_of(key)
                    .is_none()
                    .then(|| (format!("the frame id {}", shown()), odd())),
                _ => fact(key, value).map(|error| (format!("the fact {}", shown()), error)),
            };
            if let Some((what, error)) = bad {
                given_up(&what, &error);
                gone.trim |= family == keys::META && key == keys::TRIM;
                batch.delete_cf(store.family(family), key);
            }
            Ok(())
        })?;
    }
    store.write_synced(batch).map_err(|error| db_error(store.path(), error))?;
    Ok(gone)
}

/// What is wrong with a fact about the store. The marker is not for this.
fn fact(key: &[u8], value: &[u8]) -> Option<String> {
    let error = if key == keys::TRIM {
        decode_value::<storage::TrimPoint>(value).err()
    } else if key.starts_with(keys::LETTER_TOTALS) {
        LetterTotals::decode(value).err()
    } else if key.starts_with(keys::GAP) {
        Gap::decode(value).err()
    } else if key.starts_with(keys::REPLAY) {
        Replay::decode(value).err()
    } else {
        None
    };
    error.map(|error| error.to_string())
}

/// Makes the catalogue fit together, and to the trim point; returns where the log begins.
fn mend_catalogue(store: &Store, trim_is_gone: bool) -> Result<Floor, OpenError> {
    let rows = recover::catalogue_rows(store)?;
    let trim = get::<storage::TrimPoint>(store, keys::META, keys::TRIM, "the trim point")?;
    let trim = trim.unwrap_or_default();
    let known = (!trim_is_gone).then_some(Floor {
        offset: Offset::new(trim.offset),
        messages_before: trim.messages_before,
    });
    let before: BTreeMap<_, _> =
        rows.iter().map(|(segment, sealed)| (segment.id, segment.to_wire(*sealed))).collect();
    let (mut sealed, mut active) = joined(store, rows, known)?;
    let floor = known.unwrap_or_else(|| {
        let oldest = sealed.first().unwrap_or(&active);
        Floor { offset: oldest.first, messages_before: oldest.messages_before }
    });
    sealed.retain(|segment| segment.end > floor.offset);
    begin_at(store, &mut sealed, &mut active, floor)?;

    let after: BTreeMap<_, _> = sealed
        .iter()
        .map(|segment| (segment.id, segment.to_wire(true)))
        .chain([(active.id, active.to_wire(false))])
        .collect();
    let family = store.family(keys::SEGMENTS);
    let mut batch = WriteBatch::default();
    for id in before.keys().filter(|id| !after.contains_key(id)) {
        tracing::error!(segment = %id, "lies below the trim point, and leaves the catalogue");
        batch.delete_cf(family, keys::segment(*id));
    }
    for (id, wire) in after.iter().filter(|(id, wire)| before.get(id) != Some(wire)) {
        tracing::error!(segment = %id, "is made anew in the catalogue from what is around it");
        batch.put_cf(family, keys::segment(*id), encode_value(wire));
    }
    if trim_is_gone {
        let point = storage::TrimPoint {
            offset: floor.offset.get(),
            messages_before: floor.messages_before,
        };
        batch.put_cf(store.family(keys::META), keys::TRIM, encode_value(&point));
    }
    store.write_synced(batch).map_err(|error| db_error(store.path(), error))?;
    Ok(floor)
}

/// The segments one behind the other, and the active one: seals that are lost are made of the segment
/// behind, and what is missing in between becomes one segment.
fn joined(
    store: &Store,
    rows: Vec<(Segment, bool)>,
    trim: Option<Floor>,
) -> Result<(Vec<Segment>, Segment), OpenError> {
    let now = clock::unix_micros();
    let mut sealed: Vec<Segment> = Vec::with_capacity(rows.len());
    let mut open = None;
    for (segment, is_sealed) in rows {
        if let Some(last) = open.take() {
            sealed.push(ended(store, last, &segment)?);
        }
        if let Some(last) = sealed.last().filter(|last| last.end < segment.first) {
            let (id, fresh) = (last.id.next(), last.opened_next(now));
            if id >= segment.id {
                let what = format!("there is no room between segment {} and the next", last.id);
                return Err(inconsistent(store, what));
            }
            sealed.push(ended(store, fresh, &segment)?);
        }
        if is_sealed {
            sealed.push(segment);
        } else {
            open = Some(segment);
        }
    }
    let active = match (open, sealed.last()) {
        (Some(open), _) => open,
        (None, Some(last)) => last.opened_next(now),
        (None, None) => {
            let Floor { offset, messages_before } = match trim {
                Some(trim) if trim.offset > Offset::ZERO => trim,
                _ => first_record(store)?,
            };
            Segment::new(SegmentId::new(0), offset, messages_before, now)
        }
    };
    Ok((sealed, active))
}

/// A segment that ends where the next one begins.
fn ended(store: &Store, segment: Segment, next: &Segment) -> Result<Segment, OpenError> {
    let messages = next.messages_before.checked_sub(segment.messages_before);
    let Some(messages) = messages.filter(|_| segment.first <= next.first) else {
        let what = format!("segment {} begins behind the next one", segment.id);
        return Err(inconsistent(store, what));
    };
    let mut ended = Segment { end: next.first, messages, bytes: 0, ..segment };
    let mut times: Option<(UnixMicros, UnixMicros)> = None;
    let bounds = options::scan(&keys::record(ended.first), &keys::record(ended.end));
    let mut rows = store.db().raw_iterator_cf_opt(store.family(keys::RECORDS), bounds);
    rows.seek_to_first();
    // What does not read is found again when frames are counted.
    while let Some(value) = rows.value() {
        ended.bytes += value.len() as u64;
        if let Ok(record) = decode_record(value) {
            let at = record.received;
            times = Some(times.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        }
        rows.next();
    }
    let now = clock::unix_micros();
    (ended.first_received, ended.last_received) = times.unwrap_or((now, now));
    Ok(ended)
}

/// Has the oldest segment begin where the log does.
fn begin_at(
    store: &Store,
    sealed: &mut Vec<Segment>,
    active: &mut Segment,
    floor: Floor,
) -> Result<(), OpenError> {
    let oldest = sealed.first_mut().unwrap_or(active);
    if oldest.first < floor.offset {
        let end = oldest.messages_end();
        (oldest.first, oldest.messages_before) = (floor.offset, floor.messages_before);
        oldest.messages = end.saturating_sub(floor.messages_before);
        oldest.end = oldest.end.max(floor.offset);
        return Ok(());
    }
    if oldest.first == floor.offset {
        return Ok(());
    }
    let oldest = *oldest;
    let Some(id) = oldest.id.get().checked_sub(1) else {
        let what = format!(
            "the log is trimmed to {}, but the first segment begins at {}",
            floor.offset, oldest.first
        );
        return Err(inconsistent(store, what));
    };
    let now = clock::unix_micros();
    let fresh = Segment::new(SegmentId::new(id), floor.offset, floor.messages_before, now);
    sealed.insert(0, ended(store, fresh, &oldest)?);
    Ok(())
}

/// The first record that can be read, when nothing else says where the log begins.
fn first_record(store: &Store) -> Result<Floor, OpenError> {
    let mut found = Floor::default();
    let mut rows = store.db().raw_iterator_cf(store.family(keys::RECORDS));
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        if let (Some(offset), Ok(record)) = (keys::offset_of(key), decode_record(value)) {
            found = Floor { offset, messages_before: record.messages_before };
            break;
        }
        rows.next();
    }
    rows.status().map(|()| found).map_err(|error| db_error(store.path(), error))
}

/// Cursors that are gone, and those before the oldest frame, stand there.
fn cursors(store: &Store, oldest: Floor, gone: &[DestinationName]) -> Result<(), OpenError> {
    let now = clock::unix_micros();
    let mut batch = WriteBatch::default();
    for name in gone {
        let fresh = Checkpoint {
            position: crate::types::Position::at(oldest.offset),
            origin_messages: oldest.messages_before,
            saved: now,
            ..Checkpoint::default()
        };
        tracing::error!(destination = %name, at = %oldest.offset, "its cursor begins again at the \
             oldest frame: all that is retained is sent again, and its books begin anew");
        batch.put_cf(store.family(keys::CURSORS), name.as_str(), fresh.encode());
    }
    for (name, mut checkpoint) in checkpoint::read_all(store)? {
        if let Some(messages) = oldest.lift(&mut checkpoint) {
            tracing::error!(destination = %name, messages, at = %oldest.offset, "its cursor stood \
                 before the oldest frame, and is moved there; the messages between count as dropped");
            batch.put_cf(store.family(keys::CURSORS), name.as_str(), checkpoint.encode());
        }
    }
    for (id, mut replay) in replays::read_all(store)? {
        if replay.lift(oldest.offset, oldest.messages_before, now).is_some() {
            tracing::error!(replay = %id, at = %oldest.offset, "stood before the oldest frame");
            batch.put_cf(store.family(keys::META), keys::replay(&id), replay.encode());
        }
    }
    store.write_synced(batch).map_err(|error| db_error(store.path(), error))
}

/// Has the totals of dead letters say what is there.
fn letter_totals(store: &Store) -> Result<(), OpenError> {
    let mut batch = WriteBatch::default();
    for (name, book) in letters::count(store)? {
        let (present, found) = (book.totals.present(), book.letters);
        if present == found {
            continue;
        }
        let mut totals = book.totals;
        // More than there should be: their removal is what was lost, or all that was known of them.
        totals.written += found.saturating_sub(present);
        totals.lost += present.saturating_sub(found);
        tracing::error!(
            destination = %name,
            should_be = present,
            are = found,
            "dead letters are lost, or are there again; their totals say so from now on"
        );
        batch.put_cf(store.family(keys::META), keys::letter_totals(&name), totals.encode());
    }
    store.write_synced(batch).map_err(|error| db_error(store.path(), error))
}
