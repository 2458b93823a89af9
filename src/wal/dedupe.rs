//! Which frames have been seen (I3): the same frame id from the same drain is stored once.
//!
//! On disk, a key a frame, written in the same batch as the frame. In memory, 32 bits of each key,
//! by hour: enough to say "certainly new" for almost every frame without touching the disk. A
//! match is looked up, so that two frames which merely share 32 bits are both stored.
//!
//! The window ends by time, hour by hour, and earlier when memory is full: then the oldest hour
//! is forgotten, and the gauge `forebay_dedupe_window_seconds` says how far the window reaches.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::types::{ByteSize, UnixMicros};

use super::keys::Digest;

/// The identity of a frame. The length keeps `("ab", "c")` and `("a", "bc")` apart.
pub(super) fn digest(scope: &str, frame_id: &str) -> Digest {
    let mut hash = Sha256::new();
    hash.update((scope.len() as u64).to_le_bytes());
    hash.update(scope.as_bytes());
    hash.update(frame_id.as_bytes());
    let full: [u8; 32] = hash.finalize().into();
    let mut digest = Digest::default();
    digest.copy_from_slice(full.first_chunk::<16>().unwrap_or(&[0; 16]));
    digest
}

/// The hour a frame arrived in, since 1970.
pub(super) fn hour(at: UnixMicros) -> u32 {
    u32::try_from(at.get().div_euclid(3_600_000_000)).unwrap_or(0)
}

/// The bits of a SHA-256 need no further hashing.
#[derive(Clone, Copy, Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_u32(&mut self, value: u32) {
        // The table takes its position from the low bits and its tag from the high ones.
        self.0 = u64::from(value) | (u64::from(value) << 32);
    }
}

type Bits = HashSet<u32, BuildHasherDefault<AsIs>>;

/// The index in memory.
#[derive(Debug)]
pub(super) struct Dedupe {
    /// By hour, the oldest first. A busy hour has several sets, so that the limit can be kept by
    /// forgetting a part of it.
    hours: VecDeque<(u32, Bits)>,
    window: Duration,
    limit: usize,
    /// Since when there are hours that have not come yet: the clock was ahead for a while.
    ahead_since: Option<UnixMicros>,
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forgotten {
    /// All hours before this one.
    pub(super) before: Option<u32>,
    /// All hours from this one on, which lie in the future.
    pub(super) from: Option<u32>,
}

impl Dedupe {
    pub(super) const fn new(window: Duration, memory: ByteSize) -> Self {
        // usize is 64 bits wherever RocksDB's own sizes are right.
        #[expect(clippy::cast_possible_truncation, reason = "64-bit only, see above")]
        let limit = memory.get() as usize;
        Self { hours: VecDeque::new(), window, limit, ahead_since: None }
    }

    /// The hours in which this frame may have been seen. Almost always none.
    pub(super) fn candidates(&self, digest: &Digest) -> impl Iterator<Item = u32> {
        let bits = bits(digest);
        self.hours.iter().rev().filter(move |(_, seen)| seen.contains(&bits)).map(|(hour, _)| *hour)
    }

    /// Remembers a frame of an hour. Hours come in any order: clocks are set back.
    pub(super) fn load(&mut self, hour: u32, digest: &Digest) {
        let full = |seen: &Bits| memory(seen) > self.limit / 8 && seen.len() == seen.capacity();
        let behind = self.hours.partition_point(|(known, _)| *known <= hour);
        let last = behind.checked_sub(1).and_then(|last| self.hours.get_mut(last));
        if let Some((_, seen)) = last.filter(|(known, seen)| *known == hour && !full(seen)) {
            seen.insert(bits(digest));
            return;
        }
        let mut seen = Bits::default();
        seen.insert(bits(digest));
        self.hours.insert(behind, (hour, seen));
    }

    /// Forgets what lies outside of the window, and says what that was.
    ///
    /// What has arrived while the clock was ahead has an hour that may not come for a year. It is
    /// remembered for as long as everything else, from the moment on at which that is noticed.
    pub(super) fn expire(&mut self, now: UnixMicros) -> Forgotten {
        let hours = u32::try_from(self.window.as_secs().div_ceil(3600)).unwrap_or(u32::MAX);
        let keep_from = hour(now).saturating_sub(hours);
        let mut forgotten = Forgotten::default();
        let ahead = self.first_ahead(now);
        let (ahead, from) = (ahead.is_some(), hour(now).saturating_add(2));
        self.ahead_since = ahead.then(|| self.ahead_since.map_or(now, |since| since.min(now)));
        let window = u64::try_from(self.window.as_micros()).unwrap_or(u64::MAX);
        if self.ahead_since.is_some_and(|since| now.since(since) > window) {
            self.hours.retain(|(hour, _)| *hour < from);
            (self.ahead_since, forgotten.from) = (None, Some(from));
        }
        let before = self.hours.len();
        while self.hours.front().is_some_and(|(hour, _)| *hour < keep_from)
            || (self.hours.len() > 1 && self.memory() > self.limit)
        {
            self.hours.pop_front();
        }
        if self.hours.len() < before {
            // What is ahead may be all there is: the hours between are still to come.
            let oldest = self.hours.front().map_or(keep_from, |(hour, _)| *hour);
            forgotten.before = Some(oldest.min(hour(now)));
        }
        forgotten
    }

    /// The hour before which ids may go from the disk: what was forgotten before it, and never what is
    /// remembered. A clock that was ahead has had hours forgotten that come only now.
    pub(super) fn gone_before(&self, before: u32, forgotten: Forgotten) -> u32 {
        let before = forgotten.before.unwrap_or(before);
        self.hours.front().map_or(before, |(oldest, _)| before.min(*oldest))
    }

    /// The first hour that cannot have come yet.
    fn first_ahead(&self, now: UnixMicros) -> Option<u32> {
        let newest = self.hours.back().map(|(hour, _)| *hour);
        newest.filter(|newest| *newest > hour(now).saturating_add(1))
    }

    /// Bytes in use.
    pub(super) fn memory(&self) -> usize {
        self.hours.iter().map(|(_, seen)| memory(seen)).sum()
    }

    /// Keys in memory.
    pub(super) fn len(&self) -> usize {
        self.hours.iter().map(|(_, seen)| seen.len()).sum()
    }

    /// How far back frames are remembered, to the hour.
    pub(super) fn reach(&self, now: UnixMicros) -> Duration {
        let oldest = self.hours.front().map_or_else(|| hour(now), |(hour, _)| *hour);
        Duration::from_hours(u64::from(hour(now).saturating_sub(oldest)))
    }
}

/// Four bytes a key and one of control, in a table that is at most 7/8 full.
fn memory(seen: &Bits) -> usize {
    seen.capacity() * 8 / 7 * 5
}

const fn bits(digest: &Digest) -> u32 {
    let [a, b, c, d, ..] = *digest;
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn insert(dedupe: &mut Dedupe, at: UnixMicros, digest: &Digest) -> u32 {
        let hour = hour(at);
        dedupe.load(hour, digest);
        hour
    }

    fn before(hour: u32) -> Forgotten {
        Forgotten { before: Some(hour), from: None }
    }

    #[test]
    fn the_scope_is_part_of_the_identity() {
        assert_ne!(digest("d.1", "F"), digest("d.2", "F"));
        assert_ne!(digest("ab", "c"), digest("a", "bc"));
        assert_eq!(digest("ab", "c"), digest("ab", "c"));
    }

    #[test]
    fn what_was_seen_is_a_candidate_until_the_window_ends() {
        let mut dedupe = Dedupe::new(Duration::from_hours(2), ByteSize::mib(64));
        let (a, b) = (digest("d", "a"), digest("d", "b"));
        let start = UnixMicros::new(1000 * HOUR);
        assert_eq!(insert(&mut dedupe, start, &a), 1000);
        assert_eq!(dedupe.candidates(&a).collect::<Vec<_>>(), [1000]);
        assert_eq!(dedupe.candidates(&b).count(), 0);
        assert_eq!(dedupe.expire(UnixMicros::new(1002 * HOUR)), Forgotten::default());
        assert_eq!(dedupe.candidates(&a).count(), 1);
        assert_eq!(dedupe.expire(UnixMicros::new(1003 * HOUR)), before(1001));
        assert_eq!((dedupe.candidates(&a).count(), dedupe.len()), (0, 0));
    }

    #[test]
    fn a_clock_that_was_ahead_keeps_nothing_for_ever() {
        let mut dedupe = Dedupe::new(Duration::from_hours(24), ByteSize::mib(64));
        let at = |hours: i64| UnixMicros::new(hours * HOUR);
        let (a, ahead, b) = (digest("d", "a"), digest("d", "ahead"), digest("d", "b"));
        assert_eq!(insert(&mut dedupe, at(1000), &a), 1000);
        // The clock jumps a year ahead, for a moment: its sets are not looked at meanwhile.
        assert_eq!(insert(&mut dedupe, at(1000 + 8760), &ahead), 9760);
        // And back: what comes is of its own hour, and goes with it.
        assert_eq!(insert(&mut dedupe, at(1001), &b), 1001);
        assert_eq!(dedupe.expire(at(1001)), Forgotten::default());
        for (key, hour) in [(&a, 1000), (&ahead, 9760), (&b, 1001)] {
            assert_eq!(dedupe.candidates(key).collect::<Vec<_>>(), [hour], "all are known");
        }
        assert_eq!(dedupe.reach(at(1001)), Duration::from_hours(1));
        assert_eq!(dedupe.expire(at(1025)), before(1001));
        assert_eq!(dedupe.candidates(&b).count(), 1);
        let end = dedupe.expire(at(1026));
        assert_eq!(end, Forgotten { before: Some(1002), from: Some(1028) });
        assert_eq!((dedupe.len(), dedupe.ahead_since), (0, None), "a year before its time");
    }

    /// Else the next sweep deletes from the disk what is remembered, and its duplicate is stored.
    #[test]
    fn ids_that_are_remembered_stay_on_the_disk_after_a_clock_that_was_ahead() {
        let mut dedupe = Dedupe::new(Duration::from_hours(24), ByteSize::mib(64));
        let at = |hours: i64| UnixMicros::new(hours * HOUR);
        let mut gone = 0;
        let mut publish = |dedupe: &mut Dedupe, now| {
            let forgotten = dedupe.expire(now);
            gone = dedupe.gone_before(gone, forgotten);
            gone
        };
        assert_eq!(publish(&mut dedupe, at(1000)), 0);
        insert(&mut dedupe, at(1000), &digest("d", "a"));
        assert_eq!(publish(&mut dedupe, at(1000)), 0);
        // Two days ahead: what there was lies outside of the window.
        assert_eq!(publish(&mut dedupe, at(1048)), 1024);
        insert(&mut dedupe, at(1000), &digest("d", "b"));
        assert_eq!(publish(&mut dedupe, at(1000)), 1000, "b is remembered");
        assert_eq!(publish(&mut dedupe, at(1024)), 1000);
        assert_eq!(publish(&mut dedupe, at(1025)), 1001, "and forgotten in its time");
    }

    /// The other way round: the hours of a clock that was behind are old at once, and are not taken
    /// for the newest.
    #[test]
    fn a_clock_that_goes_back_forgets_nothing() {
        let mut dedupe = Dedupe::new(Duration::from_hours(24), ByteSize::mib(64));
        let (a, b) = (digest("d", "a"), digest("d", "b"));
        assert_eq!(insert(&mut dedupe, UnixMicros::new(1000 * HOUR), &a), 1000);
        assert_eq!(insert(&mut dedupe, UnixMicros::new(990 * HOUR), &b), 990);
        assert_eq!(dedupe.expire(UnixMicros::new(1000 * HOUR)), Forgotten::default());
        assert_eq!(
            dedupe.candidates(&a).chain(dedupe.candidates(&b)).collect::<Vec<_>>(),
            [1000, 990]
        );
    }

    #[test]
    fn when_memory_is_full_the_oldest_hour_goes_first() {
        let limit = ByteSize::bytes(40_000);
        let mut dedupe = Dedupe::new(Duration::from_hours(24), limit);
        for n in 0..20_000 {
            let at = UnixMicros::new((1000 + n / 3000) * HOUR);
            let key = digest("d", &n.to_string());
            insert(&mut dedupe, at, &key);
            dedupe.expire(at);
            assert_eq!(dedupe.candidates(&key).count(), 1, "the newest is always remembered");
        }
        assert!(dedupe.memory() <= 40_000, "{}", dedupe.memory());
        assert!(dedupe.memory() >= 20_000, "but what fits is kept: {}", dedupe.memory());
        let reach = dedupe.reach(UnixMicros::new(1006 * HOUR));
        assert!(reach <= Duration::from_hours(2), "{reach:?}");
    }
}
