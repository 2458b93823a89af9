//! Checkpoints, and what they allow.

use crate::record::Checkpoint;
use crate::types::{DestinationName, Offset};

use super::error::OpenError;
use super::keys;
use super::recover::{damaged, db_error};
use super::replays;
use super::store::Store;

/// The first offset that some destination still needs. Made of checkpoints read back from the
/// store and of nothing else, so a segment cannot be dropped for a checkpoint that a crash takes
/// back (P3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LowWatermark(Offset);

impl LowWatermark {
    /// The offset.
    #[must_use]
    pub const fn offset(self) -> Offset {
        self.0
    }

    /// Reads all checkpoints. Those of destinations that are no longer configured count too:
    /// their messages stay until an operator lets go of them. Without any checkpoint nothing may
    /// go. What an open replay has not sent stays, too.
    pub(super) fn read(store: &Store) -> Result<Self, OpenError> {
        let Self(lowest) = Self::of_cursors(store)?;
        Ok(Self(replays::needed(store)?.map_or(lowest, |needed| needed.min(lowest))))
    }

    /// The same without the replays: what would be the lowest if none were open. Nothing may be
    /// dropped by it.
    pub(super) fn of_cursors(store: &Store) -> Result<Self, OpenError> {
        let all = read_all(store)?;
        let lowest = all.iter().map(|(_, checkpoint)| checkpoint.position.offset).min();
        Ok(Self(lowest.unwrap_or(Offset::ZERO)))
    }
}

/// All checkpoints in the store.
pub(super) fn read_all(store: &Store) -> Result<Vec<(DestinationName, Checkpoint)>, OpenError> {
    let mut all = Vec::new();
    let mut failure = None;
    let scanned = store.scan::<rocksdb::Error>(keys::CURSORS, &[], |key, value| {
        let name = std::str::from_utf8(key).ok().and_then(|name| DestinationName::new(name).ok());
        match (name, Checkpoint::decode(value)) {
            (Some(name), Ok(checkpoint)) => all.push((name, checkpoint)),
            (Some(name), Err(error)) => {
                failure = Some(damaged(store, &format!("the checkpoint of {name}"), error));
            }
            (None, _) => {
                failure = Some(OpenError::Inconsistent {
                    path: store.path().to_owned(),
                    what: "a checkpoint has a key that is no destination's name".to_owned(),
                });
            }
        }
        Ok(())
    });
    scanned.map_err(|error| db_error(store.path(), error))?;
    failure.map_or(Ok(all), Err)
}
