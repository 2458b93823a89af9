//! Each thing that can be wrong with a store is planted, and is found: it, and nothing else.

use rocksdb::WriteBatch;

use super::*;
use crate::generated::storage;
use crate::record::{PreparedRecord, decode_value, encode_value};
use crate::types::SegmentId;
use crate::wal::store::Store;
use crate::wal::{ReadOnlyLog, dedupe, keys};

/// Octet-counted messages, so that counting finds what a frame says it has.
const BODY: &[u8] = b"9 <190>1 a\n";

/// A log of seven frames with ids, of one message each: 0, 1, 2 in segment 0, 3, 4, 5 in segment
/// 1, 6 in the active one; `splunk` is at 2, and knows of everything before.
fn seven() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        for number in 0..7 {
            let mut body = BODY.to_vec();
            // Separators are no message, and fill a segment.
            body.resize(1500, b'\n');
            put(&wal, Some(&format!("F{number}")), 1, &body).await;
        }
        let totals = crate::record::Totals { acknowledged: 2, ..Default::default() };
        let checkpoint = Checkpoint { totals, ..checkpoint(2) };
        wal.commit(&name("splunk"), checkpoint).await.unwrap();
    });
    assert_eq!(wal.status().segments, 3);
    close(wal);
    dir
}

/// What is found, one line for each defect, and the sums.
fn verify(dir: &TempDir) -> (Vec<String>, Verification) {
    let log = ReadOnlyLog::open(&dir.path().join("wal")).unwrap();
    let mut found = Vec::new();
    let done = log.verify(|_, _| {}, |defect| found.push(defect.to_string()));
    assert_eq!(done.defects, found.len() as u64);
    (found, done)
}

fn tamper(dir: &TempDir, with: impl FnOnce(&Store, &mut WriteBatch)) {
    let store = Store::open(&dir.path().join("wal"), options::Opening::Whole, None).unwrap();
    let mut batch = WriteBatch::default();
    with(&store, &mut batch);
    store.write_synced(batch).unwrap();
}

fn flip(family: &'static str, key: Vec<u8>) -> impl FnOnce(&Store, &mut WriteBatch) {
    move |store, batch| {
        let family = store.family(family);
        let mut value = store.db().get_cf(family, &key).unwrap().unwrap();
        *value.last_mut().unwrap() ^= 1;
        batch.put_cf(family, key, value);
    }
}

fn remove(family: &'static str, key: Vec<u8>) -> impl FnOnce(&Store, &mut WriteBatch) {
    move |store, batch| batch.delete_cf(store.family(family), key)
}

fn record_key(offset: u64) -> Vec<u8> {
    keys::record(Offset::new(offset)).to_vec()
}

fn segment_key(id: u64) -> Vec<u8> {
    keys::segment(SegmentId::new(id)).to_vec()
}

/// Changes a record, and gives it a right crc.
fn change(offset: u64, change: impl FnOnce(&mut Record)) -> impl FnOnce(&Store, &mut WriteBatch) {
    move |store, batch| {
        let family = store.family(keys::RECORDS);
        let value = store.db().get_cf(family, record_key(offset)).unwrap().unwrap();
        let mut record = crate::record::decode_record(&value).unwrap();
        change(&mut record);
        let value = PreparedRecord::new(&record).finish(record.messages_before);
        batch.put_cf(family, record_key(offset), value);
    }
}

/// Changes a catalogue entry, and gives it a right crc.
fn seal(
    id: u64,
    change: impl FnOnce(&mut storage::Segment),
) -> impl FnOnce(&Store, &mut WriteBatch) {
    move |store, batch| {
        let family = store.family(keys::SEGMENTS);
        let value = store.db().get_cf(family, segment_key(id)).unwrap().unwrap();
        let mut segment: storage::Segment = decode_value(&value).unwrap();
        change(&mut segment);
        batch.put_cf(family, segment_key(id), encode_value(&segment));
    }
}

fn frame_key(store: &Store, number: u64) -> Vec<u8> {
    let digest = dedupe::digest("d.1", &format!("F{number}"));
    let mut found = None;
    store
        .scan::<rocksdb::Error>(keys::FRAMES, &[], |key, _| {
            if keys::frame_of(key).is_some_and(|(_, other)| other == digest) {
                found = Some(key.to_vec());
            }
            Ok(())
        })
        .unwrap();
    found.unwrap()
}

/// The one thing that is found after something was done to the seven frames.
fn finding(with: impl FnOnce(&Store, &mut WriteBatch)) -> String {
    let dir = seven();
    tamper(&dir, with);
    let (mut found, _) = verify(&dir);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

#[test]
fn a_log_that_is_whole_has_no_defects_and_is_counted() {
    let dir = seven();
    for _ in 0..2 {
        let (found, done) = verify(&dir);
        assert_eq!(found, [""; 0]);
        assert_eq!((done.first, done.end), (Offset::ZERO, Offset::new(7)));
        assert_eq!((done.frames, done.messages, done.segments), (7, 7, 3));
        assert_eq!((done.frame_ids, done.checkpoints), (7, 1));
    }
    // Trimmed, too, and with a second destination somewhere in a frame.
    let wal = open(&dir);
    run(async {
        let totals = crate::record::Totals { acknowledged: 3, filtered: 1, ..Default::default() };
        let moved = Checkpoint { totals, ..checkpoint(4) };
        wal.commit(&name("splunk"), moved).await.unwrap();
    });
    assert_eq!(wal.sweep().unwrap().end, Offset::new(3));
    close(wal);
    let (found, done) = verify(&dir);
    assert_eq!(found, [""; 0]);
    assert_eq!((done.first, done.frames, done.segments, done.frame_ids), (Offset::new(3), 4, 2, 7));
}

#[test]
fn frames_that_are_damaged_or_missing_or_say_something_wrong_are_named() {
    for offset in [0, 2, 4, 6] {
        let found = finding(flip(keys::RECORDS, record_key(offset)));
        let wanted = format!("the frame at offset {offset}: is damaged: crc32 is ");
        assert!(found.starts_with(&wanted), "{found}");
    }
    for offset in [0, 2, 4] {
        let found = finding(|store, batch| {
            remove(keys::RECORDS, record_key(offset))(store, batch);
        });
        assert_eq!(found, format!("the frames [{offset}, {}): are missing", offset + 1));
    }
    let found = finding(change(5, |record| record.messages_before += 1));
    assert!(found.starts_with("the frame at offset 5: says that 6 messages precede it"), "{found}");
}

#[test]
fn a_frame_that_miscounts_itself_is_told_once_and_so_is_its_segment() {
    let dir = seven();
    tamper(&dir, change(4, |record| record.messages = 2));
    let (found, _) = verify(&dir);
    assert_eq!(found[0], "the frame at offset 4: says it has 2 messages, it has 1");
    assert!(found[1].starts_with("segment 1: its seal says 3 messages and "), "{found:#?}");
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn a_catalogue_that_does_not_fit_is_named() {
    let found = finding(seal(0, |segment| segment.seal.as_mut().unwrap().bytes += 1));
    assert!(found.starts_with("segment 0: its seal says 3 messages and "), "{found}");
    let found = finding(seal(1, |segment| segment.seal.as_mut().unwrap().last_received_us += 1));
    assert!(found.starts_with("segment 1: its seal says another time of arrival"), "{found}");
    let found = finding(seal(2, |segment| segment.messages_before += 1));
    assert_eq!(found, "segment 1: ends after 6 messages, the next begins after 7");
    let found = finding(remove(keys::SEGMENTS, segment_key(1)));
    assert_eq!(found, "segment 0: ends at offset 3, the next begins at 6");
    let found = finding(remove(keys::SEGMENTS, segment_key(2)));
    assert_eq!(found, "segment 1: is sealed, and no segment follows it");
    let found = finding(|store, batch| {
        let trim = storage::TrimPoint { offset: 0, messages_before: 1 };
        batch.put_cf(store.family(keys::META), keys::TRIM, encode_value(&trim));
    });
    let wanted = "the trim point: says that 1 messages precede it, the oldest segment says 0";
    assert_eq!(found, wanted);
    let found = finding(flip(keys::META, keys::STORE.to_vec()));
    assert!(found.starts_with("the store marker: crc32 is "), "{found}");
    let found = finding(remove(keys::META, keys::STORE.to_vec()));
    assert_eq!(found, "the store marker: is missing");
    let dir = seven();
    tamper(&dir, flip(keys::SEGMENTS, segment_key(1)));
    let (found, _) = verify(&dir);
    assert!(found[0].starts_with("the catalogue: segment 1 is damaged: crc32 is "), "{found:#?}");
}

#[test]
fn frame_ids_that_lead_nowhere_or_are_forgotten_are_named() {
    let known = |offset| encode_value(&storage::FrameKey { offset });
    let found = finding(|store, batch| {
        batch.put_cf(store.family(keys::FRAMES), frame_key(store, 6), known(99));
    });
    let wanted = "the remembered id of offset 99: there is no such frame: it would be taken for \
                  stored";
    assert_eq!(found, wanted);
    let found = finding(|store, batch| {
        batch.put_cf(store.family(keys::FRAMES), frame_key(store, 6), known(5));
    });
    assert_eq!(found, "the remembered id of offset 5: the frame has another id");
    let found = finding(|store, batch| {
        batch.delete_cf(store.family(keys::FRAMES), frame_key(store, 5));
    });
    let wanted = "the frame at offset 5: its id is not remembered: its next try would be stored \
                  twice";
    assert_eq!(found, wanted);
    let found = finding(|store, batch| flip(keys::FRAMES, frame_key(store, 0))(store, batch));
    assert!(found.starts_with("a remembered frame id: crc32 is "), "{found}");
    let found = finding(|store, batch| {
        batch.put_cf(store.family(keys::FRAMES), [0xff, 1], known(0));
    });
    assert_eq!(found, "a remembered frame id: its key has a wrong length");
}

#[test]
fn checkpoints_that_are_damaged_or_do_not_balance_are_named() {
    let put = |checkpoint: Checkpoint| {
        move |store: &Store, batch: &mut WriteBatch| {
            batch.put_cf(store.family(keys::CURSORS), "splunk", checkpoint.encode());
        }
    };
    let found = finding(flip(keys::CURSORS, b"splunk".to_vec()));
    assert!(found.starts_with("the checkpoint of splunk: crc32 is "), "{found}");
    assert_eq!(
        finding(put(checkpoint(8))),
        "the checkpoint of splunk: is at 8, the log has [0, 7)"
    );
    let found = finding(put(checkpoint(2)));
    let wanted = "the checkpoint of splunk: its books do not balance: 0 messages before its origin \
                  and 0 settled, but 2 before its position";
    assert_eq!(found, wanted);
    let position = Position::new(Offset::new(2), 1);
    let found = finding(put(Checkpoint { position, origin_messages: 3, ..checkpoint(0) }));
    assert_eq!(found, "the checkpoint of splunk: is at message 1 of offset 2, which has 1");
    // At the very end of the log, too.
    let dir = seven();
    tamper(&dir, put(Checkpoint { origin_messages: 7, ..checkpoint(7) }));
    assert_eq!(verify(&dir).0, [""; 0]);
}

/// The same seven frames, and two dead letters of `splunk`.
fn with_letters() -> TempDir {
    let dir = seven();
    let wal = open(&dir);
    run(async {
        for offset in [0, 1] {
            let at = Position::at(Offset::new(offset));
            let letter = letters::letter("bad");
            wal.bury(&name("splunk"), at, letter, ByteSize::mib(1)).await.unwrap();
        }
    });
    close(wal);
    let (found, done) = verify(&dir);
    assert_eq!((found, done.dead_letters), (Vec::new(), 2));
    dir
}

#[test]
fn dead_letters_that_are_damaged_or_missing_are_named() {
    let key = |offset| keys::letter(&name("splunk"), Position::at(Offset::new(offset)));
    let finding = |with: &dyn Fn(&Store, &mut WriteBatch)| {
        let dir = with_letters();
        tamper(&dir, with);
        let (mut found, _) = verify(&dir);
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    };
    let found = finding(&|store, batch| flip(keys::LETTERS, key(1))(store, batch));
    let wanted = format!("the dead letter {} of splunk: crc32 is ", Position::at(Offset::new(1)));
    assert!(found.starts_with(&wanted), "{found}");
    let found = finding(&|store, batch| remove(keys::LETTERS, key(0))(store, batch));
    assert_eq!(found, "the dead letters of splunk: there should be 2, and are 1");
    let totals = || keys::letter_totals(&name("splunk"));
    let found = finding(&|store, batch| remove(keys::META, totals())(store, batch));
    assert_eq!(found, "the dead letters of splunk: there should be 0, and are 2");
    let found = finding(&|store, batch| flip(keys::META, totals())(store, batch));
    let wanted = "the dead letters of splunk: their totals are damaged: crc32 is ";
    assert!(found.starts_with(wanted), "{found}");
}

/// What an operator has given up is known; what is damaged afterwards is not.
#[test]
fn what_was_given_up_is_no_defect() {
    let dir = seven();
    // In a sealed segment, whole and in part, and at the end of the log.
    for offset in [1, 4, 6] {
        tamper(&dir, flip(keys::RECORDS, record_key(offset)));
    }
    tamper(&dir, remove(keys::RECORDS, record_key(5)));
    let on_damage = OnDamage { skip_damaged: true, ..OnDamage::default() };
    let (wal, _) = Wal::open(Config { on_damage, ..config(dir.path()) }).unwrap();
    assert_eq!(wal.gaps().len(), 3);
    run(put(&wal, None, 1, BODY));
    close(wal);
    let (found, done) = verify(&dir);
    assert_eq!((found.as_slice(), done.given_up), (&[][..] as &[String], 4));
    assert_eq!((done.frames, done.end), (4, Offset::new(8)));
    tamper(&dir, flip(keys::RECORDS, record_key(3)));
    let (found, _) = verify(&dir);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("the frame at offset 3: is damaged"), "{found:#?}");
    let family = "the family meta: gap/\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01 is damaged: crc32";
    tamper(&dir, flip(keys::META, keys::gap(Offset::new(1)).to_vec()));
    let (found, _) = verify(&dir);
    assert!(found[0].starts_with(family), "{found:#?}");
}

/// Values that a newer forebay may have added stand in the same envelope.
#[test]
fn values_that_this_version_does_not_know_are_checked_too() {
    let good = encode_value(&storage::FrameKey { offset: 1 });
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let found = finding(move |store, batch| {
        batch.put_cf(store.family(keys::META), b"newer/1", good);
        batch.put_cf(store.family(keys::META), b"newer/\x02", bad);
    });
    assert!(found.starts_with("the family meta: newer/\\x02 is damaged: crc32 is "), "{found}");
}

#[test]
fn a_store_that_is_foreign_or_newer_or_not_there_is_not_read() {
    let dir = seven();
    let refusal = |path: &Path| ReadOnlyLog::open(path).map(drop).unwrap_err();
    assert!(matches!(refusal(dir.path()), OpenError::Missing { .. }));
    let newer =
        storage::StoreMarker { product: "forebay".to_owned(), layout: 2, ..Default::default() };
    tamper(&dir, |store, batch| {
        batch.put_cf(store.family(keys::META), keys::STORE, encode_value(&newer));
    });
    assert!(matches!(refusal(&dir.path().join("wal")), OpenError::Layout { found: 2, .. }));
    let other = tempfile::tempdir().unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    drop(rocksdb::DB::open(&options, other.path()).unwrap());
    assert!(matches!(refusal(other.path()), OpenError::Foreign { .. }));
}

/// Nothing on the disk changes, so that a look does no harm to what a rescue would need.
#[test]
fn reading_changes_no_file() {
    let dir = seven();
    let snapshot = || {
        let mut files: Vec<_> = std::fs::read_dir(dir.path().join("wal"))
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                (path, bytes)
            })
            .collect();
        files.sort();
        files
    };
    let before = snapshot();
    let log = ReadOnlyLog::open(&dir.path().join("wal")).unwrap();
    assert_eq!(log.used_by(), None);
    assert_eq!(log.segments().unwrap().len(), 3);
    assert_eq!(log.tail().unwrap().messages, 7);
    assert_eq!(log.facts().unwrap().layout, 1);
    drop(log);
    let after = snapshot();
    let names = |files: &[(std::path::PathBuf, Vec<u8>)]| -> Vec<_> {
        files.iter().map(|(path, _)| path.clone()).collect()
    };
    assert_eq!(names(&after), names(&before));
    assert!(after == before, "a file has changed");
}
