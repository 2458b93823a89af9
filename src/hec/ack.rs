//! Asking which requests are acknowledged.
//!
//! `POST` [`ACK_PATH`](super::ACK_PATH) on the channel the requests went over, with
//! `{"acks":[0,1]}`; the answer is `{"acks":{"0":true,"1":false}}` (Splunk docs: "About HTTP
//! Event Collector Indexer Acknowledgment").
//!
//! `true` is said once: after that the id is forgotten and reads `false`. `false` may mean
//! pending, already said, never given out, another channel, or a restarted indexer; only time
//! tells. So an answer that cannot be read is an error and acknowledges nothing, and its ids are
//! asked for again.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

use super::response::{Answer, Reason, Verdict};
use crate::types::AckId;

/// Why an answer to an acknowledgement query says nothing about the requests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// The query was refused; another time it may not be.
    #[error("the acknowledgement query was refused: {0}")]
    Refused(Reason),
    /// The configuration is wrong, here or there: the token, the channel, or acknowledgement
    /// itself, which is disabled (code 14).
    #[error("acknowledgements cannot be asked for: {0}")]
    Fault(Reason),
    /// A 200 that is no answer to an acknowledgement query.
    #[error("the answer to the acknowledgement query cannot be read: {0}")]
    Unreadable(Reason),
}

impl AckError {
    /// What was answered.
    #[must_use]
    pub const fn reason(&self) -> &Reason {
        match self {
            Self::Refused(reason) | Self::Fault(reason) | Self::Unreadable(reason) => reason,
        }
    }
}

/// The body of a query. Splunk takes no empty list: ask for at least one.
#[must_use]
pub fn encode(asked: &[AckId]) -> Vec<u8> {
    let mut body = Vec::with_capacity(12 + 8 * asked.len());
    body.extend_from_slice(b"{\"acks\":[");
    for (n, id) in asked.iter().enumerate() {
        if n > 0 {
            body.push(b',');
        }
        body.extend_from_slice(itoa::Buffer::new().format(id.get()).as_bytes());
    }
    body.extend_from_slice(b"]}");
    body
}

/// Which of the ids that were asked for are acknowledged, ascending. Ids in the answer that were
/// not asked for do not count.
///
/// # Errors
/// When the status is not 200, or the body is not exactly what Splunk answers.
pub fn decode(status: u16, body: &[u8], asked: &[AckId]) -> Result<Vec<AckId>, AckError> {
    if status != 200 {
        let answer = Answer::parse(status, body);
        let fault = matches!(answer.verdict(None), Verdict::Fault { .. });
        return Err(if fault { AckError::Fault } else { AckError::Refused }(answer.reason()));
    }
    let Ok(wire) = serde_json::from_slice::<Wire>(body) else {
        return Err(AckError::Unreadable(Answer::parse(status, body).reason()));
    };
    let asked: BTreeSet<AckId> = asked.iter().copied().collect();
    let mut acked: Vec<AckId> = wire.acks.0.into_iter().filter(|id| asked.contains(id)).collect();
    acked.sort_unstable();
    Ok(acked)
}

#[derive(Deserialize)]
struct Wire {
    acks: Acked,
}

/// The ids that are `true`.
struct Acked(Vec<AckId>);

impl<'de> Deserialize<'de> for Acked {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AckedVisitor)
    }
}

struct AckedVisitor;

impl<'de> Visitor<'de> for AckedVisitor {
    type Value = Acked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of ackIds")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Acked, A::Error> {
        let mut seen = BTreeSet::new();
        let mut acked = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, bool>()? {
            let id = ack_id(&key).ok_or_else(|| A::Error::custom("a key is no ackId"))?;
            if !seen.insert(id) {
                return Err(A::Error::custom("an ackId appears twice"));
            }
            if value {
                acked.push(id);
            }
        }
        Ok(Acked(acked))
    }
}

/// Reads a key: a decimal number as Splunk writes it, no sign, no leading zero.
fn ack_id(key: &str) -> Option<AckId> {
    let plain = key.bytes().all(|b| b.is_ascii_digit()) && (key == "0" || !key.starts_with('0'));
    plain.then(|| key.parse().ok().map(AckId::new)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(raw: &[u64]) -> Vec<AckId> {
        raw.iter().copied().map(AckId::new).collect()
    }

    #[test]
    fn a_query_lists_ids() {
        assert_eq!(encode(&ids(&[0, 1])), b"{\"acks\":[0,1]}");
        assert_eq!(encode(&ids(&[u64::MAX])), b"{\"acks\":[18446744073709551615]}");
    }

    #[test]
    fn only_true_and_asked_for_counts() {
        let body = br#"{"acks":{"0":true,"1":false,"2":true,"7":true}}"#;
        assert_eq!(decode(200, body, &ids(&[2, 1, 0])), Ok(ids(&[0, 2])));
        assert_eq!(decode(200, body, &ids(&[5])), Ok(vec![]));
        assert_eq!(decode(200, br#"{"acks":{}}"#, &ids(&[5])), Ok(vec![]));
    }

    #[test]
    fn what_cannot_be_read_acknowledges_nothing() {
        for body in [
            "",
            "<html>welcome to the hotel</html>",
            r#"{"text":"Success","code":0}"#,
            r#"{"acks":[0]}"#,
            r#"{"acks":{"0":1}}"#,
            r#"{"acks":{"0":"true"}}"#,
            r#"{"acks":{"0":null}}"#,
            r#"{"acks":{"00":true}}"#,
            r#"{"acks":{"+0":true}}"#,
            r#"{"acks":{"-0":true}}"#,
            r#"{"acks":{"":true}}"#,
            r#"{"acks":{"18446744073709551616":true}}"#,
            r#"{"acks":{"0":true,"0":false}}"#,
            r#"{"acks":{"0":true}"#,
            r#"{"acks":{"0":true}} trailing"#,
            r#"{"acks":{"0":true},"acks":{"0":true}}"#,
        ] {
            let decoded = decode(200, body.as_bytes(), &ids(&[0]));
            assert!(matches!(decoded, Err(AckError::Unreadable(_))), "{body}: {decoded:?}");
        }
    }

    #[test]
    fn another_status_acknowledges_nothing_whatever_the_body() {
        for status in [201, 204, 400, 404, 429, 500, 503] {
            let decoded = decode(status, br#"{"acks":{"0":true}}"#, &ids(&[0]));
            assert!(matches!(decoded, Err(AckError::Refused(_))), "{status}: {decoded:?}");
        }
        for (status, body) in [
            (302, ""),
            (401, ""),
            (400, r#"{"text":"Data channel is missing","code":10}"#),
            (400, r#"{"text":"ACK is disabled","code":14}"#),
            (403, r#"{"text":"Invalid token","code":4}"#),
        ] {
            let decoded = decode(status, body.as_bytes(), &ids(&[0]));
            assert!(matches!(decoded, Err(AckError::Fault(_))), "{status}: {decoded:?}");
        }
    }

    #[test]
    fn every_prefix_of_an_answer_is_an_error() {
        let body = br#"{"acks":{"0":true,"1":true}}"#;
        for end in 0..body.len() {
            assert!(decode(200, &body[..end], &ids(&[0, 1])).is_err(), "{end}");
        }
    }
}
