//! The table of every key, and of every table of keys, in the order of the documentation.
//!
//! Everything else is made from it: what is parsed, what is refused as unknown or as not yet
//! supported, `docs/configuration.md` and `ops/forebay.toml`.

use std::sync::LazyLock;
use std::time::Duration;

use super::key::{Key, Kind, Later, Preset, Section, Status};
use crate::types::ByteSize;

use Kind::{
    Choice, Count, Flag, List, Listen, Path, SecretFile, Size, Socket, Template, Text, Time,
};
use Preset::{Absent, Required, Value};
use Status::Supported;

/// Every table of keys; one inside another stands behind it.
pub(super) static SECTIONS: &[Section] = &[
    section("", "The top of the file, before the first table."),
    section("ingest", "Where Logplex drains send their frames."),
    section(
        "ingest.tls",
        "TLS for `ingest.listen`: 1.2 and 1.3, without client certificates. Without this table \
         it is plain HTTP.",
    ),
    repeated(
        "ingest.user",
        "Who may send, by the user name and password in the drain URL, a bearer token, or a \
         secret in the path. Repeat the table for more users. Without one, everybody who can \
         connect may send, which only a loopback address allows.",
    ),
    section("wal", "The log on disk: every frame is in it, synced, before Logplex gets its 200."),
    repeated(
        "drain",
        "A drain that is known by name. What it says about events goes before what a destination \
         says. Repeat the table for more drains.",
    ),
    section("drain.fields", "Indexed fields to add to every event of the drain."),
    repeated(
        "destination",
        "A Splunk HTTP Event Collector (HEC). Each destination reads the log at its own pace; \
         none can hold up another, or ingest. At least one is needed; repeat the table, and the \
         tables below it, for more.",
    ),
    section("destination.batch", "What one request to the collector carries."),
    section("destination.dead_letters", "What is kept of messages that the collectors refuse."),
    section(
        "destination.event",
        "How a message becomes an event. Templates are minijinja over `app`, `drain`, `host`, \
         `app_name`, `proc_id`, `proc_type`, `severity`, `facility`, `kind` and `query.NAME` \
         (parameters of the drain URL that `ingest.query` keeps).",
    ),
    section("destination.event.fields", "Indexed fields to add to every event."),
    section(
        "destination.filter",
        "Which messages go to this destination; the others are counted as filtered.",
    ),
    section(
        "destination.tls",
        "Which certificates of the collectors are trusted, and which one forebay shows.",
    ),
    section(
        "admin",
        "Health, metrics, state and changes over HTTP, for operators on this machine.",
    ),
];

const fn section(path: &'static str, doc: &'static str) -> Section {
    Section { path, repeated: false, doc, status: Supported }
}

const fn repeated(path: &'static str, doc: &'static str) -> Section {
    Section { path, repeated: true, doc, status: Supported }
}

const fn key(path: &'static str, kind: Kind, preset: Preset, doc: &'static str) -> Key {
    Key { path, kind, preset, doc, status: Supported, live: false }
}

/// A key whose changes take effect on SIGHUP.
const fn live(key: Key) -> Key {
    Key { live: true, ..key }
}

#[expect(dead_code, reason = "at this moment every key that is named is supported")]
const fn later(path: &'static str, kind: Kind, later: Later, doc: &'static str) -> Key {
    let preset = Absent { example: "", means: "" };
    Key { path, kind, preset, doc, status: Status::Later(later), live: false }
}

const fn size(min: ByteSize, max: ByteSize) -> Kind {
    Size { min, max }
}

const fn time(min: Duration, max: Duration) -> Kind {
    Time { min, max }
}

const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

const fn secs(value: u64) -> Duration {
    Duration::from_secs(value)
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const KB: u64 = 1000;
const MB: u64 = 1_000_000;
/// In MiB, as [`ByteSize::mib`] counts.
const GIB: u64 = 1024;
const TIB: u64 = 1024 * GIB;

/// Declares each key as a static of its own, so that a getter cannot ask for one that is not in
/// the table, and the list of all in a file.
macro_rules! keys {
    ($list:ident: $($name:ident = $key:expr;)*) => {
        $(pub(in crate::config) static $name: Key = $key;)*
        /// Every key of this file.
        pub(super) static $list: &[&Key] = &[$(&$name),*];
    };
}

mod admin;
mod destination;
mod relay;

pub(super) use admin::*;
pub(super) use destination::*;
pub(super) use relay::*;

/// Every key.
pub(super) static KEYS: LazyLock<Vec<&'static Key>> =
    LazyLock::new(|| [RELAY, DESTINATION, ADMIN].concat());
