//! CRC-32C (Castagnoli), as RocksDB's log has it. In software, eight bytes a step: read once a
//! start, over what RocksDB has not flushed.

/// The polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[n][b]`: the crc of byte `b` with `n` zero bytes behind it.
static TABLES: [[u32; 256]; 8] = tables();

#[expect(clippy::indexing_slicing, reason = "made by the compiler, which checks the bounds")]
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let (mut byte, mut value) = (0, 0u32);
    while byte < 256 {
        let (mut crc, mut bit) = (value, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
        value += 1;
    }
    let mut n = 1;
    while n < 8 {
        byte = 0;
        while byte < 256 {
            let before = tables[n - 1][byte];
            tables[n][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        n += 1;
    }
    tables
}

/// The crc of `bytes`.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    #[expect(clippy::indexing_slicing, reason = "a byte is an index of 256")]
    let look = |table: usize, byte: u32| TABLES[table][(byte & 0xff) as usize];
    let (eights, rest) = bytes.as_chunks::<8>();
    let mut crc = !0u32;
    for &[a, b, c, d, e, f, g, h] in eights {
        let low = crc ^ u32::from_le_bytes([a, b, c, d]);
        crc = look(7, low)
            ^ look(6, low >> 8)
            ^ look(5, low >> 16)
            ^ look(4, low >> 24)
            ^ look(3, u32::from(e))
            ^ look(2, u32::from(f))
            ^ look(1, u32::from(g))
            ^ look(0, u32::from(h));
    }
    for &byte in rest {
        crc = (crc >> 8) ^ look(0, crc ^ u32::from(byte));
    }
    !crc
}

/// RocksDB stores a crc that may be made over crcs rotated and moved.
pub(super) const fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_the_one_of_rfc_3720() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }
}
