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
