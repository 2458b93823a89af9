//! The handle to the log, and what handle, appender and readers share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use metrics::{Gauge, Histogram};
use tokio::sync::{oneshot, watch};

use crate::clock;
use crate::record::Checkpoint;
use crate::types::{ByteSize, DestinationName, Offset, OffsetRange, SegmentId, Tail, UnixMicros};

use super::append::{
    NewFrame, PendingAppend, PendingCommit, PendingRemove, PreparedFrame, Request,
};
use super::catalogue::Catalogue;
use super::config::{Config, Durability, Storage};
use super::error::{AppendError, CommitError, OpenError, RemoveError};
use super::gaps::{self, Floor, Gap, Gaps};
use super::group::{Appended, append_gone, commit_gone, discard};
use super::letters::LetterBook;
use super::preflight::Files;
use super::read::Reader;
use super::replays::Replays;
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

/// How soon a question that finds the queue full is asked again.
const PROBE_AGAIN: Duration = Duration::from_millis(20);

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
    /// All replays. Changed by the appender alone.
    replays: Mutex<Replays>,
    /// Counts the changes of replays.
    pub(super) replays_changed: watch::Sender<u64>,
    /// Held by a sweep: two at once would take twice as many segments out of the catalogue.
    pub(super) sweeping: Mutex<()>,
    /// Frame ids of earlier hours may be deleted.
    pub(super) forget_frames_before: AtomicU32,
    /// Below this no cursor stands any more.
    pub(super) floor: watch::Sender<Floor>,
    gaps: Mutex<Gaps>,
    /// What the witness says, if this process has written it.
    pub(super) witnessed: Mutex<Option<Tail>>,
    /// The newest file of RocksDB's log, when it was last looked for.
    newest_log: Mutex<Option<(u64, PathBuf)>>,
    /// The destinations that are configured; none before the relay has said so.
    configured: Mutex<Option<BTreeSet<DestinationName>>>,
    pub(super) recovery: recover::RecoveryReport,
    pub(super) metrics: Metrics,
}

/// What opening has found, from which the log goes on.
pub(super) struct Found {
    pub(super) node: String,
    pub(super) catalogue: Catalogue,
    pub(super) tail: Tail,
    pub(super) trimmed: Offset,
    pub(super) gaps: Gaps,
    pub(super) letters: BTreeMap<DestinationName, LetterBook>,
    pub(super) replays: Replays,
    pub(super) report: recover::RecoveryReport,
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
    gaps: Gauge,
    orphans: Gauge,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// The free space is asked this often at most.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Shared {
    pub(super) fn new(config: Config, store: Store, found: Found) -> Self {
        let Found { node, catalogue, tail, trimmed, gaps, letters, replays, report: recovery } =
            found;
        let floor = {
            let oldest = catalogue.sealed.front().unwrap_or(&catalogue.active);
            Floor { offset: oldest.first, messages_before: oldest.messages_before }
        };
        let durability = [("mode", config.durability.to_string())];
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
            replays: Mutex::new(replays),
            replays_changed: watch::Sender::new(0),
            sweeping: Mutex::new(()),
            forget_frames_before: AtomicU32::new(0),
            floor: watch::Sender::new(floor),
            gaps: Mutex::new(gaps),
            witnessed: Mutex::new(None),
            newest_log: Mutex::new(None),
            configured: Mutex::new(None),
            recovery,
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
                gaps: metrics::gauge!("forebay_wal_gaps"),
                orphans: metrics::gauge!("forebay_orphaned_destinations"),
            },
        };
        shared.metrics.poisoned.set(0.0);
        shared.metrics.gaps.set(shared.gaps().all().len() as f64);
        metrics::gauge!("forebay_wal_durability", &durability).set(1.0);
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

    /// The replays.
    pub(super) fn replays(&self) -> MutexGuard<'_, Replays> {
        self.replays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gaps, likewise.
    pub(super) fn gaps(&self) -> MutexGuard<'_, Gaps> {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a gap in that has become durable.
    pub(super) fn add_gap(&self, gap: Gap) {
        let mut gaps = self.gaps();
        gaps.add(gap, self.trimmed());
        self.metrics.gaps.set(gaps.all().len() as f64);
    }

    /// The damage that an offset lies in, and how many messages precede its end.
    pub(super) fn given_up(&self, at: Offset) -> Option<(OffsetRange, u64)> {
        self.gaps().damage_at(at).map(|gap| (gap.range, gap.messages_end()))
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
        let on_disk = self.config.storage == Storage::Disk;
        let stat = on_disk.then(|| rustix::fs::statvfs(&self.config.dir).ok()).flatten();
        let free = stat.map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        if let Some(free) = free {
            self.metrics.free.set(free as f64);
        }
        *self.free_looked() = Some((now, free));
        if on_disk && let Some(gone) = self.file_that_is_gone() {
            let gone = gone.display();
            tracing::error!(file = %gone, "was deleted while the log was open: what is written \
                 now would not be found again, so the log takes nothing more");
            // As far as it had come: the next start has to miss what is gone.
            self.witness(*self.tail.borrow());
            self.poison(format!("{gone} was deleted while the log was open"));
        }
        free
    }

    /// Files that are deleted stay writable for whoever has them open: frames would be answered,
    /// and gone with the process.
    fn file_that_is_gone(&self) -> Option<PathBuf> {
        // What the disk does not say is not known to be gone.
        let is_gone = |path: &Path| path.try_exists().is_ok_and(|exists| !exists);
        let current = self.config.dir.join("CURRENT");
        if is_gone(&current) {
            return Some(current);
        }
        let mut newest = self.newest_log.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.as_ref().is_some_and(|(_, path)| !is_gone(path)) {
            return None;
        }
        // RocksDB deletes a log file when a newer one has long taken its place.
        let found = Files::list(&self.config.dir).ok()?.logs.pop();
        match (&*newest, found) {
            (Some((old, path)), found) if found.as_ref().is_none_or(|(new, _)| new <= old) => {
                Some(path.clone())
            }
            (_, found) => {
                *newest = found;
                None
            }
        }
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

    /// Asks the appender whether it is alive. Resolves when it comes to answer, which a write or a
    /// sync that hangs keeps it from: true; or false when it has ended.
    pub async fn is_alive(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        let mut request = Request::Probe(answer);
        loop {
            match self.requests.try_send(request) {
                Ok(()) => break,
                Err(TrySendError::Full(unsent)) => request = unsent,
                Err(TrySendError::Disconnected(_)) => return false,
            }
            tokio::time::sleep(PROBE_AGAIN).await;
        }
        self.after_handing_over();
        answered.await.is_ok()
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
        let sealed = catalogue.sealed.iter().map(|segment| segment.info(true));
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
        let index = catalogue.sealed.partition_point(|segment| segment.end <= at);
        let found = catalogue.sealed.get(index).filter(|segment| segment.first <= at);
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
        self.send_meta(Request::Remove(PendingRemove { destination, answer }))?;
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
    pub fn close(&self) {
        self.closer.close();
    }
}
