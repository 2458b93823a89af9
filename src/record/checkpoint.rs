//! Where a destination goes on, and what it knows beyond that place.

use crate::generated::storage;
use crate::types::{AckId, ChannelId, Offset, Position, PositionRange, UnixMicros};

use super::{ValueError, decode_value, encode_value};

/// How messages left the books of one destination (invariant I8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Acknowledged by the indexers (or by a 2xx, where acknowledgement is off).
    pub acknowledged: u64,
    /// Excluded by the destination's filter, or blank.
    pub filtered: u64,
    /// In the durable dead-letter store.
    pub dead_lettered: u64,
    /// Passed over by an operator.
    pub skipped: u64,
    /// Dropped by `when_full = "drop_oldest"`.
    pub dropped: u64,
    /// Settled before, and to be settled again: an operator has moved the cursor back.
    pub rewound: u64,
}

impl Totals {
    /// All messages that left, less those that came back.
    #[must_use]
    pub const fn settled(self) -> u64 {
        self.acknowledged
            .wrapping_add(self.filtered)
            .wrapping_add(self.dead_lettered)
            .wrapping_add(self.skipped)
            .wrapping_add(self.dropped)
            .wrapping_sub(self.rewound)
    }
}

/// Where a destination goes on after a restart: persisted, unlike the live cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The first message that is not settled.
    pub position: Position,
    /// What became of the messages between the destination's origin and `position`.
    pub totals: Totals,
    /// Messages in the log before the destination's origin.
    pub origin_messages: u64,
    /// When it was decided.
    pub saved: UnixMicros,
    /// What is known about the messages from `position` on. See [`Self::known_ahead`].
    pub window: Vec<Ahead>,
    /// The URLs that [`Fate::InFlight`] counts through.
    pub endpoints: Vec<String>,
    /// An operator has paused the destination.
    pub paused: bool,
}

/// Where an operator has moved a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where it was.
    pub from: Position,
    /// Where it is.
    pub to: Position,
    /// Messages that the destination does not get.
    pub skipped: u64,
    /// Messages that are sent again, or for the first time if they lie before the origin.
    pub rewound: u64,
}

/// A stretch of messages beyond a checkpoint that was sent, or lies before one that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Which messages.
    pub range: PositionRange,
    /// How many they are.
    pub messages: u64,
    /// How many of them make no event.
    pub filtered: u64,
    /// How many events they make.
    pub events: u64,
    /// When the first frame of the range arrived.
    pub received: UnixMicros,
    /// What became of them.
    pub fate: Fate,
}

/// What became of a stretch beyond the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// To be sent, or sent again.
    Unsent,
    /// A collector took it and has not acknowledged it yet. The acknowledgement can be asked for
    /// there, and nothing may ever be posted on that channel again.
    InFlight {
        /// Index into [`Checkpoint::endpoints`].
        endpoint: u32,
        /// The channel.
        channel: ChannelId,
        /// The id on the channel.
        ack: AckId,
    },
    /// The indexers have acknowledged it.
    Acknowledged,
    /// It is in the dead letters.
    DeadLettered,
    /// One event, refused for its own sake by a collector that takes others, and not yet in the
    /// dead letters. It is sent again, alone; when it is refused then, that needs no more proof.
    Refused,
    /// The log has given it up.
    Dropped,
}

impl Ahead {
    fn to_wire(self) -> storage::Ahead {
        let mut wire = storage::Ahead {
            start_offset: self.range.start.offset.get(),
            start_index: self.range.start.index,
            end_offset: self.range.end.offset.get(),
            end_index: self.range.end.index,
            messages: self.messages,
            filtered: self.filtered,
            events: self.events,
            received_us: self.received.get(),
            ..storage::Ahead::default()
        };
        let fate = match self.fate {
            Fate::Unsent => storage::Fate::Unspecified,
            Fate::InFlight { endpoint, channel, ack } => {
                wire.endpoint = endpoint;
                wire.channel = channel.to_bytes().to_vec();
                wire.ack_id = ack.get();
                storage::Fate::InFlight
            }
            Fate::Acknowledged => storage::Fate::Acknowledged,
            Fate::DeadLettered => storage::Fate::DeadLettered,
            Fate::Refused => storage::Fate::Refused,
            Fate::Dropped => storage::Fate::Dropped,
        };
        wire.set_fate(fate);
        wire
    }

    fn from_wire(wire: &storage::Ahead) -> Self {
        let fate = match wire.fate() {
            storage::Fate::Unspecified => Fate::Unsent,
            storage::Fate::Acknowledged => Fate::Acknowledged,
            storage::Fate::DeadLettered => Fate::DeadLettered,
            storage::Fate::Refused => Fate::Refused,
            storage::Fate::Dropped => Fate::Dropped,
            // Without a whole channel there is nobody to ask.
            storage::Fate::InFlight => {
                wire.channel.as_slice().try_into().map_or(Fate::Unsent, |bytes| Fate::InFlight {
                    endpoint: wire.endpoint,
                    channel: ChannelId::from_bytes(bytes),
                    ack: AckId::new(wire.ack_id),
                })
            }
        };
        let at = |offset, index| Position::new(Offset::new(offset), index);
        Self {
            range: PositionRange {
                start: at(wire.start_offset, wire.start_index),
                end: at(wire.end_offset, wire.end_index),
            },
            messages: wire.messages,
            filtered: wire.filtered,
            events: wire.events,
            received: UnixMicros::new(wire.received_us),
            fate,
        }
    }
}

impl Checkpoint {
    /// What is known about the messages from `position` on: stretches without a gap, as far as
    /// `end`, where the log ends. A window that does not begin at `position` belongs to another
    /// position (an operator has moved the cursor), and says nothing.
    pub fn known_ahead(&self, end: Position) -> impl Iterator<Item = &Ahead> {
        let mut next = self.position;
        self.window.iter().take_while(move |ahead| {
            let follows = ahead.range.start == next && ahead.range.end <= end;
            next = ahead.range.end;
            follows && !ahead.range.is_empty()
        })
    }

    /// Moves the position on to `to`, which `messages_before` messages in the log precede: the log
    /// has given up what lies below. What of that is not settled counts as dropped, and is
    /// returned; what is known beyond is kept. None when the position is not below.
    pub fn lift(&mut self, to: Position, messages_before: u64) -> Option<u64> {
        self.pass(to, messages_before, |totals| &mut totals.dropped)
    }

    /// Moves the position to where an operator wants it, which `messages_before` messages in the
    /// log precede. Forward, what is not settled counts as skipped. Back, what was settled is to
    /// be settled again, and counts as rewound; an origin that lies behind moves back, too.
    pub fn seek(&mut self, to: Position, messages_before: u64) -> Moved {
        let from = self.position;
        if to >= from {
            let skipped = self.pass(to, messages_before, |totals| &mut totals.skipped);
            return Moved { from, to, skipped: skipped.unwrap_or(0), rewound: 0 };
        }
        let before = self.origin_messages.wrapping_add(self.totals.settled());
        let rewound = before.saturating_sub(messages_before);
        self.origin_messages = self.origin_messages.min(messages_before);
        let settled = messages_before - self.origin_messages;
        self.totals.rewound += self.totals.settled().saturating_sub(settled);
        self.position = to;
        // What was known beyond the old position says nothing about the new one.
        self.window.clear();
        Moved { from, to, skipped: 0, rewound }
    }

    fn pass(
        &mut self,
        to: Position,
        messages_before: u64,
        count: impl Fn(&mut Totals) -> &mut u64,
    ) -> Option<u64> {
        if self.position >= to {
            return None;
        }
        let mut totals = self.totals;
        for Ahead { messages, filtered, fate, .. } in self.known_ahead(to) {
            let events = messages.saturating_sub(*filtered);
            match fate {
                Fate::Acknowledged => totals.acknowledged += events,
                Fate::DeadLettered => totals.dead_lettered += events,
                Fate::Dropped => totals.dropped += events,
                Fate::Unsent | Fate::InFlight { .. } | Fate::Refused => continue,
            }
            totals.filtered += filtered;
        }
        let settled = self.origin_messages.wrapping_add(totals.settled());
        let lost = messages_before.saturating_sub(settled);
        *count(&mut totals) += lost;
        self.totals = totals;
        self.position = to;
        // One that begins below and ends above is no whole any more, and with it everything behind
        // it says nothing.
        self.window.retain(|ahead| ahead.range.start >= to);
        Some(lost)
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_value(&self.to_wire())
    }

    pub(super) fn to_wire(&self) -> storage::Checkpoint {
        storage::Checkpoint {
            offset: self.position.offset.get(),
            index: self.position.index,
            totals: Some(storage::Totals {
                acknowledged: self.totals.acknowledged,
                filtered: self.totals.filtered,
                dead_lettered: self.totals.dead_lettered,
                skipped: self.totals.skipped,
                dropped: self.totals.dropped,
                rewound: self.totals.rewound,
            }),
            saved_us: self.saved.get(),
            origin_messages: self.origin_messages,
            window: self.window.iter().map(|ahead| ahead.to_wire()).collect(),
            endpoints: self.endpoints.clone(),
            paused: self.paused,
        }
    }

    /// Checks and decodes a stored checkpoint.
    ///
    /// # Errors
    /// When the value is not one that [`Self::encode`] made.
    pub fn decode(value: &[u8]) -> Result<Self, ValueError> {
        decode_value(value).map(Self::from_wire)
    }

    pub(super) fn from_wire(wire: storage::Checkpoint) -> Self {
        let totals = wire.totals.unwrap_or_default();
        Self {
            position: Position::new(Offset::new(wire.offset), wire.index),
            totals: Totals {
                acknowledged: totals.acknowledged,
                filtered: totals.filtered,
                dead_lettered: totals.dead_lettered,
                skipped: totals.skipped,
                dropped: totals.dropped,
                rewound: totals.rewound,
            },
            origin_messages: wire.origin_messages,
            saved: UnixMicros::new(wire.saved_us),
            window: wire.window.iter().map(Ahead::from_wire).collect(),
            endpoints: wire.endpoints,
            paused: wire.paused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PositionRange {
        let at = |offset| Position::new(Offset::new(offset), 3);
        PositionRange { start: at(start), end: at(end) }
    }

    fn ahead(start: u64, end: u64, fate: Fate) -> Ahead {
        let received = UnixMicros::new(9);
        Ahead { range: range(start, end), messages: 5, filtered: 2, events: 3, received, fate }
    }

    fn checkpoint() -> Checkpoint {
        let channel = ChannelId::from_random(77);
        Checkpoint {
            position: Position::new(Offset::new(7), 3),
            totals: Totals {
                acknowledged: 1,
                filtered: 2,
                dead_lettered: 3,
                skipped: 4,
                dropped: 5,
                rewound: 0,
            },
            origin_messages: 6,
            saved: UnixMicros::new(8),
            window: vec![
                ahead(7, 9, Fate::Unsent),
                ahead(9, 11, Fate::InFlight { endpoint: 1, channel, ack: AckId::new(40) }),
                ahead(11, 12, Fate::Acknowledged),
                ahead(12, 13, Fate::DeadLettered),
                ahead(13, 14, Fate::Refused),
                ahead(14, 15, Fate::Dropped),
            ],
            endpoints: vec!["https://a:8088".to_owned(), "https://b:8088".to_owned()],
            paused: true,
        }
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was() {
        let checkpoint = checkpoint();
        assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint.clone()));
        assert_eq!(checkpoint.totals.settled(), 15);
        let totals = Totals { rewound: 7, ..checkpoint.totals };
        let moved = Checkpoint { totals, ..checkpoint };
        assert_eq!(Checkpoint::decode(&moved.encode()), Ok(moved));
        assert_eq!(totals.settled(), 8);
    }

    #[test]
    fn a_checkpoint_of_the_first_version_is_read() {
        let (window, endpoints) = (Vec::new(), Vec::new());
        let old = Checkpoint { window, endpoints, paused: false, ..checkpoint() };
        let golden = concat!("01", "6cede453", "080710031a0a0801100218032004280520082806",);
        let hex: String = old.encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
        assert_eq!(Checkpoint::decode(&old.encode()), Ok(old));
    }

    #[test]
    fn only_what_follows_the_position_without_a_gap_is_known() {
        let known = |checkpoint: &Checkpoint, end| {
            checkpoint.known_ahead(Position::new(Offset::new(end), 3)).count()
        };
        assert_eq!(known(&checkpoint(), 99), 6);
        assert_eq!(known(&checkpoint(), 11), 2, "the log ends there");
        let moved = Checkpoint { position: Position::at(Offset::new(7)), ..checkpoint() };
        assert_eq!(known(&moved, 99), 0);
        let mut holed = checkpoint();
        holed.window.remove(1);
        assert_eq!(known(&holed, 99), 1);
    }

    #[test]
    fn a_lift_drops_what_is_not_settled_and_keeps_what_is_known_beyond() {
        let at = |offset| Position::new(Offset::new(offset), 3);
        let mut lifted = checkpoint();
        // Before the position there are 6 and 15, and 5 in each stretch.
        assert_eq!(lifted.lift(at(13), 41), Some(10), "the first two");
        assert_eq!((lifted.position, lifted.window.len()), (at(13), 2));
        assert_eq!(lifted.known_ahead(at(99)).count(), 2);
        let Totals { acknowledged, filtered, dead_lettered, skipped, dropped, .. } = lifted.totals;
        assert_eq!((acknowledged, filtered, dead_lettered), (1 + 3, 2 + 2 + 2, 3 + 3));
        assert_eq!((skipped, dropped), (4, 5 + 10));
        assert_eq!(lifted.lift(at(13), 41), None);

        let mut cut = checkpoint();
        assert_eq!(cut.lift(at(10), 29), Some(8), "the first, and 3 of the second");
        assert_eq!(cut.known_ahead(at(99)).count(), 0, "the second is cut");
        assert_eq!(cut.origin_messages + cut.totals.settled(), 29);

        let mut beyond = checkpoint();
        assert_eq!(beyond.lift(at(20), 60), Some(60 - 21 - 15), "all but what was settled");
        assert!(beyond.window.is_empty());
    }

    #[test]
    fn a_seek_forward_skips_what_is_not_settled_and_nothing_else() {
        let at = |offset| Position::new(Offset::new(offset), 3);
        let mut moved = checkpoint();
        let Moved { from, to, skipped, rewound } = moved.seek(at(13), 41);
        assert_eq!((from, to, skipped, rewound), (at(7), at(13), 10, 0));
        assert_eq!((moved.totals.skipped, moved.totals.dropped), (4 + 10, 5));
        assert_eq!(moved.origin_messages + moved.totals.settled(), 41);
        assert_eq!(moved.known_ahead(at(99)).count(), 2);
        let still = moved.clone();
        assert_eq!(moved.seek(at(13), 41).skipped, 0);
        assert_eq!(moved, still);
        assert!(moved.paused, "a seek lets nothing go on");
    }

    #[test]
    fn a_seek_back_is_counted_and_the_books_go_on_to_balance() {
        let at = |offset| Position::new(Offset::new(offset), 3);
        // 21 messages precede the position, and 6 the origin.
        for (before, rewound, origin) in [(20, 1, 6), (6, 15, 6), (2, 19, 2), (0, 21, 0)] {
            let mut moved = checkpoint();
            let totals = moved.totals;
            let Moved { skipped, rewound: again, .. } = moved.seek(at(3), before);
            assert_eq!((skipped, again, moved.origin_messages), (0, rewound, origin));
            assert_eq!(moved.origin_messages + moved.totals.settled(), before, "{moved:?}");
            assert_eq!(Totals { rewound: 0, ..moved.totals }, totals, "what was counted stays");
            assert_eq!((moved.position, moved.window.len()), (at(3), 0));
            // And on to where it was.
            moved.seek(at(7), 21);
            assert_eq!(moved.origin_messages + moved.totals.settled(), 21);
            assert_eq!(moved.totals.skipped, 4 + rewound);
        }
    }

    #[test]
    fn a_stretch_in_flight_on_half_a_channel_is_sent_again() {
        let mut wire = checkpoint().window[1].to_wire();
        wire.channel.pop();
        assert_eq!(Ahead::from_wire(&wire).fate, Fate::Unsent);
    }
}
