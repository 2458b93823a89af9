//! What is installed beside the program speaks of what the program has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use forebay::logplex::Kind;
use forebay::telemetry::METRICS;
use regex::Regex;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ops").join(file)).unwrap()
}

/// The stanzas of one of Splunk's files.
fn stanzas(file: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let text = read(&format!("splunk/forebay/default/{file}")).replace("\\\n", " ");
    let mut all = BTreeMap::new();
    let mut open = String::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut open);
            assert!(all.insert(open.clone(), BTreeMap::new()).is_none(), "[{name}] stands twice");
            continue;
        }
        let (key, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{file}: {line}"));
        let stanza: &mut BTreeMap<_, _> = all.get_mut(&open).unwrap();
        assert!(stanza.insert(key.to_owned(), value.to_owned()).is_none(), "{file}: {line}");
    }
    all
}

#[test]
fn alert_rules_speak_of_metrics_that_there_are() {
    let known: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let name = Regex::new("forebay_[a-z_]+").unwrap();
    let rules = read("prometheus/forebay.rules.yml");
    let mut used = BTreeSet::new();
    for found in name.find_iter(&rules).map(|found| found.as_str()) {
        let base = found.strip_suffix("_bucket").unwrap_or(found);
        assert!(known.contains(base), "{found} is no metric");
        used.insert(base);
    }
    assert!(used.len() > 12, "{used:?}");
    // Each alert is in the tests of the rules.
    let tests = read("prometheus/forebay.rules.test.yml");
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} is not tested");
    }
}

#[test]
fn splunk_knows_every_sourcetype_and_finds_the_fields_of_a_router_line() {
    let (props, transforms) = (stanzas("props.conf"), stanzas("transforms.conf"));
    let kinds: BTreeSet<_> =
        Kind::ALL.iter().map(|kind| format!("heroku:{}", kind.as_str())).collect();
    assert_eq!(props.keys().cloned().collect::<BTreeSet<_>>(), kinds);
    for (name, stanza) in &props {
        assert_eq!(stanza["TRUNCATE"], "0", "{name}");
        for (key, value) in stanza {
            if key.starts_with("REPORT-") {
                for transform in value.split(", ") {
                    assert!(transforms.contains_key(transform), "{name}: {transform}");
                }
            }
            if key.starts_with("EXTRACT-") {
                Regex::new(value).unwrap();
            }
        }
    }
    // By the two transforms together, as Splunk applies them.
    let line = "at=info method=GET path=\"/api/orders?page=2\" host=shop.example.com \
                fwd=\"203.0.113.9, 10.0.0.1\" dyno=web.1 connect=0ms service=12ms status=200";
    let mut fields = BTreeMap::new();
    for transform in props["heroku:router"]["REPORT-logfmt"].split(", ") {
        let regex = Regex::new(&transforms[transform]["REGEX"]).unwrap();
        for found in regex.captures_iter(line) {
            let earlier = fields.insert(found[1].to_owned(), found[2].to_owned());
            assert_eq!(earlier, None, "{}", &found[1]);
        }
    }
    let expected = [
        ("at", "info"),
        ("connect", "0ms"),
        ("dyno", "web.1"),
        ("fwd", "203.0.113.9, 10.0.0.1"),
        ("host", "shop.example.com"),
        ("method", "GET"),
        ("path", "/api/orders?page=2"),
        ("service", "12ms"),
        ("status", "200"),
    ];
    let fields: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(fields, expected);

    let loss = Regex::new(&props["heroku:logplex"]["EXTRACT-loss"]).unwrap();
    let report =
        "Error L10 (output buffer overflow): 14 messages dropped since 2026-01-02T03:04:05.";
    let found = loss.captures(report).unwrap();
    assert_eq!((&found["error_code"], &found["lost_messages"]), ("L10", "14"));
    let searches = stanzas("savedsearches.conf");
    for (name, search) in &searches {
        assert!(search["search"].contains("`heroku_logs`"), "{name}");
        assert!(stanzas("macros.conf").contains_key("heroku_logs"));
    }
    for wanted in ["forebay: loss audit", "forebay: duplicates", "forebay: lag"] {
        assert!(searches.contains_key(wanted), "{wanted}");
    }
}

/// The unit starts what there is, with what it needs to keep its promises.
#[test]
fn the_service_is_told_when_it_is_ready_and_keeps_its_state() {
    let unit = read("systemd/forebay.service");
    for line in [
        "Type=notify",
        "ExecStart=/usr/bin/forebay serve --config /etc/forebay/forebay.toml",
        "WatchdogSec=60s",
        "StateDirectory=forebay",
        "Restart=always",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    // A start makes anew a socket that has failed, where that is enabled: the unit alone cannot.
    let socket = read("systemd/forebay.socket");
    let install = socket.split_once("[Install]").unwrap().1;
    for line in ["WantedBy=sockets.target", "RequiredBy=forebay.service"] {
        assert!(install.lines().any(|found| found == line), "{line}");
    }
    for line in ["Before=forebay.service", "Service=forebay.service"] {
        assert!(socket.lines().any(|found| found == line), "{line}");
    }
    assert!(unit.lines().any(|found| found == "StartLimitIntervalSec=0"));
    // What the sample configuration reads its secrets from is handed over.
    let sample = read("forebay.toml");
    for name in ["hec", "heroku"] {
        assert!(sample.contains(&format!("${{CREDENTIALS_DIRECTORY}}/{name}\"")), "{name}");
        assert!(unit.contains(&format!("LoadCredential={name}:")), "{name}");
    }
}
