//! What senders say about frames and drains that an operator should see: messages that were lost
//! before they came here, and drains that nobody has configured.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use memchr::memmem;
use metrics::{Counter, counter};

use super::access::UNKNOWN;
use super::facts::Facts;
use crate::logplex::{LossCode, loss, parse, pieces};

/// The most drains that are told apart, and the most strangers that are shown.
const MOST: usize = 10_000;
const MOST_STRANGERS: usize = 100;

/// Messages that a sender says it has lost, since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamLoss {
    /// The name of the drain; `unknown` for those that are not configured.
    pub drain: String,
    /// Heroku's code for it: `L10`, `L12` or `L13`.
    pub code: &'static str,
    /// How many.
    pub messages: u64,
}

/// A drain that sends and is not configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The first 8 characters of its token, as events have them; `-` for those that have none.
    pub token: String,
    /// The frames it has sent, since the start.
    pub frames: u64,
}

/// The messages that a frame reports as lost. One search through the body, for nearly every frame
/// in vain.
///
/// log-shuttle says it twice, in a header and in a message (log-shuttle source,
/// logplex_formatter.go): the larger number counts.
pub(super) fn reported(body: &[u8], facts: &Facts) -> BTreeMap<LossCode, u64> {
    let mut lost = BTreeMap::new();
    if memmem::find(body, b"Error L1").is_some() {
        for found in pieces(body).filter_map(|p| loss(&parse(p.bytes, facts.profile))) {
            let sum: &mut u64 = lost.entry(found.code).or_default();
            *sum = sum.saturating_add(found.messages);
        }
    }
    for (code, said) in [(LossCode::L12, facts.dropped), (LossCode::L13, facts.lost)] {
        if said > 0 {
            let sum = lost.entry(code).or_default();
            *sum = said.max(*sum);
        }
    }
    lost.retain(|_, messages| *messages > 0);
    lost
}

/// What a drain that is not configured is shown as.
pub(super) fn stranger(token: Option<&str>) -> String {
    let token = token.map_or("-", |token| token.strip_prefix("d.").unwrap_or(token));
    token.chars().take(8).collect()
}

/// The books of both.
#[derive(Debug)]
pub(super) struct Losses {
    lost: Mutex<BTreeMap<(String, LossCode), u64>>,
    strangers: Mutex<BTreeMap<String, u64>>,
    frames_of_strangers: Counter,
}

impl Losses {
    /// Registers its metrics with the recorder that is installed now.
    pub(super) fn new() -> Self {
        Self {
            lost: Mutex::default(),
            strangers: Mutex::default(),
            frames_of_strangers: counter!("forebay_unknown_drain_frames_total"),
        }
    }

    /// Counts messages that a drain has lost.
    pub(super) fn add(&self, drain: &str, code: LossCode, messages: u64) {
        // Nothing can panic while this is locked.
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (drain.to_owned(), code);
        // Names come from the configuration; a great many of them only from many reloads.
        let full = lost.len() >= MOST && !lost.contains_key(&key);
        let drain = if full { UNKNOWN } else { drain };
        let sum = lost.entry((drain.to_owned(), code)).or_default();
        *sum = sum.saturating_add(messages);
        counter!(
            "forebay_upstream_loss_messages_total",
            "code" => code.as_str(),
            "drain" => drain.to_owned(),
        )
        .increment(messages);
    }

    /// Counts a frame of a drain that is not configured, by what [`stranger`] calls it.
    pub(super) fn stranger(&self, token: &str) {
        self.frames_of_strangers.increment(1);
        {
            let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(frames) = strangers.get_mut(token) {
                *frames = frames.saturating_add(1);
                return;
            }
            if strangers.len() >= MOST_STRANGERS {
                return;
            }
            strangers.insert(token.to_owned(), 1);
        }
        tracing::warn!(drain = token, "frames of a drain that is not configured");
    }

    pub(super) fn lost(&self) -> Vec<UpstreamLoss> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.iter()
            .map(|((drain, code), messages)| UpstreamLoss {
                drain: drain.clone(),
                code: code.as_str(),
                messages: *messages,
            })
            .collect()
    }

    pub(super) fn strangers(&self) -> Vec<Stranger> {
        let strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers
            .iter()
            .map(|(token, frames)| Stranger { token: token.clone(), frames: *frames })
            .collect()
    }
}
