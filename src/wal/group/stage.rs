//! What a group puts into its batch. Nothing is written here, and nothing of the appender's state
//! changes: a write that fails leaves no trace.

use std::collections::BTreeMap;

use rocksdb::WriteBatch;

use crate::generated::storage;
use crate::record::encode_value;
use crate::types::{Offset, OffsetRange, UnixMicros};

use super::super::append::{PendingAppend, PendingCommit, PendingLift, PendingRemove, PendingTrim};
use super::super::catalogue::Segment;
use super::super::checkpoint;
use super::super::dedupe;
use super::super::error::{AppendError, OpenError};
use super::super::gaps::{self, Gap, GapCause};
use super::super::keys::{self, Digest};
use super::super::shared::Space;
use super::{Answer, Appended, Appender, Durable, Outcome};

impl Appender {
    /// Gives each frame its offset and puts it into the batch, unless it is known already, or there
    /// is no space. Known frames need none: their senders are answered all the same.
    pub(super) fn stage(
        &self,
        batch: &mut WriteBatch,
        frames: Vec<PendingAppend>,
        seal: bool,
        now: UnixMicros,
    ) -> Result<Outcome, rocksdb::Error> {
        let store = &self.shared.store;
        let mut tail = self.tail;
        let mut active = self.shared.catalogue().active;
        let (mut sealed, mut remembered) = (Vec::new(), Vec::new());
        let mut answers = Vec::with_capacity(frames.len());
        let mut in_group: BTreeMap<Digest, Offset> = BTreeMap::new();
        let promise = self.shared.config.durability;
        if let Some(hour) = self.forget_ids_from {
            // Before this group's own: a clock that is ahead again writes there again.
            let (from, end) = (keys::frame(hour, &[0; 16]), keys::frame(u32::MAX, &[0xff; 16]));
            batch.delete_range_cf(store.family(keys::FRAMES), from, end);
        }
        let space = if frames.is_empty() { Space::Enough } else { self.shared.look_for_space() };
        for PendingAppend { frame, answer: sender, permit, note } in frames {
            if let Some(digest) = &frame.identity {
                let twin = in_group.get(digest).copied();
                if twin.is_some() || self.seen(digest)? {
                    let durable = Durable { offset: twin, promise };
                    let appended = Appended { durable, duplicate: true };
                    answers.push(Answer { appended, sender, note, _permit: permit });
                    continue;
                }
            }
            if space == Space::Short {
                sender.send(Err(AppendError::NoSpace)).ok();
                continue;
            }
            if let Some(opened) = active.roll(self.shared.config.segment_size, now) {
                self.stage_roll(batch, active, opened);
                sealed.push(std::mem::replace(&mut active, opened));
            }
            let offset = tail.end;
            let (messages, received) = (frame.record.messages(), frame.record.received());
            let value = frame.record.finish(tail.messages);
            batch.put_cf(store.family(keys::RECORDS), keys::record(offset), &value);
            if let Some(digest) = frame.identity {
                let hour = dedupe::hour(received);
                let known = encode_value(&storage::FrameKey { offset: offset.get() });
                batch.put_cf(store.family(keys::FRAMES), keys::frame(hour, &digest), known);
                in_group.insert(digest, offset);
                remembered.push((hour, digest));
            }
            active.push(messages, value.len(), received);
            tail.end = offset.next();
            tail.messages += u64::from(messages);
            tail.bytes += value.len() as u64;
            let durable = Durable { offset: Some(offset), promise };
            let appended = Appended { durable, duplicate: false };
            answers.push(Answer { appended, sender, note, _permit: permit });
        }
        if seal && active.end > active.first {
            let opened = active.opened_next(now);
            self.stage_roll(batch, active, opened);
            sealed.push(std::mem::replace(&mut active, opened));
        }
        Ok(Outcome { sealed, active, tail, remembered, answers })
    }

    fn stage_roll(&self, batch: &mut WriteBatch, sealed: Segment, opened: Segment) {
        for (segment, is_sealed) in [(sealed, true), (opened, false)] {
            let value = encode_value(&segment.to_wire(is_sealed));
            let family = self.shared.store.family(keys::SEGMENTS);
            batch.put_cf(family, keys::segment(segment.id), value);
        }
    }

    /// Whether an earlier group stored a frame with this identity. Memory says no for almost all
    /// new frames; when it says perhaps, the store knows.
    fn seen(&self, digest: &Digest) -> Result<bool, rocksdb::Error> {
        let store = &self.shared.store;
        for hour in self.dedupe.candidates(digest) {
            let key = keys::frame(hour, digest);
            if store.db().get_pinned_cf(store.family(keys::FRAMES), key)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves checkpoints that lie below the floor onto it: those of this group, which a
    /// destination may have decided on before it heard of the floor, and, when the floor rises,
    /// those in the store. Returns what that loses, when it is for the first time.
    pub(super) fn stage_lifts(
        &self,
        batch: &mut WriteBatch,
        commits: &mut [PendingCommit],
        lifts: &[PendingLift],
        now: UnixMicros,
    ) -> Result<Option<Gap>, OpenError> {
        let floor = lifts.last().map_or(self.floor, |lift| lift.floor);
        let mut gap = None;
        if !lifts.is_empty() {
            let store = &self.shared.store;
            let mut stored: BTreeMap<_, _> = checkpoint::read_all(store)?.into_iter().collect();
            for commit in commits.iter() {
                stored.insert(commit.destination.clone(), commit.checkpoint.clone());
            }
            let first = stored.values().map(|checkpoint| checkpoint.position.offset).min();
            let before = stored.values().map(gaps::settled).min().unwrap_or_default();
            let mut losses = Vec::new();
            for (name, mut checkpoint) in stored {
                let Some(lost) = floor.lift(&mut checkpoint) else { continue };
                batch.put_cf(store.family(keys::CURSORS), name.as_str(), checkpoint.encode());
                losses.push((name, lost));
            }
            if let Some(start) = first.filter(|_| !losses.is_empty()) {
                let fresh = Gap {
                    cause: GapCause::Space,
                    range: OffsetRange { start, end: floor.offset },
                    messages_before: before,
                    messages: floor.messages_before.saturating_sub(before),
                    first_recorded: now,
                    last_recorded: now,
                    losses,
                };
                let rows = self.shared.gaps().clone().add(fresh.clone(), self.shared.trimmed());
                gaps::stage(store, batch, rows);
                gap = Some(fresh);
            }
        }
        for commit in commits {
            floor.lift(&mut commit.checkpoint);
        }
        Ok(gap)
    }

    pub(super) fn stage_meta(
        &self,
        batch: &mut WriteBatch,
        commits: &[PendingCommit],
        trims: &[PendingTrim],
        removals: &[PendingRemove],
    ) {
        let store = &self.shared.store;
        let catalogue = self.shared.catalogue();
        for commit in commits {
            let key = commit.destination.as_str();
            batch.put_cf(store.family(keys::CURSORS), key, commit.checkpoint.encode());
        }
        for removal in removals {
            batch.delete_cf(store.family(keys::CURSORS), removal.destination.as_str());
        }
        for trim in trims {
            let point = storage::TrimPoint {
                offset: trim.first.get(),
                messages_before: trim.messages_before,
            };
            batch.put_cf(store.family(keys::META), keys::TRIM, encode_value(&point));
            for segment in catalogue.sealed().iter().take(trim.segments) {
                batch.delete_cf(store.family(keys::SEGMENTS), keys::segment(segment.id));
            }
        }
    }
}
