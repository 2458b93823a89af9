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

use std::collections::BTreeMap;
use std::sync::Arc;

use super::json;
use super::mapping::{DrainInfo, Mapping};
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
}

/// Turns messages into events for one destination.
#[derive(Debug)]
pub struct Encoder {
    mapping: Mapping,
    max_event: usize,
    routes: RouteCache,
    frame: Frame,
    /// The text of a message that was not UTF-8.
    repaired: String,
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
    /// Other names for drains, from the next frame on.
    pub fn set_drains(&mut self, drains: Arc<BTreeMap<String, DrainInfo>>) {
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

    /// The messages that follow are of this frame.
    pub fn start_frame(&mut self, facts: FrameFacts<'_>) {
        let frame = &mut self.frame;
        frame.profile = facts.profile;
        frame.received = facts.received;
        if !frame.scope.is_for(facts.drain_token, facts.query) {
            frame.scope = self.routes.scope(facts.drain_token, facts.query, &self.mapping);
        }
        frame.flags.clear();
        if facts.messages_claimed.is_some_and(|claimed| claimed != facts.messages) {
            flag("count_mismatch", "1", &mut frame.flags);
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

    /// Appends the event of the frame's message `index`, or tells why there is none.
    ///
    /// The text is the message's, byte for byte, less one trailing newline. Where it is not
    /// UTF-8, U+FFFD stands in as [`String::from_utf8_lossy`] puts it, and `utf8=lossy` says so.
    /// A text over the limit is cut between two characters, and `truncated=1` says so.
    pub fn encode(&mut self, index: u32, piece: Piece<'_>, out: &mut Vec<u8>) -> Outcome {
        let message = logplex::parse(piece.bytes, self.frame.profile);
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
        let Some(head) = self.routes.head(&self.frame.scope, header, &self.mapping) else {
            return Outcome::Filtered(Filtered::Kind);
        };

        // The fixed parts around the text take less than this.
        out.reserve(head.len() + text.len() + text.len() / 8 + 256);
        out.extend_from_slice(b"{\"time\":");
        // A time before 1970 is no time a log line was written at; Splunk takes none.
        let written = header.and_then(|h| h.timestamp).filter(|time| time.get() >= 0);
        write_time(written.unwrap_or(self.frame.received), out);
        out.extend_from_slice(head);
        if lossy {
            flag("utf8", "lossy", out);
        }
        if let Some(framing) = piece.framing.as_flag() {
            flag("framing", framing, out);
        }
        out.extend_from_slice(&self.frame.flags);
        if text.len() < whole {
            flag("truncated", "1", out);
        }
        if written.is_none() {
            flag("ts_source", "received", out);
        }
        if !self.frame.event_id.is_empty() {
            out.extend_from_slice(&self.frame.event_id);
            write_number(u64::from(index), out);
            out.push(b'"');
        }
        out.extend_from_slice(b"},\"event\":\"");
        json::escape(text, out);
        out.extend_from_slice(b"\"}");
        Outcome::Event
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
fn cut(text: &str, max: usize) -> &str {
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
