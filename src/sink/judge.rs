//! From a collector's answer to what delivery does about it: one match, without a wildcard.

use std::fmt::Display;

use crate::delivery::{HoldReason, PollOutcome, PostOutcome, Preflight};
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
        // Code 11: our GUIDs are valid, but if a fresh one is no better, it is somebody's fault.
        Verdict::Doubt { reason, .. } if reason.code == Some(11) => {
            strange(&format!("the collector refuses every channel: {reason}"))
        }
        Verdict::Doubt { retry_after, .. } => PostOutcome::Doubt { after: retry_after },
        Verdict::Endpoint { retry_after, reason } => PostOutcome::Missing {
            after: retry_after,
            reason: HoldReason::new(&format!(
                "no endpoint has ever been anything but not found, the URL is wrong: {reason}"
            )),
        },
        Verdict::Fault { reason } => hold(&format!("the collector refuses: {reason}")),
        Verdict::Partial { bad, ack_id, reason, .. } => {
            PostOutcome::Refused { bad, ack: ack_id, reason }
        }
        Verdict::TooLarge { reason } => PostOutcome::TooLarge { reason },
        Verdict::Unknown { reason } => strange(&format!("the answer is no collector's: {reason}")),
    }
}

fn strange(sentence: &str) -> PostOutcome {
    PostOutcome::Strange(HoldReason::new(sentence))
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

/// What the answer to the question means whether a collector acknowledges at all.
pub(super) fn preflight(status: u16, answer: &Result<Vec<AckId>, AckError>) -> Preflight {
    match answer {
        Ok(_) => Preflight::On,
        Err(_) if said(status, answer) == Some(false) => Preflight::Off,
        Err(error) => unknown(error.reason()),
    }
}

/// Whether it acknowledges, if it says so. Only Splunk's own words count as a no: 400 with code 14
/// (Splunk docs: "ACK is disabled").
pub(super) fn said(status: u16, answer: &Result<Vec<AckId>, AckError>) -> Option<bool> {
    match answer {
        Ok(_) => Some(true),
        Err(error) => (status == 400 && error.reason().code == Some(14)).then_some(false),
    }
}

/// It is not known whether the collector acknowledges.
pub(super) fn unknown(why: &dyn Display) -> Preflight {
    Preflight::Unknown(HoldReason::new(&format!(
        "not known whether the collector acknowledges (acknowledgement = \"auto\"), so nothing is \
         sent: {why}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hec::response::Verdict;
    use crate::types::UnixMicros;

    fn judged(status: u16, body: &str) -> PostOutcome {
        post(Verdict::of(status, body.as_bytes(), None, UnixMicros::default()))
    }

    /// What an outcome is, without what it carries.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Kind {
        Accepted,
        AcceptedPressed,
        Busy,
        Unreachable,
        Missing,
        Doubt,
        Refused(Option<u64>),
        TooLarge,
        Held,
        Strange,
    }

    fn kind(outcome: &PostOutcome) -> Kind {
        match outcome {
            PostOutcome::Accepted { pressed: false, .. } => Kind::Accepted,
            PostOutcome::Accepted { pressed: true, .. } => Kind::AcceptedPressed,
            PostOutcome::Busy { .. } => Kind::Busy,
            PostOutcome::Unreachable { .. } => Kind::Unreachable,
            PostOutcome::Missing { .. } => Kind::Missing,
            PostOutcome::Doubt { .. } => Kind::Doubt,
            // No answer says so.
            PostOutcome::Severed { .. } => Kind::Unreachable,
            PostOutcome::Refused { bad, .. } => Kind::Refused(*bad),
            PostOutcome::TooLarge { .. } => Kind::TooLarge,
            PostOutcome::Fault(_) => Kind::Held,
            PostOutcome::Strange(_) => Kind::Strange,
        }
    }

    /// One row for every code Splunk documents and every status that means something, with what
    /// delivery does about it. What the machine makes of each kind is tested in `delivery`.
    #[test]
    fn every_answer_has_its_consequence() {
        use Kind::*;
        let number = r#","invalid-event-number":2"#;
        for (status, code, more, expected) in [
            (200, Some(0), r#","ackId":3"#, Accepted),
            (200, Some(0), "", Accepted),
            (403, Some(1), "", Held),
            (401, Some(2), "", Held),
            (401, Some(3), "", Held),
            (403, Some(4), "", Held),
            (400, Some(5), "", Refused(None)),
            (400, Some(6), number, Refused(Some(2))),
            // A body that does not decode: bad gzip.
            (400, Some(6), "", Refused(None)),
            // Splunk counts one too many here.
            (400, Some(7), number, Refused(Some(1))),
            (500, Some(8), "", Doubt),
            (503, Some(9), "", Busy),
            (400, Some(10), "", Held),
            (400, Some(11), "", Strange),
            (400, Some(12), number, Refused(Some(2))),
            (400, Some(13), number, Refused(Some(2))),
            (400, Some(14), "", Held),
            (400, Some(15), number, Refused(Some(2))),
            (400, Some(16), "", Held),
            (200, Some(17), "", Strange),
            (503, Some(18), "", Busy),
            (503, Some(19), "", Busy),
            (503, Some(20), "", Busy),
            (400, Some(21), "", Held),
            (400, Some(22), "", Held),
            // "Shutting down": the channel goes with the process.
            (503, Some(23), "", Doubt),
            (200, Some(24), r#","ackId":3"#, AcceptedPressed),
            (200, Some(25), r#","ackId":3"#, AcceptedPressed),
            (429, Some(26), "", Busy),
            // The channel is full, another is not: it is retired.
            (429, Some(27), "", Unreachable),
            (400, Some(28), "", Held),
            // Health has been seen to say this of an invalid token.
            (400, Some(400), "", Strange),
            (404, Some(404), "", Missing),
            (405, Some(404), "", Held),
            (200, None, "", Strange),
            (204, None, "", Strange),
            (301, None, "", Held),
            (302, None, "", Held),
            (303, None, "", Held),
            (307, None, "", Held),
            (308, None, "", Held),
            (400, None, "", Strange),
            (401, None, "", Held),
            (403, None, "", Held),
            (404, None, "", Missing),
            (405, None, "", Held),
            (407, None, "", Held),
            (408, None, "", Doubt),
            (413, None, "", TooLarge),
            (415, None, "", Held),
            (418, None, "", Strange),
            (429, None, "", Busy),
            (500, None, "", Doubt),
            (502, None, "", Doubt),
            // A balancer without a target, or one that lost it with the request.
            (503, None, "", Doubt),
            (503, Some(503), "", Doubt),
            (504, None, "", Doubt),
        ] {
            let body = match code {
                Some(code) => format!(r#"{{"text":"?","code":{code}{more}}}"#),
                None => "<html><h1>Gateway</h1></html>".to_owned(),
            };
            assert_eq!(kind(&judged(status, &body)), expected, "{status} {body}");
        }
    }

    /// Only what Splunk says of it in its own words is a word for or against acknowledgement.
    #[test]
    fn whether_a_collector_acknowledges_is_not_guessed() {
        use crate::hec::ack::decode;
        let said = |status, body: &str| {
            let asked = [AckId::new(0)];
            match preflight(status, &decode(status, body.as_bytes(), &asked)) {
                Preflight::On => "on".to_owned(),
                Preflight::Off => "off".to_owned(),
                Preflight::Unknown(reason) => reason.to_string(),
            }
        };
        assert_eq!(said(200, r#"{"acks":{"0":false}}"#), "on");
        assert_eq!(said(200, r#"{"acks":{"0":true}}"#), "on");
        assert_eq!(said(400, r#"{"text":"ACK is disabled","code":14}"#), "off");
        for (status, body) in [
            (200, "{}"),
            (200, "<html>log in</html>"),
            (200, r#"{"text":"ACK is disabled","code":14}"#),
            (204, ""),
            (302, ""),
            (400, r#"{"text":"Data channel is missing","code":10}"#),
            (400, "<html>"),
            (401, r#"{"text":"Token is required","code":2}"#),
            (403, r#"{"text":"Invalid token","code":4}"#),
            (403, r#"{"text":"ACK is disabled","code":14}"#),
            (404, r#"{"text":"The requested URL was not found on this server.","code":404}"#),
            (500, r#"{"text":"Internal server error","code":8}"#),
            (503, r#"{"text":"ACK is disabled","code":14}"#),
            (503, r#"{"text":"Server is busy","code":9}"#),
        ] {
            let said = said(status, body);
            assert!(said.contains(&format!("nothing is sent: HTTP {status}")), "{body}: {said}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_ack_id_and_its_words() {
        let body = r#"{"text":"Invalid data format","code":6,"invalid-event-number":2,"ackId":7}"#;
        let PostOutcome::Refused { bad, ack, reason } = judged(400, body) else { panic!("{body}") };
        assert_eq!((bad, ack), (Some(2), Some(AckId::new(7))));
        assert_eq!(reason.to_string(), "HTTP 400, code 6: Invalid data format");
    }

    #[test]
    fn retry_after_reaches_delivery_as_seconds_and_as_a_date() {
        let after = Some(std::time::Duration::from_secs(7));
        for header in ["7", "Thu, 01 Jan 1970 00:00:07 GMT"] {
            let verdict = Verdict::of(429, b"", Some(header), UnixMicros::default());
            assert_eq!(post(verdict), PostOutcome::Busy { after }, "{header}");
            let verdict = Verdict::of(503, b"", Some(header), UnixMicros::default());
            assert_eq!(post(verdict), PostOutcome::Doubt { after }, "{header}");
        }
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
            let outcome = judged(status, body);
            assert!(!matches!(outcome, PostOutcome::Accepted { .. }), "{status} {body}");
        }
    }
}
