//! The table of every key, and of every table of keys, in the order of the documentation.
//!
//! Everything else is made from it: what is parsed, what is refused as unknown or as not yet
//! supported, `docs/configuration.md` and `ops/forebay.toml`.

use std::time::Duration;

use super::key::{Key, Kind, Later, LaterValue, Preset, Section, Status};
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
/// the table, and the list of them all.
macro_rules! keys {
    ($($name:ident = $key:expr;)*) => {
        $(pub(super) static $name: Key = $key;)*
        /// Every key.
        pub(super) static KEYS: &[&Key] = &[$(&$name),*];
    };
}

keys! {
    DATA_DIR = key(
        "data_dir", Path, Value("/var/lib/forebay"),
        "The directory of the log and of everything else forebay remembers. Created when \
         missing. One process uses it at a time.",
    );

    LOG_LEVEL = live(key(
        "log_level", Text, Value("info"),
        "Which log lines are written: `error`, `warn`, `info`, `debug` or `trace`, or a filter \
         such as `info,forebay::sink=debug`. The environment variable `FOREBAY_LOG`, when it is \
         set, decides instead.",
    ));
    DRAINS_FILE = live(key(
        "drains_file", Path,
        Absent {
            example: "\"${CREDENTIALS_DIRECTORY}/drains.toml\"",
            means: "only the `[[drain]]` of this file",
        },
        "A TOML file with more `[[drain]]`, and nothing else: for lists that a program writes.",
    ));

    LISTEN = key(
        "ingest.listen", Listen,
        Value("127.0.0.1:8080"),
        "Where drains connect. Port 0 takes any free port. `systemd` takes the socket that the \
         service manager hands over, which goes on queueing connections during a restart. An \
         address that is not loopback, and `systemd`, need `[ingest.tls]` and an \
         `[[ingest.user]]`, or `ingest.allow_insecure`.",
    );
    PATH = key(
        "ingest.path", Text, Value("/logs"),
        "The one path that takes frames. Begins with `/` and has no query.",
    );
    MAX_BODY = key(
        "ingest.max_body", size(ByteSize::mib(1), ByteSize::mib(64)), Value("8MiB"),
        "The largest body that is taken. Logplex drops a frame that is answered 413, so this \
         stays well above the frames it makes.",
    );
    MAX_GZIP_RATIO = key(
        "ingest.max_gzip_ratio", Count { min: 20, max: 1032 }, Value("200"),
        "How many times larger than its gzip a body may be, from 1MiB on. More is no log but a \
         bomb, and is answered 413 before all of it is there.",
    );
    ACK_DEADLINE = key(
        "ingest.ack_deadline", time(ms(1), ms(4999)), Value("4s"),
        "How long a request may wait for its frame to be durable before it is answered 503. \
         Less than 5s, because Logplex gives up then.",
    );
    HOLD_AFTER = key(
        "ingest.hold_after", time(ms(10), secs(60)), Value("1s"),
        "When requests have waited for this long and the log has taken nothing, ingest counts as \
         holding, which is logged and shown.",
    );
    CLOSE_AFTER = key(
        "ingest.close_after", time(ms(10), secs(HOUR)), Value("4s"),
        "When ingest has been holding for this long and the log has still taken nothing, \
         connections are refused: that costs Logplex no try, and a 503 costs one.",
    );
    MAX_CONNECTIONS = key(
        "ingest.max_connections", Count { min: 1, max: 1_000_000 }, Value("10000"),
        "How many connections may be open. At the limit forebay stops accepting: a connection \
         that waits costs Logplex no try.",
    );
    MAX_CONNECTIONS_PER_ADDRESS = key(
        "ingest.max_connections_per_address", Count { min: 1, max: 1_000_000 }, Value("10000"),
        "How many of them may come from one address, or one IPv6 network of 64 bits. One more is \
         closed at once, which costs its sender a try. Logplex's nodes may share an address, and \
         behind a proxy all senders do, so it is not less than `max_connections` by itself.",
    );
    MAX_IN_FLIGHT = key(
        "ingest.max_in_flight", size(ByteSize::mib(2), ByteSize::mib(64 * GIB)), Value("64MiB"),
        "The most memory that bodies take from their first byte until they are durable. When \
         it is taken, requests wait up to `ack_deadline`. At least twice `max_body`.",
    );
    IDLE_TIMEOUT = key(
        "ingest.idle_timeout", time(secs(300), secs(DAY)), Value("310s"),
        "How long a connection may be idle. At least 300s, because Logplex keeps connections \
         for up to 240s and loses a try when forebay closes first.",
    );
    ALLOW_INSECURE = key(
        "ingest.allow_insecure", Flag, Value("false"),
        "Permits `listen` on an address that is not loopback although passwords and logs then \
         cross the network in the clear, and although there may be no `[[ingest.user]]`. For a \
         network that is private, or behind a proxy that speaks TLS.",
    );
    UNKNOWN_DRAIN = live(key(
        "ingest.unknown_drain",
        Choice { now: &["accept", "reject"], later: &[] },
        Value("accept"),
        "What happens to frames of a drain that is not configured, when their credentials are \
         good. `accept`: they are kept, counted and shown, and where other drains are configured \
         their events have the field `unknown_drain=1`; a drain's token is known only after the \
         drain was added. `reject`: they are answered 403, and Logplex drops them.",
    ));
    QUERY = live(key(
        "ingest.query", List,
        Absent { example: "[\"app\", \"env\"]", means: "`app` alone" },
        "The parameters of the drain URL that are kept with a frame, as `query.NAME` in \
         templates. Others are forgotten: they may hold secrets.",
    ));
    ALLOW = live(key(
        "ingest.allow", List,
        Absent { example: "[\"10.0.0.0/8\", \"127.0.0.1\"]", means: "every address" },
        "The networks senders may connect from. Others are closed at once. Logplex has no \
         addresses that are published.",
    ));
    PROXY_PROTOCOL_FROM = live(key(
        "ingest.proxy_protocol_from", List,
        Absent { example: "[\"10.0.0.1\"]", means: "nobody" },
        "The networks of proxies that say for whom they connect, by the PROXY protocol, version \
         2. From there the header must come; from elsewhere it is not understood.",
    ));

    INGEST_CERTIFICATE = live(key(
        "ingest.tls.certificate", Path,
        Required { example: "\"${CREDENTIALS_DIRECTORY}/tls.crt\"" },
        "The certificate and the chain behind it, in PEM form. Logplex does not check it, other \
         senders do.",
    ));
    INGEST_KEY = live(key(
        "ingest.tls.private_key_file", SecretFile,
        Required { example: "\"${CREDENTIALS_DIRECTORY}/tls.key\"" },
        "A file with the certificate's private key, in PEM form.",
    ));

    USER_NAME = live(key(
        "ingest.user.name", Text, Required { example: "\"heroku\"" },
        "The user name in the drain URL: letters, digits, `-` and `_`, because Logplex does \
         not decode anything else. Also what metrics and log lines call the credentials.",
    ));
    USER_PASSWORD = live(key(
        "ingest.user.password", Kind::Secret,
        Absent { example: "\"${DRAIN_PASSWORD}\"", means: "taken from `password_file`" },
        "The password in the drain URL: letters, digits, `-` and `_`. Either this or \
         `password_file`.",
    ));
    USER_PASSWORD_FILE = live(key(
        "ingest.user.password_file", SecretFile,
        Absent {
            example: "\"${CREDENTIALS_DIRECTORY}/heroku\"",
            means: "taken from `password`",
        },
        "A file that holds the password and nothing else, but for a newline at the end.",
    ));
    USER_VIA = live(key(
        "ingest.user.via",
        Choice { now: &["basic", "bearer", "path"], later: &[] },
        Value("basic"),
        "How the password comes. `basic`: with the name, as `https://NAME:PASSWORD@...`. \
         `bearer`: as the token of `Authorization: Bearer`. `path`: as the last part of the \
         path, `/logs/PASSWORD`.",
    ));
    USER_DRAINS = live(key(
        "ingest.user.drains", List,
        Absent { example: "[\"checkout\"]", means: "all drains" },
        "The apps of the drains this user may send for; a frame of another one is answered 403. \
         A sender that names no drain, as log-shuttle, sends for the drain of its user, when \
         that has just one.",
    ));
    USER_DEPRECATED = live(key(
        "ingest.user.deprecated", Flag, Value("false"),
        "Marks credentials that should not be used any more: they are good, and counted and \
         warned of.",
    ));

    STORAGE = key(
        "wal.storage",
        Choice {
            now: &["disk", "memory"],
            later: &[],
        },
        Value("disk"),
        "Where the log is kept. `memory` is for trials: nothing outlives the process, and nothing \
         is written to `data_dir`.",
    );
    DURABILITY = key(
        "wal.durability", Text, Value("fsync"),
        "What must have happened to a frame before Logplex gets its 200. `fsync`: it is on \
         stable storage. `interval:` with a duration from 10ms to 1m, such as \
         `interval:100ms`: the system has it and puts it on stable storage at least this often, \
         so a power cut loses what was answered since. `none`: the system has it, and a power cut \
         loses what it likes. The end of the process loses nothing in any of them.",
    );
    SEGMENT_SIZE = key(
        "wal.segment_size", size(ByteSize::mib(1), ByteSize::mib(4 * GIB)), Value("128MiB"),
        "A segment is sealed when it holds this much; space is given back a segment at a time. \
         At most half of `max_size`.",
    );
    MAX_SIZE = key(
        "wal.max_size", size(ByteSize::mib(2), ByteSize::mib(1024 * TIB)), Value("50GiB"),
        "How large the log may grow. Then delivered segments that only \
         `retention` keeps go first, and after that `when_full` decides.",
    );
    MIN_FREE = key(
        "wal.min_free", size(ByteSize::mib(256), ByteSize::mib(1024 * TIB)), Value("1GiB"),
        "The log counts as full when its file system has less than this free.",
    );
    WHEN_FULL = key(
        "wal.when_full",
        Choice {
            now: &["hold", "drop_oldest"],
            later: &[],
        },
        Value("hold"),
        "What happens when frames that are not delivered fill the log. `hold`: requests wait, \
         then get 503, then forebay stops accepting connections; nothing is lost here. \
         `drop_oldest`: the oldest segment goes, and every destination that has not got it counts \
         its messages as dropped.",
    );
    RETENTION = key(
        "wal.retention", time(Duration::ZERO, secs(366 * DAY)), Value("24h"),
        "How long delivered frames are kept for replays.",
    );
    DEDUPE_WINDOW = key(
        "wal.dedupe_window", time(secs(60), secs(30 * DAY)), Value("24h"),
        "For how long a frame id is remembered, so that a frame that Logplex sends twice is \
         stored once.",
    );
    DEDUPE_MEMORY = key(
        "wal.dedupe_memory", size(ByteSize::mib(1), ByteSize::mib(64 * GIB)), Value("64MiB"),
        "The most memory the frame ids take. When it is full, the oldest hour is forgotten \
         first.",
    );

    DRAIN_TOKEN = live(key(
        "drain.token", Text,
        Required { example: "\"d.fc6b856b-3332-4546-93de-7d0ee272c3bd\"" },
        "The drain's token, as `heroku drains` shows it. Each token may stand once. For a \
         sender that has none any text that stands for it.",
    ));
    DRAIN_APP = live(key(
        "drain.app", Text, Required { example: "\"checkout\"" },
        "The name of the app behind the drain: `app` in templates.",
    ));
    DRAIN_HOST = live(key(
        "drain.host", Template,
        Absent { example: "\"{{ app }}-eu\"", means: "`destination.event.host`" },
        "The `host` of its events.",
    ));
    DRAIN_SOURCE = live(key(
        "drain.source", Template,
        Absent { example: "\"heroku:{{ app }}\"", means: "`destination.event.source`" },
        "The `source` of its events.",
    ));
    DRAIN_SOURCETYPE = live(key(
        "drain.sourcetype", Template,
        Absent {
            example: "\"checkout:{{ kind }}\"",
            means: "`destination.event.sourcetype`",
        },
        "The `sourcetype` of its events.",
    ));
    DRAIN_INDEX = live(key(
        "drain.index", Template,
        Absent { example: "\"checkout\"", means: "`destination.event.index`" },
        "The `index` of its events.",
    ));
    DRAIN_PROFILE = live(key(
        "drain.profile",
        Choice { now: &["logplex", "shuttle", "other"], later: &[] },
        Absent { example: "\"shuttle\"", means: "told from the headers of each frame" },
        "How its messages are read. `logplex`: without STRUCTURED-DATA. `shuttle` and `other`: \
         RFC 5424 with it. It also decides which header is a frame's id, and how the sender is \
         told that a frame is not stored.",
    ));
    DRAIN_FIELDS = live(key(
        "drain.fields.<name>", Template,
        Absent { example: "\"payments\"", means: "no such field" },
        "An indexed field of that name; as many as are needed.",
    ));

    NAME = key(
        "destination.name", Text, Value("splunk"),
        "The destination's name, and its identity in the log: under another name it begins \
         anew. Letters, digits, `-`, `_` and `.`, at most 64. Each name may stand once.",
    );
    ENDPOINTS = key(
        "destination.endpoints", List,
        Required { example: "[\"https://hec-1.example.com:8088\"]" },
        "Base URLs of the collectors: scheme, host and port, without a path. Batches are \
         spread over them. Plain `http` is allowed to loopback only.",
    );
    TOKEN = key(
        "destination.token", Kind::Secret,
        Absent { example: "\"${HEC_TOKEN}\"", means: "taken from `token_file`" },
        "The HEC token. Either this or `token_file`.",
    );
    TOKEN_FILE = key(
        "destination.token_file", SecretFile,
        Absent { example: "\"${CREDENTIALS_DIRECTORY}/hec\"", means: "taken from `token`" },
        "A file that holds the HEC token and nothing else, but for a newline at the end.",
    );
    ACKNOWLEDGEMENT = key(
        "destination.acknowledgement",
        Choice {
            now: &["required", "off"],
            later: &[LaterValue { value: "auto", with: "the probe for acknowledgement" }],
        },
        Value("required"),
        "When a batch counts as delivered. `required`: when the indexers acknowledge it. \
         `off`: when the collector answers 200, although data can then still die between it \
         and the indexers' disks.",
    );
    ACK_TIMEOUT = key(
        "destination.ack_timeout", time(secs(1), secs(DAY)), Value("300s"),
        "How long a batch may stay without acknowledgement before it is sent again.",
    );
    COMPRESSION = key(
        "destination.compression",
        Choice { now: &["gzip", "none"], later: &[] },
        Value("gzip"),
        "How bodies are compressed.",
    );
    START = key(
        "destination.start",
        Choice { now: &["earliest", "latest"], later: &[] },
        Value("earliest"),
        "Where a destination that is new to the log begins: with the oldest frame that is \
         kept, or with the next that arrives.",
    );
    ENDPOINT_TARGET = key(
        "destination.endpoint_target",
        Choice { now: &["event", "raw"], later: &[] },
        Value("event"),
        "Which endpoint of the collector is used. `event`: `/services/collector/event`, with \
         everything else that is said here. `raw`: `/services/collector/raw` gets the messages \
         with their syslog headers, a line each, and Splunk makes of them what the props of the \
         sourcetype say; `host`, `source`, `sourcetype` and `index` then are the same for all \
         and hold no variables, and there are no indexed fields, and no `event_id`.",
    );
    LANES = key(
        "destination.lanes", Count { min: 1, max: 64 }, Value("2"),
        "How many requests may be in flight to one endpoint at first.",
    );
    MAX_LANES = key(
        "destination.max_lanes", Count { min: 1, max: 64 }, Value("8"),
        "How many requests to one endpoint that may become. It grows by one while all of them \
         work, and is halved when the endpoint says that it is busy or becomes slow. Below \
         `lanes` it is taken for that.",
    );
    RECALL = key(
        "destination.recall", time(Duration::ZERO, secs(HOUR)), Value("10s"),
        "After a start: how long the last process's acknowledgements are asked for before what \
         it had in flight is sent again.",
    );
    WINDOW = key(
        "destination.window", Count { min: 1, max: 65_536 }, Value("1024"),
        "How many batches may be sent and not yet acknowledged.",
    );
    TIMEOUT = key(
        "destination.timeout", time(secs(1), secs(HOUR)), Value("60s"),
        "How long one request may take, and how long connecting may take.",
    );
    RETRY_INITIAL = key(
        "destination.retry_initial", time(ms(1), secs(HOUR)), Value("250ms"),
        "The longest first wait before a request is tried again. Waits double from here, are \
         drawn at random below that, and never end in giving up.",
    );
    RETRY_MAX = key(
        "destination.retry_max", time(ms(1), secs(HOUR)), Value("30s"),
        "The longest wait before a request is tried again. At least `retry_initial`.",
    );
    HOLD_PROBE = key(
        "destination.hold_probe", time(ms(1), secs(HOUR)), Value("30s"),
        "How long an endpoint that refuses on principle (bad token, no acknowledgement) rests \
         before it is probed.",
    );
    PROXY = key(
        "destination.proxy", Text,
        Absent { example: "\"http://proxy.example.com:3128\"", means: "reached directly" },
        "A proxy on the way to the collectors: its URL, without credentials. The environment \
         (`HTTPS_PROXY`) is not asked.",
    );
    PROXY_CREDENTIALS_FILE = key(
        "destination.proxy_credentials_file", SecretFile,
        Absent {
            example: "\"${CREDENTIALS_DIRECTORY}/proxy\"",
            means: "the proxy asks for none",
        },
        "A file that holds `user:password` for the proxy.",
    );

    BATCH_MAX_BYTES = key(
        "destination.batch.max_bytes",
        size(ByteSize::bytes(10 * KB), ByteSize::bytes(100 * MB)),
        Value("1MB"),
        "The most bytes of one body, before compression.",
    );
    BATCH_MAX_EVENTS = key(
        "destination.batch.max_events", Count { min: 1, max: 1_000_000 }, Value("5000"),
        "The most events of one body.",
    );
    BATCH_LINGER = key(
        "destination.batch.linger", time(Duration::ZERO, secs(60)), Value("250ms"),
        "How long the first message of a batch may wait for company.",
    );

    LETTERS_MAX_SIZE = key(
        "destination.dead_letters.max_size",
        size(ByteSize::bytes(100 * KB), ByteSize::mib(TIB)),
        Value("64MiB"),
        "The most bytes that messages may take which the collectors refuse. When they are full \
         the destination waits, and says so; nothing is dropped.",
    );
    LETTERS_MAX_AGE = key(
        "destination.dead_letters.max_age", time(secs(60), secs(3650 * DAY)), Value("30d"),
        "How old a refused message may become before it is removed.",
    );

    EVENT_FORMAT = key(
        "destination.event.format",
        Choice { now: &["text", "json", "auto"], later: &[] },
        Value("text"),
        "What the event is. `text`: the message, as it came. `json`: an object with `message`, \
         `host`, `app`, `app_name`, `proc_id`, `severity`, `facility` and `kind`. `auto`: a \
         message that is a JSON object is that object, byte for byte; any other is a text.",
    );
    EVENT_NUL = key(
        "destination.event.nul",
        Choice { now: &["keep", "replace"], later: &[] },
        Value("keep"),
        "What becomes of NUL in a message. `keep`: it is sent. `replace`: U+FFFD stands in for \
         it, and the event is marked `nul=replaced`.",
    );
    EVENT_ROUTER_FIELDS = key(
        "destination.event.router_fields", Flag, Value("false"),
        "Whether `at`, `code`, `desc`, `method`, `status`, `connect_ms`, `service_ms`, `bytes`, \
         `protocol`, `tls_version`, `sock` and `router_dyno` of a router line are indexed fields.",
    );
    EVENT_QUERY = key(
        "destination.event.query", List,
        Absent {
            example: "[\"app\", \"index\"]",
            means: "a template may name any, and `app` counts where no drain is configured",
        },
        "The query parameters of drain URLs that count; no others are seen then. `host`, \
         `source`, `sourcetype` and `index` stand in where nothing is configured; others, but \
         for `app`, are indexed fields.",
    );
    EVENT_MAX_BYTES = key(
        "destination.event.max_bytes",
        size(ByteSize::bytes(KB), ByteSize::bytes(100 * MB)),
        Value("1MB"),
        "The most bytes of one message in an event; a longer one is cut and marked \
         `truncated=1`. Splunk refuses events above its `maxEventSize`, 5MB by default. At \
         most `destination.batch.max_bytes`.",
    );
    EVENT_HOST = key(
        "destination.event.host", Template,
        Value("{{ app }}"),
        "The event's `host`.",
    );
    EVENT_SOURCE = key(
        "destination.event.source", Template,
        Value("heroku:{{ app }}:{{ app_name }}/{{ proc_type }}"),
        "The event's `source`.",
    );
    EVENT_SOURCETYPE = key(
        "destination.event.sourcetype", Template,
        Value("heroku:{{ kind }}"),
        "The event's `sourcetype`.",
    );
    EVENT_INDEX = key(
        "destination.event.index", Template,
        Absent { example: "\"heroku\"", means: "the default index of the HEC token" },
        "The event's `index`. The token must be allowed to write to it.",
    );
    EVENT_ID = key(
        "destination.event.event_id", Flag, Value("true"),
        "Whether every event carries `event_id` as an indexed field. It is the same for every \
         time an event is sent, so that `| dedup event_id` makes exactly-once searches.",
    );
    EVENT_FIELDS = key(
        "destination.event.fields.<name>", Template,
        Absent { example: "\"payments\"", means: "no such field" },
        "An indexed field of that name; as many as are needed.",
    );

    FILTER_KINDS = key(
        "destination.filter.kinds", List,
        Absent { example: "[\"app\", \"router\"]", means: "every kind" },
        "Only messages of these kinds: `app`, `api`, `router`, `system`, `logplex`, \
         `postgres`, `redis`, `addon`.",
    );

    FILTER_DRAINS = key(
        "destination.filter.drains", List,
        Absent { example: "[\"checkout\"]", means: "every drain" },
        "Only messages of these drains: the `app` of a `[[drain]]`, or a drain's token.",
    );
    FILTER_APPS = key(
        "destination.filter.apps", List,
        Absent { example: "[\"checkout\", \"cart\"]", means: "every app" },
        "Only messages of these apps, as `app` in templates has them.",
    );
    FILTER_SEVERITY = key(
        "destination.filter.severity",
        Choice {
            now: &["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"],
            later: &[],
        },
        Absent { example: "\"warning\"", means: "every severity" },
        "Only messages that are at least as severe. Heroku writes what a dyno prints as `info`.",
    );
    FILTER_INCLUDE = key(
        "destination.filter.include", List,
        Absent { example: "[\"ERROR|FATAL\"]", means: "every text" },
        "Only messages whose text matches one of these regular expressions.",
    );
    FILTER_EXCLUDE = key(
        "destination.filter.exclude", List,
        Absent { example: "[\"^GET /healthz\"]", means: "no text" },
        "No message whose text matches one of these regular expressions.",
    );

    TLS_CA_FILE = key(
        "destination.tls.ca_file", Path,
        Absent { example: "\"/etc/forebay/splunk-ca.pem\"", means: "the system's authorities" },
        "A file of PEM certificates: only what they have signed is trusted.",
    );
    TLS_CERTIFICATE = key(
        "destination.tls.certificate", Path,
        Absent { example: "\"/etc/forebay/client.pem\"", means: "forebay shows none" },
        "A file with the PEM certificate chain that forebay shows to the collectors. With \
         `private_key_file`.",
    );
    TLS_PRIVATE_KEY_FILE = key(
        "destination.tls.private_key_file", SecretFile,
        Absent { example: "\"${CREDENTIALS_DIRECTORY}/client.key\"", means: "as above" },
        "A file with the PEM private key of the certificate.",
    );
    TLS_SERVER_NAME = key(
        "destination.tls.server_name", Text,
        Absent { example: "\"SplunkServerDefaultCert\"", means: "the host of the URL" },
        "The name a collector's certificate has to have.",
    );
    TLS_VERIFY = key(
        "destination.tls.verify", Flag, Value("true"),
        "Whether certificates are checked. `false` lets whoever sits in between read the token \
         and the logs; forebay says so at every start, in its metrics and in its status.",
    );

    ADMIN_LISTEN = key(
        "admin.listen", Socket, Value("127.0.0.1:9600"),
        "Where admin listens: a loopback address, or a unix socket, such as \
         unix:/run/forebay/admin.sock, that only forebay's user and root can open. Port 0 takes \
         any free port.",
    );
    ADMIN_TOKEN_FILE = key(
        "admin.token_file", SecretFile,
        Absent {
            example: "\"${CREDENTIALS_DIRECTORY}/admin\"",
            means: "nothing can be changed over TCP",
        },
        "A file that holds the token which a change over TCP has to present, and nothing else, \
         but for a newline at the end. Reading needs none, and neither does anything on a unix \
         socket.",
    );
}
