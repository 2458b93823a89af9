//! Every key there is.

use crate::record::ReplayId;
use crate::types::{DestinationName, Offset, Position, SegmentId};

/// One column family for all frames. Nothing but offsets: a low key would make every file overlap.
pub(super) const RECORDS: &str = "records";
/// The catalogue of segments.
pub(super) const SEGMENTS: &str = "segments";
/// Remembered frame ids.
pub(super) const FRAMES: &str = "frames";
/// Checkpoints.
pub(super) const CURSORS: &str = "cursors";
/// Messages that collectors refuse.
pub(super) const LETTERS: &str = "dead_letters";
/// Facts about the store as a whole.
pub(super) const META: &str = "meta";

/// All column families, in the order they are opened.
pub(super) const ALL: [&str; 6] = [RECORDS, SEGMENTS, FRAMES, CURSORS, META, LETTERS];

/// Those that a store made by an earlier version lacks. They are made when it is opened.
pub(super) const ADDED: [&str; 1] = [LETTERS];

/// In `meta`: the `StoreMarker`.
pub(super) const STORE: &[u8] = b"store";
/// In `meta`: the `TrimPoint`.
pub(super) const TRIM: &[u8] = b"trim";

/// In `meta`: what became of a destination's dead letters.
pub(super) fn letter_totals(destination: &DestinationName) -> Vec<u8> {
    [LETTER_TOTALS, destination.as_str().as_bytes()].concat()
}

/// The destination whose dead letters a key of `meta` is about.
pub(super) fn letter_totals_of(key: &[u8]) -> Option<DestinationName> {
    let name = std::str::from_utf8(key.strip_prefix(LETTER_TOTALS)?).ok()?;
    DestinationName::new(name).ok()
}

/// What the keys of [`letter_totals`] begin with.
pub(super) const LETTER_TOTALS: &[u8] = b"letters/";

/// The key of a dead letter. No name holds a zero byte, so a destination's letters lie together,
/// and in the order of the log.
pub(super) fn letter(destination: &DestinationName, at: Position) -> Vec<u8> {
    let mut key = destination.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&at.offset.get().to_be_bytes());
    key.extend_from_slice(&at.index.to_be_bytes());
    key
}

/// The destination and the position of a dead letter's key.
pub(super) fn letter_of(key: &[u8]) -> Option<(DestinationName, Position)> {
    let (rest, index) = key.split_last_chunk::<4>()?;
    let (rest, offset) = rest.split_last_chunk::<8>()?;
    let name = std::str::from_utf8(rest.strip_suffix(&[0])?).ok()?;
    let offset = Offset::new(u64::from_be_bytes(*offset));
    let at = Position::new(offset, u32::from_be_bytes(*index));
    Some((DestinationName::new(name).ok()?, at))
}

/// In `meta`: the replays begin with this.
pub(super) const REPLAY: &[u8] = b"replay/";

/// The key of a replay.
pub(super) fn replay(id: &ReplayId) -> Vec<u8> {
    [REPLAY, id.as_str().as_bytes()].concat()
}

/// In `meta`: what the last close wrote last.
pub(super) const CLOSED: &[u8] = b"closed";
/// In `meta`: the gaps begin with this.
pub(super) const GAP: &[u8] = b"gap/";

/// The key of a gap.
pub(super) fn gap(first: Offset) -> [u8; 12] {
    let mut key = [0; 12];
    let (head, tail) = key.split_at_mut(GAP.len());
    head.copy_from_slice(GAP);
    tail.copy_from_slice(&first.get().to_be_bytes());
    key
}

/// The key of a frame. Big-endian, so that keys order as offsets do.
pub(super) const fn record(offset: Offset) -> [u8; 8] {
    offset.get().to_be_bytes()
}

/// The offset a record key stands for.
pub(super) fn offset_of(key: &[u8]) -> Option<Offset> {
    Some(Offset::new(u64::from_be_bytes(key.try_into().ok()?)))
}

/// The key of a catalogue entry.
pub(super) const fn segment(id: SegmentId) -> [u8; 8] {
    id.get().to_be_bytes()
}

/// The segment a catalogue key stands for.
pub(super) fn segment_of(key: &[u8]) -> Option<SegmentId> {
    Some(SegmentId::new(u64::from_be_bytes(key.try_into().ok()?)))
}

/// Bytes of a frame-id key: the hour first, so that what expires together lies together.
pub(super) const FRAME_KEY: usize = 20;

/// The first 16 bytes of the SHA-256 of a frame's identity.
pub(super) type Digest = [u8; 16];

/// The key of a remembered frame id.
pub(super) fn frame(hour: u32, digest: &Digest) -> [u8; FRAME_KEY] {
    let mut key = [0; FRAME_KEY];
    let (head, tail) = key.split_at_mut(4);
    head.copy_from_slice(&hour.to_be_bytes());
    tail.copy_from_slice(digest);
    key
}

/// The hour and the digest of a frame-id key.
pub(super) fn frame_of(key: &[u8]) -> Option<(u32, Digest)> {
    let (hour, digest) = key.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*hour), digest.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_numbers_do_at_the_extremes() {
        let numbers = [0, 1, 255, 256, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        assert!(numbers.windows(2).all(|pair| {
            record(Offset::new(pair[0])) < record(Offset::new(pair[1]))
                && segment(SegmentId::new(pair[0])) < segment(SegmentId::new(pair[1]))
        }));
        assert!(frame(7, &[0xff; 16]) < frame(8, &[0; 16]));
    }

    #[test]
    fn keys_are_frozen_and_come_back() {
        assert_eq!(record(Offset::new(258)), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(offset_of(&record(Offset::new(258))), Some(Offset::new(258)));
        assert_eq!(segment_of(&segment(SegmentId::new(7))), Some(SegmentId::new(7)));
        assert_eq!(frame_of(&frame(9, &[3; 16])), Some((9, [3; 16])));
        assert_eq!((offset_of(b"short"), frame_of(b"short")), (None, None));
        let (name, at) = (DestinationName::new("a.b").unwrap(), Position::new(Offset::new(258), 3));
        assert_eq!(letter(&name, at), b"a.b\0\0\0\0\0\0\0\x01\x02\0\0\0\x03");
        assert_eq!(letter_of(&letter(&name, at)), Some((name.clone(), at)));
        assert_eq!(letter_of(b"a.b"), None);
        assert_eq!(letter_totals_of(&letter_totals(&name)), Some(name));
        assert_eq!(letter_totals_of(STORE), None);
    }
}
