//! What must hold of every stored value: for the fuzzer (`tests/fuzz`), and for the tests, which
//! replay its corpus.

use bytes::Bytes;

use super::{Checkpoint, FORMAT, HEADER, PreparedRecord, Record, ValueError, decode_record, seal};
use crate::logplex::Profile;
use crate::types::UnixMicros;

/// The first byte says what is tried with the others.
pub fn record(data: &[u8]) {
    let Some((what, data)) = data.split_first() else { return };
    match what % 4 {
        0 => drop(read(data)),
        1 => drop(read(&sealed(data))),
        2 => checkpoint(&sealed(data)),
        _ => written(data),
    }
}

/// Bytes that may be a record: what can be read can be written, and is the same again.
fn read(value: &[u8]) -> Option<Record> {
    let record = decode_record(value).ok()?;
    let again = PreparedRecord::new(&record).finish(record.messages_before);
    assert_eq!(decode_record(&again).as_ref(), Ok(&record));
    Some(record)
}

/// The same for a checkpoint.
fn checkpoint(value: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::decode(value) {
        assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
    }
}

/// A record that was written is read back; with one bit changed, wherever, it is refused.
fn written(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let mut next = || bytes.next().unwrap_or_default();
    let [flags, bit, high, low, count] = [next(), next(), next(), next(), next()];
    let body: Vec<u8> = bytes.collect();
    let text = String::from_utf8_lossy(body.get(..body.len().min(40)).unwrap_or_default());
    let record = Record {
        drain_token: (flags & 1 != 0).then(|| text.to_string()),
        frame_id: (flags & 2 != 0).then(|| text.to_string()),
        messages_claimed: (flags & 4 != 0).then_some(u32::from(count) << (flags >> 4)),
        messages: u32::from(count),
        messages_before: u64::from(low) << (flags >> 3),
        received: UnixMicros::new(i64::from(high) << 40),
        peer: text.to_string(),
        query: if flags & 8 == 0 { String::new() } else { text.to_string() },
        profile: match flags % 3 {
            0 => Profile::Logplex,
            1 => Profile::Shuttle,
            _ => Profile::Other,
        },
        body: Bytes::from(body),
    };
    let mut value = PreparedRecord::new(&record).finish(record.messages_before);
    assert_eq!(decode_record(&value).as_ref(), Ok(&record));
    let place = usize::from(u16::from_be_bytes([high, low])) % value.len();
    if let Some(byte) = value.get_mut(place) {
        *byte ^= 1 << (bit % 8);
    }
    let found = decode_record(&value);
    let seen = matches!(found, Err(ValueError::Format(_) | ValueError::Crc { .. }));
    assert!(seen, "a changed bit goes unseen: {found:?}");
}

/// `content` in an envelope that is as it should be.
fn sealed(content: &[u8]) -> Vec<u8> {
    let mut value = vec![FORMAT, 0, 0, 0, 0];
    value.extend_from_slice(content);
    let crc = crc32fast::hash(value.get(HEADER..).unwrap_or_default());
    seal(&mut value, crc);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::corpus;

    #[test]
    fn the_corpus_of_records_holds() {
        for (name, data) in corpus("record") {
            println!("{name}");
            record(&data);
        }
    }

    #[test]
    fn the_corpus_reaches_what_it_is_for() {
        let all = corpus("record");
        let of = |what: u8| {
            all.iter().filter(move |(_, data)| data[0] % 4 == what).map(|(_, data)| &data[1..])
        };
        assert!(of(0).any(|data| read(data).is_some()), "a stored record");
        assert!(of(1).any(|data| read(&sealed(data)).is_some()), "the content of one");
        assert!(of(2).any(|data| Checkpoint::decode(&sealed(data)).is_ok()), "a checkpoint");
        assert!(of(3).any(|data| data.len() > 20), "a record to write");
    }
}
