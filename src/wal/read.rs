//! Reading: forward, from any retained offset, never past the durable end.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::record::{Record, decode_record};
use crate::types::{Offset, OffsetRange, Tail, UnixMicros};

use super::error::ReadError;
use super::shared::Shared;
use super::{keys, options};

/// One frame of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub offset: Offset,
    /// What it is.
    pub record: Record,
}

/// Reads the log. Blocking: for a thread that may wait for the disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
}

impl Reader {
    /// The durable end at this moment.
    #[must_use]
    pub fn tail(&self) -> Tail {
        *self.shared.tail.borrow()
    }

    /// The id of the store, see [`Wal::node`](super::Wal::node).
    #[must_use]
    pub fn node(&self) -> &str {
        &self.shared.node
    }

    /// Calls `visit` with every frame of `[from, until)`, but none at or behind the durable end,
    /// until it breaks. Returns the offset behind the last frame visited.
    ///
    /// # Errors
    /// When the stretch is trimmed, cannot be read, is damaged, or has a gap. A gap is an error
    /// and never a skip: the offsets of a log are dense.
    pub fn read(
        &self,
        from: Offset,
        until: Offset,
        mut visit: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<Offset, ReadError> {
        let until = until.min(self.tail().end);
        let first = self.shared.trimmed();
        if from < first {
            return Err(ReadError::Trimmed { at: from, first });
        }
        let mut at = from;
        if at >= until {
            return Ok(at);
        }
        let store = &self.shared.store;
        let bounds = options::scan(&keys::record(from), &keys::record(until));
        let mut rows = store.db().raw_iterator_cf_opt(store.family(keys::RECORDS), bounds);
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            let found = keys::offset_of(key).unwrap_or(until);
            let given_up = self.given_up(at);
            if found != at || given_up.is_some() {
                return self.stop(from, at, found, given_up);
            }
            let record =
                decode_record(value).map_err(|source| ReadError::Damaged { at, source })?;
            let entry = Entry { offset: at, record };
            at = at.next();
            if visit(entry).is_break() {
                return Ok(at);
            }
            rows.next();
        }
        if let Err(source) = rows.status() {
            // A block that does not read holds what was given up, as likely as not.
            let given_up = self.given_up(at);
            given_up.ok_or(ReadError::Db { at, source })?;
            return self.stop(from, at, at, given_up);
        }
        if at == until { Ok(at) } else { self.stop(from, at, until, self.given_up(at)) }
    }

    /// The first frame at or behind `from` that arrived at `time` or later; the durable end if
    /// there is none. Blocking: one segment is read at most.
    ///
    /// # Errors
    /// When the segment cannot be read.
    pub fn find(&self, time: UnixMicros) -> Result<Offset, ReadError> {
        let (start, until) = {
            let catalogue = self.shared.catalogue();
            let mut all = catalogue.sealed().iter().chain([&catalogue.active]);
            let found =
                all.find(|segment| segment.end > segment.first && segment.last_received >= time);
            match found {
                Some(segment) if segment.first_received >= time => return Ok(segment.first),
                Some(segment) => (segment.first, segment.end),
                None => return Ok(self.tail().end),
            }
        };
        let mut at = start;
        loop {
            let mut found = None;
            let read = self.read(at, until, |entry| {
                if entry.record.received >= time {
                    found = Some(entry.offset);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            });
            match (found, read) {
                (Some(offset), _) => return Ok(offset),
                (None, Ok(end)) if end >= until => return Ok(until),
                (None, Ok(end)) => at = end,
                (None, Err(ReadError::GivenUp { range, .. })) => at = range.end,
                (None, Err(error)) => return Err(error),
            }
        }
    }

    fn given_up(&self, at: Offset) -> Option<(OffsetRange, u64)> {
        self.shared.given_up(at)
    }

    /// A read came upon something else than the next frame. What was read before a stretch that
    /// was given up is whole: the stretch is the next read's.
    fn stop(
        &self,
        from: Offset,
        at: Offset,
        found: Offset,
        given_up: Option<(OffsetRange, u64)>,
    ) -> Result<Offset, ReadError> {
        match given_up {
            Some(_) if at > from => Ok(at),
            Some((range, messages_end)) => Err(ReadError::GivenUp { range, messages_end }),
            None => Err(self.gap(at, found)),
        }
    }

    /// A hole: or the stretch was trimmed while it was read.
    fn gap(&self, at: Offset, found: Offset) -> ReadError {
        let first = self.shared.trimmed();
        if at < first {
            ReadError::Trimmed { at, first }
        } else {
            ReadError::Gap { missing: OffsetRange { start: at, end: found } }
        }
    }
}
