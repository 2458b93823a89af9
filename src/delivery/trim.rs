//! What the log has given up: dropped for want of space, or damaged. It is settled as dropped, so
//! that the books go on to balance (I8), and the cursor is never left behind in what is not there.
//!
//! A batch that is cut keeps its stage: what is on its way for it is about its old range. An answer
//! that counts its events does not fit any more then, and it is made and sent again.

use crate::types::{BatchId, Position, PositionRange, UnixMicros};

use super::window::{Batch, Settled, Stage};
use super::{Action, Delivery};

impl Delivery {
    /// The range of a batch that is not settled, as it is now: it may have been cut.
    #[must_use]
    pub fn range(&self, batch: BatchId) -> Option<PositionRange> {
        self.window.get(batch).map(|batch| batch.range)
    }

    pub(super) fn on_trimmed(&mut self, to: Position, messages_before: u64) {
        if to <= self.window.settled() {
            return;
        }
        let gone = self.window.trim(to, messages_before.saturating_sub(self.origin_messages));
        // An acknowledgement that still comes finds nothing to settle.
        self.actions.extend(gone.iter().copied().map(Action::Release));
        // What is cut has another place among those that wait, what is gone has none.
        for (_, _, id) in std::mem::take(&mut self.queue) {
            self.enqueue(id);
        }
        self.waiting.retain(|id| self.window.get(*id).is_some());
        let channels: Vec<_> = self.channels.keys().copied().collect();
        for id in channels {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.outstanding.retain(|_, batch| !gone.contains(batch));
            }
            self.drop_if_done(id);
        }
        if self.read < to {
            // A read that is on its way began before this, and is thrown away when it comes.
            self.read_to(to, messages_before);
        }
    }

    pub(super) fn on_lost(&mut self, batch: BatchId, range: PositionRange, messages_end: u64) {
        let wanted = self.reading == Some(batch);
        if wanted {
            self.reading = None;
        }
        let usable = wanted && !self.stopping && range.start == self.read;
        if !usable || range.is_empty() {
            return;
        }
        let messages = messages_end.saturating_sub(self.messages_read);
        self.read_to(range.end, messages_end);
        self.window.insert(
            batch,
            Batch {
                range,
                messages,
                filtered: 0,
                events: 0,
                received: UnixMicros::default(),
                stage: Stage::Settled(Settled::Dropped),
                refused: 0,
                plain: false,
                suspect: None,
                refusal: None,
            },
        );
    }
}
