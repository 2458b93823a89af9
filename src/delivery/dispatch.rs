//! What goes out: which batch on which lane, which body is made again, which channel is asked.

use std::time::Duration;

use crate::types::{BatchId, Position};

use super::channel::Channel;
use super::endpoint::Endpoint;
use super::machine::{Delivery, Posting};
use super::window::Stage;
use super::{Action, EndpointId, LaneId};

impl Delivery {
    /// Deals the waiting batches out to the lanes that may send.
    pub(super) fn send(&mut self, now: Duration) {
        if !self.sends() {
            return;
        }
        for id in self.queued(Stage::Ready) {
            let suspect = self.window.get(id).and_then(|batch| batch.suspect);
            let Some(lane) = self.free_lane(now, suspect) else { return };
            self.post(now, lane, id);
        }
    }

    /// The batches in the queue that are at a stage, in the order of the queue.
    fn queued(&self, stage: Stage) -> Vec<BatchId> {
        let ids = self.queue.iter().map(|(_, _, id)| *id);
        ids.filter(|id| self.stage_is(*id, stage)).collect()
    }

    fn stage_is(&self, id: BatchId, stage: Stage) -> bool {
        self.window.get(id).is_some_and(|batch| batch.stage == stage)
    }

    /// The next lane in turn whose endpoint takes a POST. An event that was refused is best tried
    /// where others have been taken since: there a refusal is proof.
    fn free_lane(&mut self, now: Duration, suspect: Option<u64>) -> Option<LaneId> {
        let count = self.lanes.len();
        let free = |index: usize| {
            let Some(lane) = self.lanes.get(index) else { return false };
            let channel = lane.channel.and_then(|id| self.channels.get(&id));
            // The first lanes of an endpoint are used, so that there are no more channels than
            // lanes in use.
            let first = |e: &Endpoint| index / self.endpoints.len() < e.lanes.get();
            let allowed = |e: &Endpoint| first(e) || self.first_lanes_hang(lane.endpoint, e);
            lane.posting.is_none()
                && self.endpoints.get(lane.endpoint.0).is_some_and(|e| e.admits(now) && allowed(e))
                && channel.is_none_or(|channel| !channel.wants_quiet(now))
        };
        let proves = |index: usize| {
            let lane = self.lanes.get(index);
            let endpoint = lane.and_then(|lane| self.endpoints.get(lane.endpoint.0));
            endpoint.zip(suspect).is_none_or(|(endpoint, first)| endpoint.took_at >= first)
        };
        let in_turn = || (0..count).map(|step| (self.next_lane + step) % count);
        let best = in_turn().find(|index| free(*index) && proves(*index));
        let index = best.or_else(|| in_turn().find(|index| free(*index)))?;
        self.next_lane = (index + 1) % count;
        Some(LaneId(index))
    }

    /// Whether all lanes that an endpoint may use have POSTs that left before its last rest or hold
    /// began. Then one more may be used: they tell nothing, and may do so until their time is up.
    fn first_lanes_hang(&self, id: EndpointId, endpoint: &Endpoint) -> bool {
        let may = endpoint.lanes.get();
        let count = self.endpoints.len();
        let mut first = self.lanes.iter().skip(id.0).step_by(count).take(may);
        !endpoint.is_tried() && endpoint.posting >= may && first.all(|lane| lane.posting.is_some())
    }

    /// Takes a lane's channel out of use that has been idle for long.
    fn leave_idle(&mut self, now: Duration, id: LaneId) {
        let Some(channel) = self.lanes.get(id.0).and_then(|lane| lane.channel) else { return };
        let limit = self.config.ack_timeout;
        if self.channels.get(&channel).is_some_and(|channel| channel.is_idle(now, limit)) {
            self.retire(channel);
        }
    }

    fn post(&mut self, now: Duration, id: LaneId, batch: BatchId) {
        self.leave_idle(now, id);
        let Some(lane) = self.lanes.get_mut(id.0) else { return };
        let endpoint = lane.endpoint;
        let channel = *lane.channel.get_or_insert_with(|| {
            let fresh = self.chance.channel();
            self.channels.insert(fresh, Channel::new(endpoint, id, now));
            fresh
        });
        let took_at = self.endpoints.get(endpoint.0).map_or(0, |endpoint| endpoint.took_at);
        let suspect = self.window.get(batch).and_then(|batch| batch.suspect);
        let proof = suspect.is_some_and(|first| took_at >= first);
        let rests = self.endpoints.get_mut(endpoint.0).map_or(0, Endpoint::left);
        lane.posting = Some(Posting { batch, channel, since: now, mark: self.marks, proof, rests });
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.posting = true;
        }
        self.dequeue(batch);
        if let Some(batch) = self.window.get_mut(batch) {
            batch.stage = Stage::Posting(id);
        }
        self.actions.push_back(Action::Send { lane: id, endpoint, channel, batch });
    }

    /// How many bodies may be in the sink's hands besides those in POSTs.
    pub(super) fn bodies_allowed(&self) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.lanes.get()).sum()
    }

    pub(super) fn bodies_waiting(&self) -> usize {
        let in_hand = |(_, _, id): &&(u32, Position, BatchId)| {
            let stage = self.window.get(*id).map(|batch| batch.stage);
            matches!(stage, Some(Stage::Ready | Stage::Fetching))
        };
        self.queue.iter().filter(in_hand).count()
    }

    /// Reads bodies again for batches that have to be sent again, those to be sent first first.
    pub(super) fn fetch(&mut self) {
        if !self.sends() {
            return;
        }
        let reading = usize::from(self.reading.is_some());
        let room = self.bodies_allowed().saturating_sub(self.bodies_waiting() + reading);
        for id in self.queued(Stage::Faded).into_iter().take(room) {
            if let Some(batch) = self.window.get_mut(id) {
                batch.stage = Stage::Fetching;
                let (range, plain) = (batch.range, batch.plain);
                self.actions.push_back(Action::Encode { batch: id, range, plain });
            }
        }
    }

    pub(super) fn ask(&mut self, now: Duration) {
        if self.undecided() {
            return;
        }
        for (id, channel) in &mut self.channels {
            if channel.poll_due().is_some_and(|due| due <= now) {
                let ids = channel.ask(now);
                let (endpoint, channel) = (channel.endpoint, *id);
                self.actions.push_back(Action::Poll { endpoint, channel, ids });
            }
        }
    }
}
