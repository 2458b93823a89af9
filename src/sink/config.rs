//! What a destination is told.

use std::time::Duration;

use crate::delivery;
use crate::hec::mapping::MappingConfig;
use crate::types::{ByteSize, DestinationName, Secret};

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

/// What may be kept of messages that the collectors refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// The most bytes (`destination.dead_letters.max_size`). When they are full the destination
    /// waits; nothing is dropped.
    pub max_size: ByteSize,
    /// How old one may become before it is removed (`destination.dead_letters.max_age`).
    pub max_age: Duration,
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
