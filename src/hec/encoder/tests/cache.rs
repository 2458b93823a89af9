//! The cache of routes never mixes up sources.

use std::collections::BTreeSet;

use super::*;

#[test]
fn the_cache_tells_apart_what_differs_in_one_part_of_the_key() {
    let template = "{{ app }}|{{ query.q }}|{{ severity }}|{{ host }}|{{ app_name }}|{{ proc_id }}";
    let config = MappingConfig { source: Some(template.to_owned()), ..config() };
    let other = "d.12345678-0000-0000-0000-000000000000";
    let mut cases = Vec::new();
    for (token, app) in [(Some(TOKEN), "checkout"), (Some(other), "h"), (None, "h")] {
        for query in ["", "q=1", "q=2"] {
            for (pri, severity) in [(190, "info"), (191, "debug")] {
                for (app_name, proc_id) in [("app", "web.1"), ("app", "web.2"), ("ap", "p.web.1")] {
                    let piece = format!("<{pri}>1 2026-01-02T03:04:05Z h {app_name} {proc_id} - x");
                    let value = query.strip_prefix("q=").unwrap_or_default();
                    let source = format!("{app}|{value}|{severity}|h|{app_name}|{proc_id}");
                    cases.push((token, query, piece, source));
                }
            }
        }
    }
    // A token in the place of a query, and the other way round, is another key.
    cases.push((Some(""), "q=1", "<190>1 - h a p - x".into(), "h|1|info|h|a|p".into()));
    cases.push((Some("q=1"), "", "<190>1 - h a p - x".into(), "h||info|h|a|p".into()));
    cases.push((None, "q=1", "<190>1 - h a p - x".into(), "h|1|info|h|a|p".into()));

    let mut encoder = encoder(&config);
    for _ in 0..2 {
        for (token, query, piece, source) in &cases {
            let facts = FrameFacts { drain_token: *token, query, ..facts() };
            assert_eq!(event(&mut encoder, facts, piece.as_bytes()).source, *source);
        }
        cases.reverse();
    }
}

/// Enough keys that differ in one part only for several of them to share a place of the cache.
#[test]
fn neighbours_in_the_cache_are_told_apart() {
    let source = Some("{{ query.q }}|{{ severity }}|{{ facility }}".to_owned());
    let mut encoder = encoder(&MappingConfig { source, ..config() });
    let mut sources = BTreeSet::new();
    for _ in 0..2 {
        for pri in 0..192 {
            let piece = format!("<{pri}>1 2026-01-02T03:04:05Z host app web.1 - x");
            sources.insert(event(&mut encoder, facts(), piece.as_bytes()).source);
        }
        for n in 0..6000 {
            let facts = FrameFacts { query: &format!("q={n}"), ..facts() };
            let made = event(&mut encoder, facts, b"<190>1 - host app web.1 - x");
            assert_eq!(made.source, format!("{n}|info|local7"));
        }
    }
    assert_eq!(sources.len(), 192);
}

#[test]
fn more_sources_than_the_cache_holds_are_still_told_apart() {
    let mut encoder = encoder(&config());
    for round in 0..2 {
        for n in 0..6000 {
            let query = format!("app=a{}", n % 1500);
            let unknown = FrameFacts { drain_token: None, query: &query, ..facts() };
            let piece = format!("<190>1 2026-01-02T03:04:05Z host app web.{n} - x");
            let made = event(&mut encoder, unknown, piece.as_bytes());
            assert_eq!(made.field("dyno"), Some(format!("web.{n}").as_str()), "{round}");
            assert_eq!(made.host, format!("a{}", n % 1500));
        }
    }
}

#[test]
fn what_is_too_large_to_keep_is_cut_and_encoded_all_the_same() {
    let mut encoder = encoder(&config());
    let (long, query) = ("x".repeat(100_000), format!("app={}", "q".repeat(100_000)));
    for proc_id in [&long, "web.1", &long, &format!("{long}y"), "web.1"] {
        for query in ["", query.as_str()] {
            let unknown = FrameFacts { drain_token: None, query, ..facts() };
            let piece = format!("<190>1 2026-01-02T03:04:05Z host app {proc_id} - text");
            let made = event(&mut encoder, unknown, piece.as_bytes());
            assert_eq!(made.field("dyno"), proc_id.get(..1024).or(Some(proc_id)));
            assert_eq!(made.host.len(), if query.is_empty() { "heroku".len() } else { 1024 });
            let is_cut = proc_id.len() > 1024 || !query.is_empty();
            assert_eq!(made.field("truncated").is_some(), is_cut);
        }
    }
}
