//! HEC's answers, byte for byte.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SERVER};

/// A status, code and text of HEC's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) code: u16,
    text: &'static str,
}

const fn reply(status: u16, code: u16, text: &'static str) -> Reply {
    Reply { status, code, text }
}

pub(super) const SUCCESS: Reply = reply(200, 0, "Success");
pub(super) const TOKEN_DISABLED: Reply = reply(403, 1, "Token disabled");
pub(super) const TOKEN_REQUIRED: Reply = reply(401, 2, "Token is required");
pub(super) const INVALID_AUTHORIZATION: Reply = reply(401, 3, "Invalid authorization");
pub(super) const INVALID_TOKEN: Reply = reply(403, 4, "Invalid token");
pub(super) const NO_DATA: Reply = reply(400, 5, "No data");
pub(super) const INVALID_DATA: Reply = reply(400, 6, "Invalid data format");
pub(super) const INCORRECT_INDEX: Reply = reply(400, 7, "Incorrect index");
pub(super) const SERVER_ERROR: Reply = reply(500, 8, "Internal server error");
pub(super) const BUSY: Reply = reply(503, 9, "Server is busy");
pub(super) const CHANNEL_MISSING: Reply = reply(400, 10, "Data channel is missing");
pub(super) const INVALID_CHANNEL: Reply = reply(400, 11, "Invalid data channel");
pub(super) const EVENT_REQUIRED: Reply = reply(400, 12, "Event field is required");
pub(super) const EVENT_BLANK: Reply = reply(400, 13, "Event field cannot be blank");
pub(super) const ACK_DISABLED: Reply = reply(400, 14, "ACK is disabled");
pub(super) const INDEXED_FIELDS: Reply = reply(400, 15, "Error in handling indexed fields");
pub(super) const QUERY_AUTH: Reply = reply(400, 16, "Query string authorization is not enabled");
pub(super) const HEALTHY: Reply = reply(200, 17, "HEC is healthy");
pub(super) const QUEUES_FULL: Reply = reply(503, 18, "HEC is unhealthy, queues are full");
pub(super) const ACKS_UNAVAILABLE: Reply =
    reply(503, 19, "HEC is unhealthy, ack service unavailable");
pub(super) const SHUTTING_DOWN: Reply = reply(503, 23, "Server is shutting down");
pub(super) const APPROACHING: Reply = reply(200, 24, "HEC queue is approaching its capacity limit");
pub(super) const ACKS_APPROACHING: Reply =
    reply(200, 25, "HEC ACK is approaching its capacity limit");
pub(super) const QUEUE_FULL: Reply =
    reply(429, 26, "HEC queue is at capacity and cannot process any more requests");
pub(super) const ACK_FULL: Reply =
    reply(429, 27, "HEC ACK channel is at capacity and cannot process any more requests");
/// Splunk's body for an unknown path, and for a wrong method too (then with 405).
pub(super) const NOT_FOUND: Reply =
    reply(404, 404, "The requested URL was not found on this server.");
pub(super) const WRONG_METHOD: Reply = reply(405, 404, NOT_FOUND.text);

pub(super) type Answer = Response<Content>;

/// The body of an answer, perhaps less than what was announced.
#[derive(Debug)]
pub(super) struct Content {
    data: Option<Bytes>,
    announced: u64,
    /// Before it breaks off, the connection gets a turn to send what there is.
    flushed: bool,
}

/// The connection is closed in the middle of an answer.
#[derive(Debug, thiserror::Error)]
#[error("broken off, as the fault asks")]
pub(super) struct BrokenOff;

impl Content {
    fn whole(data: Bytes) -> Self {
        let announced = data.len() as u64;
        Self { data: Some(data).filter(|data| !data.is_empty()), announced, flushed: false }
    }

    /// Half of it, though all of it is announced.
    fn halve(&mut self) {
        if let Some(data) = &mut self.data {
            data.truncate(data.len() / 2);
        }
    }

    const fn is_short(&self) -> bool {
        self.announced > 0
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(data) = self.data.take() {
            self.announced -= data.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if !self.is_short() {
            return Poll::Ready(None);
        }
        if self.flushed {
            return Poll::Ready(Some(Err(BrokenOff)));
        }
        self.flushed = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && !self.is_short()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}

/// Breaks the answer off in the middle of its body.
pub(super) fn truncated(mut answer: Answer) -> Answer {
    answer.body_mut().halve();
    answer
}

/// The answer's JSON in front of 2 MiB of white space, which JSON permits.
pub(super) fn oversized(answer: Answer) -> Answer {
    let (head, content) = answer.into_parts();
    let mut body = content.data.map_or_else(Vec::new, |data| data.to_vec());
    body.resize(body.len() + (2 << 20), b' ');
    Response::from_parts(head, Content::whole(body.into()))
}

/// Asks to come again later.
pub(super) fn come_again(mut answer: Answer, after: &str) -> Answer {
    if let Ok(after) = HeaderValue::from_str(after) {
        answer.headers_mut().insert(RETRY_AFTER, after);
    }
    answer
}

impl Reply {
    /// The plain answer.
    pub(super) fn answer(self) -> Answer {
        self.with(None, None)
    }

    /// The answer with the number of the event it is about, and the id of what was accepted.
    /// Splunk writes the keys in this order.
    pub(super) fn with(self, invalid_event: Option<u64>, ack_id: Option<u64>) -> Answer {
        let mut body = format!(r#"{{"text":"{}","code":{}"#, self.text, self.code);
        if let Some(number) = invalid_event {
            body.push_str(&format!(r#","invalid-event-number":{number}"#));
        }
        if let Some(id) = ack_id {
            body.push_str(&format!(r#","ackId":{id}"#));
        }
        body.push('}');
        json(self.status, body)
    }
}

/// A JSON answer.
pub(super) fn json(status: u16, body: String) -> Answer {
    answer(status, "application/json; charset=UTF-8", body.into())
}

/// An HTML page, as Splunk's HTTP layer answers when HEC is not asked.
pub(super) fn html(status: u16, title: &str, text: &str) -> Answer {
    let body = format!(
        "<!doctype html><html><head><meta http-equiv=\"content-type\" content=\"text/html; \
         charset=UTF-8\"><title>{status} {title}</title></head><body><h1>{title}</h1>\
         <p>{text}</p></body></html>\r\n"
    );
    answer(status, "text/html; charset=UTF-8", body.into())
}

/// What OPTIONS says.
pub(super) fn options(allow: &'static str) -> Answer {
    let mut answer = answer(200, "text/plain", Bytes::new());
    answer.headers_mut().remove(CONTENT_TYPE);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

fn answer(status: u16, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Content::whole(body));
    if let Ok(status) = status.try_into() {
        *answer.status_mut() = status;
    }
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(SERVER, HeaderValue::from_static("Splunkd"));
    answer
}
