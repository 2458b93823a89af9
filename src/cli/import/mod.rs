//! `forebay import vector`: a configuration of Vector turned into ours.
//!
//! What comes out is a start that `forebay check` accepts, with a comment for each decision. What
//! could not be taken over is never passed over in silence: every option that nobody asked for is
//! told with its line. Secrets are never printed; a configuration that holds one gets a reference.

mod document;
mod event;
mod graph;
mod options;
mod out;
mod sink;
mod source;
mod text;

use std::path::PathBuf;

use crate::app::Exit;
use crate::config::read_text;

use super::output;
use document::{Format, Node, Value};
use graph::Graph;
use options::Options;
use out::{Finding, Findings, Table};

/// What to import.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// Vector's configuration.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Its format; without, what the file's name says.
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
}

/// The largest file, in bytes; the largest configuration of ours is no larger.
const LARGEST: u64 = 1 << 20;

/// Prints our configuration, and on standard error what is left to do.
pub(super) fn vector(args: &ImportArgs) -> Exit {
    let shown = args.file.display().to_string();
    let Some(format) = args.format.or_else(|| Format::of(&args.file)) else {
        output::error(&format!(
            "{shown}: the name ends with none of .toml, .yaml, .yml and .json; say --format"
        ));
        return Exit::Usage;
    };
    let text = match read_text(&args.file, LARGEST) {
        Ok(text) => text,
        Err(problem) => {
            output::error(&format!("{shown}: {problem}"));
            return Exit::Configuration;
        }
    };
    let root = match document::read(&text, format) {
        Ok(root) => root,
        Err(error) => {
            let line = error.line.map_or_else(String::new, |line| format!("{line}:"));
            output::error(&format!("{shown}:{line} {}", error.problem));
            return Exit::Configuration;
        }
    };
    match convert(root, &shown) {
        Ok((configuration, findings)) => {
            output::line(configuration.trim_end());
            for Finding { line, key, text } in &findings {
                let place = if *line == 0 { shown.clone() } else { format!("{shown}:{line}") };
                output::error(&format!("{place}: {key}: {text}"));
            }
            if findings.is_empty() { Exit::Stopped } else { Exit::No }
        }
        Err(problem) => {
            output::error(&format!("{shown}: {problem}"));
            Exit::Configuration
        }
    }
}

/// Our configuration, and what is left to do; or why there is nothing to import.
fn convert(root: Node, file: &str) -> Result<(String, Vec<Finding>), String> {
    let mut findings = Findings::default();
    let mut root = Options::of(String::new(), root);
    let graph = Graph::of(&mut root);
    let flow = graph.flow(&mut findings)?;

    let mut top = Table::new("");
    top.comment(format!("Made by `forebay import vector` from {file}."));
    top.comment("Read it, set what it names, then: forebay check --probe -c FILE");
    let proxy = root.table("proxy");
    globals(&mut root, &mut top, &mut findings);

    let ingest = source::convert(flow.sources, &mut findings);
    let mut destinations = Vec::new();
    for (id, sink) in flow.sinks {
        destinations.push(sink::convert(&id, sink, &ingest, proxy.as_ref(), &mut findings));
    }
    let mut wal = Table::new("[wal]");
    log(&destinations, &mut wal);

    let mut out = String::new();
    top.write(&mut out);
    for table in &ingest.tables {
        table.write(&mut out);
    }
    if wal.has_keys() {
        wal.write(&mut out);
    }
    for table in destinations.iter().flat_map(|destination| &destination.tables) {
        table.write(&mut out);
    }
    Ok((out, findings.sorted()))
}

/// `wal.max_size` from the largest disk buffer: the log is one for all destinations.
fn log(destinations: &[sink::Destination], wal: &mut Table) {
    /// Two of the segments that the log is made of.
    const LEAST: u64 = 256 << 20;
    let buffers = destinations.iter().filter_map(|destination| destination.buffer.as_ref());
    let Some((bytes, from)) = buffers.max_by_key(|(bytes, _)| *bytes) else { return };
    let comment = format!(
        "{from} One log serves all destinations, and within this size it also keeps what was \
         delivered for `retention`. What Vector's buffer still holds is not taken over: let Vector \
         deliver it before you stop it."
    );
    wal.text("max_size", &format!("{}B", (*bytes).clamp(LEAST, 1 << 50)), comment);
}

/// What stands outside of the components.
fn globals(root: &mut Options, top: &mut Table, findings: &mut Findings) {
    if let Some(taken) = root.take("data_dir") {
        let comment =
            format!("Not Vector's (line {}): forebay has a directory of its own.", taken.line);
        top.text("data_dir", "/var/lib/forebay", comment);
    }
    // Always on, in that no sender hears a 200 before its frame is on the disk.
    root.take("acknowledgements");
    if let Some(mut api) = root.table("api") {
        let enabled = api.flag("enabled", findings).is_some_and(|(_, on)| on);
        if enabled {
            let text = "has no counterpart of the same kind: see [admin], which listens on \
                        127.0.0.1:9600, and `forebay status` and `forebay top`";
            findings.add(api.line, "api", text);
        }
    }
    for (name, instead) in [
        ("secret", "secrets come from variables, or files (`*_file`), as systemd's LoadCredential"),
        ("log_schema", "an event's fields have fixed names; see destination.event"),
        ("schema", "there is no schema to configure"),
        ("enrichment_tables", "see [drain.fields] for fields by drain"),
        ("timezone", "times of Logplex carry their own zone"),
        ("healthchecks", "`forebay check --probe` asks the collectors"),
        ("tests", "`forebay demo` and `forebay simulate` try a configuration"),
        ("expire_metrics_secs", "series of metrics do not expire"),
        ("provider", "the configuration is a file; SIGHUP reads it again"),
    ] {
        if let Some(taken) = root.take(name)
            && !matches!(&taken.value, Value::Table(entries) if entries.is_empty())
        {
            findings.add(taken.line, name, format!("has no counterpart: {instead}"));
        }
    }
    for left in root.clone().names() {
        if let Some(taken) = root.take(&left) {
            findings.add(taken.line, left, "has no counterpart");
        }
    }
}
