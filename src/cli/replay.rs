//! `forebay replay`: a stretch of the log, sent once more.

use std::num::NonZeroU64;

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::app::Exit;
use crate::record::ReplayId;

use super::client::{Client, Failure};
use super::human::{self, parse_time};
use super::output::{self, table};
use super::replay_wait::follow;
use super::status::{ShowArgs, ended, number, show, text};

#[derive(Debug, Subcommand)]
pub(super) enum ReplayCommand {
    /// Send a stretch of the log to a destination once more. Each event has the `event_id` it
    /// always had, and says by `forebay_replay` which replay it is of. The destination's own
    /// delivery goes on beside it.
    Start(Box<StartArgs>),
    /// List the replays, with how far they have come.
    List(ShowArgs),
    /// Do not send the rest of a replay.
    Cancel(CancelArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct StartArgs {
    /// The destination, as the configuration names it.
    destination: String,
    /// The beginning: an offset, a time (2026-01-02T03:04:05Z, or -2h), or `earliest`.
    #[arg(long, value_name = "PLACE", value_parser = parse_place, allow_hyphen_values = true)]
    from: Value,
    /// The end, itself not included: an offset, a time, or `latest`. Without, what there is now.
    #[arg(long, value_name = "PLACE", value_parser = parse_place, allow_hyphen_values = true)]
    to: Option<Value>,
    /// Only frames of the drain whose token is this, or begins so.
    #[arg(long, value_name = "TOKEN")]
    drain: Option<String>,
    /// Only frames of the drain of this app.
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// At most this many events a second. Without, as many as the collectors take.
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU64>,
    /// Wait for its end and show how it comes on. Exits with 0 when all of it was sent, else with
    /// 1 and the reason: cancelled, held, stuck, or not whole.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct CancelArgs {
    /// The replay, as `forebay replay list` names it.
    id: String,
    #[command(flatten)]
    show: ShowArgs,
}

/// A place in the log, as the relay is told of it: an offset, a time, `earliest` or `latest`.
pub(super) fn parse_place(text: &str) -> Result<Value, String> {
    if matches!(text, "earliest" | "latest") {
        return Ok(text.into());
    }
    if let Ok(offset) = text.parse::<u64>() {
        return Ok(offset.into());
    }
    let time = parse_time(text).map_err(|_| {
        "a place is an offset, a time such as 2026-01-02T03:04:05Z, a time ago such as -2h, \
         `earliest` or `latest`"
            .to_owned()
    })?;
    Ok(human::rfc3339(time).into())
}

pub(super) async fn run(command: ReplayCommand, stop: CancellationToken) -> Exit {
    ended(match command {
        ReplayCommand::Start(args) => start(*args, &stop).await,
        ReplayCommand::List(args) => {
            show(args, "/v1/replays", |_, replays| print_replays(replays)).await
        }
        ReplayCommand::Cancel(args) => cancel(args).await,
    })
}

async fn start(args: StartArgs, stop: &CancellationToken) -> Result<(), Failure> {
    let StartArgs { destination, from, to, drain, app, rate, wait, show } = args;
    let body = json!({
        "destination": destination, "from": from, "to": to, "drain": drain, "app": app, "rate": rate,
    });
    let client = Client::new(show.admin)?;
    let replay: Value = client.change(Method::POST, "/v1/replays", Some(&body)).await?;
    if let Some(warning) = replay.get("warning").and_then(Value::as_str) {
        output::error(warning);
    }
    if !show.json {
        output::line(&format!(
            "replay {}: the frames [{}, {}), {} messages, to {}",
            text(&replay, "id"),
            number(&replay, "first_offset"),
            number(&replay, "end_offset"),
            human::count(number(&replay, "messages")),
            text(&replay, "destination"),
        ));
        let search = format!("forebay_replay={}", text(&replay, "id"));
        output::line(&format!("`forebay replay list` shows its progress, `{search}` finds it"));
    }
    let (replay, ended) =
        if wait { follow(&client, replay, show.json, stop).await } else { (replay, Ok(())) };
    if show.json {
        output::json(&replay);
    } else if wait && ended.is_ok() {
        print_end(&replay);
    }
    ended
}

fn print_end(replay: &Value) {
    let count = |name: &str| human::count(number(replay, name));
    output::line(&format!(
        "replay {} has finished: {} messages acknowledged, {} filtered, {} dead-lettered",
        text(replay, "id"),
        count("acknowledged"),
        count("filtered"),
        count("dead_lettered"),
    ));
    if number(replay, "acknowledged") == 0 {
        output::error("nothing was sent: no message of the stretch is one that was asked for");
    }
}

/// Messages a second, for people.
pub(super) fn rate(replay: &Value) -> Option<String> {
    replay.get("messages_per_second").and_then(Value::as_f64).map(|rate| format!("{rate:.0}"))
}

/// How long the rest takes, for people.
pub(super) fn remaining(replay: &Value) -> Option<String> {
    replay.get("remaining_seconds").and_then(Value::as_f64).map(human::seconds)
}

async fn cancel(args: CancelArgs) -> Result<(), Failure> {
    // It becomes a part of a path.
    let id = ReplayId::parse(&args.id)
        .ok_or_else(|| Failure::new(Exit::Usage, format!("`{}` is no replay's id", args.id)))?;
    let client = Client::new(args.show.admin)?;
    let path = format!("/v1/replays/{id}");
    let replay: Value = client.change(Method::DELETE, &path, None).await?;
    if args.show.json {
        output::json(&replay);
    } else {
        output::line(&format!(
            "cancelled {id}: {} of {} messages are not sent",
            human::count(number(&replay, "pending")),
            human::count(number(&replay, "messages")),
        ));
    }
    Ok(())
}

fn print_replays(replays: &Value) {
    let rows: Vec<Vec<String>> = replays
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|replay| {
            let progress = replay.get("progress").and_then(Value::as_f64).unwrap_or_default();
            vec![
                text(replay, "id").to_owned(),
                text(replay, "destination").to_owned(),
                text(replay, "state").to_owned(),
                format!("[{}, {})", number(replay, "first_offset"), number(replay, "end_offset")),
                format!("{:.1}%", progress * 100.0),
                human::count(number(replay, "acknowledged")),
                human::count(number(replay, "pending")),
                rate(replay).map_or_else(|| "-".to_owned(), |rate| format!("{rate}/s")),
                remaining(replay).unwrap_or_else(|| "-".to_owned()),
                text(replay, "created").to_owned(),
            ]
        })
        .collect();
    let headings = [
        "REPLAY",
        "DESTINATION",
        "STATE",
        "FRAMES",
        "DONE",
        "ACKNOWLEDGED",
        "PENDING",
        "RATE",
        "LEFT",
        "ASKED FOR",
    ];
    table(&headings, &rows);
    print_reasons(replays);
}

/// Why they do not come on, those that do not.
fn print_reasons(replays: &Value) {
    for replay in replays.as_array().map_or(&[][..], Vec::as_slice) {
        if let Some(reason) = replay.get("reason").and_then(Value::as_str) {
            output::line(&format!("{}: {reason}", text(replay, "id")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_as_the_relay_reads_them() {
        assert_eq!(parse_place("17"), Ok(17.into()));
        assert_eq!(parse_place("earliest"), Ok("earliest".into()));
        let time = parse_place("2026-01-02T05:04:05+02:00").unwrap();
        assert_eq!(time, "2026-01-02T03:04:05Z");
        assert!(parse_place("-2h").unwrap().as_str().unwrap().ends_with('Z'));
        for wrong in ["", "-2", "yesterday", "1.5"] {
            assert!(parse_place(wrong).is_err(), "{wrong}");
        }
    }
}
