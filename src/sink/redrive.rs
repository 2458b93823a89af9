//! Dead letters that an operator wants sent again.
//!
//! They go through a machine of their own, beside the log's: at least once, with the same
//! `event_id`, on channels of their own. A letter is removed when the indexers have acknowledged
//! it, and not before; one that is refused again stays, with the new answer. Which letters are to
//! be sent is marked in the store, so a restart goes on with it. The books of the log do not
//! change: there, the message stays dead-lettered.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::Epoch;
use crate::delivery::{BatchLimits, Cut, Delivery, Parts, ReadBatch};
use crate::hec::encoder::{Encoder, FrameFacts, Outcome};
use crate::hec::mapping::Mapping;
use crate::logplex::Piece;
use crate::record::{Checkpoint, DeadLetter, LetterTotals};
use crate::types::{BatchId, ByteSize, Offset, Position, PositionRange, Tail, UnixMicros};
use crate::wal::{OpenError, ReadError, Wal};

use super::chosen::Chosen;
use super::cut::Pieces;
use super::ledger::{Ledger, Letters};
use super::names::{self, Places};
use super::pack::{Again, Body, Source};
use super::renew::Renewable;
use super::task::{Makings, Task};
use super::{Compression, Config, Ended, KnownDrains};

/// The most letters, and about the most bytes of them, that are in memory at a time.
const LETTERS: usize = 1000;
const BYTES: ByteSize = ByteSize::mib(8);

/// Sends marked letters until told to stop.
pub(super) struct Redrive {
    pub(super) config: Config,
    pub(super) wal: Wal,
    pub(super) client: Arc<Renewable>,
    /// The names of drains, and which are delivered, which can change.
    pub(super) drains: watch::Receiver<KnownDrains>,
    /// What counts as delivered.
    pub(super) chosen: Chosen,
    /// The endpoints, where they can change.
    pub(super) set: Option<watch::Receiver<Places>>,
}

impl Redrive {
    pub(super) async fn run(mut self, stop: CancellationToken, grace: Duration) {
        let mut changed = self.wal.letters_changed();
        while !stop.is_cancelled() {
            changed.mark_unchanged();
            let mut failed = false;
            let gone = self.gone();
            let chosen = self.chosen.now();
            if let Some(mode) = chosen
                && self.wal.letter_book(&self.config.name).redriving > 0
            {
                self.config.delivery.acknowledgement = mode;
                names::follow(&mut self.set, &mut self.config, &mut self.client);
                match self.some().await {
                    Ok(letters) if !letters.is_empty() => {
                        let stopping = stop.child_token();
                        let mut set = self.set.clone();
                        let sending = self.send(letters, gone, stopping.clone(), &stop, grace);
                        if names::unless_changed(&mut set, &stopping, sending).await
                            == Ended::LogGone
                        {
                            return;
                        }
                        continue;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(destination = %self.config.name, %error, "dead letters");
                        failed = true;
                    }
                }
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = self.chosen.known(), if chosen.is_none() => {}
                () = sleep(self.config.delivery.retry.hold), if failed => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Some of the letters that are to be sent.
    async fn some(&self) -> Result<Letters, OpenError> {
        let (wal, name) = (self.wal.clone(), self.config.name.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let (mut all, mut from, mut bytes) = (Vec::new(), Position::ZERO, 0);
            loop {
                let page = wal.letters(&name, from, LETTERS, BYTES)?;
                let Some((last, _)) = page.last() else { break };
                from = Position::new(last.offset, last.index.saturating_add(1));
                for (at, letter) in page {
                    if letter.redrive.is_some() && all.len() < LETTERS && bytes < BYTES.get() {
                        bytes += letter.message.len() as u64;
                        all.push((at, letter));
                    }
                }
                if all.len() >= LETTERS || bytes >= BYTES.get() {
                    break;
                }
            }
            Ok(Letters::from(all))
        });
        match reading.await {
            Ok(letters) => letters,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Ok(Letters::from([])),
        }
    }

    /// How many letters were ever taken away that may have been marked, and were not sent.
    fn gone(&self) -> u64 {
        let LetterTotals { purged, withdrawn, .. } = self.wal.letter_book(&self.config.name).totals;
        purged + withdrawn
    }

    /// Sends letters. `gone` is [`Self::gone`] from before they were read: when some are taken away
    /// meanwhile, an operator wants them not to arrive, and this ends early. Whoever called reads
    /// anew what is left.
    async fn send(
        &self,
        letters: Letters,
        gone: u64,
        stopping: CancellationToken,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Ended {
        let mut config = self.config.clone();
        config.mapping = self.drains.borrow().within(config.mapping);
        let Ok(mapping) = Mapping::compile(&config.mapping) else {
            // It compiled when the destination was opened.
            return Ended::LogGone;
        };
        config.delivery.lanes_per_endpoint = NonZeroUsize::MIN;
        config.delivery.max_lanes_per_endpoint = NonZeroUsize::MIN;
        // They were proven to be at fault once.
        config.delivery.believe_refusals = true;
        let seed = uuid::Uuid::new_v4().as_u128();
        let machine = Delivery::new(config.delivery.clone(), &Checkpoint::default(), seed);
        let encoder = Encoder::new(mapping, config.max_event.as_usize()).for_target(config.target);
        let (limits, compression) = (config.delivery.batch, config.compression);
        let source = LetterSource::new(encoder, Arc::clone(&letters), limits, compression);
        let (sender, tail) = watch::channel(source.tail());
        tracing::info!(destination = %config.name, letters = letters.len(), "redrive");
        let task = Task::new(
            Makings {
                config,
                wal: self.wal.clone(),
                machine,
                source: Box::new(source),
                client: Arc::clone(&self.client),
                ledger: Ledger::letters(letters),
                tail,
                shown: None,
                control: None,
                set: None,
                pace: None,
            },
            Epoch::start(),
        );
        let mut sending = Box::pin(task.run(stopping.clone(), stop, grace));
        let mut changed = self.wal.letters_changed();
        let ended = loop {
            if self.gone() != gone {
                stopping.cancel();
            }
            tokio::select! {
                ended = &mut sending => break ended,
                Ok(()) = changed.changed(), if !stopping.is_cancelled() => {}
            }
        };
        drop(sender);
        ended
    }
}

/// The dead letters as a log: each is a frame of one message.
pub(super) struct LetterSource {
    encoder: Encoder,
    letters: Letters,
    limits: BatchLimits,
    compression: Compression,
}

impl LetterSource {
    pub(super) const fn new(
        encoder: Encoder,
        letters: Letters,
        limits: BatchLimits,
        compression: Compression,
    ) -> Self {
        Self { encoder, letters, limits, compression }
    }

    fn tail(&self) -> Tail {
        let count = self.letters.len() as u64;
        // As if each filled a batch: none has to wait for company.
        let bytes = count.saturating_mul(self.limits.max_bytes.get());
        Tail { end: Offset::new(count), messages: count, bytes }
    }

    /// Appends the event of a letter. False: it makes none.
    fn encode(&mut self, index: u64, out: &mut Vec<u8>) -> bool {
        let found = usize::try_from(index).ok().and_then(|index| self.letters.get(index));
        let Some((at, letter)) = found else { return false };
        self.encoder.start_frame(FrameFacts {
            drain_token: letter.drain_token.as_deref(),
            frame_id: letter.frame_id.as_deref(),
            offset: at.offset,
            received: letter.received,
            query: &letter.query,
            profile: letter.profile,
            messages_claimed: letter.messages_claimed,
            messages: letter.messages,
        });
        let piece = Piece { bytes: &letter.message, framing: letter.framing };
        self.encoder.encode(at.index, piece, out) == Outcome::Event
    }
}

impl Source for LetterSource {
    fn next(
        &mut self,
        batch: BatchId,
        from: Position,
    ) -> Result<(ReadBatch, Option<Body>), ReadError> {
        let (start, end) = (from.offset.get(), self.letters.len() as u64);
        let (mut at, mut events, mut body) = (start, 0u64, Vec::new());
        while at < end && events < self.limits.max_events.get() as u64 {
            let before = body.len();
            let makes_event = self.encode(at, &mut body);
            if body.len() > self.limits.max_bytes.as_usize() && events > 0 {
                body.truncate(before);
                break;
            }
            events += u64::from(makes_event);
            at += 1;
        }
        let messages = at - start;
        let read = ReadBatch {
            batch,
            range: PositionRange { start: from, end: Position::at(Offset::new(at)) },
            messages,
            filtered: messages - events,
            events,
            messages_end: at,
            received: UnixMicros::default(),
            caught_up: (at == end).then(|| self.tail()),
        };
        Ok((read, (events > 0).then(|| self.compression.apply(body))))
    }

    fn again(&mut self, range: PositionRange, plain: bool) -> Result<Again, ReadError> {
        let (mut events, mut filtered, mut body) = (0, 0, Vec::new());
        for index in range.start.offset.get()..range.end.offset.get() {
            if self.encode(index, &mut body) {
                events += 1;
            } else {
                filtered += 1;
            }
        }
        let compression = if plain { Compression::None } else { self.compression };
        Ok(Again { body: compression.apply(body), events, filtered })
    }

    fn cut(&mut self, range: PositionRange, cut: Cut) -> Result<Parts, ReadError> {
        let mut scratch = Vec::new();
        let indexes = range.start.offset.get()..range.end.offset.get();
        let made: Vec<bool> = indexes
            .clone()
            .map(|index| {
                scratch.clear();
                self.encode(index, &mut scratch)
            })
            .collect();
        let (before, alone) = match cut {
            Cut::Event(bad) => (bad, true),
            Cut::Half => (made.iter().filter(|event| **event).count().div_ceil(2) as u64, false),
        };
        let mut pieces = Pieces::new(range.start, before, alone);
        for (index, event) in indexes.zip(made) {
            let next = Position::at(Offset::new(index + 1));
            pieces.take(next, (index, index + 1), event);
        }
        Ok(pieces.parts(range))
    }

    fn letter(
        &mut self,
        range: PositionRange,
    ) -> Result<Option<(Position, DeadLetter)>, ReadError> {
        let (mut scratch, mut made) = (Vec::new(), Vec::new());
        for index in range.start.offset.get()..range.end.offset.get() {
            scratch.clear();
            if self.encode(index, &mut scratch) {
                made.push(index);
            }
        }
        let [index] = made[..] else { return Ok(None) };
        let found = usize::try_from(index).ok().and_then(|index| self.letters.get(index));
        Ok(found.map(|(_, letter)| (Position::at(Offset::new(index)), letter.clone())))
    }
}
