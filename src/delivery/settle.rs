//! How answers are judged: what settles a batch, what sends it again, what retires a channel.

use std::time::Duration;

use crate::types::{AckId, BatchId, ChannelId};

use super::channel::Channel;
use super::endpoint::Endpoint;
use super::machine::Posting;
use super::window::{Settled, Stage};
use super::{
    Acknowledgement, Action, Delivery, EndpointId, HoldReason, LaneId, Note, PollOutcome,
    PostOutcome, ResendReason,
};

/// What a 2xx without an ackId means while acknowledgement is required.
pub(super) const NO_ACK_ID: &str = "the collector accepts events but gives no ackId, so it can never say \
     that they are indexed: enable indexer acknowledgement (useACK) for the token, or set \
     acknowledgement = \"off\"";

/// Why an endpoint is held on which no channel lasts until something on it is acknowledged.
const LOSES_CHANNELS: &str = "channels are lost before anything on them is acknowledged, so it cannot be \
     known whether events are indexed, and each is sent again: connections are closed after each answer, \
     or several indexers answer behind one address (see destination.affinity), or the collector restarts \
     again and again; one batch at a time is tried until an acknowledgement is heard";

/// So many times the limit an acknowledgement is waited for when polls are not even answered.
const LOST: u32 = 2;

impl Delivery {
    pub(super) fn on_posted(&mut self, now: Duration, id: LaneId, outcome: PostOutcome) {
        let Some(lane) = self.lanes.get_mut(id.get()) else { return };
        let Some(posting) = lane.posting.take() else { return };
        let Posting { batch, channel, since, rests, .. } = posting;
        let took = now.saturating_sub(since);
        let endpoint = lane.endpoint;
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.posting = false;
            // Whoever took nothing may not even have looked at the channel.
            if let PostOutcome::Accepted { .. } | PostOutcome::Refused { ack: Some(_), .. } =
                &outcome
            {
                channel.took(since);
            }
        }
        if let Some(endpoint) = self.endpoints.get_mut(endpoint.get()) {
            let busy = endpoint.posting;
            endpoint.ended(rests);
            match &outcome {
                PostOutcome::Accepted { pressed: false, .. } => {
                    endpoint.lanes.worked(now, took, busy);
                }
                PostOutcome::Accepted { pressed: true, .. } | PostOutcome::Busy { .. } => {
                    endpoint.lanes.pressed(now, took);
                }
                PostOutcome::Unreachable { .. }
                | PostOutcome::Missing { .. }
                | PostOutcome::Doubt { .. }
                | PostOutcome::Severed { .. }
                | PostOutcome::Fault(_)
                | PostOutcome::Strange(_)
                | PostOutcome::Refused { .. }
                | PostOutcome::TooLarge { .. } => {}
            }
        }
        match outcome {
            PostOutcome::Accepted { ack, pressed } => {
                self.on_accepted(now, endpoint, posting, ack);
                if pressed && let Some(endpoint) = self.endpoints.get_mut(endpoint.get()) {
                    endpoint.pressed(now, &self.config.retry);
                }
                // Perhaps it is the acknowledgements that nobody has asked for.
                if pressed && let Some(channel) = self.channels.get_mut(&channel) {
                    channel.hurry(now);
                }
                self.rotate(now, channel);
            }
            PostOutcome::Refused { bad, ack, reason } => {
                self.on_refused(now, endpoint, posting, bad, ack, reason);
            }
            PostOutcome::TooLarge { reason } => {
                self.on_too_large(now, endpoint, posting, reason);
            }
            PostOutcome::Missing { after, reason } => {
                self.retire(channel);
                if self.nobody_is_there(endpoint) {
                    self.hold(now, endpoint, reason);
                } else {
                    self.rest(now, endpoint, after);
                }
                self.requeue(batch, Stage::Ready, ResendReason::NotAccepted);
            }
            PostOutcome::Strange(reason) => {
                self.doubt(channel);
                if self.endpoints.get_mut(endpoint.get()).is_some_and(Endpoint::strange) {
                    self.hold(now, endpoint, reason);
                } else {
                    self.rest(now, endpoint, None);
                }
                self.requeue(batch, Stage::Ready, ResendReason::Doubt);
            }
            PostOutcome::Busy { after } => {
                self.rest(now, endpoint, after);
                self.requeue(batch, Stage::Ready, ResendReason::NotAccepted);
            }
            PostOutcome::Unreachable { after } => {
                // When it comes back it may be another process, which counts from 0 again.
                self.retire(channel);
                self.rest(now, endpoint, after);
                self.requeue(batch, Stage::Ready, ResendReason::NotAccepted);
            }
            PostOutcome::Doubt { after } => {
                self.doubt(channel);
                self.rest(now, endpoint, after);
                self.requeue(batch, Stage::Ready, ResendReason::Doubt);
            }
            PostOutcome::Severed { sent } => {
                // Whatever another connection would say of this channel, it may lead elsewhere.
                self.lose(now, channel, ResendReason::ConnectionLost);
                let reason = if sent {
                    self.rest(now, endpoint, None);
                    ResendReason::Doubt
                } else {
                    ResendReason::NotAccepted
                };
                self.requeue(batch, Stage::Ready, reason);
            }
            PostOutcome::Fault(reason) => {
                self.doubt(channel);
                self.hold(now, endpoint, reason);
                self.requeue(batch, Stage::Ready, ResendReason::NotAccepted);
            }
        }
        // All on it may have been settled, and it taken out of use, while the POST was on its way.
        self.drop_if_done(channel);
    }

    fn on_accepted(
        &mut self,
        now: Duration,
        endpoint: EndpointId,
        posting: Posting,
        ack: Option<AckId>,
    ) {
        let Posting { batch, channel, mark, .. } = posting;
        let ack = match (self.config.acknowledgement, ack) {
            (Acknowledgement::Off, _) => {
                self.took(now, endpoint, mark);
                self.actions.push_back(Action::Release(batch));
                self.settled(batch);
                return;
            }
            (Acknowledgement::Required | Acknowledgement::Auto, None) => {
                self.doubt(channel);
                self.hold(now, endpoint, HoldReason::new(NO_ACK_ID));
                self.requeue(batch, Stage::Ready, ResendReason::Doubt);
                return;
            }
            (Acknowledgement::Required | Acknowledgement::Auto, Some(ack)) => ack,
        };
        self.took(now, endpoint, mark);
        let entry = self.channels.get_mut(&channel);
        if !entry.is_some_and(|entry| entry.accepted(now, ack, batch)) {
            // Splunk counts ackIds per channel, upward. One that does not rise comes from a
            // collector that has forgotten the channel (a restart, an idle reap, another indexer
            // behind a balancer), and every id outstanding on it may now mean another batch.
            self.lose(now, channel, ResendReason::ChannelForgotten);
            self.requeue(batch, Stage::Ready, ResendReason::ChannelForgotten);
            return;
        }
        if let Some(batch) = self.window.unsettled_mut(batch) {
            batch.stage = Stage::Unacked { channel, ack, since: now };
            self.changed = true;
        } else if let Some(entry) = self.channels.get_mut(&channel) {
            // The log has dropped it meanwhile, or an earlier copy of it was acknowledged: there is
            // nothing to ask about.
            entry.let_go(ack);
        }
        self.actions.push_back(Action::Release(batch));
    }

    pub(super) fn on_polled(&mut self, now: Duration, id: ChannelId, outcome: PollOutcome) {
        // A channel that was forgotten meanwhile: its ids mean nothing any more.
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let endpoint = channel.endpoint;
        match outcome {
            PollOutcome::Answered { acked } => {
                let (news, longest) = (!acked.is_empty(), self.config.longest_poll);
                let asked = channel.answered(now, news, self.stopping, longest, &mut self.chance);
                channel.heard();
                self.polls_work(endpoint);
                // Only what was asked counts, whatever the answer says.
                for ack in acked.into_iter().filter(|ack| asked.contains(ack)) {
                    self.on_acked(now, id, ack);
                }
                for ack in asked {
                    self.expire(now, id, ack, 1);
                }
            }
            PollOutcome::Failed => {
                let hurry = false;
                channel.answered(now, false, hurry, self.config.longest_poll, &mut self.chance);
                self.retire(id);
            }
            PollOutcome::Severed => self.lose(now, id, ResendReason::ConnectionLost),
            PollOutcome::Fault(reason) => {
                let hurry = false;
                channel.answered(now, false, hurry, self.config.longest_poll, &mut self.chance);
                // About the last process's channels: the token may have changed since.
                let inherited = channel.inherited;
                self.retire(id);
                if !inherited {
                    self.hold_for_a_poll(now, endpoint, reason);
                }
            }
        }
        self.drop_if_done(id);
    }

    fn on_acked(&mut self, now: Duration, channel: ChannelId, ack: AckId) {
        let Some(entry) = self.channels.get_mut(&channel) else { return };
        let (endpoint, late) = (entry.endpoint, entry.late(ack));
        let Some(batch) = entry.let_go(ack) else { return };
        if self.endpoints.get_mut(endpoint.get()).is_some_and(Endpoint::acknowledged) {
            self.actions.push_back(Action::Note(Note::Resumed { endpoint }));
        }
        let Some(found) = self.window.get(batch) else { return };
        let (stage, range) = (found.stage, found.range);
        let since = match (stage, late) {
            (Stage::Unacked { since, .. }, None) => since,
            (
                Stage::Ready
                | Stage::Faded
                | Stage::Fetching
                | Stage::Posting(_)
                | Stage::Unacked { .. },
                Some(since),
            ) => {
                self.is_not_needed(batch, stage);
                since
            }
            (
                Stage::Ready
                | Stage::Faded
                | Stage::Fetching
                | Stage::Posting(_)
                | Stage::Splitting { .. }
                | Stage::Suspect { .. }
                | Stage::Burying
                | Stage::Unburied { .. }
                | Stage::Settled(_),
                _,
            ) => return,
        };
        let after = now.saturating_sub(since);
        if let Some(endpoint) = self.endpoints.get_mut(endpoint.get()) {
            endpoint.patience.heard(since, after);
        }
        self.actions.push_back(Action::Note(Note::Acknowledged { batch, range, after }));
        self.settled(batch);
    }

    /// Takes back what was begun to send a batch again. The answer to a POST that is on its way
    /// finds that it is settled.
    fn is_not_needed(&mut self, batch: BatchId, stage: Stage) {
        if let Stage::Unacked { channel, ack, .. } = stage {
            if let Some(entry) = self.channels.get_mut(&channel) {
                entry.let_go(ack);
            }
            self.drop_if_done(channel);
        } else {
            self.dequeue(batch);
            self.actions.push_back(Action::Release(batch));
        }
    }

    fn settled(&mut self, batch: BatchId) {
        self.changed = true;
        self.window.settle(batch, Settled::Acknowledged);
    }

    /// Whether no endpoint has ever been anything but "not found": that is a wrong URL, and not
    /// an indexer in detention.
    fn nobody_is_there(&mut self, id: EndpointId) -> bool {
        if let Some(endpoint) = self.endpoints.get_mut(id.get()) {
            endpoint.missing = true;
        }
        self.endpoints.iter().all(|endpoint| endpoint.missing && endpoint.took_at == 0)
    }

    /// Gives up a channel that has been used for long enough: it is drained, and another takes
    /// its place.
    fn rotate(&mut self, now: Duration, id: ChannelId) {
        if self.channels.get_mut(&id).is_some_and(|channel| channel.is_old(now)) {
            self.retire(id);
        }
    }

    /// Sends a batch again if it has waited for its acknowledgement for longer than so many times
    /// the limit, and takes the channel out of use: nobody knows what became of its state. The id
    /// is asked about on, as long as that makes sense.
    fn expire(&mut self, now: Duration, channel: ChannelId, ack: AckId, times: u32) {
        let Some(entry) = self.channels.get_mut(&channel) else { return };
        let Some(batch) = entry.outstanding.get(&ack).copied() else { return };
        let Some(endpoint) = self.endpoints.get_mut(entry.endpoint.get()) else { return };
        let waited = |since| now.saturating_sub(since);
        if let Some(since) = entry.late(ack) {
            let settled = self.window.unsettled(batch).is_none();
            if settled || waited(since) >= endpoint.patience.gives_up_after() {
                entry.let_go(ack);
            }
            return;
        }
        let stage = self.window.get(batch).map(|batch| batch.stage);
        if let Some(Stage::Unacked { since, .. }) = stage
            && waited(since) >= endpoint.patience.limit().saturating_mul(times)
        {
            entry.is_late(ack, since);
            // The last process's channels tell nothing about this one's.
            if !entry.inherited && endpoint.patience.ran_out(now, since) {
                endpoint.acknowledges_late(now, &self.config.retry, &mut self.chance);
            }
            self.retire(channel);
            self.requeue(batch, Stage::Faded, ResendReason::AckTimeout);
        }
    }

    /// How long a batch on a channel waits when polls are not even answered. Twice the limit: a
    /// collector that is down for a while may well know the acknowledgement when it is back.
    pub(super) fn lost_after(&self, endpoint: EndpointId) -> Duration {
        let endpoint = self.endpoints.get(endpoint.get());
        let limit = endpoint.map_or(self.config.ack_timeout, |e| e.patience.limit());
        limit.saturating_mul(LOST)
    }

    /// When the first batch would have waited for too long for a poll that never comes.
    ///
    /// Of each channel only the oldest batch that waits is looked at: ackIds rise with the time they
    /// were given out. To look at all of them, at every event, made a batch cost the more the more of
    /// them were in flight.
    pub(super) fn lost_at(&self) -> Option<Duration> {
        if self.undecided() {
            return None;
        }
        let oldest = |(id, channel): (&ChannelId, &Channel)| {
            let since = channel.outstanding.iter().find_map(|(ack, batch)| {
                self.window.get(*batch).and_then(|batch| batch.unacked_since(*id, *ack))
            });
            since.map(|since| since + self.lost_after(channel.endpoint))
        };
        self.channels.iter().filter_map(oldest).min()
    }

    pub(super) fn give_up_on_lost_batches(&mut self, now: Duration) {
        if self.lost_at().is_none_or(|at| at > now) {
            return;
        }
        let outstanding: Vec<(ChannelId, AckId)> = self
            .channels
            .iter()
            .flat_map(|(id, channel)| channel.outstanding.keys().map(|ack| (*id, *ack)))
            .collect();
        for (channel, ack) in outstanding {
            self.expire(now, channel, ack, LOST);
            self.drop_if_done(channel);
        }
    }

    pub(super) fn worked(&mut self, now: Duration, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(id.get()) else { return };
        if endpoint.worked(now, &self.config.retry, &mut self.chance) {
            self.actions.push_back(Action::Note(Note::Resumed { endpoint: id }));
        }
    }

    fn polls_work(&mut self, id: EndpointId) {
        if self.endpoints.get_mut(id.get()).is_some_and(Endpoint::polls_work) {
            self.actions.push_back(Action::Note(Note::Resumed { endpoint: id }));
        }
    }

    fn hold_for_a_poll(&mut self, now: Duration, id: EndpointId, reason: HoldReason) {
        let Some(endpoint) = self.endpoints.get_mut(id.get()) else { return };
        if endpoint.hold_for_a_poll(now, reason.clone(), &self.config.retry, &mut self.chance) {
            self.actions.push_back(Action::Note(Note::Held { endpoint: id, reason }));
        }
    }

    pub(super) fn rest(&mut self, now: Duration, id: EndpointId, after: Option<Duration>) {
        if let Some(endpoint) = self.endpoints.get_mut(id.get()) {
            endpoint.failed(now, after, &self.config.retry, &mut self.chance);
        }
    }

    pub(super) fn hold(&mut self, now: Duration, id: EndpointId, reason: HoldReason) {
        let Some(endpoint) = self.endpoints.get_mut(id.get()) else { return };
        if endpoint.hold(now, reason.clone(), &self.config.retry, &mut self.chance) {
            self.actions.push_back(Action::Note(Note::Held { endpoint: id, reason }));
        }
    }

    /// Puts a batch back among those to be sent. After a stop it is left to the next start.
    pub(super) fn requeue(&mut self, id: BatchId, stage: Stage, reason: ResendReason) {
        // Or an acknowledgement has overtaken it.
        let Some(batch) = self.window.unsettled_mut(id) else { return };
        if self.stopping {
            batch.stage = Stage::Faded;
            self.actions.push_back(Action::Release(id));
        } else {
            batch.stage = stage;
            self.enqueue(id);
        }
        self.actions.push_back(Action::Note(Note::Resend { batch: id, reason }));
    }

    /// Sends a batch again that waits for an acknowledgement which nobody can be asked about any
    /// more. If it was waited for in vain before, the batch has been sent again already.
    pub(super) fn send_again(
        &mut self,
        id: BatchId,
        channel: ChannelId,
        ack: AckId,
        reason: ResendReason,
    ) {
        if self.window.get(id).is_some_and(|batch| batch.waits_for(channel, ack)) {
            self.requeue(id, Stage::Faded, reason);
        }
    }

    /// Takes a channel out of use. What is outstanding on it is still asked for: nothing else
    /// will ever be posted on it, so its ids cannot come to mean anything else.
    pub(super) fn retire(&mut self, id: ChannelId) {
        if let Some(lane) = self.channels.get_mut(&id).and_then(|channel| channel.lane.take())
            && let Some(lane) = self.lanes.get_mut(lane.get())
            && lane.channel == Some(id)
        {
            lane.channel = None;
        }
        self.drop_if_done(id);
    }

    /// Takes a channel out of use on which a POST ended in doubt. See the rules in `channel.rs`.
    pub(super) fn doubt(&mut self, id: ChannelId) {
        if let Some((ack, batch)) = self.channels.get_mut(&id).and_then(Channel::doubt_first) {
            self.send_again(batch, id, ack, ResendReason::Doubt);
        }
        self.retire(id);
    }

    /// Forgets a channel whose ids cannot be trusted, or not be asked about any more; everything
    /// outstanding on it is sent again.
    pub(super) fn forget(&mut self, id: ChannelId, reason: ResendReason) {
        self.retire(id);
        // Retired with nothing outstanding, it is gone already.
        let Some(channel) = self.channels.remove(&id) else { return };
        self.actions.push_back(Action::Close(id));
        for (ack, batch) in channel.outstanding {
            self.send_again(batch, id, ack, reason);
        }
    }

    /// Forgets a channel that the collector, or the way to it, has lost, and tells the endpoint's
    /// health of it if that cost anything.
    pub(super) fn lose(&mut self, now: Duration, id: ChannelId, reason: ResendReason) {
        let waits = |channel: &&Channel| {
            let mut batches = channel.outstanding.values();
            // That the last process's channels are lost with its connections says nothing.
            !channel.inherited && batches.any(|batch| self.window.unsettled(*batch).is_some())
        };
        let lost = self.channels.get(&id).filter(waits);
        let lost = lost.map(|channel| (channel.endpoint, channel.born));
        self.forget(id, reason);
        let Some((id, born)) = lost else { return };
        let Some(endpoint) = self.endpoints.get_mut(id.get()) else { return };
        let (limits, chance) = (&self.config.retry, &mut self.chance);
        if !endpoint.lost_a_channel(now, born, limits, chance) {
            return;
        }
        let reason = HoldReason::new(LOSES_CHANNELS);
        if endpoint.hold_for_losses(now, reason.clone(), limits, chance) {
            self.actions.push_back(Action::Note(Note::Held { endpoint: id, reason }));
        }
    }

    pub(super) fn drop_if_done(&mut self, id: ChannelId) {
        if self.channels.get(&id).is_some_and(Channel::is_done) {
            self.channels.remove(&id);
            self.actions.push_back(Action::Close(id));
        }
    }
}
