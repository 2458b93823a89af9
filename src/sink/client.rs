//! HTTP to the collectors.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, InvalidHeaderValue, RETRY_AFTER,
};
use reqwest::{Client, RequestBuilder, Response};

use crate::clock;
use crate::delivery::{EndpointId, HoldReason, PollOutcome, PostOutcome};
use crate::hec::ack;
use crate::hec::response::Verdict;
use crate::hec::{ACK_PATH, AUTHORIZATION_PREFIX, CHANNEL_HEADER, EVENT_PATH};
use crate::types::{AckId, ChannelId};

use super::pack::Body;
use super::{Config, judge};

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
    authorization: HeaderValue,
    endpoints: Vec<Urls>,
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
}

impl HecClient {
    pub(super) fn new(config: &Config) -> Result<Self, ClientError> {
        // The first destination installs it; for the others it is there already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let token = format!("{AUTHORIZATION_PREFIX}{}", config.token.expose());
        let mut authorization = HeaderValue::from_str(&token).map_err(ClientError::Token)?;
        authorization.set_sensitive(true);
        let http = Client::builder()
            // Without a User-Agent, Splunk falls back to HTTP/1.0 (inputs.conf.spec,
            // `forceHttp10`).
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry the token to somebody else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .pool_idle_timeout(POOL_IDLE)
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
            .timeout(config.timeout)
            .build()?;
        let urls = |endpoint: &String| {
            let base = endpoint.trim_end_matches('/');
            Urls { event: format!("{base}{EVENT_PATH}"), ack: format!("{base}{ACK_PATH}") }
        };
        let endpoints = config.endpoints.iter().map(urls).collect();
        Ok(Self { http, authorization, endpoints })
    }

    fn request(&self, url: &str, channel: ChannelId) -> RequestBuilder {
        self.http
            .post(url)
            .header(AUTHORIZATION, self.authorization.clone())
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
        let mut request = self.request(&urls.event, channel).body(body.bytes);
        if body.gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return failed(&error),
        };
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
                judge::post(verdict)
            }
            // The status is here, the rest of the answer is not, and with it the ackId.
            Err(_) => PostOutcome::Doubt { after: None },
        }
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
        let request = self.request(&urls.ack, channel).body(ack::encode(ids));
        let Ok(response) = request.timeout(POLL_TIMEOUT).send().await else {
            return PollOutcome::Failed;
        };
        let status = response.status().as_u16();
        match read_capped(response, MAX_ACK_ANSWER).await {
            Ok(body) => judge::poll(ack::decode(status, &body, ids)),
            Err(_) => PollOutcome::Failed,
        }
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
async fn read_capped(mut response: Response, limit: usize) -> Result<Vec<u8>, Unreadable> {
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
struct Unreadable;
