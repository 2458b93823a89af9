//! Dropping segments: what every destination has and retention no longer keeps (P3), and, where
//! `when_full = "drop_oldest"` says so, the oldest one when space is needed.

use std::sync::PoisonError;

use tokio::sync::oneshot;

use crate::clock;
use crate::types::{Offset, OffsetRange};

use super::append::{PendingLift, PendingTrim, Request};
use super::checkpoint::LowWatermark;
use super::config::{Durability, Storage, WhenFull};
use super::error::{CommitError, OpenError};
use super::failpoint::failpoint;
use super::gaps::Floor;
use super::group::commit_gone;
use super::handle::Wal;
use super::shared::Space;
use super::{keys, witness};

/// Why a sweep did not happen.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The checkpoints cannot be read: nothing may go.
    #[error("the checkpoints cannot be read: {0}")]
    Checkpoints(#[from] OpenError),
    /// The trim point is not durable: nothing may go.
    #[error("the trim point cannot be written: {0}")]
    Commit(#[from] CommitError),
    /// The files stay; the next sweep tries again.
    #[error("files cannot be deleted: {0}")]
    Delete(rocksdb::Error),
}

impl Wal {
    /// Drops the segments that may go, and returns what went. Blocking. A second one
    /// waits for the first.
    ///
    /// # Errors
    /// When nothing could be dropped; nothing is lost, and the next sweep tries again.
    pub fn sweep(&self) -> Result<OffsetRange, SweepError> {
        let shared = &self.shared;
        // It guards no data that a panic could have left half-done.
        let _alone = shared.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        let start = shared.trimmed();
        let short = shared.look_for_space() == Space::Short;
        let wanted = shared.room_wanted(1);
        if short {
            self.seal_delivered(LowWatermark::read(&shared.store)?, wanted)?;
        }
        let dropped = self.drop_delivered(wanted)?;
        if dropped == 0 && short && shared.config.when_full == WhenFull::DropOldest {
            self.drop_oldest(wanted)?;
        }
        self.leave_a_witness();
        Ok(OffsetRange { start, end: shared.trimmed() })
    }

    /// Whether delivered segments have to go, or will have to at the next sweeps.
    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        self.shared.room_wanted(2) > 0
    }

    /// The steps of a drop. Retention keeps nothing while less than `wanted` bytes have gone. Returns
    /// how many segments went.
    fn drop_delivered(&self, wanted: u64) -> Result<usize, SweepError> {
        let shared = &self.shared;
        // 1. Ask what every destination still needs, from the store: a checkpoint that is only in
        //    memory could be taken back by a crash, after its messages are gone.
        let watermark = LowWatermark::read(&shared.store)?;
        let cursors = LowWatermark::of_cursors(&shared.store)?;
        let (segments, first, messages_before) = {
            let catalogue = shared.catalogue();
            let now = clock::unix_micros();
            let retention = shared.config.retention;
            let count = catalogue.droppable(watermark.offset(), now, retention, wanted);
            let unneeded = catalogue.droppable(cursors.offset(), now, retention, wanted);
            let pinned = catalogue.sealed().range(count.min(unneeded)..unneeded);
            let pinned: u64 = pinned.map(|segment| segment.bytes).sum();
            shared.metrics.replay_pinned.set(pinned as f64);
            let next = catalogue.sealed().get(count).unwrap_or(&catalogue.active);
            (count, next.first, next.messages_before)
        };
        let dropped = OffsetRange { start: shared.trimmed(), end: first };
        if segments > 0 {
            failpoint!("wal::trim::before");
            // 2. Readers look no further back. Before the files go, or a read finds a gap.
            shared.set_trimmed(first);
            // 3. The trim point and the catalogue become durable, and with them, whatever
            //    `wal.durability` says, every checkpoint that step 1 has read. Before the files
            //    go, or a start after a crash finds a catalogue with segments that are not there.
            let (answer, answered) = oneshot::channel();
            let trim = PendingTrim { first, messages_before, segments, answer };
            self.send_meta_blocking(Request::Trim(trim))?;
            answered.blocking_recv().unwrap_or_else(|_| Err(commit_gone(shared)))?;
            failpoint!("wal::trim::committed");
        }
        // 4. The files go. If the process dies before, the next sweep deletes them.
        self.delete_files(shared.trimmed()).map_err(SweepError::Delete)?;
        if segments > 0 {
            let space_is_short = wanted > 0;
            tracing::info!(segments, %dropped, space_is_short, "segments dropped");
            // Requests that are held for want of space go on now, not at the next look.
            shared.look_for_space_again();
        }
        Ok(segments)
    }

    /// Nothing that is delivered can go, and space is needed: the oldest sealed segment goes all
    /// the same, the one exception to P3. Then its steps are
    ///
    /// 0. The cursors that lag are moved behind the segment, and what they lose is recorded,
    ///    synced in one write. Before anything goes, or a crash leaves a cursor that points at
    ///    what is not there, and a loss that is in no book. Then the running destinations hear
    ///    of it; one that reads below in the meantime is told by the read.
    /// 1. to 4. As for every segment: step 1 reads the moved cursors back from the store.
    ///
    /// The active segment never goes: with it, forebay would drop what it takes.
    fn drop_oldest(&self, wanted: u64) -> Result<(), SweepError> {
        let shared = &self.shared;
        let floor = {
            let catalogue = shared.catalogue();
            let count = catalogue.in_the_way(shared.config.max_size.get());
            if count == 0 {
                return Ok(());
            }
            let next = catalogue.sealed().get(count).unwrap_or(&catalogue.active);
            Floor { offset: next.first, messages_before: next.messages_before }
        };
        let (answer, answered) = oneshot::channel();
        self.send_meta_blocking(Request::Lift(PendingLift { floor, answer }))?;
        answered.blocking_recv().unwrap_or_else(|_| Err(commit_gone(shared)))?;
        shared.floor.send_replace(floor);
        failpoint!("wal::lift::committed");
        self.drop_delivered(wanted)?;
        Ok(())
    }

    /// Only sealed segments go, and only a frame seals one. When space is short no frame comes in,
    /// so a log that is full with its active segment alone would be full for ever. Where the sealed ones
    /// are room enough, it stays: what is newest is replayed most.
    fn seal_delivered(&self, watermark: LowWatermark, wanted: u64) -> Result<(), CommitError> {
        let (active, sealed) = {
            let catalogue = self.shared.catalogue();
            (catalogue.active, catalogue.bytes().saturating_sub(catalogue.active.bytes))
        };
        let delivered = active.end > active.first && active.end <= watermark.offset();
        if !delivered || sealed >= wanted {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.send_meta_blocking(Request::Seal(answer))?;
        answered.blocking_recv().unwrap_or_else(|_| Err(commit_gone(&self.shared)))
    }

    fn delete_files(&self, first: Offset) -> Result<(), rocksdb::Error> {
        let store = &self.shared.store;
        if let Some(last) = first.get().checked_sub(1) {
            store.delete_files_below(keys::RECORDS, &keys::record(Offset::new(last)))?;
        }
        let hour = self.shared.forget_frames_before.load(std::sync::atomic::Ordering::Relaxed);
        if let Some(last) = hour.checked_sub(1) {
            let last = keys::frame(last, &[0xff; 16]);
            store.delete_files_below(keys::FRAMES, &last)?;
        }
        Ok(())
    }

    /// Writes down how far the log has come, for the next start to compare.
    fn leave_a_witness(&self) {
        let shared = &self.shared;
        // What is not synced cannot be witnessed: a power cut may take it.
        if shared.config.durability != Durability::Fsync || shared.is_poisoned() {
            return;
        }
        shared.witness(*shared.tail.borrow());
    }
}

impl super::shared::Shared {
    /// Writes the witness, unless it says so already.
    pub(super) fn witness(&self, tail: crate::types::Tail) {
        if self.config.storage == Storage::Memory {
            return;
        }
        let mut seen = self.witnessed.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == Some(tail) {
            return;
        }
        match witness::write(&self.config.dir, &self.node, &tail) {
            Ok(()) => *seen = Some(tail),
            // The old one still stands, and is still true.
            Err(error) => tracing::warn!(%error, "the log's witness cannot be written"),
        }
    }
}
