//! From a message to a HEC event. This runs for every message and every destination.
//!
//! An event is one object of exactly these keys, in this order:
//!
//! ```text
//! {"time":1767323045.000001,"host":"…","source":"…","sourcetype":"…","index":"…",
//!  "fields":{"heroku_app":"…",…},"event":"…"}
//! ```
//!
//! No other key may appear: at an object with a key it does not know, Splunk stops reading, and
//! answers 200. All from `host` to the fixed part of `fields` depends only on the drain, the
//! query and the routing bytes of the syslog header, so it is rendered once and kept by
//! `RouteCache`; what is left to write is the time, the flags, the event id and the text.

use std::sync::Arc;

use super::json;
use super::logfmt;
use super::mapping::{DrainSettings, Format, Mapping, Nul};
use super::route::{RouteCache, Scope};
use crate::logplex::{self, Message, Piece, Profile};
use crate::types::{Offset, UnixMicros};

/// What is known about a frame beside its messages.
#[derive(Clone, Copy, Debug)]
pub struct FrameFacts<'a> {
    /// The drain it came from, when the sender says.
    pub drain_token: Option<&'a str>,
    /// The id its sender gave it, the same on every try.
    pub frame_id: Option<&'a str>,
    /// Its number in the log.
    pub offset: Offset,
    /// When it arrived.
    pub received: UnixMicros,
    /// The query string of the drain URL, as it came.
    pub query: &'a str,
    /// Who sent it.
    pub profile: Profile,
    /// How many messages the sender says it holds.
    pub messages_claimed: Option<u32>,
    /// How many it holds.
    pub messages: u32,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// One event was appended.
    Event,
    /// Nothing was appended: the message does not go to this destination.
    Filtered(Filtered),
}

/// Why a message does not go to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filtered {
    /// The text is empty or white space, which Splunk refuses (code 13, "Event field cannot be
    /// blank").
    Blank,
    /// The destination does not take messages of this kind.
    Kind,
    /// The destination does not take messages of this drain, app or severity.
    Source,
    /// The destination does not take messages with such a text.
    Text,
}

impl Filtered {
    /// The reason in a word, for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blank => "blank",
            Self::Kind => "kind",
            Self::Source => "source",
            Self::Text => "text",
        }
    }
}

/// Which endpoint of the collector events are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// [`EVENT_PATH`](super::EVENT_PATH): JSON envelopes.
    #[default]
    Event,
    /// [`RAW_PATH`](super::RAW_PATH): the messages with their syslog headers, as they came, a
    /// newline behind each. What they are, and when they were written, Splunk reads out of them.
    Raw,
}

/// How Heroku splits a line that is longer: into parts of so many bytes, each a message of its
/// own, all but the last without a newline (log-shuttle source, logplex_formatter.go, `splitLine`,
/// `MaxLineLength`).
const CHUNK: usize = 10_000;

/// Turns messages into events for one destination.
#[derive(Debug)]
pub struct Encoder {
    mapping: Mapping,
    target: Target,
    max_event: usize,
    routes: RouteCache,
    frame: Frame,
    chunks: Chunks,
    /// The text of a message that was not UTF-8.
    repaired: String,
    /// The replay that all events are of, if they are.
    replay: Option<String>,
}

/// The parts of a line that Heroku split, counted within a frame.
#[derive(Debug, Default)]
struct Chunks {
    /// How many parts of the line there were; 0: the message before was none, or the last.
    parts: u32,
    /// What all parts of a line share.
    timestamp: Option<UnixMicros>,
    routing: Vec<u8>,
}

impl Chunks {
    /// The number of this part, from 1; 0 when the message is whole.
    #[inline]
    fn next(&mut self, message: &Message<'_>) -> u32 {
        let opens = message.text.len() == CHUNK && !message.had_newline;
        if !opens && self.parts == 0 {
            return 0;
        }
        self.part(message, opens)
    }

    fn part(&mut self, message: &Message<'_>, opens: bool) -> u32 {
        let Some(header) = &message.header else {
            self.parts = 0;
            return 0;
        };
        let goes_on = self.parts > 0
            && self.timestamp == header.timestamp
            && self.routing == header.routing
            && message.text.len() <= CHUNK;
        let number = if goes_on { self.parts.saturating_add(1) } else { u32::from(opens) };
        self.parts = if opens { number } else { 0 };
        if opens {
            self.timestamp = header.timestamp;
            self.routing.clear();
            self.routing.extend_from_slice(header.routing);
        }
        number
    }
}

/// What all events of a frame share.
#[derive(Debug)]
struct Frame {
    scope: Arc<Scope>,
    profile: Profile,
    received: UnixMicros,
    /// Flags that concern the whole frame, and the event id as far as it is the frame's; ready
    /// to be followed by the message's index and a quote.
    flags: Vec<u8>,
    event_id: Vec<u8>,
}

impl Encoder {
    /// Other names for drains, or others of them delivered, from the next frame on.
    pub fn set_drains(&mut self, drains: &DrainSettings) {
        self.mapping = self.mapping.with_drains(drains);
        self.routes = RouteCache::new();
        self.frame.scope = self.routes.scope(None, "", &self.mapping);
    }

    /// An encoder for a destination that takes texts of at most `max_event` bytes; longer ones
    /// are cut.
    #[must_use]
    pub fn new(mapping: Mapping, max_event: usize) -> Self {
        let mut encoder = Self {
            mapping,
            target: Target::Event,
            chunks: Chunks::default(),
            max_event,
            routes: RouteCache::new(),
            frame: Frame {
                scope: Arc::default(),
                profile: Profile::Other,
                received: UnixMicros::new(0),
                flags: Vec::new(),
                event_id: Vec::new(),
            },
            repaired: String::new(),
            replay: None,
        };
        encoder.start_frame(FrameFacts {
            drain_token: None,
            frame_id: None,
            offset: Offset::ZERO,
            received: UnixMicros::new(0),
            query: "",
            profile: Profile::Other,
            messages_claimed: None,
            messages: 0,
        });
        encoder
    }

    /// The same for another endpoint of the collector.
    #[must_use]
    pub fn for_target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// The same for a replay: every event says which, in `forebay_replay`.
    #[must_use]
    pub fn for_replay(mut self, id: &str) -> Self {
        self.replay = Some(id.to_owned());
        self
    }

    /// The messages that follow are of this frame.
    pub fn start_frame(&mut self, facts: FrameFacts<'_>) {
        self.chunks.parts = 0;
        let frame = &mut self.frame;
        frame.received = facts.received;
        if !frame.scope.is_for(facts.drain_token, facts.query) {
            frame.scope = self.routes.scope(facts.drain_token, facts.query, &self.mapping);
        }
        frame.profile = frame.scope.profile.unwrap_or(facts.profile);
        frame.flags.clear();
        if facts.messages_claimed.is_some_and(|claimed| claimed != facts.messages) {
            flag("count_mismatch", "1", &mut frame.flags);
        }
        if let Some(id) = &self.replay {
            flag("forebay_replay", id, &mut frame.flags);
        }
        frame.event_id.clear();
        if self.mapping.event_id() {
            frame.event_id.extend_from_slice(b",\"event_id\":\"");
            if let Some(id) = facts.frame_id {
                json::escape(id, &mut frame.event_id);
            } else {
                json::escape(self.mapping.node(), &mut frame.event_id);
                frame.event_id.push(b'-');
                write_number(facts.offset.get(), &mut frame.event_id);
            }
            frame.event_id.push(b':');
        }
    }

    /// Passes over a message that went with an earlier batch, so that what follows is encoded as
    /// if it had been here.
    pub fn skip(&mut self, piece: Piece<'_>) {
        if piece.bytes.len() >= CHUNK || self.chunks.parts > 0 {
            self.chunks.next(&logplex::parse(piece.bytes, self.frame.profile));
        }
    }

    /// Appends the event of the frame's message `index`, or tells why there is none.
    ///
    /// The text is the message's, byte for byte, less one trailing newline. Where it is not
    /// UTF-8, U+FFFD stands in as [`String::from_utf8_lossy`] puts it, and `utf8=lossy` says so.
    /// A text over the limit is cut between two characters, and `truncated=1` says so, as it does
    /// where a field of the syslog header is longer than any can be. A part of
    /// a line that Heroku split says which by `chunk`; a report of loss says what in
    /// `loss_code` and `loss_messages`.
    pub fn encode(&mut self, index: u32, piece: Piece<'_>, out: &mut Vec<u8>) -> Outcome {
        let message = logplex::parse(piece.bytes, self.frame.profile);
        let chunk = self.chunks.next(&message);
        let bytes = text(piece.bytes, &message);
        let (text, lossy) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(_) => (repair(bytes, &mut self.repaired), true),
        };
        let whole = text.len();
        let text = cut(text, self.max_event);
        if is_blank(text) {
            return Outcome::Filtered(Filtered::Blank);
        }
        let header = message.header.as_ref();
        let source = match self.routes.source(&self.frame.scope, header, &self.mapping) {
            Ok(source) => source,
            Err(filtered) => return Outcome::Filtered(filtered),
        };
        if !self.mapping.delivers_text(text) {
            return Outcome::Filtered(Filtered::Text);
        }
        if self.target == Target::Raw {
            let line = piece.bytes.strip_suffix(b"\n").unwrap_or(piece.bytes);
            out.extend_from_slice(line.get(..self.max_event).unwrap_or(line));
            out.push(b'\n');
            return Outcome::Event;
        }

        // The fixed parts around the text take less than this.
        out.reserve(source.head.len() + source.object.len() + text.len() + text.len() / 8 + 256);
        out.extend_from_slice(b"{\"time\":");
        // A time before 1970 is no time a log line was written at; Splunk takes none.
        let written = header.and_then(|h| h.timestamp).filter(|time| time.get() >= 0);
        write_time(written.unwrap_or(self.frame.received), out);
        out.extend_from_slice(&source.head);
        if lossy {
            flag("utf8", "lossy", out);
        }
        if let Some(framing) = piece.framing.as_flag() {
            flag("framing", framing, out);
        }
        out.extend_from_slice(&self.frame.flags);
        if text.len() < whole || source.cut {
            flag("truncated", "1", out);
        }
        if written.is_none() {
            flag("ts_source", "received", out);
        }
        if chunk > 0 {
            number_flag("chunk", u64::from(chunk), out);
        }
        if source.router > 0 {
            router_fields(text, source.router, out);
        }
        if matches!(header.map(|h| h.proc_id), Some(b"logplex" | b"log-shuttle"))
            && let Some(loss) = logplex::loss(&message)
        {
            flag("loss_code", loss.code.as_str(), out);
            number_flag("loss_messages", loss.messages, out);
        }
        let nul = self.mapping.nul() == Nul::Replace && text.contains('\0');
        if nul {
            flag("nul", "replaced", out);
        }
        if !self.frame.event_id.is_empty() {
            out.extend_from_slice(&self.frame.event_id);
            write_number(u64::from(index), out);
            out.push(b'"');
        }
        out.extend_from_slice(b"},\"event\":");
        let format = self.mapping.format();
        if format == Format::Auto && !lossy && text.len() == whole && json::is_object(text) {
            out.extend_from_slice(text.as_bytes());
            out.push(b'}');
            return Outcome::Event;
        }
        if format == Format::Json {
            out.extend_from_slice(&source.object);
        } else {
            out.push(b'"');
        }
        if nul {
            for (number, part) in text.split('\0').enumerate() {
                if number > 0 {
                    out.extend_from_slice("\u{fffd}".as_bytes());
                }
                json::escape(part, out);
            }
        } else {
            json::escape(text, out);
        }
        let end: &[u8] = if format == Format::Json { b"\"}}" } else { b"\"}" };
        out.extend_from_slice(end);
        Outcome::Event
    }
}

/// Appends the fields of a router line that are wanted; none, if the line is broken.
fn router_fields(line: &str, wanted: u16, out: &mut Vec<u8>) {
    let Some(values) = logfmt::fields(line) else { return };
    for ((place, name), value) in (0..).zip(logfmt::names()).zip(values) {
        if let Some(value) = value
            && wanted >> place & 1 == 1
        {
            flag(name, value, out);
        }
    }
}

/// The text of a message: all behind MSGID. Structured data (RFC 5424, section 6.3) stays in
/// front of it, for nothing is to be lost, and Splunk reads `key="value"` out of it by itself.
fn text<'a>(piece: &'a [u8], message: &Message<'a>) -> &'a [u8] {
    let data = message.header.as_ref().map_or(&[][..], |header| header.structured_data);
    match (data, message.text) {
        ([], text) => text,
        (data, []) => data,
        (data, text) => {
            let behind = text.len() + usize::from(message.had_newline);
            let end = piece.len().saturating_sub(usize::from(message.had_newline));
            let start = piece.len().saturating_sub(behind + 1 + data.len());
            piece.get(start..end).unwrap_or(text)
        }
    }
}

/// Replaces what is not UTF-8, in a buffer that is used again.
fn repair<'a>(bytes: &[u8], buffer: &'a mut String) -> &'a str {
    buffer.clear();
    for chunk in bytes.utf8_chunks() {
        buffer.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            buffer.push(char::REPLACEMENT_CHARACTER);
        }
    }
    buffer
}

/// At most `max` bytes of a text, ending between two characters.
pub(super) fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

/// Whether Splunk would call the text blank. What exactly it skips is not documented; these are
/// the bytes C calls white space. What else it may refuse comes back as code 13 for that event.
fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' ' | b'\t'..=b'\r'))
}

/// Appends `,"name":"value"`.
fn flag(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b',');
    json::pair(name, value, out);
}

/// Appends `,"name":"number"`.
fn number_flag(name: &str, number: u64, out: &mut Vec<u8>) {
    flag(name, itoa::Buffer::new().format(number), out);
}

/// Appends seconds with six decimals. Never through a float: Splunk refuses exponents (code 15),
/// and microseconds of today do not fit a float of 53 bits with room to spare.
fn write_time(time: UnixMicros, out: &mut Vec<u8>) {
    let micros = time.get().max(0).unsigned_abs();
    write_number(micros / 1_000_000, out);
    // A million more has seven digits, whatever there is in front of the others.
    let mut buffer = itoa::Buffer::new();
    let fraction = buffer.format(1_000_000 + micros % 1_000_000);
    out.push(b'.');
    out.extend_from_slice(fraction.as_bytes().get(1..).unwrap_or_default());
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests;
