//! The configuration as its users see it: files in, settings or messages out.

mod access;
mod destinations;
mod docs;
mod mapping;
mod secrets;
mod shape;
mod table;
mod values;
mod whole;

use super::{Config, ConfigErrors, Loaded};

/// The least there is.
const MINIMAL: &str = r#"
[[destination]]
endpoints = ["https://hec.example.com:8088"]
token = "tok"
"#;

fn parse(text: &str) -> Result<Loaded, ConfigErrors> {
    Config::parse(text, "f.toml", &|name| match name {
        "HOST" => Some("hec-9.example.com".to_owned()),
        "PASSWORD" => Some("hunter2".to_owned()),
        _ => None,
    })
}

/// The messages about a text; empty when it is right.
fn messages(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

/// The messages about a text and the minimal destination behind it.
fn with_minimal(text: &str) -> Vec<String> {
    messages(&format!("{text}\n{MINIMAL}"))
}

/// The messages about the minimal destination and a text that goes on with it.
fn in_destination(text: &str) -> Vec<String> {
    messages(&format!("{}\n{text}", MINIMAL.trim()))
}

/// Each text makes one message, and this one.
fn check(messages_of: impl Fn(&str) -> Vec<String>, cases: &[(&str, &str)]) {
    for (text, message) in cases {
        assert_eq!(messages_of(text), [format!("f.toml:{message}")], "{text}");
    }
}

/// What a right configuration says.
fn right(text: &str) -> Config {
    match parse(text) {
        Ok(loaded) => loaded.config,
        Err(errors) => panic!("{errors}"),
    }
}
