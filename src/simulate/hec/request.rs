//! What stands around the body: route, token, channel, query.

use base64::Engine as _;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use super::config::HecToken;
use super::reply::{
    CHANNEL_MISSING, INVALID_AUTHORIZATION, INVALID_CHANNEL, INVALID_TOKEN, QUERY_AUTH, Reply,
    TOKEN_DISABLED, TOKEN_REQUIRED,
};

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Event,
    Raw,
    Ack,
    Health,
}

impl Route {
    pub(super) fn of(path: &str) -> Option<Self> {
        match path.strip_prefix("/services/collector")? {
            "" | "/1.0" | "/event" | "/event/1.0" => Some(Self::Event),
            "/raw" | "/raw/1.0" => Some(Self::Raw),
            "/ack" | "/ack/1.0" => Some(Self::Ack),
            "/health" | "/health/1.0" => Some(Self::Health),
            _ => None,
        }
    }

    /// Takes events.
    pub(super) const fn posts(self) -> bool {
        matches!(self, Self::Event | Self::Raw)
    }

    pub(super) const fn allow(self) -> &'static str {
        match self {
            Self::Health => "GET,HEAD,OPTIONS",
            Self::Event | Self::Raw | Self::Ack => "POST,OPTIONS",
        }
    }
}

/// The query parameters HEC reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) token: Option<String>,
    pub(super) channel: Option<String>,
    pub(super) host: Option<String>,
    pub(super) source: Option<String>,
    pub(super) sourcetype: Option<String>,
    pub(super) index: Option<String>,
}

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match name {
                "token" => &mut parsed.token,
                "channel" => &mut parsed.channel,
                "host" => &mut parsed.host,
                "source" => &mut parsed.source,
                "sourcetype" => &mut parsed.sourcetype,
                "index" => &mut parsed.index,
                _ => continue,
            };
            *slot = Some(decode(value));
        }
        parsed
    }
}

/// Undoes percent-encoding; what is none stays.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let digit = |at: usize| char::from(*tail.get(at)?).to_digit(16);
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = tail.get(2..).unwrap_or(&[]);
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(*first),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Finds the token of a request. Measured order: is the token good, then may it come by query.
pub(super) fn token(
    tokens: &[HecToken],
    headers: &HeaderMap,
    query: &Query,
) -> Result<usize, Reply> {
    if let Some(text) = &query.token {
        // A query token wins over the header even where it is not permitted.
        let number = known(tokens, text)?;
        let permitted = tokens.get(number).is_some_and(|token| token.allow_query_auth);
        return if permitted { Ok(number) } else { Err(QUERY_AUTH) };
    }
    let header = headers.get(AUTHORIZATION).ok_or(TOKEN_REQUIRED)?;
    let header = header.to_str().map_err(|_| INVALID_AUTHORIZATION)?;
    let (scheme, credentials) = header.split_once(' ').ok_or(INVALID_AUTHORIZATION)?;
    let credentials = credentials.trim();
    if credentials.is_empty() {
        return Err(INVALID_AUTHORIZATION);
    }
    if scheme.eq_ignore_ascii_case("Splunk") {
        known(tokens, credentials)
    } else if scheme.eq_ignore_ascii_case("Basic") {
        let pair = base64::engine::general_purpose::STANDARD
            .decode(credentials)
            .ok()
            .and_then(|pair| String::from_utf8(pair).ok())
            .ok_or(INVALID_AUTHORIZATION)?;
        known(tokens, pair.split_once(':').ok_or(INVALID_AUTHORIZATION)?.1)
    } else {
        Err(INVALID_AUTHORIZATION)
    }
}

fn known(tokens: &[HecToken], text: &str) -> Result<usize, Reply> {
    let number =
        tokens.iter().position(|token| token.value.expose() == text).ok_or(INVALID_TOKEN)?;
    match tokens.get(number) {
        Some(token) if token.enabled => Ok(number),
        _ => Err(TOKEN_DISABLED),
    }
}

/// The channel of a request, by header or query.
pub(super) fn channel(
    headers: &HeaderMap,
    query: &Query,
    required: bool,
) -> Result<Option<u128>, Reply> {
    let header = headers.get("x-splunk-request-channel").map(|value| value.to_str());
    let text = match header {
        Some(text) => Some(text.map_err(|_| INVALID_CHANNEL)?),
        None => query.channel.as_deref(),
    };
    match text {
        None if required => Err(CHANNEL_MISSING),
        None => Ok(None),
        Some(text) => guid(text).map(Some).ok_or(INVALID_CHANNEL),
    }
}

/// Only the hyphenated form of 36 characters is a GUID to HEC.
fn guid(text: &str) -> Option<u128> {
    if text.len() != 36 {
        return None;
    }
    uuid::Uuid::try_parse(text).ok().map(|guid| guid.as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases() {
        for path in ["", "/event", "/event/1.0", "/1.0"] {
            assert_eq!(Route::of(&format!("/services/collector{path}")), Some(Route::Event));
        }
        assert_eq!(Route::of("/services/collector/raw/1.0"), Some(Route::Raw));
        assert_eq!(Route::of("/services/collector/health/1.0"), Some(Route::Health));
        assert_eq!(Route::of("/services/collector/ack"), Some(Route::Ack));
        assert_eq!(Route::of("/services/collector/mint"), None);
        assert_eq!(Route::of("/"), None);
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("index=a%20b&host=x+y&source=%zz%2F&x=1&sourcetype");
        assert_eq!(query.index.as_deref(), Some("a b"));
        assert_eq!(query.host.as_deref(), Some("x y"));
        assert_eq!(query.source.as_deref(), Some("%zz/"));
        assert_eq!(query.sourcetype.as_deref(), Some(""));
    }

    #[test]
    fn guids_are_hyphenated() {
        assert_eq!(
            guid("0bd84bbd-d4a1-4b1a-b9f1-ee1c6a5b2b8a").map(|g| g >> 96),
            Some(0x0bd8_4bbd)
        );
        assert_eq!(guid("0bd84bbdd4a14b1ab9f1ee1c6a5b2b8a"), None);
        assert_eq!(guid("zbd84bbd-d4a1-4b1a-b9f1-ee1c6a5b2b8a"), None);
        assert_eq!(guid("{bd84bbd-d4a1-4b1a-b9f1-ee1c6a5b2b8}"), None);
    }
}
