//! Dropping what every destination has and retention no longer keeps (P3).

use std::sync::PoisonError;

use tokio::sync::oneshot;

use crate::clock;
use crate::types::{Offset, OffsetRange};

use super::append::{PendingTrim, Request};
use super::checkpoint::LowWatermark;
use super::error::{CommitError, OpenError};
use super::group::commit_gone;
use super::handle::{Space, Wal};
use super::keys;

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
        let short = shared.look_for_space() == Space::Short;
        // 1. Ask what every destination still needs, from the store: a checkpoint that is only in
        //    memory could be taken back by a crash, after its messages are gone.
        let watermark = LowWatermark::read(&shared.store)?;
        if short {
            self.seal_delivered(watermark)?;
        }
        let (segments, first, messages_before) = {
            let catalogue = shared.catalogue();
            let now = clock::unix_micros();
            let retention = shared.config.retention;
            let count = catalogue.droppable(watermark.offset(), now, retention, short);
            let next = catalogue.sealed.get(count).unwrap_or(&catalogue.active);
            (count, next.first, next.messages_before)
        };
        let dropped = OffsetRange { start: shared.trimmed(), end: first };
        if segments > 0 {
            // 2. Readers look no further back. Before the files go, or a read finds a gap.
            shared.set_trimmed(first);
            // 3. The trim point and the catalogue become durable. Before the files go, or a start
            //    after a crash finds a catalogue with segments that are not there.
            let (answer, answered) = oneshot::channel();
            let trim = PendingTrim { first, messages_before, segments, answer };
            self.send_meta(Request::Trim(trim))?;
            answered.blocking_recv().unwrap_or_else(|_| Err(commit_gone(shared)))?;
        }
        // 4. The files go. If the process dies before, the next sweep deletes them.
        self.delete_files(shared.trimmed()).map_err(SweepError::Delete)?;
        if segments > 0 {
            tracing::info!(segments, %dropped, space_is_short = short, "segments dropped");
            // Requests that are held for want of space go on now, not at the next look.
            shared.look_for_space_again();
        }
        Ok(dropped)
    }

    /// Only sealed segments go, and only a frame seals one. When space is short no frame comes in,
    /// so a log that is full with its active segment alone would be full for ever.
    fn seal_delivered(&self, watermark: LowWatermark) -> Result<(), CommitError> {
        let active = self.shared.catalogue().active;
        if active.end == active.first || active.end > watermark.offset() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.send_meta(Request::Seal(answer))?;
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
}
