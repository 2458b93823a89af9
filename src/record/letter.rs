//! Messages that a destination's collectors refuse.

use bytes::Bytes;

use crate::generated::storage;
use crate::logplex::{Framing, Profile};
use crate::types::UnixMicros;

use super::{ValueError, decode_value, encode_value, profile_from_wire, profile_to_wire};

/// A message that a destination's collectors refuse, with their answer, and with all that is
/// needed to make the same event of it again when its frame is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The `event_id` it was sent with.
    pub event_id: String,
    /// The collector's code, when the answer had one.
    pub code: Option<u32>,
    /// The HTTP status.
    pub status: u16,
    /// The collector's text: one line.
    pub text: String,
    /// The URL of the collector.
    pub endpoint: String,
    /// When it was refused.
    pub refused: UnixMicros,
    /// The message, as it came.
    pub message: Bytes,
    /// How it was found in its frame.
    pub framing: Framing,
    /// The frame's drain token.
    pub drain_token: Option<String>,
    /// The frame's id.
    pub frame_id: Option<String>,
    /// How many messages the sender said its frame held.
    pub messages_claimed: Option<u32>,
    /// How many it held.
    pub messages: u32,
    /// The frame's query string.
    pub query: String,
    /// Who sent the frame.
    pub profile: Profile,
    /// When the frame arrived.
    pub received: UnixMicros,
    /// How often it was refused: once, and once more for each redrive that failed.
    pub refusals: u32,
    /// When an operator asked for it to be sent again, if one has.
    pub redrive: Option<UnixMicros>,
}

impl DeadLetter {
    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut wire = storage::DeadLetter {
            event_id: self.event_id.clone(),
            code: self.code,
            status: u32::from(self.status),
            text: self.text.clone(),
            endpoint: self.endpoint.clone(),
            refused_us: self.refused.get(),
            message: self.message.to_vec(),
            drain_token: self.drain_token.clone(),
            frame_id: self.frame_id.clone(),
            messages_claimed: self.messages_claimed,
            messages: self.messages,
            query: self.query.clone(),
            received_us: self.received.get(),
            refusals: self.refusals,
            redrive_us: self.redrive.map_or(0, UnixMicros::get),
            ..storage::DeadLetter::default()
        };
        wire.set_profile(profile_to_wire(self.profile));
        wire.set_framing(match self.framing {
            Framing::Counted => storage::Framing::Unspecified,
            Framing::Truncated => storage::Framing::Truncated,
            Framing::BadLength => storage::Framing::BadLength,
        });
        encode_value(&wire)
    }

    /// Checks and decodes a stored dead letter.
    ///
    /// # Errors
    /// When the value is not one that [`Self::encode`] made.
    pub fn decode(value: &[u8]) -> Result<Self, ValueError> {
        let wire: storage::DeadLetter = decode_value(value)?;
        Ok(Self {
            framing: match wire.framing() {
                storage::Framing::Unspecified => Framing::Counted,
                storage::Framing::Truncated => Framing::Truncated,
                storage::Framing::BadLength => Framing::BadLength,
            },
            profile: profile_from_wire(wire.profile()),
            event_id: wire.event_id,
            code: wire.code,
            status: u16::try_from(wire.status).map_err(|_| ValueError::Decode)?,
            text: wire.text,
            endpoint: wire.endpoint,
            refused: UnixMicros::new(wire.refused_us),
            message: wire.message.into(),
            drain_token: wire.drain_token,
            frame_id: wire.frame_id,
            messages_claimed: wire.messages_claimed,
            messages: wire.messages,
            query: wire.query,
            received: UnixMicros::new(wire.received_us),
            refusals: wire.refusals,
            redrive: (wire.redrive_us != 0).then(|| UnixMicros::new(wire.redrive_us)),
        })
    }
}

/// What became of a destination's dead letters. Written, less those that left in one of the other
/// ways, are those that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LetterTotals {
    /// Written, each once.
    pub written: u64,
    /// Sent again and acknowledged.
    pub redriven: u64,
    /// Removed by an operator.
    pub purged: u64,
    /// Removed by age.
    pub expired: u64,
    /// Taken back at a start: the checkpoint had not passed the message, which is sent again.
    pub withdrawn: u64,
    /// Damaged, or in a part of the log that was, and given up as an operator wished.
    pub lost: u64,
}

impl LetterTotals {
    /// Those that should be there.
    #[must_use]
    pub const fn present(self) -> u64 {
        let gone = self.redriven + self.purged + self.expired + self.withdrawn + self.lost;
        self.written.saturating_sub(gone)
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_value(&storage::LetterTotals {
            written: self.written,
            redriven: self.redriven,
            purged: self.purged,
            expired: self.expired,
            withdrawn: self.withdrawn,
            lost: self.lost,
        })
    }

    /// Checks and decodes stored totals.
    ///
    /// # Errors
    /// When the value is not one that [`Self::encode`] made.
    pub fn decode(value: &[u8]) -> Result<Self, ValueError> {
        let wire: storage::LetterTotals = decode_value(value)?;
        Ok(Self {
            written: wire.written,
            redriven: wire.redriven,
            purged: wire.purged,
            expired: wire.expired,
            withdrawn: wire.withdrawn,
            lost: wire.lost,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_comes_back_as_it_was() {
        let letter = DeadLetter {
            event_id: "F:3".to_owned(),
            code: Some(6),
            status: 400,
            text: "Invalid data format".to_owned(),
            endpoint: "https://hec:8088".to_owned(),
            refused: UnixMicros::new(5),
            message: Bytes::from_static(b"<1>1 \xff\x00"),
            framing: Framing::BadLength,
            drain_token: Some("d.1".to_owned()),
            frame_id: None,
            messages_claimed: Some(0),
            messages: 4,
            query: "a=b".to_owned(),
            profile: Profile::Shuttle,
            received: UnixMicros::new(4),
            refusals: 2,
            redrive: Some(UnixMicros::new(6)),
        };
        assert_eq!(DeadLetter::decode(&letter.encode()), Ok(letter.clone()));
        let plain =
            DeadLetter { code: None, redrive: None, frame_id: Some(String::new()), ..letter };
        assert_eq!(DeadLetter::decode(&plain.encode()), Ok(plain));
        assert!(DeadLetter::decode(&[]).is_err());
    }

    #[test]
    fn totals_come_back_and_tell_how_many_are_there() {
        let totals =
            LetterTotals { written: 10, redriven: 1, purged: 2, expired: 3, withdrawn: 1, lost: 2 };
        assert_eq!(LetterTotals::decode(&totals.encode()), Ok(totals));
        assert_eq!(totals.present(), 1);
    }
}
