//! Reading: forward, from any retained offset, never past the durable end.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::record::{Record, decode_record};
use crate::types::{Offset, OffsetRange, Tail};

use super::error::ReadError;
use super::handle::Shared;
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
            if found != at {
                return Err(self.gap(at, found));
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
        rows.status().map_err(|source| ReadError::Db { at, source })?;
        if at == until { Ok(at) } else { Err(self.gap(at, until)) }
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
