//! The appender: the one thread that writes.
//!
//! It takes the first request that waits, drains what else is ready up to a budget, and makes one
//! batch with one sync of it. There is no timer: the sync itself is the time in which the next
//! group gathers. The order of the steps in [`Appender::write`] is promise P1; each says what
//! would be lost if it moved.

mod stage;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rocksdb::WriteBatch;
use tokio::sync::oneshot;

use crate::clock;
use crate::generated::storage;
use crate::record::encode_value;
use crate::types::{Offset, Tail, UnixMicros};

use super::append::{
    COMPANY, Note, PendingAppend, PendingCommit, PendingLetters, PendingLift, PendingRemove,
    PendingReplay, PendingTrim, Request,
};
use super::catalogue::Segment;
use super::config::Durability;
use super::dedupe::Dedupe;
use super::error::{AppendError, CommitError};
use super::failpoint::{failpoint, fails};
use super::gaps::Floor;
use super::keys::{self, Digest};
use super::letters;
use super::replays;
use super::shared::Shared;
use super::store::Sync;

/// A group that has this many bytes of frames is full: the last one takes it beyond, by a body at most.
pub(super) const GROUP_BYTES: usize = 4 << 20;

/// Proof that a frame is in the log, as durable as `wal.durability` promises: synced, unless an
/// operator has chosen less, and then [`Durable::promise`] says what. Only this module can make
/// one, and only after the write returned; only one of these makes a 200 (P1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    offset: Option<Offset>,
    promise: Durability,
}

impl Durable {
    /// Where the frame is; none for a duplicate of a frame that an earlier group stored.
    #[must_use]
    pub const fn offset(&self) -> Option<Offset> {
        self.offset
    }

    /// What has happened to the frame.
    #[must_use]
    pub const fn promise(&self) -> Durability {
        self.promise
    }
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The proof.
    pub durable: Durable,
    /// Whether the frame was there already, and is not stored again.
    pub duplicate: bool,
}

pub(super) struct Appender {
    shared: Arc<Shared>,
    requests: Receiver<Request>,
    dedupe: Dedupe,
    tail: Tail,
    /// Requests that wait for company.
    commits: Vec<PendingCommit>,
    trims: Vec<PendingTrim>,
    letters: Vec<PendingLetters>,
    replays: Vec<PendingReplay>,
    seals: Vec<oneshot::Sender<Result<(), CommitError>>>,
    lifts: Vec<PendingLift>,
    removals: Vec<PendingRemove>,
    company_until: Option<Instant>,
    /// No checkpoint is written that lies below this.
    floor: Floor,
    /// When what was written without a sync has to be synced.
    sync_due: Option<Instant>,
    /// Frame ids of this hour and later ones, which lie in the future, go with the next group.
    forget_ids_from: Option<u32>,
}

/// One group in the making.
#[derive(Default)]
struct Group {
    frames: Vec<PendingAppend>,
    bytes: usize,
    closing: bool,
}

/// What a group will have changed once it is durable.
struct Outcome {
    sealed: Vec<Segment>,
    active: Segment,
    tail: Tail,
    /// Hour and identity of each new frame.
    remembered: Vec<(u32, Digest)>,
    /// For each frame of the group, in order.
    answers: Vec<Answer>,
}

/// An answer that waits for the sync.
struct Answer {
    appended: Appended,
    sender: oneshot::Sender<Result<Appended, AppendError>>,
    note: Note,
    /// Given back after the answer: until then the frame's bytes count as in flight.
    _permit: Box<dyn Send>,
}

/// An appender that panics must not leave a log behind that looks healthy and takes nothing.
impl Drop for Appender {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.poison("the appender panicked".to_owned());
        }
        // In this order: whoever hands over a request after this loop finds the flag.
        self.shared.ended.store(true, Ordering::SeqCst);
        discard(&self.requests);
    }
}

/// Drops what waits for an appender that has ended, and so answers it. A queue does not do that
/// by itself while there are senders.
pub(super) fn discard(requests: &Receiver<Request>) {
    while let Ok(request) = requests.try_recv() {
        drop(request);
    }
}

impl Appender {
    pub(super) fn new(
        shared: Arc<Shared>,
        requests: Receiver<Request>,
        dedupe: Dedupe,
        tail: Tail,
        floor: Floor,
    ) -> Self {
        Self {
            shared,
            requests,
            dedupe,
            tail,
            commits: Vec::new(),
            trims: Vec::new(),
            letters: Vec::new(),
            replays: Vec::new(),
            seals: Vec::new(),
            lifts: Vec::new(),
            removals: Vec::new(),
            company_until: None,
            floor,
            sync_due: None,
            forget_ids_from: None,
        }
    }

    /// Works until it is told to close, or a write fails.
    pub(super) fn run(mut self) {
        loop {
            if let Some(group) = self.gather() {
                let closing = group.closing;
                if self.write(group).is_err() {
                    return;
                }
                if closing {
                    // All of it is synced by now.
                    self.shared.witness(self.tail);
                    return;
                }
            }
            if self.sync_if_due().is_err() {
                return;
            }
        }
    }

    /// Waits for the first request and drains what else is ready. None when all there is may wait
    /// for company.
    fn gather(&mut self) -> Option<Group> {
        let wake = self.company_until.into_iter().chain(self.sync_due).min();
        let first = match wake {
            None => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => self.requests.recv_deadline(until),
        };
        let mut group = Group::default();
        let mut next = match first {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => return Some(group),
            Err(RecvTimeoutError::Disconnected) => Some(Request::Close),
        };
        while let Some(request) = next {
            self.take(&mut group, request);
            let full = group.closing || group.bytes >= GROUP_BYTES;
            next = if full { None } else { self.requests.try_recv().ok() };
        }
        let due = self.company_until.is_some_and(|until| until <= clock::instant());
        let due = due || !self.lifts.is_empty();
        (due || group.closing || !group.frames.is_empty()).then_some(group)
    }

    fn take(&mut self, group: &mut Group, request: Request) {
        match request {
            Request::Append(append) => {
                group.bytes += append.frame.record.len();
                group.frames.push(*append);
            }
            Request::Commit(commit) => self.commits.push(commit),
            Request::Letters(letters) => self.letters.push(letters),
            Request::Replay(replay) => self.replays.push(replay),
            Request::Trim(trim) => self.trims.push(trim),
            Request::Seal(answer) => self.seals.push(answer),
            // Whoever asked may have given up waiting.
            Request::Probe(answer) => drop(answer.send(())),
            Request::Lift(lift) => self.lifts.push(lift),
            Request::Remove(removal) => self.removals.push(removal),
            Request::Close => group.closing = true,
        }
        let waiting = self.commits.len()
            + self.trims.len()
            + self.letters.len()
            + self.replays.len()
            + self.seals.len()
            + self.removals.len();
        if self.company_until.is_none() && waiting > 0 {
            self.company_until = Some(clock::instant() + COMPANY);
        }
    }

    /// One group, from the batch to the answers.
    fn write(&mut self, group: Group) -> Result<(), ()> {
        let started = clock::instant();
        let now = clock::unix_micros();
        self.company_until = None;
        let mut commits = std::mem::take(&mut self.commits);
        let lifts = std::mem::take(&mut self.lifts);
        let removals = std::mem::take(&mut self.removals);
        let trims = std::mem::take(&mut self.trims);
        let seals = std::mem::take(&mut self.seals);

        // 1. Everything the group changes goes into one batch: a frame and its dedupe key cannot
        //    be torn apart, or a retry after a crash would be stored twice, or be taken for
        //    stored when it is not.
        let mut batch = WriteBatch::default();
        let outcome = match self.stage(&mut batch, group.frames, !seals.is_empty(), now) {
            Ok(outcome) => outcome,
            Err(error) => return self.poison("a frame id could not be looked up", &error),
        };
        if self.shared.is_poisoned() {
            // The look at the disk has found a file gone.
            return Err(());
        }
        let gap = match self.stage_lifts(&mut batch, &mut commits, &lifts, now) {
            Ok(gap) => gap,
            Err(error) => return self.poison("the checkpoints could not be read", &error),
        };
        self.stage_meta(&mut batch, &commits, &trims, &removals);
        self.forget_ids_from = None;
        let letters = std::mem::take(&mut self.letters);
        let letters = match letters::stage(&self.shared, &mut batch, letters) {
            Ok(letters) => letters,
            Err(error) => return self.poison("a dead letter could not be looked up", &error),
        };
        let replays = std::mem::take(&mut self.replays);
        let floor = lifts.last().map_or(self.floor, |lift| lift.floor);
        let rises = !lifts.is_empty();
        let mut replays = replays::stage(&self.shared, &mut batch, replays, floor, rises, now);
        if group.closing {
            // The last record holds no frame: the next start could not tell damage to it from a
            // torn write, which it mends.
            let closed =
                storage::StoreClosed { end_offset: outcome.tail.end.get(), closed_us: now.get() };
            let family = self.shared.store.family(keys::META);
            batch.put_cf(family, keys::CLOSED, encode_value(&closed));
        }

        // 2. Write and sync. Before this nothing is promised; if it fails, nobody knows what is
        //    on the disk, and asking again would prove nothing. Without the sync, where the
        //    configuration says so, this much is promised; but what lets files or the process go
        //    is synced in every case.
        if !batch.is_empty() {
            let durability = self.shared.config.durability;
            let final_say = group.closing || !trims.is_empty() || !lifts.is_empty();
            let sync = match durability {
                _ if final_say => Sync::Now,
                Durability::Fsync => Sync::Now,
                Durability::Interval(_) | Durability::None => Sync::Later,
            };
            if fails("wal::write::before") {
                return self.poison("a write failed", &"failpoint");
            }
            if !commits.is_empty() {
                failpoint!("wal::checkpoint::before");
            }
            if let Err(error) = self.shared.store.write(batch, sync) {
                return self.poison("a write failed", &error);
            }
            if fails("wal::write::after") {
                return self.poison("a write failed", &"failpoint");
            }
            if !commits.is_empty() {
                failpoint!("wal::checkpoint::after");
            }
            self.sync_due = match (sync, durability) {
                (Sync::Later, Durability::Interval(every)) => {
                    Some(self.sync_due.unwrap_or_else(|| clock::instant() + every))
                }
                (Sync::Now, _) | (_, Durability::Fsync | Durability::None) => None,
            };
            self.shared.metrics.commit_seconds.record(clock::instant() - started);
            self.shared.metrics.group_frames.record(outcome.answers.len() as f64);
        }

        // 3. What is durable becomes visible. Earlier, a reader could deliver and checkpoint what
        //    a crash then takes away, and the offsets would be given out a second time.
        {
            let mut catalogue = self.shared.catalogue();
            catalogue.roll(outcome.sealed, outcome.active);
            for trim in &trims {
                catalogue.trim(trim.segments);
            }
        }
        if let Some(gap) = gap {
            tracing::error!(
                frames = %gap.range,
                messages = gap.messages,
                losses = ?gap.losses.iter().map(|(n, m)| format!("{n}: {m}")).collect::<Vec<_>>(),
                "the log is full: frames are dropped that not every destination has, as \
                 when_full = \"drop_oldest\" wishes"
            );
            self.shared.add_gap(gap);
        }
        for lift in &lifts {
            self.floor = lift.floor;
        }
        for (hour, digest) in outcome.remembered {
            self.dedupe.load(hour, &digest);
        }
        self.tail = outcome.tail;
        self.publish(now);
        letters.publish(&self.shared);
        replays.publish(&self.shared);

        failpoint!("wal::answer::before");
        // 4. Only now the answers. Earlier, a 200 could leave for a frame that is gone after a
        //    power cut.
        for answer in outcome.answers {
            (answer.note)(answer.appended);
            // A sender that has gone away does not need the answer.
            answer.sender.send(Ok(answer.appended)).ok();
        }
        letters.answer();
        replays.answer();
        for commit in commits {
            commit.answer.send(Ok(())).ok();
        }
        let lifts = lifts.into_iter().map(|lift| lift.answer);
        let removals = removals.into_iter().map(|removal| removal.answer);
        let rest = trims.into_iter().map(|trim| trim.answer).chain(seals).chain(lifts);
        for answer in rest.chain(removals) {
            answer.send(Ok(())).ok();
        }
        Ok(())
    }

    /// Syncs what was written without, if it is time. A failure is as final as any other.
    fn sync_if_due(&mut self) -> Result<(), ()> {
        if self.sync_due.is_none_or(|due| due > clock::instant()) {
            return Ok(());
        }
        self.sync_due = None;
        let started = clock::instant();
        if fails("wal::sync") {
            return self.poison("a sync failed", &"failpoint");
        }
        if let Err(error) = self.shared.store.sync() {
            return self.poison("a sync failed", &error);
        }
        self.shared.metrics.commit_seconds.record(clock::instant() - started);
        Ok(())
    }

    fn publish(&mut self, now: UnixMicros) {
        let forgotten = self.dedupe.expire(now);
        let shared = &self.shared;
        shared.tail.send_replace(self.tail);
        self.forget_ids_from = forgotten.from;
        let before = shared.forget_frames_before.load(Ordering::Relaxed);
        let before = self.dedupe.gone_before(before, forgotten);
        shared.forget_frames_before.store(before, Ordering::Relaxed);
        shared.metrics.durable_offset.set(self.tail.end.get() as f64);
        shared.metrics.dedupe_entries.set(self.dedupe.len() as f64);
        shared.metrics.dedupe_window_seconds.set(self.dedupe.reach(now).as_secs_f64());
    }

    /// The first failure is final (I1).
    fn poison(&self, what: &str, error: &dyn std::fmt::Display) -> Result<(), ()> {
        tracing::error!(%error, "{what}: the log takes nothing more, the process has to restart");
        self.shared.poison(format!("{what}: {error}"));
        // Whatever waits is dropped with its answer, and its sender hears "poisoned".
        Err(())
    }
}

/// What a dropped request means for whoever waits for its answer.
pub(super) fn append_gone(shared: &Shared) -> AppendError {
    if shared.is_poisoned() { AppendError::Poisoned } else { AppendError::Stopping }
}

/// The same for a checkpoint.
pub(super) fn commit_gone(shared: &Shared) -> CommitError {
    if shared.is_poisoned() { CommitError::Poisoned } else { CommitError::Stopping }
}
