//! The delivery machine with a log, a sink and a collector that do everything at once.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::time::Duration;

use forebay::delivery::{
    Acknowledgement, Action, BatchLimits, Config, Delivery, Event, PollOutcome, PostOutcome,
    ReadBatch, RetryLimits,
};
use forebay::record::Checkpoint;
use forebay::types::{
    AckId, ByteSize, ChannelId, Offset, Position, PositionRange, Tail, UnixMicros,
};

/// Messages of a frame, and events of a batch: every frame is a batch.
const MESSAGES: u64 = 100;

/// A destination that gets a batch every so often. The shorter that is beside the rhythm of the
/// questions, the more batches are in flight.
pub(crate) struct Destination {
    machine: Delivery,
    every: Duration,
    now: Duration,
    frames: u64,
    /// The next ackId of each channel.
    ids: BTreeMap<ChannelId, u64>,
    answers: VecDeque<Event>,
}

impl Destination {
    pub(crate) fn new(every: Duration) -> Self {
        let config = Config {
            endpoints: NonZeroUsize::MIN,
            lanes_per_endpoint: NonZeroUsize::MIN.saturating_add(3),
            max_lanes_per_endpoint: NonZeroUsize::MIN.saturating_add(15),
            window: NonZeroUsize::MIN.saturating_add(100_000),
            batch: BatchLimits {
                max_bytes: ByteSize::mib(1),
                max_events: NonZeroUsize::MIN.saturating_add(99),
                linger: Duration::from_millis(250),
            },
            acknowledgement: Acknowledgement::Required,
            ack_timeout: Duration::from_mins(5),
            recall: Duration::ZERO,
            longest_poll: Duration::from_secs(10),
            believe_refusals: false,
            retry: RetryLimits {
                initial: Duration::from_millis(250),
                max: Duration::from_secs(30),
                hold: Duration::from_secs(30),
            },
        };
        Self {
            machine: Delivery::new(config, &Checkpoint::default(), 7),
            every,
            now: Duration::ZERO,
            frames: 0,
            ids: BTreeMap::new(),
            answers: VecDeque::new(),
        }
    }

    fn tail(&self) -> Tail {
        let messages = self.frames * MESSAGES;
        Tail { end: Offset::new(self.frames), messages, bytes: messages * 200 }
    }

    /// A frame comes, and everything happens that it makes possible: it is read, sent, taken, asked
    /// about, acknowledged and saved.
    pub(crate) fn frame(&mut self) {
        self.now += self.every;
        self.frames += 1;
        self.answers.push_back(Event::Tail(self.tail()));
        while let Some(event) = self.answers.pop_front() {
            self.machine.handle(self.now, event);
            while let Some(action) = self.machine.poll() {
                self.carry_out(action);
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        let answer = match action {
            Action::Read { batch, from } => {
                let end = Position::at(from.offset.next());
                Event::Read(ReadBatch {
                    batch,
                    range: PositionRange { start: from, end },
                    messages: MESSAGES,
                    filtered: 0,
                    events: MESSAGES,
                    messages_end: end.offset.get() * MESSAGES,
                    received: UnixMicros::default(),
                    caught_up: (end.offset == self.tail().end).then(|| self.tail()),
                })
            }
            Action::Send { lane, channel, .. } => {
                let next = self.ids.entry(channel).or_default();
                let outcome =
                    PostOutcome::Accepted { ack: Some(AckId::new(*next)), pressed: false };
                *next += 1;
                Event::Posted { lane, outcome }
            }
            Action::Poll { channel, ids, .. } => {
                Event::Polled { channel, outcome: PollOutcome::Answered { acked: ids } }
            }
            Action::Commit(_) => Event::Committed,
            Action::Release(_) | Action::Note(_) | Action::Close(_) => return,
            Action::Encode { .. }
            | Action::Split { .. }
            | Action::DeadLetter { .. }
            | Action::Preflight { .. } => unreachable!("nothing fails here"),
        };
        self.answers.push_back(answer);
    }

    /// Batches sent and not yet acknowledged.
    pub(crate) fn in_flight(&self) -> u64 {
        self.machine.status().batches_unsettled as u64
    }

    /// Messages that were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.machine.checkpoint().totals.acknowledged
    }
}
