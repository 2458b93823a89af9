//! What must hold of every answer of a collector: for the fuzzer (`tests/fuzz`), and for the
//! tests, which replay its corpus.
//!
//! The body is read a second time by other code, as a [`Value`], to see that nothing was taken
//! for a promise that is not there.

use serde_json::Value;

use super::ack;
use super::response::{Answer, Verdict};
use crate::types::{AckId, UnixMicros};

/// Two bytes for the status, one for how many of the next bytes are `Retry-After`, the body.
pub fn answers(data: &[u8]) {
    let Some((&[high, low, after], data)) = data.split_first_chunk::<3>() else { return };
    let status = u16::from_be_bytes([high, low]) % 1000;
    let (after, body) = data.split_at_checked(usize::from(after % 32)).unwrap_or((&[], data));
    response(status, after, body);
    acknowledgements(status, body);
    // The same body where its content counts.
    response(200, after, body);
    response(400, after, body);
    acknowledgements(200, body);
}

fn response(status: u16, after: &[u8], body: &[u8]) {
    let now = UnixMicros::new(1_767_323_045_000_000);
    let answer = Answer::parse(status, body);
    assert!(answer.text.chars().count() <= 200 && !answer.text.contains(char::is_control));
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let number = |key: &str| value.as_ref().and_then(|value| value.get(key)?.as_u64());
    let after = std::str::from_utf8(after).ok();
    match Verdict::of(status, body, after, now) {
        Verdict::Accepted { ack_id, .. } => {
            assert!((200..300).contains(&status), "{status} is no success");
            if value.is_some() {
                let known = matches!(number("code"), Some(0 | 24 | 25));
                let later = ack_id.is_some() && number("code").is_some_and(|code| code >= 29);
                assert!(known || later, "taken for a success: {value:?}");
                assert_eq!(ack_id.map(AckId::get), number("ackId"));
            }
        }
        Verdict::Busy { retry_after, .. }
        | Verdict::Doubt { retry_after, .. }
        | Verdict::Endpoint { retry_after, .. } => {
            assert!(status >= 400);
            assert!(after.is_some() || retry_after.is_none(), "a wait that nobody asked for");
        }
        Verdict::Partial { code, ack_id, .. } => {
            assert_eq!(status, 400);
            assert!(matches!(code, 5 | 6 | 7 | 12 | 13 | 15));
            if value.is_some() {
                assert_eq!(number("code"), Some(u64::from(code)));
                assert_eq!(ack_id.map(AckId::get), number("ackId"));
            }
        }
        Verdict::Fault { reason } | Verdict::TooLarge { reason } | Verdict::Unknown { reason } => {
            assert_eq!(reason.status, status);
        }
    }
}

fn acknowledgements(status: u16, body: &[u8]) {
    let asked: Vec<AckId> = (0..8).chain([u64::MAX]).map(AckId::new).collect();
    let Ok(acked) = ack::decode(status, body, &asked) else { return };
    assert_eq!(status, 200);
    assert!(acked.is_sorted_by(|a, b| a < b), "ascending, each once");
    assert!(acked.iter().all(|id| asked.contains(id)), "only what was asked");
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        let acks = value.get("acks");
        let answer = |id: &AckId| acks.and_then(|acks| acks.get(id.get().to_string()));
        let said = |id: &AckId| answer(id) == Some(&Value::Bool(true));
        let promised: Vec<AckId> = asked.iter().copied().filter(said).collect();
        assert_eq!(acked, promised, "what says true, and nothing else");
    }
    if !acked.is_empty() {
        let query: Value = serde_json::from_slice(&ack::encode(&acked)).unwrap_or_default();
        let ids: Vec<u64> = acked.iter().map(|id| id.get()).collect();
        assert_eq!(query.get("acks"), Some(&Value::from(ids)));
    }
}

#[cfg(test)]
mod tests {
    use crate::types::corpus;

    #[test]
    fn the_corpus_of_answers_holds() {
        for (name, data) in corpus("answers") {
            println!("{name}");
            super::answers(&data);
        }
    }
}
