//! Where frames come from and where they are kept: the top of the file, `ingest`, `wal` and `drain`.

use super::*;

keys! {
    RELAY:

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
        "The most memory that bodies take from their first byte until they are durable; each is \
         there twice. When it is taken, requests wait up to `ack_deadline`. Half of it is for \
         bodies of up to 128KiB that say how long they are, as Logplex's do; the rest for those \
         that are larger, compressed or chunked. At least four times `max_body`.",
    );
    IDLE_TIMEOUT = key(
        "ingest.idle_timeout", time(secs(300), secs(DAY)), Value("310s"),
        "How long a connection may be idle that has sent a request with good credentials; any \
         other one has 10s. At least 300s, because Logplex keeps connections for up to 240s and \
         loses a try when forebay closes first.",
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
        "The apps of the drains this user may send for; a frame of any other drain that is \
         configured is answered 403. For drains that are not configured `unknown_drain` decides, \
         whoever sends. A sender that names no drain, as log-shuttle, sends for the drain of its \
         user, when that has just one.",
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
        "The log counts as full when its file system has less than this free. At least eight times \
         20MiB and `ingest.max_body`: so much may still have to go into table files.",
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
}
