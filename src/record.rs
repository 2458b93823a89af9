//! The durable forms and how they are put into bytes.
//!
//! ```text
//! byte 0      format of the value, 1
//! bytes 1..5  crc32 (IEEE) of the rest, little-endian
//! bytes 5..   protobuf, see proto/forebay/storage/v1/storage.proto
//! ```
//!
//! The crc is made when a frame arrives and checked at every read, end to end, besides RocksDB's
//! own block checksums. A frame is encoded in two steps: [`PreparedRecord`] holds everything the
//! sender's task knows, and the appender adds what only it knows, the running count. Protobuf
//! makes that cheap: fields may follow in any order, so the second step only appends.

mod checkpoint;
mod letter;
mod replay;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::generated::storage;
use crate::logplex::Profile;
use crate::types::UnixMicros;

pub use checkpoint::{Ahead, Checkpoint, Fate, Moved, Totals};
pub use letter::{DeadLetter, LetterTotals};
pub use replay::{Replay, ReplayFilter, ReplayId, ReplayState};

#[cfg(any(test, fuzzing))]
pub mod fuzz;

/// The format byte of every value this version writes.
pub const FORMAT: u8 = 1;

const HEADER: usize = 5;

/// Field number of `Record.messages_before`, the one field the appender adds.
const MESSAGES_BEFORE: u32 = 15;

/// Field number and wire type of `Record.body`.
const BODY: u32 = 9;

/// Why bytes are not the value they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Fewer bytes than a header has.
    #[error("{0} bytes are too few for a value")]
    Short(usize),
    /// A format this version does not know: written by a newer forebay.
    #[error("value format {0} is unknown, this version reads format {FORMAT}")]
    Format(u8),
    /// The content is not what was written.
    #[error("crc32 is {computed:08x}, stored {stored:08x}")]
    Crc {
        /// The crc in the header.
        stored: u32,
        /// The crc of the content.
        computed: u32,
    },
    /// The crc holds but the content is no such message: a bug, or a foreign store.
    #[error("the content does not decode")]
    Decode,
}

/// One frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `Logplex-Drain-Token`, when there was one.
    pub drain_token: Option<String>,
    /// `Logplex-Frame-Id`, or log-shuttle's `X-Request-Id`.
    pub frame_id: Option<String>,
    /// `Logplex-Msg-Count`, when it was a number.
    pub messages_claimed: Option<u32>,
    /// Messages that octet counting found in the body.
    pub messages: u32,
    /// Messages in the log before this frame.
    pub messages_before: u64,
    /// Time of arrival.
    pub received: UnixMicros,
    /// The sender's address.
    pub peer: String,
    /// The query string, as it came.
    pub query: String,
    /// Who sent it.
    pub profile: Profile,
    /// The body, byte for byte.
    pub body: Bytes,
}

/// A frame, encoded but for what the appender knows.
#[derive(Debug)]
pub struct PreparedRecord {
    /// Header with room for the crc, then protobuf.
    value: Vec<u8>,
    crc: crc32fast::Hasher,
    messages: u32,
    received: UnixMicros,
}

impl PreparedRecord {
    /// Encodes a frame. `messages_before` is left out: [`Self::finish`] adds it.
    #[must_use]
    pub fn new(record: &Record) -> Self {
        let facts = storage::Record {
            drain_token: record.drain_token.clone(),
            frame_id: record.frame_id.clone(),
            messages_claimed: record.messages_claimed,
            messages: record.messages,
            received_us: record.received.get(),
            peer: record.peer.clone(),
            query: record.query.clone(),
            profile: profile_to_wire(record.profile).into(),
            body: Bytes::new(),
            messages_before: 0,
        };
        // Room for header, facts, the body's and the count's keys and lengths: one allocation.
        let room = HEADER + facts.encoded_len() + record.body.len() + 32;
        let mut value = Vec::with_capacity(room);
        value.extend_from_slice(&[FORMAT, 0, 0, 0, 0]);
        facts.encode_raw(&mut value);
        encode_key(BODY, WireType::LengthDelimited, &mut value);
        encode_varint(record.body.len() as u64, &mut value);
        value.extend_from_slice(&record.body);
        let mut crc = crc32fast::Hasher::new();
        crc.update(value.get(HEADER..).unwrap_or_default());
        Self { value, crc, messages: record.messages, received: record.received }
    }

    /// Messages in the frame.
    #[must_use]
    pub const fn messages(&self) -> u32 {
        self.messages
    }

    /// When the frame arrived.
    #[must_use]
    pub const fn received(&self) -> UnixMicros {
        self.received
    }

    /// Bytes the value has so far: what the frame costs in memory while it waits.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.value.len()
    }

    /// Whether the value is empty, which it never is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    /// Adds the running count and closes the crc. The result is the value to store.
    #[must_use]
    pub fn finish(mut self, messages_before: u64) -> Vec<u8> {
        let tail = self.value.len();
        encode_key(MESSAGES_BEFORE, WireType::Varint, &mut self.value);
        encode_varint(messages_before, &mut self.value);
        self.crc.update(self.value.get(tail..).unwrap_or_default());
        seal(&mut self.value, self.crc.finalize());
        self.value
    }
}

/// Checks and decodes the stored value of a frame.
///
/// # Errors
/// When the value is not one that [`PreparedRecord::finish`] made.
pub fn decode_record(value: &[u8]) -> Result<Record, ValueError> {
    let content: Bytes = Bytes::copy_from_slice(checked(value)?);
    let wire = storage::Record::decode(content).map_err(|_| ValueError::Decode)?;
    Ok(Record {
        profile: profile_from_wire(wire.profile()),
        drain_token: wire.drain_token,
        frame_id: wire.frame_id,
        messages_claimed: wire.messages_claimed,
        messages: wire.messages,
        messages_before: wire.messages_before,
        received: UnixMicros::new(wire.received_us),
        peer: wire.peer,
        query: wire.query,
        body: wire.body,
    })
}

const fn profile_to_wire(profile: Profile) -> storage::Profile {
    match profile {
        Profile::Logplex => storage::Profile::Logplex,
        Profile::Shuttle => storage::Profile::Shuttle,
        Profile::Other => storage::Profile::Other,
    }
}

const fn profile_from_wire(profile: storage::Profile) -> Profile {
    match profile {
        storage::Profile::Logplex => Profile::Logplex,
        storage::Profile::Shuttle => Profile::Shuttle,
        storage::Profile::Other | storage::Profile::Unspecified => Profile::Other,
    }
}

/// Puts a durable message into its envelope.
pub(crate) fn encode_value<M: Message>(message: &M) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER + message.encoded_len());
    value.extend_from_slice(&[FORMAT, 0, 0, 0, 0]);
    message.encode_raw(&mut value);
    let crc = crc32fast::hash(value.get(HEADER..).unwrap_or_default());
    seal(&mut value, crc);
    value
}

/// Takes a durable message out of its envelope.
pub(crate) fn decode_value<M: Message + Default>(value: &[u8]) -> Result<M, ValueError> {
    M::decode(checked(value)?).map_err(|_| ValueError::Decode)
}

fn seal(value: &mut [u8], crc: u32) {
    if let Some(slot) = value.get_mut(1..HEADER) {
        slot.copy_from_slice(&crc.to_le_bytes());
    }
}

/// What is in a value's envelope, once format and crc are found right.
pub(crate) fn checked(value: &[u8]) -> Result<&[u8], ValueError> {
    let Some((&[format, a, b, c, d], content)) = value.split_first_chunk::<HEADER>() else {
        return Err(ValueError::Short(value.len()));
    };
    if format != FORMAT {
        return Err(ValueError::Format(format));
    }
    let (stored, computed) = (u32::from_le_bytes([a, b, c, d]), crc32fast::hash(content));
    if stored == computed { Ok(content) } else { Err(ValueError::Crc { stored, computed }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Record {
        Record {
            drain_token: Some("d.fc6b856b-3332-4546-93de-7d0ee272c3bd".to_owned()),
            frame_id: Some("09C557EAFCFB6CF2740EE62F62971098".to_owned()),
            messages_claimed: Some(1),
            messages: 1,
            messages_before: 300,
            received: UnixMicros::new(1_767_323_045_000_001),
            peer: "127.0.0.1".to_owned(),
            query: "app=checkout".to_owned(),
            profile: Profile::Logplex,
            body: Bytes::from_static(b"5 <1>1 "),
        }
    }

    #[test]
    fn the_bytes_on_disk_are_frozen() {
        let value = PreparedRecord::new(&sample()).finish(300);
        let golden = concat!(
            "01",       // format
            "5ea3c428", // crc32, little-endian
            "0a26642e66633662383536622d333333322d343534362d393364652d376430656532373263336264",
            "12203039433535374541464346423643463237343045453632463632393731303938",
            "1801200128c1e6b3b2efeb910332093132372e302e302e313a0c6170703d63686563",
            "6b6f757440014a0735203c313e312078ac02",
        );
        let hex: String = value.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
        assert_eq!(decode_record(&value), Ok(sample()));
    }

    #[test]
    fn a_foreign_format_is_named() {
        let mut value = PreparedRecord::new(&sample()).finish(0);
        value[0] = 2;
        assert_eq!(decode_record(&value), Err(ValueError::Format(2)));
        assert_eq!(decode_record(b"\x01abc"), Err(ValueError::Short(4)));
    }

    proptest! {
        #[test]
        fn what_is_stored_comes_back(
            token in proptest::option::of("[ -~]{0,40}"),
            frame_id in proptest::option::of("[ -~]{0,40}"),
            claimed: Option<u32>,
            messages: u32,
            before: u64,
            received: i64,
            query in "\\PC{0,40}",
            body in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let record = Record {
                drain_token: token, frame_id, messages_claimed: claimed, messages,
                messages_before: before, received: UnixMicros::new(received), query,
                body: Bytes::from(body), ..sample()
            };
            let value = PreparedRecord::new(&record).finish(before);
            prop_assert_eq!(decode_record(&value), Ok(record));
        }

        #[test]
        fn one_flipped_bit_never_passes(
            body in proptest::collection::vec(any::<u8>(), 0..100),
            place: proptest::sample::Index,
            bit in 0u8..8,
        ) {
            let record = Record { body: Bytes::from(body), ..sample() };
            let mut value = PreparedRecord::new(&record).finish(9);
            let place = place.index(value.len());
            value[place] ^= 1 << bit;
            prop_assert!(decode_record(&value).is_err());
        }

        #[test]
        fn every_prefix_is_refused(cut in 0usize..150) {
            let value = PreparedRecord::new(&sample()).finish(9);
            prop_assume!(cut < value.len());
            prop_assert!(decode_record(&value[..cut]).is_err());
        }
    }
}
