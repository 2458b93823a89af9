//! Chance as an argument: a seeded generator, so that a simulation with the same seed takes the
//! same way.

use std::time::Duration;

use crate::types::ChannelId;

/// splitmix64 (Steele, Lea, Flood 2014). Good enough for jitter, and for channel ids when the
/// seed comes from the operating system.
#[derive(Clone, Debug)]
pub(super) struct Chance {
    state: u64,
    /// Keeps the channel ids of two processes apart even if one half of their seeds agrees.
    salt: u64,
}

impl Chance {
    pub(super) const fn new(seed: u128) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the seed")]
        let (low, high) = (seed as u64, (seed >> 64) as u64);
        Self { state: low, salt: high }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A wait between nothing and `bound`, evenly ("full jitter").
    pub(super) fn up_to(&mut self, bound: Duration) -> Duration {
        let bound = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        // The high bits of a 64 × 64 bit product: no modulo bias.
        let product = u128::from(self.next()) * (u128::from(bound) + 1);
        Duration::from_micros(u64::try_from(product >> 64).unwrap_or(bound))
    }

    /// `wait` give or take a fifth.
    pub(super) fn around(&mut self, wait: Duration) -> Duration {
        wait * 4 / 5 + self.up_to(wait * 2 / 5)
    }

    /// A channel nobody has used before.
    pub(super) fn channel(&mut self) -> ChannelId {
        let bits = (u128::from(self.next() ^ self.salt) << 64) | u128::from(self.next());
        ChannelId::from_random(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_fill_their_range_and_stay_in_it() {
        let mut chance = Chance::new(7);
        let waits: Vec<_> = (0..1000).map(|_| chance.up_to(Duration::from_millis(100))).collect();
        assert!(waits.iter().all(|w| *w <= Duration::from_millis(100)));
        assert!(waits.iter().any(|w| *w < Duration::from_millis(10)));
        assert!(waits.iter().any(|w| *w > Duration::from_millis(90)));
        let around = chance.around(Duration::from_secs(5));
        assert!((4..=6).contains(&around.as_secs()), "{around:?}");
    }

    #[test]
    fn channels_never_repeat_and_differ_between_seeds() {
        let (mut a, mut b) = (Chance::new(1), Chance::new(1 | (1 << 64)));
        let mut seen = std::collections::BTreeSet::new();
        assert!((0..1000).all(|_| seen.insert(a.channel()) && seen.insert(b.channel())));
    }
}
