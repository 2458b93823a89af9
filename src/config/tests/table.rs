//! The table of keys and the code that reads them say the same.

use std::collections::BTreeSet;

use super::super::key::{Key, Kind, Preset, Section, Status};
use super::super::table::{EVENT_HOST, EVENT_SOURCE, EVENT_SOURCETYPE, KEYS, SECTIONS};
use super::messages;
use crate::hec::{Encoder, FrameFacts, Mapping, MappingConfig};
use crate::logplex::{self, Profile, pieces};
use crate::types::{Offset, UnixMicros};

/// A file in which `line` stands in the table of this path, and nothing is missing that a
/// mistake in `line` could not hide.
fn file(section: &str, line: &str) -> String {
    let mut text = String::new();
    let mut path = String::new();
    for name in section.split('.').filter(|name| !name.is_empty()) {
        path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let section = SECTIONS.iter().find(|section| section.path == path).expect("a table");
        text.push_str(&section.header());
        text.push('\n');
    }
    format!("{text}{line}\n")
}

fn name(key: &Key) -> &'static str {
    if key.is_open() { "some_name" } else { key.name() }
}

fn full_name(key: &Key) -> String {
    if key.is_open() { format!("{}.some_name", key.section()) } else { key.path.to_owned() }
}

#[test]
fn no_key_is_named_twice_and_each_has_its_table_and_a_sentence() {
    let paths: BTreeSet<_> = KEYS.iter().map(|key| key.path).collect();
    assert_eq!(paths.len(), KEYS.len());
    for key in KEYS.iter() {
        assert!(SECTIONS.iter().any(|section| section.path == key.section()), "{}", key.path);
        assert!(key.doc.ends_with('.') && !key.doc.contains("  "), "{}", key.path);
    }
    for Section { path, doc, .. } in SECTIONS {
        assert!(doc.ends_with('.') && !doc.contains("  "), "{path}");
    }
}

/// So no supported key is ignored: a value of the wrong type is a mistake, named by its key.
#[test]
fn every_supported_key_is_read() {
    for key in KEYS.iter().filter(|key| matches!(key.status, Status::Supported)) {
        let wrong = format!("{} = {{}}", name(key));
        let found = messages(&file(key.section(), &wrong)).join("\n");
        let expected = format!(": {}: ", full_name(key));
        let hits = found.lines().filter(|line| line.contains(&expected)).count();
        assert_eq!(hits, 1, "{wrong}\n{found}");
        assert!(!found.contains("a bug") && !found.contains("report this bug"), "{found}");
    }
}

#[test]
fn every_later_key_is_refused() {
    let later = KEYS.iter().filter_map(|key| match key.status {
        Status::Later(later) => Some((key, later)),
        Status::Supported => None,
    });
    let mut count = 0;
    for (key, later) in later {
        count += 1;
        for value in ["true", "\"x\"", "[\"x\"]", "{ a = 1 }"] {
            let line = format!("{} = {value}", key.name());
            let found = messages(&file(key.section(), &line)).join("\n");
            let expected = format!(
                ": {}: not yet supported: it comes with {}; {}",
                key.path, later.with, later.meanwhile
            );
            assert!(found.contains(&expected), "{line}\n{found}");
        }
    }
    assert_eq!(count, 0);
}

#[test]
fn every_later_table_is_refused() {
    let mut count = 0;
    for section in SECTIONS {
        let Status::Later(later) = section.status else { continue };
        count += 1;
        let found = messages(&file(section.path, "anything = 1")).join("\n");
        let expected =
            format!(": {}: not yet supported: it comes with {}", section.path, later.with);
        assert!(found.contains(&expected), "{found}");
        assert!(!found.contains("unknown"), "{found}");
    }
    assert_eq!(count, 0);
}

#[test]
fn every_later_value_is_refused_and_every_present_one_taken() {
    for key in KEYS.iter() {
        for later in key.kind.later() {
            let value = if later.value.ends_with(':') {
                format!("{}x", later.value)
            } else {
                later.value.to_owned()
            };
            let line = format!("{} = {value:?}", key.name());
            let found = messages(&file(key.section(), &line)).join("\n");
            let expected = format!(
                ": {}: {value:?} is not yet supported: it comes with {}",
                key.path, later.with
            );
            assert!(found.contains(&expected), "{line}\n{found}");
        }
        if let Kind::Choice { now, .. } = key.kind {
            for value in now {
                let line = format!("{} = {value:?}", key.name());
                let found = messages(&file(key.section(), &line)).join("\n");
                let hit = format!(": {}: {value:?} is not", key.path);
                assert!(!found.contains(&hit), "{line}\n{found}");
            }
        }
    }
}

/// The limits themselves are allowed, and the defaults are within them.
#[test]
fn limits_are_inclusive_and_defaults_are_right() {
    for key in KEYS.iter() {
        let mut values = Vec::new();
        if let Kind::Size { min, max } = key.kind {
            values.extend([min.to_string(), max.to_string()]);
        }
        if let Kind::Time { min, max } = key.kind {
            values.extend([min, max].map(super::super::duration::text));
        }
        if let Kind::Count { min, max } = key.kind {
            values.extend([min.to_string(), max.to_string()]);
        }
        if let Preset::Value(value) = key.preset {
            values.push(value.to_owned());
        }
        for value in values {
            let line = format!("{} = {}", name(key), key.kind.toml(&value));
            let found = messages(&file(key.section(), &line)).join("\n");
            for complaint in ["too little", "too much", "is not", "report this bug"] {
                let hit = found
                    .lines()
                    .any(|l| l.contains(&format!(": {}: ", key.path)) && l.contains(complaint));
                assert!(!hit, "{line}\n{found}");
            }
        }
    }
}

#[test]
fn the_documented_kinds_are_all_there_are() {
    let key = KEYS.iter().find(|key| key.path == "destination.filter.kinds").expect("there");
    let all = logplex::Kind::ALL.map(|kind| format!("`{}`", kind.as_str())).join(", ");
    assert_eq!(key.doc, format!("Only messages of these kinds: {all}."));
}

#[test]
fn the_documented_variables_are_all_there_are() {
    let section = SECTIONS.iter().find(|s| s.path == "destination.event").expect("there");
    for variable in crate::hec::mapping::VARIABLES {
        let documented = [format!("`{variable}`"), format!("`{variable}.NAME`")];
        assert!(documented.iter().any(|text| section.doc.contains(text)), "{variable}");
    }
}

/// The templates in the table are what the mapping does when none is written.
#[test]
fn the_documented_templates_are_the_defaults() {
    let written = MappingConfig {
        host: Some(preset(&EVENT_HOST)),
        source: Some(preset(&EVENT_SOURCE)),
        sourcetype: Some(preset(&EVENT_SOURCETYPE)),
        ..MappingConfig::default()
    };
    let event = |config: &MappingConfig| {
        let mut encoder = Encoder::new(Mapping::compile(config).expect("right"), 1000);
        encoder.start_frame(FrameFacts {
            drain_token: Some("d.1"),
            frame_id: Some("F1"),
            offset: Offset::ZERO,
            received: UnixMicros::new(0),
            query: "app=checkout",
            profile: Profile::Logplex,
            messages_claimed: Some(1),
            messages: 1,
        });
        let body = b"64 <40>1 2012-11-30T06:45:29+00:00 host app web.3 - State changed.\n";
        let piece = pieces(body).next().expect("a piece");
        let mut out = Vec::new();
        encoder.encode(0, piece, &mut out);
        String::from_utf8(out).expect("text")
    };
    let expected = event(&MappingConfig::default());
    assert!(expected.contains("heroku:checkout:app/web"), "{expected}");
    assert_eq!(event(&written), expected);
}

fn preset(key: &Key) -> String {
    match key.preset {
        Preset::Value(value) => value.to_owned(),
        Preset::Required { .. } | Preset::Absent { .. } => panic!("{} has no default", key.path),
    }
}
