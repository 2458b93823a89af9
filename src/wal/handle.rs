//! The handle to the log, and what handle, appender and readers share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use metrics::{Gauge, Histogram};
use tokio::sync::{oneshot, watch};

use crate::clock;
use crate::record::Checkpoint;
use crate::types::{ByteSize, DestinationName, Offset, Tail};

use super::append::{NewFrame, PendingAppend, PendingCommit, PreparedFrame, Request};
use super::catalogue::Catalogue;
use super::config::Config;
use super::error::{AppendError, CommitError, OpenError};
use super::group::{Appended, append_gone, commit_gone, discard};
use super::letters::LetterBook;
use super::read::Reader;
use super::store::Store;
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
}

/// How long a close waits for the appender. A disk that hangs must not keep the process.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

impl Closer {
    pub(super) const fn new(requests: Sender<Request>, appender: Receiver<()>) -> Self {
        Self { requests, appender }
    }

    fn close(&self) {
        let deadline = clock::instant() + CLOSE_LIMIT;
        // A send that fails finds the appender gone, which is what it wants.
        drop(self.requests.send_deadline(Request::Close, deadline));
        if self.appender.recv_deadline(deadline) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the log does not end: a write hangs");
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether there is space for frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Enough,
    Short,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) store: Store,
    /// Part of the event ids of frames without a frame id.
    pub(super) node: String,
    pub(super) tail: watch::Sender<Tail>,
    /// Why the log is poisoned, if it is.
    pub(super) poisoned: watch::Sender<Option<String>>,
    /// The appender has ended and takes nothing more.
    pub(super) ended: AtomicBool,
    pub(super) space: watch::Sender<Space>,
    /// When the free space was asked, and what it was.
    free_looked: Mutex<Option<(Instant, Option<u64>)>>,
    catalogue: Mutex<Catalogue>,
    trimmed: AtomicU64,
    /// What is known of the dead letters, by destination. Changed by the appender alone.
    letters: Mutex<BTreeMap<DestinationName, LetterBook>>,
    /// Counts the changes of the dead letters.
    pub(super) letters_changed: watch::Sender<u64>,
    /// Held by a sweep: two at once would take twice as many segments out of the catalogue.
    pub(super) sweeping: Mutex<()>,
    /// Frame ids of earlier hours may be deleted.
    pub(super) forget_frames_before: AtomicU32,
    pub(super) metrics: Metrics,
}

/// Handles, made once: a lookup by name costs more than a group's own bookkeeping.
pub(super) struct Metrics {
    pub(super) commit_seconds: Histogram,
    pub(super) group_frames: Histogram,
    pub(super) durable_offset: Gauge,
    pub(super) dedupe_entries: Gauge,
    pub(super) dedupe_window_seconds: Gauge,
    trimmed_offset: Gauge,
    bytes: Gauge,
    segments: Gauge,
    free: Gauge,
    poisoned: Gauge,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// The free space is asked this often at most.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Shared {
    pub(super) fn new(
        config: Config,
        store: Store,
        node: String,
        catalogue: Catalogue,
        tail: Tail,
        trimmed: Offset,
        letters: BTreeMap<DestinationName, LetterBook>,
    ) -> Self {
        let shared = Self {
            config,
            store,
            node,
            tail: watch::Sender::new(tail),
            poisoned: watch::Sender::new(None),
            ended: AtomicBool::new(false),
            space: watch::Sender::new(Space::Enough),
            free_looked: Mutex::new(None),
            catalogue: Mutex::new(catalogue),
            trimmed: AtomicU64::new(trimmed.get()),
            letters: Mutex::new(letters),
            letters_changed: watch::Sender::new(0),
            sweeping: Mutex::new(()),
            forget_frames_before: AtomicU32::new(0),
            metrics: Metrics {
                commit_seconds: metrics::histogram!("forebay_wal_commit_seconds"),
                group_frames: metrics::histogram!("forebay_wal_group_frames"),
                durable_offset: metrics::gauge!("forebay_wal_durable_offset"),
                trimmed_offset: metrics::gauge!("forebay_wal_trimmed_offset"),
                dedupe_entries: metrics::gauge!("forebay_dedupe_entries"),
                dedupe_window_seconds: metrics::gauge!("forebay_dedupe_window_seconds"),
                bytes: metrics::gauge!("forebay_wal_bytes"),
                segments: metrics::gauge!("forebay_wal_segments"),
                free: metrics::gauge!("forebay_wal_free_bytes"),
                poisoned: metrics::gauge!("forebay_wal_poisoned"),
            },
        };
        shared.metrics.poisoned.set(0.0);
        shared.metrics.durable_offset.set(tail.end.get() as f64);
        shared.metrics.trimmed_offset.set(trimmed.get() as f64);
        shared
    }

    /// The catalogue. Held for moments only; a panic while holding it leaves nothing half-done.
    pub(super) fn catalogue(&self) -> MutexGuard<'_, Catalogue> {
        self.catalogue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the dead letters.
    pub(super) fn letters(&self) -> MutexGuard<'_, BTreeMap<DestinationName, LetterBook>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn trimmed(&self) -> Offset {
        Offset::new(self.trimmed.load(Ordering::Acquire))
    }

    pub(super) fn set_trimmed(&self, first: Offset) {
        self.trimmed.store(first.get(), Ordering::Release);
        self.metrics.trimmed_offset.set(first.get() as f64);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.borrow().is_some()
    }

    pub(super) fn poison(&self, why: String) {
        self.metrics.poisoned.set(1.0);
        self.poisoned.send_if_modified(|first| {
            let news = first.is_none();
            if news {
                *first = Some(why);
            }
            news
        });
    }

    /// Compares what is used and what is free with the limits. What is used is known and compared
    /// each time, or groups could pass the limit between two looks; what is free costs a system
    /// call, and is asked at most every [`LOOK_EVERY`].
    pub(super) fn look_for_space(&self) -> Space {
        let (used, segments) = {
            let catalogue = self.catalogue();
            (catalogue.bytes(), catalogue.sealed.len() + 1)
        };
        self.metrics.bytes.set(used as f64);
        self.metrics.segments.set(segments as f64);
        let free = self.free_bytes();
        let short = used >= self.config.max_size.get()
            || free.is_some_and(|free| free < self.config.min_free.get());
        let space = if short { Space::Short } else { Space::Enough };
        self.space.send_if_modified(|state| {
            let news = *state != space;
            *state = space;
            if news {
                let free = free.unwrap_or_default();
                match space {
                    Space::Short => tracing::error!(used, free, "no space is left for frames"),
                    Space::Enough => tracing::info!(used, free, "there is space for frames again"),
                }
            }
            news
        });
        space
    }

    /// The same, with what is free asked at once: files have gone.
    pub(super) fn look_for_space_again(&self) -> Space {
        *self.free_looked() = None;
        self.look_for_space()
    }

    fn free_looked(&self) -> MutexGuard<'_, Option<(Instant, Option<u64>)>> {
        self.free_looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Free bytes of the file system, not older than [`LOOK_EVERY`]; none when it does not say,
    /// which refuses nothing.
    fn free_bytes(&self) -> Option<u64> {
        let now = clock::instant();
        if let Some((then, free)) = *self.free_looked()
            && now.saturating_duration_since(then) < LOOK_EVERY
        {
            return free;
        }
        let stat = rustix::fs::statvfs(&self.config.dir).ok();
        let free = stat.map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        if let Some(free) = free {
            self.metrics.free.set(free as f64);
        }
        *self.free_looked() = Some((now, free));
        free
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
        if self.shared.is_poisoned() {
            return Err(AppendError::Poisoned);
        }
        let (answer, answered) = oneshot::channel();
        let append = PendingAppend { frame, answer, permit: Box::new(permit) };
        match self.requests.try_send(Request::Append(Box::new(append))) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(AppendError::Overloaded),
            Err(TrySendError::Disconnected(_)) => return Err(append_gone(&self.shared)),
        }
        self.after_handing_over();
        answered.await.unwrap_or_else(|_| Err(append_gone(&self.shared)))
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
        self.send_meta(request)?;
        answered.await.unwrap_or_else(|_| Err(commit_gone(&self.shared)))
    }

    pub(super) fn send_meta(&self, request: Request) -> Result<(), CommitError> {
        // Bounded in number by one a destination and one for retention: the queue has room for
        // them beside the frames, and a full queue is a moment.
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
        catalogue.sealed.front().unwrap_or(&catalogue.active).messages_before
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
            (catalogue.bytes(), catalogue.sealed.len() + 1)
        };
        WalStatus {
            tail: *self.shared.tail.borrow(),
            first: self.shared.trimmed(),
            segments,
            bytes: ByteSize::bytes(bytes),
            file_bytes: self.shared.store.record_file_bytes().map(ByteSize::bytes),
            space_is_short: *self.shared.space.borrow() == Space::Short,
            poisoned: self.shared.poisoned.borrow().clone(),
        }
    }

    /// Writes what waits, ends the appender and waits for its end. Blocking. The store itself is
    /// closed when the last clone and the last reader are gone.
    pub fn close(&self) {
        self.closer.close();
    }
}
