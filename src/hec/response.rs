//! What an answer to a POST of events means.
//!
//! The body of an answer of the collector is `{"text":"…","code":N}`, where it applies followed
//! by `"invalid-event-number":n` and `"ackId":m` (Splunk docs: "Troubleshoot HTTP Event
//! Collector", table of error codes). Load balancers and proxies answer too, in any form. So the
//! status and the code are looked at together, an unknown combination is never a delivery, and
//! the text is for people only.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::retry_after;
use crate::types::{AckId, UnixMicros};

/// The most characters of an answer's text that are kept.
const MAX_TEXT: usize = 200;

/// An answer, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The collector's code; `None` when the body is not an answer of a collector.
    pub code: Option<u32>,
    /// The collector's text, or the beginning of the body, made fit for a log: one line, no
    /// control characters, at most 200 characters.
    pub text: String,
    /// The id to ask about, when the token has acknowledgement. Can come with a 400: then it is
    /// for the events before the bad one.
    pub ack_id: Option<AckId>,
    /// The number of the event that was refused, as the answer has it.
    pub invalid_event_number: Option<u64>,
}

/// Why something did not go as it should: for people, and for telling answers apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reason {
    /// The HTTP status.
    pub status: u16,
    /// The collector's code, when the answer is a collector's.
    pub code: Option<u32>,
    /// The collector's text, or the beginning of the body; see [`Answer::text`].
    pub text: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        if let Some(code) = self.code {
            write!(f, ", code {code}")?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

/// What to do after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All events were taken. Whether that is a delivery depends on the acknowledgement.
    Accepted {
        /// The id to ask about.
        ack_id: Option<AckId>,
        /// The collector is near a limit (codes 24 and 25): send less at a time.
        slow_down: bool,
    },
    /// Nothing was taken: send the same again later.
    Busy {
        /// How long the answer asks to wait.
        retry_after: Option<Duration>,
        /// What was answered. Code 27: this channel has too many unasked acknowledgements.
        reason: Reason,
    },
    /// It cannot be known what was taken: send the same again, which may make duplicates.
    Doubt {
        /// The channel is, or will be, forgotten: ids given out on it may never be acknowledged.
        channel_lost: bool,
        /// How long the answer asks to wait.
        retry_after: Option<Duration>,
        /// What was answered.
        reason: Reason,
    },
    /// This endpoint cannot take events now, another may: Splunk answers 404 on every path of an
    /// indexer in detention.
    Endpoint {
        /// How long the answer asks to wait.
        retry_after: Option<Duration>,
        /// What was answered.
        reason: Reason,
    },
    /// The configuration is wrong, here or there: keep everything, and tell somebody.
    Fault {
        /// What was answered.
        reason: Reason,
    },
    /// One event was refused. Those before it were taken, those behind it were not looked at.
    Partial {
        /// The collector's code.
        code: u32,
        /// The index of the refused event, from 0; `None` when the answer does not say, and then
        /// it is not known what was taken.
        bad: Option<u64>,
        /// The id to ask about for the events before it.
        ack_id: Option<AckId>,
        /// What was answered.
        reason: Reason,
    },
    /// The body was too large: send halves.
    TooLarge {
        /// What was answered.
        reason: Reason,
    },
    /// No answer a collector gives. Never a delivery, and never the fault of an event.
    Unknown {
        /// What was answered.
        reason: Reason,
    },
}

impl Verdict {
    /// Judges an answer, received at `now`.
    #[must_use]
    pub fn of(status: u16, body: &[u8], retry_after: Option<&str>, now: UnixMicros) -> Self {
        let retry_after = retry_after.and_then(|value| retry_after::parse(value, now));
        Answer::parse(status, body).verdict(retry_after)
    }
}

impl Answer {
    /// Reads an answer. What is not the JSON of a collector has no code.
    #[must_use]
    pub fn parse(status: u16, body: &[u8]) -> Self {
        let wire: Wire = serde_json::from_slice(body).unwrap_or_default();
        let text = match wire.text {
            Some(text) => one_line(&text),
            None => one_line(&String::from_utf8_lossy(body.get(..4096).unwrap_or(body))),
        };
        Self {
            status,
            code: wire.code,
            text,
            ack_id: wire.ack_id.map(AckId::new),
            invalid_event_number: wire.invalid_event_number,
        }
    }

    /// Status, code and text.
    #[must_use]
    pub fn reason(&self) -> Reason {
        Reason { status: self.status, code: self.code, text: self.text.clone() }
    }

    /// Judges the answer.
    #[must_use]
    pub fn verdict(&self, retry_after: Option<Duration>) -> Verdict {
        let reason = self.reason();
        match (self.status, self.code) {
            (200..=299, code) => self.success(code, reason),
            // A redirected POST loses its body or its credentials.
            (300..=399, _) => Verdict::Fault { reason },
            // The code in the body of a 404 is 404 too.
            (404, _) => Verdict::Endpoint { retry_after, reason },
            (405 | 415, _) => Verdict::Fault { reason },
            (413, _) => Verdict::TooLarge { reason },
            // "Invalid data channel". Our GUIDs are valid, so somebody forgot this one.
            (400..=499, Some(11)) => Verdict::Doubt { channel_lost: true, retry_after, reason },
            (400, Some(code @ (5 | 6 | 7 | 12 | 13 | 15))) => {
                Verdict::Partial { code, bad: self.refused(code), ack_id: self.ack_id, reason }
            }
            // Token, channel and acknowledgement settings. 4 also comes from one indexer among
            // many that has not yet got the token; a hold that is probed covers that.
            (400..=499, Some(1..=4 | 10 | 14 | 16 | 21 | 22 | 28)) => Verdict::Fault { reason },
            (401 | 403 | 407, _) => Verdict::Fault { reason },
            (408, _) => Verdict::Doubt { channel_lost: false, retry_after, reason },
            // Who limits rates, here or on the way, counts a request before it is passed on.
            (429, _) => Verdict::Busy { retry_after, reason },
            // "Server is shutting down".
            (500..=599, Some(23)) => Verdict::Doubt { channel_lost: true, retry_after, reason },
            // "Server is busy", or unhealthy: the collector's own word that it took nothing.
            (503, Some(9 | 18..=20)) => Verdict::Busy { retry_after, reason },
            // Every other is perhaps a proxy's. One that has nobody to hand a request to says 503,
            // and so does one whose collector died with the request: Envoy tells the two apart
            // in its own log only (its flags UH and UC).
            (500..=599, _) => Verdict::Doubt { channel_lost: false, retry_after, reason },
            _ => Verdict::Unknown { reason },
        }
    }

    /// A 2xx proves nothing by itself: captive portals answer 200.
    fn success(&self, code: Option<u32>, reason: Reason) -> Verdict {
        let ack_id = self.ack_id;
        match code {
            Some(0) => Verdict::Accepted { ack_id, slow_down: false },
            // "HEC queue" and "HEC ACK is approaching its capacity limit": taken all the same. To
            // send these again would duplicate them into a server that is already full.
            Some(24 | 25) => Verdict::Accepted { ack_id, slow_down: true },
            // A code from after this was written. With an id to ask about there is no risk in
            // believing it, and sending the same again and again would be one.
            Some(29..) if ack_id.is_some() => Verdict::Accepted { ack_id, slow_down: true },
            _ => Verdict::Unknown { reason },
        }
    }

    /// The index of the refused event. For code 7, "Incorrect index", Splunk counts one too many.
    fn refused(&self, code: u32) -> Option<u64> {
        let number = self.invalid_event_number?;
        if code == 7 { number.checked_sub(1) } else { Some(number) }
    }
}

/// The body of an answer. Other keys are of no interest; a key of another type means that this
/// is no answer of a collector.
#[derive(Default, Deserialize)]
struct Wire {
    text: Option<String>,
    code: Option<u32>,
    #[serde(rename = "invalid-event-number")]
    invalid_event_number: Option<u64>,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

/// One line of at most [`MAX_TEXT`] characters, without control characters.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace());
    // Every word has at least one character, so that many are enough.
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).take(MAX_TEXT).collect();
    let line: String = words.join(" ").chars().take(MAX_TEXT).collect();
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests;
