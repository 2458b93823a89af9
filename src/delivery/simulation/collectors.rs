//! The collectors of a simulated world: what they take, index, acknowledge and forget.

use super::*;
use crate::hec::Reason;
use crate::hec::response::Verdict;

impl World {
    /// A request reaches the index, unless its collector died before.
    pub(super) fn index(&mut self, endpoint: usize, events: Vec<Position>, life: u64) {
        if self.lives[endpoint] != life {
            return;
        }
        for at in events {
            *self.indexed.entry(at).or_default() += 1;
        }
    }

    pub(super) fn restart_a_collector(&mut self) {
        let endpoint = usize::try_from(self.dice(self.collectors.len() as u64)).unwrap();
        let wait = Duration::from_millis(if self.stormy() { 0 } else { self.dice(8000) });
        self.collectors[endpoint].channels.clear();
        self.collectors[endpoint].down_until = self.now + wait;
        self.lives[endpoint] += 1;
        self.doubts += 1;
    }

    /// A collector is asked whether it acknowledges. It does, if it says anything.
    pub(super) fn answer_preflight(&mut self, endpoint: usize) -> Preflight {
        let down = self.collectors[endpoint].down_until > self.now;
        if down || (self.faulty() && self.dice(3) == 0) {
            return Preflight::Unknown(HoldReason::new("HTTP 503"));
        }
        Preflight::On
    }

    /// A POST reaches its collector.
    pub(super) fn arrive(
        &mut self,
        endpoint: usize,
        channel: ChannelId,
        range: PositionRange,
    ) -> PostOutcome {
        let faults = self.faulty();
        if self.collectors[endpoint].down_until > self.now {
            return PostOutcome::Unreachable { after: None };
        }
        let mut events = self.log.events(range);
        let fault = if faults { self.dice(16) } else { u64::MAX };
        match fault {
            0 => return PostOutcome::Busy { after: Some(Duration::from_millis(700)) },
            1 => return PostOutcome::Fault(HoldReason::new("invalid token")),
            // Not taken, and the connection breaks.
            2 => return PostOutcome::Doubt { after: None },
            5 if events.len() > 1 => {
                let reason = Reason { status: 413, code: None, text: String::new() };
                return PostOutcome::TooLarge { reason };
            }
            6 => {
                let reason = HoldReason::new("not found");
                return PostOutcome::Missing { after: None, reason };
            }
            7 => return PostOutcome::Strange(HoldReason::new("<html>")),
            8 => return PostOutcome::Severed { sent: false },
            _ => {}
        }
        let bad = events.iter().position(|at| self.poison.contains(at));
        let bad = if self.refuses_everything() { Some(0) } else { bad };
        events.truncate(bad.unwrap_or(usize::MAX));
        let id = (!events.is_empty()).then(|| self.take(endpoint, channel, events));
        match fault {
            // Taken, but the answer is lost, and perhaps the connection with it.
            3 if self.dice(3) == 0 => return PostOutcome::Severed { sent: true },
            3 => return PostOutcome::Doubt { after: None },
            8 => return page_of_a_proxy(),
            _ => {}
        }
        let Some(bad) = bad else { return PostOutcome::Accepted { ack: id, pressed: fault == 4 } };
        let reason = Reason { status: 400, code: Some(6), text: "Invalid data format".into() };
        if faults && self.dice(5) == 0 {
            // The answer does not say which event, or is not believed to have taken any.
            self.doubts += u32::from(id.is_some());
            let bad = (self.dice(2) == 0).then_some(bad as u64);
            return PostOutcome::Refused { bad, ack: None, reason };
        }
        PostOutcome::Refused { bad: Some(bad as u64), ack: id, reason }
    }

    /// A channel is used. It is forgotten first, if that is too long ago; what it was sent on its
    /// way to the index goes on.
    fn touch(&mut self, endpoint: usize, channel: ChannelId) {
        let (now, collector) = (self.now, &mut self.collectors[endpoint]);
        let used = collector.used.insert(channel, now);
        if used.is_some_and(|used| now - used > IDLE) {
            collector.channels.remove(&channel);
        }
    }

    /// A collector takes events, and indexes them later.
    fn take(&mut self, endpoint: usize, channel: ChannelId, events: Vec<Position>) -> AckId {
        let slow = self.faulty() && self.dice(30) == 0;
        let usual = if self.stormy() { 1 + self.dice(400) } else { 50 + self.dice(3000) };
        let delay = Duration::from_millis(if slow { 25_000 } else { usual });
        let slower = self.slow_acks();
        let delay = slower.unwrap_or(delay);
        self.touch(endpoint, channel);
        let requests = self.collectors[endpoint].channels.entry(channel).or_default();
        let id = requests.len();
        requests.push(Request { indexed_at: self.now + delay, reported: false });
        let life = self.lives[endpoint];
        self.later(delay, Pending::Indexed { endpoint, events, life });
        self.doubts += u32::from(slow || slower.is_some());
        AckId::new(id as u64)
    }

    pub(super) fn answer_poll(
        &mut self,
        endpoint: usize,
        channel: ChannelId,
        ids: &[AckId],
    ) -> PollOutcome {
        let faults = self.faulty();
        assert!(!ids.is_empty(), "an empty question is illegal");
        if self.collectors[endpoint].down_until > self.now {
            return PollOutcome::Failed;
        }
        let now = self.now;
        self.touch(endpoint, channel);
        let mut acked = Vec::new();
        if let Some(requests) = self.collectors[endpoint].channels.get_mut(&channel) {
            for id in ids {
                let request = requests.get_mut(usize::try_from(id.get()).unwrap());
                if let Some(request) = request
                    && request.indexed_at < now
                    && !request.reported
                {
                    request.reported = true;
                    acked.push(*id);
                }
            }
        }
        match if faults { self.dice(25) } else { u64::MAX } {
            0 => {
                // Consumed, but the answer is lost: those ids will never be true again.
                self.doubts += 1;
                PollOutcome::Failed
            }
            1 => {
                // An answer about an id nobody asked for; it may be of a batch sent meanwhile.
                acked.extend(ids.last().map(|last| AckId::new(last.get() + 1)));
                PollOutcome::Answered { acked }
            }
            2 => PollOutcome::Severed,
            _ => PollOutcome::Answered { acked },
        }
    }
}

/// What a proxy says that has lost the collector, with the request or before it had one. What that
/// means is not for this world to say.
fn page_of_a_proxy() -> PostOutcome {
    let page = b"upstream connect error or disconnect/reset before headers";
    let verdict = Verdict::of(503, page, None, UnixMicros::default());
    if matches!(verdict, Verdict::Busy { .. }) {
        return PostOutcome::Busy { after: None };
    }
    assert!(matches!(verdict, Verdict::Doubt { .. }), "{verdict:?}");
    PostOutcome::Doubt { after: None }
}
