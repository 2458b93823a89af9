//! What a `splunk_hec_logs` sink makes of an event: our `[destination.event]`.

use std::collections::BTreeMap;

use crate::hec::mapping::DrainInfo;

use super::options::{Options, Taken};
use super::out::{Findings, Table, quoted};
use super::source::Ingest;
use super::text::{template, variable};

/// `endpoint_target`; whether it is `raw`.
pub(super) fn target(sink: &mut Options, table: &mut Table, findings: &mut Findings) -> bool {
    let Some((taken, words)) = sink.words("endpoint_target", findings) else { return false };
    let raw = words.text == "raw";
    table.text("endpoint_target", if raw { "raw" } else { "event" }, taken.origin());
    raw
}

/// Makes `[destination.event]`. `most` are the bytes of a body.
pub(super) fn convert(
    sink: &mut Options,
    ingest: &Ingest,
    raw: bool,
    most: u64,
    findings: &mut Findings,
) -> Table {
    let mut table = Table::new("[destination.event]");
    let format = format(sink, ingest, findings);
    if raw && format.is_some() {
        let text = "is raw, where there is no format: messages are sent as they came";
        findings.add(sink.line, format!("{}.endpoint_target", sink.name), text);
    } else if let Some((format, comment)) = format {
        table.text("format", format, comment);
    }
    if most < 1_000_000 {
        let comment = "No message may be larger than a body (destination.batch.max_bytes).";
        table.text("max_bytes", &format!("{most}B"), comment);
    }
    host(sink, ingest, raw, &mut table, findings);
    for key in ["index", "source", "sourcetype"] {
        if let Some(taken) = sink.take(key) {
            set(&taken, key, ingest, raw, &mut table, findings);
        }
    }
    // With tables in a table its own keys come first.
    fields(sink, ingest, raw, &mut table, findings);
    let time = sink.words("timestamp_key", findings);
    if let Some((taken, _)) =
        time.filter(|(_, words)| !matches!(words.text.as_str(), "timestamp" | ".timestamp"))
    {
        taken.lost(findings, "an event's time is that of its syslog header");
    }
    sink.instead("timestamp_nanos_key", "times have microseconds, as Heroku writes them", findings);
    let auto = sink.flag("auto_extract_timestamp", findings);
    if let Some((taken, true)) = auto {
        taken.lost(findings, "an event's time is that of its syslog header");
    }
    table
}

/// Vector's codec, when it is not ours by default.
fn format(
    sink: &mut Options,
    ingest: &Ingest,
    findings: &mut Findings,
) -> Option<(&'static str, String)> {
    let mut encoding = sink.table("encoding")?;
    let codec = encoding.take("codec");
    for option in ["only_fields", "except_fields"] {
        encoding.instead(option, "an event is the message; see destination.event.format", findings);
    }
    encoding.instead("timestamp_format", "times are sent as seconds, as HEC wants them", findings);
    encoding.rest(findings);
    let codec = codec?;
    match codec.value.text().unwrap_or_default() {
        "text" | "raw_message" if ingest.json => Some((
            "text",
            format!("{} Vector parsed JSON first; here it stays as it came.", codec.origin()),
        )),
        "text" | "raw_message" => None,
        "json" if ingest.json => Some((
            "auto",
            format!("{} A message that is a JSON object is that object.", codec.origin()),
        )),
        "json" => Some((
            "json",
            format!("{} Its keys: see destination.event.format in the manual.", codec.origin()),
        )),
        _ => {
            codec.lost(findings, "there is text, json and auto; text is written");
            None
        }
    }
}

fn host(
    sink: &mut Options,
    ingest: &Ingest,
    raw: bool,
    table: &mut Table,
    findings: &mut Findings,
) {
    match sink.words("host_key", findings) {
        _ if raw => {}
        None => table.text(
            "host",
            "{{ host }}",
            "Vector's: the name in the syslog header. Without this line it is the app, which \
             tells more.",
        ),
        Some((taken, words)) => {
            let field = words.text.trim_start_matches('.');
            match variable(field, &ingest.query) {
                Some(name) => table.text("host", &format!("{{{{ {name} }}}}"), taken.origin()),
                None => {
                    taken.lost(findings, "no message has that field; see destination.event.host")
                }
            }
        }
    }
}

/// Writes a template, if it can be written.
fn set(
    taken: &Taken,
    key: &str,
    ingest: &Ingest,
    raw: bool,
    table: &mut Table,
    findings: &mut Findings,
) {
    let Some(words) = taken.words(findings) else { return };
    match template(&words.text, &ingest.query) {
        Err(why) => taken.lost(
            findings,
            &format!("{why}; see destination.event.{key}, and destination.event.query for what the drain URL says"),
        ),
        Ok(text) if raw && text.contains("{{") => {
            taken.lost(findings, "with endpoint_target = \"raw\" it is one text for all messages");
        }
        Ok(text) => table.text(key, &text, taken.origin()),
    }
}

/// Indexed fields, as a table in a line.
fn fields(
    sink: &mut Options,
    ingest: &Ingest,
    raw: bool,
    table: &mut Table,
    findings: &mut Findings,
) {
    let name = format!("{}.indexed_fields", sink.name);
    let mut written = BTreeMap::new();
    let indexed = sink.list("indexed_fields");
    let line = indexed.first().map_or(0, |(line, _)| *line);
    for (line, field) in indexed {
        let field = field.trim_start_matches('.');
        if raw {
            let text = "with endpoint_target = \"raw\" there are no indexed fields";
            findings.add(line, &*name, text);
            break;
        }
        let Some(value) = variable(field, &ingest.query) else {
            let text = format!(
                "the field {field} has no counterpart: forebay writes heroku_app, drain, appname, \
                 dyno, dyno_type, severity and facility by itself, and router_fields for the router"
            );
            findings.add(line, &*name, text);
            continue;
        };
        let value = format!("{{{{ {value} }}}}");
        let one = BTreeMap::from([(field.to_owned(), value.clone())]);
        let checked = DrainInfo { app: "app".to_owned(), fields: one, ..DrainInfo::default() };
        match checked.check() {
            Ok(()) => {
                written.insert(field.to_owned(), value);
            }
            Err(errors) => {
                let why: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
                let text = format!("the field {field} is not written: {}", why.join("; "));
                findings.add(line, &*name, text);
            }
        }
    }
    if written.is_empty() {
        return;
    }
    let pairs: Vec<_> = written
        .iter()
        .map(|(field, value)| format!("{} = {}", quoted(field), quoted(value)))
        .collect();
    table.set(
        "fields",
        format!("{{ {} }}", pairs.join(", ")),
        format!("From {name}, line {line}."),
    );
}
