//! The documentation is what the table says, and the sample is a configuration.
//!
//! `FOREBAY_REGENERATE=1 cargo test --lib config::tests::docs` writes both files anew.

use std::path::PathBuf;

use super::super::docs::{markdown, sample};
use super::super::key::{Key, Preset, Status};
use super::super::table::KEYS;
use super::{Config, Loaded, right};

fn fresh(file: &str, expected: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("FOREBAY_REGENERATE").is_some() {
        std::fs::write(&path, expected).expect("written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{file} is not what src/config/table.rs says; run \
         `FOREBAY_REGENERATE=1 cargo test --lib config::tests::docs`"
    );
}

#[test]
fn the_reference_is_fresh() {
    fresh("docs/configuration.md", &markdown());
}

#[test]
fn the_sample_is_fresh() {
    fresh("ops/forebay.toml", &sample());
}

#[test]
fn nothing_generated_is_wider_than_a_screen() {
    for text in [markdown(), sample()] {
        for line in text.lines() {
            assert!(line.len() <= 100 && line.trim_end() == line, "{line}");
        }
    }
}

fn parse(text: &str) -> Loaded {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["hec", "heroku", "admin"] {
        std::fs::write(dir.path().join(name), "secret").expect("written");
    }
    let drain = "[[drain]]\ntoken = \"d.1\"\napp = \"search\"\n";
    std::fs::write(dir.path().join("drains.toml"), drain).expect("written");
    super::access::pair(dir.path(), "tls");
    let dir = dir.path().display().to_string();
    Config::parse(text, "ops/forebay.toml", &|name| match name {
        "CREDENTIALS_DIRECTORY" => Some(dir.clone()),
        _ => None,
    })
    .unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// A setting that is commented out: a `#` right before a key or a table's header.
fn setting(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_alphabetic()))
}

#[test]
fn the_sample_is_a_configuration_of_nothing_but_defaults() {
    let mut config = parse(&sample()).config;
    assert!(config.destinations[0].token_file.take().is_some(), "the sample's is in a file");
    let minimal = right(
        "[[destination]]\nendpoints = [\"https://hec-1.example.com:8088\"]\ntoken = \"secret\"",
    );
    assert_eq!(format!("{config:?}"), format!("{minimal:?}"));
}

/// Uncommented, every default says what it said in the comment.
#[test]
fn the_defaults_in_the_sample_are_the_defaults() {
    let mut table = String::new();
    let mut uncommented = 0;
    let text: Vec<String> = sample()
        .lines()
        .map(|line| {
            let open = setting(line).unwrap_or(line);
            if open.starts_with('[') {
                table = open.trim_matches(['[', ']']).to_owned();
                return line.to_owned();
            }
            // What has no default but an example stays a comment.
            let has_default = |key: &&&Key| {
                // In a table that is not there without its required keys.
                key.section() == table
                    && table != "ingest.user"
                    && open.starts_with(&format!("{} = ", key.name()))
                    && matches!(key.preset, Preset::Value(_))
            };
            match setting(line) {
                Some(open) if KEYS.iter().find(has_default).is_some() => {
                    uncommented += 1;
                    open.to_owned()
                }
                _ => line.to_owned(),
            }
        })
        .collect();
    let optional = ["ingest.user"];
    let defaults = KEYS
        .iter()
        .filter(|key| matches!(key.preset, Preset::Value(_)) && !optional.contains(&key.section()));
    let defaults = defaults.count();
    assert_eq!(uncommented, defaults, "{text:#?}");

    // Templates that are written are kept as templates, so they are compared by themselves.
    let mut config = parse(&text.join("\n")).config;
    let mapping = &mut config.destinations[0].mapping;
    assert_eq!(mapping.host.take().as_deref(), Some("{{ app }}"));
    assert!(mapping.source.take().is_some() && mapping.sourcetype.take().is_some());
    let mut expected = parse(&sample()).config;
    // A directory of its own each time.
    expected.destinations[0].token_file.clone_from(&config.destinations[0].token_file);
    assert_eq!(format!("{config:?}"), format!("{expected:?}"));
}

#[test]
fn the_examples_in_the_sample_are_right() {
    let alternative =
        |line: &str| line.starts_with("token = \"$") || line.starts_with("password =");
    // Files of certificates, which are read when the configuration is.
    let file = |line: &str| {
        ["ca_file", "certificate", "private_key_file", "proxy_credentials_file"]
            .iter()
            .any(|name| line.starts_with(name))
            // Those of ingest are there, see `parse`.
            && !line.contains("DIRECTORY}/tls.")
    };
    let text: Vec<String> = sample()
        .lines()
        .map(|line| match setting(line) {
            Some(line) if !alternative(line) && !file(line) => line.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let config = parse(&text.join("\n")).config;
    let live = &config.ingest.live;
    assert_eq!(live.users.len(), 1);
    assert_eq!(live.users[0].drains.iter().flatten().collect::<Vec<_>>(), ["checkout"]);
    assert!(live.tls.is_some() && live.allow.is_some() && !live.proxies.is_empty());
    assert_eq!(live.drains.0.len(), 2, "one of them in drains_file");
    let mapping = &config.destinations[0].mapping;
    assert_eq!(mapping.index.as_deref(), Some("heroku"));
    assert_eq!(mapping.fields.len(), 1);
    assert_eq!(mapping.drains.len(), 2);
    assert_eq!(mapping.kinds.as_ref().map(Vec::len), Some(2));
    assert!(config.destinations[0].trust.is_some() && config.destinations[0].proxy.is_some());
}

#[test]
fn every_key_is_in_both_files() {
    let (markdown, sample) = (markdown(), sample());
    for key in KEYS.iter() {
        let name = if key.is_open() { "team" } else { key.name() };
        assert!(markdown.contains(&format!("**`{}`**", key.name())), "{}", key.path);
        let line = match key.status {
            Status::Supported => format!("{name} = "),
            Status::Later(_) => format!("{name}: not yet supported"),
        };
        let there = sample.lines().any(|l| l.trim_start_matches(['#', ' ']).starts_with(&line));
        assert!(there, "{}", key.path);
    }
}
