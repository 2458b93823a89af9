//! Which message a dead letter is of.

use super::pack::Source as _;
use super::pack_tests::{Log, frame};
use super::*;
use crate::types::{BatchId, Offset, PositionRange};

/// Only what these drains send is delivered.
fn only(drains: &[&str]) -> DrainSettings {
    let wanted = Some(drains.iter().map(|&token| token.to_owned()).collect());
    DrainSettings { wanted, ..DrainSettings::default() }
}

/// A reload lets another drain through, between the refusal of an event and its burial (the dead
/// letters were full, say). The first event in the range is another one then, which nobody refused;
/// the refused one would be passed for good.
#[test]
fn a_letter_is_of_the_only_event_or_there_is_none() {
    let frames = ["d.1", "d.2", "d.3"].map(|drain| (drain, frame(&[drain])));
    let log = Log::of_drains(frames.into());
    let mut packer = log.packer(5000, 9);
    packer.encoder.set_drains(&only(&["d.3"]));
    let (read, _) = packer.next(BatchId::new(0), Position::ZERO).unwrap();
    assert_eq!((read.messages, read.events), (3, 1));
    let (at, letter) = packer.letter(read.range).unwrap().unwrap();
    assert_eq!((at.offset.get(), letter.event_id.as_str()), (2, "F2:0"));
    for drains in [&["d.1", "d.3"][..], &[]] {
        packer.encoder.set_drains(&only(drains));
        let found = packer.letter(read.range).unwrap();
        assert!(found.is_none(), "{drains:?}: {found:?}");
    }
    packer.encoder.set_drains(&only(&["d.3"]));
    assert_eq!(packer.letter(read.range).unwrap().unwrap().0, at, "as before");
}

/// Letters that are sent again are told apart in the same way.
#[test]
fn a_letter_of_letters_is_the_only_one_or_none() {
    let log = Log::of(vec![frame(&["a", "b"])]);
    let letter = |index| {
        let [start, end] = [index, index + 1].map(|index| Position::new(Offset::ZERO, index));
        log.packer(5000, 9).letter(PositionRange { start, end }).unwrap().unwrap()
    };
    let mut source = log.redriven(vec![letter(0), letter(1)]);
    let range = |start, end| {
        let [start, end] = [start, end].map(|index| Position::at(Offset::new(index)));
        PositionRange { start, end }
    };
    let (at, found) = source.letter(range(1, 2)).unwrap().unwrap();
    assert_eq!((at.offset.get(), found.event_id.as_str()), (1, "F0:1"));
    assert!(source.letter(range(0, 2)).unwrap().is_none());
}
