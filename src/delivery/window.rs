//! The batches that are read and not yet settled: a ring by batch number whose settled prefix is
//! reclaimed. What is reclaimed, and nothing else, moves the cursor (P2).

use std::collections::VecDeque;
use std::time::Duration;

use crate::record::Totals;
use crate::types::{AckId, BatchId, ChannelId, Position, PositionRange, UnixMicros};

use super::LaneId;

/// Where a batch is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// To be sent; its body is in the sink's hands.
    Ready,
    /// To be sent again; its body has to be read from the log first.
    Faded,
    /// To be sent again; its body is being read.
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
    /// Acknowledged by the indexers, or empty.
    Settled,
}

/// A range of messages, all of whose events travel in one POST.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub(super) range: PositionRange,
    /// Messages in the range, those without an event included.
    pub(super) messages: u64,
    /// Messages in the range that make no event.
    pub(super) filtered: u64,
    /// Messages in the range that the log has given up: all of them, or none.
    pub(super) dropped: u64,
    /// When its first frame arrived.
    pub(super) received: UnixMicros,
    pub(super) stage: Stage,
    /// Whether it has been sent before.
    pub(super) resend: bool,
}

#[derive(Debug)]
pub(super) struct Window {
    /// The number of the first batch in `ring`.
    first: BatchId,
    ring: VecDeque<Batch>,
    /// The first message that is not settled.
    settled: Position,
    /// What became of the messages before `settled`.
    totals: Totals,
}

impl Window {
    pub(super) const fn new(settled: Position, totals: Totals) -> Self {
        Self { first: BatchId::new(0), ring: VecDeque::new(), settled, totals }
    }

    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(super) const fn settled(&self) -> Position {
        self.settled
    }

    pub(super) const fn totals(&self) -> Totals {
        self.totals
    }

    /// The number of the batch that is pushed next.
    pub(super) fn next_id(&self) -> BatchId {
        BatchId::new(self.first.get().saturating_add(self.ring.len() as u64))
    }

    /// Takes in the batch that was read next, as [`Self::next_id`].
    pub(super) fn push(&mut self, batch: Batch) {
        self.ring.push_back(batch);
        self.reclaim();
    }

    fn index(&self, id: BatchId) -> Option<usize> {
        usize::try_from(id.get().checked_sub(self.first.get())?).ok()
    }

    pub(super) fn get(&self, id: BatchId) -> Option<&Batch> {
        self.ring.get(self.index(id)?)
    }

    pub(super) fn get_mut(&mut self, id: BatchId) -> Option<&mut Batch> {
        let index = self.index(id)?;
        self.ring.get_mut(index)
    }

    /// Marks a batch as settled and moves the cursor over the settled prefix.
    pub(super) fn settle(&mut self, id: BatchId) {
        if let Some(batch) = self.get_mut(id) {
            batch.stage = Stage::Settled;
        }
        self.reclaim();
    }

    fn reclaim(&mut self) {
        while let Some(batch) = self.ring.pop_front_if(|batch| batch.stage == Stage::Settled) {
            self.first = self.first.next();
            self.settled = batch.range.end;
            self.count(&batch);
        }
    }

    const fn count(&mut self, batch: &Batch) {
        self.totals.filtered += batch.filtered;
        self.totals.dropped += batch.dropped;
        let left = batch.messages.saturating_sub(batch.filtered).saturating_sub(batch.dropped);
        self.totals.acknowledged += left;
    }

    /// Gives up what lies before `to`, which `settled` messages since the origin precede. Batches
    /// that lie before it whole are gone, and are returned; one that only begins there is cut:
    /// its rest is still to be settled.
    pub(super) fn trim(&mut self, to: Position, settled: u64) -> Vec<BatchId> {
        let mut gone = Vec::new();
        while let Some(batch) = self.ring.pop_front_if(|batch| batch.range.end <= to) {
            gone.push(self.first);
            self.first = self.first.next();
            self.settled = batch.range.end;
            if batch.stage == Stage::Settled {
                self.count(&batch);
            } else {
                self.totals.dropped += batch.messages;
            }
        }
        let rest = settled.saturating_sub(self.totals.settled());
        if let Some(batch) = self.ring.front_mut().filter(|batch| batch.range.start < to) {
            batch.range.start = to;
            batch.messages = batch.messages.saturating_sub(rest);
            batch.filtered = batch.filtered.min(batch.messages);
            batch.dropped = batch.dropped.min(batch.messages);
        }
        self.totals.dropped += rest;
        self.settled = self.settled.max(to);
        // What begins here may have been settled before what is gone now.
        self.reclaim();
        gone
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (BatchId, &Batch)> {
        let first = self.first.get();
        (first..).map(BatchId::new).zip(&self.ring)
    }
}
