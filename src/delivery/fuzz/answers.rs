//! What collectors answer, and what no sink says.

use std::time::Duration;

use super::{Bytes, World};
use crate::delivery::{
    Acknowledgement, Cut, EndpointId, Event, HoldReason, LaneId, Parts, PollOutcome, PostOutcome,
    Preflight, ReadBatch,
};
use crate::hec::Reason;
use crate::types::{AckId, BatchId, ChannelId, Offset, Position, PositionRange, UnixMicros};

impl World {
    pub(super) fn post(&mut self, bytes: &mut Bytes<'_>) {
        let Some(lane) = nth(self.flight.posting.keys(), bytes.below(16)) else { return };
        let kind = bytes.below(24);
        let id = (kind < 3).then(|| bytes.number(6));
        let after = match bytes.below(8) {
            0 => Some(Duration::from_secs(u64::MAX)),
            1 => Some(Duration::from_secs(3)),
            _ => None,
        };
        let bad = (bytes.below(4) > 0).then(|| bytes.number(6));
        self.posted(lane, kind, id, after, bad);
    }

    /// A POST ends: 0 to 9 with an id, `id` or one that rises; from 16 on with a refusal, of the
    /// event `bad` or of one that the answer does not name.
    fn posted(
        &mut self,
        lane: LaneId,
        kind: u8,
        id: Option<u64>,
        after: Option<Duration>,
        bad: Option<u64>,
    ) {
        let Some((channel, body)) = self.flight.posting.remove(&lane) else { return };
        let required = self.required();
        let reason = || HoldReason::new("invalid token");
        let answer = |status| Reason { status, code: Some(6), text: "Invalid data format".into() };
        let outcome = match kind {
            0..=9 => {
                let ack = self.promise(channel, id, body);
                PostOutcome::Accepted { ack: Some(ack), pressed: ack.get() % 2 == 1 }
            }
            10 => PostOutcome::Accepted { ack: None, pressed: false },
            11 => PostOutcome::Busy { after },
            12 => PostOutcome::Unreachable { after },
            13 => PostOutcome::Doubt { after },
            14 => PostOutcome::Missing { after, reason: reason() },
            15 => PostOutcome::Fault(reason()),
            16 => PostOutcome::Strange(reason()),
            17 => PostOutcome::TooLarge { reason: answer(413) },
            18 => PostOutcome::Severed { sent: bad.is_some() },
            _ => {
                let events = self.log.events(body);
                let at = bad.and_then(|bad| events.get(usize::try_from(bad).ok()?));
                let taken = PositionRange { end: at.copied().unwrap_or(body.start), ..body };
                let ack = (kind > 19).then(|| self.promise(channel, None, taken));
                PostOutcome::Refused { bad, ack, reason: answer(400) }
            }
        };
        let truth = self.channels.entry(channel).or_default();
        truth.doubted |= match &outcome {
            PostOutcome::Accepted { ack, .. } => ack.is_none() && required,
            PostOutcome::Refused { bad, ack, .. } => {
                // With acknowledgement off a channel means nothing.
                required && ack.is_none() && *bad != Some(0)
            }
            PostOutcome::Busy { .. } | PostOutcome::TooLarge { .. } => false,
            PostOutcome::Unreachable { .. }
            | PostOutcome::Doubt { .. }
            | PostOutcome::Severed { .. }
            | PostOutcome::Missing { .. }
            | PostOutcome::Fault(_)
            | PostOutcome::Strange(_) => true,
        };
        if matches!(outcome, PostOutcome::Accepted { .. }) && !required {
            self.kept.extend(self.log.events(body));
        }
        self.tell(Event::Posted { lane, outcome });
    }

    fn required(&self) -> bool {
        self.machine.status().acknowledgement == Acknowledgement::Required
    }

    pub(super) fn undecided(&self) -> bool {
        self.machine.status().acknowledgement == Acknowledgement::Auto
    }

    /// An endpoint says whether it acknowledges, asked or not.
    pub(super) fn say(&mut self, bytes: &mut Bytes<'_>) {
        let endpoint = EndpointId(usize::from(bytes.below(3)));
        let said = match bytes.below(6) {
            0 => Preflight::On,
            1 | 2 => Preflight::Unknown(HoldReason::new("HTTP 503")),
            _ => Preflight::Off,
        };
        self.answered(endpoint, said);
    }

    fn answered(&mut self, endpoint: EndpointId, said: Preflight) {
        if self.flight.asked.remove(&endpoint) {
            let word = match said {
                Preflight::On => Some(true),
                Preflight::Off => Some(false),
                Preflight::Unknown(_) => None,
            };
            self.flight.said.insert(endpoint, word);
        }
        self.tell(Event::Preflight { endpoint, said });
    }

    /// What is chosen follows from what was said, and nothing is chosen twice.
    pub(super) fn check_choice(&self, undecided: bool) {
        let (now, said) = (self.machine.status().acknowledgement, &self.flight.said);
        match now {
            Acknowledgement::Auto => assert!(undecided, "the choice is forgotten"),
            Acknowledgement::Required if undecided => {
                assert!(said.values().any(|word| *word == Some(true)), "{said:?}");
            }
            Acknowledgement::Off if undecided => {
                assert_eq!(said.len(), self.config.endpoints.get(), "all have said");
                assert!(said.values().all(|word| *word == Some(false)), "{said:?}");
            }
            Acknowledgement::Required | Acknowledgement::Off => {}
        }
    }

    /// A collector takes messages under an id, the next one or `id`.
    fn promise(&mut self, channel: ChannelId, id: Option<u64>, taken: PositionRange) -> AckId {
        let required = self.required();
        let truth = self.channels.entry(channel).or_default();
        let id = id.unwrap_or_else(|| truth.highest.map_or(0, |highest| highest + 1));
        if truth.highest.is_some_and(|highest| id <= highest) {
            truth.ids.clear();
            truth.doubted |= required;
        } else {
            truth.highest = Some(id);
            truth.ids.insert(id, taken);
        }
        truth.told.insert(id);
        AckId::new(id)
    }

    pub(super) fn poll(&mut self, bytes: &mut Bytes<'_>) {
        let Some(channel) = nth(self.flight.polling.keys(), bytes.below(16)) else { return };
        let outcome = match bytes.below(8) {
            0 => PollOutcome::Failed,
            1 => PollOutcome::Fault(HoldReason::new("acknowledgement is disabled")),
            2 if bytes.below(2) == 0 => PollOutcome::Severed,
            2 => PollOutcome::Answered { acked: Vec::new() },
            3 => PollOutcome::Answered { acked: vec![AckId::new(bytes.number(8))] },
            4 => {
                let asked = self.flight.polling.get(&channel).cloned().unwrap_or_default();
                let some = asked.into_iter().filter(|_| bytes.below(2) == 0).map(AckId::new);
                PollOutcome::Answered { acked: some.collect() }
            }
            _ => self.all(channel),
        };
        self.polled(channel, outcome);
    }

    /// The answer that says `true` to all that was asked.
    fn all(&self, channel: ChannelId) -> PollOutcome {
        let asked = self.flight.polling.get(&channel).cloned().unwrap_or_default();
        PollOutcome::Answered { acked: asked.into_iter().map(AckId::new).collect() }
    }

    fn polled(&mut self, channel: ChannelId, mut outcome: PollOutcome) {
        let asked = self.flight.polling.remove(&channel).unwrap_or_default();
        let truth = self.channels.entry(channel).or_default();
        match &mut outcome {
            PollOutcome::Answered { acked } => {
                // A collector that counts anew does not know the ids of before.
                acked.retain(|id| {
                    !truth.told.contains(&id.get()) || truth.ids.contains_key(&id.get())
                });
                let said = acked.iter().map(|id| id.get()).filter(|id| asked.contains(id));
                for range in said.filter_map(|id| truth.ids.get(&id).copied()) {
                    self.kept.extend(self.log.events(range));
                }
            }
            PollOutcome::Failed | PollOutcome::Severed | PollOutcome::Fault(_) => {
                truth.doubted = true;
            }
        }
        self.tell(Event::Polled { channel, outcome });
    }

    /// Collectors that take and acknowledge whatever is on its way.
    pub(super) fn everything_is_taken(&mut self) {
        while let Some(endpoint) = self.flight.asked.first().copied() {
            let even = self.restarts.is_multiple_of(2);
            self.answered(endpoint, if even { Preflight::On } else { Preflight::Off });
        }
        while let Some(lane) = nth(self.flight.posting.keys(), 0) {
            self.posted(lane, 9, None, None, None);
        }
        while let Some(channel) = nth(self.flight.polling.keys(), 0) {
            self.polled(channel, self.all(channel));
        }
    }

    /// What no sink says. None of it may move a checkpoint.
    pub(super) fn nonsense(&mut self, bytes: &mut Bytes<'_>) {
        self.flight.nonsense = true;
        let id = AckId::new(bytes.number(9));
        let outcome = PollOutcome::Answered { acked: vec![id] };
        let batch = BatchId::new(bytes.number(40));
        match bytes.below(7) {
            0 => {
                let start = Position::at(Offset::new(bytes.number(60)));
                let end = Position::at(Offset::new(bytes.number(80)));
                if start != self.machine.read_position() {
                    let messages = end.offset.since(start.offset);
                    self.tell(Event::Read(ReadBatch {
                        batch,
                        range: PositionRange { start, end },
                        messages,
                        filtered: messages,
                        events: 0,
                        messages_end: end.offset.get(),
                        received: UnixMicros::default(),
                        caught_up: None,
                    }));
                }
            }
            1 if self.flight.encoding.iter().all(|(other, _)| *other != batch) => {
                self.tell(Event::Encoded { batch, events: 3, filtered: 1 });
            }
            2 => {
                let lane = LaneId(usize::from(bytes.below(12)));
                if !self.flight.posting.contains_key(&lane) {
                    let outcome = PostOutcome::Accepted { ack: Some(id), pressed: false };
                    self.tell(Event::Posted { lane, outcome });
                }
            }
            3 => {
                let channel = nth(self.channels.keys(), bytes.below(16));
                let channel = channel.unwrap_or_else(|| ChannelId::from_random(7));
                if !self.flight.polling.contains_key(&channel) {
                    self.tell(Event::Polled { channel, outcome });
                }
            }
            4 => {
                let parts = Parts { before: None, bad: None, after: None };
                self.tell(Event::Split { batch, cut: Cut::Half, parts });
            }
            5 if self.flight.burying.iter().all(|(other, _)| *other != batch) => {
                self.tell(Event::DeadLettered(batch));
            }
            _ => {
                if self.flight.committing.is_none() {
                    self.tell(Event::Committed);
                }
            }
        }
    }
}

fn nth<K: Copy>(
    mut keys: impl ExactSizeIterator<Item = impl std::ops::Deref<Target = K>>,
    pick: u8,
) -> Option<K> {
    if keys.len() == 0 { None } else { keys.nth(usize::from(pick) % keys.len()).map(|key| *key) }
}
