//! From the log to a body: reads frames, splits them into messages, makes events of them.
//! Blocking.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use tokio::sync::watch;

use crate::delivery::{BatchLimits, Cut, Parts, ReadBatch};
use crate::hec::encoder::{Encoder, FrameFacts, Outcome};
use crate::logplex;
use crate::record::DeadLetter;
use crate::types::{BatchId, Offset, Position, PositionRange, Tail, UnixMicros};
use crate::wal::{Entry, ReadError, Reader};

use super::pick::{PASSED_OVER, Pick};
use super::{Compression, KnownDrains};

/// The level of gzip. Level 1 costs a third less and leaves a third more bytes; from 3 on, each
/// level costs more than it saves (`docs/benchmarks.md`, `benches/gzip.rs`).
const LEVEL: Level = Level::new(2);

/// Makes the bodies of one destination.
#[derive(Debug)]
pub(super) struct Packer {
    pub(super) reader: Reader,
    pub(super) encoder: Encoder,
    limits: BatchLimits,
    compression: Compression,
    /// The names of drains, and which are delivered, when they can change.
    drains: Option<watch::Receiver<KnownDrains>>,
    /// Which frames it is about, and where they end, when it is not the whole log.
    pub(super) pick: Option<Pick>,
    until: Option<Tail>,
}

/// Where the messages of a delivery come from: the log, or the dead letters.
pub(super) trait Source: Send {
    /// The next batch from `from` on, and its body if it has events.
    fn next(
        &mut self,
        batch: BatchId,
        from: Position,
    ) -> Result<(ReadBatch, Option<Body>), ReadError>;
    /// The body of a batch again.
    fn again(&mut self, range: PositionRange, plain: bool) -> Result<Again, ReadError>;
    /// Where a batch is to be cut.
    fn cut(&mut self, range: PositionRange, cut: Cut) -> Result<Parts, ReadError>;
    /// The message of the only event in a range, and where it is in the log. Without the answer
    /// that refused it. None when there is none, or more than one: which messages make an event may
    /// have changed since it was refused, and then nobody can tell which of them it was.
    fn letter(&mut self, range: PositionRange)
    -> Result<Option<(Position, DeadLetter)>, ReadError>;
}

/// A body that was made again.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) body: Body,
    pub(super) events: u64,
    pub(super) filtered: u64,
}

/// A body, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) bytes: bytes::Bytes,
    pub(super) gzip: bool,
}

/// How far a batch goes.
#[derive(Clone, Copy)]
enum Extent {
    /// Until it is full, or the log ends.
    Full(BatchLimits),
    /// Exactly to there: a batch that was sent before, made again.
    To(Position),
}

/// What one pass over the log made.
struct Pass {
    body: Vec<u8>,
    end: Position,
    messages_start: Option<u64>,
    messages_end: u64,
    events: u64,
    filtered: u64,
    received: UnixMicros,
    full: bool,
    /// Bytes that make no event: of frames that are not asked for, and of messages that are
    /// filtered.
    passed_over: usize,
}

impl Packer {
    pub(super) const fn new(
        reader: Reader,
        encoder: Encoder,
        limits: BatchLimits,
        compression: Compression,
    ) -> Self {
        Self { reader, encoder, limits, compression, drains: None, pick: None, until: None }
    }

    /// The same with names of drains that can change between two batches.
    pub(super) fn with_drains(mut self, drains: watch::Receiver<KnownDrains>) -> Self {
        self.drains = Some(drains);
        self
    }

    /// The same for a part of the log.
    pub(super) fn within(mut self, until: Tail, pick: Pick) -> Self {
        self.pick = Some(pick);
        self.until = Some(until);
        self
    }

    fn pass(&mut self, from: Position, until: Offset, extent: Extent) -> Result<Pass, ReadError> {
        let Self { reader, encoder, drains, pick, .. } = self;
        if let Some(drains) = drains
            && drains.has_changed().unwrap_or(false)
        {
            let drains = Arc::clone(&drains.borrow_and_update());
            if let Some(pick) = pick {
                pick.set_drains(Arc::clone(&drains));
            }
            encoder.set_drains(&drains);
        }
        let mut pass = Pass {
            body: Vec::new(),
            end: from,
            messages_start: None,
            messages_end: 0,
            events: 0,
            filtered: 0,
            received: UnixMicros::default(),
            full: false,
            passed_over: 0,
        };
        let pick = pick.as_ref();
        reader.read(from.offset, until, |entry| {
            if pick.is_some_and(|pick| !pick.takes(&entry.record)) {
                pass.pass_over(&entry, extent)
            } else {
                pass.frame(encoder, &entry, extent)
            }
        })?;
        Ok(pass)
    }
}

impl Source for Packer {
    fn next(
        &mut self,
        batch: BatchId,
        from: Position,
    ) -> Result<(ReadBatch, Option<Body>), ReadError> {
        let tail = self.until.unwrap_or_else(|| self.reader.tail());
        let pass = self.pass(from, tail.end, Extent::Full(self.limits))?;
        let messages = pass.messages_end - pass.messages_start.unwrap_or(pass.messages_end);
        let read = ReadBatch {
            batch,
            range: PositionRange { start: from, end: pass.end },
            messages,
            // A frame whose messages are counted differently now than at ingest must not make
            // the books wrong.
            filtered: pass.filtered.min(messages),
            events: pass.events,
            messages_end: pass.messages_end,
            received: pass.received,
            caught_up: (!pass.full).then_some(tail),
        };
        let body = (pass.events > 0).then(|| self.compression.apply(pass.body));
        Ok((read, body))
    }

    fn again(&mut self, range: PositionRange, plain: bool) -> Result<Again, ReadError> {
        let pass = self.pass(range.start, behind(range), Extent::To(range.end))?;
        let compression = if plain { Compression::None } else { self.compression };
        let body = compression.apply(pass.body);
        Ok(Again { body, events: pass.events, filtered: pass.filtered })
    }

    fn cut(&mut self, range: PositionRange, cut: Cut) -> Result<Parts, ReadError> {
        self.look_up(range, cut)
    }

    fn letter(
        &mut self,
        range: PositionRange,
    ) -> Result<Option<(Position, DeadLetter)>, ReadError> {
        self.find_letter(range)
    }
}

/// The first frame behind a range.
pub(super) const fn behind(range: PositionRange) -> Offset {
    let end = range.end;
    if end.index > 0 { end.offset.next() } else { end.offset }
}

/// What the encoder is told of a frame.
pub(super) fn facts(entry: &Entry) -> FrameFacts<'_> {
    let record = &entry.record;
    FrameFacts {
        drain_token: record.drain_token.as_deref(),
        frame_id: record.frame_id.as_deref(),
        offset: entry.offset,
        received: record.received,
        query: &record.query,
        profile: record.profile,
        messages_claimed: record.messages_claimed,
        messages: record.messages,
    }
}

impl Compression {
    /// A body as it is sent.
    pub(super) fn apply(self, body: Vec<u8>) -> Body {
        match self {
            Self::None => Body { bytes: body.into(), gzip: false },
            Self::Gzip => {
                let out = Vec::with_capacity(body.len() / 6);
                let mut gzip = GzEncoder::new(out, LEVEL);
                // Writing to memory does not fail; if it ever did, the plain body is as good.
                match gzip.write_all(&body).and_then(|()| gzip.finish()) {
                    Ok(bytes) => Body { bytes: bytes.into(), gzip: true },
                    Err(_) => Body { bytes: body.into(), gzip: false },
                }
            }
        }
    }
}

impl Pass {
    /// Takes note of a frame that is not asked for: its messages make no event.
    fn pass_over(&mut self, entry: &Entry, extent: Extent) -> ControlFlow<()> {
        let (offset, record) = (entry.offset, &entry.record);
        let counted = |index: u32| record.messages_before + u64::from(index.min(record.messages));
        let skip = if self.end.offset == offset { self.end.index } else { 0 };
        if self.messages_start.is_none() {
            self.messages_start = Some(counted(skip));
            self.received = record.received;
        }
        // A batch ends within such a frame only if it was asked for when the batch was made.
        let until = match extent {
            Extent::To(end) if end.offset == offset => Some(end.index),
            Extent::To(_) | Extent::Full(_) => None,
        };
        self.filtered += counted(until.unwrap_or(u32::MAX)).saturating_sub(counted(skip));
        if let Some(until) = until {
            self.end = Position::new(offset, until);
            self.messages_end = counted(until);
            return ControlFlow::Break(());
        }
        self.passed_over += record.body.len();
        self.end_frame(offset, counted(u32::MAX), extent)
    }

    /// Takes in what of a frame belongs to the batch.
    fn frame(&mut self, encoder: &mut Encoder, entry: &Entry, extent: Extent) -> ControlFlow<()> {
        let (offset, record) = (entry.offset, &entry.record);
        let counted = |index: u32| record.messages_before + u64::from(index.min(record.messages));
        let skip = if self.end.offset == offset { self.end.index } else { 0 };
        if self.messages_start.is_none() {
            self.messages_start = Some(counted(skip));
            self.received = record.received;
        }
        encoder.start_frame(facts(entry));
        let mut pieces = (0u32..).zip(logplex::pieces(&record.body)).peekable();
        while let Some((index, piece)) = pieces.next() {
            if index < skip {
                encoder.skip(piece);
                continue;
            }
            let here = Position::new(offset, index);
            if let Extent::To(end) = extent
                && here >= end
            {
                return ControlFlow::Break(());
            }
            let before = self.body.len();
            let outcome = encoder.encode(index, piece, &mut self.body);
            if let Extent::Full(limits) = extent
                && self.body.len() > limits.max_bytes.as_usize()
                && self.events > 0
            {
                self.body.truncate(before);
                return self.fill(here, counted(index));
            }
            match outcome {
                Outcome::Event => self.events += 1,
                Outcome::Filtered(_) => {
                    self.filtered += 1;
                    self.passed_over += piece.bytes.len();
                }
            }
            self.end = Position::new(offset, index + 1);
            self.messages_end = counted(index + 1);
            if let Extent::Full(limits) = extent
                && self.events >= limits.max_events.get() as u64
            {
                if pieces.peek().is_none() {
                    self.pass_frame(offset, counted(u32::MAX));
                }
                return self.fill(self.end, self.messages_end);
            }
        }
        self.end_frame(offset, counted(u32::MAX), extent)
    }

    /// Goes on behind a frame, unless so much was read for nothing that the batch ends here, with
    /// the events it has, or with none.
    fn end_frame(&mut self, offset: Offset, messages_end: u64, extent: Extent) -> ControlFlow<()> {
        self.pass_frame(offset, messages_end);
        if matches!(extent, Extent::Full(_)) && self.passed_over >= PASSED_OVER.as_usize() {
            return self.fill(self.end, self.messages_end);
        }
        ControlFlow::Continue(())
    }

    /// Behind the last message of a frame is the next frame: equal places are equal values.
    const fn pass_frame(&mut self, offset: Offset, messages_end: u64) {
        self.end = Position::at(offset.next());
        self.messages_end = messages_end;
    }

    const fn fill(&mut self, end: Position, messages_end: u64) -> ControlFlow<()> {
        self.end = end;
        self.messages_end = messages_end;
        self.full = true;
        ControlFlow::Break(())
    }
}
