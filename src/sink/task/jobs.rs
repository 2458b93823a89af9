//! Work on the log: bodies to be made, batches to be cut, dead letters to be written.

use std::ops::ControlFlow;
use std::time::Instant;

use tokio::time::sleep_until;

use crate::clock;
use crate::delivery::{EndpointId, Event, ReadBatch, Status};
use crate::hec::Reason;
use crate::record::DeadLetter;
use crate::types::{BatchId, Offset, Position, PositionRange, Tail, UnixMicros};
use crate::wal::ReadError;

use super::super::pack::Again;
use super::super::trail;
use super::{Done, PackJob, Packed, Task};

impl Task {
    /// Starts a job if the source is here, else keeps it for when it is back.
    pub(super) fn pack(&mut self, job: PackJob) {
        if let PackJob::Next { .. } = job
            && let Some(ready) = self.pace.as_ref().and_then(|pace| pace.wait(clock::instant()))
        {
            self.later(ready, job);
            return;
        }
        let Some(mut source) = self.source.take() else {
            self.packing.push_back(job);
            return;
        };
        self.jobs.spawn_blocking(move || {
            let packed = match job {
                PackJob::Next { batch, from } => {
                    source.next(batch, from).map(|(read, body)| Packed::Next(read, body))
                }
                PackJob::Again { range, plain, .. } => {
                    source.again(range, plain).map(Packed::Again)
                }
                PackJob::Cut { range, cut, .. } => {
                    source.cut(range, cut).map(|parts| Packed::Cut(Box::new(parts)))
                }
                PackJob::Letter { range, .. } => {
                    source.letter(range).map(|found| Packed::Letter(found.map(Box::new)))
                }
            };
            Done::Packed(source, job, packed)
        });
    }

    /// Does a job when it is time.
    pub(super) fn later(&mut self, at: Instant, job: PackJob) {
        self.jobs.spawn(async move {
            sleep_until(at.into()).await;
            Done::Again(job)
        });
    }

    pub(super) fn on_packed(&mut self, job: PackJob, packed: Result<Packed, ReadError>) {
        match packed {
            Ok(Packed::Next(read, body)) => {
                self.unstick();
                trail::read(&self.config.name, &read);
                if let Some(pace) = &mut self.pace {
                    pace.took(clock::instant(), read.events);
                }
                self.bodies.extend(body.map(|body| (read.batch, body)));
                self.tell(Event::Read(read));
            }
            Ok(Packed::Again(Again { body, events, filtered })) => {
                self.unstick();
                if let PackJob::Again { batch, .. } = job {
                    self.bodies.insert(batch, body);
                    self.tell(Event::Encoded { batch, events, filtered });
                }
            }
            Ok(Packed::Cut(parts)) => {
                self.unstick();
                if let PackJob::Cut { batch, cut, .. } = job {
                    self.tell(Event::Split { batch, cut, parts: *parts });
                }
            }
            Ok(Packed::Letter(found)) => {
                self.unstick();
                if let PackJob::Letter { batch, endpoint, reason, .. } = job {
                    match found {
                        Some(found) => self.bury(batch, endpoint, &reason, *found),
                        None => self.judge_anew(batch, &reason),
                    }
                }
            }
            Err(ReadError::Trimmed { at, .. })
                if self.ledger.is_of_the_log() && at < self.floor.borrow().offset =>
            {
                // Dropped for want of space while it was asked for. Read anew from where the
                // machine goes on.
                self.tell_floor();
                self.pack_what_is_left(job);
            }
            Err(ReadError::GivenUp { range: lost, messages_end })
                if let PackJob::Next { batch, from } = job =>
            {
                self.unstick();
                let name = &self.config.name;
                tracing::error!(destination = %name, frames = %lost, "passed over: given up");
                let range = PositionRange { start: from, end: Position::at(lost.end) };
                self.tell(Event::Lost { batch, range, messages_end });
            }
            Err(error) => {
                // The disk may come back; damage does not. Either way nothing is skipped.
                tracing::error!(destination = %self.config.name, %error, "held: the log cannot be read");
                self.stuck = Some(error.to_string());
                self.show();
                self.later(clock::instant() + self.config.delivery.retry.hold, job);
            }
        }
    }

    /// Does a job again, for what the machine still has of its batch.
    fn pack_what_is_left(&mut self, job: PackJob) {
        let left = |batch| self.machine.range(batch);
        let job = match job {
            PackJob::Next { batch, .. } => {
                return self.tell(Event::Read(ReadBatch::nothing(batch)));
            }
            PackJob::Again { batch, plain, .. } => {
                left(batch).map(|range| PackJob::Again { batch, range, plain })
            }
            PackJob::Cut { batch, cut, .. } => {
                left(batch).map(|range| PackJob::Cut { batch, range, cut })
            }
            PackJob::Letter { batch, endpoint, reason, .. } => {
                left(batch).map(|range| PackJob::Letter { batch, range, endpoint, reason })
            }
        };
        if let Some(job) = job {
            self.pack(job);
        }
    }

    /// Which messages make an event has changed since one was refused, and with it, perhaps, which one
    /// that is.
    fn judge_anew(&mut self, batch: BatchId, reason: &Reason) {
        tracing::info!(
            destination = %self.config.name, %batch, %reason,
            "the configuration makes other events than were refused: they are sent, and judged anew"
        );
        self.tell(Event::Changed(batch));
    }

    /// Makes a dead letter durable.
    pub(super) fn bury(
        &mut self,
        batch: BatchId,
        endpoint: EndpointId,
        reason: &Reason,
        (at, letter): (Position, DeadLetter),
    ) {
        let (wal, name) = (self.wal.clone(), self.config.name.clone());
        let limit = self.config.dead_letters.max_size;
        let letter = DeadLetter {
            code: reason.code,
            status: reason.status,
            text: reason.text.clone(),
            endpoint: self.config.endpoints.get(endpoint.get()).cloned().unwrap_or_default(),
            refused: clock::unix_micros(),
            ..letter
        };
        let (at, letter) = self.ledger.bury(at, letter);
        tracing::warn!(
            destination = %name, position = %at, event_id = letter.event_id, %reason,
            "an event is refused and goes to the dead letters"
        );
        let again = !self.ledger.is_of_the_log();
        self.jobs.spawn(async move {
            let buried = if again {
                wal.bury_again(&name, at, letter).await
            } else {
                wal.bury(&name, at, letter, limit).await
            };
            Done::Buried(batch, buried)
        });
    }

    /// When the oldest message arrived that is not settled. The machine knows that of what it has
    /// read; while it has nothing, because it is paused for example, the next frame is looked up.
    pub(super) fn oldest(&mut self, delivery: &Status, tail: &Tail) -> Option<UnixMicros> {
        if delivery.oldest_unsettled.is_some() || delivery.pending(tail) == 0 {
            return delivery.oldest_unsettled;
        }
        let next = delivery.read.offset;
        match self.waiting {
            Some((at, received)) if at == next => received,
            _ => {
                self.look_up(next);
                None
            }
        }
    }

    fn look_up(&mut self, at: Offset) {
        if std::mem::replace(&mut self.looking_up, true) {
            return;
        }
        let reader = self.wal.reader();
        self.jobs.spawn_blocking(move || {
            let mut received = None;
            let read = reader.read(at, at.next(), |entry| {
                received = Some(entry.record.received);
                ControlFlow::Break(())
            });
            // What cannot be read is told by whoever needs more of it than its age.
            Done::LookedUp(at, received.filter(|_| read.is_ok()))
        });
    }

    pub(super) fn looked_up(&mut self, at: Offset, received: Option<UnixMicros>) {
        self.looking_up = false;
        self.waiting = Some((at, received));
        if self.machine.read_position().offset == at {
            self.show();
        }
    }

    fn unstick(&mut self) {
        if self.stuck.take().is_some() {
            tracing::info!(destination = %self.config.name, "the log can be read again");
        }
    }
}
