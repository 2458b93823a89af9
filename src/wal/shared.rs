//! What the appender and all handles share: the store, what is known of it, and whether there is
//! space.

use super::catalogue::Catalogue;
use super::config::{Config, Storage};
use super::gaps::{Floor, Gap, Gaps};
use super::letters::LetterBook;
use super::preflight::Files;
use super::recover;
use super::replays::Replays;
use super::store::Store;
use crate::clock;
use crate::types::{DestinationName, Offset, OffsetRange, Tail};
use metrics::{Gauge, Histogram};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

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
    pub(super) configured: Mutex<Option<BTreeSet<DestinationName>>>,
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
    pub(super) bytes: Gauge,
    /// Bytes that only replays keep.
    pub(super) replay_pinned: Gauge,
    pub(super) segments: Gauge,
    free: Gauge,
    poisoned: Gauge,
    gaps: Gauge,
    pub(super) orphans: Gauge,
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
            let oldest = catalogue.sealed().front().unwrap_or(&catalogue.active);
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
                replay_pinned: metrics::gauge!("forebay_replay_pinned_bytes"),
                segments: metrics::gauge!("forebay_wal_segments"),
                free: metrics::gauge!("forebay_wal_free_bytes"),
                poisoned: metrics::gauge!("forebay_wal_poisoned"),
                gaps: metrics::gauge!("forebay_wal_gaps"),
                orphans: metrics::gauge!("forebay_orphaned_destinations"),
            },
        };
        shared.metrics.poisoned.set(0.0);
        shared.metrics.replay_pinned.set(0.0);
        metrics::gauge!("forebay_wal_max_bytes").set(shared.config.max_size.get() as f64);
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
            (catalogue.bytes(), catalogue.sealed().len() + 1)
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

    /// How many bytes of delivered frames have to go before their time, so that frames find room. That
    /// is before there is none: what is left then is two segments, and a quarter of a small log,
    /// so many times. What is free counts as if frames took on the disk what they take here.
    pub(super) fn room_wanted(&self, times: u64) -> u64 {
        let Config { segment_size, max_size, min_free, .. } = &self.config;
        let spare = segment_size.get().saturating_mul(2).min(max_size.get().div_euclid(4)).max(1);
        let spare = spare.saturating_mul(times);
        let used = self.catalogue().bytes();
        let over = used.saturating_add(spare).saturating_sub(max_size.get());
        let wanted = min_free.get().saturating_add(spare);
        let short = self.free_bytes().map_or(0, |free| wanted.saturating_sub(free));
        over.max(short)
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
