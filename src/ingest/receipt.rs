//! What is counted of a frame, when it is durable.
//!
//! By then its request may have ended: its time was up, or its sender is gone. The frame is in the
//! log all the same, its messages are delivered, and its next try is a duplicate. So it is the
//! appender that has it counted, and what has to be looked for in the frame is found before.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::access::Source;
use super::facts::Facts;
use super::gate::WithLog;
use super::loss::{self, Losses};
use super::memory::Room;
use super::metrics::Metrics;
use crate::logplex::{LossCode, Tally};
use crate::wal::Appended;

/// Where frames are counted.
#[derive(Clone, Debug)]
pub(super) struct Books {
    pub(super) metrics: Arc<Metrics>,
    pub(super) losses: Arc<Losses>,
}

/// What there is to count of a frame.
#[derive(Debug)]
pub(super) struct Receipt {
    pub(super) tally: Tally,
    claimed: Option<u32>,
    odd_headers: u32,
    /// Messages that it reports as lost.
    lost: BTreeMap<LossCode, u64>,
    /// Whose they are; empty when there are none.
    drain: String,
    /// What its drain is shown as, when that is not configured.
    stranger: Option<String>,
}

impl Receipt {
    pub(super) fn new(facts: &Facts, source: Source<'_>, body: &[u8], tally: Tally) -> Self {
        let lost = loss::reported(body, facts);
        let drain = if lost.is_empty() { String::new() } else { source.label().to_owned() };
        Self {
            tally,
            claimed: facts.messages_claimed,
            odd_headers: facts.odd_headers,
            lost,
            drain,
            stranger: source.is_stranger().then(|| loss::stranger(source.token)),
        }
    }
}

impl Books {
    /// Counts a frame that is durable. Quick: the appender does it.
    pub(super) fn count(&self, receipt: &Receipt, appended: Appended) {
        self.metrics.odd_headers.increment(u64::from(receipt.odd_headers));
        if appended.duplicate {
            self.metrics.duplicate();
            return;
        }
        self.metrics.frame(&receipt.tally, receipt.claimed);
        for (code, messages) in &receipt.lost {
            self.losses.add(&receipt.drain, *code, *messages);
        }
        if let Some(stranger) = &receipt.stranger {
            self.losses.stranger(stranger);
        }
    }
}

/// What a frame that is with the log has of ours, until the log has answered.
#[derive(Debug)]
pub(super) struct Deposit {
    pub(super) receipt: Receipt,
    _room: Room,
    _with_log: WithLog,
}

impl Deposit {
    pub(super) const fn new(receipt: Receipt, room: Room, with_log: WithLog) -> Self {
        Self { receipt, _room: room, _with_log: with_log }
    }
}
