//! Replays: stretches of the log that are sent once more. Their records are among the store's facts
//! and are written by the appender, in synced groups, like checkpoints.
//!
//! An open replay keeps the segments that it still needs, as a cursor does (P3): the low watermark
//! reads it back from the store. Where the log drops its oldest segment all the same, the replay is
//! moved on, and counts what it lost. Those that have ended stay in the list for a while.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use rocksdb::WriteBatch;
use tokio::sync::{oneshot, watch};

use crate::record::{Checkpoint, Replay, ReplayId, ReplayState};
use crate::types::{DestinationName, Offset, UnixMicros};

use super::append::{PendingReplay, Request};
use super::error::{CommitError, OpenError, ReplayError};
use super::gaps::Floor;
use super::group::commit_gone;
use super::handle::Wal;
use super::keys;
use super::recover::{damaged, scan};
use super::shared::Shared;
use super::store::Store;

/// The most replays that are open at a time.
const OPEN: usize = 16;

/// The most that have ended and are kept in the list; the oldest go first.
const KEPT: usize = 32;

/// All replays, by id.
pub(super) type Replays = BTreeMap<ReplayId, Replay>;

/// A change to one replay.
pub(super) enum ReplayChange {
    /// A new one.
    Start(Box<Replay>),
    /// It has come so far.
    Advance(ReplayId, Box<Checkpoint>),
    /// An operator does not want the rest.
    Cancel(ReplayId),
}

/// All replays in the store.
pub(super) fn read_all(store: &Store) -> Result<Replays, OpenError> {
    let mut all = Replays::new();
    scan(store, keys::META, keys::REPLAY, |key, value| {
        // Behind these keys come those of other things.
        if key.starts_with(keys::REPLAY) {
            let replay = Replay::decode(value)
                .map_err(|error| damaged(store, &key.escape_ascii().to_string(), error))?;
            all.insert(replay.id.clone(), replay);
        }
        Ok(())
    })?;
    Ok(all)
}

/// The first offset that an open replay still needs.
pub(super) fn needed(store: &Store) -> Result<Option<Offset>, OpenError> {
    let all = read_all(store)?;
    let open = all.values().filter(|replay| replay.is_open());
    Ok(open.map(|replay| replay.checkpoint.position.offset).min())
}

/// Whether the change was made.
type Answer = Result<bool, CommitError>;

/// What a group does to replays.
#[derive(Default)]
pub(super) struct Staged {
    /// All of them, if any has changed.
    all: Option<Replays>,
    answers: Vec<(oneshot::Sender<Answer>, bool)>,
}

impl Staged {
    /// Shows what is durable now.
    pub(super) fn publish(&mut self, shared: &Shared) {
        if let Some(all) = self.all.take() {
            *shared.replays() = all;
            shared.replays_changed.send_modify(|count| *count += 1);
        }
    }

    pub(super) fn answer(self) {
        for (sender, done) in self.answers {
            // Whoever has gone away does not need the answer.
            sender.send(Ok(done)).ok();
        }
    }
}

/// Puts the changes into the group's batch. `floor` is where it lies after the group: a replay
/// below is moved onto it, when it `rises` all of them.
pub(super) fn stage(
    shared: &Shared,
    batch: &mut WriteBatch,
    pending: Vec<PendingReplay>,
    floor: Floor,
    rises: bool,
    now: UnixMicros,
) -> Staged {
    let mut staged = Staged::default();
    if pending.is_empty() && !rises {
        return staged;
    }
    let before = shared.replays().clone();
    let mut all = before.clone();
    for PendingReplay { change, answer } in pending {
        let done = match change {
            ReplayChange::Start(replay) => {
                let id = replay.id.clone();
                all.insert(id, *replay).is_none()
            }
            ReplayChange::Advance(id, checkpoint) => {
                all.get_mut(&id).is_some_and(|replay| replay.advance(*checkpoint, now))
            }
            ReplayChange::Cancel(id) => match all.get_mut(&id) {
                Some(replay) if replay.is_open() => {
                    replay.end(ReplayState::Cancelled, now);
                    true
                }
                _ => false,
            },
        };
        staged.answers.push((answer, done));
    }
    for replay in all.values_mut() {
        if let Some(lost) = replay.lift(floor.offset, floor.messages_before, now)
            && lost > 0
        {
            tracing::error!(
                replay = %replay.id,
                destination = %replay.destination,
                messages = lost,
                "the log is full: a replay loses what it has not sent, as when_full = \
                 \"drop_oldest\" wishes"
            );
        }
    }
    forget_the_oldest(&mut all);
    let family = shared.store.family(keys::META);
    for (id, replay) in &all {
        if before.get(id) != Some(replay) {
            batch.put_cf(family, keys::replay(id), replay.encode());
        }
    }
    for id in before.keys().filter(|id| !all.contains_key(*id)) {
        batch.delete_cf(family, keys::replay(id));
    }
    staged.all = Some(all);
    staged
}

/// Keeps the list short.
fn forget_the_oldest(all: &mut Replays) {
    let mut ended: Vec<_> =
        all.values().filter_map(|replay| Some((replay.ended?, replay.id.clone()))).collect();
    ended.sort();
    let surplus = ended.len().saturating_sub(KEPT);
    for (_, id) in ended.into_iter().take(surplus) {
        all.remove(&id);
    }
}

impl Wal {
    /// Makes a replay durable: from now on no segment that it needs is dropped. Its destination
    /// sends it. Blocking.
    ///
    /// # Errors
    /// When its stretch is not retained, too many are open, or the log takes nothing more.
    pub fn start_replay(&self, replay: Replay) -> Result<(), ReplayError> {
        let shared = &self.shared;
        // Between the look and the write no segment goes.
        let _alone = shared.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.first();
        if replay.range.start < first {
            return Err(ReplayError::NotRetained { at: replay.range.start, first });
        }
        let open = shared.replays().values().filter(|replay| replay.is_open()).count();
        if open >= OPEN {
            return Err(ReplayError::TooMany(OPEN));
        }
        let (answer, answered) = oneshot::channel();
        let change = ReplayChange::Start(Box::new(replay));
        self.send_meta_blocking(Request::Replay(PendingReplay { change, answer }))?;
        answered.blocking_recv().unwrap_or_else(|_| Err(commit_gone(shared)))?;
        Ok(())
    }

    /// Makes durable how far a replay has come. False: it is not open any more, and stays as it is.
    ///
    /// # Errors
    /// When the log takes nothing more.
    pub async fn advance_replay(
        &self,
        id: &ReplayId,
        checkpoint: Checkpoint,
    ) -> Result<bool, CommitError> {
        let change = ReplayChange::Advance(id.clone(), Box::new(checkpoint));
        self.change_replay(change).await
    }

    /// Cancels a replay. False: there is no open one of that id.
    ///
    /// # Errors
    /// When the log takes nothing more.
    pub async fn cancel_replay(&self, id: &ReplayId) -> Result<bool, CommitError> {
        self.change_replay(ReplayChange::Cancel(id.clone())).await
    }

    async fn change_replay(&self, change: ReplayChange) -> Result<bool, CommitError> {
        let (answer, answered) = oneshot::channel();
        self.send_meta(Request::Replay(PendingReplay { change, answer })).await?;
        answered.await.unwrap_or_else(|_| Err(commit_gone(&self.shared)))
    }

    /// All replays: those that are open, and the latest of those that have ended. The oldest first.
    #[must_use]
    pub fn replays(&self) -> Vec<Replay> {
        let mut all: Vec<_> = self.shared.replays().values().cloned().collect();
        all.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        all
    }

    /// The replay that a destination sends now: the oldest one that is open.
    #[must_use]
    pub fn open_replay(&self, destination: &DestinationName) -> Option<Replay> {
        let all = self.replays();
        all.into_iter().find(|replay| replay.is_open() && replay.destination == *destination)
    }

    /// One replay.
    #[must_use]
    pub fn replay(&self, id: &ReplayId) -> Option<Replay> {
        self.shared.replays().get(id).cloned()
    }

    /// Moves whenever a replay begins, comes further or ends.
    #[must_use]
    pub fn replays_changed(&self) -> watch::Receiver<u64> {
        self.shared.replays_changed.subscribe()
    }
}
