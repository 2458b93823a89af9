//! What goes wrong in a world, and when.

use super::*;

impl World {
    pub(super) fn faulty(&self) -> bool {
        self.plan.faults && self.now < FAULTS_END
    }

    /// For a while, every fifth world's collectors refuse whatever they are given: an index that
    /// was renamed, say.
    pub(super) fn refuses_everything(&self) -> bool {
        let phase = Duration::from_secs(40)..Duration::from_secs(60);
        self.faulty() && self.seed.is_multiple_of(5) && phase.contains(&self.now)
    }

    /// For a while, every eleventh world's acknowledgements take longer than they are waited for.
    pub(super) fn slow_acks(&self) -> Option<Duration> {
        let phase = Duration::from_secs(20)..Duration::from_secs(70);
        let slow = self.faulty() && self.seed % 11 == 7 && phase.contains(&self.now);
        self.plan.acks.or_else(|| slow.then_some(Duration::from_secs(75)))
    }

    /// Every other world: collectors that restart all the time, come back at once, answer slowly
    /// and index fast. What a restarted collector says about a batch that a POST on its way has
    /// just brought there is mistaken for another batch here, if anywhere.
    pub(super) const fn stormy(&self) -> bool {
        self.seed % 2 == 1
    }

    /// The process dies, and another goes on from what is durable. What is on its way to the
    /// collectors arrives all the same.
    pub(super) fn kill(&mut self) {
        self.process += 1;
        self.kills += 1;
        self.doubts += 1;
        if self.dice(2) == 0 {
            // The checkpoint that was being written made it.
            self.durable = self.committed.clone();
        }
        self.committed = self.durable.clone();
        let passed = |at: &Position| {
            let buried = |ahead: &&crate::record::Ahead| {
                ahead.fate == crate::record::Fate::DeadLettered
                    && (ahead.range.start..ahead.range.end).contains(at)
            };
            *at < self.durable.position || self.durable.window.iter().any(|a| buried(&a))
        };
        self.buried.retain(passed);
        self.old.append(&mut self.channels);
        self.closed.clear();
        self.bodies.clear();
        self.posting.clear();
        self.polling.clear();
        let config = config(self.seed, self.endpoints, self.plan.recall);
        let seed = u128::from(self.seed) << 32 | u128::from(self.process);
        self.machine = Delivery::new(config, &self.durable, seed);
        self.machine.handle(self.now, Event::Tail(self.log.tail()));
    }

    /// Whether this is a world in which the log is full now and then: with poison or without, in
    /// storms and in calm.
    pub(super) const fn fills_up(&self) -> bool {
        self.seed % 7 < 3
    }

    /// An operator pauses the destination now and then, and lets it go on in the end; and has its
    /// place saved.
    pub(super) fn pause_or_resume(&mut self) {
        let paused = self.machine.status().paused;
        let wanted = self.now < FAULTS_END && (self.dice(60) == 0) != paused;
        if wanted != paused {
            // What was decided before is on its way.
            self.carry_out();
            self.tell(if wanted { Event::Pause } else { Event::Resume });
        }
        if self.dice(120) == 0 {
            self.carry_out();
            self.tell(Event::Save);
        }
    }

    /// The log is full: frames go, and with them the cursors move, the stored ones first.
    pub(super) fn drop_the_oldest(&mut self) {
        let first = self.committed.position.offset.get();
        let left = self.log.tail().end.get().saturating_sub(first);
        let to = Position::at(Offset::new(first + self.dice(left + 1)));
        if to > self.trimmed {
            self.trimmed = to;
            // What is cut in the middle is sent again.
            self.doubts += 1;
            let messages_before = self.log.messages_before(to);
            self.durable.lift(to, messages_before);
            self.committed.lift(to, messages_before);
            self.tell(Event::Trimmed { to, messages_before });
        }
    }
}
