//! The batches that are read and not yet settled, by position. The settled prefix is reclaimed;
//! what is reclaimed, and nothing else, moves the cursor (P2).
//!
//! A batch that is refused in part is cut in pieces which take its place, so numbers of batches
//! say nothing about their order; positions do.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::hec::Reason;
use crate::record::Totals;
use crate::types::{AckId, BatchId, ChannelId, Position, PositionRange, UnixMicros};

use super::{Cut, EndpointId, LaneId};

/// Where a batch is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// To be sent; its body is in the sink's hands.
    Ready,
    /// To be sent; its body has to be read from the log first.
    Faded,
    /// To be sent; its body is being read.
    Fetching,
    /// A POST is on its way.
    Posting(LaneId),
    /// Answered with 2xx, not yet acknowledged.
    Unacked {
        channel: ChannelId,
        ack: AckId,
        /// When the 2xx came.
        since: Duration,
    },
    /// Refused in part; where the cut lies in the log is being looked up.
    Splitting {
        cut: Cut,
        taken: Taken,
        /// What [`Batch::suspect`] will be for the event that is cut out.
        first: u64,
    },
    /// One event, refused. It waits for the collectors to take something else, which tells a bad
    /// event from a collector that takes nothing.
    Suspect {
        /// The count of acceptances when it was refused last.
        seen: u64,
        /// When it is tried again though nothing was accepted.
        until: Duration,
    },
    /// The dead letter is being written.
    Burying,
    /// There is no room for the dead letter.
    Unburied {
        /// When that is tried again.
        until: Duration,
    },
    /// It may be passed.
    Settled(Settled),
}

/// Why a batch may be passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Its events are acknowledged, or it has none.
    Acknowledged,
    /// Its event is in the dead letters.
    DeadLettered,
    /// The log has given it up.
    Dropped,
}

/// What a collector that refused an event said of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// They were not taken, or that cannot be told: they are sent again.
    Nothing,
    /// They were taken, and have an ackId.
    Unacked { channel: ChannelId, ack: AckId, since: Duration },
}

/// A range of messages, all of whose events travel in one POST.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) range: PositionRange,
    /// Messages in the range, those without an event included.
    pub(super) messages: u64,
    /// Messages in the range that make no event.
    pub(super) filtered: u64,
    /// Events in the body.
    pub(super) events: u64,
    /// When its first frame arrived.
    pub(super) received: UnixMicros,
    pub(super) stage: Stage,
    /// How often it, or the batch it is a piece of, was refused. What was refused less goes first.
    pub(super) refused: u32,
    /// Its body is not to be compressed: a compressed one was not understood.
    pub(super) plain: bool,
    /// The count of refusals when its only event was refused first.
    pub(super) suspect: Option<u64>,
    /// Who refused its only event last, and how.
    pub(super) refusal: Option<(EndpointId, Reason)>,
}

impl Batch {
    const fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Settled(_))
    }

    /// What was refused is not what it makes now.
    pub(super) fn is_innocent(&mut self) {
        self.suspect = None;
        self.refusal = None;
    }

    /// Whether nothing is to be expected of it that would prove anything.
    pub(super) const fn is_settled_or_refused(&self) -> bool {
        self.is_settled() || self.refused > 0
    }

    /// Since when it has waited for this acknowledgement, and for nothing else.
    pub(super) fn unacked_since(&self, on: ChannelId, id: AckId) -> Option<Duration> {
        let Stage::Unacked { channel, ack, since } = self.stage else { return None };
        ((channel, ack) == (on, id)).then_some(since)
    }

    /// Whether it waits for this acknowledgement, and has not been sent again since.
    pub(super) fn waits_for(&self, on: ChannelId, id: AckId) -> bool {
        match self.stage {
            Stage::Unacked { channel, ack, .. }
            | Stage::Splitting { taken: Taken::Unacked { channel, ack, .. }, .. } => {
                (channel, ack) == (on, id)
            }
            Stage::Splitting { taken: Taken::Nothing, .. }
            | Stage::Ready
            | Stage::Faded
            | Stage::Fetching
            | Stage::Posting(_)
            | Stage::Suspect { .. }
            | Stage::Burying
            | Stage::Unburied { .. }
            | Stage::Settled(_) => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct Window {
    next: BatchId,
    order: BTreeMap<Position, BatchId>,
    batches: BTreeMap<BatchId, Batch>,
    /// The first message that is not settled.
    settled: Position,
    /// What became of the messages before `settled`.
    totals: Totals,
}

impl Window {
    pub(super) const fn new(settled: Position, totals: Totals) -> Self {
        Self {
            next: BatchId::new(0),
            order: BTreeMap::new(),
            batches: BTreeMap::new(),
            settled,
            totals,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(super) const fn settled(&self) -> Position {
        self.settled
    }

    pub(super) const fn totals(&self) -> Totals {
        self.totals
    }

    /// A number that no batch has had.
    pub(super) const fn allocate(&mut self) -> BatchId {
        let id = self.next;
        self.next = id.next();
        id
    }

    /// Takes in a batch. Its range touches no other's, and is not empty.
    pub(super) fn insert(&mut self, id: BatchId, batch: Batch) {
        self.order.insert(batch.range.start, id);
        self.batches.insert(id, batch);
        self.reclaim();
    }

    /// Takes a batch out, so that pieces of it can take its place.
    pub(super) fn remove(&mut self, id: BatchId) -> Option<Batch> {
        let batch = self.batches.remove(&id)?;
        self.order.remove(&batch.range.start);
        Some(batch)
    }

    pub(super) fn get(&self, id: BatchId) -> Option<&Batch> {
        self.batches.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: BatchId) -> Option<&mut Batch> {
        self.batches.get_mut(&id)
    }

    /// A batch that is still to be settled. It may have been settled while a POST or a question is
    /// on its way for it.
    pub(super) fn unsettled(&self, id: BatchId) -> Option<&Batch> {
        self.get(id).filter(|batch| !batch.is_settled())
    }

    pub(super) fn unsettled_mut(&mut self, id: BatchId) -> Option<&mut Batch> {
        self.get_mut(id).filter(|batch| !batch.is_settled())
    }

    /// Whether everything before the batch is settled.
    pub(super) fn is_first(&self, id: BatchId) -> bool {
        self.order.first_key_value().is_some_and(|(_, first)| *first == id)
    }

    /// Marks a batch as settled and moves the cursor over the settled prefix.
    pub(super) fn settle(&mut self, id: BatchId, how: Settled) {
        if let Some(batch) = self.get_mut(id) {
            batch.stage = Stage::Settled(how);
        }
        self.reclaim();
    }

    fn reclaim(&mut self) {
        while let Some(first) = self.order.first_entry() {
            let Some(batch) = self.batches.get(first.get()) else { return };
            let Stage::Settled(how) = batch.stage else { return };
            if batch.range.start != self.settled {
                return;
            }
            self.settled = batch.range.end;
            self.totals = counted(self.totals, batch, how);
            let id = first.remove();
            self.batches.remove(&id);
        }
    }

    /// Gives up what lies before `to`, which `settled` messages since the origin precede. Batches
    /// that lie before it whole are gone, and are returned; one that only begins there is cut:
    /// its rest is still to be settled. How many events a cut batch has is not known any more, and
    /// left as it was: that many are in the body that is on its way.
    pub(super) fn trim(&mut self, to: Position, settled: u64) -> Vec<BatchId> {
        let mut gone = Vec::new();
        while let Some(first) = self.order.first_entry() {
            let Some(batch) = self.batches.get(first.get()).filter(|b| b.range.end <= to) else {
                break;
            };
            match batch.stage {
                Stage::Settled(how) => self.totals = counted(self.totals, batch, how),
                Stage::Ready
                | Stage::Faded
                | Stage::Fetching
                | Stage::Posting(_)
                | Stage::Unacked { .. }
                | Stage::Splitting { .. }
                | Stage::Suspect { .. }
                | Stage::Burying
                | Stage::Unburied { .. } => self.totals.dropped += batch.messages,
            }
            let id = first.remove();
            self.batches.remove(&id);
            gone.push(id);
        }
        let rest = settled.saturating_sub(self.totals.settled());
        if let Some(first) = self.order.first_entry().filter(|first| *first.key() < to) {
            let id = first.remove();
            if let Some(batch) = self.batches.get_mut(&id) {
                batch.range.start = to;
                batch.messages = batch.messages.saturating_sub(rest);
                batch.filtered = batch.filtered.min(batch.messages);
            }
            self.order.insert(to, id);
        }
        self.totals.dropped += rest;
        self.settled = self.settled.max(to);
        // What begins here may have been settled before what is gone now.
        self.reclaim();
        gone
    }

    /// All batches, in the order of the log.
    pub(super) fn iter(&self) -> impl Iterator<Item = (BatchId, &Batch)> {
        self.order.values().filter_map(|id| Some((*id, self.batches.get(id)?)))
    }
}

/// The totals with a batch that is passed.
const fn counted(mut totals: Totals, batch: &Batch, how: Settled) -> Totals {
    totals.filtered += batch.filtered;
    let left = batch.messages.saturating_sub(batch.filtered);
    match how {
        Settled::Acknowledged => totals.acknowledged += left,
        Settled::DeadLettered => totals.dead_lettered += left,
        Settled::Dropped => totals.dropped += left,
    }
    totals
}
