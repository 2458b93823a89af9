//! How a collector is asked, and what it was that answered.

use std::sync::Arc;

use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE,
};
use reqwest::{Client, Response, Url};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::PATIENCE;
use crate::clock;
use crate::hec::CHANNEL_HEADER;
use crate::hec::response::Answer;
use crate::sink::client::{self, line_request, read_capped, why};
use crate::sink::http;
use crate::sink::jar::Jar;
use crate::sink::line::{Broken, Line, Way};
use crate::sink::token::Token;
use crate::sink::{Affinity, Config};

/// How to ask.
pub(super) struct Asker {
    pub(super) http: Client,
    pub(super) authorization: HeaderValue,
    pub(super) base: String,
    pub(super) channel: String,
    /// The balancer's cookies, where the destination sends them back.
    jar: Option<Arc<Jar>>,
    /// The channel's connection, where it has one of its own. A client with a pool may open another
    /// at any time.
    line: Option<(Way, Line)>,
}

/// An answer that was read.
pub(super) struct Heard {
    pub(super) answer: Answer,
    pub(super) body: Vec<u8>,
    pub(super) cookie: bool,
}

impl Asker {
    pub(super) fn new(config: &Config, endpoint: &str) -> Result<Self, String> {
        let token = Token::new(&config.token, None).map_err(|error| error.to_string())?;
        Ok(Self {
            http: http::client(config, None).map_err(|error| error.to_string())?,
            authorization: token.header(),
            base: endpoint.trim_end_matches('/').to_owned(),
            channel: uuid::Uuid::new_v4().to_string(),
            jar: (config.affinity == Affinity::Cookie).then(Arc::default),
            line: None,
        })
    }

    /// One with a channel of its own, and a connection for it where destinations have that.
    pub(super) fn with_a_channel(config: &Config, endpoint: &str) -> Result<Self, String> {
        let asker = Self::new(config, endpoint)?;
        let url = Url::parse(endpoint).map_err(|error| error.to_string())?;
        let way = http::way(config, &url, None).transpose().map_err(|error| error.to_string())?;
        Ok(Self { line: way.map(|way| (way, Line::default())), ..asker })
    }

    /// One with connections of its own, that asks on another's channel.
    pub(super) fn on_channel_of(self, other: &Self) -> Self {
        Self { channel: other.channel.clone(), jar: other.jar.clone(), ..self }
    }

    pub(super) async fn post(&self, path: &str, body: Vec<u8>) -> Result<Heard, String> {
        let url = Url::parse(&format!("{}{path}", self.base)).map_err(|error| error.to_string())?;
        if let Some((way, line)) = &self.line {
            return self.post_over(way, line, &url, body).await;
        }
        let mut request = self
            .http
            .post(url.clone())
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CHANNEL_HEADER, &self.channel)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        if let Some(cookies) = self.jar.as_ref().and_then(|jar| jar.header(&url)) {
            request = request.header(COOKIE, cookies);
        }
        let sent = request.timeout(PATIENCE).send().await;
        if let (Some(jar), Ok(response)) = (&self.jar, &sent) {
            jar.keep(&url, response.headers());
        }
        heard(sent).await
    }

    async fn post_over(
        &self,
        way: &Way,
        line: &Line,
        url: &Url,
        body: Vec<u8>,
    ) -> Result<Heard, String> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(channel) = HeaderValue::from_str(&self.channel) {
            headers.insert(HeaderName::from_static(CHANNEL_HEADER), channel);
        }
        let request = line_request(url, headers, body.into()).ok_or("the endpoint has no path")?;
        match line.exchange(way, request, true, (LARGEST, PATIENCE)).await {
            Ok(client::Heard { status, body: Ok(body), .. }) => {
                Ok(Heard { answer: Answer::parse(status, &body), body, cookie: false })
            }
            Ok(client::Heard { status, body: Err(_), .. }) => Err(unreadable(status)),
            Err(Broken::Unreachable(problem)) => Err(problem),
            Err(Broken::Tls(error)) => Err(error.to_string()),
            Err(Broken::Severed { .. }) => Err("the channel's connection was closed, and with it \
                                                the channel is lost"
                .to_owned()),
        }
    }
}

/// The most bytes that are read of an answer.
const LARGEST: usize = 64 << 10;

fn unreadable(status: u16) -> String {
    format!("HTTP {status}, and the answer breaks off or is too long")
}

pub(super) async fn heard(sent: reqwest::Result<Response>) -> Result<Heard, String> {
    let response = sent.map_err(|error| why(&error))?;
    let status = response.status().as_u16();
    let cookie = response.headers().contains_key(SET_COOKIE);
    match read_capped(response, LARGEST).await {
        Ok(body) => Ok(Heard { answer: Answer::parse(status, &body), body, cookie }),
        Err(_) => Err(unreadable(status)),
    }
}

/// A marker event.
pub(super) fn marker(number: u64, index: Option<&str>) -> Vec<u8> {
    let mut event = serde_json::json!({
        "event": format!("forebay probe: marker event {number} of `forebay check --probe`"),
        "source": "forebay:probe",
        "sourcetype": "forebay:probe",
    });
    if let (Some(index), Some(object)) = (index, event.as_object_mut()) {
        object.insert("index".to_owned(), index.into());
    }
    event.to_string().into_bytes()
}

/// Subject, issuer and end of a certificate, and the days that are left.
pub(super) fn described(der: Option<&[u8]>) -> (String, Option<i64>) {
    let Some((_, certificate)) = der.and_then(|der| X509Certificate::from_der(der).ok()) else {
        return ("a certificate that cannot be read".to_owned(), None);
    };
    let ends = certificate.validity().not_after;
    let now = clock::unix_micros().get() / 1_000_000;
    let days = (ends.timestamp() - now).div_euclid(86_400);
    let left = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
    let text = format!(
        "`{}` by `{}`, valid for {left} until {ends}",
        certificate.subject(),
        certificate.issuer(),
    );
    (text, Some(days))
}
