//! From a collector's answer to what delivery does about it: one match, without a wildcard.

use crate::delivery::{HoldReason, PollOutcome, PostOutcome};
use crate::hec::ack::AckError;
use crate::hec::response::Verdict;
use crate::types::AckId;

/// What a POST's answer means.
pub(super) fn post(verdict: Verdict) -> PostOutcome {
    match verdict {
        Verdict::Accepted { ack_id, slow_down } => {
            PostOutcome::Accepted { ack: ack_id, pressed: slow_down }
        }
        // Code 27: this channel has no room for further ackIds. Another channel has.
        Verdict::Busy { retry_after, reason } if reason.code == Some(27) => {
            PostOutcome::Unreachable { after: retry_after }
        }
        Verdict::Busy { retry_after, .. } => PostOutcome::Busy { after: retry_after },
        Verdict::Doubt { retry_after, .. } => PostOutcome::Doubt { after: retry_after },
        Verdict::Endpoint { retry_after, .. } => PostOutcome::Unreachable { after: retry_after },
        Verdict::Fault { reason } => hold(&format!("the collector refuses: {reason}")),
        Verdict::Partial { bad, reason, .. } => {
            let which = bad.map_or_else(String::new, |bad| format!(" (event {bad} of the batch)"));
            hold(&format!("the collector refuses an event{which}: {reason}"))
        }
        Verdict::TooLarge { reason } => hold(&format!(
            "the collector takes no body of this size, lower destination.batch.max_bytes: {reason}"
        )),
        Verdict::Unknown { reason } => hold(&format!("the answer is no collector's: {reason}")),
    }
}

fn hold(sentence: &str) -> PostOutcome {
    PostOutcome::Fault(HoldReason::new(sentence))
}

/// What a poll's answer means.
pub(super) fn poll(answer: Result<Vec<AckId>, AckError>) -> PollOutcome {
    match answer {
        Ok(acked) => PollOutcome::Answered { acked },
        Err(AckError::Fault(reason)) => PollOutcome::Fault(HoldReason::new(&format!(
            "the collector refuses to be asked for acknowledgements: {reason}"
        ))),
        // Never an acknowledgement: whatever was true in it is lost, and sent again in time.
        Err(AckError::Refused(_) | AckError::Unreadable(_)) => PollOutcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hec::response::Verdict;
    use crate::types::UnixMicros;

    fn judged(status: u16, body: &str) -> PostOutcome {
        post(Verdict::of(status, body.as_bytes(), None, UnixMicros::default()))
    }

    #[test]
    fn only_a_collectors_2xx_is_accepted() {
        let accepted = |ack, pressed| PostOutcome::Accepted { ack, pressed };
        let ack = Some(AckId::new(3));
        assert_eq!(judged(200, r#"{"text":"Success","code":0,"ackId":3}"#), accepted(ack, false));
        assert_eq!(judged(200, r#"{"text":"Success","code":0}"#), accepted(None, false));
        assert_eq!(judged(200, r#"{"text":"…","code":24,"ackId":3}"#), accepted(ack, true));
        for (status, body) in [
            (200, "<html>log in</html>"),
            (302, ""),
            (400, r#"{"text":"Invalid data format","code":6,"invalid-event-number":0}"#),
            (401, r#"{"text":"Token is required","code":2}"#),
            (403, r#"{"text":"Invalid token","code":4}"#),
            (413, ""),
            (418, "teapot"),
        ] {
            assert!(matches!(judged(status, body), PostOutcome::Fault(_)), "{status} {body}");
        }
    }

    #[test]
    fn what_passes_is_retried() {
        let busy = r#"{"text":"Server is busy","code":9}"#;
        assert_eq!(judged(503, busy), PostOutcome::Busy { after: None });
        let full = r#"{"text":"HEC queue is at capacity","code":26}"#;
        assert_eq!(judged(429, full), PostOutcome::Busy { after: None });
        let acks = r#"{"text":"HEC ACK channel is at capacity","code":27}"#;
        assert_eq!(judged(429, acks), PostOutcome::Unreachable { after: None });
        let error = r#"{"text":"Internal server error","code":8}"#;
        assert_eq!(judged(500, error), PostOutcome::Doubt { after: None });
        let lost = r#"{"text":"The requested URL was not found on this server.","code":404}"#;
        assert_eq!(judged(404, lost), PostOutcome::Unreachable { after: None });
    }
}
