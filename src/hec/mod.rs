//! Splunk's HTTP Event Collector, in one page.
//!
//! # Events
//!
//! A `POST` to [`EVENT_PATH`] carries JSON objects one behind the other, with nothing between
//! them; not an array. The token goes into `Authorization: Splunk <token>`, never into the URL.
//! The known keys of an object are `time`, `host`, `source`, `sourcetype`, `index`, `event` and
//! `fields` (Splunk docs: "Format events for HTTP Event Collector"). Objects are read one by one:
//! the first bad one decides the answer, and those before it are in. An object with any other
//! key ends the reading, without an error. `event` is not blank, `fields` is flat and `time` has
//! no exponent, or the object is bad. [`encoder`] writes them, [`mapping`] says what they hold.
//!
//! # Answers
//!
//! `{"text":"Success","code":0}` and some thirty others, among them a 200 that asks to send less
//! and a 400 that accepted half. [`response`] judges them all. Bodies may be compressed with
//! gzip and with nothing else. A request without `User-Agent` is answered in HTTP/1.0
//! (inputs.conf.spec, `forceHttp10`).
//!
//! # Channels and acknowledgement
//!
//! A 200 means that the events are in a queue in memory. A token with `useACK` (inputs.conf.spec)
//! also gets an `ackId`, and [`ACK_PATH`] tells whether the events of that request have been
//! replicated to the indexers' disks (Splunk docs: "About HTTP Event Collector Indexer
//! Acknowledgment"). Ids count from 0 on a channel, which is a GUID that the client makes up and
//! sends in [`CHANNEL_HEADER`] with events and with queries alike. What is known about a channel
//! is in one indexer's memory: it is forgotten on restart, after `maxIdleTime` (600 s) when
//! nobody asks, and by every other indexer behind a load balancer; then ids count from 0 again.
//! So an id means nothing without its channel, and a channel is given up at the first doubt.
//! [`ack`] asks and reads.

pub mod ack;
pub mod encoder;
mod json;
mod logfmt;
pub mod mapping;
mod query;
pub mod response;
pub mod retry_after;
mod route;

/// Where events go.
pub const EVENT_PATH: &str = "/services/collector/event";
/// Where text goes that Splunk takes apart by itself.
pub const RAW_PATH: &str = "/services/collector/raw";
/// Where acknowledgements are asked for.
pub const ACK_PATH: &str = "/services/collector/ack";
/// Where the collector says how it is. Takes no token.
pub const HEALTH_PATH: &str = "/services/collector/health";
/// The header that names the channel, in lower case as HTTP libraries want it.
pub const CHANNEL_HEADER: &str = "x-splunk-request-channel";
/// What stands before the token in the `Authorization` header.
pub const AUTHORIZATION_PREFIX: &str = "Splunk ";

pub use ack::AckError;
pub use encoder::{Encoder, Filtered, FrameFacts, Outcome, Target};
pub use mapping::{DrainInfo, Filter, Format, Mapping, MappingConfig, MappingError, Nul};
pub use response::{Answer, Reason, Verdict};
