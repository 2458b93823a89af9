//! What the head of a request says about its frame.

use std::net::IpAddr;

use bytes::Bytes;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};

use super::access::Source;
use super::response::Refusal;
use crate::logplex::Profile;
use crate::types::UnixMicros;
use crate::wal::NewFrame;

const FRAME_ID: HeaderName = HeaderName::from_static("logplex-frame-id");
const DRAIN_TOKEN: HeaderName = HeaderName::from_static("logplex-drain-token");
const MESSAGE_COUNT: HeaderName = HeaderName::from_static("logplex-msg-count");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const DROP_COUNT: HeaderName = HeaderName::from_static("logplex-drop-count");
const LOST_COUNT: HeaderName = HeaderName::from_static("logplex-lost-count");

/// The longest frame id, drain token or request id that is kept.
const MAX_IDENTIFIER: usize = 128;

/// How a body is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Not at all.
    Identity,
    /// gzip, as log-shuttle can.
    Gzip,
}

/// What there is to know about a frame before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) profile: Profile,
    pub(super) drain_token: Option<String>,
    pub(super) frame_id: Option<String>,
    pub(super) dedupe_scope: String,
    pub(super) messages_claimed: Option<u32>,
    /// Messages that log-shuttle says it has dropped (L12), and could not deliver (L13).
    pub(super) dropped: u64,
    pub(super) lost: u64,
    /// Headers that were there and could not be used.
    pub(super) odd_headers: u32,
    pub(super) received: UnixMicros,
    pub(super) peer: IpAddr,
    pub(super) query: String,
}

/// What ingest knows of a frame beside its head.
#[derive(Clone, Debug)]
pub(super) struct Given<'a> {
    /// Who sends, when there are users.
    pub(super) user: Option<&'a str>,
    /// Where the frame belongs.
    pub(super) source: Source<'a>,
    /// What its sender is treated as.
    pub(super) profile: Profile,
    /// What is kept of the query.
    pub(super) query: String,
    pub(super) peer: IpAddr,
    pub(super) received: UnixMicros,
}

impl Facts {
    /// Reads a head. Nothing in it is a reason to refuse: a header that is not what it should be
    /// counts as absent.
    pub(super) fn new(headers: &HeaderMap, given: Given<'_>) -> Self {
        let Given { user, source, profile, query, peer, received } = given;
        let mut odd_headers = 0_u32;
        let mut identifier = |name: &HeaderName| {
            let value = headers.get(name)?;
            let good = as_identifier(value);
            odd_headers = odd_headers.saturating_add(u32::from(good.is_none()));
            good.map(str::to_owned)
        };
        // Only for its oddness: the token itself was read when the drain was looked up.
        identifier(&DRAIN_TOKEN);
        let drain_token = source.token.map(str::to_owned);
        let (frame_id, dedupe_scope) = match profile {
            Profile::Logplex => (identifier(&FRAME_ID), drain_token.clone().unwrap_or_default()),
            // The id of a batch, the same at every try (log-shuttle source, http_outlet.go).
            Profile::Shuttle => (identifier(&REQUEST_ID), user.unwrap_or_default().to_owned()),
            Profile::Other => (None, String::new()),
        };
        let mut count = |name: &HeaderName| {
            let value = headers.get(name)?;
            let good = as_count(value);
            odd_headers = odd_headers.saturating_add(u32::from(good.is_none()));
            good
        };
        let messages_claimed = count(&MESSAGE_COUNT);
        let dropped = count(&DROP_COUNT).map_or(0, u64::from);
        let lost = count(&LOST_COUNT).map_or(0, u64::from);
        Self {
            profile,
            drain_token,
            frame_id,
            dedupe_scope,
            messages_claimed,
            dropped,
            lost,
            odd_headers,
            received,
            peer,
            query,
        }
    }

    /// The frame with its body.
    pub(super) fn frame(&self, body: Bytes, messages: u32) -> NewFrame {
        NewFrame {
            drain_token: self.drain_token.clone(),
            frame_id: self.frame_id.clone(),
            dedupe_scope: self.dedupe_scope.clone(),
            messages_claimed: self.messages_claimed,
            messages,
            received: self.received,
            peer: self.peer,
            query: self.query.clone(),
            profile: self.profile,
            body,
        }
    }
}

/// The drain token of a head, if it has one that can be used.
pub(super) fn drain_token(headers: &HeaderMap) -> Option<&str> {
    headers.get(&DRAIN_TOKEN).and_then(as_identifier)
}

/// What a head calls its request, when it does and when that can be used.
pub(super) fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let usable = |name: &HeaderName| headers.get(name).filter(|it| as_identifier(it).is_some());
    usable(&FRAME_ID).or_else(|| usable(&REQUEST_ID))
}

/// Who sends: told from what only that sender writes.
pub(super) fn profile(headers: &HeaderMap) -> Profile {
    if headers.contains_key(&FRAME_ID) || headers.contains_key(&DRAIN_TOKEN) {
        return Profile::Logplex;
    }
    match headers.get(USER_AGENT) {
        Some(agent) if agent.as_bytes().starts_with(b"log-shuttle/") => Profile::Shuttle,
        _ => Profile::Other,
    }
}

/// How the body is coded.
pub(super) fn coding(headers: &HeaderMap) -> Result<Coding, Refusal> {
    let mut all = headers.get_all(CONTENT_ENCODING).iter();
    let (first, second) = (all.next(), all.next());
    let coding = first.map(|value| value.as_bytes().trim_ascii().to_ascii_lowercase());
    match (coding.as_deref(), second) {
        (None | Some(b"" | b"identity"), None) => Ok(Coding::Identity),
        (Some(b"gzip" | b"x-gzip"), None) => Ok(Coding::Gzip),
        _ => Err(Refusal::ContentEncoding),
    }
}

/// Whether a body can be logs, by its content type.
///
/// Heroku writes `application/logplex-1`, log-shuttle too, an older Logplex
/// `application/x-logplex-1`, curl `application/x-www-form-urlencoded`, others nothing at all.
/// When in doubt it can: a 415 loses the frame. What cannot is what nobody would send as logs
/// but by mistake.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    const NEVER: [&[u8]; 6] = [b"multipart", b"image", b"audio", b"video", b"font", b"model"];
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let mut parts = value.as_bytes().trim_ascii_start().split(|byte| *byte == b'/');
    let kind = parts.next().unwrap_or_default();
    if NEVER.iter().any(|never| never.eq_ignore_ascii_case(kind)) {
        return Err(Refusal::ContentType);
    }
    Ok(())
}

/// 1 to 128 visible ASCII characters: opaque to us, and safe in a key and in a log line.
fn as_identifier(value: &HeaderValue) -> Option<&str> {
    let bytes = value.as_bytes();
    let fits = (1..=MAX_IDENTIFIER).contains(&bytes.len());
    let visible = bytes.iter().all(u8::is_ascii_graphic);
    (fits && visible).then(|| value.to_str().ok()).flatten()
}

/// A decimal number.
fn as_count(value: &HeaderValue) -> Option<u32> {
    let text = value.to_str().ok()?.trim_ascii();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hyper::Request;
    use hyper::http::request;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn head(uri: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut builder = Request::builder().method("POST").uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn facts_as(headers: &[(&str, &str)], given: Option<Profile>) -> Facts {
        let head = head("/logs?app=x&y", headers);
        let headers = &head.headers;
        let given = Given {
            user: Some("user"),
            source: Source::of(drain_token(headers)),
            profile: given.unwrap_or_else(|| profile(headers)),
            query: "app=x".to_owned(),
            peer: PEER,
            received: UnixMicros::new(7),
        };
        Facts::new(headers, given)
    }

    fn facts(headers: &[(&str, &str)]) -> Facts {
        facts_as(headers, None)
    }

    #[test]
    fn a_logplex_frame_is_known_by_its_id_and_its_drain() {
        let facts = facts(&[
            ("Logplex-Msg-Count", "2"),
            ("Logplex-Frame-Id", "09C557EAFCFB6CF2740EE62F62971098"),
            ("Logplex-Drain-Token", "d.fc6b856b-3332-4546-93de-7d0ee272c3bd"),
            ("User-Agent", "Logplex/v73"),
            ("X-Request-Id", "from a router"),
        ]);
        let expected = Facts {
            profile: Profile::Logplex,
            drain_token: Some("d.fc6b856b-3332-4546-93de-7d0ee272c3bd".to_owned()),
            frame_id: Some("09C557EAFCFB6CF2740EE62F62971098".to_owned()),
            dedupe_scope: "d.fc6b856b-3332-4546-93de-7d0ee272c3bd".to_owned(),
            messages_claimed: Some(2),
            dropped: 0,
            lost: 0,
            odd_headers: 0,
            received: UnixMicros::new(7),
            peer: PEER,
            query: "app=x".to_owned(),
        };
        assert_eq!(facts, expected);
    }

    #[test]
    fn a_shuttle_batch_is_known_by_its_request_id_and_its_user() {
        let agent = ("User-Agent", "log-shuttle/0.22.1 (go1.22; linux; amd64; gc)");
        let shuttle = facts(&[agent, ("X-Request-Id", "uuid"), ("Logplex-Msg-Count", "500")]);
        assert_eq!(shuttle.profile, Profile::Shuttle);
        assert_eq!(shuttle.frame_id.as_deref(), Some("uuid"));
        assert_eq!((shuttle.dedupe_scope.as_str(), shuttle.drain_token), ("user", None));
        // Behind Logplex it is Logplex's frame.
        let relayed = facts(&[agent, ("Logplex-Drain-Token", "d.x"), ("X-Request-Id", "uuid")]);
        assert_eq!((relayed.profile, relayed.frame_id), (Profile::Logplex, None));
    }

    /// A drain can be told what it is: then that decides which id is the frame's.
    #[test]
    fn a_profile_that_is_given_decides() {
        let headers =
            [("Logplex-Frame-Id", "F1"), ("Logplex-Drain-Token", "d.x"), ("X-Request-Id", "uuid")];
        let id = |profile| facts_as(&headers, Some(profile)).frame_id;
        assert_eq!(id(Profile::Logplex).as_deref(), Some("F1"));
        assert_eq!(id(Profile::Shuttle).as_deref(), Some("uuid"));
        assert_eq!(id(Profile::Other), None);
    }

    #[test]
    fn what_log_shuttle_has_lost_is_read() {
        let facts = facts(&[("Logplex-Drop-Count", "12"), ("Logplex-Lost-Count", "7")]);
        assert_eq!((facts.dropped, facts.lost, facts.odd_headers), (12, 7, 0));
        let odd = facts_as(&[("Logplex-Drop-Count", "many")], None);
        assert_eq!((odd.dropped, odd.odd_headers), (0, 1));
    }

    #[test]
    fn others_are_never_taken_for_duplicates() {
        let other = facts(&[("User-Agent", "excon/0.76.0"), ("X-Request-Id", "uuid")]);
        assert_eq!((other.profile, other.frame_id), (Profile::Other, None));
        assert_eq!(facts(&[]).profile, Profile::Other);
        assert_eq!(facts(&[("User-Agent", "not log-shuttle/1")]).profile, Profile::Other);
    }

    #[test]
    fn odd_headers_count_as_absent() {
        let long = "x".repeat(129);
        for odd in ["", "with space", "tab\there", long.as_str()] {
            let facts = facts(&[("Logplex-Frame-Id", odd), ("Logplex-Msg-Count", "1")]);
            assert_eq!(facts.profile, Profile::Logplex, "{odd}");
            assert_eq!((facts.frame_id, facts.odd_headers), (None, 1), "{odd}");
        }
        assert_eq!(facts(&[("Logplex-Frame-Id", &"x".repeat(128))]).odd_headers, 0);
        for odd in ["", "x", "-1", "+1", "1.5", "99999999999"] {
            let facts = facts(&[("Logplex-Msg-Count", odd)]);
            assert_eq!((facts.messages_claimed, facts.odd_headers), (None, 1), "{odd}");
        }
    }

    #[test]
    fn only_what_cannot_be_logs_is_refused() {
        for good in [
            "application/logplex-1",
            "application/x-logplex-1",
            "application/logplex-1; charset=utf-8",
            "text/plain",
            "application/json",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
            "application/syslog",
            "nonsense",
            "",
        ] {
            let head = head("/", &[("Content-Type", good)]);
            assert_eq!(check_content_type(&head.headers), Ok(()), "{good}");
        }
        assert_eq!(check_content_type(&HeaderMap::new()), Ok(()));
        for bad in ["multipart/form-data; boundary=x", "Image/png", " video/mp4"] {
            let head = head("/", &[("Content-Type", bad)]);
            assert_eq!(check_content_type(&head.headers), Err(Refusal::ContentType), "{bad}");
        }
    }

    #[test]
    fn one_coding_is_decoded_and_stacks_are_not() {
        let coding = |values: &[&str]| {
            let headers: Vec<_> = values.iter().map(|value| ("Content-Encoding", *value)).collect();
            coding(&head("/", &headers).headers)
        };
        assert_eq!(coding(&[]), Ok(Coding::Identity));
        assert_eq!(coding(&["identity"]), Ok(Coding::Identity));
        assert_eq!(coding(&["GZip"]), Ok(Coding::Gzip));
        for bad in [&["deflate"][..], &["gzip, gzip"], &["gzip", "gzip"], &["br"]] {
            assert_eq!(coding(bad), Err(Refusal::ContentEncoding), "{bad:?}");
        }
    }
}
