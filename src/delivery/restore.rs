//! What outlives a restart beside the cursor: what became of the batches beyond it.
//!
//! A process that is killed leaves batches behind which collectors took and had not acknowledged.
//! Their acknowledgements can still be asked for, by the next process, on the channels they went
//! over. Nothing is ever posted on those, so no id on them can come to mean another batch, but
//! for one: when a collector restarts and a POST of the process that was killed reaches it then,
//! that POST gets the channel's *first* id (see `channel.rs`). Nobody has heard of that POST. So
//! a batch under the first id of its channel is not asked about, and is sent again.

use std::time::Duration;

use crate::record::{Ahead, Checkpoint, Fate};
use crate::types::{BatchId, Offset, Position};

use super::channel::Channel;
use super::refuse::{ALWAYS, GROWTH, PROVEN};
use super::window::{Batch, Settled, Stage};
use super::{Acknowledgement, Delivery, EndpointId, ResendReason};

impl Delivery {
    /// Takes in what a checkpoint knows beyond its position. [`Fate::InFlight`]'s endpoints are
    /// indexes into this destination's.
    pub(super) fn restore(&mut self, checkpoint: &Checkpoint) {
        let everywhere = Position::at(Offset::new(u64::MAX));
        // A process that is killed before each recall ends, again and again, would hand on more
        // and more until there is no room. What a window so long is about is sent again at once.
        let most = self.config.window.get().saturating_mul(GROWTH);
        let crowded = checkpoint.window.len() >= most;
        for ahead in checkpoint.known_ahead(everywhere) {
            let id = self.window.allocate();
            let stage = match ahead.fate {
                Fate::Unsent | Fate::Refused => Stage::Faded,
                Fate::Acknowledged => Stage::Settled(Settled::Acknowledged),
                Fate::DeadLettered => Stage::Settled(Settled::DeadLettered),
                Fate::Dropped => Stage::Settled(Settled::Dropped),
                Fate::InFlight { endpoint, channel, ack } => {
                    let endpoint = EndpointId(endpoint as usize);
                    let known = self.endpoints.get(endpoint.0).is_some();
                    let asks = self.config.acknowledgement != Acknowledgement::Off;
                    let entry = self
                        .channels
                        .entry(channel)
                        .or_insert_with(|| Channel::inherited(endpoint));
                    if known && asks && !crowded && entry.endpoint == endpoint {
                        entry.outstanding.insert(ack, id);
                        Stage::Unacked { channel, ack, since: Duration::ZERO }
                    } else {
                        Stage::Faded
                    }
                }
            };
            let stage = if ahead.events == 0 && ahead.fate != Fate::Dropped {
                Stage::Settled(Settled::Acknowledged)
            } else {
                stage
            };
            self.read_to(ahead.range.end, self.messages_read + ahead.messages);
            let guilty = ahead.fate == Fate::Refused;
            self.window.insert(
                id,
                Batch {
                    range: ahead.range,
                    messages: ahead.messages,
                    filtered: ahead.filtered,
                    events: ahead.events,
                    received: ahead.received,
                    stage,
                    refused: u32::from(guilty),
                    plain: false,
                    suspect: guilty.then_some(PROVEN),
                    refusal: None,
                },
            );
            if stage == Stage::Faded {
                self.enqueue(id);
            }
        }
        self.channels.retain(|_, channel| !channel.outstanding.is_empty());
    }

    /// The old channels are asked from now on, and only for a while.
    pub(super) fn start_recall(&mut self, now: Duration) {
        let mut any = false;
        for channel in self.channels.values_mut() {
            channel.hurry(now);
            any = true;
        }
        let unacked: Vec<BatchId> = self.window.iter().map(|(id, _)| id).collect();
        for id in unacked {
            if let Some(Batch { stage: Stage::Unacked { since, .. }, .. }) = self.window.get_mut(id)
            {
                *since = now;
            }
        }
        self.recall_until = any.then(|| now + self.config.recall);
    }

    /// What has not been acknowledged by now is sent again.
    pub(super) fn end_recall(&mut self, now: Duration) {
        if self.recall_until.is_none_or(|until| until > now) {
            return;
        }
        self.recall_until = None;
        let mut old = Vec::new();
        for (id, channel) in self.channels.iter_mut().filter(|(_, channel)| channel.inherited) {
            old.push((*id, std::mem::take(&mut channel.outstanding)));
        }
        for (channel, outstanding) in old {
            for (ack, batch) in outstanding {
                self.send_again(batch, channel, ack, ResendReason::Restart);
            }
            self.drop_if_done(channel);
        }
    }

    /// How many batches are unsettled, without those that wait for the last process's channels, and
    /// without events that were refused: these wait for others to be taken, which have to be read
    /// for that.
    pub(super) fn unsettled_and_not_waiting(&self) -> usize {
        let old = |channel| self.channels.get(&channel).is_some_and(|entry| entry.inherited);
        let counts = |batch: &Batch| match batch.stage {
            _ if batch.suspect.is_some() => false,
            Stage::Settled(_) => false,
            Stage::Unacked { channel, .. } => !old(channel),
            Stage::Ready
            | Stage::Faded
            | Stage::Fetching
            | Stage::Posting(_)
            | Stage::Splitting { .. }
            | Stage::Suspect { .. }
            | Stage::Burying
            | Stage::Unburied { .. } => true,
        };
        self.window.iter().filter(|(_, batch)| counts(batch)).count()
    }

    /// What the next process should know about the messages beyond the cursor.
    pub(super) fn window_to_save(&self) -> Vec<Ahead> {
        let fate = |batch: &Batch| match batch.stage {
            Stage::Settled(Settled::Acknowledged) => Fate::Acknowledged,
            Stage::Settled(Settled::DeadLettered) => Fate::DeadLettered,
            Stage::Settled(Settled::Dropped) => Fate::Dropped,
            Stage::Unacked { channel, ack, .. } => {
                let entry = self.channels.get(&channel).filter(|entry| !entry.is_first(ack));
                entry.map_or(Fate::Unsent, |entry| Fate::InFlight {
                    endpoint: u32::try_from(entry.endpoint.0).unwrap_or(u32::MAX),
                    channel,
                    ack,
                })
            }
            Stage::Burying | Stage::Unburied { .. } => Fate::Refused,
            // Refused in a body of which others were taken. What has no more against it than that
            // others were taken later is a suspect for this process only: the next may have
            // another configuration.
            Stage::Suspect { .. }
            | Stage::Ready
            | Stage::Faded
            | Stage::Fetching
            | Stage::Posting(_)
                if batch.suspect.is_some_and(|first| first <= ALWAYS) =>
            {
                Fate::Refused
            }
            Stage::Ready
            | Stage::Faded
            | Stage::Fetching
            | Stage::Posting(_)
            | Stage::Splitting { .. }
            | Stage::Suspect { .. } => Fate::Unsent,
        };
        let mut window: Vec<Ahead> = self
            .window
            .iter()
            .map(|(_, batch)| Ahead {
                range: batch.range,
                messages: batch.messages,
                filtered: batch.filtered,
                events: batch.events,
                received: batch.received,
                fate: fate(batch),
            })
            .collect();
        // What nothing is known of behind the last that something is known of is read anew.
        let known = window.iter().rposition(|ahead| ahead.fate != Fate::Unsent);
        window.truncate(known.map_or(0, |last| last + 1));
        window
    }
}
