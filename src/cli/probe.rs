//! `forebay check --probe`.

use std::time::Duration;

use crate::app::Exit;
use crate::config::Config;
use crate::sink::probe::{Finding, Outcome, probe};

use super::output;

/// Asks every collector of every destination. 0 when delivery will work, 1 when it will not.
pub(super) async fn run(config: Config, json: bool, wait: Duration) -> Exit {
    let mut all = Vec::new();
    for destination in &config.destinations {
        if !json {
            output::line(&format!("destination {}", destination.name));
        }
        let findings = probe(destination, wait).await;
        if !json {
            show(&findings);
        }
        all.push((destination.name.to_string(), findings));
    }
    let works = |findings: &[Finding]| findings.iter().all(|f| f.outcome != Outcome::Bad);
    let good = all.iter().all(|(_, findings)| works(findings));
    if json {
        let destinations: Vec<_> = all
            .iter()
            .map(|(name, findings)| {
                serde_json::json!({ "name": name, "good": works(findings), "findings": findings })
            })
            .collect();
        let text = serde_json::json!({ "good": good, "destinations": destinations });
        output::line(&text.to_string());
    } else {
        output::line(if good { "good" } else { "delivery will not work like this" });
    }
    if good { Exit::Stopped } else { Exit::No }
}

/// A table: one row for each question, under the endpoint it was put to.
fn show(findings: &[Finding]) {
    let mut endpoint = None;
    for finding in findings {
        if endpoint != Some(&finding.endpoint) {
            output::line(&format!("  {}", finding.endpoint));
            endpoint = Some(&finding.endpoint);
        }
        let (step, outcome) = (finding.step.as_str(), finding.outcome.as_str());
        output::line(&format!("    {outcome:<8} {step:<16} {}", finding.detail));
    }
}
