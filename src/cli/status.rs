//! `forebay status`, `forebay cursor`, `forebay drain list`, `forebay log-level`: what the relay
//! that runs says, and the few things it lets go of or changes.

use hyper::Method;
use serde_json::{Value, json};

use crate::app::Exit;
use crate::types::DestinationName;

use super::client::{AdminArgs, Client, Failure};
use super::human;
use super::output::{self, Tone, paint, table};
use super::replay::{parse_place, remaining};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    pub(super) admin: AdminArgs,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// The destination, as `forebay cursor list` names it.
    name: String,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct SeekArgs {
    /// The destination, as `forebay cursor list` names it.
    name: String,
    /// Where to: an offset, a time (2026-01-02T03:04:05Z, or -2h), `earliest` or `latest`.
    #[arg(long, value_name = "PLACE", value_parser = parse_place, allow_hyphen_values = true)]
    to: Value,
    /// Also when messages are skipped by that.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct LogLevelArgs {
    #[command(flatten)]
    show: ShowArgs,
    /// The new filter, in the syntax of FOREBAY_LOG: `debug`, or `info,forebay::sink=trace`.
    /// Without, the one in force is shown.
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
}

/// A field of what the relay says.
pub(super) fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("-")
}

pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `offset:index` of a pair.
pub(super) fn position(value: &Value, name: &str) -> String {
    let pair = list(value, name);
    let part = |at: usize| pair.get(at).and_then(Value::as_u64).unwrap_or_default();
    format!("{}:{}", part(0), part(1))
}

/// How a state is meant.
pub(super) fn tone(state: &str) -> Tone {
    match state {
        "ready" | "delivering" | "up" | "running" => Tone::Good,
        "resting" | "stopping" | "paused" | "waiting" => Tone::Warn,
        _ => Tone::Bad,
    }
}

pub(super) async fn show(
    args: ShowArgs,
    path: &str,
    print: impl FnOnce(&Client, &Value),
) -> Result<(), Failure> {
    let client = Client::new(args.admin)?;
    let value: Value = client.get(path).await?;
    if args.json {
        output::json(&value);
    } else {
        print(&client, &value);
    }
    Ok(())
}

pub(super) fn ended(result: Result<(), Failure>) -> Exit {
    result.map_or_else(Failure::tell, |()| Exit::Stopped)
}

pub(super) async fn status(args: ShowArgs) -> Exit {
    ended(show(args, "/v1/status", print_status).await)
}

fn print_status(client: &Client, status: &Value) {
    let phase = text(status, "phase");
    output::line(&format!(
        "forebay {}  {}  {}",
        text(status, "version"),
        paint(tone(phase), phase),
        paint(Tone::Dim, &client.address()),
    ));
    let log = status.get("log").unwrap_or(&Value::Null);
    output::line(&format!(
        "log  offsets [{}, {})  {} messages  {} in {} segments  {} in table files  {}",
        number(log, "first_offset"),
        number(log, "end_offset"),
        human::count(number(log, "messages")),
        human::bytes(number(log, "bytes")),
        number(log, "segments"),
        human::bytes(number(log, "file_bytes")),
        text(log, "durability"),
    ));
    if log.get("space_is_short").and_then(Value::as_bool) == Some(true) {
        let text =
            "     no space is left for frames; `forebay cursor list` shows who keeps the log";
        output::line(&paint(Tone::Bad, text));
    }
    match status.get("ingest").map_or("-", |ingest| text(ingest, "state")) {
        "holding" => {
            let text = "     ingest is holding: requests of senders wait for the log";
            output::line(&paint(Tone::Warn, text));
        }
        "closed" => {
            let text =
                "     ingest is closed: connections of senders are refused until the log can go on";
            output::line(&paint(Tone::Bad, text));
        }
        _ => {}
    }
    if let Some(why) = log.get("poisoned").and_then(Value::as_str) {
        output::line(&paint(Tone::Bad, &format!("     the log has failed: {why}")));
    }
    output::line("");
    for destination in list(status, "destinations") {
        print_destination(destination);
    }
    for replay in list(status, "replays") {
        print_replay(replay);
    }
}

/// A replay that has not ended.
fn print_replay(replay: &Value) {
    let state = text(replay, "state");
    if matches!(state, "finished" | "cancelled") {
        return;
    }
    let progress = replay.get("progress").and_then(Value::as_f64).unwrap_or_default();
    let left = remaining(replay).map(|left| format!("  {left} left")).unwrap_or_default();
    output::line(&format!(
        "replay {}  {}  to {}  {:.1}% of {} messages{left}",
        text(replay, "id"),
        paint(tone(state), state),
        text(replay, "destination"),
        progress * 100.0,
        human::count(number(replay, "messages")),
    ));
    if let Some(reason) = replay.get("reason").and_then(Value::as_str) {
        output::line(&format!("  {}", paint(tone(state), reason)));
    }
}

fn print_destination(destination: &Value) {
    let state = text(destination, "state");
    let books = destination.get("books").unwrap_or(&Value::Null);
    let lag = destination.get("lag_seconds").and_then(Value::as_f64).unwrap_or_default();
    output::line(&format!(
        "{}  {}  {} behind  {} pending  acknowledgement {}",
        paint(Tone::Strong, text(destination, "name")),
        paint(tone(state), state),
        human::seconds(lag),
        human::count(number(books, "pending")),
        text(destination, "acknowledgement"),
    ));
    if let Some(reason) = destination.get("reason").and_then(Value::as_str) {
        output::line(&format!("  {}", paint(Tone::Bad, reason)));
    }
    let figures: Vec<String> =
        ["accepted", "acknowledged", "filtered", "dead_lettered", "skipped", "dropped", "rewound"]
            .iter()
            // What is rare is shown when there is some.
            .filter(|name| **name != "rewound" || number(books, name) > 0)
            .map(|name| format!("{} {}", name.replace('_', "-"), human::count(number(books, name))))
            .collect();
    output::line(&format!("  books        {}", figures.join("  ")));
    let difference = books.get("difference").and_then(Value::as_i64).unwrap_or_default();
    if difference != 0 {
        let text = format!("  THE BOOKS DO NOT BALANCE: difference {difference}");
        output::line(&paint(Tone::Bad, &text));
    }
    output::line(&format!(
        "  cursor       {}, read up to {}; {} batches being sent, {} unacknowledged",
        position(destination, "checkpoint"),
        position(destination, "read"),
        number(destination, "batches_posting"),
        number(destination, "batches_unacknowledged"),
    ));
    for endpoint in list(destination, "endpoints") {
        let state = text(endpoint, "state");
        let reason = endpoint.get("reason").and_then(Value::as_str);
        output::line(&format!(
            "  endpoint     {}  {}{}",
            text(endpoint, "url"),
            paint(tone(state), state),
            reason.map(|reason| format!(": {reason}")).unwrap_or_default(),
        ));
    }
}

pub(super) async fn cursors(args: ShowArgs) -> Exit {
    ended(show(args, "/v1/cursors", |_, cursors| print_cursors(cursors)).await)
}

pub(super) async fn remove_cursor(args: RemoveArgs) -> Exit {
    ended(remove(args.show, &args.name).await)
}

async fn remove(args: ShowArgs, name: &str) -> Result<(), Failure> {
    // It becomes a part of a path.
    DestinationName::new(name).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let client = Client::new(args.admin)?;
    let path = format!("/v1/cursors/{name}");
    let removed: Value = client.change(Method::DELETE, &path, None).await?;
    if args.json {
        output::json(&removed);
    } else {
        output::line(&format!("removed the cursor of {}", text(&removed, "removed")));
    }
    Ok(())
}

pub(super) async fn pause_cursor(args: RemoveArgs, paused: bool) -> Exit {
    ended(pause(args.show, &args.name, paused).await)
}

async fn pause(args: ShowArgs, name: &str, paused: bool) -> Result<(), Failure> {
    // It becomes a part of a path.
    DestinationName::new(name).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let client = Client::new(args.admin)?;
    let path = format!("/v1/cursors/{name}/{}", if paused { "pause" } else { "resume" });
    let done: Value = client.change(Method::POST, &path, None).await?;
    if args.json {
        output::json(&done);
    } else if paused {
        output::line(&format!(
            "{name} is paused: nothing more is sent, and what comes in waits in the log; replays go on"
        ));
    } else {
        output::line(&format!("{name} goes on"));
    }
    Ok(())
}

pub(super) async fn seek_cursor(args: SeekArgs) -> Exit {
    ended(seek(args).await)
}

async fn seek(args: SeekArgs) -> Result<(), Failure> {
    let SeekArgs { name, to, yes, show } = args;
    // It becomes a part of a path.
    DestinationName::new(&name).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let client = Client::new(show.admin)?;
    let path = format!("/v1/cursors/{name}/seek");
    let body = json!({ "to": to, "yes": yes });
    let moved: Value = client.change(Method::POST, &path, Some(&body)).await?;
    if show.json {
        output::json(&moved);
        return Ok(());
    }
    let (from, to) = (position(&moved, "from"), position(&moved, "to"));
    output::line(&format!("the cursor of {name} was moved from {from} to {to}"));
    let (skipped, rewound) = (number(&moved, "skipped"), number(&moved, "rewound"));
    if rewound > 0 {
        let count = human::count(rewound);
        output::line(&format!(
            "{count} messages are sent again; those that Splunk has are duplicates there, with the \
             same event_id: `| dedup event_id` removes them"
        ));
    }
    if skipped > 0 {
        let count = human::count(skipped);
        output::line(&paint(
            Tone::Warn,
            &format!("{count} messages are skipped: {name} never gets them"),
        ));
    }
    Ok(())
}

fn print_cursors(cursors: &Value) {
    let rows: Vec<Vec<String>> = cursors
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|cursor| {
            let books = cursor.get("books").filter(|books| !books.is_null());
            let orphaned = cursor.get("orphaned").and_then(Value::as_bool) == Some(true);
            let paused = cursor.get("paused").and_then(Value::as_bool) == Some(true);
            let pending = books.map(|books| human::count(number(books, "pending")));
            vec![
                text(cursor, "name").to_owned(),
                if orphaned {
                    "orphaned"
                } else if paused {
                    "paused"
                } else {
                    "configured"
                }
                .to_owned(),
                position(cursor, "position"),
                pending.unwrap_or_else(|| "-".to_owned()),
                number(cursor, "segments").to_string(),
                human::bytes(number(cursor, "pins_bytes")),
            ]
        })
        .collect();
    table(&["CURSOR", "STATE", "POSITION", "PENDING", "SEGMENTS", "KEEPS ALONE"], &rows);
}

pub(super) async fn drains(args: ShowArgs) -> Exit {
    ended(show(args, "/v1/drains", |_, drains| print_drains(drains)).await)
}

fn print_drains(drains: &Value) {
    let rows: Vec<Vec<String>> = drains
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|drain| {
            vec![text(drain, "app").to_owned(), format!("{}…", text(drain, "token_begins"))]
        })
        .collect();
    table(&["APP", "TOKEN"], &rows);
}

pub(super) async fn log_level(args: LogLevelArgs) -> Exit {
    let Some(filter) = args.filter else {
        let print = |_: &Client, level: &Value| output::line(text(level, "filter"));
        return ended(show(args.show, "/v1/log-level", print).await);
    };
    ended(set_log_level(args.show, &filter).await)
}

async fn set_log_level(args: ShowArgs, filter: &str) -> Result<(), Failure> {
    let client = Client::new(args.admin)?;
    let body = json!({ "filter": filter });
    let level: Value = client.change(Method::PUT, "/v1/log-level", Some(&body)).await?;
    if args.json {
        output::json(&level);
    } else {
        output::line(&format!(
            "log lines are now written by the filter {}",
            text(&level, "filter")
        ));
    }
    Ok(())
}
