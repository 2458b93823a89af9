//! Memory for bodies, from when it is asked for until they are durable.
//!
//! `ingest.max_in_flight` bounds all of it. It has three parts, so that who sends slowly, or
//! announces much and sends nothing, takes little, and nothing of what the frames of others need:
//!
//! | part | how much | whose |
//! |---|---|---|
//! | frames | half | bodies that say how long they are, are not compressed and have at most 128 KiB: what Logplex makes. It is taken before anything is read |
//! | growing | what the others leave | all other bodies: in chunks, compressed, or large. It is taken as they come |
//! | last | one largest body | of those, the one whose turn it is |
//!
//! A body that grows holds memory while it waits for more, and if all of them did, none would ever
//! be whole. So one of them at a time has its turn: it grows into the last part, for which it waits
//! for nobody but the log. The turn ends with the end of the body; what the body still needs of the
//! last part it keeps until it is durable. A body that has no memory when there is no time left to
//! store it (`patience`) gives back all it has: its sender will try again.
//!
//! What hyper has read ahead of us, at most 16 KiB for each connection, is not in it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::gate::Gate;
use super::patience::Patience;
use crate::types::ByteSize;

/// The largest body that takes all of its memory at once. Logplex aims at frames of 100 KiB, and
/// goes over that by less than its last message, which has at most 10 KB and a header (Logplex
/// source, logplex_http_drain.erl).
pub(super) const LARGEST_FRAME: u64 = 128 * 1024;

/// What a body that grows begins with.
const FIRST: usize = 16 * 1024;

/// What decompressing takes beside what comes in and what comes out: its window, its buffer, and
/// what it gives out of that once more than there was memory for.
const GUNZIP: u64 = 128;

/// Permits are counted in KiB, so that a `u32` holds any body.
const PERMIT: u64 = 1024;

/// How soon a body that waits for its turn looks whether others have left it something. It looks now
/// and then, and is not told: each frame that is stored would wake all that wait, some hundreds a
/// thousand times a second; and one that queued for the semaphore would hoard what comes free.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// All memory for bodies.
#[derive(Debug)]
pub(super) struct Memory {
    frames: Arc<Semaphore>,
    growing: Arc<Semaphore>,
    last: Arc<Semaphore>,
    turn: Arc<Semaphore>,
    max_body: usize,
}

/// There was no memory, and there is no time left to store the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// How a request waits for memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait<'a> {
    pub(super) gate: &'a Gate,
    pub(super) patience: &'a Patience,
    pub(super) deadline: Instant,
}

impl Wait<'_> {
    /// Waits, while there is time to store the frame.
    async fn until<T>(&self, there_is: impl Future<Output = T>) -> Result<T, NoRoom> {
        let _waiting = self.gate.waits_for_memory();
        let last = self.deadline.checked_sub(self.patience.reserve()).unwrap_or(self.deadline);
        timeout_at(last, there_is).await.map_err(|_| NoRoom)
    }
}

/// The memory that one body has. Given back when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Of the frames' part, or of the growing one.
    most: Option<OwnedSemaphorePermit>,
    last: Option<OwnedSemaphorePermit>,
}

impl Room {
    fn permits(&self) -> u64 {
        let parts = [&self.most, &self.last].into_iter().flatten();
        parts.fold(0, |all, part| all.saturating_add(widen(part.num_permits())))
    }

    /// Gives back what is not needed; first what any other body can use.
    fn shrink(&mut self, needed: u64) {
        let mut excess = self.permits().saturating_sub(needed);
        for part in [&mut self.most, &mut self.last].into_iter().flatten() {
            let back = excess.min(widen(part.num_permits()));
            drop(part.split(usize::try_from(back).unwrap_or(usize::MAX)));
            excess = excess.saturating_sub(back);
        }
    }
}

/// A body that takes its memory as it comes.
#[derive(Debug)]
pub(super) struct Growing<'a> {
    memory: &'a Memory,
    wait: Wait<'a>,
    room: Room,
    turn: Option<OwnedSemaphorePermit>,
    /// Permits for what is needed beside the body.
    beside: u64,
    granted: usize,
}

impl Memory {
    pub(super) fn new(max_in_flight: ByteSize, max_body: ByteSize) -> Self {
        let all = permits(max_in_flight.get());
        let last = body_permits(max_body.get()).saturating_add(GUNZIP);
        // Less than one largest body of a part would make that body wait forever.
        let least = body_permits(LARGEST_FRAME.min(max_body.get()));
        let frames = (all / 2).min(all.saturating_sub(last)).max(least);
        let growing = all.saturating_sub(last).saturating_sub(frames);
        let part = |permits: u64| {
            let permits = usize::try_from(permits).unwrap_or(usize::MAX);
            Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
        };
        Self {
            frames: part(frames),
            growing: part(growing),
            last: part(last),
            turn: part(1),
            max_body: usize::try_from(max_body.get()).unwrap_or(usize::MAX),
        }
    }

    /// All the memory of a body that says how long it is, and is no longer than
    /// [`LARGEST_FRAME`].
    pub(super) async fn whole(&self, len: u64, wait: Wait<'_>) -> Result<Room, NoRoom> {
        let permits = narrow(body_permits(len));
        let frames = || Arc::clone(&self.frames);
        let permit = match frames().try_acquire_many_owned(permits) {
            Ok(permit) => permit,
            // The semaphore is never closed.
            Err(_) => {
                wait.until(frames().acquire_many_owned(permits)).await?.map_err(|_| NoRoom)?
            }
        };
        Ok(Room { most: Some(permit), last: None })
    }

    /// The memory of any other body. It has none yet.
    pub(super) fn growing<'a>(&'a self, wait: Wait<'a>, compressed: bool) -> Growing<'a> {
        let beside = if compressed { GUNZIP } else { 0 };
        Growing { memory: self, wait, room: Room::default(), turn: None, beside, granted: 0 }
    }

    /// KiB that are free.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        [&self.frames, &self.growing, &self.last].map(|part| part.available_permits()).iter().sum()
    }
}

impl Growing<'_> {
    /// How long the body may be, compressed as well as not, with the memory that it has.
    pub(super) const fn granted(&self) -> usize {
        self.granted
    }

    /// Takes memory for a body of this length, and for more if there is some: less asking later.
    pub(super) async fn grow(&mut self, to: usize) -> Result<(), NoRoom> {
        if to <= self.granted {
            return Ok(());
        }
        let wish = self.granted.saturating_mul(2).max(FIRST).min(self.memory.max_body).max(to);
        if self.turn.is_none() {
            if self.take(wish) || self.take(to) {
                return Ok(());
            }
            let wait = self.wait;
            if wait.until(self.others_or_turn(to)).await? {
                return Ok(());
            }
        }
        // Nobody else waits for this part, and whoever has some of it is with the log.
        let last = || Arc::clone(&self.memory.last);
        let (length, missing) = (to, self.missing(to));
        let (length, permit) = match last().try_acquire_many_owned(self.missing(wish)) {
            Ok(permit) => (wish, permit),
            Err(_) => {
                let waited = self.wait.until(last().acquire_many_owned(missing)).await?;
                (length, waited.map_err(|_| NoRoom)?)
            }
        };
        hold(&mut self.room.last, permit);
        self.granted = length;
        Ok(())
    }

    /// Takes what is there of the growing part, if it is enough.
    fn take(&mut self, to: usize) -> bool {
        let growing = Arc::clone(&self.memory.growing);
        let Ok(permit) = growing.try_acquire_many_owned(self.missing(to)) else { return false };
        hold(&mut self.room.most, permit);
        self.granted = to;
        true
    }

    /// Waits until others have left enough: true; or until it has its turn: false.
    async fn others_or_turn(&mut self, to: usize) -> bool {
        let mut turn = std::pin::pin!(Arc::clone(&self.memory.turn).acquire_owned());
        loop {
            tokio::select! {
                biased;
                turn = &mut turn => {
                    // The semaphore is never closed.
                    self.turn = turn.ok();
                    return false;
                }
                () = sleep(LOOK_AGAIN) => {
                    if self.take(to) {
                        return true;
                    }
                }
            }
        }
    }

    /// Permits that it lacks for a body of this length.
    fn missing(&self, to: usize) -> u32 {
        let needed = body_permits(widen(to)).saturating_add(self.beside);
        narrow(needed.saturating_sub(self.room.permits()))
    }

    /// The body is whole, and of this length.
    pub(super) fn whole(mut self, len: usize) -> Room {
        self.room.shrink(body_permits(widen(len)));
        self.room
    }
}

/// Adds to what is held of a part.
fn hold(part: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match part {
        Some(part) => part.merge(more),
        None => *part = Some(more),
    }
}

/// Permits for so many bytes. Nothing needs memory too.
const fn permits(bytes: u64) -> u64 {
    (bytes / PERMIT).saturating_add(1)
}

/// Permits for a frame with a body of this size: it is there twice, as it came and encoded for
/// the log.
const fn body_permits(len: u64) -> u64 {
    permits(len.saturating_mul(2))
}

fn narrow(permits: u64) -> u32 {
    u32::try_from(permits).unwrap_or(u32::MAX)
}

fn widen(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const KIB: usize = 1024;

    struct Others(Gate, Patience);

    fn others(patience: Duration) -> Others {
        let long = Duration::from_secs(60);
        Others(Gate::new(long, long), Patience::new(patience))
    }

    impl Others {
        fn wait(&self, time: Duration) -> Wait<'_> {
            let deadline = Instant::from_std(clock::instant()) + time;
            Wait { gate: &self.0, patience: &self.1, deadline }
        }
    }

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(200);

    #[test]
    fn its_parts_are_no_more_than_all_and_each_has_room_for_one() {
        for (all, body) in [(64, 8), (4, 1), (32, 8), (256, 64), (1024, 8)] {
            let memory = Memory::new(ByteSize::mib(all), ByteSize::mib(body));
            assert!(memory.free() as u64 <= all * 1024 + 1, "{all} {body}: {}", memory.free());
            let frames = memory.frames.available_permits() as u64;
            assert!(frames >= all * 1024 / 2 - GUNZIP, "{all} {body}: {frames}");
            let last = memory.last.available_permits() as u64;
            assert_eq!(last, body_permits(body << 20) + GUNZIP);
        }
        // So little that no configuration may have it.
        let memory = Memory::new(ByteSize::bytes(0), ByteSize::bytes(64 * 1024));
        assert_eq!(memory.frames.available_permits() as u64, body_permits(64 * 1024));
    }

    /// Two bodies have grown as far as they could, and both need more: one has its turn, and then
    /// the other.
    #[tokio::test]
    async fn bodies_that_hold_memory_and_need_more_do_not_wait_for_each_other() {
        let memory = Memory::new(ByteSize::bytes(5 << 19), ByteSize::bytes(512 * 1024));
        let others = others(LONG);
        let free = memory.free();
        let mut first = memory.growing(others.wait(LONG), false);
        let mut second = memory.growing(others.wait(LONG), false);
        for growing in [&mut first, &mut second] {
            growing.grow(10).await.unwrap();
            assert_eq!(growing.granted(), FIRST);
        }
        let mut step = 2 * FIRST;
        // As long as both can have it without a turn.
        while second.turn.is_none() {
            first.grow(step).await.unwrap();
            if first.turn.is_some() {
                break;
            }
            second.grow(step).await.unwrap();
            step *= 2;
        }
        let (mut first, mut second) =
            if first.turn.is_some() { (first, second) } else { (second, first) };
        let largest = 512 * KIB;
        // The second waits, holding what it has.
        let waits = async {
            second.grow(largest).await.unwrap();
            second
        };
        let grows = async {
            tokio::task::yield_now().await;
            first.grow(largest).await.unwrap();
            assert!(first.turn.is_some());
            drop(first.whole(largest));
        };
        let (second, ()) = tokio::join!(waits, grows);
        assert_eq!(second.granted(), largest);
        drop(second.whole(largest));
        assert_eq!(memory.free(), free, "all of it is given back");
    }

    /// Who gets none while there is time to store the frame is told so.
    #[tokio::test]
    async fn nobody_waits_longer_than_there_is_time() {
        let memory = Memory::new(ByteSize::bytes(0), ByteSize::bytes(64 * 1024));
        let others = others(SHORT);
        let frame = memory.whole(64 * 1024, others.wait(LONG)).await.unwrap();
        assert_eq!(memory.whole(1, others.wait(SHORT)).await.unwrap_err(), NoRoom);
        let mut one = memory.growing(others.wait(LONG), true);
        one.grow(64 * KIB).await.unwrap();
        assert_eq!(memory.free(), 0);
        let mut two = memory.growing(others.wait(SHORT), false);
        assert_eq!(two.grow(1).await, Err(NoRoom));
        assert!(one.whole(1).permits() <= 1, "it keeps what it needs");
        two.wait = others.wait(LONG);
        two.grow(1).await.unwrap();
        drop(frame);
    }
}
