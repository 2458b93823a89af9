//! The remembered frame ids, beside the frames they lead to.

use crate::generated::storage;
use crate::logplex::Profile;
use crate::record::{Record, decode_record, decode_value};
use crate::types::{Offset, OffsetRange};
use crate::wal::{dedupe, keys};

use super::{Defect, Part, Run};

/// What is known of a frame's id.
pub(super) const UNKNOWN: u64 = 0;
pub(super) const NONE: u64 = 1;

/// The first 8 bytes of a digest, and never [`UNKNOWN`] or [`NONE`].
pub(super) fn print(digest: &keys::Digest) -> u64 {
    let head = digest.first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head));
    head | 2
}

/// The digest under which a frame's id is remembered. None without an id, and for log-shuttle,
/// whose ids belong to a user that the record does not name.
pub(super) fn identity(record: &Record) -> Option<keys::Digest> {
    let id = record.frame_id.as_deref()?;
    let scope = record.drain_token.as_deref().unwrap_or_default();
    (record.profile == Profile::Logplex).then(|| dedupe::digest(scope, id))
}

impl<P: FnMut(u64, u64), F: FnMut(Defect)> Run<'_, P, F> {
    /// The newest hour under which an id is remembered.
    pub(super) fn newest_hour(&mut self) -> Option<u32> {
        match self.log.last_key(keys::FRAMES) {
            Ok(key) => key.and_then(|key| keys::frame_of(&key)).map(|(hour, _)| hour),
            Err(error) => {
                self.defect(Part::Family(keys::FRAMES.to_owned()), error.to_string());
                None
            }
        }
    }

    /// Compares the remembered ids that lead into a range with the frames there.
    pub(super) fn frame_ids(
        &mut self,
        range: OffsetRange,
        end: Offset,
        prints: &[u64],
        newest: Option<u32>,
    ) {
        let first_round = range.start == self.done.first;
        let mut remembered = vec![false; prints.len()];
        let (mut seen, mut wrong) = (0, Vec::new());
        let scanned = self.log.scan(keys::FRAMES, |key, value| {
            seen += 1;
            let known = decode_value::<storage::FrameKey>(value);
            let (digest, offset) = match (keys::frame_of(key), known) {
                (Some((_, digest)), Ok(known)) => (digest, Offset::new(known.offset)),
                (None, _) if first_round => {
                    return wrong.push((None, "its key has a wrong length".to_owned()));
                }
                (_, Err(error)) if first_round => return wrong.push((None, error.to_string())),
                // Told in the first round.
                _ => return,
            };
            if offset >= end {
                if first_round {
                    let what = "there is no such frame: it would be taken for stored".to_owned();
                    wrong.push((Some(offset), what));
                }
                return;
            }
            // What lies below the trim point was delivered, and stays known for its time.
            let Some(index) = offset.get().checked_sub(range.start.get()) else { return };
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            let Some(found) = prints.get(index) else { return };
            if let Some(slot) = remembered.get_mut(index) {
                *slot = true;
            }
            if *found == NONE {
                wrong.push((Some(offset), "the frame has no id".to_owned()));
            } else if *found != UNKNOWN && *found != print(&digest) {
                wrong.push((Some(offset), "the frame has another id".to_owned()));
            }
        });
        if first_round {
            self.done.frame_ids = seen;
        }
        if let Err(error) = scanned
            && first_round
        {
            self.defect(Part::Family(keys::FRAMES.to_owned()), error.to_string());
            return;
        }
        for (offset, what) in wrong {
            self.defect(Part::FrameId(offset), what);
        }
        let Some(newest) = newest else { return };
        let forgotten = (range.start.get()..)
            .zip(remembered.iter().zip(prints))
            .filter(|(_, (remembered, print))| !**remembered && **print > NONE)
            .map(|(offset, _)| Offset::new(offset));
        for offset in forgotten.collect::<Vec<_>>() {
            if self.is_forgotten(offset, newest) {
                let what = "its id is not remembered: its next try would be stored twice";
                self.defect(Part::Frame(offset), what);
            }
        }
    }

    /// Whether a frame of the newest hour, whose id leads nowhere or elsewhere, is forgotten. An
    /// id that leads to a later frame is not: memory had run out in between.
    pub(super) fn is_forgotten(&self, offset: Offset, newest: u32) -> bool {
        let value = self.log.raw(keys::RECORDS, &keys::record(offset)).ok().flatten();
        let Some(record) = value.and_then(|value| decode_record(&value).ok()) else {
            return false;
        };
        let (Some(digest), hour) = (identity(&record), dedupe::hour(record.received)) else {
            return false;
        };
        let there = |hour| {
            matches!(self.log.raw(keys::FRAMES, &keys::frame(hour, &digest)), Ok(Some(_)) | Err(_))
        };
        hour >= newest && !(newest..=hour).any(there)
    }
}
