//! What a destination is told.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::delivery;
use crate::hec::Target;
use crate::hec::mapping::MappingConfig;
use crate::types::{ByteSize, DestinationName, Secret};

use super::names::Place;
use super::trust::Trust;

/// One destination's settings. Built by `config`, which has checked them.
#[derive(Clone, Debug)]
pub struct Config {
    /// The destination's name and identity on disk (`destination.name`).
    pub name: DestinationName,
    /// Base URLs of the HTTP Event Collectors (`destination.endpoints`), without a path, such as
    /// `https://hec-1.example.com:8088`.
    pub endpoints: Vec<String>,
    /// The HEC token (`destination.token` or `token_file`).
    pub token: Secret,
    /// The file the token came from, read again when a collector refuses it
    /// (`destination.token_file`).
    pub token_file: Option<PathBuf>,
    /// TLS, where it is not the system's trust and nothing else (`[destination.tls]`).
    pub trust: Option<Trust>,
    /// How often the names in `endpoints` are looked up, when every address of theirs is an endpoint
    /// (`destination.resolve`, `resolve_interval`).
    pub resolve_every: Option<Duration>,
    /// Where the endpoints are, once they were looked up: one for each of `endpoints`.
    pub places: Vec<Place>,
    /// What ties a channel to one indexer (`destination.affinity`).
    pub affinity: Affinity,
    /// A proxy on the way (`destination.proxy`).
    pub proxy: Option<Proxy>,
    /// Which endpoint of the collector is used (`destination.endpoint_target`).
    pub target: Target,
    /// What [`Target::Raw`] says about all lines.
    pub raw: RawSource,
    /// How bodies are compressed (`destination.compression`).
    pub compression: Compression,
    /// Where a destination without a checkpoint begins (`destination.start`).
    pub start: Start,
    /// How long one POST may take, and how long connecting may take (`destination.timeout`).
    pub timeout: Duration,
    /// What the pure machine is told: batches, lanes, window, retries, acknowledgement.
    pub delivery: delivery::Config,
    /// How messages become events.
    pub mapping: MappingConfig,
    /// What may be kept of refused messages.
    pub dead_letters: DeadLetters,
    /// The most bytes a message may have in an event; longer ones are cut and flagged
    /// `truncated=1`. Splunk refuses events over `maxEventSize`, 5 MB by default.
    pub max_event: ByteSize,
}

/// What ties a channel to one indexer behind a load balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Nothing: there is one indexer behind each endpoint, or the balancer goes by the address.
    #[default]
    None,
    /// The cookies that the balancer sets.
    Cookie,
    /// A connection that the channel has for itself.
    Connection,
}

/// What may be kept of messages that the collectors refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// The most bytes (`destination.dead_letters.max_size`). When they are full the destination
    /// waits; nothing is dropped.
    pub max_size: ByteSize,
    /// How old one may become before it is removed (`destination.dead_letters.max_age`).
    pub max_age: Duration,
}

impl Config {
    /// Whether the collectors' certificates are checked.
    #[must_use]
    pub fn tls_verified(&self) -> bool {
        self.trust.as_ref().is_none_or(Trust::verified)
    }

    /// With other endpoints: those that the names were found to have.
    pub(super) fn at(&mut self, places: &[Place]) {
        // There is one for each name at least.
        if let Some(count) = NonZeroUsize::new(places.len()) {
            self.endpoints = places.iter().map(Place::to_string).collect();
            self.places = places.to_vec();
            self.delivery.endpoints = count;
        }
    }
}

/// A proxy on the way to the collectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its URL, without credentials.
    pub url: String,
    /// User and password, if it asks for them (`destination.proxy_credentials_file`).
    pub credentials: Option<(String, Secret)>,
}

/// What the raw endpoint is told about all lines of a request, where it is told at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawSource {
    /// `host`.
    pub host: Option<String>,
    /// `source`.
    pub source: Option<String>,
    /// `sourcetype`.
    pub sourcetype: Option<String>,
    /// `index`.
    pub index: Option<String>,
}

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Sent as they are.
    None,
    /// gzip, the only encoding Splunk takes.
    Gzip,
}

/// Where a destination without a checkpoint begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest frame that is retained.
    Earliest,
    /// With the next frame that arrives.
    Latest,
}
