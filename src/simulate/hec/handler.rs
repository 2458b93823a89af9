//! One request, from top to bottom.

use std::io::Read as _;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::CONTENT_ENCODING;
use hyper::{Method, Request};
use serde::Deserialize;

use super::config::FaultKind;
use super::indexer::{ChannelKey, Hit, Indexer};
use super::intake::{self, Intake};
use super::reply::{
    self, ACK_DISABLED, APPROACHING, Answer, BUSY, HEALTHY, INVALID_DATA, INVALID_TOKEN, NO_DATA,
    NOT_FOUND, QUEUE_FULL, QUEUES_FULL, Reply, SERVER_ERROR, SUCCESS, WRONG_METHOD,
};
use super::request::{self, Query, Route};

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer, as the fault asks")]
pub(super) struct Unanswered;

/// Answers one request.
pub(super) async fn handle(
    indexer: Arc<Indexer>,
    request: Request<Incoming>,
) -> Result<Answer, Unanswered> {
    let in_flight = indexer.begin();
    let answer = if in_flight.count() > indexer.config.max_requests {
        refuse(request.into_body(), BUSY.answer()).await
    } else {
        respond(&indexer, request).await?
    };
    in_flight.answered(answer.status().as_u16());
    Ok(answer)
}

async fn respond(indexer: &Indexer, request: Request<Incoming>) -> Result<Answer, Unanswered> {
    let (head, body) = request.into_parts();
    let route = Route::of(head.uri.path());
    let hit = indexer.fault(|kind| hits(kind, route));
    match hit.as_ref().map(|hit| hit.kind) {
        Some(FaultKind::Detention) => return Ok(refuse(body, NOT_FOUND.answer()).await),
        Some(FaultKind::Captive) => {
            let page = reply::html(200, "Welcome", "Please sign in to use this network.");
            return Ok(refuse(body, page).await);
        }
        _ => {}
    }
    let Some(route) = route else { return Ok(refuse(body, NOT_FOUND.answer()).await) };
    if head.method == Method::OPTIONS {
        return Ok(reply::options(route.allow()));
    }
    if route == Route::Health {
        let full = hit.is_some_and(|hit| hit.kind == FaultKind::QueueFull);
        return Ok(match head.method {
            Method::GET | Method::HEAD if full => QUEUES_FULL.answer(),
            Method::GET | Method::HEAD => HEALTHY.answer(),
            _ => refuse(body, WRONG_METHOD.answer()).await,
        });
    }
    if head.method != Method::POST {
        return Ok(refuse(body, WRONG_METHOD.answer()).await);
    }
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let permitted = match hit.as_ref().map(|hit| hit.kind) {
        Some(FaultKind::InvalidToken) => Err(INVALID_TOKEN),
        _ => permit(indexer, route, &head.headers, &query),
    };
    let permitted = match (permitted, hit.as_ref().map(|hit| hit.kind)) {
        (Ok(_), Some(FaultKind::Busy)) => Err(BUSY),
        (Ok(_), Some(FaultKind::QueueFull)) => Err(QUEUE_FULL),
        (Ok(_), _) if route.posts() && !indexer.has_room() => Err(BUSY),
        (permitted, _) => permitted,
    };
    let (token, channel) = match permitted {
        Ok(permitted) => permitted,
        Err(reply) => return Ok(refuse(body, reply.answer()).await),
    };
    let encoding = head.headers.get(CONTENT_ENCODING).map(|value| value.as_bytes().to_vec());
    let body = match read(body, encoding.as_deref(), indexer).await {
        Ok(body) => body,
        Err(answer) => return Ok(answer),
    };
    match route {
        Route::Event | Route::Raw => {
            indexer.received(body.received);
            post(indexer, route, &body.content, token, channel, &query, hit).await
        }
        Route::Ack => poll(indexer, &body.content, token, channel, hit).await,
        Route::Health => Ok(HEALTHY.answer()),
    }
}

/// Which requests a fault can hit.
fn hits(kind: FaultKind, route: Option<Route>) -> bool {
    let posts = route.is_some_and(Route::posts);
    match kind {
        FaultKind::Busy
        | FaultKind::ApproachingCapacity
        | FaultKind::ServerError
        | FaultKind::ResetAfterIndexing => posts,
        FaultKind::QueueFull => posts || route == Some(Route::Health),
        FaultKind::InvalidToken | FaultKind::Hang => posts || route == Some(Route::Ack),
        FaultKind::LostAckReply => route == Some(Route::Ack),
        FaultKind::Detention | FaultKind::Captive => true,
    }
}

/// Token, query authorisation, acknowledgement, channel: in the order Splunk checks.
fn permit(
    indexer: &Indexer,
    route: Route,
    headers: &hyper::HeaderMap,
    query: &Query,
) -> Result<(usize, Option<u128>), Reply> {
    let token = request::token(&indexer.config.tokens, headers, query)?;
    let use_ack = indexer.config.tokens.get(token).is_some_and(|token| token.use_ack);
    if route == Route::Ack && !use_ack {
        return Err(ACK_DISABLED);
    }
    Ok((token, request::channel(headers, query, use_ack)?))
}

async fn post(
    indexer: &Indexer,
    route: Route,
    body: &[u8],
    token: usize,
    channel: Option<u128>,
    query: &Query,
    hit: Option<Hit>,
) -> Result<Answer, Unanswered> {
    let Some(settings) = indexer.config.tokens.get(token) else {
        return Ok(INVALID_TOKEN.answer());
    };
    let keep = indexer.ledger.wants_events();
    let Intake { objects, hashes, events, mut reply, invalid_event } = match route {
        Route::Raw => intake::raw(body, settings, query, keep),
        Route::Event | Route::Ack | Route::Health => {
            intake::events(body, &indexer.config, settings, query, keep)
        }
    };
    let kind = hit.as_ref().map(|hit| hit.kind);
    let ack_id = if objects > 0 {
        let at_once = matches!(kind, Some(FaultKind::ServerError | FaultKind::ResetAfterIndexing));
        let channel = channel.filter(|_| settings.use_ack).map(|guid| ChannelKey { token, guid });
        indexer.accept(hashes, events, channel, at_once)
    } else {
        None
    };
    match kind {
        Some(FaultKind::ServerError) => return Ok(SERVER_ERROR.answer()),
        Some(FaultKind::ResetAfterIndexing) => return Err(Unanswered),
        Some(FaultKind::ApproachingCapacity) if reply == SUCCESS => reply = APPROACHING,
        Some(FaultKind::Hang) => {
            if let Some(hit) = hit {
                hit.lifted().await;
            }
        }
        _ => {}
    }
    Ok(reply.with(invalid_event, ack_id))
}

/// `{"acks":[0,1]}`
#[derive(Deserialize)]
struct Poll {
    acks: Vec<u64>,
}

async fn poll(
    indexer: &Indexer,
    body: &[u8],
    token: usize,
    channel: Option<u128>,
    hit: Option<Hit>,
) -> Result<Answer, Unanswered> {
    let Ok(Poll { acks }) = serde_json::from_slice(body) else {
        return Ok(if body.is_empty() { NO_DATA.answer() } else { INVALID_DATA.answer() });
    };
    let Some(guid) = channel else { return Ok(reply::CHANNEL_MISSING.answer()) };
    let lost = hit.as_ref().is_some_and(|hit| hit.kind == FaultKind::LostAckReply);
    if let Some(hit) = hit.filter(|hit| hit.kind == FaultKind::Hang) {
        hit.lifted().await;
    }
    let reported = indexer.poll(ChannelKey { token, guid }, &acks, lost);
    if lost {
        return Err(Unanswered);
    }
    let mut body = String::with_capacity(16 + acks.len() * 16);
    body.push_str(r#"{"acks":{"#);
    for (number, (id, indexed)) in acks.iter().zip(reported).enumerate() {
        let comma = if number > 0 { "," } else { "" };
        body.push_str(&format!(r#"{comma}"{id}":{indexed}"#));
    }
    body.push_str("}}");
    Ok(reply::json(200, body))
}

struct Read {
    /// Bytes as they came.
    received: usize,
    /// The body, decompressed.
    content: Bytes,
}

/// Reads and decompresses a body, both up to the limit.
async fn read(body: Incoming, encoding: Option<&[u8]>, indexer: &Indexer) -> Result<Read, Answer> {
    let limit = indexer.config.max_content_length;
    let gzip = match encoding {
        None | Some(b"identity") => false,
        Some(name) if name.eq_ignore_ascii_case(b"gzip") => true,
        Some(_) => {
            let page = reply::html(
                415,
                "Unsupported Media Type",
                "The request's Content-Encoding is not supported.",
            );
            return Err(refuse(body, page).await);
        }
    };
    let too_large = |length: u64| {
        let text = format!("Content-Length of {length} too large (maximum is {limit})");
        reply::html(413, "Content-Length too large", &text)
    };
    let announced = body.size_hint().exact().unwrap_or(0);
    if announced > limit as u64 {
        return Err(refuse(body, too_large(announced)).await);
    }
    let mut content = Vec::with_capacity(usize::try_from(announced).unwrap_or(limit).min(limit));
    let mut body = body;
    while let Some(frame) = body.frame().await {
        // A body that breaks off has nobody left who would read this answer.
        let frame = frame.map_err(|_| INVALID_DATA.answer())?;
        let Ok(data) = frame.into_data() else { continue };
        if content.len() + data.len() > limit {
            let length = (content.len() + data.len()) as u64;
            return Err(refuse(body, too_large(length)).await);
        }
        content.extend_from_slice(&data);
    }
    let received = content.len();
    if gzip {
        let mut plain = Vec::with_capacity((content.len() * 8).min(limit));
        let cap = limit as u64 + 1;
        let decoder = flate2::bufread::GzDecoder::new(content.as_slice());
        decoder.take(cap).read_to_end(&mut plain).map_err(|_| INVALID_DATA.answer())?;
        if plain.len() > limit {
            return Err(too_large(plain.len() as u64));
        }
        content = plain;
    }
    Ok(Read { received, content: content.into() })
}

/// Reads the rest of a refused body, so that the client gets to read the answer: bytes left in
/// the socket when it closes turn into a reset that can overtake the answer. Up to 64 MiB.
async fn refuse(mut body: Incoming, answer: Answer) -> Answer {
    let mut left = 64usize << 20;
    while let Some(Ok(frame)) = body.frame().await {
        let taken = frame.data_ref().map_or(0, |data| data.remaining());
        left = left.saturating_sub(taken);
        if left == 0 {
            break;
        }
    }
    answer
}
