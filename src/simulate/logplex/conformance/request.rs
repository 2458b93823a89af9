//! Requests as Heroku's senders write them, and with one thing different.

use base64::Engine as _;

use super::Peer;

/// A request under construction.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    chunked: bool,
}

impl Request {
    /// As Logplex writes it, in its order (cowboy_client.erl): `count` messages in `body`.
    pub(super) fn logplex(peer: &Peer, count: u32, body: impl Into<Vec<u8>>) -> Self {
        let mut request = Self::bare(peer, body.into());
        request.set("Logplex-Msg-Count", count.to_string());
        request.set("Logplex-Frame-Id", peer.id());
        request.set("Logplex-Drain-Token", super::super::drain_token(0));
        request.set("User-Agent", "Logplex/v73".to_owned());
        request
    }

    /// As log-shuttle writes it: chunked, since Go does not know the length of its body.
    pub(super) fn shuttle(peer: &Peer, body: impl Into<Vec<u8>>) -> Self {
        let mut request = Self::bare(peer, body.into());
        request.set("Logplex-Msg-Count", "1".to_owned());
        request.set("X-Request-Id", peer.id());
        let agent = "log-shuttle/conformance (go1.22; linux; amd64; gc)";
        request.set("User-Agent", agent.to_owned());
        request.chunked = true;
        request
    }

    /// As Heroku's API writes a space's events.
    pub(super) fn poster(peer: &Peer, body: impl Into<Vec<u8>>) -> Self {
        let mut request = Self::bare(peer, body.into());
        request.set("User-Agent", "excon/0.76.0".to_owned());
        request.set("Connection", "close".to_owned());
        request.set("Logplex-Msg-Count", "1".to_owned());
        request
    }

    fn bare(peer: &Peer, body: Vec<u8>) -> Self {
        let mut request = Self {
            method: "POST",
            path: peer.path.clone(),
            headers: Vec::new(),
            body,
            chunked: false,
        };
        request.set("Host", peer.host.clone());
        if !peer.user.is_empty() {
            request.password(&peer.user, peer.password.expose());
        }
        request.set("Content-Type", "application/logplex-1".to_owned());
        request
    }

    /// Replaces a header, or adds it.
    pub(super) fn set(&mut self, name: &'static str, value: String) {
        match self.headers.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.headers.push((name, value)),
        }
    }

    /// With a header replaced, or added.
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.set(name, value.to_owned());
        self
    }

    /// Without a header.
    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    /// With a body that has another length than the one before.
    pub(super) fn with_body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    pub(super) fn password(&mut self, user: &str, password: &str) {
        let plain = format!("{user}:{password}");
        let encoded = base64::engine::general_purpose::STANDARD.encode(plain);
        self.set("Authorization", format!("Basic {encoded}"));
    }

    /// Request line and headers. Logplex leaves the length of an empty body out.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_length = self.headers.iter().any(|(name, _)| *name == "Content-Length");
        if self.chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if !self.body.is_empty() && !has_length {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// The body as it goes over the wire.
    pub(super) fn body(&self) -> Vec<u8> {
        if !self.chunked {
            return self.body.clone();
        }
        let mut all = Vec::new();
        for chunk in self.body.chunks(61) {
            all.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            all.extend_from_slice(chunk);
            all.extend_from_slice(b"\r\n");
        }
        all.extend_from_slice(b"0\r\n\r\n");
        all
    }

    /// All of it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        [self.head(), self.body()].concat()
    }
}
