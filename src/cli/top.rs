//! `forebay top`: the relay's state, live in the terminal.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};
use ratatui::{DefaultTerminal, Frame};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::app::Exit;
use crate::clock;

use super::client::{AdminArgs, Client, Failure};
use super::human;
use super::output::{self, Tone};
use super::status::{list, number, position, text, tone};

/// How often the relay is asked.
const EVERY: Duration = Duration::from_secs(1);

/// How often keys are looked for.
const KEYS_EVERY: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Gives the terminal back, however the command ends.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What was heard last.
#[derive(Debug, Default)]
struct Seen {
    status: Value,
    at: Option<Instant>,
    /// Messages accepted a second, and acknowledged by each destination.
    accepted: f64,
    acknowledged: Vec<f64>,
    /// Why the relay was not heard the last time.
    trouble: Option<String>,
}

impl Seen {
    fn hear(&mut self, status: Value, now: Instant) {
        let seconds = self.at.map(|then| now.saturating_duration_since(then).as_secs_f64());
        let rate = |before: u64, after: u64| match seconds {
            Some(seconds) if seconds > 0.0 => after.saturating_sub(before) as f64 / seconds,
            _ => 0.0,
        };
        let messages = |status: &Value| status.get("log").map_or(0, |log| number(log, "messages"));
        let acknowledged = |destination: &Value| {
            destination.get("books").map_or(0, |books| number(books, "acknowledged"))
        };
        self.accepted = rate(messages(&self.status), messages(&status));
        let before = list(&self.status, "destinations");
        self.acknowledged = list(&status, "destinations")
            .iter()
            .map(|now| {
                let same = before.iter().find(|then| text(then, "name") == text(now, "name"));
                same.map_or(0.0, |then| rate(acknowledged(then), acknowledged(now)))
            })
            .collect();
        self.status = status;
        self.at = Some(now);
        self.trouble = None;
    }
}

pub(super) async fn top(args: TopArgs, stop: CancellationToken) -> Exit {
    if !std::io::stdout().is_terminal() {
        output::error("top needs a terminal; `forebay status` prints the same once");
        return Exit::Usage;
    }
    let client = match Client::new(args.admin) {
        Ok(client) => client,
        Err(failure) => return failure.tell(),
    };
    let mut seen = Seen::default();
    // Before the screen is taken: an error is to be read.
    match client.get("/v1/status").await {
        Ok(status) => seen.hear(status, clock::instant()),
        Err(failure) => return failure.tell(),
    }
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => {
            output::error(&format!("the terminal cannot be used: {error}"));
            return Exit::No;
        }
    };
    let restore = Restore;
    let ended = live(&client, &mut terminal, &mut seen, &stop).await;
    drop(restore);
    match ended {
        Ok(()) => Exit::Stopped,
        Err(error) => {
            output::error(&format!("the terminal cannot be used: {error}"));
            Exit::No
        }
    }
}

async fn live(
    client: &Client,
    terminal: &mut DefaultTerminal,
    seen: &mut Seen,
    stop: &CancellationToken,
) -> std::io::Result<()> {
    let mut asked = clock::instant();
    loop {
        terminal.draw(|frame| draw(frame, seen, &client.address()))?;
        if ends()? {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(KEYS_EVERY) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let now = clock::instant();
        if now.saturating_duration_since(asked) < EVERY {
            continue;
        }
        asked = now;
        match client.get("/v1/status").await {
            Ok(status) => seen.hear(status, now),
            // It may come back: a restart is no reason to go.
            Err(Failure { text, .. }) => {
                seen.trouble = text.lines().next().map(str::to_owned);
            }
        }
    }
}

/// Whether a key says that this is enough. Takes all keys that wait, and waits for none.
fn ends() -> std::io::Result<bool> {
    while event::poll(Duration::ZERO)? {
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            let enough = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
            if enough || control && matches!(key.code, KeyCode::Char('c' | 'd')) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Strong => Style::new().bold(),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Warn => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red).bold(),
        Tone::Dim => Style::new().dim(),
    }
}

fn draw(frame: &mut Frame<'_>, seen: &Seen, address: &str) {
    let [head, log, destinations, endpoints, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(4),
        Constraint::Min(4),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let phase = text(&seen.status, "phase");
    frame.render_widget(
        Line::from(vec![
            Span::from(format!("forebay {}  ", text(&seen.status, "version"))).bold(),
            Span::styled(phase.to_owned(), style(tone(phase))),
            Span::from(format!("  {address}")).dim(),
        ]),
        head,
    );
    draw_log(frame, seen, log);
    draw_destinations(frame, seen, destinations);
    draw_endpoints(frame, seen, endpoints);
    let foot_line = match &seen.trouble {
        Some(trouble) => Line::styled(trouble.clone(), style(Tone::Bad)),
        None => Line::from("q ends").dim(),
    };
    frame.render_widget(foot_line, foot);
}

fn draw_log(frame: &mut Frame<'_>, seen: &Seen, area: Rect) {
    let log = seen.status.get("log").unwrap_or(&Value::Null);
    let short = log.get("space_is_short").and_then(Value::as_bool) == Some(true);
    let lines = vec![
        Line::from(format!(
            "{:.0} messages/s in   {} messages ever   offsets [{}, {})",
            seen.accepted,
            human::count(number(log, "messages")),
            number(log, "first_offset"),
            number(log, "end_offset"),
        )),
        Line::from(vec![
            Span::from(format!(
                "{} in {} segments, {} in table files   {}   ",
                human::bytes(number(log, "bytes")),
                number(log, "segments"),
                human::bytes(number(log, "file_bytes")),
                text(log, "durability"),
            )),
            Span::styled(if short { "NO SPACE" } else { "" }, style(Tone::Bad)),
        ]),
    ];
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" log ")), area);
}

fn draw_destinations(frame: &mut Frame<'_>, seen: &Seen, area: Rect) {
    let rates = seen.acknowledged.iter().copied().chain(std::iter::repeat(0.0));
    let rows = list(&seen.status, "destinations").iter().zip(rates).map(|(destination, rate)| {
        let state = text(destination, "state");
        let books = destination.get("books").unwrap_or(&Value::Null);
        let lag = destination.get("lag_seconds").and_then(Value::as_f64).unwrap_or_default();
        let difference = books.get("difference").and_then(Value::as_i64).unwrap_or_default();
        Row::new([
            Cell::from(text(destination, "name").to_owned()),
            Cell::from(Span::styled(state.to_owned(), style(tone(state)))),
            Cell::from(format!("{rate:.0}")),
            Cell::from(human::count(number(books, "pending"))),
            Cell::from(human::seconds(lag)),
            Cell::from(position(destination, "checkpoint")),
            Cell::from(number(destination, "batches_unacknowledged").to_string()),
            Cell::from(if difference == 0 {
                Span::styled("balance", style(Tone::Good))
            } else {
                Span::styled(format!("off by {difference}"), style(Tone::Bad))
            }),
        ])
    });
    let widths = [
        Constraint::Min(12),
        Constraint::Length(11),
        Constraint::Length(10),
        Constraint::Length(13),
        Constraint::Length(10),
        Constraint::Length(14),
        Constraint::Length(8),
        Constraint::Length(12),
    ];
    let headings =
        ["DESTINATION", "STATE", "ACKED/S", "PENDING", "LAG", "CURSOR", "UNACKED", "BOOKS"];
    let table = Table::new(rows, widths)
        .header(Row::new(headings).style(style(Tone::Strong)))
        .block(Block::bordered().title(" destinations "));
    frame.render_widget(table, area);
}

fn draw_endpoints(frame: &mut Frame<'_>, seen: &Seen, area: Rect) {
    let rows = list(&seen.status, "destinations").iter().flat_map(|destination| {
        list(destination, "endpoints").iter().map(|endpoint| {
            let state = text(endpoint, "state");
            let reason = endpoint.get("reason").and_then(Value::as_str).unwrap_or_default();
            Row::new([
                Cell::from(text(destination, "name").to_owned()),
                Cell::from(text(endpoint, "url").to_owned()),
                Cell::from(Span::styled(state.to_owned(), style(tone(state)))),
                Cell::from(reason.to_owned()),
            ])
        })
    });
    let widths =
        [Constraint::Min(12), Constraint::Min(30), Constraint::Length(10), Constraint::Min(20)];
    let table = Table::new(rows, widths)
        .header(Row::new(["DESTINATION", "ENDPOINT", "STATE", "WHY"]).style(style(Tone::Strong)))
        .block(Block::bordered().title(" endpoints "));
    frame.render_widget(table, area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;

    fn status(messages: u64, acknowledged: u64) -> Value {
        json!({
            "version": "1.2.3", "phase": "ready",
            "log": { "first_offset": 0, "end_offset": 9, "messages": messages, "segments": 1,
                     "bytes": 2048, "file_bytes": 0, "space_is_short": false, "durability": "fsync" },
            "destinations": [{
                "name": "splunk", "state": "held", "checkpoint": [7, 1], "lag_seconds": 75.0,
                "batches_unacknowledged": 3,
                "books": { "acknowledged": acknowledged, "pending": 4321, "difference": 0 },
                "endpoints": [{ "url": "https://hec:8088", "state": "held", "reason": "bad token" }],
            }],
        })
    }

    #[test]
    fn rates_are_differences_by_the_clock() {
        let (mut seen, start) = (Seen::default(), clock::instant());
        seen.hear(status(1000, 100), start);
        assert_eq!((seen.accepted, seen.acknowledged.as_slice()), (0.0, &[0.0][..]));
        seen.hear(status(3000, 600), start + Duration::from_secs(2));
        assert_eq!((seen.accepted, seen.acknowledged.as_slice()), (1000.0, &[250.0][..]));
    }

    #[test]
    fn the_screen_shows_what_matters_at_night() {
        let mut seen = Seen::default();
        seen.hear(status(1000, 100), clock::instant());
        let mut terminal = Terminal::new(TestBackend::new(120, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &seen, "http://127.0.0.1:9600")).unwrap();
        let screen = terminal.backend().to_string();
        for word in [
            "ready",
            "splunk",
            "held",
            "4,321",
            "1 m 15 s",
            "7:1",
            "balance",
            "bad token",
            "q ends",
        ] {
            assert!(screen.contains(word), "{word}\n{screen}");
        }
        // However small, nothing panics.
        for (width, height) in [(1, 1), (10, 3), (40, 8)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, &seen, "")).unwrap();
        }
    }
}
