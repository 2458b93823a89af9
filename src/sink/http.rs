//! What a destination's HTTP clients and connections are made of.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use reqwest::{Client, Url};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::config::{Affinity, Config, RawSource};
use super::line::Way;
use super::trust::{self, Trust, TrustError, TrustParts};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Splunk closes idle connections after 12 s when it is busy (inputs.conf.spec,
/// `busyKeepAliveIdleTimeout`); a POST on one that it has just closed ends in doubt.
pub(super) const POOL_IDLE: Duration = Duration::from_secs(10);

/// Why a destination has no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The token cannot stand in a header.
    #[error("the token holds characters that cannot stand in an HTTP header")]
    Token(#[source] InvalidHeaderValue),
    /// TLS, or the resolver.
    #[error("the HTTP client cannot be made: {0}")]
    Http(#[from] reqwest::Error),
    /// An endpoint is no URL.
    #[error("the endpoint {0} is no URL")]
    Endpoint(String),
    /// No TLS.
    #[error("TLS cannot be set up: {0}")]
    Trust(#[from] TrustError),
}

/// Without it, Splunk falls back to HTTP/1.0 (inputs.conf.spec, `forceHttp10`).
pub(super) const AGENT: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));

/// Splunk shows its administrators who sends (Splunk's own clients send these).
pub(super) fn names() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let own = |name| HeaderName::from_static(name);
    headers.insert(own("__splunk_app_name"), HeaderValue::from_static("forebay"));
    let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
    headers.insert(own("__splunk_app_version"), version);
    headers
}

/// Whether anybody that is connected to shows a certificate.
pub(super) fn has_tls(config: &Config) -> bool {
    let plain = |url: &str| Url::parse(url).is_ok_and(|url| url.scheme() == "http");
    let proxy = config.proxy.iter().map(|proxy| &proxy.url);
    let places = config.places.iter().map(|place| &place.url);
    config
        .endpoints
        .iter()
        .filter(|_| config.places.is_empty())
        .chain(places)
        .chain(proxy)
        .any(|url| !plain(url))
}

fn tls(config: &Config) -> Result<rustls::ClientConfig, ClientError> {
    // The first destination installs it; for the others it is there already.
    drop(rustls::crypto::ring::default_provider().install_default());
    match &config.trust {
        Some(trust) => Ok(trust.client_config()),
        None if has_tls(config) => Ok(Trust::new(&TrustParts::default())?.client_config()),
        // The system may have no authorities, and nobody shows a certificate.
        None => Ok(trust::nobody()?),
    }
}

/// The HTTP client of a destination, which has no token yet.
///
/// With an address, the name in the URL stands for that one: certificate and `Host` go by the name.
pub(super) fn client(config: &Config, only: Option<(&Url, IpAddr)>) -> Result<Client, ClientError> {
    let builder = Client::builder()
        .user_agent(AGENT)
        .default_headers(names())
        // A redirect would carry the token to somebody else.
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(tls(config)?)
        .http1_only()
        .tcp_nodelay(true)
        .pool_idle_timeout(POOL_IDLE)
        .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
        .timeout(config.timeout);
    let builder = match only.and_then(|(url, address)| Some((url.host_str()?, address))) {
        None => builder,
        // The port is that of the URL.
        Some((name, address)) => builder.resolve(name, SocketAddr::new(address, 0)),
    };
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

/// Where the connections of an endpoint's channels lead.
pub(super) fn way(
    config: &Config,
    url: &Url,
    address: Option<IpAddr>,
) -> Option<Result<Way, ClientError>> {
    if config.affinity != Affinity::Connection {
        return None;
    }
    let wrong = || ClientError::Endpoint(url.origin().ascii_serialization());
    let make = || {
        let host = url.host_str().ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_or_known_default().ok_or_else(wrong)?;
        let tls = if url.scheme() == "http" {
            None
        } else {
            let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
            Some((name, TlsConnector::from(Arc::new(tls(config)?))))
        };
        let host = address.map_or(host, |address| address.to_string());
        Ok(Way { host, port, tls, patience: CONNECT_TIMEOUT.min(config.timeout) })
    };
    Some(make())
}

/// What `/raw` is told about all lines of a request.
pub(super) fn raw_query(source: &RawSource) -> String {
    let RawSource { host, source, sourcetype, index } = source;
    let mut url = Url::parse("http://x").ok();
    for (name, value) in
        [("host", host), ("source", source), ("sourcetype", sourcetype), ("index", index)]
    {
        if let (Some(url), Some(value)) = (&mut url, value) {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    let query = url.as_ref().and_then(Url::query).unwrap_or_default();
    if query.is_empty() { String::new() } else { format!("?{query}") }
}
