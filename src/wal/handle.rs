//! The handle to the log, and what handle, appender and readers share.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use tokio::sync::{oneshot, watch};

use crate::clock;
use crate::record::Checkpoint;
use crate::types::{ByteSize, DestinationName, Offset, OffsetRange, SegmentId, Tail, UnixMicros};

use super::append::{
    NewFrame, PendingAppend, PendingCommit, PendingRemove, PreparedFrame, Request,
};
use super::config::{Config, Durability, Storage};
use super::error::{AppendError, CommitError, OpenError, RemoveError};
use super::gaps::{self, Floor, Gap};
use super::group::{Appended, append_gone, commit_gone, discard};
use super::read::Reader;
use super::shared::{Shared, Space};
use super::{checkpoint, recover};

/// The log. Cheap to clone; the last clone that goes closes it and waits for the appender.
#[derive(Clone, Debug)]
pub struct Wal {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: Sender<Request>,
    /// The other end of `requests`, for when the appender has ended.
    pub(super) left: Receiver<Request>,
    pub(super) closer: Arc<Closer>,
}

/// Ends the appender with the last handle. A database that is still being closed while the
/// process runs its last destructors aborts it.
#[derive(Debug)]
pub(super) struct Closer {
    requests: Sender<Request>,
    /// Nothing is ever sent here: the appender drops its end last of all.
    appender: Receiver<()>,
    /// Whether it has ended, once it was told to. It is waited for once.
    ended: OnceLock<bool>,
}

/// How the log was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// All that it had taken is written, as durable as `wal.durability` says, and a closing record
    /// behind it.
    InOrder,
    /// The log is poisoned: by its last write, or before. The process ends with 74 (I1).
    Failed,
    /// The last write has not returned. Nobody knows what is on the disk.
    Hangs,
}

/// How soon a request that finds the queue full is handed over again. A crossbeam queue tells no task
/// that there is room; only a disk that has hung for long fills it.
const SEND_AGAIN: Duration = Duration::from_millis(20);

/// How long a close waits for the appender. A disk that hangs must not keep the process.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

impl Closer {
    pub(super) const fn new(requests: Sender<Request>, appender: Receiver<()>) -> Self {
        Self { requests, appender, ended: OnceLock::new() }
    }

    /// Whether the appender has ended.
    fn close(&self) -> bool {
        *self.ended.get_or_init(|| {
            let deadline = clock::instant() + CLOSE_LIMIT;
            // A send that fails finds the appender gone, which is what it wants.
            drop(self.requests.send_deadline(Request::Close, deadline));
            let ended = self.appender.recv_deadline(deadline) != Err(RecvTimeoutError::Timeout);
            if !ended {
                tracing::error!("the log does not end: a write hangs");
            }
            ended
        })
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.close();
    }
}

/// What an operator sees of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalStatus {
    /// The durable end.
    pub tail: Tail,
    /// The first retained offset.
    pub first: Offset,
    /// Segments, the active one included.
    pub segments: usize,
    /// Bytes of all frames, before compression.
    pub bytes: ByteSize,
    /// Bytes of the table files on disk, after compression; what the log file holds comes on top.
    pub file_bytes: Option<ByteSize>,
    /// Whether frames are refused for want of space.
    pub space_is_short: bool,
    /// Why the log is poisoned, if it is.
    pub poisoned: Option<String>,
    /// What has happened to a frame before it is answered.
    pub durability: Durability,
    /// Where the log is kept.
    pub storage: Storage,
    /// The same in a sentence.
    pub promise: &'static str,
}

/// One segment of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub id: SegmentId,
    /// Its frames.
    pub frames: OffsetRange,
    /// Messages in the log before it.
    pub messages_before: u64,
    /// Messages in it.
    pub messages: u64,
    /// Bytes of its frames, before compression.
    pub bytes: ByteSize,
    /// When its first frame arrived; when it was opened, while it is empty.
    pub first_received: UnixMicros,
    /// When its last frame arrived.
    pub last_received: UnixMicros,
    /// Whether it takes no more frames.
    pub sealed: bool,
}

/// A cursor whose destination is not configured any more. It keeps its messages until an operator
/// removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The destination.
    pub name: DestinationName,
    /// Where it stands.
    pub checkpoint: Checkpoint,
    /// Segments that it needs, alone or with others.
    pub segments: usize,
    /// Bytes of their frames.
    pub bytes: ByteSize,
    /// Messages that it has not got.
    pub messages: u64,
}

impl Wal {
    /// Opens the log, or makes one, and starts its appender.
    ///
    /// # Errors
    /// When the directory is not usable, in use, foreign, from a newer version, or damaged.
    /// Nothing is guessed.
    pub fn open(config: Config) -> Result<(Self, recover::RecoveryReport), OpenError> {
        recover::open(config)
    }

    /// Encodes a frame: the work that need not be done by the one appender.
    #[must_use]
    pub fn prepare(frame: NewFrame) -> PreparedFrame {
        PreparedFrame::new(frame)
    }

    /// Puts a frame into the log. Resolves when it is durable, or certainly refused, except for
    /// [`AppendError::Poisoned`]. `permit` is given back at the same time: it stands for the
    /// frame's bytes in memory.
    ///
    /// Dropping the future does not take the frame back: a sender that gives up may find on its
    /// retry that the frame is there.
    ///
    /// # Errors
    /// None that the sender could be blamed for.
    pub async fn append(
        &self,
        frame: PreparedFrame,
        permit: impl Send + 'static,
    ) -> Result<Appended, AppendError> {
        self.append_noted(frame, permit, |_| {}).await
    }

    /// The same, with a note that the appender takes when the frame is durable, before the answer:
    /// also when this future was dropped meanwhile. It has to be quick, for everything behind the
    /// frame waits for it, and must not panic.
    ///
    /// # Errors
    /// As [`Self::append`]. No note is taken then.
    pub async fn append_noted(
        &self,
        frame: PreparedFrame,
        permit: impl Send + 'static,
        note: impl FnOnce(Appended) + Send + 'static,
    ) -> Result<Appended, AppendError> {
        if self.shared.is_poisoned() {
            return Err(AppendError::Poisoned);
        }
        let (answer, answered) = oneshot::channel();
        let append =
            PendingAppend { frame, answer, permit: Box::new(permit), note: Box::new(note) };
        // Whoever looks at the same moment may pass, too: one a thread, which the rest has room for.
        if self.requests.len() >= recover::FRAMES {
            return Err(AppendError::Overloaded);
        }
        match self.requests.try_send(Request::Append(Box::new(append))) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(AppendError::Overloaded),
            Err(TrySendError::Disconnected(_)) => return Err(append_gone(&self.shared)),
        }
        self.after_handing_over();
        answered.await.unwrap_or_else(|_| Err(append_gone(&self.shared)))
    }

    /// Asks the appender whether it is alive. Resolves when it comes to answer, which a write or a
    /// sync that hangs keeps it from: true; or false when it has ended.
    pub async fn is_alive(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.send_meta(Request::Probe(answer)).await.is_ok() && answered.await.is_ok()
    }

    /// Resolves when there is space for frames, at once if there is.
    pub async fn space(&self) {
        let mut space = self.shared.space.subscribe();
        // The sender lives as long as `self`.
        drop(space.wait_for(|space| *space == Space::Enough).await);
    }

    /// Resolves when there is no space for frames, at once if there is none.
    pub async fn no_space(&self) {
        let mut space = self.shared.space.subscribe();
        // The sender lives as long as `self`.
        drop(space.wait_for(|space| *space == Space::Short).await);
    }

    /// Makes a checkpoint durable. It joins the next group, or waits for at most 200 ms.
    ///
    /// # Errors
    /// When the log is closed or poisoned; the checkpoint must then be taken for not written.
    pub async fn commit(
        &self,
        destination: &DestinationName,
        checkpoint: Checkpoint,
    ) -> Result<(), CommitError> {
        let (answer, answered) = oneshot::channel();
        let destination = destination.clone();
        let request = Request::Commit(PendingCommit { destination, checkpoint, answer });
        self.send_meta(request).await?;
        answered.await.unwrap_or_else(|_| Err(commit_gone(&self.shared)))
    }

    /// Hands over what is no frame. It is in the one queue, behind whatever was handed over before, when
    /// this returns. The queue has room for it beside the frames; should it be full all the same,
    /// since the disk has hung for long, the task waits, and not its thread.
    pub(super) async fn send_meta(&self, mut request: Request) -> Result<(), CommitError> {
        loop {
            match self.requests.try_send(request) {
                Ok(()) => break,
                Err(TrySendError::Full(unsent)) => request = unsent,
                Err(TrySendError::Disconnected(_)) => return Err(commit_gone(&self.shared)),
            }
            tokio::time::sleep(SEND_AGAIN).await;
        }
        self.after_handing_over();
        Ok(())
    }

    /// The same on a thread that may block.
    pub(super) fn send_meta_blocking(&self, request: Request) -> Result<(), CommitError> {
        self.requests.send(request).map_err(|_| commit_gone(&self.shared))?;
        self.after_handing_over();
        Ok(())
    }

    /// A request that was handed over to an appender that has ended is answered by dropping it.
    fn after_handing_over(&self) {
        if self.shared.ended.load(Ordering::SeqCst) {
            discard(&self.left);
        }
    }

    /// The stored checkpoint of a destination.
    ///
    /// # Errors
    /// When the store cannot be read or a checkpoint is damaged.
    pub fn checkpoint(&self, name: &DestinationName) -> Result<Option<Checkpoint>, OpenError> {
        let all = checkpoint::read_all(&self.shared.store)?;
        Ok(all.into_iter().find(|(found, _)| found == name).map(|(_, checkpoint)| checkpoint))
    }

    /// All stored checkpoints, those of destinations that are no longer configured included.
    ///
    /// # Errors
    /// When the store cannot be read or a checkpoint is damaged.
    pub fn checkpoints(&self) -> Result<Vec<(DestinationName, Checkpoint)>, OpenError> {
        checkpoint::read_all(&self.shared.store)
    }

    /// Moves whenever the durable end does, and only after the sync.
    #[must_use]
    pub fn tail(&self) -> watch::Receiver<Tail> {
        self.shared.tail.subscribe()
    }

    /// The first retained offset.
    #[must_use]
    pub fn first(&self) -> Offset {
        self.shared.trimmed()
    }

    /// Messages in the log before the first retained offset.
    #[must_use]
    pub fn messages_before_first(&self) -> u64 {
        let catalogue = self.shared.catalogue();
        catalogue.sealed().front().unwrap_or(&catalogue.active).messages_before
    }

    /// The id of this store, part of the event ids of frames without a frame id.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.shared.node
    }

    /// A reader.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { shared: Arc::clone(&self.shared) }
    }

    /// Resolves when the log is poisoned, with the reason. The process has to end then.
    pub async fn poisoned(&self) -> String {
        let mut poisoned = self.shared.poisoned.subscribe();
        let why = poisoned.wait_for(Option::is_some).await.map(|why| why.clone());
        // The sender lives as long as `self`, so there is no error.
        why.ok().flatten().unwrap_or_default()
    }

    /// What an operator sees.
    #[must_use]
    pub fn status(&self) -> WalStatus {
        let (bytes, segments) = {
            let catalogue = self.shared.catalogue();
            (catalogue.bytes(), catalogue.sealed().len() + 1)
        };
        WalStatus {
            tail: *self.shared.tail.borrow(),
            first: self.shared.trimmed(),
            segments,
            bytes: ByteSize::bytes(bytes),
            file_bytes: self.shared.store.record_file_bytes().map(ByteSize::bytes),
            space_is_short: *self.shared.space.borrow() == Space::Short,
            poisoned: self.shared.poisoned.borrow().clone(),
            durability: self.shared.config.durability,
            storage: self.shared.config.storage,
            promise: self.shared.config.promise(),
        }
    }

    /// What the start found.
    #[must_use]
    pub fn recovery(&self) -> &recover::RecoveryReport {
        &self.shared.recovery
    }

    /// All segments, the oldest first; the last one is the active one.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let catalogue = self.shared.catalogue();
        let sealed = catalogue.sealed().iter().map(|segment| segment.info(true));
        sealed.chain([catalogue.active.info(false)]).collect()
    }

    /// The segment that holds an offset.
    #[must_use]
    pub fn segment_of(&self, at: Offset) -> Option<SegmentInfo> {
        let catalogue = self.shared.catalogue();
        if catalogue.active.first <= at {
            let info = catalogue.active.info(false);
            return (at < info.frames.end).then_some(info);
        }
        let index = catalogue.sealed().partition_point(|segment| segment.end <= at);
        let found = catalogue.sealed().get(index).filter(|segment| segment.first <= at);
        found.map(|segment| segment.info(true))
    }

    /// What some destinations never get, in the order of the log.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        self.shared.gaps().all().to_vec()
    }

    /// Moves when cursors that lagged were moved, because the log has dropped what they stood at.
    #[must_use]
    pub fn floor(&self) -> watch::Receiver<Floor> {
        self.shared.floor.subscribe()
    }

    /// Says which destinations are configured: the cursors of all others are orphans.
    pub fn configured(&self, names: impl IntoIterator<Item = DestinationName>) {
        let mut configured = self.shared.configured.lock().unwrap_or_else(PoisonError::into_inner);
        *configured = Some(names.into_iter().collect());
    }

    fn is_configured(&self, name: &DestinationName) -> bool {
        let configured = self.shared.configured.lock().unwrap_or_else(PoisonError::into_inner);
        configured.as_ref().is_none_or(|names| names.contains(name))
    }

    /// The cursors of destinations that are not configured any more; none before
    /// [`Self::configured`] was called.
    ///
    /// # Errors
    /// When the store cannot be read or a checkpoint is damaged.
    pub fn orphans(&self) -> Result<Vec<Orphan>, OpenError> {
        let all = checkpoint::read_all(&self.shared.store)?;
        let tail = *self.shared.tail.borrow();
        let segments = self.segments();
        let orphans = all.into_iter().filter(|(name, _)| !self.is_configured(name));
        let orphans: Vec<_> = orphans
            .map(|(name, checkpoint)| {
                let pins = |segment: &&SegmentInfo| segment.frames.end > checkpoint.position.offset;
                let bytes = segments.iter().filter(pins).map(|segment| segment.bytes.get()).sum();
                Orphan {
                    name,
                    segments: segments.iter().filter(pins).count(),
                    bytes: ByteSize::bytes(bytes),
                    messages: tail.messages.saturating_sub(gaps::settled(&checkpoint)),
                    checkpoint,
                }
            })
            .collect();
        self.shared.metrics.orphans.set(orphans.len() as f64);
        Ok(orphans)
    }

    /// Removes the cursor of a destination that is not configured any more, and returns it.
    /// Durable when this returns: what it alone has kept may go with the next sweep.
    ///
    /// # Errors
    /// When the destination is configured, or has no cursor, or the removal is not durable.
    pub async fn remove_checkpoint(
        &self,
        name: &DestinationName,
    ) -> Result<Checkpoint, RemoveError> {
        if self.is_configured(name) {
            return Err(RemoveError::Configured(name.clone()));
        }
        let Some(checkpoint) = self.checkpoint(name)? else {
            return Err(RemoveError::Unknown(name.clone()));
        };
        let (answer, answered) = oneshot::channel();
        let destination = name.clone();
        self.send_meta(Request::Remove(PendingRemove { destination, answer })).await?;
        answered.await.unwrap_or_else(|_| Err(commit_gone(&self.shared)))?;
        tracing::info!(
            destination = %name,
            position = %checkpoint.position,
            "the cursor of a destination that is not configured any more was removed"
        );
        Ok(checkpoint)
    }

    /// Writes what waits, ends the appender and waits for its end. Blocking. The store itself is
    /// closed when the last clone and the last reader are gone.
    ///
    /// Whoever ends the process has to say how it went: a log whose last write failed was not closed.
    pub fn close(&self) -> Closed {
        let ended = self.closer.close();
        if self.shared.is_poisoned() {
            Closed::Failed
        } else if ended {
            Closed::InOrder
        } else {
            Closed::Hangs
        }
    }
}
