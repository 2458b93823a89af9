//! HTTP to the collectors.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName,
    HeaderValue, RETRY_AFTER, USER_AGENT,
};
use reqwest::{Client, Response, StatusCode, Url};

use crate::clock;
use crate::delivery::{EndpointId, HoldReason, PollOutcome, PostOutcome, Preflight};
use crate::hec::ack;
use crate::hec::response::Verdict;
use crate::hec::{ACK_PATH, CHANNEL_HEADER, EVENT_PATH, RAW_PATH, Target};
use crate::types::{AckId, ChannelId};

use super::config::{Affinity, Config};
use super::http::{self, AGENT, ClientError, names, raw_query, way};
use super::judge;
use super::line::{Broken, Line, Way};
use super::link::{Link, Links};
use super::outage::{About, Outages};
use super::pack::Body;
use super::token::{Token, TokenReload};

/// The most bytes that are read of an answer to a POST. Real ones have about a hundred.
const MAX_ANSWER: usize = 64 << 10;

/// The most bytes that are read of an answer to a poll: a thousand ids take about 20 KB.
const MAX_ACK_ANSWER: usize = 1 << 20;

/// A poll is read to its end: what it says, it says once (Splunk docs: status information is
/// deleted after clients retrieve it).
const POLL_TIMEOUT: Duration = Duration::from_mins(1);

/// The collectors of one destination.
#[derive(Clone, Debug)]
pub(super) struct HecClient {
    token: Arc<Token>,
    endpoints: Arc<[Endpoint]>,
    affinity: Affinity,
    timeout: Duration,
    /// Why they take nothing, those that do not. One for all sets of endpoints.
    pub(super) outages: Arc<Outages>,
    /// The same of questions for acknowledgements.
    pub(super) unanswered: Arc<Outages>,
    /// The endpoints as they are shown.
    shown: Arc<[String]>,
}

struct Endpoint {
    http: Client,
    event: Url,
    ack: Url,
    /// For channels with a connection of their own.
    way: Option<Way>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.event.as_str()).finish()
    }
}

/// A request.
struct Ask<'a> {
    http: &'a Client,
    url: &'a Url,
    way: Option<&'a Way>,
    body: Bytes,
    gzip: bool,
    /// Whether it may open a channel's own connection.
    opens: bool,
    /// The most bytes that are read of the answer.
    limit: usize,
    patience: Duration,
}

/// An answer.
pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    pub(super) body: Result<Vec<u8>, Unreadable>,
}

impl Heard {
    /// What is taken of the head.
    pub(super) fn head(status: StatusCode, headers: &HeaderMap) -> (u16, Option<String>) {
        let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        (status.as_u16(), after.map(str::to_owned))
    }
}

/// Why there is no answer.
enum Unheard {
    Http(reqwest::Error),
    Line(Broken),
}

impl HecClient {
    pub(super) fn new(config: &Config) -> Result<Self, ClientError> {
        let token =
            Token::new(&config.token, config.token_file.clone()).map_err(ClientError::Token)?;
        let outages = |about| Arc::new(Outages::new(config.name.clone(), about));
        let both = (outages(About::Batches), outages(About::Questions));
        Self::with(Arc::new(token), both, config)
    }

    /// With other endpoints, or TLS or a proxy that was renewed, and the same token.
    pub(super) fn at(&self, config: &Config) -> Result<Self, ClientError> {
        let outages = (Arc::clone(&self.outages), Arc::clone(&self.unanswered));
        Self::with(Arc::clone(&self.token), outages, config)
    }

    fn with(
        token: Arc<Token>,
        (outages, unanswered): (Arc<Outages>, Arc<Outages>),
        config: &Config,
    ) -> Result<Self, ClientError> {
        let shared = http::client(config, None)?;
        let (path, query) = match config.target {
            Target::Event => (EVENT_PATH, String::new()),
            Target::Raw => (RAW_PATH, raw_query(&config.raw)),
        };
        let endpoint = |number: usize, endpoint: &String| {
            let place = config.places.get(number);
            let endpoint = place.map_or(endpoint, |place| &place.url);
            let address = place.and_then(|place| place.address);
            let base = endpoint.trim_end_matches('/');
            let url = |rest: String| {
                let wrong = |_| ClientError::Endpoint(endpoint.clone());
                Url::parse(&format!("{base}{rest}")).map_err(wrong)
            };
            let (event, ack) = (url(format!("{path}{query}"))?, url(ACK_PATH.to_owned())?);
            let way = way(config, &event, address).transpose()?;
            let http = match address {
                None => shared.clone(),
                Some(address) => http::client(config, Some((&event, address)))?,
            };
            Ok(Endpoint { http, event, ack, way })
        };
        let endpoints = config.endpoints.iter().enumerate();
        let endpoints = endpoints
            .map(|(number, text)| endpoint(number, text))
            .collect::<Result<_, ClientError>>()?;
        let (affinity, timeout) = (config.affinity, config.timeout);
        let shown = config.endpoints.clone().into();
        Ok(Self { token, endpoints, affinity, timeout, outages, unanswered, shown })
    }

    /// The ties of a task's channels.
    pub(super) fn links(&self) -> Links {
        Links::new(self.affinity)
    }

    /// Reads the token's file again.
    pub(super) fn reload_token(&self) -> TokenReload {
        self.token.reload()
    }

    /// After an answer that blames the token: whether there is another one now than the request
    /// carried, whoever has read it. Not on the runtime's threads, for the file may be on a disk
    /// that hangs.
    async fn has_new_token(&self, sent: &HeaderValue, status: u16) -> bool {
        if !matches!(status, 401 | 403) {
            return false;
        }
        let token = Arc::clone(&self.token);
        drop(tokio::task::spawn_blocking(move || token.reload()).await);
        self.token.header() != *sent
    }

    /// Sends a request; and once more, if there is another token by then: nothing was accepted, so
    /// nothing comes twice.
    async fn ask(&self, channel: ChannelId, link: &Link, ask: &Ask<'_>) -> Result<Heard, Unheard> {
        let sent = self.token.header();
        let heard = self.send(channel, link, ask).await?;
        if self.has_new_token(&sent, heard.status).await {
            return self.send(channel, link, ask).await;
        }
        Ok(heard)
    }

    async fn send(&self, channel: ChannelId, link: &Link, ask: &Ask<'_>) -> Result<Heard, Unheard> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.token.header());
        if let Ok(channel) = HeaderValue::from_str(&channel.to_string()) {
            headers.insert(HeaderName::from_static(CHANNEL_HEADER), channel);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if ask.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let jar = match link {
            Link::Free => None,
            Link::Cookies(jar) => Some(jar),
            Link::Line(line) => return self.over_line(line, headers, ask).await,
        };
        if let Some(cookies) = jar.and_then(|jar| jar.header(ask.url)) {
            headers.insert(COOKIE, cookies);
        }
        let request = ask.http.post(ask.url.clone()).headers(headers).timeout(ask.patience);
        let response = request.body(ask.body.clone()).send().await.map_err(Unheard::Http)?;
        if let Some(jar) = jar {
            jar.keep(ask.url, response.headers());
        }
        let (status, retry_after) = Heard::head(response.status(), response.headers());
        let body = read_capped(response, ask.limit).await;
        Ok(Heard { status, retry_after, body })
    }

    async fn over_line(
        &self,
        line: &Line,
        headers: HeaderMap,
        ask: &Ask<'_>,
    ) -> Result<Heard, Unheard> {
        let unreachable = |why: &str| Unheard::Line(Broken::Unreachable(why.to_owned()));
        let Some(way) = ask.way else { return Err(unreachable("there is no way to it")) };
        let Some(request) = line_request(ask.url, headers, ask.body.clone()) else {
            return Err(unreachable("its URL has no path"));
        };
        let limits = (ask.limit, ask.patience);
        line.exchange(way, request, ask.opens, limits).await.map_err(Unheard::Line)
    }

    /// Posts a batch.
    pub(super) async fn post(
        &self,
        endpoint: EndpointId,
        channel: ChannelId,
        link: &Link,
        body: Body,
    ) -> PostOutcome {
        let Some(Endpoint { http, event, way, .. }) = self.endpoints.get(endpoint.get()) else {
            return PostOutcome::Fault(HoldReason::new("there is no such endpoint"));
        };
        let ask = Ask {
            http,
            url: event,
            way: way.as_ref(),
            body: body.bytes,
            gzip: body.gzip,
            opens: true,
            limit: MAX_ANSWER,
            patience: self.timeout,
        };
        let Heard { status, retry_after, body } = match self.ask(channel, link, &ask).await {
            Ok(heard) => heard,
            Err(error) => {
                self.saw(endpoint, Some(in_words(&error)));
                return failed(&error);
            }
        };
        match body {
            Ok(body) => {
                let now = clock::unix_micros();
                let verdict = Verdict::of(status, &body, retry_after.as_deref(), now);
                if !matches!(verdict, Verdict::Accepted { .. }) {
                    tracing::debug!(?verdict, endpoint = endpoint.get(), "a batch was not taken");
                }
                self.saw(endpoint, not_taken(&verdict));
                judge::post(verdict)
            }
            // The status is here, the rest of the answer is not, and with it the ackId.
            Err(_) => {
                let why = format!("its answer, HTTP {status}, breaks off");
                self.saw(endpoint, Some(why));
                PostOutcome::Doubt { after: None }
            }
        }
    }

    fn saw(&self, endpoint: EndpointId, why: Option<String>) {
        if let Some(url) = self.shown.get(endpoint.get()) {
            self.outages.saw(url, why);
        }
    }

    /// Asks for acknowledgements.
    pub(super) async fn poll(
        &self,
        endpoint: EndpointId,
        channel: ChannelId,
        link: &Link,
        ids: &[AckId],
    ) -> PollOutcome {
        let number = endpoint.get();
        let Some(endpoint) = self.endpoints.get(number) else {
            return PollOutcome::Failed;
        };
        let saw = |why| {
            if let Some(url) = self.shown.get(number) {
                self.unanswered.saw(url, why);
            }
        };
        let heard = self.ask(channel, link, &question(endpoint, ids, MAX_ACK_ANSWER)).await;
        match heard {
            Ok(Heard { status, body: Ok(body), .. }) => {
                let answer = ack::decode(status, &body, ids);
                saw(answer.as_ref().err().map(|error| format!("it answers {}", error.reason())));
                judge::poll(answer)
            }
            // The channel ends with its connection, and that is no answer of the collector.
            Err(Unheard::Line(Broken::Severed { .. })) => PollOutcome::Severed,
            Ok(Heard { status, body: Err(_), .. }) => {
                saw(Some(format!("its answer, HTTP {status}, breaks off or is too long")));
                PollOutcome::Failed
            }
            Err(error) => {
                saw(Some(in_words(&error)));
                PollOutcome::Failed
            }
        }
    }

    /// Asks whether the collector acknowledges.
    pub(super) async fn preflight(&self, endpoint: EndpointId, channel: ChannelId) -> Preflight {
        let unknown = |why: &dyn fmt::Display| judge::unknown(why);
        let Some(endpoint) = self.endpoints.get(endpoint.get()) else {
            return unknown(&"there is no such endpoint");
        };
        let ids = [NEVER_GIVEN];
        match self.ask(channel, &Link::Free, &question(endpoint, &ids, MAX_ANSWER)).await {
            Ok(Heard { status, body: Ok(body), .. }) => {
                judge::preflight(status, &ack::decode(status, &body, &ids))
            }
            Ok(Heard { status, body: Err(_), .. }) => {
                unknown(&format!("HTTP {status}, and the answer breaks off or is too long"))
            }
            Err(Unheard::Http(error)) => unknown(&why(&error)),
            Err(Unheard::Line(_)) => unknown(&"no answer"),
        }
    }
}

/// The question about some ids.
fn question<'a>(endpoint: &'a Endpoint, ids: &[AckId], limit: usize) -> Ask<'a> {
    Ask {
        http: &endpoint.http,
        url: &endpoint.ack,
        way: endpoint.way.as_ref(),
        // Not compressed: some collectors read this body as it is.
        body: ack::encode(ids).into(),
        gzip: false,
        opens: false,
        limit,
        patience: POLL_TIMEOUT,
    }
}

/// Why a batch was not taken, where the collector and not the batch is the reason.
fn not_taken(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Accepted { .. } | Verdict::Partial { .. } | Verdict::TooLarge { .. } => None,
        Verdict::Busy { reason, .. }
        | Verdict::Doubt { reason, .. }
        | Verdict::Endpoint { reason, .. }
        | Verdict::Fault { reason }
        | Verdict::Unknown { reason, .. } => Some(format!("it answers {reason}")),
    }
}
/// The first id of a channel, which nothing was ever posted on.
const NEVER_GIVEN: AckId = AckId::new(0);

/// What a POST without an answer means.
fn failed(error: &Unheard) -> PostOutcome {
    let (why, connects): (&dyn fmt::Display, _) = match error {
        Unheard::Http(error) => match tls_failure(error) {
            Some(tls) => return untrusted(tls),
            None => (error, error.is_connect()),
        },
        Unheard::Line(Broken::Tls(tls)) => return untrusted(tls),
        Unheard::Line(Broken::Unreachable(why)) => (why, true),
        Unheard::Line(Broken::Severed { sent }) => {
            tracing::debug!(sent, "a channel's connection is lost");
            return PostOutcome::Severed { sent: *sent };
        }
    };
    tracing::debug!(error = %why, "a POST has no answer");
    if connects {
        PostOutcome::Unreachable { after: None }
    } else {
        PostOutcome::Doubt { after: None }
    }
}

/// A certificate does not become valid by asking again.
fn untrusted(tls: &rustls::Error) -> PostOutcome {
    PostOutcome::Fault(HoldReason::new(&format!("TLS to the collector fails: {tls}")))
}

fn tls_failure(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        cause = match inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => inner.source(),
        };
    }
    None
}

/// Why there is no answer, for people.
fn in_words(error: &Unheard) -> String {
    match error {
        Unheard::Http(error) if error.is_connect() => {
            format!("it cannot be reached: {}", why(error))
        }
        Unheard::Http(error) => format!("no answer: {}", why(error)),
        Unheard::Line(Broken::Unreachable(reason)) => format!("it cannot be reached: {reason}"),
        Unheard::Line(Broken::Tls(tls)) => format!("TLS fails: {tls}"),
        Unheard::Line(Broken::Severed { .. }) => "its connection is lost".to_owned(),
    }
}

/// A POST over a channel's own connection, which knows nothing of what reqwest adds by itself.
pub(super) fn line_request(
    url: &Url,
    mut headers: HeaderMap,
    body: Bytes,
) -> Option<hyper::Request<Full<Bytes>>> {
    headers.extend(names());
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    if let Ok(host) = HeaderValue::from_str(&format!("{host}{port}")) {
        headers.insert(HOST, host);
    }
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{}{query}", url.path());
    let mut request = hyper::Request::post(path).body(Full::new(body)).ok()?;
    *request.headers_mut() = headers;
    Some(request)
}

/// The innermost reason of a request without an answer: the outer ones say "error sending
/// request".
pub(super) fn why(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    if error.is_timeout() { "no answer in time".to_owned() } else { innermost.to_string() }
}

/// The body of an answer, refused over `limit` bytes.
pub(super) async fn read_capped(
    mut response: Response,
    limit: usize,
) -> Result<Vec<u8>, Unreadable> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| Unreadable)? {
        if body.len() + chunk.len() > limit {
            return Err(Unreadable);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The answer broke off, or is too long.
#[derive(Debug)]
pub(super) struct Unreadable;
