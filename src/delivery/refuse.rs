//! Events that a collector refuses: which one it is, whether it is the event's fault, and what
//! becomes of it.
//!
//! A collector reads a body object by object. The first bad one decides the answer; those before
//! it are taken, those behind it are not looked at (hec.md: measured on Splunk 10.4). So a batch
//! is cut in three: what was taken waits for the ackId that came with the refusal, the bad event
//! stands alone, the rest is sent. Where the answer has no number, the batch is cut in half, and
//! the halves again. Without an ackId, what lies before the bad event is sent again: a receiver
//! that is no Splunk may refuse a body as a whole and say which event it was about.
//!
//! **One bad event, or a collector that takes nothing?** An index that is misspelt, a balancer
//! that rewrites bodies, a bug in the encoder: then every event is refused, and to drain the log
//! into the dead letters would be the worst answer. Therefore an event is dead-lettered only when
//! it was refused *alone in a body*, by a collector that had *taken others since* it was refused
//! first: others that were sent after that refusal, and were taken before the event was sent
//! alone. (What was on its way at the time proves nothing: the fault may have begun in between.
//! The simulation found this.) Or it had taken those before the event in the same body. Until
//! then the event is a suspect, and waits.
//!
//! A collector is *held* when it refuses [`SYSTEMATIC`] times in a row and takes nothing in
//! between. It is then probed with what was refused least, so that one batch it takes is found if
//! there is one. Two things do not count: a refusal that comes with something taken, and the
//! refusal of an event alone for which there is proof: that is what was expected, and says nothing
//! about the collector. So a burst of bad events, however long, ends in the dead letters once
//! something behind it is taken, and a fault of the collector, which lets nothing through, never
//! does: no event that it refused first can get proof while it lasts.
//!
//! Proof outlives a restart where it is about the event, that is, where those before it in the
//! same body were taken, or where its dead letter was due ([`Fate::Refused`]): after the restart
//! there may be nothing else to be taken. Where others were only taken *later*, it does not: a
//! restart is when the configuration changes.
//!
//! [`Fate::Refused`]: crate::record::Fate::Refused

use std::time::Duration;

use crate::hec::Reason;
use crate::types::{AckId, BatchId, ChannelId, PositionRange};

use super::machine::Posting;
use super::window::{Batch, Settled, Stage, Taken};
use super::{
    Acknowledgement, Action, Cut, Delivery, EndpointId, HoldReason, Note, Part, Parts, ResendReason,
};

/// So many refusals in a row, and nothing taken in between, are not the events' fault.
const SYSTEMATIC: u32 = 10;

/// The count of refusals after which something was taken, if anything ever was.
pub(super) const ALWAYS: u64 = 1;

/// The count of refusals after which every collector counts as one that takes others: for an event
/// that the last process knew to be refused for its own sake. In this process nothing need be
/// taken first, and perhaps there is nothing else to take.
pub(super) const PROVEN: u64 = 0;

/// A batch with this many bad events is cut in half besides: the rest of it would otherwise be
/// sent as many times as there are bad ones.
const MANY: u32 = 16;

/// A window may grow to this many times its size by cutting; then only the first batch is cut.
pub(super) const GROWTH: usize = 4;

impl Delivery {
    /// An answer that refuses one event of a batch. `bad` counts from 0.
    pub(super) fn on_refused(
        &mut self,
        now: Duration,
        endpoint: EndpointId,
        posting: Posting,
        bad: Option<u64>,
        ack: Option<AckId>,
        reason: Reason,
    ) {
        let Posting { batch: id, channel, mark, proof, .. } = posting;
        let known = self.window.unsettled(id).map(|batch| (batch.events, batch.plain));
        let bad = bad.filter(|bad| known.is_none_or(|(events, _)| *bad < events));
        self.marks += 1;
        let Some(taken) = self.taken(now, channel, bad.unwrap_or(0) > 0, ack) else {
            self.lose(now, channel, ResendReason::ChannelForgotten);
            self.requeue(id, Stage::Ready, ResendReason::ChannelForgotten);
            return;
        };
        if ack.is_none() && bad != Some(0) {
            // Something may have been taken, under an id that nobody was told.
            self.doubt(channel);
        }
        // The log has dropped it meanwhile, or an earlier copy of it was acknowledged. What the
        // answer says about the channel holds.
        let Some((events, plain)) = known else { return };
        if taken == Taken::Nothing {
            // With acknowledgement off, whoever objects to a later event did not object to those
            // before it. That is no proof that they were taken, and no refusal of everything.
            let off = self.config.acknowledgement == Acknowledgement::Off;
            let goes_on = off && bad.is_some_and(|bad| bad > 0);
            let refused = !proof && !goes_on;
            if refused && self.refuses_everything(now, endpoint, id, &reason) {
                return;
            }
        } else {
            self.took(now, endpoint, mark);
        }
        // Whoever took events before this one in the same body takes others.
        let first = if taken == Taken::Nothing { self.marks } else { ALWAYS };
        match bad {
            // Undecodable as a whole, it seems: perhaps the compression is not understood. That says
            // nothing of its events, and nothing of its only one either.
            None if reason.code == Some(6) && !plain => {
                if let Some(batch) = self.window.get_mut(id) {
                    batch.plain = true;
                }
                self.actions.push_back(Action::Release(id));
                self.requeue(id, Stage::Faded, ResendReason::Refused);
            }
            _ if events < 2 => self.refused_alone(now, endpoint, id, proof, reason),
            None => self.cut(now, endpoint, id, Cut::Half, taken, first),
            Some(bad) => self.cut(now, endpoint, id, Cut::Event(bad), taken, first),
        }
    }

    /// The body was too large. Says nothing about its events, unless it had one only.
    pub(super) fn on_too_large(
        &mut self,
        now: Duration,
        endpoint: EndpointId,
        posting: Posting,
        reason: Reason,
    ) {
        let Posting { batch: id, proof, .. } = posting;
        let Some(batch) = self.window.unsettled(id) else { return };
        let events = batch.events;
        self.marks += 1;
        if events >= 2 {
            self.cut(now, endpoint, id, Cut::Half, Taken::Nothing, self.marks);
        } else if proof || !self.refuses_everything(now, endpoint, id, &reason) {
            self.refused_alone(now, endpoint, id, proof, reason);
        }
    }

    /// What became of the events before a bad one. None: the ackId did not rise.
    fn taken(
        &mut self,
        now: Duration,
        channel: ChannelId,
        any: bool,
        ack: Option<AckId>,
    ) -> Option<Taken> {
        match (self.config.acknowledgement, ack) {
            // Not proven: a collector that is no Splunk may take a body as a whole or not at all.
            (Acknowledgement::Off, _)
            | (Acknowledgement::Required | Acknowledgement::Auto, None) => Some(Taken::Nothing),
            (Acknowledgement::Required | Acknowledgement::Auto, Some(ack)) => {
                let entry = self.channels.get_mut(&channel)?;
                if !entry.rises(ack) {
                    return None;
                }
                Some(if any { Taken::Unacked { channel, ack, since: now } } else { Taken::Nothing })
            }
        }
    }

    /// A collector has taken events that were sent after `mark` refusals.
    pub(super) fn took(&mut self, now: Duration, endpoint: EndpointId, mark: u64) {
        self.accepted += 1;
        self.worked(now, endpoint);
        if let Some(endpoint) = self.endpoints.get_mut(endpoint.0) {
            endpoint.took(mark);
        }
    }

    /// Counts a refusal. When a collector refuses whatever it is given, it is held, and everything
    /// waits: it is not the events' fault.
    fn refuses_everything(
        &mut self,
        now: Duration,
        endpoint: EndpointId,
        id: BatchId,
        reason: &Reason,
    ) -> bool {
        let Some(entry) = self.endpoints.get_mut(endpoint.0) else { return false };
        entry.refusals = entry.refusals.saturating_add(1);
        if entry.refusals < SYSTEMATIC || self.config.believe_refusals {
            return false;
        }
        let sentence = format!(
            "the collector refuses whatever it is given, the last answer was: {reason}; nothing \
             is dead-lettered: mend the index, the mapping or what lies between"
        );
        self.hold(now, endpoint, HoldReason::new(&sentence));
        for suspect in std::mem::take(&mut self.waiting) {
            // What was refused so far is to be among what the collector is probed with.
            let batch = self.window.get(suspect);
            if batch.is_some_and(|batch| matches!(batch.stage, Stage::Suspect { .. })) {
                self.requeue(suspect, Stage::Faded, ResendReason::Refused);
            } else {
                self.waiting.insert(suspect);
            }
        }
        let room = self.window.len() < self.config.window.get().saturating_mul(2);
        let Some(batch) = self.window.get_mut(id) else { return true };
        // Some part of it may be taken.
        if batch.events >= 2 && room {
            self.cut(now, endpoint, id, Cut::Half, Taken::Nothing, self.marks);
        } else {
            batch.refused = batch.refused.saturating_add(1);
            if batch.events < 2 {
                batch.suspect.get_or_insert(self.marks);
            }
            // Without its body: that would keep out the bodies of what was refused less.
            self.actions.push_back(Action::Release(id));
            self.requeue(id, Stage::Faded, ResendReason::Refused);
        }
        true
    }

    /// The only event of a batch was refused. `proof`: it was known before that the collector
    /// takes others.
    fn refused_alone(
        &mut self,
        now: Duration,
        endpoint: EndpointId,
        id: BatchId,
        proof: bool,
        reason: Reason,
    ) {
        let (accepted, marks) = (self.accepted, self.marks);
        let Some(batch) = self.window.get_mut(id) else { return };
        batch.refused = batch.refused.saturating_add(1);
        batch.refusal = Some((endpoint, reason.clone()));
        batch.suspect.get_or_insert(marks);
        self.actions.push_back(Action::Release(id));
        if proof || self.config.believe_refusals {
            batch.stage = Stage::Burying;
            self.changed = true;
            let range = batch.range;
            self.actions.push_back(Action::DeadLetter { batch: id, range, endpoint, reason });
        } else {
            batch.stage = Stage::Suspect { seen: accepted, until: now + self.config.retry.hold };
            self.waiting.insert(id);
        }
    }

    /// Cuts a batch as soon as the sink has looked up where.
    fn cut(
        &mut self,
        now: Duration,
        endpoint: EndpointId,
        id: BatchId,
        cut: Cut,
        taken: Taken,
        first: u64,
    ) {
        let most = self.config.window.get().saturating_mul(GROWTH);
        let room = self.window.len() < most || self.window.is_first(id);
        let Some(batch) = self.window.get_mut(id) else { return };
        if !room && taken == Taken::Nothing {
            batch.refused = batch.refused.saturating_add(1);
            self.rest(now, endpoint, None);
            self.actions.push_back(Action::Release(id));
            self.requeue(id, Stage::Faded, ResendReason::Refused);
            return;
        }
        self.actions.push_back(Action::Release(id));
        self.start_cut(id, cut, taken, first);
    }

    fn start_cut(&mut self, id: BatchId, cut: Cut, taken: Taken, first: u64) {
        if let Taken::Unacked { channel, ack, since } = taken
            && let Some(channel) = self.channels.get_mut(&channel)
        {
            channel.expect(since, ack, id);
        }
        let Some(batch) = self.window.get_mut(id) else { return };
        batch.stage = Stage::Splitting { cut, taken, first };
        let range = batch.range;
        self.actions.push_back(Action::Split { batch: id, range, cut });
    }

    /// The sink has looked up where a batch is to be cut.
    pub(super) fn on_split(&mut self, now: Duration, id: BatchId, cut: Cut, parts: &Parts) {
        let Some(batch) = self.window.get(id) else { return };
        let Stage::Splitting { cut: wanted, taken, first } = batch.stage else { return };
        let accepted = self.accepted;
        if wanted != cut {
            return;
        }
        if !fits(batch, cut, parts) {
            // The log and the configuration make other events now than were sent.
            if let Taken::Unacked { channel, ack, .. } = taken {
                if let Some(entry) = self.channels.get_mut(&channel) {
                    entry.let_go(ack);
                }
                self.drop_if_done(channel);
            }
            self.requeue(id, Stage::Faded, ResendReason::Refused);
            return;
        }
        let Some(whole) = self.window.remove(id) else { return };
        self.changed = true;
        let refused = whole.refused.saturating_add(1);
        let piece = |part: &Part, stage| Batch {
            range: part.range,
            messages: part.messages,
            filtered: part.filtered,
            events: part.events,
            stage: if part.events == 0 { Stage::Settled(Settled::Acknowledged) } else { stage },
            refused,
            // To be half of what was refused proves nothing: it was perhaps the other half.
            suspect: None,
            refusal: None,
            ..whole.clone()
        };
        // Behind first: what is reclaimed is reclaimed from the front.
        if let Some(after) = &parts.after {
            let id = self.window.allocate();
            self.window.insert(id, piece(after, Stage::Faded));
            if after.events >= 2 && refused.is_multiple_of(MANY) {
                self.start_cut(id, Cut::Half, Taken::Nothing, first);
            } else if after.events > 0 {
                self.requeue(id, Stage::Faded, ResendReason::Refused);
            }
        }
        if let Some(bad) = &parts.bad {
            let id = self.window.allocate();
            let until = now + self.config.retry.hold;
            // With proof at hand it is tried alone at once.
            let seen = if first == ALWAYS { 0 } else { accepted };
            let stage = Stage::Suspect { seen, until };
            self.window.insert(id, Batch { suspect: Some(first), ..piece(bad, stage) });
            self.waiting.insert(id);
        }
        if let Some(before) = &parts.before {
            let stage = match taken {
                Taken::Nothing => Stage::Faded,
                Taken::Unacked { channel, ack, since } => {
                    // Acknowledged meanwhile, or the channel was given up.
                    let known = self.channels.get(&channel);
                    if known.is_some_and(|channel| channel.outstanding.contains_key(&ack)) {
                        Stage::Unacked { channel, ack, since }
                    } else {
                        Stage::Settled(Settled::Acknowledged)
                    }
                }
            };
            self.window.insert(id, piece(before, stage));
            if before.events > 0 && stage == Stage::Faded {
                self.requeue(id, Stage::Faded, ResendReason::Refused);
            }
        }
    }

    /// The dead letter is durable.
    pub(super) fn on_dead_lettered(&mut self, id: BatchId) {
        if self.window.get(id).is_some_and(|batch| batch.stage == Stage::Burying) {
            self.actions.push_back(Action::Note(Note::DeadLettered));
            self.changed = true;
            self.window.settle(id, Settled::DeadLettered);
        }
    }

    /// There is no room for the dead letter.
    pub(super) fn on_dead_letters_full(&mut self, now: Duration, id: BatchId) {
        if let Some(batch) = self.window.get_mut(id)
            && batch.stage == Stage::Burying
        {
            batch.stage = Stage::Unburied { until: now + self.config.retry.hold };
            self.waiting.insert(id);
        }
    }

    /// What was to be buried is not one event any more. What there is now is sent, and judged anew.
    pub(super) fn on_changed(&mut self, id: BatchId) {
        let Some(batch) = self.window.get_mut(id) else { return };
        if batch.stage != Stage::Burying {
            return;
        }
        batch.refused = 0;
        batch.is_innocent();
        self.changed = true;
        self.requeue(id, Stage::Faded, ResendReason::Refused);
    }

    /// When the first suspect, or dead letter without room, is tried again.
    pub(super) fn waits_until(&self) -> Option<Duration> {
        let until = |id: &BatchId| match self.window.get(*id)?.stage {
            Stage::Suspect { until, .. } | Stage::Unburied { until } => Some(until),
            Stage::Ready
            | Stage::Faded
            | Stage::Fetching
            | Stage::Posting(_)
            | Stage::Unacked { .. }
            | Stage::Splitting { .. }
            | Stage::Burying
            | Stage::Settled(_) => None,
        };
        self.waiting.iter().filter_map(until).min()
    }

    /// Tries again what has waited for long enough.
    pub(super) fn try_the_refused_again(&mut self, now: Duration) {
        if self.stopping || self.waiting.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.waiting) {
            let accepted = self.accepted;
            let Some(batch) = self.window.get_mut(id) else { continue };
            match batch.stage {
                Stage::Suspect { seen, until } if accepted > seen || until <= now => {
                    self.requeue(id, Stage::Faded, ResendReason::Refused);
                }
                Stage::Unburied { until } if until <= now => {
                    let range = batch.range;
                    if let Some((endpoint, reason)) = batch.refusal.clone() {
                        batch.stage = Stage::Burying;
                        let letter = Action::DeadLetter { batch: id, range, endpoint, reason };
                        self.actions.push_back(letter);
                    }
                }
                Stage::Suspect { .. } | Stage::Unburied { .. } => {
                    self.waiting.insert(id);
                }
                Stage::Ready
                | Stage::Faded
                | Stage::Fetching
                | Stage::Posting(_)
                | Stage::Unacked { .. }
                | Stage::Splitting { .. }
                | Stage::Burying
                | Stage::Settled(_) => {}
            }
        }
    }
}

/// Whether parts are the whole, and cut where they should be.
fn fits(whole: &Batch, cut: Cut, parts: &Parts) -> bool {
    let all = [&parts.before, &parts.bad, &parts.after];
    let mut next = whole.range.start;
    let (mut messages, mut events) = (0, 0);
    for part in all.into_iter().flatten() {
        let PositionRange { start, end } = part.range;
        if start != next || part.range.is_empty() {
            return false;
        }
        next = end;
        messages += part.messages;
        events += part.events;
    }
    let events_in = |part: &Option<Part>| part.as_ref().map_or(0, |part| part.events);
    let placed = match cut {
        Cut::Event(bad) => events_in(&parts.before) == bad && events_in(&parts.bad) == 1,
        Cut::Half => {
            parts.bad.is_none() && events_in(&parts.before) > 0 && events_in(&parts.after) > 0
        }
    };
    placed && next == whole.range.end && (messages, events) == (whole.messages, whole.events)
}
