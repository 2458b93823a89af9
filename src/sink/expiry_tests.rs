//! Dead letters grow old whatever else waits.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::pack::Source as _;
use super::pack_tests::{Log, frame};
use super::*;
use crate::clock;
use crate::record::DeadLetter;
use crate::types::{Offset, PositionRange, UnixMicros};

/// The dead letter of a message of the log, refused just now.
fn letter(log: &Log, index: u32) -> (Position, DeadLetter) {
    let place = |index| Position::new(Offset::ZERO, index);
    let range = PositionRange { start: place(index), end: place(index + 1) };
    let (at, letter) = log.packer(10_000, 9).letter(range).unwrap().unwrap();
    (at, DeadLetter { refused: clock::unix_micros(), ..letter })
}

/// A collector that holds a redrive for as long as it likes does not keep the others.
#[tokio::test(flavor = "multi_thread")]
async fn letters_expire_while_others_wait_for_a_held_collector() {
    let log = Log::of(vec![frame(&["sent again", "left alone", "behind"])]);
    let (address, _listening) =
        rig::collector(async |_| (403, "{\"text\":\"Invalid token\",\"code\":4}")).await;
    let mut config = rig::config(address);
    config.start = Start::Latest;
    config.dead_letters.max_age = Duration::from_millis(300);
    let name = config.name.clone();
    let room = ByteSize::mib(1);
    let sink = Sink::open(config, log.wal.clone()).await.unwrap();
    let (waits, sent_again) = letter(&log, 0);
    log.wal.bury(&name, waits, sent_again, room).await.unwrap();
    log.wal.redrive(&name, &[waits], UnixMicros::new(1)).await.unwrap();

    let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
    running.spawn(sink.run(stop.clone(), Duration::from_millis(10)));
    let mut changed = log.wal.letters_changed();
    for index in [1, 2] {
        // Each is younger than it may be when letters are looked through for the first time.
        let (at, left_alone) = letter(&log, index);
        log.wal.bury(&name, at, left_alone, room).await.unwrap();
        let gone = async {
            while log.wal.letter_book(&name).totals.expired < u64::from(index) {
                changed.changed().await.unwrap();
            }
        };
        timeout(Duration::from_secs(30), gone).await.expect("it expires");
    }
    let book = log.wal.letter_book(&name);
    assert_eq!((book.letters, book.redriving), (1, 1), "what is sent again stays");
    stop.cancel();
    running.join_all().await;
}

const HOUR: Duration = Duration::from_hours(1);

fn later(time: UnixMicros, passed: Duration) -> UnixMicros {
    UnixMicros::new(time.get() + i64::try_from(passed.as_micros()).unwrap())
}

/// The wall clock is a year ahead of all that is stored: nothing is deleted by it. When a day has
/// passed, and it still shows that, a year has.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_at_the_start_deletes_nothing() {
    let log = Log::of(vec![frame(&["a letter"])]);
    let mut config = rig::config(([127, 0, 0, 1], 1).into());
    config.dead_letters.max_age = Duration::from_hours(24 * 30);
    let name = config.name.clone();
    let sink = Sink::open(config, log.wal.clone()).await.unwrap();
    let (at, letter) = letter(&log, 0);
    log.wal.bury(&name, at, letter, ByteSize::mib(1)).await.unwrap();
    let (wal, config, calendar) = (log.wal.clone(), sink.config.clone(), sink.calendar);
    let mut expiry = expiry::Expiry { config, wal, calendar };
    let (wall, start) = (clock::unix_micros(), clock::instant());
    let ahead = later(wall, HOUR * 24 * 365);
    let expired = || log.wal.letter_book(&name).totals.expired;
    for hours in 0..24 {
        expiry.expire(later(ahead, HOUR * hours), start + HOUR * hours).await;
        assert_eq!(expired(), 0, "after {hours} hours");
    }
    // It was put right, and jumps again, for one look.
    expiry.expire(later(wall, HOUR * 24), start + HOUR * 24).await;
    expiry.expire(later(ahead, HOUR * 25), start + HOUR * 25).await;
    expiry.expire(later(wall, HOUR * 26), start + HOUR * 26).await;
    assert_eq!(expired(), 0);
    // What stays so for a day is so.
    for hours in 27..=51 {
        assert_eq!(expired(), 0, "after {hours} hours");
        expiry.expire(later(ahead, HOUR * hours), start + HOUR * hours).await;
    }
    assert_eq!(expired(), 1);
}

/// While the clock is wrong, letters grow old by what has passed.
#[test]
fn time_passes_though_the_clock_is_wrong() {
    let (start, noon) = (clock::instant(), UnixMicros::new(1_800_000_000_000_000));
    let mut calendar = expiry::Calendar::from(noon, start);
    let mut shows = |wall: UnixMicros, hours| {
        let now = calendar.now(wall, start + HOUR * hours);
        Duration::from_micros(now.since(noon)).as_secs_f64() / 3600.0
    };
    let years = |hours| later(noon, HOUR * (9999 * hours));
    assert_eq!(shows(years(1), 1), 1.0);
    // One that jumps each time is never believed.
    for hours in 2..100 {
        assert_eq!(shows(years(hours), hours), f64::from(hours));
    }
    // One that goes back is: nothing is deleted by it.
    assert_eq!(shows(later(noon, HOUR * 50), 100), 50.0);
    assert_eq!(shows(later(noon, HOUR * 51), 101), 51.0);
    assert_eq!(shows(later(noon, HOUR * 90), 102), 52.0);
}
