//! Channels: the places where ackIds mean something.
//!
//! Splunk keeps a channel's counter in memory. A collector that restarts counts the channel from
//! the start again and says nothing about it. That shows in the ackId of the next POST, which
//! does not rise; but until that answer is here, the POST may already stand under the channel's
//! *first* id, and a `true` for that id may speak of the wrong batch. (The simulation found this;
//! no other id can be meant, as one POST is in flight at a time.) Hence two rules:
//!
//! * While the first batch of a channel is unsettled, its id is never asked about during a POST,
//!   and no POST starts while it is asked about.
//! * When a POST ends in doubt, the channel's first batch, if unsettled, is sent again.
//!
//! A channel that nobody posts on or polls is forgotten too, after `maxIdleTime`, which is 600 s by
//! default (inputs.conf.spec). Then nothing is outstanding, and so nothing could be mistaken; but
//! the next POST would seem to have met a collector that forgot, and be made twice. So a channel
//! that has been idle for long is left before that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::types::{AckId, BatchId};

use super::chance::Chance;
use super::{EndpointId, LaneId};

/// After a 2xx, the first question is put this soon: a collector that acks at once is heard at
/// once.
const FIRST_POLL: Duration = Duration::from_millis(100);

/// The waits between questions that bring nothing new.
const POLLS: [Duration; 6] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// The most ids in one question: bounds the body, and what is lost with a lost answer.
const IDS_PER_POLL: usize = 1000;

/// So many of them are the oldest that are not late. The others have their turns.
const OLDEST: usize = IDS_PER_POLL / 2;

/// A channel is used for so long, and no longer.
const MAX_AGE: Duration = Duration::from_mins(10);

/// Half of Splunk's `maxIdleTime`.
const MAX_IDLE: Duration = Duration::from_mins(5);

/// A channel is used for so many ids, and no more.
const MAX_IDS: u64 = 10_000;

/// One channel with the batches that wait for their acknowledgement on it.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) endpoint: EndpointId,
    /// The lane that posts on it; none once there was doubt.
    pub(super) lane: Option<LaneId>,
    pub(super) outstanding: BTreeMap<AckId, BatchId>,
    /// Those of them that were waited for in vain, and when they were given out. Their batches are
    /// sent again; whichever acknowledgement comes first counts.
    late: BTreeMap<AckId, Duration>,
    /// Whether a POST is on its way.
    pub(super) posting: bool,
    /// The last process posted on it. This one only asks.
    pub(super) inherited: bool,
    /// When it was first used.
    pub(super) born: Duration,
    /// When the last POST or question left that the collector is known to have got.
    used: Duration,
    /// When the last question left.
    asked_at: Duration,
    /// How many ids it gave.
    given: u64,
    /// The first ackId this channel ever gave.
    first: Option<AckId>,
    /// The highest ackId this channel ever gave.
    highest: Option<AckId>,
    /// What the poll on its way asks about.
    asked: Option<Vec<AckId>>,
    /// Behind the last id that had its turn, when not all could be asked about.
    turn: AckId,
    next_poll: Option<Duration>,
    /// Polls in a row that brought nothing.
    idle_polls: usize,
}

impl Channel {
    pub(super) const fn new(endpoint: EndpointId, lane: LaneId, now: Duration) -> Self {
        Self {
            endpoint,
            lane: Some(lane),
            outstanding: BTreeMap::new(),
            late: BTreeMap::new(),
            posting: false,
            inherited: false,
            born: now,
            used: now,
            asked_at: now,
            given: 0,
            first: None,
            highest: None,
            asked: None,
            turn: AckId::new(0),
            next_poll: None,
            idle_polls: 0,
        }
    }

    /// A channel of the last process, on which nothing is ever posted.
    pub(super) fn inherited(endpoint: EndpointId) -> Self {
        let new = Self::new(endpoint, LaneId(0), Duration::ZERO);
        Self { lane: None, inherited: true, ..new }
    }

    /// Notes the ackId of an accepted batch. False when the id does not rise: the collector has
    /// forgotten this channel, and no id on it means what it seems to mean.
    pub(super) fn accepted(&mut self, now: Duration, ack: AckId, batch: BatchId) -> bool {
        let rises = self.rises(ack);
        if rises {
            self.expect(now, ack, batch);
        }
        rises
    }

    /// Notes an ackId. False when it does not rise.
    pub(super) fn rises(&mut self, ack: AckId) -> bool {
        if self.highest.is_some_and(|highest| ack <= highest) {
            return false;
        }
        self.highest = Some(ack);
        self.first.get_or_insert(ack);
        self.given += 1;
        true
    }

    /// Waits for the acknowledgement of an id that was noted.
    pub(super) fn expect(&mut self, now: Duration, ack: AckId, batch: BatchId) {
        self.outstanding.insert(ack, batch);
        let soon = now + FIRST_POLL;
        self.next_poll = Some(self.next_poll.map_or(soon, |at| at.min(soon)));
    }

    /// Whether the id is the first that this channel ever gave.
    pub(super) fn is_first(&self, ack: AckId) -> bool {
        self.first == Some(ack)
    }

    /// Whether the channel has been used for long enough. A fresh one bounds what an id can be
    /// mistaken for, and spreads the load anew behind a balancer.
    pub(super) fn is_old(&self, now: Duration) -> bool {
        self.given >= MAX_IDS || now.saturating_sub(self.born) >= MAX_AGE
    }

    /// A POST that left at `since` was taken.
    pub(super) fn took(&mut self, since: Duration) {
        self.used = self.used.max(since);
    }

    /// Whether the collector may have forgotten it, as nobody has used it for long.
    pub(super) fn is_idle(&self, now: Duration, ack_timeout: Duration) -> bool {
        now.saturating_sub(self.used) >= MAX_IDLE.min(ack_timeout)
    }

    /// An id that was given out at `since` was waited for in vain. It is asked about on.
    pub(super) fn is_late(&mut self, ack: AckId, since: Duration) {
        self.late.insert(ack, since);
    }

    /// When an id was given out, if it was waited for in vain.
    pub(super) fn late(&self, ack: AckId) -> Option<Duration> {
        self.late.get(&ack).copied()
    }

    /// Waits for an id no more. Returns the batch that is under it.
    pub(super) fn let_go(&mut self, ack: AckId) -> Option<BatchId> {
        self.late.remove(&ack);
        self.outstanding.remove(&ack)
    }

    /// The first id, while its batch is unsettled.
    fn first_outstanding(&self) -> Option<AckId> {
        self.first.filter(|first| self.outstanding.contains_key(first))
    }

    /// The ids that may be asked about, the oldest first.
    fn askable(&self) -> impl Iterator<Item = AckId> {
        let taboo = if self.posting { self.first } else { None };
        self.outstanding.keys().copied().filter(move |id| Some(*id) != taboo)
    }

    /// When the next question is due.
    pub(super) fn poll_due(&self) -> Option<Duration> {
        if self.asked.is_some() { None } else { self.askable().next().and(self.next_poll) }
    }

    /// Whether a POST has to wait for a question about the first batch.
    pub(super) fn wants_quiet(&self, now: Duration) -> bool {
        self.first_outstanding().is_some_and(|first| match &self.asked {
            Some(asked) => asked.contains(&first),
            None => self.next_poll.is_some_and(|due| due <= now),
        })
    }

    /// A POST ended in doubt: the first batch, which its ackId may now belong to.
    pub(super) fn doubt_first(&mut self) -> Option<(AckId, BatchId)> {
        let first = self.first?;
        Some((first, self.let_go(first)?))
    }

    /// Whether a poll is on its way.
    pub(super) const fn polling(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether it takes no more POSTs, and nothing on it is to be heard of any more.
    pub(super) fn is_done(&self) -> bool {
        let idle = !self.posting && !self.polling();
        self.lane.is_none() && self.outstanding.is_empty() && idle
    }

    /// Puts the question.
    pub(super) fn ask(&mut self, now: Duration) -> Vec<AckId> {
        self.asked_at = now;
        let ids = self.ids_to_ask();
        self.asked = Some(ids.clone());
        self.next_poll = None;
        ids
    }

    /// The ids to be asked about, the oldest first. When they are too many for one question, those
    /// that stay `false` must not hide the others: a half are the oldest that are still waited for,
    /// the rest is whoever's turn it is.
    fn ids_to_ask(&mut self) -> Vec<AckId> {
        if self.outstanding.len() <= IDS_PER_POLL {
            return self.askable().collect();
        }
        let is_late = |id: &AckId| self.late.contains_key(id);
        let mut ids: BTreeSet<AckId> =
            self.askable().filter(|id| !is_late(id)).take(OLDEST).collect();
        let ahead = self.askable().skip_while(|id| *id < self.turn);
        let in_turn = ahead.chain(self.askable().take_while(|id| *id < self.turn));
        let others: Vec<AckId> =
            in_turn.filter(|id| !ids.contains(id)).take(IDS_PER_POLL - ids.len()).collect();
        self.turn =
            others.last().map_or(self.turn, |last| AckId::new(last.get().saturating_add(1)));
        ids.extend(others);
        ids.into_iter().collect()
    }

    /// Takes the answer and returns what was asked.
    pub(super) fn answered(
        &mut self,
        now: Duration,
        news: bool,
        hurry: bool,
        longest: Duration,
        chance: &mut Chance,
    ) -> Vec<AckId> {
        let step = if news || hurry { 0 } else { self.idle_polls.min(POLLS.len() - 1) };
        self.idle_polls = if news { 0 } else { self.idle_polls.saturating_add(1) };
        let wait = POLLS.get(step).copied().unwrap_or(FIRST_POLL);
        let wait = chance.around(wait.min(longest));
        let due = now + wait;
        // A batch accepted while the poll was on its way has asked for an early one.
        self.next_poll = Some(self.next_poll.map_or(due, |at| at.min(due)));
        self.asked.take().unwrap_or_default()
    }

    /// The last question was understood.
    pub(super) fn heard(&mut self) {
        self.used = self.used.max(self.asked_at);
    }

    /// Asks as soon as possible.
    pub(super) fn hurry(&mut self, now: Duration) {
        self.next_poll = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second question comes as soon as the first, or what is acknowledged in 200 ms is heard of
    /// after 600.
    #[test]
    fn questions_that_bring_nothing_come_ever_more_slowly() {
        let mut channel = Channel::new(EndpointId(0), LaneId(0), Duration::ZERO);
        let mut chance = Chance::new(1);
        assert!(channel.accepted(Duration::ZERO, AckId::new(0), BatchId::new(0)));
        let mut asked_at = Vec::new();
        for _ in 0..8 {
            let now = channel.poll_due().unwrap();
            asked_at.push(now);
            channel.ask(now);
            channel.answered(now, false, false, Duration::from_secs(10), &mut chance);
        }
        assert_eq!(asked_at.first(), Some(&FIRST_POLL));
        let waits = asked_at.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64());
        for (wait, meant) in waits.zip([0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 10.0]) {
            assert!((meant * 0.75..=meant * 1.25).contains(&wait), "{wait} s, not about {meant}");
        }
    }

    #[test]
    fn a_channel_gives_10000_ids_and_lives_ten_minutes() {
        let (born, minute) = (Duration::from_secs(1000), Duration::from_mins(1));
        let mut channel = Channel::new(EndpointId(0), LaneId(0), born);
        assert!(!channel.is_old(born + 9 * minute));
        assert!(channel.is_old(born + 10 * minute));
        for id in 0..9_999 {
            assert!(channel.rises(AckId::new(id)));
            assert!(!channel.rises(AckId::new(id)), "it does not rise");
        }
        assert!(!channel.is_old(born));
        assert!(channel.rises(AckId::new(9_999)));
        assert!(channel.is_old(born));
    }

    fn outstanding(ids: u64) -> Channel {
        let mut channel = Channel::new(EndpointId(0), LaneId(0), Duration::ZERO);
        for id in 0..ids {
            channel.outstanding.insert(AckId::new(id), BatchId::new(id));
        }
        channel
    }

    fn ask(channel: &mut Channel) -> Vec<u64> {
        let ids: Vec<u64> = channel.ask(Duration::ZERO).iter().map(|id| id.get()).collect();
        channel.answered(Duration::ZERO, false, false, POLLS[0], &mut Chance::new(1));
        assert!(ids.is_sorted_by(|a, b| a < b) && ids.len() <= IDS_PER_POLL, "{ids:?}");
        ids
    }

    /// Before, the oldest thousand were asked about, again and again, and hid the others.
    #[test]
    fn ids_that_stay_false_do_not_hide_those_behind_them() {
        let mut channel = outstanding(1001);
        let (first, second) = (ask(&mut channel), ask(&mut channel));
        assert!(first.contains(&1000) || second.contains(&1000), "the last one, soon");
        assert!(first.contains(&0) && second.contains(&0), "the oldest, always");
        // Each of many has its turn.
        let mut channel = outstanding(3000);
        let asked: BTreeSet<u64> = (0..6).flat_map(|_| ask(&mut channel)).collect();
        assert_eq!(asked.len(), 3000);
        assert_eq!(ask(&mut outstanding(1000)).len(), 1000, "all that there are");
    }

    #[test]
    fn what_is_late_comes_behind_what_is_not() {
        let mut channel = outstanding(2500);
        for id in 0..2000 {
            channel.is_late(AckId::new(id), Duration::ZERO);
        }
        for _ in 0..2 {
            assert_eq!(ask(&mut channel).iter().filter(|id| **id >= 2000).count(), 500);
        }
        let late: BTreeSet<u64> =
            (0..4).flat_map(|_| ask(&mut channel)).filter(|id| *id < 2000).collect();
        assert_eq!(late.len(), 2000, "they have their turn all the same");
    }
}
