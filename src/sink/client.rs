//! HTTP to the collectors.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    InvalidHeaderValue, RETRY_AFTER,
};
use reqwest::{Client, RequestBuilder, Response};

use crate::clock;
use crate::delivery::{EndpointId, HoldReason, PollOutcome, PostOutcome};
use crate::hec::ack;
use crate::hec::response::Verdict;
use crate::hec::{ACK_PATH, CHANNEL_HEADER, EVENT_PATH, RAW_PATH, Target};
use crate::types::{AckId, ChannelId};

use super::config::{Config, RawSource};
use super::judge;
use super::outage::{self, Outages};
use super::pack::Body;
use super::token::{Token, TokenReload};
use super::trust::{Trust, TrustError, TrustParts};

/// The most bytes that are read of an answer to a POST. Real ones have about a hundred.
const MAX_ANSWER: usize = 64 << 10;

/// The most bytes that are read of an answer to a poll: a thousand ids take about 20 KB.
const MAX_ACK_ANSWER: usize = 1 << 20;

/// A poll is read to its end: what it says, it says once (Splunk docs: status information is
/// deleted after clients retrieve it).
const POLL_TIMEOUT: Duration = Duration::from_mins(1);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Splunk closes idle connections after 12 s when it is busy (inputs.conf.spec,
/// `busyKeepAliveIdleTimeout`); a POST on one that it has just closed ends in doubt.
const POOL_IDLE: Duration = Duration::from_secs(10);

/// The collectors of one destination.
#[derive(Clone, Debug)]
pub(super) struct HecClient {
    http: Client,
    token: Arc<Token>,
    endpoints: Vec<Urls>,
    /// Why they take nothing, those that do not.
    pub(super) outages: Arc<Outages>,
}

#[derive(Clone, Debug)]
struct Urls {
    event: String,
    ack: String,
}

/// Why a destination has no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The token cannot stand in a header.
    #[error("the token holds characters that cannot stand in an HTTP header")]
    Token(#[source] InvalidHeaderValue),
    /// TLS, or the resolver.
    #[error("the HTTP client cannot be made: {0}")]
    Http(#[from] reqwest::Error),
    /// No TLS.
    #[error("TLS cannot be set up: {0}")]
    Trust(#[from] TrustError),
}

/// The HTTP client of a destination, which has no token yet.
pub(super) fn http(config: &Config) -> Result<Client, ClientError> {
    // The first destination installs it; for the others it is there already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let trust = match &config.trust {
        Some(trust) => trust.clone(),
        None => Trust::new(&TrustParts::default())?,
    };
    let mut headers = HeaderMap::new();
    // Splunk shows its administrators who sends (Splunk's own clients send these).
    let own = |name| HeaderName::from_static(name);
    headers.insert(own("__splunk_app_name"), HeaderValue::from_static("forebay"));
    let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
    headers.insert(own("__splunk_app_version"), version);
    let builder = Client::builder()
        // Without a User-Agent, Splunk falls back to HTTP/1.0 (inputs.conf.spec,
        // `forceHttp10`).
        .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        // A redirect would carry the token to somebody else.
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(trust.client_config())
        .http1_only()
        .tcp_nodelay(true)
        .pool_idle_timeout(POOL_IDLE)
        .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
        .timeout(config.timeout);
    let builder = match &config.proxy {
        None => builder.no_proxy(),
        Some(proxy) => {
            let through = reqwest::Proxy::all(&proxy.url)?;
            builder.proxy(match &proxy.credentials {
                None => through,
                Some((user, password)) => through.basic_auth(user, password.expose()),
            })
        }
    };
    Ok(builder.build()?)
}

impl HecClient {
    pub(super) fn new(config: &Config) -> Result<Self, ClientError> {
        let http = http(config)?;
        let token =
            Token::new(&config.token, config.token_file.clone()).map_err(ClientError::Token)?;
        let query = match config.target {
            Target::Event => String::new(),
            Target::Raw => raw_query(&config.raw),
        };
        let path = match config.target {
            Target::Event => EVENT_PATH,
            Target::Raw => RAW_PATH,
        };
        let urls = |endpoint: &String| {
            let base = endpoint.trim_end_matches('/');
            Urls { event: format!("{base}{path}{query}"), ack: format!("{base}{ACK_PATH}") }
        };
        let endpoints = config.endpoints.iter().map(urls).collect();
        let outages = Arc::new(Outages::new(config.name.clone(), &config.endpoints));
        Ok(Self { http, token: Arc::new(token), endpoints, outages })
    }

    /// Reads the token's file again.
    pub(super) fn reload_token(&self) -> TokenReload {
        self.token.reload()
    }

    /// After an answer that blames the token: whether there is another one now. Not on the
    /// runtime's threads, for the file may be on a disk that hangs.
    async fn has_new_token(&self, status: u16) -> bool {
        if !matches!(status, 401 | 403) {
            return false;
        }
        let token = Arc::clone(&self.token);
        let reload = tokio::task::spawn_blocking(move || token.reload()).await;
        matches!(reload, Ok(TokenReload::Changed))
    }

    fn request(&self, url: &str, channel: ChannelId) -> RequestBuilder {
        self.http
            .post(url)
            .header(AUTHORIZATION, self.token.header())
            .header(CHANNEL_HEADER, channel.to_string())
            .header(CONTENT_TYPE, "application/json")
    }

    /// Posts a batch.
    pub(super) async fn post(
        &self,
        endpoint: EndpointId,
        channel: ChannelId,
        body: Body,
    ) -> PostOutcome {
        let Some(urls) = self.endpoints.get(endpoint.get()) else {
            return PostOutcome::Fault(HoldReason::new("there is no such endpoint"));
        };
        let send = async || {
            let mut request = self.request(&urls.event, channel).body(body.bytes.clone());
            if body.gzip {
                request = request.header(CONTENT_ENCODING, "gzip");
            }
            request.send().await
        };
        let mut response = match send().await {
            Ok(response) => response,
            Err(error) => return self.unanswered(endpoint, &error),
        };
        // Nothing was accepted, so nothing comes twice.
        if self.has_new_token(response.status().as_u16()).await {
            response = match send().await {
                Ok(response) => response,
                Err(error) => return self.unanswered(endpoint, &error),
            };
        }
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.map(str::to_owned);
        match read_capped(response, MAX_ANSWER).await {
            Ok(body) => {
                let now = clock::unix_micros();
                let verdict = Verdict::of(status, &body, after.as_deref(), now);
                if !matches!(verdict, Verdict::Accepted { .. }) {
                    tracing::debug!(?verdict, endpoint = endpoint.get(), "a batch was not taken");
                }
                self.outages.saw(endpoint.get(), not_taken(&verdict));
                judge::post(verdict)
            }
            // The status is here, the rest of the answer is not, and with it the ackId.
            Err(_) => {
                let why = format!("its answer, HTTP {status}, breaks off");
                self.outages.saw(endpoint.get(), Some(why));
                PostOutcome::Doubt { after: None }
            }
        }
    }

    fn unanswered(&self, endpoint: EndpointId, error: &reqwest::Error) -> PostOutcome {
        self.outages.saw(endpoint.get(), Some(outage::in_words(error)));
        failed(error)
    }

    /// Asks for acknowledgements.
    pub(super) async fn poll(
        &self,
        endpoint: EndpointId,
        channel: ChannelId,
        ids: &[AckId],
    ) -> PollOutcome {
        let Some(urls) = self.endpoints.get(endpoint.get()) else { return PollOutcome::Failed };
        // Not compressed: some collectors read this body as it is.
        let question = ack::encode(ids);
        let ask = || {
            let request = self.request(&urls.ack, channel).body(question.clone());
            request.timeout(POLL_TIMEOUT).send()
        };
        let Ok(mut response) = ask().await else { return PollOutcome::Failed };
        if self.has_new_token(response.status().as_u16()).await {
            let Ok(again) = ask().await else { return PollOutcome::Failed };
            response = again;
        }
        let status = response.status().as_u16();
        match read_capped(response, MAX_ACK_ANSWER).await {
            Ok(body) => judge::poll(ack::decode(status, &body, ids)),
            Err(_) => PollOutcome::Failed,
        }
    }
}

/// What `/raw` is told about all lines of a request.
fn raw_query(source: &RawSource) -> String {
    let RawSource { host, source, sourcetype, index } = source;
    let mut url = reqwest::Url::parse("http://x").ok();
    for (name, value) in
        [("host", host), ("source", source), ("sourcetype", sourcetype), ("index", index)]
    {
        if let (Some(url), Some(value)) = (&mut url, value) {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    let query = url.as_ref().and_then(reqwest::Url::query).unwrap_or_default();
    if query.is_empty() { String::new() } else { format!("?{query}") }
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

/// What a POST without an answer means.
fn failed(error: &reqwest::Error) -> PostOutcome {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            // A certificate does not become valid by asking again.
            let sentence = format!("TLS to the collector fails: {tls}");
            return PostOutcome::Fault(HoldReason::new(&sentence));
        }
        cause = match inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => inner.source(),
        };
    }
    tracing::debug!(%error, "a POST has no answer");
    if error.is_connect() {
        PostOutcome::Unreachable { after: None }
    } else {
        PostOutcome::Doubt { after: None }
    }
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
