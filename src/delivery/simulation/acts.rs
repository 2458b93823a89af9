//! What a world does for the machine, and what it checks while doing so.

use super::*;
use crate::delivery::window::Stage;

impl World {
    pub(super) fn carry_out(&mut self) {
        const QUICK: Duration = Duration::from_micros(300);
        while let Some(action) = self.machine.poll() {
            match action {
                Action::Read { batch, from } => {
                    let read = self.log.read(batch, from, 5);
                    assert!(self.bodies.insert(batch, read.range).is_none());
                    self.later(QUICK, Pending::Event(Event::Read(read)));
                }
                Action::Encode { batch, range, .. } => {
                    assert!(self.bodies.insert(batch, range).is_none());
                    let Part { events, filtered, .. } = self.log.part(range).unwrap();
                    let event = Event::Encoded { batch, events, filtered };
                    self.later(QUICK, Pending::Event(event));
                }
                Action::Split { batch, range, cut } => {
                    assert!(!self.bodies.contains_key(&batch), "seed {}: a body", self.seed);
                    let parts = self.log.cut(range, cut);
                    self.later(QUICK, Pending::Event(Event::Split { batch, cut, parts }));
                }
                Action::DeadLetter { batch, range, .. } => self.bury(batch, range),
                Action::Send { lane, endpoint, channel, batch } => {
                    assert!(!self.doubted.contains(&channel), "seed {}: doubt", self.seed);
                    assert!(!self.old.contains(&channel), "seed {}: an old channel", self.seed);
                    assert!(!self.closed.contains(&channel), "seed {}: closed", self.seed);
                    let mode = self.machine.status().acknowledgement;
                    assert_eq!(mode, Acknowledgement::Required, "seed {}: it is known", self.seed);
                    assert!(!self.machine.status().paused, "seed {}: it is paused", self.seed);
                    self.channels.insert(channel);
                    let alone = self.posting.values().all(|other| *other != channel);
                    assert!(alone, "seed {}: two POSTs on a channel", self.seed);
                    assert!(self.posting.insert(lane, channel).is_none());
                    let range = *self.bodies.get(&batch).expect("a body is kept until released");
                    let wait = 1 + self.dice(if self.stormy() { 400 } else { 30 });
                    let arrives =
                        Pending::Arrives { lane, endpoint: endpoint.get(), channel, range };
                    self.later(Duration::from_millis(wait), arrives);
                }
                Action::Release(batch) => {
                    self.bodies.remove(&batch);
                }
                Action::Poll { endpoint, channel, ids } => {
                    assert!(!self.closed.contains(&channel), "seed {}: closed", self.seed);
                    assert!(self.polling.insert(channel), "seed {}: two polls", self.seed);
                    let endpoint = endpoint.get();
                    let wait =
                        Duration::from_millis(if self.stormy() { self.dice(300) } else { 1 });
                    self.later(wait, Pending::Asked { endpoint, channel, ids });
                }
                Action::Close(channel) => {
                    let twice = !self.closed.insert(channel);
                    assert!(!twice, "seed {}: closed twice", self.seed);
                }
                Action::Preflight { endpoint, channel } => {
                    assert!(!self.channels.contains(&channel), "seed {}: a used one", self.seed);
                    let said = self.answer_preflight(endpoint.get());
                    let wait = Duration::from_millis(1 + self.dice(40));
                    self.later(wait, Pending::Event(Event::Preflight { endpoint, said }));
                }
                Action::Commit(checkpoint) => self.commit(checkpoint),
                Action::Note(_) => {}
            }
        }
    }

    /// Invariant 6: only poison is dead-lettered.
    pub(super) fn bury(&mut self, batch: BatchId, range: PositionRange) {
        let events = self.log.events(range);
        if events.is_empty() && range.start <= self.trimmed {
            // The event was in what the log has dropped.
            let event = Event::Changed(batch);
            return self.later(Duration::from_millis(5), Pending::Event(event));
        }
        let [at] = events[..] else { panic!("seed {}: {range} is not one event", self.seed) };
        assert!(self.poison.contains(&at), "seed {}: {at} is dead-lettered", self.seed);
        let event = if self.faulty() && self.dice(4) == 0 {
            Event::DeadLettersFull(batch)
        } else {
            self.buried.insert(at);
            Event::DeadLettered(batch)
        };
        self.later(Duration::from_millis(5), Pending::Event(event));
    }

    /// Invariant 1: whatever lies below a checkpoint is in an index.
    pub(super) fn commit(&mut self, mut checkpoint: Checkpoint) {
        self.nothing_is_left_of_channels();
        // One that was decided on before the log dropped frames is lifted like those in the store.
        checkpoint.lift(self.trimmed, self.log.messages_before(self.trimmed));
        assert!(checkpoint.position >= self.committed.position, "seed {}: back", self.seed);
        let range = PositionRange { start: self.committed.position, end: checkpoint.position };
        for at in self.log.positions(range) {
            assert!(
                at < self.trimmed
                    || !self.log.makes_event(at)
                    || self.indexed.contains_key(&at)
                    || self.buried.contains(&at),
                "seed {}: the checkpoint {} passed {at}, which is nowhere",
                self.seed,
                checkpoint.position,
            );
        }
        assert_eq!(
            checkpoint.totals.settled(),
            self.log.messages_before(checkpoint.position),
            "seed {}: the books",
            self.seed
        );
        self.committed = checkpoint;
        self.later(Duration::from_millis(5), Pending::Event(Event::Committed));
    }
}

impl World {
    /// A channel that takes no more POSTs is there for what is outstanding on it, and no longer.
    fn nothing_is_left_of_channels(&self) {
        let left = self.machine.channels.iter().find(|(_, channel)| channel.is_done());
        assert!(left.is_none(), "seed {}: {left:?}", self.seed);
    }
}

/// Who waits longest, which the machine finds without looking at all of its batches.
pub(super) fn lost_at(machine: &Delivery) -> Option<Duration> {
    let all = machine.window.iter().filter_map(|(_, batch)| {
        let Stage::Unacked { channel, since, .. } = batch.stage else { return None };
        Some(since + machine.lost_after(machine.channels.get(&channel)?.endpoint))
    });
    all.min().filter(|_| !machine.undecided())
}
