//! What the log has given up: dropped for want of space, or damaged. It is settled as dropped, so
//! that the books go on to balance (I8), and the cursor is never left behind in what is not there.

use crate::types::{BatchId, Position, PositionRange, UnixMicros};

use super::window::{Batch, Stage};
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
        for id in &gone {
            self.queue.remove(id);
            // An acknowledgement that still comes finds nothing to settle.
            self.actions.push_back(Action::Release(*id));
        }
        let channels: Vec<_> = self.channels.keys().copied().collect();
        for id in channels {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.outstanding.retain(|_, batch| !gone.contains(batch));
            }
            self.drop_if_done(id);
        }
        if self.read < to {
            // A read that is on its way began before this, and is thrown away when it comes.
            self.read = to;
            self.messages_read = messages_before;
        }
    }

    pub(super) fn on_lost(&mut self, batch: BatchId, range: PositionRange, messages_end: u64) {
        self.reading = false;
        let id = self.window.next_id();
        let usable = !self.stopping && batch == id && range.start == self.read;
        if !usable || range.is_empty() {
            return;
        }
        let messages = messages_end.saturating_sub(self.messages_read);
        self.read = range.end;
        self.messages_read = messages_end;
        self.window.push(Batch {
            range,
            messages,
            filtered: 0,
            dropped: messages,
            received: UnixMicros::default(),
            stage: Stage::Settled,
            resend: false,
        });
    }
}
