//! What the documentation says can be done can be done.
//!
//! A block that begins with `sh run` is run: all of one page in order, in one shell and an empty
//! directory, with this forebay in the `PATH`. Addresses of loopback are replaced by such as are
//! free, and what is still running at the end is ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use regex::Regex;

use crate::support::{Authority, Port, Process, command, private};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages, the front page included.
fn pages() -> Vec<(PathBuf, String)> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    all.push(root().join("README.md"));
    all.sort();
    all.into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect()
}

/// The blocks of a page that begin with these words.
fn blocks(page: &str, words: &str) -> Vec<String> {
    let begin = format!("```{words}");
    let (mut all, mut open) = (Vec::new(), None::<String>);
    for line in page.lines() {
        match &mut open {
            None if line.trim() == begin => open = Some(String::new()),
            None => {}
            Some(_) if line.trim() == "```" => all.extend(open.take()),
            Some(block) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    all
}

/// The text with every port of loopback replaced by one that is free.
fn with_free_ports(text: &str, ports: &mut BTreeMap<String, Port>) -> String {
    let address = Regex::new(r"127\.0\.0\.1:\d+").unwrap();
    address
        .replace_all(text, |found: &regex::Captures<'_>| {
            let port = ports.entry(found[0].to_owned()).or_insert_with(Port::free);
            port.address().to_string()
        })
        .into_owned()
}

#[tokio::test]
async fn the_commands_of_the_documentation_run() {
    let binary = Path::new(env!("CARGO_BIN_EXE_forebay")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut run = 0;
    for (file, page) in pages() {
        let blocks = blocks(&page, "sh run");
        if blocks.is_empty() {
            continue;
        }
        run += blocks.len();
        let mut ports = BTreeMap::new();
        let script = with_free_ports(&blocks.concat(), &mut ports);
        let dir = tempfile::tempdir().unwrap();
        // One that waits for what never comes is ended with all that it has started.
        let mut shell = Command::new("timeout");
        shell.args(["--kill-after=5", "150", "bash"]);
        let script = format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}");
        shell.args(["-o", "pipefail", "-euxc", &script]).current_dir(dir.path());
        shell.env("PATH", format!("{}:{path}", binary.display())).stdin(Stdio::null());
        for variable in ["FOREBAY_CONFIG", "FOREBAY_LOG", "FOREBAY_ADMIN"] {
            shell.env_remove(variable);
        }
        let output = dir.path().join("output");
        let mut shell = Process::start(shell, &output, &output);
        let (code, _) = shell.exit(Duration::from_secs(170)).await;
        let said = fs::read_to_string(&output).unwrap();
        let log = fs::read_to_string(dir.path().join("trial.log")).unwrap_or_default();
        assert_eq!(code, Some(0), "{}: {said}\n{log}", file.display());
    }
    assert!(run > 3, "{run} blocks");
}

/// Every configuration that a page shows whole is good.
#[test]
fn the_configurations_of_the_documentation_are_good() {
    let mut tried = 0;
    for (file, page) in pages() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().display().to_string();
        // The pieces of a page that stand for themselves: with a destination, and an endpoint.
        for block in blocks(&page, "toml") {
            if !block.contains("[[destination]]") || !block.contains("endpoints") {
                continue;
            }
            let pair = Authority::new("docs").good();
            private(dir.path(), "tls.crt", &pair.chain);
            private(dir.path(), "tls.key", &pair.key);
            for secret in ["drain-password", "hec-token", "heroku", "hec"] {
                private(dir.path(), secret, "a-secret-of-some-length");
            }
            let text = block
                .replace("/etc/forebay", &place)
                .replace("/var/lib/forebay", &format!("{place}/data"));
            let config = private(dir.path(), "forebay.toml", &text);
            let mut check = command(&["check", "--config", config.to_str().unwrap()]);
            let output = check.env("CREDENTIALS_DIRECTORY", dir.path()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{}: {said}\n{text}", file.display());
            tried += 1;
        }
    }
    assert!(tried >= 2, "{tried} configurations");
}

/// Every alert has its entry in the runbook, and says where it is.
#[test]
fn every_alert_has_its_entry_in_the_runbook() {
    let rules = fs::read_to_string(root().join("ops/prometheus/forebay.rules.yml")).unwrap();
    let runbook = fs::read_to_string(root().join("docs/runbook.md")).unwrap();
    let entries: BTreeSet<&str> =
        runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut alerts = BTreeSet::new();
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        alerts.insert(name);
        let anchor = name.to_lowercase();
        let url = format!("runbook_url: \"file:///usr/share/doc/forebay/runbook.md#{anchor}\"");
        assert!(rule.lines().any(|line| line.trim() == url), "{name} does not name its entry");
        // The severity that the entry gives is that of the rule.
        let entry = runbook.split("## ").find(|entry| entry.lines().next() == Some(name));
        let severity = entry.and_then(|entry| entry.lines().nth(2)).unwrap_or_default();
        let severity = severity.trim_matches('*');
        assert!(rule.contains(&format!("severity: {severity}\n")), "{name}: {severity:?}");
    }
    assert_eq!(alerts, entries);
    assert!(alerts.len() > 10);
}

/// Links from one page to another, or into one, lead somewhere.
#[test]
fn links_between_the_pages_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)#:]*)(#[^)]*)?\)").unwrap();
    let mut followed = 0;
    for (file, page) in pages() {
        for found in link.captures_iter(&page) {
            let target = match &found[1] {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{}: {}", file.display(), &found[0]);
            followed += 1;
            let Some(anchor) = found.get(2) else { continue };
            let text = fs::read_to_string(&target).unwrap();
            let headings = text.lines().filter(|line| line.starts_with('#'));
            let known = headings.map(|line| {
                let words = line.trim_start_matches('#').trim().to_lowercase();
                let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                kept.collect::<String>().replace(' ', "-")
            });
            let anchors: Vec<String> = known.collect();
            let anchor = anchor.as_str().trim_start_matches('#');
            assert!(anchors.iter().any(|one| one == anchor), "{}: {}", file.display(), &found[0]);
        }
    }
    assert!(followed > 20, "{followed} links");
}
