//! Where it is written down what is settled: the checkpoint for the log and for a replay, and for
//! dead letters that are sent again, their removal.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::record::{Checkpoint, DeadLetter, Replay, ReplayId};
use crate::types::{DestinationName, Offset, Position};
use crate::wal::{CommitError, Floor, LetterError, Removal, Wal};

/// Dead letters on their way: each is a frame of one message in a log of its own, whose offsets
/// are the letters' indexes here.
pub(super) type Letters = Arc<[(Position, DeadLetter)]>;

/// Where what is settled is written down.
#[derive(Debug)]
pub(super) enum Ledger {
    /// The destination's checkpoint.
    Log,
    /// Dead letters that are sent again.
    Letters {
        letters: Letters,
        /// How many of the first ones have been dealt with.
        done: usize,
        /// Those that were refused again: they stay.
        refused: BTreeSet<usize>,
    },
    /// A replay's own checkpoint.
    Replay {
        id: ReplayId,
        /// Behind its last frame, and how many messages precede that.
        end: Offset,
        end_messages: u64,
    },
}

/// Something to be made durable.
#[derive(Debug)]
pub(super) enum Commit {
    Checkpoint(Checkpoint),
    /// These are acknowledged.
    Redriven(Vec<Position>),
    Replay(ReplayId, Checkpoint),
}

impl Ledger {
    pub(super) const fn letters(letters: Letters) -> Self {
        Self::Letters { letters, done: 0, refused: BTreeSet::new() }
    }

    pub(super) fn replay(replay: &Replay) -> Self {
        let (id, end) = (replay.id.clone(), replay.range.end);
        Self::Replay { id, end, end_messages: replay.end_messages }
    }

    /// Whether there is an end to what is sent.
    pub(super) const fn is_finite(&self) -> bool {
        matches!(self, Self::Letters { .. } | Self::Replay { .. })
    }

    /// Whether it is read from the log, which can drop it.
    pub(super) const fn is_of_the_log(&self) -> bool {
        matches!(self, Self::Log | Self::Replay { .. })
    }

    /// How far what the log has dropped concerns what is sent.
    pub(super) fn floor(&self, floor: Floor) -> Floor {
        match self {
            Self::Log | Self::Letters { .. } => floor,
            Self::Replay { end, end_messages, .. } => Floor {
                offset: floor.offset.min(*end),
                messages_before: floor.messages_before.min(*end_messages),
            },
        }
    }

    /// What a checkpoint of the machine means here.
    pub(super) fn commit(&mut self, checkpoint: Checkpoint) -> Commit {
        match self {
            Self::Log => Commit::Checkpoint(checkpoint),
            Self::Replay { id, .. } => Commit::Replay(id.clone(), checkpoint),
            Self::Letters { letters, done, refused } => {
                let end = index(checkpoint.position).min(letters.len()).max(*done);
                let settled = std::mem::replace(done, end)..end;
                let acknowledged = settled.filter(|index| !refused.contains(index));
                let at = |index| letters.get(index).map(|(at, _)| *at);
                Commit::Redriven(acknowledged.filter_map(at).collect())
            }
        }
    }

    /// The letter to write, and where it belongs, for the letter that the source made.
    pub(super) fn bury(&mut self, at: Position, letter: DeadLetter) -> (Position, DeadLetter) {
        match self {
            Self::Log | Self::Replay { .. } => (at, letter),
            Self::Letters { letters, refused, .. } => {
                let index = index(at);
                refused.insert(index);
                // It is the same message, refused once more, and waits for an operator again.
                let refusals = letter.refusals.saturating_add(1);
                let place = letters.get(index).map_or(at, |(place, _)| *place);
                (place, DeadLetter { refusals, redrive: None, ..letter })
            }
        }
    }
}

fn index(at: Position) -> usize {
    usize::try_from(at.offset.get()).unwrap_or(usize::MAX)
}

impl Commit {
    /// Makes it durable.
    pub(super) async fn write(self, wal: &Wal, name: &DestinationName) -> Result<(), CommitError> {
        match self {
            Self::Checkpoint(checkpoint) => wal.commit(name, checkpoint).await,
            // One that was cancelled stays as it is, and its task is told to stop.
            Self::Replay(id, checkpoint) => {
                wal.advance_replay(&id, checkpoint).await.map(|_open| ())
            }
            Self::Redriven(letters) => {
                match wal.remove_letters(name, &letters, Removal::Redriven).await {
                    // A removal needs no room.
                    Ok(_) | Err(LetterError::Full) => Ok(()),
                    Err(LetterError::Commit(error)) => Err(error),
                }
            }
        }
    }
}
