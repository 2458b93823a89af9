//! `destination` and the tables below it.

use super::*;

keys! {
    DESTINATION:

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
        Choice { now: &["required", "off", "auto"], later: &[] },
        Value("required"),
        "When a batch counts as delivered. `required`: when the indexers acknowledge it. \
         `off`: when the collector answers 200, although data can then still die between it \
         and the indexers' disks. `auto`: one of the two, as the collectors say at the start: \
         `required` when one of them acknowledges, `off` when every one of them has said that it \
         does not; nothing is sent before that, and what is chosen holds until the next start.",
    );
    ACK_TIMEOUT = key(
        "destination.ack_timeout", time(secs(1), secs(DAY)), Value("300s"),
        "How long a batch may stay without acknowledgement before it is sent again. Where \
         acknowledgements turn out to take longer, batches are given more, up to four times that \
         or 10 minutes, until they come in time again. A channel that is idle for as long, or \
         for 5 minutes, is replaced.",
    );
    AFFINITY = key(
        "destination.affinity",
        Choice { now: &["none", "cookie", "connection"], later: &[] },
        Value("none"),
        "What ties a channel to one indexer behind a load balancer: an indexer knows only the \
         acknowledgements of its own channels. `none`: nothing, for endpoints that are one indexer \
         each, and for balancers that go by the client's address. `cookie`: the cookies that the \
         balancer sets on a channel's answers are sent back on that channel. `connection`: each \
         channel has one connection, for balancers of layer 4; when it is lost, what was not \
         acknowledged on it is sent again, `recall` is 0, and there can be no `proxy`.",
    );
    RESOLVE = key(
        "destination.resolve",
        Choice { now: &["one", "all"], later: &[] },
        Value("one"),
        "What a name with several addresses in `endpoints` is. `one`: one endpoint, and each \
         connection takes an address. `all`: an endpoint for each address, with lanes and a state of \
         its own, at most 64; certificates are still those of the name. There can be no `proxy` \
         then, which would look the name up itself.",
    );
    RESOLVE_INTERVAL = key(
        "destination.resolve_interval", time(secs(1), secs(HOUR)), Value("60s"),
        "With `resolve = \"all\"`: how often names are looked up. When the addresses change, what is in \
         flight settles for up to 2 s, and what does not is asked for or sent again. A lookup that \
         fails changes nothing.",
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
         and hold no variables, what a `[[drain]]` says of them does nothing, and there are no \
         indexed fields, and no `event_id`.",
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
        "How long one request may take. Connecting has the same time, and 10s at most.",
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
    PROXY = live(key(
        "destination.proxy", Text,
        Absent { example: "\"http://proxy.example.com:3128\"", means: "reached directly" },
        "A proxy on the way to the collectors: its URL, without credentials. The environment \
         (`HTTPS_PROXY`) is not asked.",
    ));
    PROXY_CREDENTIALS_FILE = live(key(
        "destination.proxy_credentials_file", SecretFile,
        Absent {
            example: "\"${CREDENTIALS_DIRECTORY}/proxy\"",
            means: "the proxy asks for none",
        },
        "A file that holds `user:password` for the proxy.",
    ));

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

    FILTER_DRAINS = live(key(
        "destination.filter.drains", List,
        Absent { example: "[\"checkout\"]", means: "every drain" },
        "Only messages of these drains: the `app` of a `[[drain]]`, or a drain's token. The \
         `[[drain]]` of one that is replaced has to stay as long as messages of it are not \
         delivered: without it they are of no drain of that name any more.",
    ));
    FILTER_APPS = live(key(
        "destination.filter.apps", List,
        Absent { example: "[\"checkout\", \"cart\"]", means: "every app" },
        "Only messages of these apps, as `app` in templates has them.",
    ));
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

    TLS_CA_FILE = live(key(
        "destination.tls.ca_file", Path,
        Absent { example: "\"/etc/forebay/splunk-ca.pem\"", means: "the system's authorities" },
        "A file of PEM certificates: only what they have signed is trusted.",
    ));
    TLS_CERTIFICATE = live(key(
        "destination.tls.certificate", Path,
        Absent { example: "\"/etc/forebay/client.pem\"", means: "forebay shows none" },
        "A file with the PEM certificate chain that forebay shows to the collectors. With \
         `private_key_file`.",
    ));
    TLS_PRIVATE_KEY_FILE = live(key(
        "destination.tls.private_key_file", SecretFile,
        Absent { example: "\"${CREDENTIALS_DIRECTORY}/client.key\"", means: "as above" },
        "A file with the PEM private key of the certificate.",
    ));
    TLS_SERVER_NAME = live(key(
        "destination.tls.server_name", Text,
        Absent { example: "\"SplunkServerDefaultCert\"", means: "the host of the URL" },
        "The name a collector's certificate has to have.",
    ));
    TLS_VERIFY = live(key(
        "destination.tls.verify", Flag, Value("true"),
        "Whether certificates are checked. `false` lets whoever sits in between read the token \
         and the logs; forebay says so at every start, in its metrics and in its status.",
    ));
}
