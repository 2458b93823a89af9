//! `forebay replay start --wait`: a replay, followed to its end.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::app::Exit;
use crate::clock;

use super::client::{Client, Failure};
use super::human;
use super::output;
use super::replay::{rate, remaining};
use super::status::{number, text};

/// How often the relay is asked.
const EVERY: Duration = Duration::from_millis(500);

/// How often a line is printed where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How long a replay may wait for an operator before whoever waits for it is told. Some holds pass
/// with the next probe.
const HELD: Duration = Duration::from_secs(10);

/// How long the relay may be away: it may be restarted, and the replay goes on behind that.
const AWAY: Duration = Duration::from_secs(60);

/// Waits until a replay has ended, or until it cannot go on without an operator. Returns what the
/// relay said of it last, and why it is not good, if it is not.
pub(super) async fn follow(
    client: &Client,
    begun: Value,
    json: bool,
    stop: &CancellationToken,
) -> (Value, Result<(), Failure>) {
    let id = text(&begun, "id").to_owned();
    let mut shown = Shown::new(&begun, json);
    let mut last = begun;
    let (mut heard, mut held) = (clock::instant(), None::<Instant>);
    loop {
        let now = clock::instant();
        match client.get::<Value>("/v1/replays").await {
            Ok(all) => {
                heard = now;
                let rows = all.as_array().map_or(&[][..], Vec::as_slice);
                let Some(row) = rows.iter().find(|row| text(row, "id") == id) else {
                    let why = format!("the relay does not know the replay {id} any more");
                    return (last, Err(Failure::new(Exit::No, why)));
                };
                last.clone_from(row);
            }
            Err(failure) if now.duration_since(heard) >= AWAY => {
                shown.end();
                let why = format!(
                    "{}\nThe replay {id} goes on by itself when the relay is there again.",
                    failure.text
                );
                return (last, Err(Failure::new(failure.exit, why)));
            }
            Err(_) => {}
        }
        shown.show(&last, now);
        held = needs_hands(&last).then(|| held.unwrap_or(now));
        if let Some(end) = ended(&last) {
            shown.end();
            return (last, end);
        }
        if held.is_some_and(|since| now.duration_since(since) >= HELD) {
            shown.end();
            let why = format!(
                "the replay {id} is {}: {}; it goes on by itself when that is mended, or \
                 `forebay replay cancel {id}` ends it",
                text(&last, "state"),
                text(&last, "reason"),
            );
            return (last, Err(Failure::new(Exit::No, why)));
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => {
                shown.end();
                let why = format!("not waited for any longer; the replay {id} goes on");
                return (last, Err(Failure::new(Exit::No, why)));
            }
        }
    }
}

/// Whether it does not go on without somebody.
fn needs_hands(replay: &Value) -> bool {
    let configured = replay.get("configured").and_then(Value::as_bool) != Some(false);
    matches!(text(replay, "state"), "held" | "stuck") || !configured
}

/// How it has ended, if it has.
fn ended(replay: &Value) -> Option<Result<(), Failure>> {
    let (id, dropped) = (text(replay, "id"), number(replay, "dropped"));
    let no = |why: String| Some(Err(Failure::new(Exit::No, why)));
    match text(replay, "state") {
        "finished" if dropped > 0 => no(format!(
            "the replay {id} is not whole: {} of {} messages were dropped or are damaged",
            human::count(dropped),
            human::count(number(replay, "messages")),
        )),
        "finished" => Some(Ok(())),
        "cancelled" => no(format!(
            "the replay {id} was cancelled: {} of {} messages are not sent",
            human::count(number(replay, "pending")),
            human::count(number(replay, "messages")),
        )),
        _ => None,
    }
}

/// What the user sees meanwhile: a bar on a terminal, else a line now and then.
struct Shown {
    bar: Option<ProgressBar>,
    lines: bool,
    printed: Option<(Instant, String)>,
}

impl Shown {
    fn new(replay: &Value, json: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let target = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(Some(number(replay, "messages")), target);
            match ProgressStyle::with_template("{wide_bar} {percent}% {msg}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Self { bar, lines: !terminal && !json, printed: None }
    }

    fn show(&mut self, replay: &Value, now: Instant) {
        let (state, settled) = (text(replay, "state"), settled(replay));
        let mut words = vec![state.to_owned()];
        words.extend(rate(replay).map(|rate| format!("{rate}/s")));
        words.extend(remaining(replay).map(|left| format!("{left} left")));
        words.extend(replay.get("reason").and_then(Value::as_str).map(str::to_owned));
        let words = words.join(", ");
        if let Some(bar) = &self.bar {
            bar.set_position(settled);
            bar.set_message(words);
        } else if self.lines {
            let due = self.printed.as_ref().is_none_or(|(at, before)| {
                before != state || now.duration_since(*at) >= LINE_EVERY
            });
            if due {
                self.printed = Some((now, state.to_owned()));
                let (settled, all) =
                    (human::count(settled), human::count(number(replay, "messages")));
                output::line(&format!("{settled} of {all} messages, {words}"));
            }
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn settled(replay: &Value) -> u64 {
    number(replay, "messages").saturating_sub(number(replay, "pending"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_replay_that_is_whole_is_good() {
        let end = |state: &str, dropped: u64| {
            let replay = json!({
                "id": "r-1", "state": state, "dropped": dropped, "pending": 3, "messages": 1000,
            });
            ended(&replay).map(|end| end.map_err(|failure| failure.text))
        };
        assert_eq!(end("finished", 0), Some(Ok(())));
        assert!(end("finished", 7).unwrap().unwrap_err().contains("7 of 1,000 messages"));
        assert!(end("cancelled", 0).unwrap().unwrap_err().contains("3 of 1,000 messages"));
        for state in ["running", "waiting", "held", "stuck"] {
            assert_eq!(end(state, 0), None, "{state}");
        }
    }
}
