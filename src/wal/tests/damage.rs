//! What is not as it was written is named, and nothing is guessed.

use rocksdb::{DB, Options};

use super::*;
use crate::generated::storage;
use crate::record::encode_value;
use crate::types::SegmentId;
use crate::wal::keys;
use crate::wal::options::Opening;
use crate::wal::store::Store;

/// A store of seven frames: segment 0 holds 0, 1, 2, segment 1 holds 3, 4, 5, and 6 is in the
/// active one.
pub(super) fn seven() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        fill(&wal, 7).await;
        commit(&wal, "splunk", 1).await;
    });
    assert_eq!(wal.status().segments, 3);
    close(wal);
    dir
}

/// Does something to the closed store behind the log's back.
pub(super) fn tamper(dir: &TempDir, with: impl FnOnce(&Store)) {
    with(&Store::open(&dir.path().join("wal"), Opening::Whole, None).unwrap());
}

pub(super) fn flip(dir: &TempDir, family: &str, key: &[u8]) {
    tamper(dir, |store| {
        let family = store.family(family);
        let mut value = store.db().get_cf(family, key).unwrap().unwrap();
        *value.last_mut().unwrap() ^= 1;
        store.db().put_cf(family, key, value).unwrap();
    });
}

pub(super) fn delete(dir: &TempDir, family: &str, key: &[u8]) {
    tamper(dir, |store| store.db().delete_cf(store.family(family), key).unwrap());
}

/// What a start says, without the path.
pub(super) fn refusal(dir: &TempDir) -> String {
    let error = Wal::open(config(dir.path())).unwrap_err();
    let path = dir.path().join("wal").display().to_string();
    error.to_string().replace(&path, "WAL")
}

fn record(offset: u64) -> [u8; 8] {
    keys::record(Offset::new(offset))
}

#[test]
fn a_flipped_bit_in_the_active_segment_refuses_the_start_and_names_the_offset() {
    let dir = seven();
    flip(&dir, keys::RECORDS, &record(6));
    let refusal = refusal(&dir);
    let start = "WAL: the frame at offset 6 is damaged: crc32 is ";
    assert!(refusal.starts_with(start), "{refusal}");
}

#[test]
fn a_flipped_bit_in_a_sealed_segment_is_found_by_the_reader() {
    let dir = seven();
    flip(&dir, keys::RECORDS, &record(1));
    let wal = open(&dir);
    assert_eq!(read(&wal, 2, 7).unwrap().len(), 5, "what is whole can be read");
    let mut seen = Vec::new();
    let error = wal.reader().read(Offset::ZERO, Offset::new(7), |entry| {
        seen.push(entry.offset.get());
        ControlFlow::Continue(())
    });
    let error = error.unwrap_err();
    assert!(matches!(error, ReadError::Damaged { at, .. } if at == Offset::new(1)), "{error}");
    assert!(error.to_string().starts_with("the frame at offset 1 is damaged: crc32 is "));
    assert_eq!(seen, [0]);
}

#[test]
fn a_hole_in_the_active_segment_refuses_the_start() {
    let dir = seven();
    let wal = open(&dir);
    run(fill(&wal, 1));
    close(wal);
    delete(&dir, keys::RECORDS, &record(6));
    let wanted = "WAL: the frame at offset 7 says that 7 messages precede it; expected is offset \
                  6 after 6 messages";
    assert!(refusal(&dir).starts_with(wanted), "{}", refusal(&dir));
}

#[test]
fn a_hole_in_a_sealed_segment_is_a_gap_and_never_a_skip() {
    for (hole, until, wanted) in [(1, 7, "[1, 2)"), (0, 7, "[0, 1)"), (2, 3, "[2, 3)")] {
        let dir = seven();
        delete(&dir, keys::RECORDS, &record(hole));
        let error = read(&open(&dir), 0, until).unwrap_err();
        assert!(matches!(error, ReadError::Gap { .. }));
        assert_eq!(error.to_string(), format!("the frames {wanted} are missing from the log"));
    }
}

#[test]
fn a_catalogue_that_does_not_fit_refuses_the_start() {
    let segment = |number| keys::segment(SegmentId::new(number));
    let dir = seven();
    delete(&dir, keys::SEGMENTS, &segment(1));
    assert!(refusal(&dir).starts_with("WAL: a segment ends at offset 3, the next begins at 6"));

    let dir = seven();
    delete(&dir, keys::SEGMENTS, &segment(0));
    assert!(refusal(&dir).starts_with("WAL: the log is trimmed to 0, the oldest segment is 3"));

    let dir = seven();
    delete(&dir, keys::SEGMENTS, &segment(2));
    assert!(refusal(&dir).starts_with("WAL: the catalogue has no active segment"));

    let dir = seven();
    flip(&dir, keys::SEGMENTS, &segment(1));
    assert!(refusal(&dir).starts_with("WAL: segment 1 is damaged: crc32 is "));
}

#[test]
fn a_damaged_checkpoint_is_named_and_nothing_is_dropped() {
    let dir = seven();
    flip(&dir, keys::CURSORS, b"splunk");
    let wal = open(&dir);
    let error = wal.checkpoints().unwrap_err().to_string();
    assert!(error.contains(": the checkpoint of splunk is damaged: crc32 is "), "{error}");
    assert!(wal.checkpoint(&name("splunk")).is_err());
    assert!(matches!(wal.sweep(), Err(SweepError::Checkpoints(_))));
    assert_eq!((wal.first(), wal.status().segments), (Offset::ZERO, 3));
}

#[test]
fn a_damaged_marker_or_trim_point_refuses_the_start() {
    let dir = seven();
    flip(&dir, keys::META, keys::STORE);
    assert!(refusal(&dir).starts_with("WAL: the store marker is damaged: "));

    let dir = seven();
    let wal = open(&dir);
    run(commit(&wal, "splunk", 3));
    assert_eq!(wal.sweep().unwrap().end, Offset::new(3));
    close(wal);
    flip(&dir, keys::META, keys::TRIM);
    assert!(refusal(&dir).starts_with("WAL: the trim point is damaged: "));
}

#[test]
fn a_newer_layout_is_left_alone() {
    let dir = seven();
    let newer = storage::StoreMarker {
        product: "forebay".to_owned(),
        layout: 2,
        ..storage::StoreMarker::default()
    };
    let marker = encode_value(&newer);
    tamper(&dir, |store| {
        store.db().put_cf(store.family(keys::META), keys::STORE, marker).unwrap();
    });
    let wanted = "WAL has layout 2, this version reads layout 1; use a newer forebay";
    assert_eq!(refusal(&dir), wanted);
}

#[test]
fn another_programs_database_is_refused_and_not_changed() {
    for families in [&["default"][..], &["default", "accounts"], &["default", "records"]] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let db = DB::open_cf(&options, &path, families).unwrap();
        db.put(b"theirs", b"1").unwrap();
        drop(db);
        // Half a record: what a program leaves that is killed, and what one that runs shows to whoever
        // reads its log at the wrong moment.
        let log = torn::files(&path, "log").pop().unwrap();
        let mut torn = std::fs::read(&log).unwrap();
        assert!(!torn.is_empty());
        torn.extend_from_slice(b"\x01\x02\x03\x04\xff\x00\x01half");
        std::fs::write(&log, &torn).unwrap();
        let wanted = "WAL holds a RocksDB that is not forebay's; set data_dir to a directory of \
                      its own";
        assert_eq!(refusal(&dir), wanted, "{families:?}");
        assert_eq!(std::fs::read(&log).unwrap(), torn, "not a byte is changed");
        let mut found = DB::list_cf(&options, &path).unwrap();
        found.sort();
        let mut before: Vec<_> = families.iter().map(ToString::to_string).collect();
        before.sort();
        assert_eq!(found, before);
    }
}

#[test]
fn a_start_that_was_killed_while_it_made_the_store_is_made_good() {
    for families in [&["default"][..], &["default", "records", "segments"]] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        drop(DB::open_cf(&options, dir.path().join("wal"), families).unwrap());
        let (wal, report) = Wal::open(config(dir.path())).unwrap();
        assert!(report.created);
        assert_eq!(run(put(&wal, None, 1, b"a")), Offset::ZERO);
    }
}

#[test]
fn a_store_that_is_open_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    let error = Wal::open(config(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("wal is in use by another process: "), "{error}");
    // The attempt has done no harm.
    assert_eq!(run(put(&wal, None, 1, b"a")), Offset::ZERO);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let config = config(&dir.path().join("file"));
    let error = Wal::open(config).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains("file/wal"), "{error}");
}

#[test]
fn a_value_of_a_newer_format_is_not_called_damaged() {
    let dir = seven();
    tamper(&dir, |store| {
        let family = store.family(keys::RECORDS);
        let mut value = store.db().get_cf(family, record(6)).unwrap().unwrap();
        value[0] = 2;
        store.db().put_cf(family, record(6), value).unwrap();
    });
    let wanted = "WAL: the frame at offset 6 has value format 2, this version reads format 1; use \
                  a newer forebay, or, if none ever ran here, it is damaged: ";
    assert!(refusal(&dir).starts_with(wanted), "{}", refusal(&dir));
}

#[test]
fn skip_damaged_passes_over_what_is_damaged_and_counts_it() {
    let dir = seven();
    run(async {
        let wal = open(&dir);
        commit(&wal, "ahead", 7).await;
        close(wal);
    });
    // In a sealed segment, at its end, and in the active one.
    for offset in [1, 5, 6] {
        flip(&dir, keys::RECORDS, &record(offset));
    }
    delete(&dir, keys::RECORDS, &record(2));
    let on_damage = OnDamage { skip_damaged: true, ..OnDamage::default() };
    let config = Config { on_damage, ..config(dir.path()) };
    let (wal, report) = Wal::open(config.clone()).unwrap();
    let ranges: Vec<_> =
        report.given_up.iter().map(|range| (range.start.get(), range.end.get())).collect();
    assert_eq!(ranges, [(1, 3), (5, 6), (6, 7)]);
    let losses: Vec<_> = wal.gaps().iter().map(|gap| (gap.messages, gap.losses.clone())).collect();
    // What was in the last frame of all, nobody knows; `ahead` had it.
    assert_eq!(losses[0], (2, vec![(name("ahead"), 2), (name("splunk"), 2)]));
    assert_eq!(losses[1].0, 1);
    assert_eq!(tail(&wal).end, Offset::new(7));
    assert_eq!(read(&wal, 0, 7).unwrap().len(), 1);
    let error = read(&wal, 1, 7).unwrap_err();
    assert_eq!(error.to_string(), "the frames [1, 3) were damaged and given up");
    assert_eq!(read(&wal, 3, 7).unwrap().len(), 2);
    assert_eq!(run(put(&wal, None, 1, b"next")), Offset::new(7));
    close(wal);
    // Again, and without: what is known is not found a second time.
    let (wal, report) = Wal::open(config).unwrap();
    assert_eq!((report.given_up.len(), wal.gaps().len()), (0, 3));
    close(wal);
    let wal = open(&dir);
    assert_eq!((wal.gaps().len(), tail(&wal).end), (3, Offset::new(8)));
    assert_eq!(read(&wal, 7, 8).unwrap().len(), 1);
}
