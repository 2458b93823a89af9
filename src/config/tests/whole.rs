//! Whole files.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use super::{Config, MINIMAL, messages, parse, right};
use crate::delivery::Acknowledgement;
use crate::ingest::{UnknownDrain, Via};
use crate::logplex::{Kind, Profile};
use crate::sink::{Compression, Start};
use crate::types::ByteSize;
use crate::wal::{Durability, OnDamage, Storage, WhenFull};

#[test]
fn the_least_configuration_is_one_destination() {
    let loaded = parse(MINIMAL).expect("right");
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let config = loaded.config;
    assert_eq!(config.data_dir, Path::new("/var/lib/forebay"));
    assert_eq!(config.ingest.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.ingest.path, "/logs");
    assert_eq!(config.ingest.max_body, ByteSize::mib(8));
    assert_eq!(config.ingest.ack_deadline, Duration::from_secs(4));
    assert_eq!(config.ingest.max_connections, 10_000);
    assert_eq!(config.ingest.max_in_flight, ByteSize::mib(64));
    assert_eq!(config.ingest.idle_timeout, Duration::from_secs(310));
    let live = &config.ingest.live;
    assert!(live.users.is_empty() && live.drains.0.is_empty() && live.tls.is_none());
    assert!(live.allow.is_none() && live.proxies.is_empty());
    assert_eq!(live.unknown_drain, UnknownDrain::Accept);
    assert_eq!(live.query.iter().collect::<Vec<_>>(), ["app"]);
    assert_eq!(config.ingest.hold_after, Duration::from_secs(1));
    assert_eq!(config.ingest.close_after, Duration::from_secs(4));
    assert_eq!(config.ingest.max_connections_per_address, 10_000);
    assert_eq!(config.ingest.max_gzip_ratio, 200);
    assert_eq!(config.log_level, "info");
    assert_eq!(config.wal.dir, config.data_dir);
    assert_eq!(config.wal.segment_size, ByteSize::mib(128));
    assert_eq!(config.wal.max_size, ByteSize::mib(50 * 1024));
    assert_eq!(config.wal.min_free, ByteSize::mib(1024));
    // Also the largest body and the least that may be free go with the defaults.
    right(&format!("[ingest]\nmax_body = \"64MiB\"\nmax_in_flight = \"256MiB\"\n{MINIMAL}"));
    right(&format!("[wal]\nmin_free = \"256MiB\"\n{MINIMAL}"));
    assert_eq!(config.wal.retention, Duration::from_secs(86_400));
    assert_eq!(config.wal.dedupe_window, Duration::from_secs(86_400));
    assert_eq!(config.wal.dedupe_memory, ByteSize::mib(64));
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9600");

    let [destination] = &config.destinations[..] else { panic!("one destination") };
    assert_eq!(destination.name.as_str(), "splunk");
    assert_eq!(destination.endpoints, ["https://hec.example.com:8088"]);
    assert_eq!(destination.token.expose(), "tok");
    assert_eq!(destination.compression, Compression::Gzip);
    assert_eq!(destination.start, Start::Earliest);
    assert_eq!(destination.timeout, Duration::from_secs(60));
    assert_eq!(destination.max_event, ByteSize::bytes(1_000_000));
    let delivery = &destination.delivery;
    assert_eq!(delivery.endpoints.get(), 1);
    assert_eq!(delivery.lanes_per_endpoint.get(), 2);
    assert_eq!(delivery.window.get(), 1024);
    assert_eq!(delivery.batch.max_bytes, ByteSize::bytes(1_000_000));
    assert_eq!(delivery.batch.max_events.get(), 5000);
    assert_eq!(delivery.batch.linger, Duration::from_millis(250));
    assert_eq!(delivery.acknowledgement, Acknowledgement::Required);
    assert_eq!(delivery.ack_timeout, Duration::from_secs(300));
    assert_eq!(delivery.retry.initial, Duration::from_millis(250));
    assert_eq!(delivery.retry.max, Duration::from_secs(30));
    assert_eq!(delivery.retry.hold, Duration::from_secs(30));
    let mapping = &destination.mapping;
    assert_eq!((&mapping.host, &mapping.source, &mapping.sourcetype), (&None, &None, &None));
    assert_eq!((&mapping.index, &mapping.kinds), (&None, &None));
    assert!(mapping.event_id && mapping.fields.is_empty() && mapping.drains.is_empty());
}

/// Every key that is supported, but for those that name files.
const FULL: &str = r#"
data_dir = "/srv/forebay"
log_level = "warn,forebay::wal=debug"

[ingest]
listen = "0.0.0.0:8443"
allow_insecure = true
path = "/heroku"
max_body = "4MiB"
ack_deadline = "3s500ms"
max_connections = 500
max_in_flight = "32MiB"
idle_timeout = "10m"
hold_after = "500ms"
close_after = "3s"
max_connections_per_address = 50
max_gzip_ratio = 300
unknown_drain = "reject"
query = ["app", "env"]
allow = ["10.0.0.0/8", "192.0.2.1"]
proxy_protocol_from = ["2001:db8::/32"]
[[ingest.user]]
name = "heroku"
password = "${PASSWORD}"
drains = ["checkout"]
[[ingest.user]]
name = "heroku-2"
password = "abc_DEF-1"
via = "bearer"
deprecated = true

[wal]
storage = "disk"
durability = "interval:1s500ms"
segment_size = "64MiB"
max_size = "10GiB"
min_free = "512MiB"
when_full = "drop_oldest"
retention = "1h30m"
dedupe_window = "12h"
dedupe_memory = "32MiB"

[[drain]]
token = "d.fc6b856b-3332-4546-93de-7d0ee272c3bd"
app = "checkout"
[[drain]]
token = "d.00000000-3332-4546-93de-7d0ee272c3bd"
app = "search"
profile = "shuttle"

[[destination]]
name = "splunk"
endpoints = ["https://hec-1.example.com:8088", "https://hec-2.example.com:8088"]
token = "abc"
acknowledgement = "required"
ack_timeout = "120s"
compression = "none"
start = "latest"
lanes = 4
window = 64
timeout = "20s"
retry_initial = "100ms"
retry_max = "10s"
hold_probe = "15s"
endpoint_target = "event"
[destination.batch]
max_bytes = "2MB"
max_events = 100
linger = "1s"
[destination.event]
format = "text"
index = "heroku"
sourcetype = "heroku:{{ kind }}"
event_id = false
max_bytes = "1500KB"
[destination.event.fields]
team = "payments"
severity_is = "{{ severity }}"
[destination.filter]
kinds = ["app", "router"]

[[destination]]
name = "audit"
endpoints = ["http://localhost:8088"]
token = "def"
acknowledgement = "off"

[admin]
listen = "[::1]:9601"
"#;

#[test]
fn every_key_reaches_its_component() {
    let loaded = parse(FULL).unwrap_or_else(|errors| panic!("{errors}"));
    let config = loaded.config;
    assert_eq!(config.data_dir, Path::new("/srv/forebay"));
    assert_eq!(config.ingest.listen.to_string(), "0.0.0.0:8443");
    assert_eq!(config.ingest.path, "/heroku");
    assert_eq!(config.ingest.max_body, ByteSize::mib(4));
    assert_eq!(config.ingest.ack_deadline, Duration::from_millis(3500));
    assert_eq!(config.ingest.max_connections, 500);
    assert_eq!(config.ingest.max_in_flight, ByteSize::mib(32));
    assert_eq!(config.ingest.idle_timeout, Duration::from_secs(600));
    let users: Vec<_> =
        config.ingest.live.users.iter().map(|u| (u.name.as_str(), u.password.expose())).collect();
    assert_eq!(users, [("heroku", "hunter2"), ("heroku-2", "abc_DEF-1")]);
    let live = &config.ingest.live;
    assert_eq!(live.users[0].via, Via::Basic);
    assert_eq!(live.users[0].drains.iter().flatten().collect::<Vec<_>>(), ["checkout"]);
    assert_eq!((live.users[1].via, &live.users[1].drains), (Via::Bearer, &None));
    assert!(live.users[1].deprecated && !live.users[0].deprecated);
    assert_eq!(live.unknown_drain, UnknownDrain::Reject);
    assert_eq!(live.query.iter().collect::<Vec<_>>(), ["app", "env"]);
    let networks = |all: &[ipnet::IpNet]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(networks(live.allow.as_ref().expect("some")), ["10.0.0.0/8", "192.0.2.1/32"]);
    assert_eq!(networks(&live.proxies), ["2001:db8::/32"]);
    assert_eq!(live.drains.0["d.fc6b856b-3332-4546-93de-7d0ee272c3bd"].profile, None);
    let search = &live.drains.0["d.00000000-3332-4546-93de-7d0ee272c3bd"];
    assert_eq!((search.name.as_str(), search.profile), ("search", Some(Profile::Shuttle)));
    assert_eq!(config.ingest.hold_after, Duration::from_millis(500));
    assert_eq!(config.ingest.close_after, Duration::from_secs(3));
    assert_eq!(config.ingest.max_connections_per_address, 50);
    assert_eq!(config.ingest.max_gzip_ratio, 300);
    assert_eq!(config.log_level, "warn,forebay::wal=debug");
    assert_eq!(config.wal.dir, Path::new("/srv/forebay"));
    assert_eq!(config.wal.segment_size, ByteSize::mib(64));
    assert_eq!(config.wal.max_size, ByteSize::mib(10 * 1024));
    assert_eq!(config.wal.min_free, ByteSize::mib(512));
    assert_eq!(config.wal.retention, Duration::from_secs(5400));
    assert_eq!(config.wal.dedupe_window, Duration::from_secs(43_200));
    assert_eq!(config.wal.dedupe_memory, ByteSize::mib(32));
    assert_eq!(config.wal.storage, Storage::Disk);
    assert_eq!(config.wal.durability, Durability::Interval(Duration::from_millis(1500)));
    assert_eq!(config.wal.when_full, WhenFull::DropOldest);
    assert_eq!(config.wal.on_damage, OnDamage::default());
    assert_eq!(config.admin.listen.to_string(), "[::1]:9601");

    let [splunk, audit] = &config.destinations[..] else { panic!("two destinations") };
    assert_eq!(splunk.endpoints.len(), 2);
    assert_eq!(splunk.token.expose(), "abc");
    assert_eq!(splunk.compression, Compression::None);
    assert_eq!(splunk.start, Start::Latest);
    assert_eq!(splunk.timeout, Duration::from_secs(20));
    assert_eq!(splunk.max_event, ByteSize::bytes(1_500_000));
    assert_eq!(splunk.delivery.endpoints.get(), 2);
    assert_eq!(splunk.delivery.lanes_per_endpoint.get(), 4);
    assert_eq!(splunk.delivery.window.get(), 64);
    assert_eq!(splunk.delivery.batch.max_bytes, ByteSize::bytes(2_000_000));
    assert_eq!(splunk.delivery.batch.max_events.get(), 100);
    assert_eq!(splunk.delivery.batch.linger, Duration::from_secs(1));
    assert_eq!(splunk.delivery.ack_timeout, Duration::from_secs(120));
    assert_eq!(splunk.delivery.retry.initial, Duration::from_millis(100));
    assert_eq!(splunk.delivery.retry.max, Duration::from_secs(10));
    assert_eq!(splunk.delivery.retry.hold, Duration::from_secs(15));
    let mapping = &splunk.mapping;
    assert_eq!(mapping.index.as_deref(), Some("heroku"));
    assert_eq!(mapping.sourcetype.as_deref(), Some("heroku:{{ kind }}"));
    assert_eq!(mapping.fields["team"], "payments");
    assert_eq!(mapping.fields["severity_is"], "{{ severity }}");
    assert!(!mapping.event_id);
    assert_eq!(mapping.kinds, Some(vec![Kind::App, Kind::Router]));
    assert_eq!(mapping.drains.len(), 2);
    assert_eq!(mapping.drains["d.fc6b856b-3332-4546-93de-7d0ee272c3bd"].app, "checkout");

    assert_eq!(audit.name.as_str(), "audit");
    assert_eq!(audit.delivery.acknowledgement, Acknowledgement::Off);
    assert_eq!(audit.mapping.drains.len(), 2, "drains are everybody's");
    let line = FULL.lines().position(|line| line.contains("\"off\"")).expect("there") + 1;
    assert_eq!(
        loaded.warnings,
        [format!(
            "f.toml:{line}: destination.acknowledgement: data can be lost behind the collector: a 200 counts as delivered"
        )]
    );
}

#[test]
fn an_ack_timeout_below_a_minute_is_warned_about() {
    let warnings = |more: &str| {
        let text = format!("{MINIMAL}\n{more}\n");
        parse(&text).expect("right").warnings
    };
    let line = MINIMAL.lines().count() + 2;
    let found = warnings("ack_timeout = \"59s\"");
    assert_eq!(found.len(), 1, "{found:?}");
    let line = [line, line - 1].map(|line| format!("f.toml:{line}: destination.ack_timeout: "));
    assert!(line.iter().any(|start| found[0].starts_with(start)), "{found:?}");
    assert!(found[0].contains("sent twice") && found[0].contains("at least 1m"), "{found:?}");
    assert_eq!(warnings("ack_timeout = \"1m\""), Vec::<String>::new());
    // Nobody is waited for then.
    let found = warnings("ack_timeout = \"1s\"\nacknowledgement = \"off\"");
    assert!(found.len() == 1 && found[0].contains("destination.acknowledgement"), "{found:?}");
}

#[test]
fn every_mistake_is_told_at_once_in_the_order_of_lines() {
    let text = r#"
data_dir = "relative"
[admin]
listen = "10.0.0.1:9600"
[wal]
max_size = "1GB "
segment_size = "1GiB"
retention = "24 hours"
storage = "tape"
[[destination]]
endpoints = ["https://h", "ftp://h"]
token = "a"
token_file = "/b"
[destination.batch]
max_events = 0
linger = "1h"
[destination.event]
host = "{{ nope }}"
[ingest]
lisen = "127.0.0.1:1"
max_body = "8Mb"
[ingest.tls]
certificate = "/c"
[[ingest.user]]
name = "a:b"
[[destination]]
name = "b/c"
"#;
    let found = messages(text);
    let places: Vec<String> = found
        .iter()
        .map(|message| message.split(": ").take(2).collect::<Vec<_>>().join(": "))
        .collect();
    assert_eq!(
        places,
        [
            "f.toml:2: data_dir",
            "f.toml:4: admin.listen",
            "f.toml:7: wal.segment_size",
            "f.toml:8: wal.retention",
            "f.toml:9: wal.storage",
            "f.toml:11: destination.endpoints",
            "f.toml:13: destination.token_file",
            "f.toml:15: destination.batch.max_events",
            "f.toml:16: destination.batch.linger",
            "f.toml:18: destination.event.host",
            "f.toml:20: ingest.lisen",
            "f.toml:21: ingest.max_body",
            "f.toml:22: ingest.tls.private_key_file",
            "f.toml:24: ingest.user.password",
            "f.toml:25: ingest.user.name",
            "f.toml:26: destination.endpoints",
            "f.toml:26: destination.token",
            "f.toml:27: destination.name",
        ],
        "{found:#?}"
    );
}

#[test]
fn a_file_is_read_or_the_error_says_how_to_name_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("forebay.toml");
    let name = path.display().to_string();
    let no_env = |_: &str| None;

    let error = Config::load(&path, &no_env).expect_err("not there").to_string();
    assert_eq!(
        error,
        format!(
            "{name}: the configuration file cannot be read: No such file or directory (os error 2); name a readable file with `-c FILE` or FOREBAY_CONFIG"
        )
    );

    std::fs::write(&path, MINIMAL).expect("written");
    assert_eq!(Config::load(&path, &no_env).expect("right").config.destinations.len(), 1);

    std::fs::write(&path, b"data_dir = \"\xff\"").expect("written");
    let error = Config::load(&path, &no_env).expect_err("not UTF-8").to_string();
    assert!(error.contains("not UTF-8 text"), "{error}");

    let mut file = std::fs::File::create(&path).expect("created");
    file.write_all(&vec![b'#'; (1 << 20) + 1]).expect("written");
    let error = Config::load(&path, &no_env).expect_err("too large").to_string();
    assert!(error.contains("more than 1048576 bytes"), "{error}");
}

#[test]
fn errors_are_data() {
    let errors = parse("[wal]\nmin_free = 1").expect_err("wrong");
    assert_eq!(errors.file(), "f.toml");
    let [first, second] = errors.errors() else { panic!("{errors}") };
    assert_eq!((first.key.as_str(), first.line), ("wal.min_free", Some(2)));
    assert_eq!((second.key.as_str(), second.line), ("destination", None));
    right(MINIMAL);
}
