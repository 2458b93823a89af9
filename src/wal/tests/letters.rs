//! Dead letters.

use super::*;
use crate::logplex::Framing;
use crate::record::{DeadLetter, LetterTotals};

pub(super) fn letter(text: &str) -> DeadLetter {
    DeadLetter {
        event_id: format!("F:{text}"),
        code: Some(6),
        status: 400,
        text: "Invalid data format".to_owned(),
        endpoint: "http://hec:8088".to_owned(),
        refused: received(),
        message: Bytes::copy_from_slice(text.as_bytes()),
        framing: Framing::Counted,
        drain_token: Some("d.1".to_owned()),
        frame_id: Some("F".to_owned()),
        messages_claimed: None,
        messages: 1,
        query: String::new(),
        profile: Profile::Logplex,
        received: received(),
        refusals: 1,
        redrive: None,
    }
}

fn at(offset: u64) -> Position {
    Position::new(Offset::new(offset), 2)
}

const ROOM: ByteSize = ByteSize::mib(1);

async fn bury(wal: &Wal, destination: &str, offset: u64) -> Result<(), LetterError> {
    wal.bury(&name(destination), at(offset), letter(&offset.to_string()), ROOM).await
}

fn offsets(wal: &Wal, destination: &str) -> Vec<u64> {
    let all = wal.letters(&name(destination), Position::ZERO, 100, ROOM).unwrap();
    all.iter().map(|(at, _)| at.offset.get()).collect()
}

#[test]
fn letters_are_kept_by_destination_in_the_order_of_the_log_and_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        for (destination, offset) in [("b", 9), ("a", 300), ("a", 2), ("ab", 1), ("a", 40)] {
            bury(&wal, destination, offset).await.unwrap();
        }
    });
    let books = wal.letter_books();
    close(wal);
    let wal = open(&dir);
    assert_eq!(wal.letter_books(), books);
    assert_eq!((offsets(&wal, "a"), offsets(&wal, "ab")), (vec![2, 40, 300], vec![1]));
    assert_eq!(offsets(&wal, "c"), [0; 0]);
    let book = wal.letter_book(&name("a"));
    assert_eq!((book.letters, book.redriving, book.totals.written), (3, 0, 3));
    let found = wal.letter(&name("a"), at(40)).unwrap().unwrap();
    assert_eq!((found.event_id.as_str(), &found.message[..]), ("F:40", &b"40"[..]));
    assert_eq!(wal.letter(&name("a"), at(41)).unwrap(), None);
    // Page by page.
    let page = wal.letters(&name("a"), at(3), 1, ROOM).unwrap();
    assert_eq!((page.len(), page[0].0), (1, at(40)));
    let page = wal.letters(&name("a"), Position::ZERO, 100, ByteSize::bytes(1)).unwrap();
    assert_eq!(page.len(), 1, "one at least, and no more than there is room for");
}

#[test]
fn the_same_message_is_buried_once() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        bury(&wal, "a", 1).await.unwrap();
        let before = wal.letter_book(&name("a"));
        let again = DeadLetter { refusals: 2, ..letter("1") };
        wal.bury_again(&name("a"), at(1), again).await.unwrap();
        assert_eq!(wal.letter_book(&name("a")), before);
    });
    assert_eq!(wal.letter(&name("a"), at(1)).unwrap().unwrap().refusals, 2);
}

/// A replay has sent a message that an operator wants redriven, and it was refused: what the operator
/// wants still holds. When it is the redrive that was refused, it is done.
#[test]
fn a_refusal_on_another_way_takes_no_redrive_back() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    let (a, now) = (name("a"), received());
    let of = |text: &str| DeadLetter { text: text.to_owned(), ..letter("1") };
    run(async {
        wal.bury(&a, at(1), of("no"), ROOM).await.unwrap();
        wal.redrive(&a, &[at(1)], now).await.unwrap();
        wal.bury(&a, at(1), of("no, again"), ROOM).await.unwrap();
    });
    let book = wal.letter_book(&a);
    assert_eq!((book.letters, book.redriving, book.totals.written), (1, 1, 1));
    let found = wal.letter(&a, at(1)).unwrap().unwrap();
    assert_eq!((found.redrive, found.refusals, &*found.text), (Some(now), 2, "no, again"));
    run(async {
        let refused = DeadLetter { refusals: 3, ..of("never") };
        wal.bury_again(&a, at(1), refused).await.unwrap();
    });
    let found = wal.letter(&a, at(1)).unwrap().unwrap();
    assert_eq!((found.redrive, found.refusals, &*found.text), (None, 3, "never"));
    assert_eq!(wal.letter_book(&a).redriving, 0);
}

#[test]
fn a_letter_without_room_is_refused_and_nothing_is_dropped_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        bury(&wal, "a", 1).await.unwrap();
        let book = wal.letter_book(&name("a"));
        let room = ByteSize::bytes(book.bytes * 2);
        wal.bury(&name("a"), at(2), letter("2"), room).await.unwrap();
        let full = wal.bury(&name("a"), at(3), letter("3"), room).await;
        assert_eq!(full, Err(LetterError::Full));
        assert_eq!(offsets(&wal, "a"), [1, 2]);
        // Another destination has room of its own.
        wal.bury(&name("b"), at(3), letter("3"), room).await.unwrap();
        // An operator makes room.
        let purged = wal.remove_letters(&name("a"), &[at(1), at(7)], Removal::Purged).await;
        assert_eq!(purged, Ok(1));
        wal.bury(&name("a"), at(3), letter("3"), room).await.unwrap();
        assert_eq!(offsets(&wal, "a"), [2, 3]);
        // What is sent again to make room has room itself, though nothing is left.
        let marked = wal.redrive(&name("a"), &[at(2), at(3)], received()).await;
        assert_eq!(marked, Ok(2));
        assert!(wal.letter_book(&name("a")).bytes > room.get());
        let longer = DeadLetter { text: "x".repeat(200), ..letter("2") };
        assert_eq!(wal.bury_again(&name("a"), at(2), longer).await, Ok(()));
        let full = wal.bury(&name("a"), at(4), letter("4"), room).await;
        assert_eq!(full, Err(LetterError::Full), "all others have the room there is");
    });
}

#[test]
fn what_is_marked_stays_until_it_is_removed_and_every_way_out_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    let (a, now) = (name("a"), received());
    run(async {
        for offset in 1..=6 {
            bury(&wal, "a", offset).await.unwrap();
        }
        let mut changed = wal.letters_changed();
        changed.mark_unchanged();
        assert_eq!(wal.redrive(&a, &[at(1), at(2), at(99)], now).await, Ok(2));
        changed.changed().await.unwrap();
    });
    close(wal);
    let wal = open(&dir);
    assert_eq!(wal.letter_book(&a).redriving, 2);
    assert_eq!(wal.letter(&a, at(1)).unwrap().unwrap().redrive, Some(now));
    run(async {
        for (offset, why) in [
            (1, Removal::Redriven),
            (3, Removal::Purged),
            (4, Removal::Expired),
            (5, Removal::Withdrawn),
            (5, Removal::Purged),
        ] {
            wal.remove_letters(&a, &[at(offset)], why).await.unwrap();
        }
        // Refused again: it waits for an operator again.
        wal.bury_again(&a, at(2), letter("2")).await.unwrap();
    });
    let book = wal.letter_book(&a);
    let totals =
        LetterTotals { written: 6, redriven: 1, purged: 1, expired: 1, withdrawn: 1, lost: 0 };
    assert_eq!((book.letters, book.redriving, book.totals), (2, 0, totals));
    assert_eq!(offsets(&wal, "a"), [2, 6]);
}

#[test]
fn changes_in_one_group_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    let a = name("a");
    run(async {
        let bury = |text: &str| wal.bury(&a, at(1), letter(text), ROOM);
        let one = [at(1)];
        let remove = wal.remove_letters(&a, &one, Removal::Purged);
        let outcome = tokio::join!(bury("1"), bury("longer"), remove, bury("2"));
        assert_eq!(outcome, (Ok(()), Ok(()), Ok(1), Ok(())));
    });
    let book = wal.letter_book(&a);
    assert_eq!((book.letters, book.totals.written, book.totals.purged), (1, 2, 1));
    close(wal);
    // The start counts and compares.
    let wal = open(&dir);
    assert_eq!(wal.letter_book(&a), book);
    assert_eq!(&wal.letter(&a, at(1)).unwrap().unwrap().message[..], b"2");
}

#[test]
fn damage_and_loss_refuse_the_start_and_are_named() {
    for lost in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(&dir);
        run(async {
            bury(&wal, "a", 1).await.unwrap();
            bury(&wal, "a", 2).await.unwrap();
        });
        let store = &wal.shared.store;
        let (family, key) = (store.family(keys::LETTERS), keys::letter(&name("a"), at(2)));
        if lost {
            store.db().delete_cf(family, &key).unwrap();
        } else {
            let mut value = store.db().get_cf(family, &key).unwrap().unwrap();
            *value.last_mut().unwrap() ^= 1;
            store.db().put_cf(family, &key, value).unwrap();
        }
        close(wal);
        let error = Wal::open(config(dir.path())).unwrap_err().to_string();
        let expected = if lost { "2 dead letters of a, and are 1" } else { "dead letter 2:2 of a" };
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_store_without_a_place_for_letters_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(put(&wal, Some("A"), 1, b"a"));
    close(wal);
    // As an earlier version left it.
    let path = dir.path().join("wal");
    let families = rocksdb::DB::list_cf(&rocksdb::Options::default(), &path).unwrap();
    let mut db = rocksdb::DB::open_cf(&rocksdb::Options::default(), &path, families).unwrap();
    db.drop_cf(keys::LETTERS).unwrap();
    drop(db);
    let wal = open(&dir);
    run(bury(&wal, "a", 1)).unwrap();
    assert_eq!((tail(&wal).end, offsets(&wal, "a")), (Offset::new(1), vec![1]));
}

/// What is purged while it is on its way stays gone, whatever its collector says of it.
#[test]
fn a_letter_that_is_refused_again_takes_the_place_of_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        let again = DeadLetter { refusals: 2, ..letter("1") };
        bury(&wal, "a", 1).await.unwrap();
        wal.redrive(&name("a"), &[at(1)], UnixMicros::new(5)).await.unwrap();
        wal.bury_again(&name("a"), at(1), again.clone()).await.unwrap();
        assert_eq!(wal.letter(&name("a"), at(1)).unwrap().as_ref(), Some(&again));
        let book = wal.letter_book(&name("a"));
        assert_eq!((book.letters, book.redriving, book.totals.written), (1, 0, 1));

        wal.remove_letters(&name("a"), &[at(1)], Removal::Purged).await.unwrap();
        let purged = wal.letter_book(&name("a"));
        wal.bury_again(&name("a"), at(1), again).await.unwrap();
        assert_eq!(wal.letter(&name("a"), at(1)).unwrap(), None);
        assert_eq!(wal.letter_book(&name("a")), purged);
    });
}
