//! `docs/metrics.md`, made from the table.

use std::fmt::Write as _;

use super::table::{Kind, METRICS, Metric};

/// The page.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "<!-- Made from src/telemetry/table.rs; `FOREBAY_REGENERATE=1 cargo test --lib \
         telemetry::docs` writes it anew. -->\n\
         # Metrics\n\n\
         What `/metrics` of admin says, in Prometheus' text format. Counters begin at 0 with each \
         start of the\nprocess, but for those of a destination's books (delivered, filtered, dropped, \
         skipped, rewound,\ndead-lettered), which go on from where its checkpoint is. A series is \
         there from the first time that\nit counts. Times are in seconds, sizes in bytes. Labels \
         take few values: a drain token or a frame id\nis never one. Alert rules for these metrics \
         are in `ops/prometheus/`.\n",
    );
    for group in GROUPS {
        let mut rows = METRICS.iter().filter(|metric| title(metric.name) == group).peekable();
        if rows.peek().is_none() {
            continue;
        }
        write!(page, "\n## {group}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
            .unwrap_or_default();
        rows.for_each(|metric| row(&mut page, metric));
    }
    page.push_str("\n## Buckets\n\nThe upper bounds of the histograms' buckets.\n\n");
    for metric in METRICS {
        let Kind::Histogram(buckets) = metric.kind else { continue };
        let bounds: Vec<String> = buckets.iter().map(ToString::to_string).collect();
        writeln!(page, "- `{}`: {}", metric.name, bounds.join(", ")).unwrap_or_default();
    }
    page
}

/// The parts of the program, in the order of a frame's way.
const GROUPS: [&str; 5] = ["The program", "Configuration", "Ingest", "The log", "Destinations"];

/// The part of the program that a metric tells about.
fn title(name: &str) -> &'static str {
    let name = name.strip_prefix("forebay_").unwrap_or(name);
    let begins = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    if begins(&["build_"]) {
        "The program"
    } else if begins(&["wal_", "dedupe_"]) {
        "The log"
    } else if begins(&[
        "http_",
        "ingest_",
        "tls_certificate_",
        "framing_",
        "unknown_drain_",
        "odd_",
        "damaged_gzip",
        "frame",
        "message",
        "upstream_",
        "auth_",
        "ack_deadline",
    ]) {
        "Ingest"
    } else if begins(&["config_", "reload_"]) {
        "Configuration"
    } else {
        "Destinations"
    }
}

fn row(page: &mut String, metric: &Metric) {
    let Metric { name, kind, labels, help, .. } = metric;
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
    let help = help.replace('|', "\\|");
    writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_fresh() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let expected = markdown();
        if std::env::var_os("FOREBAY_REGENERATE").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == expected,
            "docs/metrics.md is not what src/telemetry/table.rs says; run \
             `FOREBAY_REGENERATE=1 cargo test --lib telemetry::docs`"
        );
    }

    #[test]
    fn what_is_of_ingest_stands_under_ingest() {
        for (name, group) in [
            ("forebay_ingest_state", "Ingest"),
            ("forebay_tls_certificate_not_after_seconds", "Ingest"),
            ("forebay_framing_errors_total", "Ingest"),
            ("forebay_unknown_drain_frames_total", "Ingest"),
            ("forebay_tls_unverified", "Destinations"),
            ("forebay_dropped_messages_total", "Destinations"),
        ] {
            assert!(METRICS.iter().any(|metric| metric.name == name), "{name}");
            assert_eq!(title(name), group, "{name}");
        }
    }

    #[test]
    fn every_metric_has_one_row_with_its_labels() {
        let page = markdown();
        for metric in METRICS {
            let rows: Vec<_> = page
                .lines()
                .filter(|line| line.starts_with(&format!("| `{}` |", metric.name)))
                .collect();
            assert_eq!(rows.len(), 1, "{}", metric.name);
            assert!(metric.labels.iter().all(|label| rows[0].contains(&format!("`{label}`"))));
        }
    }
}
