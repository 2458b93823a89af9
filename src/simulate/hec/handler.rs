//! One request, from top to bottom.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::CONTENT_ENCODING;
use hyper::{HeaderMap, Method, Request};
use serde::Deserialize;

use super::balancer::Balance;
use super::body::{read, refuse};
use super::faults::FaultKind;
use super::indexer::{ChannelKey, Hit, Indexer};
use super::intake::{self, Intake};
use super::reply::{
    self, ACK_DISABLED, ACK_FULL, ACKS_APPROACHING, ACKS_UNAVAILABLE, APPROACHING, Answer, BUSY,
    HEALTHY, INVALID_DATA, INVALID_TOKEN, NO_DATA, NOT_FOUND, QUEUE_FULL, QUEUES_FULL, Reply,
    SERVER_ERROR, SHUTTING_DOWN, SUCCESS, WRONG_METHOD,
};
use super::request::{self, Query, Route};

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer, as the fault asks")]
pub(super) struct Unanswered;

/// Answers one request that came on a connection.
pub(super) async fn handle(
    balance: Arc<Balance>,
    connection: usize,
    request: Request<Incoming>,
) -> Result<Answer, Unanswered> {
    let choice = balance.choose(connection, request.headers()).ok_or(Unanswered)?;
    let indexer = &choice.indexer;
    let in_flight = indexer.begin();
    let mut answer = if in_flight.count() > indexer.config.max_requests {
        refuse(request.into_body(), BUSY.answer()).await
    } else {
        respond(indexer, request).await?
    };
    choice.mark(&mut answer);
    in_flight.answered(answer.status().as_u16());
    Ok(answer)
}

/// A request that may be answered: whose it is, and where.
struct Permitted {
    route: Route,
    token: usize,
    channel: Option<u128>,
    use_ack: bool,
    query: Query,
}

async fn respond(indexer: &Indexer, request: Request<Incoming>) -> Result<Answer, Unanswered> {
    let (head, body) = request.into_parts();
    let route = Route::of(head.uri.path());
    let hit = indexer.fault(route);
    let kind = hit.as_ref().map(|hit| hit.kind);
    let instead = match kind {
        Some(FaultKind::Detention) => Some(NOT_FOUND.answer()),
        Some(FaultKind::Captive) => {
            Some(reply::html(200, "Welcome", "Please sign in to use this network."))
        }
        Some(FaultKind::BadGateway) => {
            Some(reply::html(502, "Bad Gateway", "The proxy has no upstream."))
        }
        Some(FaultKind::NoTarget) => {
            Some(reply::html(503, "Service Temporarily Unavailable", "No healthy target."))
        }
        Some(FaultKind::ShuttingDown) if head.method != Method::OPTIONS => {
            Some(SHUTTING_DOWN.answer())
        }
        Some(FaultKind::ResetBeforeBody) => return Err(Unanswered),
        Some(FaultKind::Restart) => {
            indexer.restart();
            None
        }
        _ => None,
    };
    if let Some(answer) = instead {
        return Ok(refuse(body, answer).await);
    }
    let Some(route) = route else { return Ok(refuse(body, NOT_FOUND.answer()).await) };
    if head.method == Method::OPTIONS {
        return Ok(reply::options(route.allow()));
    }
    let query = Query::parse(head.uri.query().unwrap_or_default());
    if route == Route::Health {
        return Ok(match head.method {
            Method::GET | Method::HEAD => health(kind).answer(),
            _ => refuse(body, WRONG_METHOD.answer()).await,
        });
    }
    if head.method != Method::POST {
        return Ok(refuse(body, WRONG_METHOD.answer()).await);
    }
    let permitted = match permit(indexer, route, &head.headers, query, kind) {
        Ok(permitted) => permitted,
        Err(reply) => {
            let answer = match kind {
                Some(FaultKind::RetryAfter) if reply == BUSY => {
                    reply::come_again(reply.answer(), &indexer.config.retry_after)
                }
                _ => reply.answer(),
            };
            return Ok(refuse(body, answer).await);
        }
    };
    let encoding = head.headers.get(CONTENT_ENCODING).map(|value| value.as_bytes().to_vec());
    let body = match read(body, encoding.as_deref(), indexer).await {
        Ok(body) => body,
        Err(answer) => return Ok(answer),
    };
    if kind == Some(FaultKind::ResetAfterBody) {
        return Err(Unanswered);
    }
    let channel = permitted.channel.map(|guid| ChannelKey { token: permitted.token, guid });
    if let Some(channel) = channel {
        if kind == Some(FaultKind::IdleReap) {
            indexer.forget(channel);
        }
        indexer.touch(channel);
    }
    let answer = if permitted.route.posts() {
        indexer.received(body.received);
        post(indexer, &permitted, &body.content, hit).await?
    } else {
        poll(indexer, &permitted, &body.content, hit).await?
    };
    Ok(match kind {
        Some(FaultKind::TruncatedReply) => reply::truncated(answer),
        Some(FaultKind::OversizedReply) => reply::oversized(answer),
        _ => answer,
    })
}

/// What health says.
const fn health(fault: Option<FaultKind>) -> Reply {
    match fault {
        Some(FaultKind::QueueFull | FaultKind::Unhealthy) => QUEUES_FULL,
        Some(FaultKind::AckFull) => ACKS_UNAVAILABLE,
        _ => HEALTHY,
    }
}

/// Token, query authorisation, acknowledgement, channel: in the order Splunk checks. Then whether
/// there is room.
fn permit(
    indexer: &Indexer,
    route: Route,
    headers: &HeaderMap,
    query: Query,
    fault: Option<FaultKind>,
) -> Result<Permitted, Reply> {
    if fault == Some(FaultKind::InvalidToken) {
        return Err(INVALID_TOKEN);
    }
    let token = request::token(&indexer.config.tokens, headers, &query)?;
    let use_ack = fault != Some(FaultKind::AckDisabled)
        && indexer.config.tokens.get(token).is_some_and(|token| token.use_ack);
    if route == Route::Ack && !use_ack {
        return Err(ACK_DISABLED);
    }
    let channel = request::channel(headers, &query, use_ack)?;
    match fault {
        Some(FaultKind::Busy | FaultKind::RetryAfter) => return Err(BUSY),
        Some(FaultKind::QueueFull) => return Err(QUEUE_FULL),
        Some(FaultKind::AckFull) => return Err(ACK_FULL),
        Some(FaultKind::Unhealthy) => return Err(QUEUES_FULL),
        _ => {}
    }
    if route.posts() && !indexer.has_room() {
        return Err(BUSY);
    }
    Ok(Permitted { route, token, channel, use_ack, query })
}

async fn post(
    indexer: &Indexer,
    permitted: &Permitted,
    body: &[u8],
    hit: Option<Hit>,
) -> Result<Answer, Unanswered> {
    let Permitted { route, token, channel, use_ack, query } = permitted;
    let Some(settings) = indexer.config.tokens.get(*token) else {
        return Ok(INVALID_TOKEN.answer());
    };
    let keep = indexer.ledger.wants_events();
    let Intake { objects, hashes, events, mut reply, invalid_event } = if *route == Route::Raw {
        intake::raw(body, settings, query, keep)
    } else {
        intake::events(body, &indexer.config, settings, query, keep)
    };
    let kind = hit.as_ref().map(|hit| hit.kind);
    let ack_id = if objects > 0 {
        let at_once = matches!(kind, Some(FaultKind::ServerError | FaultKind::ResetAfterIndexing));
        let channel = channel.filter(|_| *use_ack);
        let channel = channel.map(|guid| ChannelKey { token: *token, guid });
        indexer.accept(hashes, events, channel, at_once)
    } else {
        None
    };
    match kind {
        Some(FaultKind::ServerError) => return Ok(SERVER_ERROR.answer()),
        Some(FaultKind::GatewayTimeout) => {
            return Ok(reply::html(504, "Gateway Timeout", "The upstream did not answer in time."));
        }
        Some(FaultKind::LostUpstream) => {
            return Ok(reply::html(
                503,
                "Service Unavailable",
                "The upstream closed the connection.",
            ));
        }
        Some(FaultKind::ResetAfterIndexing) => return Err(Unanswered),
        Some(FaultKind::ApproachingCapacity) if reply == SUCCESS => reply = APPROACHING,
        Some(FaultKind::ApproachingAckCapacity) if reply == SUCCESS => reply = ACKS_APPROACHING,
        _ => {}
    }
    delayed(indexer, hit).await;
    Ok(reply.with(invalid_event, ack_id))
}

/// Waits, if the fault is one of waiting.
async fn delayed(indexer: &Indexer, hit: Option<Hit>) {
    match hit {
        Some(hit) if hit.kind == FaultKind::Hang => hit.lifted().await,
        Some(hit) if hit.kind == FaultKind::SlowReply => {
            tokio::time::sleep(indexer.config.slow).await;
        }
        _ => {}
    }
}

/// `{"acks":[0,1]}`
#[derive(Deserialize)]
struct Poll {
    acks: Vec<u64>,
}

async fn poll(
    indexer: &Indexer,
    permitted: &Permitted,
    body: &[u8],
    hit: Option<Hit>,
) -> Result<Answer, Unanswered> {
    let Ok(Poll { acks }) = serde_json::from_slice(body) else {
        return Ok(if body.is_empty() { NO_DATA.answer() } else { INVALID_DATA.answer() });
    };
    let Some(guid) = permitted.channel else { return Ok(reply::CHANNEL_MISSING.answer()) };
    let kind = hit.as_ref().map(|hit| hit.kind);
    delayed(indexer, hit).await;
    // What nobody gets to read is spent all the same.
    let spend_only = matches!(
        kind,
        Some(FaultKind::LostAckReply | FaultKind::TruncatedReply | FaultKind::OversizedReply)
    );
    let reported = indexer.poll(ChannelKey { token: permitted.token, guid }, &acks, spend_only);
    if kind == Some(FaultKind::LostAckReply) {
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
