//! `forebay dead-letter`: messages that collectors refuse, shown, sent again and removed.

use base64::Engine as _;
use hyper::Method;
use serde_json::{Value, json};

use crate::app::Exit;
use crate::types::{DestinationName, Position, UnixMicros};

use super::client::{AdminArgs, Client, Failure};
use super::human::{self, parse_time};
use super::output::{self, Tone, paint, table};
use super::status::{list, number, text};

#[derive(Debug, clap::Subcommand)]
pub(super) enum LetterCommand {
    /// List them, in the order of the log.
    List(ListArgs),
    /// Show one, with its message.
    Show(LetterArgs),
    /// Have them sent again, with the ids they had. The relay does so in the background, also after
    /// a restart; one leaves the list when the indexers have acknowledged it.
    Redrive(ChangeArgs),
    /// Remove them for good.
    Purge(PurgeArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct OfArgs {
    /// The destination; without, the only one that has dead letters.
    #[arg(short, long, value_name = "NAME", value_parser = DestinationName::new)]
    destination: Option<DestinationName>,
    #[command(flatten)]
    admin: AdminArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct FilterArgs {
    /// Only those that were refused with this code, such as 6.
    #[arg(long, value_name = "N")]
    code: Option<u32>,
    /// Only those that were refused at this time or later: 2026-01-02T03:04:05Z, or -2h.
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    since: Option<UnixMicros>,
    /// Only those that were refused before this time: 2026-01-02T03:04:05Z, or -2h.
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    before: Option<UnixMicros>,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    of: OfArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only those behind this position; needs --destination when several have dead letters.
    #[arg(long, value_name = "OFFSET:INDEX")]
    after: Option<Position>,
    /// At most this many of each destination.
    #[arg(long, default_value = "100", value_name = "N")]
    limit: usize,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct LetterArgs {
    /// Its position, as `forebay dead-letter list` shows it.
    #[arg(value_name = "OFFSET:INDEX")]
    position: Position,
    #[command(flatten)]
    of: OfArgs,
    /// Print the bytes of the message, as they came, and nothing else.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ChangeArgs {
    /// Which, as `forebay dead-letter list` shows them.
    #[arg(value_name = "OFFSET:INDEX", required_unless_present_any = ["all", "code", "since", "before"], conflicts_with_all = ["all", "code", "since", "before"])]
    positions: Vec<Position>,
    /// All of the destination.
    #[arg(long, conflicts_with_all = ["code", "since", "before"])]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    of: OfArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct PurgeArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// Yes, they are to be gone.
    #[arg(long)]
    yes: bool,
}

/// The most positions in one request.
const POSITIONS: usize = 1000;

/// The most letters to be asked for at a time.
const PAGE: usize = 1000;

pub(super) async fn run(command: LetterCommand) -> Exit {
    let done = match command {
        LetterCommand::List(args) => show_list(args).await,
        LetterCommand::Show(args) => show(args).await,
        LetterCommand::Redrive(args) => redrive(args).await,
        LetterCommand::Purge(args) => purge(args).await,
    };
    done.map_or_else(Failure::tell, |()| Exit::Stopped)
}

impl FilterArgs {
    /// The fields of a request.
    fn fields(&self) -> Vec<(&'static str, Value)> {
        let code = self.code.map(|code| ("code", json!(code)));
        let since = self.since.map(|at| ("since_us", json!(at.get())));
        let before = self.before.map(|at| ("before_us", json!(at.get())));
        [code, since, before].into_iter().flatten().collect()
    }
}

/// The destinations that have dead letters.
async fn destinations(client: &Client) -> Result<Vec<Value>, Failure> {
    let books: Value = client.get("/v1/dead-letters").await?;
    let some = list(&books, "destinations").iter().filter(|row| number(row, "letters") > 0);
    Ok(some.cloned().collect())
}

impl OfArgs {
    /// The destination that is meant.
    async fn one(&self, client: &Client) -> Result<String, Failure> {
        if let Some(name) = &self.destination {
            return Ok(name.to_string());
        }
        let all = destinations(client).await?;
        match all.as_slice() {
            [one] => Ok(text(one, "name").to_owned()),
            [] => Err(Failure::new(Exit::No, "there are no dead letters")),
            several => {
                let names: Vec<_> = several.iter().map(|row| text(row, "name")).collect();
                let names = names.join(", ");
                let what = format!("which destination? Write --destination with one of {names}");
                Err(Failure::new(Exit::Usage, what))
            }
        }
    }
}

async fn show_list(args: ListArgs) -> Result<(), Failure> {
    let client = Client::new(args.of.admin.clone())?;
    let names: Vec<String> = if args.of.destination.is_some() || args.after.is_some() {
        vec![args.of.one(&client).await?]
    } else {
        let all = destinations(&client).await?;
        all.iter().map(|row| text(row, "name").to_owned()).collect()
    };
    let mut all = Vec::new();
    let mut more = Vec::new();
    let mut hidden = None;
    for name in names {
        let (letters, next, why) = pages(&client, &name, &args).await?;
        hidden = hidden.or(why);
        all.extend(letters.into_iter().map(|letter| (name.clone(), letter)));
        more.extend(next.map(|next| (name, next)));
    }
    if args.of.json {
        let rows = all.into_iter().map(|(name, mut letter)| {
            if let Some(letter) = letter.as_object_mut() {
                letter.insert("destination".to_owned(), json!(name));
            }
            letter
        });
        let next: serde_json::Map<_, _> =
            more.into_iter().map(|(name, next)| (name, json!(next))).collect();
        output::json(&json!({ "letters": rows.collect::<Vec<_>>(), "next": next }));
        return Ok(());
    }
    if all.is_empty() {
        output::line("there are no such dead letters");
    } else {
        let rows: Vec<_> = all.iter().map(|(name, letter)| row(name, letter)).collect();
        table(&["DESTINATION", "POSITION", "REFUSED", "CODE", "TIMES", "STATE", "MESSAGE"], &rows);
    }
    if let Some(why) = hidden.filter(|_| !all.is_empty()) {
        output::line(&paint(Tone::Dim, &why));
    }
    for (name, next) in more {
        let hint = format!("there may be more: --destination {name} --after {next}");
        output::line(&paint(Tone::Dim, &hint));
    }
    Ok(())
}

/// As many letters as are asked for, behind which one there may be more, and why their messages are
/// not shown, if they are not.
async fn pages(
    client: &Client,
    name: &str,
    args: &ListArgs,
) -> Result<(Vec<Value>, Option<String>, Option<String>), Failure> {
    let mut letters = Vec::new();
    let mut hidden = None;
    let mut after = args.after.map(|at| at.to_string());
    while letters.len() < args.limit {
        let limit = (args.limit - letters.len()).min(PAGE);
        let after_field = after.as_ref().map(|after| format!("&after={after}"));
        let filter: String =
            args.filter.fields().iter().map(|(name, value)| format!("&{name}={value}")).collect();
        let path = format!(
            "/v1/dead-letters?destination={name}&limit={limit}{}{filter}",
            after_field.unwrap_or_default()
        );
        let page: Value = client.get_with_token_if_any(&path).await?;
        letters.extend(list(&page, "letters").iter().cloned());
        let said = |name: &str| page.get(name).and_then(Value::as_str).map(str::to_owned);
        hidden = said("hidden");
        after = said("next");
        if after.is_none() {
            break;
        }
    }
    Ok((letters, after, hidden))
}

fn row(name: &str, letter: &Value) -> Vec<String> {
    let code = letter.get("code").and_then(Value::as_u64);
    let code = code.map_or_else(|| format!("HTTP {}", number(letter, "status")), |c| c.to_string());
    vec![
        name.to_owned(),
        text(letter, "position").to_owned(),
        human::rfc3339(micros(letter, "refused_us")),
        code,
        number(letter, "refusals").to_string(),
        state(letter).to_owned(),
        plain(text(letter, "message_begins")).chars().take(80).collect(),
    ]
}

fn state(letter: &Value) -> &'static str {
    let redriving = letter.get("redrive_us").is_some_and(|value| !value.is_null());
    if redriving { "redriving" } else { "kept" }
}

fn micros(letter: &Value, name: &str) -> UnixMicros {
    UnixMicros::new(letter.get(name).and_then(Value::as_i64).unwrap_or_default())
}

/// A message is a stranger's: what it holds must not steer a terminal.
fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

async fn show(args: LetterArgs) -> Result<(), Failure> {
    let client = Client::new(args.of.admin.clone())?;
    let name = args.of.one(&client).await?;
    let path = format!("/v1/dead-letters/{name}/{}", args.position);
    let letter: Value = client.get_with_token(&path).await?;
    if args.of.json {
        output::json(&letter);
        return Ok(());
    }
    let message = message(&letter)?;
    if args.raw {
        output::bytes(&message);
        return Ok(());
    }
    let code = letter.get("code").and_then(Value::as_u64);
    let code = code.map(|code| format!(", code {code}")).unwrap_or_default();
    let answer =
        format!("HTTP {}{code}: {}", number(&letter, "status"), plain(text(&letter, "text")));
    for (name, value) in [
        ("position", text(&letter, "position").to_owned()),
        ("event_id", text(&letter, "event_id").to_owned()),
        ("state", state(&letter).to_owned()),
        ("answer", answer),
        ("endpoint", text(&letter, "endpoint").to_owned()),
        ("refused", human::rfc3339(micros(&letter, "refused_us"))),
        ("times", number(&letter, "refusals").to_string()),
        ("received", human::rfc3339(micros(&letter, "received_us"))),
        ("drain", format!("{}…", text(&letter, "token_begins"))),
        ("frame", plain(text(&letter, "frame_id"))),
        ("bytes", human::count(number(&letter, "message_bytes"))),
        ("message", plain(&String::from_utf8_lossy(&message))),
    ] {
        output::line(&format!("{name:<9} {value}"));
    }
    Ok(())
}

fn message(letter: &Value) -> Result<Vec<u8>, Failure> {
    if let Some(message) = letter.get("message").and_then(Value::as_str) {
        return Ok(message.as_bytes().to_vec());
    }
    let message = letter.get("message_base64").and_then(Value::as_str);
    let decode = |text| base64::engine::general_purpose::STANDARD.decode(text).ok();
    let strange = || Failure::new(Exit::No, "the relay has sent no message");
    message.and_then(decode).ok_or_else(strange)
}

async fn redrive(args: ChangeArgs) -> Result<(), Failure> {
    let json = args.of.json;
    let (name, changed) = change(args, "/v1/dead-letters/redrive").await?;
    tell(
        json,
        &name,
        changed,
        "are sent again; `forebay dead-letter list` shows those that remain",
    );
    Ok(())
}

async fn purge(args: PurgeArgs) -> Result<(), Failure> {
    if !args.yes {
        let what = "what is purged is gone for good: say --yes. `forebay dead-letter list` takes \
                    the same filters and shows what it would be";
        return Err(Failure::new(Exit::Usage, what));
    }
    let json = args.change.of.json;
    let (name, changed) = change(args.change, "/v1/dead-letters/purge").await?;
    tell(json, &name, changed, "are gone");
    Ok(())
}

fn tell(as_json: bool, name: &str, changed: u64, what: &str) {
    if as_json {
        output::json(&json!({ "destination": name, "changed": changed }));
    } else {
        output::line(&format!("{} dead letters of {name} {what}", human::count(changed)));
    }
}

/// Changes letters, as many requests as that takes. Returns of which destination, and how many.
async fn change(args: ChangeArgs, path: &str) -> Result<(String, u64), Failure> {
    let client = Client::new(args.of.admin.clone())?;
    let name = args.of.one(&client).await?;
    let mut changed = 0;
    if !args.positions.is_empty() {
        let mut asked = args.positions;
        asked.sort_unstable();
        asked.dedup();
        for some in asked.chunks(POSITIONS) {
            let positions: Vec<String> = some.iter().map(ToString::to_string).collect();
            let body = json!({ "destination": name, "positions": positions });
            let answer: Value = client.change(Method::POST, path, Some(&body)).await?;
            changed += number(&answer, "changed");
        }
        let asked = asked.len() as u64;
        if changed < asked {
            let what = format!(
                "only {changed} of {asked} dead letters were there; the others were changed by \
                 nobody. `forebay dead-letter list` shows what there is"
            );
            return Err(Failure::new(Exit::No, what));
        }
        return Ok((name, changed));
    }
    let mut after: Option<String> = None;
    loop {
        let mut body = json!({ "destination": name, "all": args.all });
        if let Some(fields) = body.as_object_mut() {
            fields.extend(args.filter.fields().into_iter().map(|(k, v)| (k.to_owned(), v)));
            fields.extend(after.map(|after| ("after".to_owned(), json!(after))));
        }
        let answer: Value = client.change(Method::POST, path, Some(&body)).await?;
        changed += number(&answer, "changed");
        after = answer.get("next").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() {
            return Ok((name, changed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_steers_no_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\tc\u{9b}\r\n"), "a\\u{1b}[2Jb\\tc\\u{9b}");
        assert_eq!(plain("größer\n"), "größer");
    }
}
