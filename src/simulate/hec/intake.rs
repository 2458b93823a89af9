//! HEC's rules about the content of a body: which events get in, and what the first bad one is
//! answered.

use super::config::{HecConfig, HecToken, Poison, PoisonCode};
use super::json::{Envelope, Envelopes, Event, Next, Text};
use super::reply::{
    EVENT_BLANK, EVENT_REQUIRED, INCORRECT_INDEX, INDEXED_FIELDS, INVALID_DATA, NO_DATA, Reply,
    SUCCESS,
};
use super::request::Query;
use crate::simulate::ledger::KeptEvent;
use crate::simulate::text_hash;

/// What a body comes to.
#[derive(Debug, PartialEq)]
pub(super) struct Intake {
    /// Objects accepted: the prefix before the first that is not.
    pub(super) objects: u64,
    /// The hash of each accepted event's text. Objects without an event have none.
    pub(super) hashes: Vec<u64>,
    /// The first accepted events in full, as many as were asked for.
    pub(super) events: Vec<KeptEvent>,
    /// The answer.
    pub(super) reply: Reply,
    /// The number the answer names.
    pub(super) invalid_event: Option<u64>,
}

impl Intake {
    const fn empty() -> Self {
        Self {
            objects: 0,
            hashes: Vec::new(),
            events: Vec::new(),
            reply: SUCCESS,
            invalid_event: None,
        }
    }
}

/// Reads a `/event` body: in document order, up to the first object that is refused. What came
/// before that is accepted for good.
pub(super) fn events(
    body: &[u8],
    config: &HecConfig,
    token: &HecToken,
    query: &Query,
    keep: usize,
) -> Intake {
    let mut intake = Intake::empty();
    // A typical event is a few hundred bytes; too small a guess costs a copy.
    intake.hashes.reserve(body.len() / 256);
    let mut scratch = Vec::new();
    let mut envelopes = Envelopes::new(body);
    loop {
        let envelope = match envelopes.next() {
            Next::Envelope(envelope) => envelope,
            Next::End | Next::UnknownKey => break,
            Next::Invalid => {
                intake.reply = INVALID_DATA;
                intake.invalid_event = Some(intake.objects);
                break;
            }
        };
        match check(&envelope, config, token, query, &mut scratch) {
            Ok(hash) => {
                intake.objects += 1;
                intake.hashes.extend(hash);
                if hash.is_some() && intake.events.len() < keep {
                    intake.events.push(kept(&envelope, query));
                }
            }
            Err(reply) => {
                intake.reply = reply;
                // Splunk names the one after the bad one for this code, and only for this one.
                let number = intake.objects + u64::from(reply == INCORRECT_INDEX);
                intake.invalid_event = Some(number);
                break;
            }
        }
    }
    if intake.objects == 0 && intake.reply == SUCCESS {
        intake.reply = NO_DATA;
    }
    intake
}

/// The rules for one object. The hash of its event's text, when it has an event.
fn check(
    envelope: &Envelope<'_>,
    config: &HecConfig,
    token: &HecToken,
    query: &Query,
    scratch: &mut Vec<u8>,
) -> Result<Option<u64>, Reply> {
    if envelope.length > config.max_event_size {
        return Err(INVALID_DATA);
    }
    let poisoned = |text: &[u8]| poison(&config.poison, text);
    let hash = match envelope.event {
        Event::Missing if envelope.fields.is_none() => return Err(EVENT_REQUIRED),
        Event::Missing => None,
        Event::Blank => return Err(EVENT_BLANK),
        Event::Json(json) => {
            poisoned(json)?;
            Some(text_hash(json))
        }
        Event::Text(text) => {
            let text = text.bytes(scratch);
            if text.trim_ascii_start().is_empty() {
                return Err(EVENT_BLANK);
            }
            poisoned(text)?;
            Some(text_hash(text))
        }
    };
    if envelope.time.is_some_and(|time| time.is_err())
        || envelope.fields.is_some_and(|fields| fields.is_err())
    {
        return Err(INDEXED_FIELDS);
    }
    if !token.indexes.is_empty() {
        let index = match envelope.index {
            Some(index) => Some(index.bytes(scratch)),
            None => query.index.as_deref().map(str::as_bytes),
        };
        if index.is_some_and(|index| !token.indexes.iter().any(|known| known.as_bytes() == index)) {
            return Err(INCORRECT_INDEX);
        }
    }
    Ok(hash)
}

/// Whether an event is refused for what is in it.
fn poison(all: &[Poison], text: &[u8]) -> Result<(), Reply> {
    let found = all.iter().find(|poison| {
        let marker = poison.marker.as_bytes();
        !marker.is_empty() && memchr::memmem::find(text, marker).is_some()
    });
    match found.map(|poison| poison.code) {
        None => Ok(()),
        Some(PoisonCode::InvalidData) => Err(INVALID_DATA),
        Some(PoisonCode::IncorrectIndex) => Err(INCORRECT_INDEX),
        Some(PoisonCode::EventRequired) => Err(EVENT_REQUIRED),
        Some(PoisonCode::EventBlank) => Err(EVENT_BLANK),
        Some(PoisonCode::IndexedFields) => Err(INDEXED_FIELDS),
    }
}

/// Reads a `/raw` body: each line is an event; blank ones are none.
pub(super) fn raw(body: &[u8], token: &HecToken, query: &Query, keep: usize) -> Intake {
    let mut intake = Intake::empty();
    let wrong = |index: &String| !token.indexes.is_empty() && !token.indexes.contains(index);
    if query.index.as_ref().is_some_and(wrong) {
        intake.reply = INCORRECT_INDEX;
        intake.invalid_event = Some(1);
        return intake;
    }
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii_start().is_empty() {
            continue;
        }
        intake.objects += 1;
        intake.hashes.push(text_hash(line));
        if intake.events.len() < keep {
            intake.events.push(KeptEvent {
                event: String::from_utf8_lossy(line).into_owned(),
                is_text: true,
                ..from_query(query)
            });
        }
    }
    if intake.objects == 0 {
        intake.reply = NO_DATA;
    }
    intake
}

fn from_query(query: &Query) -> KeptEvent {
    KeptEvent {
        host: query.host.clone(),
        source: query.source.clone(),
        sourcetype: query.sourcetype.clone(),
        index: query.index.clone(),
        ..KeptEvent::default()
    }
}

fn kept(envelope: &Envelope<'_>, query: &Query) -> KeptEvent {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let own = |value: Option<Text<'_>>, default: &Option<String>| {
        value.map(Text::to_owned_string).or_else(|| default.clone())
    };
    let fields = envelope.fields.and_then(Result::ok);
    let (event, is_text) = match envelope.event {
        Event::Text(text) => (text.to_owned_string(), true),
        Event::Json(json) => (text(json), false),
        Event::Missing | Event::Blank => (String::new(), false),
    };
    KeptEvent {
        time: envelope.time.and_then(Result::ok).map(text),
        host: own(envelope.host, &query.host),
        source: own(envelope.source, &query.source),
        sourcetype: own(envelope.sourcetype, &query.sourcetype),
        index: own(envelope.index, &query.index),
        fields: fields.and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or_default(),
        event,
        is_text,
        indexed: false,
        acknowledged: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number to look at, not a limit: run it in release mode with `--ignored --nocapture`.
    #[test]
    #[ignore = "measures"]
    fn events_per_second() {
        let filler = "the quick brown fox jumps over the lazy dog and then some ".repeat(3);
        for quotes in [0, 8] {
            let mut body = String::new();
            for number in 0..3000 {
                let event =
                    format!("run=0badc0de c=1 f=2 m={number} {}{filler}", "\"".repeat(quotes));
                body.push_str(&serde_json::json!({
                    "time": "PUT", "host": "web.1", "source": "heroku", "sourcetype": "heroku:app",
                    "index": "heroku", "event": event,
                    "fields": {"app": "checkout", "event_id": format!("0123456789ABCDEF0123456789ABCDEF:{number}")},
                }).to_string().replace("\"PUT\"", "1767323045.000001"));
            }
            let (config, token) = (HecConfig::default(), HecToken::default());
            let (mut best, mut events_read) = (f64::INFINITY, 0);
            for _ in 0..200 {
                let start = crate::clock::instant();
                let intake = events(body.as_bytes(), &config, &token, &Query::default(), 0);
                best = best.min(start.elapsed().as_secs_f64());
                events_read = intake.hashes.len();
            }
            println!(
                "{quotes} escapes: {} bytes an event, {:.0} ns an event, {:.2} M events/s, {:.2} GB/s",
                body.len() / events_read,
                best * 1e9 / events_read as f64,
                events_read as f64 / best / 1e6,
                body.len() as f64 / best / 1e9,
            );
        }
    }
}
