//! Dead letters that become too old. They are looked for beside everything else: what is sent again
//! may wait for its collector for days.

use std::time::Duration;

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

/// Removes old letters until told to stop.
pub(super) struct Expiry {
    pub(super) config: Config,
    pub(super) wal: Wal,
}

impl Expiry {
    pub(super) async fn run(self, stop: CancellationToken) {
        let every = LOOK_EVERY.min(self.config.dead_letters.max_age);
        loop {
            self.expire().await;
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Removes letters that are older than they may become.
    async fn expire(&self) {
        let age = i64::try_from(self.config.dead_letters.max_age.as_micros()).unwrap_or(i64::MAX);
        let before = UnixMicros::new(clock::unix_micros().get().saturating_sub(age));
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
