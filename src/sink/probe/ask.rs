//! How a collector is asked, and what it was that answered.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, SET_COOKIE};
use reqwest::{Client, Response};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::PATIENCE;
use crate::clock;
use crate::hec::CHANNEL_HEADER;
use crate::hec::response::Answer;
use crate::sink::Config;
use crate::sink::client::{self, read_capped};
use crate::sink::token::Token;

/// How to ask.
pub(super) struct Asker {
    pub(super) http: Client,
    pub(super) authorization: HeaderValue,
    pub(super) base: String,
    pub(super) channel: String,
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
            http: client::http(config).map_err(|error| error.to_string())?,
            authorization: token.header(),
            base: endpoint.trim_end_matches('/').to_owned(),
            channel: uuid::Uuid::new_v4().to_string(),
        })
    }

    pub(super) async fn post(&self, path: &str, body: Vec<u8>) -> Result<Heard, String> {
        let request = self
            .http
            .post(format!("{}{path}", self.base))
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CHANNEL_HEADER, &self.channel)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        heard(request.timeout(PATIENCE).send().await).await
    }
}

pub(super) async fn heard(sent: reqwest::Result<Response>) -> Result<Heard, String> {
    let response = sent.map_err(|error| why(&error))?;
    let status = response.status().as_u16();
    let cookie = response.headers().contains_key(SET_COOKIE);
    match read_capped(response, 64 << 10).await {
        Ok(body) => Ok(Heard { answer: Answer::parse(status, &body), body, cookie }),
        Err(_) => Err(format!("HTTP {status}, and the answer breaks off or is too long")),
    }
}

/// The innermost reason of a request without an answer: the outer ones say "error sending
/// request".
fn why(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    if error.is_timeout() { "no answer in time".to_owned() } else { innermost.to_string() }
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
