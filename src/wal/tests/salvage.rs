//! What an operator lets go beside the frames: after `--recover` or `--skip-damaged` the log opens, with
//! all that was not in what is damaged.

use super::damage::{delete, flip, refusal, seven, tamper};
use super::letters::letter;
use super::*;
use crate::generated::storage;
use crate::record::encode_value;
use crate::types::SegmentId;
use crate::wal::keys;

const RECOVER: OnDamage = OnDamage { recover: true, skip_damaged: false };
const SKIP: OnDamage = OnDamage { recover: false, skip_damaged: true };

fn allowing(dir: &TempDir, on_damage: OnDamage) -> (Wal, RecoveryReport) {
    Wal::open(Config { on_damage, ..config(dir.path()) }).unwrap()
}

fn segment(number: u64) -> [u8; 8] {
    keys::segment(SegmentId::new(number))
}

/// The log as it was: nothing of a catalogue that is mended differs from the one that was there.
fn whole(wal: &Wal) -> (Vec<SegmentInfo>, Vec<Entry>, crate::types::Tail) {
    (wal.segments(), read(wal, wal.first().get(), u64::MAX).unwrap(), tail(wal))
}

/// Opens with the flag after a refusal, then without, and expects what was there before.
#[track_caller]
fn mends(
    dir: &TempDir,
    on_damage: OnDamage,
    before: &(Vec<SegmentInfo>, Vec<Entry>, crate::types::Tail),
) {
    let said = refusal(dir);
    assert!(said.contains("forebay serve --"), "the way out is named: {said}");
    let (wal, report) = allowing(dir, on_damage);
    assert_eq!(report.given_up, []);
    assert_eq!(whole(&wal), *before);
    close(wal);
    let wal = open(dir);
    assert_eq!(whole(&wal), *before, "and nothing has to be said a second time");
    run(fill(&wal, 4));
    close(wal);
    close(open(dir));
}

fn put_segment(dir: &TempDir, info: &SegmentInfo, sealed: bool) {
    let seal = storage::Seal {
        end_offset: info.frames.end.get(),
        messages: info.messages,
        bytes: info.bytes.get(),
        last_received_us: info.last_received.get(),
    };
    let wire = storage::Segment {
        first_offset: info.frames.start.get(),
        messages_before: info.messages_before,
        first_received_us: info.first_received.get(),
        seal: sealed.then_some(seal),
    };
    tamper(dir, |store| {
        let (family, key) = (store.family(keys::SEGMENTS), keys::segment(info.id));
        store.db().put_cf(family, key, encode_value(&wire)).unwrap();
    });
}

/// A batch that is lost has rolled, or sealed, or trimmed.
#[test]
fn seals_and_trims_that_are_lost_are_made_from_what_is_around_them() {
    for flag in [RECOVER, SKIP] {
        for lost in [&[1][..], &[0], &[0, 1]] {
            let dir = seven();
            let wal = open(&dir);
            let before = whole(&wal);
            close(wal);
            // The seal alone: then the next entry says where it ended.
            for number in lost {
                put_segment(&dir, &before.0[*number], false);
            }
            mends(&dir, flag, &before);
        }
        let dir = seven();
        let wal = open(&dir);
        let before = whole(&wal);
        close(wal);
        // A whole entry, in the middle, and the last one.
        delete(&dir, keys::SEGMENTS, &segment(1));
        mends(&dir, flag, &before);
        let dir = seven();
        delete(&dir, keys::SEGMENTS, &segment(2));
        assert!(refusal(&dir).contains("no active segment"));
        let (wal, _) = allowing(&dir, flag);
        assert_eq!((read(&wal, 0, 9).unwrap().len(), tail(&wal).end.get()), (7, 7));
        close(wal);

        // A trim: the segment it took is in the catalogue again, and another one is missing.
        let dir = seven();
        let wal = open(&dir);
        let old = wal.segments();
        run(commit(&wal, "splunk", 6));
        assert_eq!(wal.sweep().unwrap().end, Offset::new(6));
        close(wal);
        let wal = open(&dir);
        let before = whole(&wal);
        close(wal);
        put_segment(&dir, &old[0], true);
        mends(&dir, flag, &before);
    }
}

/// The trim point itself does not decode: the catalogue knows where the log begins.
#[test]
fn values_that_are_damaged_go_where_that_is_allowed() {
    let dir = seven();
    let wal = open(&dir);
    run(commit(&wal, "splunk", 3));
    assert_eq!(wal.sweep().unwrap().end, Offset::new(3));
    close(wal);
    let wal = open(&dir);
    let before = whole(&wal);
    close(wal);
    flip(&dir, keys::META, keys::TRIM);
    mends(&dir, SKIP, &before);

    for number in 0..3 {
        let dir = seven();
        let wal = open(&dir);
        let mut before = whole(&wal);
        close(wal);
        flip(&dir, keys::SEGMENTS, &segment(number));
        if number < 2 {
            mends(&dir, SKIP, &before);
        } else {
            let (wal, _) = allowing(&dir, SKIP);
            // The active one counts its bytes, and its age, anew.
            before.0.truncate(2);
            assert_eq!(wal.segments()[..2], before.0);
            assert_eq!(read(&wal, 0, 9).unwrap(), before.1);
            close(wal);
        }
    }

    // The marker has a second witness: the events keep their ids.
    let dir = seven();
    let wal = open(&dir);
    let (node, before) = (wal.node().to_owned(), whole(&wal));
    close(wal);
    flip(&dir, keys::META, keys::STORE);
    mends(&dir, SKIP, &before);
    assert_eq!(open(&dir).node(), node);
    flip(&dir, keys::META, keys::STORE);
    std::fs::remove_file(dir.path().join("wal").join(witness::FILE)).unwrap();
    let on_damage = SKIP;
    let error = Wal::open(Config { on_damage, ..config(dir.path()) }).unwrap_err().to_string();
    assert!(error.contains("no WITNESS that has its name"), "why not: {error}");
}

#[test]
fn a_cursor_that_is_damaged_or_too_old_begins_at_the_oldest_frame() {
    let dir = seven();
    let wal = open(&dir);
    run(async {
        commit(&wal, "splunk", 3).await;
        commit(&wal, "other", 5).await;
    });
    assert_eq!(wal.sweep().unwrap().end, Offset::new(3));
    close(wal);
    flip(&dir, keys::CURSORS, b"splunk");
    // As it was before the batch that is lost, while a later one has trimmed.
    tamper(&dir, |store| {
        let early = checkpoint(1).encode();
        store.db().put_cf(store.family(keys::CURSORS), b"early", early).unwrap();
    });
    let (wal, _) = allowing(&dir, SKIP);
    for (of, dropped) in [("splunk", 0), ("early", 3)] {
        let found = wal.checkpoint(&name(of)).unwrap().unwrap();
        assert_eq!(found.position, Position::at(Offset::new(3)), "{of}");
        assert_eq!(
            (found.origin_messages + found.totals.settled(), found.totals.dropped),
            (3, dropped)
        );
    }
    assert_eq!(wal.checkpoint(&name("other")).unwrap(), Some(checkpoint(5)));
    close(wal);
}

/// Dead letters in the damaged batch, and damaged ones.
#[test]
fn dead_letters_that_are_lost_are_counted() {
    let at = |offset| Position::new(Offset::new(offset), 2);
    for (flag, damaged) in [(RECOVER, false), (SKIP, false), (SKIP, true)] {
        let dir = seven();
        let wal = open(&dir);
        run(async {
            for offset in 0..3 {
                let letter = letter(&offset.to_string());
                wal.bury(&name("a"), at(offset), letter, ByteSize::mib(1)).await.unwrap();
            }
        });
        let before = whole(&wal);
        close(wal);
        let key = keys::letter(&name("a"), at(1));
        if damaged {
            flip(&dir, keys::LETTERS, &key);
        } else {
            delete(&dir, keys::LETTERS, &key);
        }
        mends(&dir, flag, &before);
        let wal = open(&dir);
        let book = wal.letter_book(&name("a"));
        assert_eq!((book.letters, book.totals.written, book.totals.lost), (2, 3, 1));
        assert_eq!(book.totals.present(), 2);
        close(wal);
    }
    // A removal that is lost: the letter is there again.
    let dir = seven();
    let wal = open(&dir);
    run(async {
        wal.bury(&name("a"), at(1), letter("1"), ByteSize::mib(1)).await.unwrap();
        wal.remove_letters(&name("a"), &[at(1)], Removal::Purged).await.unwrap();
    });
    let before = whole(&wal);
    close(wal);
    tamper(&dir, |store| {
        let key = keys::letter(&name("a"), at(1));
        store.db().put_cf(store.family(keys::LETTERS), key, letter("1").encode()).unwrap();
    });
    mends(&dir, RECOVER, &before);
    assert_eq!(open(&dir).letter_book(&name("a")).totals.present(), 1);
}

/// Bytes of the table files that hold a family, changed.
fn spoil(dir: &TempDir, family: &str) {
    let mut files = Vec::new();
    tamper(dir, |store| {
        let all = store.db().live_files().unwrap().into_iter();
        let of = all.filter(|file| file.column_family_name == family);
        files.extend(of.map(|file| file.name.trim_start_matches('/').to_owned()));
    });
    assert!(!files.is_empty(), "{family} is in files");
    for file in files {
        let path = dir.path().join("wal").join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        // Its first block holds data.
        bytes[10] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
}

/// One bad block of the frame ids, which only dedupe needs, must not cost the log.
#[test]
fn families_that_do_not_read_are_made_anew_with_what_does() {
    for family in [keys::FRAMES, keys::SEGMENTS, keys::META, keys::CURSORS, keys::LETTERS] {
        let dir = seven();
        let wal = open(&dir);
        run(async {
            put(&wal, Some("A"), 1, b"a").await;
            let (at, letter) = (Position::at(Offset::new(2)), letter("2"));
            wal.bury(&name("a"), at, letter, ByteSize::mib(1)).await.unwrap();
        });
        let (node, before) = (wal.node().to_owned(), read(&wal, 0, 99).unwrap());
        close(wal);
        // What a start finds in the log, it writes into files.
        close(open(&dir));
        spoil(&dir, family);
        if family != keys::CURSORS {
            assert!(refusal(&dir).contains("--skip-damaged"), "{family}: {}", refusal(&dir));
        }
        let (wal, report) = allowing(&dir, SKIP);
        assert_eq!(report.given_up, [], "{family}");
        assert_eq!(read(&wal, 0, 99).unwrap(), before, "{family}");
        assert_eq!(wal.node(), node, "{family}");
        run(async {
            let again = append(&wal, frame(Some("A"), 1, b"a")).await.unwrap();
            assert_eq!(again.duplicate, family != keys::FRAMES, "{family}");
            put(&wal, Some("B"), 1, b"b").await;
            assert!(append(&wal, frame(Some("B"), 1, b"b")).await.unwrap().duplicate);
            commit(&wal, "splunk", 8).await;
        });
        // Nothing of the damage is left, for a compaction to come upon.
        for name in keys::ALL {
            wal.shared.store.db().compact_range_cf(
                wal.shared.store.family(name),
                None::<&[u8]>,
                None::<&[u8]>,
            );
        }
        run(put(&wal, Some("C"), 1, b"c"));
        close(wal);
        let wal = open(&dir);
        assert!(run(append(&wal, frame(Some("B"), 1, b"b"))).unwrap().duplicate, "{family}");
        close(wal);
    }
}

/// The last block of the records, where nothing tells any more where the log ended but what RocksDB
/// knows of its files: no offset is given out twice.
#[test]
fn an_end_that_does_not_read_is_passed() {
    let dir = seven();
    close(open(&dir));
    spoil(&dir, keys::RECORDS);
    assert!(refusal(&dir).contains("--skip-damaged"), "{}", refusal(&dir));
    let (wal, report) = allowing(&dir, SKIP);
    assert_eq!(report.given_up.last().unwrap().end, Offset::new(7), "{report:?}");
    assert_eq!(run(put(&wal, None, 1, b"next")).get(), 7);
    close(wal);
    let wal = open(&dir);
    assert_eq!(read(&wal, 7, 9).unwrap().len(), 1);
}
