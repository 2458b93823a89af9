//! What a request is called, in log lines and in the answer that refuses it.
//!
//! Logplex's is its frame id, the same at each try, and the beginning of the `event_id`s in Splunk;
//! others say it in `X-Request-Id`, as log-shuttle and Heroku's router do. Who says nothing, or
//! nothing that can stand in a log line, gets a number.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HeaderMap, HeaderValue};

use super::facts;

/// Of one request. Costs nothing before it is shown.
#[derive(Clone, Debug)]
pub(super) enum RequestId {
    Given(HeaderValue),
    Made(u64),
}

/// Makes numbers. They go on from a random one, so that those of two processes do not meet.
#[derive(Debug)]
pub(super) struct RequestIds(AtomicU64);

impl RequestIds {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(fastrand::u64(..)))
    }

    /// The id of a request.
    pub(super) fn of(&self, headers: &HeaderMap) -> RequestId {
        match facts::request_id(headers) {
            Some(given) => RequestId::Given(given.clone()),
            None => RequestId::Made(self.0.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

impl RequestId {
    /// The id as a header.
    pub(super) fn header(&self) -> HeaderValue {
        match self {
            Self::Given(value) => value.clone(),
            Self::Made(_) => HeaderValue::from_str(&self.to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("")),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(value) => f.write_str(value.to_str().unwrap_or_default()),
            Self::Made(number) => write!(f, "forebay-{number:016x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(headers: &[(&'static str, &str)]) -> String {
        let headers = headers.iter().map(|(name, value)| {
            (hyper::header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        RequestIds(AtomicU64::new(0xab)).of(&headers.collect()).to_string()
    }

    #[test]
    fn the_frame_comes_before_the_request_and_what_is_odd_is_made_anew() {
        assert_eq!(id(&[("logplex-frame-id", "F1"), ("x-request-id", "r1")]), "F1");
        assert_eq!(id(&[("x-request-id", "r1")]), "r1");
        assert_eq!(id(&[("logplex-frame-id", "a b"), ("x-request-id", "r1")]), "r1");
        for odd in ["", "two words", &"x".repeat(129)] {
            assert_eq!(id(&[("x-request-id", odd)]), "forebay-00000000000000ab", "{odd}");
        }
        let made = RequestId::Made(7);
        assert_eq!(made.header(), "forebay-0000000000000007");
    }
}
