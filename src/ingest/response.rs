//! The one table of answers, and what the sender makes of each.
//!
//! | outcome | answer | Logplex | log-shuttle |
//! |---|---|---|---|
//! | durable, now or before | 200 | next frame | next batch |
//! | no such path | 404 | drops the frame | drops the batch |
//! | not `POST` | 405 | drops the frame | drops the batch |
//! | wrong or no credentials | 401 | drops the frame | drops the batch |
//! | good credentials for another drain | 403 | drops the frame | drops the batch |
//! | a drain that is not configured, where `ingest.unknown_drain` rejects | 403 | drops the frame | drops the batch |
//! | two lengths: `Content-Length` and `Transfer-Encoding` | 400 and close | drops the frame | drops the batch |
//! | a content type that cannot be logs | 415 | drops the frame | drops the batch |
//! | a content coding we do not decode | 415 | drops the frame | drops the batch |
//! | larger than `ingest.max_body` | 413 | drops the frame | drops the batch |
//! | a URI of more than 4 KiB | 414 | drops the frame | drops the batch |
//! | not durable within the ack deadline, for whatever reason | 503 and close, to log-shuttle close | tries the frame again, 3 times in all | tries the batch again, 3 times in all |
//! | the body broke off | close | tries the frame again | tries the batch again |
//!
//! Logplex drops a frame for any 4xx but 429, and reports the loss as L10 when a later frame gets
//! through; any other status, and silence for 5 s, costs one of three tries, made at once (Logplex
//! source, logplex_http_drain.erl, `handle_response_status`). So a 4xx is for what will be refused
//! every time, whoever looks at the frame, and never for what is in it. 408 is a 4xx: never sent.
//! What is not HTTP at all, or has a head of more than 16 KiB or 64 fields, hyper answers itself
//! (400, 431), and closes; it is counted with the others.
//!
//! log-shuttle takes every status for success, and only a broken connection for failure
//! (log-shuttle source, http_outlet.go). That is why it gets no answer where Logplex gets a 503.
//! A 4xx it logs and forgets, which leaves at least a line for the people who run it.
//!
//! Every answer has a `Content-Length`: Logplex's client does not know chunked answers, and reads
//! what is left of one as the status of its next request (Logplex source, cowboy_client.erl).
//! Header names are written `Content-Length`, not `content-length`, for the like of it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};

use super::facts::REQUEST_ID;
use super::request_id::RequestId;
use crate::logplex::Profile;
use crate::wal::Durable;

/// An answer. Its body is whole, so hyper writes its length.
pub type Response = hyper::Response<Full<Bytes>>;

/// Why a request can never be accepted. Each is a 4xx, and loses the frame at the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not the configured path.
    Path,
    /// Not `POST`.
    Method,
    /// Wrong or no credentials.
    Credentials,
    /// The credentials are good, but for another drain.
    Drain,
    /// The drain is not configured, and such drains are rejected.
    UnknownDrain,
    /// Both `Content-Length` and `Transfer-Encoding`.
    Lengths,
    /// A content type that cannot be logs.
    ContentType,
    /// A content coding we do not decode.
    ContentEncoding,
    /// The body is larger than `ingest.max_body`, as sent or decompressed.
    Size,
    /// The URI is longer than 4 KiB.
    Uri,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 10] = [
        Self::Path,
        Self::Method,
        Self::Credentials,
        Self::Drain,
        Self::UnknownDrain,
        Self::Lengths,
        Self::ContentType,
        Self::ContentEncoding,
        Self::Size,
        Self::Uri,
    ];

    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Credentials => StatusCode::UNAUTHORIZED,
            Self::Drain | Self::UnknownDrain => StatusCode::FORBIDDEN,
            Self::Lengths => StatusCode::BAD_REQUEST,
            Self::ContentType | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Size => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Uri => StatusCode::URI_TOO_LONG,
        }
    }

    /// What the answer says to a person.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Path => "there is no drain at this path\n",
            Self::Method => "a drain takes POST\n",
            Self::Credentials => "the user or the password is wrong\n",
            Self::Drain => "these credentials are for another drain\n",
            Self::UnknownDrain => "this drain is not known here\n",
            Self::Lengths => "send Content-Length or Transfer-Encoding, not both\n",
            Self::ContentType => "this content type cannot be logs; send application/logplex-1\n",
            Self::ContentEncoding => "this content coding is not known; send gzip or none\n",
            Self::Size => "the body is larger than ingest.max_body\n",
            Self::Uri => "the URI is longer than 4096 bytes\n",
        }
    }
}

/// There is no answer: the connection is closed instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("closed without an answer")]
pub struct Hangup;

/// The only 200: the frame is in the log and synced.
#[must_use]
pub fn accepted(_proof: &Durable) -> Response {
    Response::new(Full::default())
}

/// The answer to what can never be accepted.
#[must_use]
pub fn refused(refusal: Refusal) -> Response {
    let mut response = with_text(refusal.status(), refusal.text());
    let headers = response.headers_mut();
    match refusal {
        Refusal::Method => {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        Refusal::Credentials => {
            let challenge = HeaderValue::from_static("Basic realm=\"forebay\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        Refusal::Lengths => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Refusal::Path
        | Refusal::Drain
        | Refusal::UnknownDrain
        | Refusal::ContentType
        | Refusal::ContentEncoding
        | Refusal::Size
        | Refusal::Uri => {}
    }
    response
}

/// What says "not stored, try again" to this sender.
///
/// # Errors
/// [`Hangup`] when only a broken connection says so.
pub fn unavailable(profile: Profile) -> Result<Response, Hangup> {
    match profile {
        Profile::Logplex | Profile::Other => {
            let text = "the frame is not stored; send it again\n";
            let mut response = with_text(StatusCode::SERVICE_UNAVAILABLE, text);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            Ok(response)
        }
        Profile::Shuttle => Err(Hangup),
    }
}

/// The answer with what its request is called, for whoever asks us about it.
#[must_use]
pub(super) fn called(mut answer: Response, id: &RequestId) -> Response {
    answer.headers_mut().insert(REQUEST_ID, id.header());
    answer
}

/// A status with a text for people.
fn with_text(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Invariant I2: a 4xx loses the frame, so there are these and no others.
    #[test]
    fn refusals_are_the_4xx_that_can_never_be_accepted() {
        let codes: Vec<u16> =
            Refusal::ALL.into_iter().map(|refusal| refused(refusal).status().as_u16()).collect();
        assert_eq!(codes, [404, 405, 401, 403, 403, 400, 415, 415, 413, 414]);
    }

    #[test]
    fn a_405_and_a_401_say_what_would_do() {
        assert_eq!(refused(Refusal::Method).headers()[ALLOW], "POST");
        let challenge = refused(Refusal::Credentials).headers()[WWW_AUTHENTICATE].clone();
        assert_eq!(challenge, "Basic realm=\"forebay\"");
    }

    #[test]
    fn what_is_not_stored_is_a_503_or_silence() {
        for profile in [Profile::Logplex, Profile::Other] {
            let response = unavailable(profile).expect("an answer");
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()[CONNECTION], "close");
        }
        assert!(unavailable(Profile::Shuttle).is_err());
    }
}
