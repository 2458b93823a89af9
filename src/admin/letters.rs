//! `/v1/dead-letters`: messages that collectors refuse, shown, sent again and removed.
//!
//! There may be many of them. Every request looks at a bounded number, and says where the next
//! one has to go on.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use base64::Engine as _;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::record::DeadLetter;
use crate::types::{ByteSize, DestinationName, Position, UnixMicros};
use crate::wal::{LetterBook, OpenError, Removal, Wal};

use super::Shared;
use super::access::{MayChange, MaySee};
use super::answer::Problem;
use super::server::Turns;

/// The most letters in an answer, and how many there are when nobody says.
const MOST: usize = 1000;
const USUAL: usize = 100;

/// The most letters that one request looks at, and about the most bytes of them.
const LOOKED_AT: usize = 10_000;
const READ: ByteSize = ByteSize::mib(32);

/// The most letters, and about the most bytes of them, that are in memory at a time.
const PAGE: usize = 500;
const PAGE_BYTES: ByteSize = ByteSize::mib(4);

/// Characters of a message that a list shows.
const BEGINS: usize = 160;

/// Longer messages are shown in base64 even if they are text: JSON can make six bytes of one.
const LONGEST_TEXT: usize = 2 << 20;

/// Said when messages are not shown. How many there are and why they were refused is for everybody.
const HIDDEN: &str = "messages are shown over TCP with the token of admin.token_file only";

const HOW: &str = "`forebay dead-letter list` shows them";

/// What of a destination's letters is meant.
#[derive(Clone, Copy, Debug, Default)]
struct Filter {
    /// The collector's code.
    code: Option<u32>,
    /// Refused at this time or later.
    since: Option<UnixMicros>,
    /// Refused before this time.
    before: Option<UnixMicros>,
}

impl Filter {
    fn takes(&self, letter: &DeadLetter) -> bool {
        self.code.is_none_or(|code| letter.code == Some(code))
            && self.since.is_none_or(|since| letter.refused >= since)
            && self.before.is_none_or(|before| letter.refused < before)
    }

    const fn is_none(&self) -> bool {
        self.code.is_none() && self.since.is_none() && self.before.is_none()
    }
}

/// Some letters, and behind which one the next look has to begin, if there may be more.
struct Found<T> {
    kept: Vec<T>,
    next: Option<Position>,
}

/// Looks through a destination's letters behind `after`. Blocking.
fn find<T>(
    wal: &Wal,
    name: &DestinationName,
    after: Option<Position>,
    filter: &Filter,
    most: usize,
    keep: impl Fn(Position, &DeadLetter) -> T,
) -> Result<Found<T>, OpenError> {
    let mut from = after.map_or(Position::ZERO, behind);
    let (mut kept, mut looked, mut read) = (Vec::new(), 0, 0u64);
    loop {
        let page = wal.letters(name, from, PAGE, PAGE_BYTES)?;
        let Some((last, _)) = page.last() else { return Ok(Found { kept, next: None }) };
        from = behind(*last);
        for (at, letter) in page {
            if filter.takes(&letter) {
                kept.push(keep(at, &letter));
            }
            looked += 1;
            read = read.saturating_add(letter.message.len() as u64);
            if kept.len() >= most || looked >= LOOKED_AT || read >= READ.get() {
                return Ok(Found { kept, next: Some(at) });
            }
        }
    }
}

/// Where the first letter behind this one may be.
fn behind(at: Position) -> Position {
    match at.index.checked_add(1) {
        Some(index) => Position::new(at.offset, index),
        None => Position::at(at.offset.next()),
    }
}

/// What a list asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    destination: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    code: Option<u32>,
    since_us: Option<i64>,
    before_us: Option<i64>,
}

/// Letters, or without a destination how many each has.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Listed {
    Books { destinations: Vec<LettersStatus> },
    Page(LetterPage),
}

/// A destination's dead letters, without a look at them. Those that were written are those that are
/// there and those that went in one of the other ways.
#[derive(Clone, Debug, Serialize)]
pub struct LettersStatus {
    /// The destination's name.
    pub name: String,
    /// Whether it is configured. If not, its letters can be looked at and removed, not sent.
    pub configured: bool,
    /// How many there are.
    pub letters: u64,
    /// How many of them are to be sent again.
    pub redriving: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Ever written.
    pub written: u64,
    /// Sent again and acknowledged.
    pub redriven: u64,
    /// Removed by an operator.
    pub purged: u64,
    /// Removed by age.
    pub expired: u64,
    /// Taken back by a start, which sent their messages again.
    pub withdrawn: u64,
    /// Damaged, and given up by a start with `--recover` or `--skip-damaged`.
    pub lost: u64,
}

impl LettersStatus {
    fn of(name: &DestinationName, configured: bool, book: &LetterBook) -> Self {
        Self {
            name: name.to_string(),
            configured,
            letters: book.letters,
            redriving: book.redriving,
            bytes: book.bytes,
            written: book.totals.written,
            redriven: book.totals.redriven,
            purged: book.totals.purged,
            expired: book.totals.expired,
            withdrawn: book.totals.withdrawn,
            lost: book.totals.lost,
        }
    }
}

/// A bounded part of a destination's letters, in the order of the log.
#[derive(Clone, Debug, Serialize)]
pub struct LetterPage {
    /// The destination.
    pub destination: String,
    /// The letters.
    pub letters: Vec<LetterRow>,
    /// To be given as `after` to see the rest; none when there is no more.
    pub next: Option<String>,
    /// Why the letters do not say how their messages begin, if they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<&'static str>,
}

/// A dead letter in a list.
#[derive(Clone, Debug, Serialize)]
pub struct LetterRow {
    /// Where its message stands in the log: `offset:index`.
    pub position: String,
    /// The `event_id` it was, and will be, sent with.
    pub event_id: String,
    /// The collector's code.
    pub code: Option<u32>,
    /// The HTTP status.
    pub status: u16,
    /// The collector's text.
    pub text: String,
    /// The collector.
    pub endpoint: String,
    /// When it was refused last, microseconds since 1970.
    pub refused_us: i64,
    /// How often it was refused.
    pub refusals: u32,
    /// When an operator asked for it to be sent again, if it has not been yet.
    pub redrive_us: Option<i64>,
    /// When its frame arrived.
    pub received_us: i64,
    /// The beginning of the drain's token: whoever knows all of it can send in its name.
    pub token_begins: Option<String>,
    /// The id of its frame.
    pub frame_id: Option<String>,
    /// Bytes of the message.
    pub message_bytes: usize,
    /// How the message begins, as far as that is text; none when whoever asks may not see messages.
    pub message_begins: Option<String>,
}

impl LetterRow {
    fn of(at: Position, letter: &DeadLetter, may_see: bool) -> Self {
        let shown = letter.message.get(..BEGINS * 4).unwrap_or(&letter.message);
        let begins = || String::from_utf8_lossy(shown).chars().take(BEGINS).collect();
        Self {
            position: at.to_string(),
            event_id: letter.event_id.clone(),
            code: letter.code,
            status: letter.status,
            text: letter.text.clone(),
            endpoint: letter.endpoint.clone(),
            refused_us: letter.refused.get(),
            refusals: letter.refusals,
            redrive_us: letter.redrive.map(UnixMicros::get),
            received_us: letter.received.get(),
            token_begins: letter.drain_token.as_ref().map(|token| token.chars().take(8).collect()),
            frame_id: letter.frame_id.clone(),
            message_bytes: letter.message.len(),
            message_begins: may_see.then(begins),
        }
    }
}

/// A dead letter with its message.
#[derive(Clone, Debug, Serialize)]
pub struct Letter {
    /// All that a list says of it.
    #[serde(flatten)]
    pub row: LetterRow,
    /// The message, when it is text and not longer than 2 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Else its bytes in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_base64: Option<String>,
}

impl Letter {
    fn of(at: Position, letter: &DeadLetter) -> Self {
        let text = std::str::from_utf8(&letter.message).ok().map(str::to_owned);
        let message = text.filter(|text| text.len() <= LONGEST_TEXT);
        let in_base64 = || base64::engine::general_purpose::STANDARD.encode(&letter.message);
        let message_base64 = message.is_none().then(in_base64);
        Self { row: LetterRow::of(at, letter, true), message, message_base64 }
    }
}

/// Which letters a change is about: those at `positions`, those that pass a filter, or `all`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chosen {
    destination: String,
    positions: Option<Vec<String>>,
    #[serde(default)]
    all: bool,
    code: Option<u32>,
    since_us: Option<i64>,
    before_us: Option<i64>,
    after: Option<String>,
}

/// What a change has done.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Changed {
    destination: String,
    /// How many letters were changed.
    changed: u64,
    /// To be given as `after` to change the rest; none when that was all.
    next: Option<String>,
}

pub(super) async fn list(
    may_see: Result<MaySee, Problem>,
    State(shared): State<Shared>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Listed>, Problem> {
    let fix = "the parameters are destination, after, limit, code, since_us and before_us";
    let Query(asked) =
        asked.map_err(|error| Problem::new(error.status(), error.body_text(), fix))?;
    let Some(name) = asked.destination else {
        let known = |name: &DestinationName| is_configured(&shared, name);
        let mut books = shared.view.wal.letter_books();
        for sink in shared.view.sinks.iter() {
            if !books.iter().any(|(name, _)| name == sink.name()) {
                books.push((sink.name().clone(), LetterBook::default()));
            }
        }
        books.sort_by(|(one, _), (other, _)| one.cmp(other));
        let row = |(name, book): &(_, _)| LettersStatus::of(name, known(name), book);
        return Ok(Json(Listed::Books { destinations: books.iter().map(row).collect() }));
    };
    let name = known(&shared, &name)?;
    let limit = asked.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        let what = format!("limit={limit} is out of range");
        let fix = format!("ask for 1 to {MOST} letters, and go on with `after`");
        return Err(Problem::new(StatusCode::BAD_REQUEST, what, fix));
    }
    let filter = Filter {
        code: asked.code,
        since: asked.since_us.map(UnixMicros::new),
        before: asked.before_us.map(UnixMicros::new),
    };
    let after = asked.after.as_deref().map(position).transpose()?;
    let (wal, destination) = (shared.view.wal.clone(), name.clone());
    let hidden = may_see.is_err().then_some(HIDDEN);
    let row = move |at, letter: &_| LetterRow::of(at, letter, hidden.is_none());
    let found =
        read(&shared.readers, move || find(&wal, &name, after, &filter, limit, row)).await?;
    Ok(Json(Listed::Page(LetterPage {
        destination: destination.to_string(),
        letters: found.kept,
        next: found.next.map(|at| at.to_string()),
        hidden,
    })))
}

pub(super) async fn show(
    _: MaySee,
    State(shared): State<Shared>,
    Path((name, at)): Path<(String, String)>,
) -> Result<Json<Letter>, Problem> {
    let (name, at) = (known(&shared, &name)?, position(&at)?);
    let (wal, destination) = (shared.view.wal.clone(), name.clone());
    let found = read(&shared.readers, move || wal.letter(&name, at)).await?;
    let gone = || {
        let what = format!("there is no dead letter {at} of {destination}");
        Problem::new(StatusCode::NOT_FOUND, what, HOW)
    };
    found.map(|letter| Json(Letter::of(at, &letter))).ok_or_else(gone)
}

/// Has letters sent again. The destination does it, and removes those that are acknowledged.
pub(super) async fn redrive(
    _: MayChange,
    State(shared): State<Shared>,
    body: Result<Json<Chosen>, JsonRejection>,
) -> Result<Json<Changed>, Problem> {
    let chosen = parsed(body)?;
    let name = known(&shared, &chosen.destination)?;
    if !is_configured(&shared, &name) {
        let what = format!("nobody sends the dead letters of {name}: it is not configured");
        let fix = "configure the destination again, or purge its dead letters";
        return Err(Problem::new(StatusCode::CONFLICT, what, fix));
    }
    let (which, next) = choose(&shared, &name, chosen, |letter| letter.redrive.is_none()).await?;
    let changed = shared.view.wal.redrive(&name, &which, clock::unix_micros()).await;
    let changed = changed.map_err(Problem::internal)?;
    if changed > 0 {
        tracing::info!(destination = %name, letters = changed, "an operator has dead letters sent again");
    }
    Ok(Json(Changed { destination: name.to_string(), changed, next }))
}

/// Removes letters for good.
pub(super) async fn purge(
    _: MayChange,
    State(shared): State<Shared>,
    body: Result<Json<Chosen>, JsonRejection>,
) -> Result<Json<Changed>, Problem> {
    let chosen = parsed(body)?;
    let name = known(&shared, &chosen.destination)?;
    let (which, next) = choose(&shared, &name, chosen, |_| true).await?;
    let changed = shared.view.wal.remove_letters(&name, &which, Removal::Purged).await;
    let changed = changed.map_err(Problem::internal)?;
    if changed > 0 {
        tracing::warn!(destination = %name, letters = changed, "an operator has purged dead letters");
    }
    Ok(Json(Changed { destination: name.to_string(), changed, next }))
}

/// The positions of the letters that are meant, and behind which one to go on.
async fn choose(
    shared: &Shared,
    name: &DestinationName,
    chosen: Chosen,
    wanted: impl Fn(&DeadLetter) -> bool + Send + 'static,
) -> Result<(Vec<Position>, Option<String>), Problem> {
    let filter = Filter {
        code: chosen.code,
        since: chosen.since_us.map(UnixMicros::new),
        before: chosen.before_us.map(UnixMicros::new),
    };
    let fix = "give `positions`, or a filter (`code`, `since_us`, `before_us`), or `\"all\": true`";
    let bad = |what: &str| Problem::new(StatusCode::BAD_REQUEST, what, fix);
    match (chosen.positions, filter.is_none() && !chosen.all && chosen.after.is_none()) {
        (Some(positions), true) => {
            let which: Result<Vec<_>, _> = positions.iter().map(|at| position(at)).collect();
            Ok((which?, None))
        }
        (Some(_), false) => Err(bad("positions are given, and a filter as well")),
        (None, _) if filter.is_none() && !chosen.all => Err(bad("no dead letters are chosen")),
        (None, _) if !filter.is_none() && chosen.all => {
            Err(bad("all are chosen, and a filter is given as well"))
        }
        (None, _) => {
            let after = chosen.after.as_deref().map(position).transpose()?;
            let (wal, name) = (shared.view.wal.clone(), name.clone());
            let keep = move |at, letter: &DeadLetter| wanted(letter).then_some(at);
            let look = move || find(&wal, &name, after, &filter, LOOKED_AT, keep);
            let found = read(&shared.readers, look).await?;
            let which = found.kept.into_iter().flatten().collect();
            Ok((which, found.next.map(|at| at.to_string())))
        }
    }
}

/// Reads from the store, which may wait for the disk.
async fn read<T: Send + 'static>(
    turns: &Turns,
    look: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, Problem> {
    turns.read(look).await?.map_err(Problem::internal)
}

fn is_configured(shared: &Shared, name: &DestinationName) -> bool {
    shared.view.sinks.iter().any(|sink| sink.name() == name)
}

/// A destination that is configured, or has or had dead letters.
fn known(shared: &Shared, name: &str) -> Result<DestinationName, Problem> {
    let fix = "`forebay dead-letter list` names them";
    let problem = |what: String| Problem::new(StatusCode::NOT_FOUND, what, fix);
    let name = DestinationName::new(name).map_err(|error| problem(error.to_string()))?;
    let books = shared.view.wal.letter_books();
    if is_configured(shared, &name) || books.iter().any(|(known, _)| *known == name) {
        return Ok(name);
    }
    Err(problem(format!("there is no destination {name}, and no dead letter of it")))
}

fn position(text: &str) -> Result<Position, Problem> {
    text.parse().map_err(|error| {
        // It may be of any length.
        let text: String = text.chars().take(40).collect();
        let what = format!("{text:?} is no position: {error}");
        Problem::new(StatusCode::BAD_REQUEST, what, HOW)
    })
}

fn parsed(body: Result<Json<Chosen>, JsonRejection>) -> Result<Chosen, Problem> {
    let fix = "send JSON such as {\"destination\": \"splunk\", \"positions\": [\"12:3\"]}";
    body.map(|Json(chosen)| chosen)
        .map_err(|error| Problem::new(error.status(), error.body_text(), fix))
}
