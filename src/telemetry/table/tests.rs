use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;

#[test]
fn names_are_unique_and_follow_the_rules() {
    let mut seen = BTreeSet::new();
    for Metric { name, kind, unit, labels, help } in METRICS {
        assert!(seen.insert(name), "{name} is there twice");
        assert!(name.starts_with("forebay_"), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Counter, "{name}");
        let base = name.strip_suffix("_total").unwrap_or(name);
        assert_eq!(base.ends_with("_seconds"), *unit == Seconds, "{name}");
        assert_eq!(base.split('_').any(|word| word == "bytes"), *unit == Bytes, "{name}");
        assert!(matches!(unit, Seconds | Bytes | Count), "{name}: base units only");
        assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
        assert!(labels.iter().all(|l| !l.is_empty() && l.bytes().all(|b| b.is_ascii_lowercase())));
        // A histogram's text has series of its own with these endings.
        for ending in ["_bucket", "_sum", "_count"] {
            assert!(!name.ends_with(ending), "{name}");
        }
    }
}

#[test]
fn buckets_ascend_and_cover_what_matters() {
    for metric in METRICS {
        let Histogram(buckets) = metric.kind else { continue };
        assert!(buckets.len() > 4, "{}", metric.name);
        assert!(buckets[0] > 0.0, "{}", metric.name);
        assert!(buckets.windows(2).all(|pair| pair[0] < pair[1]), "{}", metric.name);
    }
    assert_eq!((ANSWER[0], ANSWER[ANSWER.len() - 1]), (0.001, 5.0));
    assert_eq!((COMMIT[0], COMMIT[COMMIT.len() - 1]), (0.000_05, 1.0));
    assert_eq!((ACK[0], ACK[ACK.len() - 1]), (0.05, 300.0));
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The macro calls of a source file: how they count, and the name they count into.
fn uses(source: &str) -> Vec<(&'static str, &str)> {
    let mut uses = Vec::new();
    for kind in ["counter", "gauge", "histogram"] {
        for call in source.split(&format!("{kind}!(")).skip(1) {
            let name = call.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
            if let Some((name, _)) = name {
                uses.push((kind, name));
            }
        }
    }
    uses
}

#[test]
fn whatever_the_program_counts_is_in_the_table() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 10, "{files:?}");
    let mut counted = BTreeSet::new();
    for file in files {
        let source = std::fs::read_to_string(&file).unwrap();
        for (kind, name) in uses(&source) {
            let metric = METRICS.iter().find(|metric| metric.name == name);
            let metric = metric.unwrap_or_else(|| panic!("{}: {name}", file.display()));
            let expected = match metric.kind {
                Counter => "counter",
                Gauge => "gauge",
                Histogram(_) => "histogram",
            };
            assert_eq!(kind, expected, "{}: {name}", file.display());
            counted.insert(name.to_owned());
        }
    }
    // At least this floor's own: else the search has gone blind.
    assert!(counted.contains("forebay_build_info"), "{counted:?}");
}
