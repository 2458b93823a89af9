//! A machine on the bench. Every frame of its log holds one message, so that an offset is also a
//! count of messages. What the log has to give is given at once, unless a test wants otherwise.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test picks what it looks for and leaves the rest"
)]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use super::super::*;
use crate::types::{ByteSize, Offset};

pub(super) const LINGER: Duration = Duration::from_millis(250);
pub(super) const ACK_TIMEOUT: Duration = Duration::from_secs(20);
pub(super) const RECALL: Duration = Duration::from_secs(4);
pub(super) const HOLD: Duration = Duration::from_secs(5);
pub(super) const BATCH: u64 = 5;

pub(super) fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

pub(super) fn config() -> Config {
    Config {
        endpoints: count(1),
        lanes_per_endpoint: count(2),
        max_lanes_per_endpoint: count(2),
        window: count(12),
        batch: BatchLimits {
            max_bytes: ByteSize::bytes(1000),
            max_events: count(5),
            linger: LINGER,
        },
        acknowledgement: Acknowledgement::Required,
        ack_timeout: ACK_TIMEOUT,
        recall: RECALL,
        longest_poll: Duration::from_secs(10),
        believe_refusals: false,
        retry: RetryLimits {
            initial: Duration::from_millis(250),
            max: Duration::from_secs(10),
            hold: HOLD,
        },
    }
}

pub(super) fn one_lane() -> Config {
    Config { lanes_per_endpoint: count(1), max_lanes_per_endpoint: count(1), ..config() }
}

/// A POST the machine has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) lane: LaneId,
    pub(super) endpoint: EndpointId,
    pub(super) channel: ChannelId,
    pub(super) batch: BatchId,
}

pub(super) struct Rig {
    pub(super) machine: Delivery,
    pub(super) now: Duration,
    pub(super) tail: Tail,
    /// Whether the rig answers reads and encodings by itself.
    pub(super) auto: bool,
    /// Whether checkpoints are durable at once.
    pub(super) auto_commit: bool,
    /// How many messages of the next read make no event.
    pub(super) filtered: u64,
    /// What the machine wanted and the rig did not do, notes apart.
    pub(super) actions: Vec<Action>,
    pub(super) notes: Vec<Note>,
    pub(super) commits: Vec<(Duration, Checkpoint)>,
    pub(super) ranges: BTreeMap<BatchId, PositionRange>,
    /// Offsets that are in the dead letters.
    pub(super) buried: Vec<u64>,
    /// Whether the dead letters are full.
    pub(super) full: bool,
    /// Batches that were wanted without compression.
    pub(super) plain: Vec<BatchId>,
}

impl Rig {
    pub(super) fn new(config: Config) -> Self {
        Self::from(config, &Checkpoint::default())
    }

    pub(super) fn from(config: Config, checkpoint: &Checkpoint) -> Self {
        let ahead: u64 = checkpoint.window.iter().map(|ahead| ahead.messages).sum();
        let messages = checkpoint.origin_messages + checkpoint.totals.settled() + ahead;
        let end =
            checkpoint.window.last().map_or(checkpoint.position, |last| last.range.end).offset;
        let seed = 7 + checkpoint.window.len() as u128;
        Self {
            machine: Delivery::new(config, checkpoint, seed),
            now: Duration::from_secs(1000),
            tail: Tail { end, messages, bytes: messages * 100 },
            auto: true,
            auto_commit: true,
            filtered: 0,
            actions: Vec::new(),
            notes: Vec::new(),
            commits: Vec::new(),
            ranges: BTreeMap::new(),
            buried: Vec::new(),
            full: false,
            plain: Vec::new(),
        }
    }

    /// Tells the machine, and sees to it that it keeps what it promises at any moment.
    pub(super) fn tell(&mut self, event: Event) {
        let before = self.machine.checkpoint().position;
        self.machine.handle(self.now, event);
        let mut answers = Vec::new();
        while let Some(action) = self.machine.poll() {
            match action {
                Action::Read { batch, from } if self.auto => {
                    answers.push(Event::Read(self.read(batch, from, BATCH)));
                }
                Action::Encode { batch, range, plain } if self.auto => {
                    if let Some(known) = self.ranges.get(&batch) {
                        assert_eq!(known, &range, "the same body again");
                    }
                    self.ranges.insert(batch, range);
                    self.plain.extend(plain.then_some(batch));
                    answers.push(encoded(batch, range));
                }
                Action::Split { batch, range, cut } if self.auto => {
                    self.ranges.remove(&batch);
                    answers.push(Event::Split { batch, cut, parts: parts(range, cut) });
                }
                Action::DeadLetter { batch, range, .. } if self.auto && !self.full => {
                    self.buried.push(range.start.offset.get());
                    answers.push(Event::DeadLettered(batch));
                }
                Action::DeadLetter { batch, .. } if self.auto => {
                    answers.push(Event::DeadLettersFull(batch));
                }
                Action::Commit(checkpoint) => {
                    self.commits.push((self.now, checkpoint));
                    if self.auto_commit {
                        answers.push(Event::Committed);
                    }
                }
                Action::Note(note) => self.notes.push(note),
                other => self.actions.push(other),
            }
        }
        assert_eq!(self.machine.status().difference(&self.tail), 0, "the books");
        assert!(self.machine.checkpoint().position >= before, "the checkpoint went back");
        for answer in answers {
            self.tell(answer);
        }
        // Otherwise the sink would turn round and round until something else happens.
        let due = self.machine.deadline();
        assert!(due.is_none_or(|at| at > self.now), "a deadline of the past: {due:?}");
    }

    /// What the log has from `from` on: at most `most` messages.
    pub(super) fn read(&mut self, batch: BatchId, from: Position, most: u64) -> ReadBatch {
        let messages = self.tail.end.since(from.offset).min(most);
        let end = Position::at(Offset::new(from.offset.get() + messages));
        let range = PositionRange { start: from, end };
        let filtered = std::mem::take(&mut self.filtered).min(messages);
        self.ranges.insert(batch, range);
        let before = self.tail.messages - self.tail.end.since(end.offset);
        ReadBatch {
            batch,
            range,
            messages,
            filtered,
            events: messages - filtered,
            messages_end: before,
            received: UnixMicros::default(),
            caught_up: (end.offset == self.tail.end).then_some(self.tail),
        }
    }

    /// The log grows.
    pub(super) fn grow(&mut self, messages: u64) {
        self.tail.end = Offset::new(self.tail.end.get() + messages);
        self.tail.messages += messages;
        self.tail.bytes += messages * 100;
        self.tell(Event::Tail(self.tail));
    }

    /// Time passes, and nothing else.
    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.tell(Event::Tick);
    }

    /// Time passes, and the machine is woken whenever it wants to be.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.machine.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.tell(Event::Tick);
        }
        self.now = end;
        self.tell(Event::Tick);
    }

    pub(super) fn posted(&mut self, sent: Sent, outcome: PostOutcome) {
        self.tell(Event::Posted { lane: sent.lane, outcome });
    }

    pub(super) fn accepted(&mut self, sent: Sent, ack: u64) {
        self.posted(sent, accepted(Some(ack)));
    }

    pub(super) fn answered(&mut self, channel: ChannelId, acked: &[u64]) {
        let acked = acked.iter().copied().map(AckId::new).collect();
        self.tell(Event::Polled { channel, outcome: PollOutcome::Answered { acked } });
    }

    /// The POSTs that were asked for since the last look.
    pub(super) fn sends(&mut self) -> Vec<Sent> {
        let mut sends = Vec::new();
        self.actions.retain(|action| {
            let Action::Send { lane, endpoint, channel, batch } = *action else { return true };
            sends.push(Sent { lane, endpoint, channel, batch });
            false
        });
        sends
    }

    /// The one POST that was asked for since the last look.
    pub(super) fn send(&mut self) -> Sent {
        let sends = self.sends();
        assert_eq!(sends.len(), 1, "{sends:?}");
        sends[0]
    }

    /// The polls that were asked for since the last look.
    pub(super) fn polls(&mut self) -> Vec<(ChannelId, Vec<u64>)> {
        let mut polls = Vec::new();
        self.actions.retain(|action| {
            let Action::Poll { channel, ids, .. } = action else { return true };
            polls.push((*channel, ids.iter().map(|id| id.get()).collect()));
            false
        });
        polls
    }

    /// The endpoints that were asked whether they acknowledge since the last look.
    pub(super) fn preflights(&mut self) -> Vec<usize> {
        let mut asked = Vec::new();
        self.actions.retain(|action| {
            let Action::Preflight { endpoint, .. } = action else { return true };
            asked.push(endpoint.get());
            false
        });
        asked
    }

    pub(super) fn said(&mut self, endpoint: usize, said: Preflight) {
        self.tell(Event::Preflight { endpoint: EndpointId(endpoint), said });
    }

    /// The next poll, whenever the machine wants it.
    pub(super) fn poll(&mut self) -> (ChannelId, Vec<u64>) {
        for _ in 0..100 {
            if let Some(poll) = self.polls().pop() {
                return poll;
            }
            let due = self.machine.deadline().expect("a poll is to come");
            self.now = self.now.max(due);
            self.tell(Event::Tick);
        }
        panic!("no poll came");
    }

    pub(super) fn released(&mut self) -> Vec<u64> {
        let mut released = Vec::new();
        self.actions.retain(|action| {
            let Action::Release(batch) = action else { return true };
            released.push(batch.get());
            false
        });
        released
    }

    pub(super) fn reads(&self) -> Vec<Position> {
        let from = |action: &Action| match action {
            Action::Read { from, .. } => Some(*from),
            _ => None,
        };
        self.actions.iter().filter_map(from).collect()
    }

    pub(super) fn resent(&self) -> Vec<(u64, ResendReason)> {
        let resent = |note: &Note| match note {
            Note::Resend { batch, reason } => Some((batch.get(), *reason)),
            _ => None,
        };
        self.notes.iter().filter_map(resent).collect()
    }

    /// The offset of the checkpoint.
    pub(super) fn settled(&self) -> u64 {
        let position = self.machine.checkpoint().position;
        assert_eq!(position.index, 0);
        position.offset.get()
    }

    pub(super) fn state(&self) -> EndpointState {
        self.machine.status().endpoints[0].state.clone()
    }
}

/// The messages of a range; each is an event.
pub(super) fn offsets(range: PositionRange) -> std::ops::Range<u64> {
    range.start.offset.get()..range.end.offset.get()
}

pub(super) fn encoded(batch: BatchId, range: PositionRange) -> Event {
    let events = range.end.offset.since(range.start.offset);
    Event::Encoded { batch, events, filtered: 0 }
}

fn part(start: u64, end: u64) -> Option<Part> {
    let at = |offset| Position::at(Offset::new(offset));
    let range = PositionRange { start: at(start), end: at(end) };
    let messages = end - start;
    (messages > 0).then_some(Part { range, messages, filtered: 0, events: messages })
}

/// The pieces of a range in which every message is an event.
pub(super) fn parts(range: PositionRange, cut: Cut) -> Parts {
    let std::ops::Range { start, end } = offsets(range);
    match cut {
        Cut::Event(bad) => {
            let bad = start + bad;
            Parts { before: part(start, bad), bad: part(bad, bad + 1), after: part(bad + 1, end) }
        }
        Cut::Half => {
            let middle = start + (end - start).div_ceil(2);
            Parts { before: part(start, middle), bad: None, after: part(middle, end) }
        }
    }
}

pub(super) fn refused(bad: Option<u64>, ack: Option<u64>) -> PostOutcome {
    let (status, text) = (400, "Invalid data format".to_owned());
    let reason = Reason { status, code: Some(6), text };
    PostOutcome::Refused { bad, ack: ack.map(AckId::new), reason }
}

pub(super) fn accepted(ack: Option<u64>) -> PostOutcome {
    PostOutcome::Accepted { ack: ack.map(AckId::new), pressed: false }
}

pub(super) fn busy() -> PostOutcome {
    PostOutcome::Busy { after: Some(Duration::from_secs(2)) }
}

pub(super) fn fault() -> PostOutcome {
    PostOutcome::Fault(HoldReason::new("invalid token"))
}
