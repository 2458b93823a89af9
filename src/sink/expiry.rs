//! Dead letters that become too old. They are looked for beside everything else: what is sent again
//! may wait for its collector for days.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::record::DeadLetter;
use crate::types::{ByteSize, Position, UnixMicros};
use crate::wal::{Removal, Wal};

use super::Config;

/// How often letters are looked through for old ones, at least.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// The most letters, and about the most bytes of them, that are in memory at a time.
const LETTERS: usize = 1000;
const BYTES: ByteSize = ByteSize::mib(8);

/// How long a clock that has jumped ahead has to go on as it is until it is believed. One that is
/// wrong at the start of a machine is put right before.
const DOUBT: Duration = Duration::from_hours(24);

/// What a clock may gain by being kept right.
const GAIN: Duration = Duration::from_mins(1);

/// The time of day, for what is deleted for good. A wall clock that is ahead at one look would make
/// all letters too old.
///
/// So time is what is known to have passed since the last time that was believed, and that begins
/// with the newest one in the store. A wall clock that shows more is doubted. When it has gone on like
/// that for a day, nobody puts it right: the relay was down or asleep for so long, and it is believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calendar {
    believed: Seen,
    doubted: Option<Seen>,
}

/// What the wall clock has shown, and when that was.
#[derive(Clone, Copy, Debug)]
struct Seen {
    wall: UnixMicros,
    at: Instant,
}

impl Seen {
    /// What it shows later, if it goes on.
    fn later(self, at: Instant) -> UnixMicros {
        plus(self.wall, at.saturating_duration_since(self.at))
    }
}

fn plus(time: UnixMicros, passed: Duration) -> UnixMicros {
    UnixMicros::new(time.get().saturating_add(micros(passed)))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Calendar {
    /// It is at least this time of day.
    pub(super) const fn from(wall: UnixMicros, at: Instant) -> Self {
        Self { believed: Seen { wall, at }, doubted: None }
    }

    /// What time it is, if the wall clock shows this.
    pub(super) fn now(&mut self, wall: UnixMicros, at: Instant) -> UnixMicros {
        let passed = self.believed.later(at);
        let shown = Seen { wall, at };
        if wall > plus(passed, GAIN) {
            let doubted = *self.doubted.get_or_insert(shown);
            let expected = doubted.later(at);
            if wall.get().abs_diff(expected.get()) > micros(GAIN).unsigned_abs() {
                self.doubted = Some(shown);
                return passed;
            }
            if at.saturating_duration_since(doubted.at) < DOUBT {
                return passed;
            }
        }
        *self = Self { believed: shown, doubted: None };
        wall
    }
}

/// Removes old letters until told to stop.
pub(super) struct Expiry {
    pub(super) config: Config,
    pub(super) wal: Wal,
    pub(super) calendar: Calendar,
}

impl Expiry {
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let every = LOOK_EVERY.min(self.config.dead_letters.max_age);
        loop {
            self.expire(clock::unix_micros(), clock::instant()).await;
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Removes letters that are older than they may become, if the wall clock shows this.
    pub(super) async fn expire(&mut self, wall: UnixMicros, at: Instant) {
        let now = self.calendar.now(wall, at);
        let age = micros(self.config.dead_letters.max_age);
        let before = UnixMicros::new(now.get().saturating_sub(age));
        let name = &self.config.name;
        let (mut from, mut removed) = (Position::ZERO, 0);
        loop {
            let (wal, destination) = (self.wal.clone(), name.clone());
            let page = tokio::task::spawn_blocking(move || {
                wal.letters(&destination, from, LETTERS, BYTES)
            });
            let Ok(Ok(page)) = page.await else { break };
            let Some((last, _)) = page.last() else { break };
            from = Position::new(last.offset, last.index.saturating_add(1));
            let old = |(at, letter): &(Position, DeadLetter)| {
                (letter.refused < before && letter.redrive.is_none()).then_some(*at)
            };
            let old: Vec<Position> = page.iter().filter_map(old).collect();
            removed += self.wal.remove_letters(name, &old, Removal::Expired).await.unwrap_or(0);
        }
        if removed > 0 {
            tracing::warn!(destination = %name, removed, "dead letters were too old and are gone");
        }
    }
}
