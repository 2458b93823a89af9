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

impl Delivery {
    pub(super) fn on_posted(&mut self, now: Duration, id: LaneId, outcome: PostOutcome) {
        let Some(lane) = self.lanes.get_mut(id.get()) else { return };
        let Some(posting) = lane.posting.take() else { return };
        let Posting { batch, channel, since, .. } = posting;
        let took = now.saturating_sub(since);
        let endpoint = lane.endpoint;
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.posting = false;
        }
        if let Some(endpoint) = self.endpoints.get_mut(endpoint.get()) {
            let busy = endpoint.posting;
            endpoint.posting = busy.saturating_sub(1);
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
                self.forget(channel, ResendReason::ConnectionLost);
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
                self.took(endpoint, mark);
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
        self.took(endpoint, mark);
        let entry = self.channels.get_mut(&channel);
        if !entry.is_some_and(|entry| entry.accepted(now, ack, batch)) {
            // Splunk counts ackIds per channel, upward. One that does not rise comes from a
            // collector that has forgotten the channel (a restart, an idle reap, another indexer
            // behind a balancer), and every id outstanding on it may now mean another batch.
            self.forget(channel, ResendReason::ChannelForgotten);
            self.requeue(batch, Stage::Ready, ResendReason::ChannelForgotten);
            return;
        }
        if let Some(batch) = self.window.get_mut(batch) {
            batch.stage = Stage::Unacked { channel, ack, since: now };
            self.changed = true;
        } else if let Some(entry) = self.channels.get_mut(&channel) {
            // The log has dropped it meanwhile: there is nothing to ask about.
            entry.outstanding.remove(&ack);
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
                // Only what was asked counts, whatever the answer says.
                for ack in acked.into_iter().filter(|ack| asked.contains(ack)) {
                    self.on_acked(now, id, ack);
                }
                for ack in asked {
                    self.expire(now, id, ack, self.config.ack_timeout);
                }
            }
            PollOutcome::Failed => {
                let hurry = false;
                channel.answered(now, false, hurry, self.config.longest_poll, &mut self.chance);
                self.retire(id);
            }
            PollOutcome::Severed => self.forget(id, ResendReason::ConnectionLost),
            PollOutcome::Fault(reason) => {
                let hurry = false;
                channel.answered(now, false, hurry, self.config.longest_poll, &mut self.chance);
                // About the last process's channels: the token may have changed since.
                let inherited = channel.inherited;
                self.retire(id);
                if !inherited {
                    self.hold(now, endpoint, reason);
                }
            }
        }
        self.drop_if_done(id);
    }

    fn on_acked(&mut self, now: Duration, channel: ChannelId, ack: AckId) {
        let outstanding = self.channels.get_mut(&channel).map(|channel| &mut channel.outstanding);
        let Some(batch) = outstanding.and_then(|outstanding| outstanding.remove(&ack)) else {
            return;
        };
        let found = self.window.get(batch).map(|batch| (batch.stage, batch.range));
        if let Some((Stage::Unacked { since, .. }, range)) = found {
            let after = now.saturating_sub(since);
            self.actions.push_back(Action::Note(Note::Acknowledged { batch, range, after }));
            self.settled(batch);
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

    /// Sends a batch again if it has waited for its acknowledgement for longer than `limit`, and
    /// takes the channel out of use: nobody knows what became of its state.
    fn expire(&mut self, now: Duration, channel: ChannelId, ack: AckId, limit: Duration) {
        let Some(entry) = self.channels.get_mut(&channel) else { return };
        let Some(batch) = entry.outstanding.get(&ack).copied() else { return };
        let stage = self.window.get(batch).map(|batch| batch.stage);
        if let Some(Stage::Unacked { since, .. }) = stage
            && now.saturating_sub(since) >= limit
        {
            entry.outstanding.remove(&ack);
            self.retire(channel);
            self.requeue(batch, Stage::Faded, ResendReason::AckTimeout);
        }
    }

    /// How long a batch waits when polls are not even answered. Twice the ack timeout: a
    /// collector that is down for a while may well know the acknowledgement when it is back.
    fn lost_after(&self) -> Duration {
        self.config.ack_timeout.saturating_mul(2)
    }

    /// When the first batch would have waited for too long for a poll that never comes.
    pub(super) fn lost_at(&self) -> Option<Duration> {
        let since = |stage| match stage {
            Stage::Unacked { since, .. } => Some(since),
            Stage::Ready
            | Stage::Faded
            | Stage::Fetching
            | Stage::Posting(_)
            | Stage::Splitting { .. }
            | Stage::Suspect { .. }
            | Stage::Burying
            | Stage::Unburied { .. }
            | Stage::Settled(_) => None,
        };
        if self.undecided() {
            return None;
        }
        let oldest = self.window.iter().filter_map(|(_, batch)| since(batch.stage)).min()?;
        Some(oldest + self.lost_after())
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
            self.expire(now, channel, ack, self.lost_after());
            self.drop_if_done(channel);
        }
    }

    pub(super) fn worked(&mut self, id: EndpointId) {
        if self.endpoints.get_mut(id.get()).is_some_and(Endpoint::worked) {
            self.actions.push_back(Action::Note(Note::Resumed { endpoint: id }));
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
        let Some(batch) = self.window.get_mut(id) else { return };
        if self.stopping {
            batch.stage = Stage::Faded;
            self.actions.push_back(Action::Release(id));
        } else {
            batch.stage = stage;
            self.enqueue(id);
        }
        self.actions.push_back(Action::Note(Note::Resend { batch: id, reason }));
    }

    /// Takes a channel out of use. What is outstanding on it is still asked for: nothing else
    /// will ever be posted on it, so its ids cannot come to mean anything else.
    fn retire(&mut self, id: ChannelId) {
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
        if let Some(batch) = self.channels.get_mut(&id).and_then(Channel::doubt_first) {
            self.requeue(batch, Stage::Faded, ResendReason::Doubt);
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
        for batch in channel.outstanding.into_values() {
            self.requeue(batch, Stage::Faded, reason);
        }
    }

    pub(super) fn drop_if_done(&mut self, id: ChannelId) {
        let done = |channel: &Channel| {
            let idle = !channel.posting && !channel.polling();
            channel.lane.is_none() && channel.outstanding.is_empty() && idle
        };
        if self.channels.get(&id).is_some_and(done) {
            self.channels.remove(&id);
            self.actions.push_back(Action::Close(id));
        }
    }
}
