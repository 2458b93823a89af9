//! Whether the collectors acknowledge, where the configuration leaves that to them
//! (`acknowledgement = "auto"`).
//!
//! Each endpoint is asked on a channel that is used for nothing else, and until it is known,
//! nothing is read and nothing is sent. What is chosen holds until the process ends:
//!
//! * One endpoint that acknowledges is enough for [`Acknowledgement::Required`]. Those that do not
//!   are held, as always.
//! * [`Acknowledgement::Off`] needs the word of *every* endpoint, the latest of each: one that
//!   cannot be reached may be the one that acknowledges, and a destination that started in that
//!   moment would count as delivered what may still be lost. So it waits.
//! * What is not understood is no word.

use std::time::Duration;

use super::endpoint::{Endpoint, Health};
use super::settle::NO_ACK_ID;
use super::{Acknowledgement, Action, Delivery, EndpointId, HoldReason, Note};

/// What a collector says when it is asked whether it acknowledges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// It does.
    On,
    /// It says that acknowledgement is disabled.
    Off,
    /// Neither: why that is, for people.
    Unknown(HoldReason),
}

/// Why an endpoint without acknowledgement waits.
const WAITS: &str = "indexer acknowledgement is off for this token, but that is not known of the \
     other endpoints yet: nothing is sent until each of them has said so, or one acknowledges";

impl Delivery {
    /// Whether it is not known yet what counts as delivered.
    pub(super) const fn undecided(&self) -> bool {
        matches!(self.config.acknowledgement, Acknowledgement::Auto)
    }

    /// Asks the endpoints that may be asked.
    pub(super) fn preflight(&mut self, now: Duration) {
        if !self.undecided() || self.stopping {
            return;
        }
        for (index, endpoint) in self.endpoints.iter_mut().enumerate() {
            if !endpoint.asking && endpoint.admits(now) {
                endpoint.asking = true;
                let (endpoint, channel) = (EndpointId(index), self.chance.channel());
                self.actions.push_back(Action::Preflight { endpoint, channel });
            }
        }
    }

    pub(super) fn on_preflight(&mut self, now: Duration, id: EndpointId, said: Preflight) {
        let undecided = self.undecided();
        let Some(endpoint) = self.endpoints.get_mut(id.0) else { return };
        if !std::mem::take(&mut endpoint.asking) {
            return;
        }
        endpoint.says_off = said == Preflight::Off;
        if !undecided {
            // Another endpoint was quicker.
            if said == Preflight::Off && self.config.acknowledgement == Acknowledgement::Required {
                self.hold(now, id, HoldReason::new(NO_ACK_ID));
            }
            return;
        }
        match said {
            Preflight::On => {
                self.worked(now, id);
                self.choose(now, Acknowledgement::Required);
            }
            Preflight::Off if self.endpoints.iter().all(|endpoint| endpoint.says_off) => {
                self.choose(now, Acknowledgement::Off);
            }
            // It is asked again, for an operator may enable it meanwhile.
            Preflight::Off => self.hold(now, id, HoldReason::new(WAITS)),
            Preflight::Unknown(reason) => {
                let Some(endpoint) = self.endpoints.get_mut(id.0) else { return };
                let retry = &self.config.retry;
                if endpoint.hold_shortly(now, reason.clone(), retry, &mut self.chance) {
                    self.actions.push_back(Action::Note(Note::Held { endpoint: id, reason }));
                }
            }
        }
    }

    /// From now on it is known, and things may be sent.
    fn choose(&mut self, now: Duration, mode: Acknowledgement) {
        self.config.acknowledgement = mode;
        self.actions.push_back(Action::Note(Note::Chosen(mode)));
        for id in (0..self.endpoints.len()).map(EndpointId) {
            let says_off = self.endpoints.get(id.0).is_some_and(|endpoint| endpoint.says_off);
            match (mode, says_off) {
                // A POST would find it out, and be a duplicate.
                (Acknowledgement::Required, true) => {
                    self.hold(now, id, HoldReason::new(NO_ACK_ID));
                }
                (_, true) => self.worked(now, id),
                (_, false) => {
                    if let Some(endpoint) = self.endpoints.get_mut(id.0) {
                        endpoint.may_be_tried();
                    }
                }
            }
        }
        // What the last process had in flight has waited for this, too: it is asked for, or, where
        // there is nothing to ask for, sent again.
        self.start_recall(now);
        if mode == Acknowledgement::Off {
            self.recall_until = Some(now);
        }
    }
}

impl Endpoint {
    /// It was held for a reason that does not hold any more. When it is tried stays as it was.
    fn may_be_tried(&mut self) {
        if let Health::Held { until, .. } = self.health {
            self.health = Health::Resting { until };
        }
    }
}
