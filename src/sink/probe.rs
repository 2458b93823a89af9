//! `forebay check --probe`: what a collector says when it is asked carefully.
//!
//! One question after the other, from the name to the balancer. Two of them write: a few marker
//! events, each with `forebay probe` in its text, are the only way to learn whether an index is
//! allowed and who counts the ackIds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::clock;
use crate::delivery::Acknowledgement;
use crate::hec::{ACK_PATH, EVENT_PATH, HEALTH_PATH, ack};
use crate::types::AckId;

use super::judge;
use super::trust::{Trust, TrustParts};
use super::{Affinity, Config};

mod ask;
mod choice;

use ask::{Asker, Heard, described, heard, marker};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Marker events that are posted to find out who counts the ackIds: half on one connection, half
/// on a new one each.
const MARKERS: u64 = 6;

/// Certificates that end sooner than this are worth a word.
const SOON: i64 = 30;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Does the name have addresses.
    Dns,
    /// Does somebody answer there, with a certificate that is trusted.
    Tls,
    /// What the collector says about itself.
    Health,
    /// Is the token good.
    Token,
    /// Does the token have acknowledgement, as the destination needs it.
    Acknowledgement,
    /// What `acknowledgement = "auto"` would choose, after all endpoints were asked.
    Choice,
    /// Does it take a body as large as batches are.
    BodySize,
    /// May the token write to the index, and is an event acknowledged.
    Index,
    /// Does everything that is sent on one channel reach one indexer.
    Stickiness,
}

impl Step {
    /// The step in a word or two.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tls => "connect",
            Self::Health => "health",
            Self::Token => "token",
            Self::Acknowledgement => "acknowledgement",
            Self::Choice => "auto",
            Self::BodySize => "body size",
            Self::Index => "index",
            Self::Stickiness => "stickiness",
        }
    }
}

/// What the answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should be.
    Good,
    /// Works, but somebody should know.
    Note,
    /// Delivery will not work like this.
    Bad,
    /// Could not be asked, after what was found before.
    Skipped,
}

impl Outcome {
    /// The outcome in a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Bad => "BAD",
            Self::Skipped => "skipped",
        }
    }
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The endpoint that was asked.
    pub endpoint: String,
    /// The question.
    pub step: Step,
    /// What its answer comes to.
    pub outcome: Outcome,
    /// The answer, for people. Never a secret.
    pub detail: String,
}

/// Asks every endpoint of a destination. An event is waited for as long as `wait`.
pub async fn probe(config: &Config, wait: Duration) -> Vec<Finding> {
    let (mut findings, mut all) = (Vec::new(), Vec::new());
    for endpoint in &config.endpoints {
        let mut said = Vec::new();
        let mut probe = Probe { config, wait, endpoint, findings: &mut findings, said: &mut said };
        probe.endpoint().await;
        all.push(said.pop().flatten());
    }
    if config.delivery.acknowledgement == Acknowledgement::Auto {
        findings.push(choice::of(&all));
    }
    findings
}

struct Probe<'a> {
    config: &'a Config,
    wait: Duration,
    endpoint: &'a str,
    findings: &'a mut Vec<Finding>,
    /// Whether the endpoint acknowledges, once it was asked and has said it.
    said: &'a mut Vec<Option<bool>>,
}

impl Probe<'_> {
    fn found(&mut self, step: Step, outcome: Outcome, detail: impl Into<String>) {
        let endpoint = self.endpoint.to_owned();
        self.findings.push(Finding { endpoint, step, outcome, detail: detail.into() });
    }

    fn skip(&mut self, steps: &[Step], why: &str) {
        for step in steps {
            self.found(*step, Outcome::Skipped, why);
        }
    }

    async fn endpoint(&mut self) {
        const ASKED: [Step; 6] = [
            Step::Health,
            Step::Token,
            Step::Acknowledgement,
            Step::BodySize,
            Step::Index,
            Step::Stickiness,
        ];
        if !self.connects().await {
            self.skip(&ASKED, "nobody to ask");
            return;
        }
        let asker = match Asker::new(self.config, self.endpoint) {
            Ok(asker) => asker,
            Err(problem) => {
                self.found(Step::Token, Outcome::Bad, problem);
                return;
            }
        };
        self.health(&asker).await;
        if !self.token(&asker).await {
            self.skip(
                &[Step::Acknowledgement, Step::BodySize, Step::Index, Step::Stickiness],
                "the token is not taken",
            );
            return;
        }
        let acknowledges = self.acknowledgement(&asker).await;
        self.body_size(&asker).await;
        match Asker::with_a_channel(self.config, self.endpoint) {
            Ok(asker) => self.events(&asker, acknowledges).await,
            Err(problem) => self.found(Step::Index, Outcome::Bad, problem),
        }
    }

    /// Name, address, certificate. False when there is nobody to ask.
    async fn connects(&mut self) -> bool {
        if self.config.proxy.is_some() {
            self.skip(&[Step::Dns, Step::Tls], "the proxy does this");
            return true;
        }
        let Ok(url) = Url::parse(self.endpoint) else {
            self.found(Step::Dns, Outcome::Bad, "the endpoint is no URL");
            return false;
        };
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            self.found(Step::Dns, Outcome::Bad, "the endpoint has no host");
            return false;
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let addresses: Vec<SocketAddr> =
            match timeout(PATIENCE, tokio::net::lookup_host((host.as_str(), port))).await {
                Ok(Ok(found)) => found.collect(),
                Ok(Err(error)) => {
                    self.found(Step::Dns, Outcome::Bad, format!("{host}: {error}"));
                    self.skip(&[Step::Tls], "there is no address");
                    return false;
                }
                Err(_) => {
                    self.found(Step::Dns, Outcome::Bad, format!("{host}: no answer in time"));
                    self.skip(&[Step::Tls], "there is no address");
                    return false;
                }
            };
        let list: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
        self.found(Step::Dns, Outcome::Good, format!("{host}: {}", list.join(", ")));

        let mut reached = false;
        for address in addresses {
            let connected = timeout(PATIENCE, TcpStream::connect(address)).await;
            let stream = match connected.map_err(|_| "no answer in time".to_owned()) {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    self.found(Step::Tls, Outcome::Bad, format!("{address}: {error}"));
                    continue;
                }
                Err(problem) => {
                    self.found(Step::Tls, Outcome::Bad, format!("{address}: {problem}"));
                    continue;
                }
            };
            if url.scheme() == "http" {
                self.found(Step::Tls, Outcome::Note, format!("{address}: connected, in the clear"));
                reached = true;
                continue;
            }
            reached |= self.handshake(stream, &host, address).await;
        }
        reached
    }

    async fn handshake(&mut self, stream: TcpStream, host: &str, address: SocketAddr) -> bool {
        let trust = match &self.config.trust {
            Some(trust) => trust.clone(),
            None => match Trust::new(&TrustParts::default()) {
                Ok(trust) => trust,
                Err(error) => {
                    self.found(Step::Tls, Outcome::Bad, error.to_string());
                    return false;
                }
            },
        };
        let Ok(name) = ServerName::try_from(host.to_owned()) else {
            self.found(Step::Tls, Outcome::Bad, format!("{host} is no name of a server"));
            return false;
        };
        let connector = TlsConnector::from(Arc::new(trust.client_config()));
        let stream = match timeout(PATIENCE, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.found(Step::Tls, Outcome::Bad, format!("{address}: {error}"));
                return false;
            }
            Err(_) => {
                self.found(Step::Tls, Outcome::Bad, format!("{address}: no handshake in time"));
                return false;
            }
        };
        let (_, session) = stream.get_ref();
        let version = session.protocol_version().and_then(|v| v.as_str()).unwrap_or("TLS");
        let chain = session.peer_certificates().unwrap_or_default();
        let (certificate, days) = described(chain.first().map(|der| der.as_ref()));
        let mut detail =
            format!("{address}: {version}, {} certificates, {certificate}", chain.len());
        let mut outcome = Outcome::Good;
        if days.is_some_and(|days| days < SOON) {
            outcome = Outcome::Note;
        }
        if !trust.verified() {
            outcome = Outcome::Note;
            detail.push_str(", NOT verified");
        }
        self.found(Step::Tls, outcome, detail);
        true
    }

    async fn health(&mut self, asker: &Asker) {
        let url = format!("{}{HEALTH_PATH}?ack=1", asker.base);
        match heard(asker.http.get(url).timeout(PATIENCE).send().await).await {
            Ok(Heard { answer, .. }) if answer.code == Some(17) => {
                self.found(Step::Health, Outcome::Good, answer.reason().to_string());
            }
            // Not every collector has it, and queues that are full now need not be later.
            Ok(Heard { answer, .. }) => {
                self.found(Step::Health, Outcome::Note, answer.reason().to_string());
            }
            Err(problem) => self.found(Step::Health, Outcome::Bad, problem),
        }
    }

    /// An empty body gets code 5 when everything before it is right, and nothing is written.
    async fn token(&mut self, asker: &Asker) -> bool {
        let (outcome, detail) = match asker.post(EVENT_PATH, Vec::new()).await {
            Ok(Heard { answer, .. }) if answer.code == Some(5) => {
                (Outcome::Good, "taken".to_owned())
            }
            Ok(Heard { answer, .. }) => (Outcome::Bad, answer.reason().to_string()),
            Err(problem) => (Outcome::Bad, problem),
        };
        self.found(Step::Token, outcome, detail);
        outcome == Outcome::Good
    }

    async fn acknowledgement(&mut self, asker: &Asker) -> bool {
        let asked = [AckId::new(0)];
        let said = match asker.post(ACK_PATH, ack::encode(&asked)).await {
            Ok(Heard { answer, body, .. }) => {
                let read = ack::decode(answer.status, &body, &asked);
                judge::said(answer.status, &read).ok_or_else(|| answer.reason().to_string())
            }
            Err(problem) => Err(problem),
        };
        self.said.push(said.as_ref().ok().copied());
        let (outcome, detail) = choice::acknowledges(self.config.delivery.acknowledgement, &said);
        self.found(Step::Acknowledgement, outcome, detail);
        said == Ok(true)
    }

    /// White space as large as a batch: code 5 when it fits, 413 when it does not.
    async fn body_size(&mut self, asker: &Asker) {
        let size = self.config.delivery.batch.max_bytes;
        let body = vec![b' '; size.as_usize()];
        let (outcome, detail) = match asker.post(EVENT_PATH, body).await {
            Ok(Heard { answer, .. }) if answer.code == Some(5) => {
                (Outcome::Good, format!("takes {size}"))
            }
            Ok(Heard { answer, .. }) if answer.status == 413 => {
                let fix = "lower destination.batch.max_bytes";
                (Outcome::Bad, format!("does not take {size}: {fix}"))
            }
            Ok(Heard { answer, .. }) => (Outcome::Note, answer.reason().to_string()),
            Err(problem) => (Outcome::Bad, problem),
        };
        self.found(Step::BodySize, outcome, detail);
    }

    /// Marker events on one channel: is the index allowed, are they acknowledged, and do their
    /// ids count from 0.
    async fn events(&mut self, asker: &Asker, acknowledges: bool) {
        let (index, named) = self.index();
        let mut ids = Vec::new();
        let mut cookie = false;
        for number in 0..MARKERS {
            // A channel with a connection of its own is never seen on another.
            let several = self.config.affinity != Affinity::Connection;
            let fresh =
                (several && number >= MARKERS / 2).then(|| Asker::new(self.config, self.endpoint));
            let again;
            let by = match fresh {
                Some(Ok(new)) => {
                    again = new.on_channel_of(asker);
                    &again
                }
                Some(Err(_)) | None => asker,
            };
            match by.post(EVENT_PATH, marker(number, index.as_deref())).await {
                Ok(Heard { answer, cookie: set, .. }) if answer.status == 200 => {
                    cookie |= set;
                    ids.extend(answer.ack_id);
                }
                Ok(Heard { answer, .. }) => {
                    let what = if answer.code == Some(7) {
                        format!("the token may not write to {named}: {}", answer.reason())
                    } else {
                        format!("a marker event was not taken: {}", answer.reason())
                    };
                    self.found(Step::Index, Outcome::Bad, what);
                    self.skip(&[Step::Stickiness], "no event is taken");
                    return;
                }
                Err(problem) => {
                    self.found(Step::Index, Outcome::Bad, problem);
                    self.skip(&[Step::Stickiness], "no event is taken");
                    return;
                }
            }
        }
        if !acknowledges {
            self.found(Step::Index, Outcome::Good, format!("{named} is taken"));
            self.skip(&[Step::Stickiness], "acknowledgement is off");
            return;
        }
        self.acknowledged(asker, &ids, &named).await;
        self.stickiness(&ids, cookie);
    }

    /// The index that is named for a message, if it is the same for all.
    fn index(&self) -> (Option<String>, String) {
        match &self.config.mapping.index {
            None => (None, "the token's own index".to_owned()),
            Some(index) if index.contains(['{', '}']) => (
                None,
                "the token's own index (`destination.event.index` depends on the message)"
                    .to_owned(),
            ),
            Some(index) => (Some(index.clone()), format!("index {index:?}")),
        }
    }

    async fn acknowledged(&mut self, asker: &Asker, ids: &[AckId], named: &str) {
        let Some(last) = ids.last().copied() else {
            self.found(Step::Index, Outcome::Bad, format!("{named} is taken, but without ackId"));
            return;
        };
        let start = clock::instant();
        loop {
            let heard = asker.post(ACK_PATH, ack::encode(&[last])).await;
            let read = heard.map(|heard| ack::decode(heard.answer.status, &heard.body, &[last]));
            let took = start.elapsed();
            match read {
                Ok(Ok(acked)) if acked.contains(&last) => {
                    let detail =
                        format!("{named} is taken, acknowledged after {} ms", took.as_millis());
                    return self.found(Step::Index, Outcome::Good, detail);
                }
                Ok(Ok(_)) | Err(_) if took < self.wait => {}
                Ok(Ok(_)) => {
                    let detail = format!(
                        "{named} is taken, but not acknowledged within {} s",
                        self.wait.as_secs()
                    );
                    return self.found(Step::Index, Outcome::Bad, detail);
                }
                Ok(Err(error)) => {
                    return self.found(Step::Index, Outcome::Bad, error.to_string());
                }
                Err(problem) => return self.found(Step::Index, Outcome::Bad, problem),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn stickiness(&mut self, ids: &[AckId], cookie: bool) {
        let ids: Vec<u64> = ids.iter().map(|id| id.get()).collect();
        let expected: Vec<u64> = (0..MARKERS).collect();
        if ids == expected {
            let detail = format!("ackIds 0 to {} on one channel: one indexer", MARKERS - 1);
            return self.found(Step::Stickiness, Outcome::Good, detail);
        }
        let (kept, fresh) = ids.split_at_checked(expected.len() / 2).unwrap_or((&ids, &[]));
        let rising = kept.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        let shown: Vec<_> = ids.iter().map(u64::to_string).collect();
        let shown = shown.join(", ");
        let (outcome, what) = match (rising, cookie, fresh.is_empty()) {
            (_, true, _) => (
                Outcome::Bad,
                "several indexers behind one name, with a cookie that was not sent back: write \
                 affinity = \"cookie\"",
            ),
            (true, false, false) => (
                Outcome::Note,
                "several indexers behind one name, one for each connection; channels are lost \
                 when connections change: write affinity = \"connection\"",
            ),
            (false, false, _) | (true, false, true) => (
                Outcome::Bad,
                "several indexers behind one name, without stickiness: acknowledgements cannot \
                 be relied on",
            ),
        };
        self.found(Step::Stickiness, outcome, format!("ackIds {shown} on one channel: {what}"));
    }
}
