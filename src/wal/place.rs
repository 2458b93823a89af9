//! Where something that an operator names is in the log.

use std::ops::ControlFlow;
use std::sync::PoisonError;

use tokio::sync::oneshot;

use crate::clock;
use crate::record::{Checkpoint, Moved};
use crate::types::{DestinationName, Offset, Position, UnixMicros};

use super::append::{PendingCommit, Request};
use super::error::{CommitError, OpenError, ReadError};
use super::group::commit_gone;
use super::handle::Wal;

/// A place in the log, as an operator names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first frame that is retained.
    Earliest,
    /// Behind the last frame.
    Latest,
    /// A frame.
    Offset(Offset),
    /// The first frame that arrived at this time or later.
    Time(UnixMicros),
}

/// A place that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The frame.
    pub offset: Offset,
    /// Messages in the log before it.
    pub messages_before: u64,
}

/// What there is of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retained {
    /// The first frame.
    pub first: Offset,
    /// Behind the last frame.
    pub end: Offset,
    /// When the first frame arrived; none when there is no frame.
    pub since: Option<UnixMicros>,
}

impl std::fmt::Display for Retained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}, {})", self.first, self.end)
    }
}

/// There is no such place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It is not in the log: not any more, or not yet.
    #[error("what is asked for is not retained; the log has the frames {0}")]
    NotRetained(Retained),
    /// A time that has not come yet.
    #[error("that time has not come yet")]
    Future,
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A cursor stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum SeekError {
    /// There is no such place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Messages would be skipped, and whoever asks has not said that they may be.
    #[error("{0} messages would be skipped: the destination would never get them")]
    Skips(u64),
    /// The destination has no cursor.
    #[error("there is no cursor of a destination {0}")]
    Unknown(DestinationName),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] OpenError),
    /// The log takes nothing more.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Wal {
    /// What a seek would do. Blocking.
    ///
    /// # Errors
    /// When it would be refused.
    pub fn plan_seek(
        &self,
        name: &DestinationName,
        to: Place,
        may_skip: bool,
    ) -> Result<(Checkpoint, Moved), SeekError> {
        let Located { offset, messages_before } = self.locate(to)?;
        let mut checkpoint =
            self.checkpoint(name)?.ok_or_else(|| SeekError::Unknown(name.clone()))?;
        let moved = checkpoint.seek(Position::at(offset), messages_before);
        if moved.skipped > 0 && !may_skip {
            return Err(SeekError::Skips(moved.skipped));
        }
        Ok((checkpoint, moved))
    }

    /// Moves a destination's stored cursor. The destination must not run: it would write its own.
    /// Blocking.
    ///
    /// # Errors
    /// When the cursor stays where it is.
    pub fn seek(
        &self,
        name: &DestinationName,
        to: Place,
        may_skip: bool,
    ) -> Result<Moved, SeekError> {
        // Between the look and the write no segment goes.
        let _alone = self.shared.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut checkpoint, moved) = self.plan_seek(name, to, may_skip)?;
        checkpoint.saved = clock::unix_micros();
        let (answer, answered) = oneshot::channel();
        let destination = name.clone();
        self.send_meta_blocking(Request::Commit(PendingCommit {
            destination,
            checkpoint,
            answer,
        }))?;
        answered.blocking_recv().unwrap_or_else(|_| Err(commit_gone(&self.shared)))?;
        Ok(moved)
    }

    /// What there is of the log. Blocking.
    ///
    /// # Errors
    /// When the first frame cannot be read.
    pub fn retained(&self) -> Result<Retained, ReadError> {
        let (first, end) = (self.first(), self.status().tail.end);
        let mut since = None;
        let read = self.reader().read(first, first.next(), |entry| {
            since = Some(entry.record.received);
            ControlFlow::Break(())
        });
        match read {
            Ok(_) | Err(ReadError::GivenUp { .. }) => Ok(Retained { first, end, since }),
            Err(error) => Err(error),
        }
    }

    /// Where a place is. Blocking: one segment is read at most.
    ///
    /// # Errors
    /// When it is not retained, or the log cannot be read.
    pub fn locate(&self, place: Place) -> Result<Located, PlaceError> {
        let retained = self.retained()?;
        let offset = match place {
            Place::Earliest => retained.first,
            Place::Latest => retained.end,
            Place::Offset(offset) if offset < retained.first || offset > retained.end => {
                return Err(PlaceError::NotRetained(retained));
            }
            Place::Offset(offset) => offset,
            Place::Time(time) if time > clock::unix_micros() => return Err(PlaceError::Future),
            // Where nothing was ever dropped, all that arrived since any time is there.
            Place::Time(time)
                if retained.first > Offset::ZERO
                    && retained.since.is_none_or(|since| time < since) =>
            {
                return Err(PlaceError::NotRetained(retained));
            }
            Place::Time(time) => self.reader().find(time)?,
        };
        self.located(offset).map_err(PlaceError::Read)
    }

    /// How many messages precede a frame. Where it was given up, the first one behind it is meant.
    pub(super) fn located(&self, offset: Offset) -> Result<Located, ReadError> {
        let tail = *self.shared.tail.borrow();
        let mut messages_before = tail.messages;
        let read = self.reader().read(offset, offset.next(), |entry| {
            messages_before = entry.record.messages_before;
            ControlFlow::Break(())
        });
        match read {
            Ok(_) => Ok(Located { offset, messages_before }),
            Err(ReadError::GivenUp { range, messages_end }) => {
                Ok(Located { offset: range.end, messages_before: messages_end })
            }
            Err(error) => Err(error),
        }
    }
}
