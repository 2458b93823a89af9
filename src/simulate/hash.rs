//! One hash for both books.

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

/// The identity of a message in the ledgers: XXH64 of its text, seed 0.
///
/// A published function with published test values, so that a ledger file can be checked by other
/// tools; fast enough (about 10 GB/s) to run on every message at both ends of a load test.
#[must_use]
pub fn text_hash(text: &[u8]) -> u64 {
    let (stripes, tail) = text.as_chunks::<32>();
    let mut hash = if stripes.is_empty() {
        P5
    } else {
        let mut lanes = [P1.wrapping_add(P2), P2, 0, P1.wrapping_neg()];
        for stripe in stripes {
            let (words, _) = stripe.as_chunks::<8>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane = round(*lane, u64::from_le_bytes(*word));
            }
        }
        let [a, b, c, d] = lanes;
        let mut hash = a
            .rotate_left(1)
            .wrapping_add(b.rotate_left(7))
            .wrapping_add(c.rotate_left(12))
            .wrapping_add(d.rotate_left(18));
        for lane in lanes {
            hash = (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4);
        }
        hash
    };
    // The length is part of the identity; usize is never wider than 64 bits.
    hash = hash.wrapping_add(text.len() as u64);

    let (words, tail) = tail.as_chunks::<8>();
    for word in words {
        hash ^= round(0, u64::from_le_bytes(*word));
        hash = hash.rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    }
    let (halves, tail) = tail.as_chunks::<4>();
    for half in halves {
        hash ^= u64::from(u32::from_le_bytes(*half)).wrapping_mul(P1);
        hash = hash.rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
    }
    for byte in tail {
        hash ^= u64::from(*byte).wrapping_mul(P5);
        hash = hash.rotate_left(11).wrapping_mul(P1);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(P2);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(P3);
    hash ^ (hash >> 32)
}

const fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

/// A bijection on 64 bits (the finaliser of SplitMix64): makes numbers that count look random,
/// so that frame ids spread over a store's keys as Logplex's MD5 ids do, and stay unique.
pub(super) const fn scatter(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_xxh64() {
        // Values of the reference implementation, seed 0.
        assert_eq!(text_hash(b""), 0xEF46_DB37_51D8_E999);
        assert_eq!(text_hash(b"a"), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(text_hash(b"abc"), 0x44BC_2CF5_AD77_0999);
        assert_eq!(
            text_hash(b"The quick brown fox jumps over the lazy dog"),
            0x0B24_2D36_1FDA_71BC
        );
    }

    #[test]
    fn every_length_and_every_byte_counts() {
        let base = [7u8; 100];
        let mut seen: Vec<u64> = (0..=100).map(|n| text_hash(&base[..n])).collect();
        for at in 0..100 {
            let mut other = base;
            other[at] = 8;
            seen.push(text_hash(&other));
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 201);
    }
}
