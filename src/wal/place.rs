//! Where something that an operator names is in the log.

use std::ops::ControlFlow;

use crate::clock;
use crate::types::{Offset, UnixMicros};

use super::error::ReadError;
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

impl Wal {
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
