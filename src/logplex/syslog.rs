//! One message: RFC 5424 as Heroku's senders write it.
//!
//! Works on bytes and never copies. This runs for every message and every destination, so it is
//! one pass over the header and touches the text only at its last byte.

use super::kind::Kind;
use super::timestamp;
use crate::types::UnixMicros;

/// Who sent a frame, which decides how the text of its messages starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// Logplex: no STRUCTURED-DATA and nothing in its place. The text starts right behind MSGID.
    Logplex,
    /// log-shuttle, in Shield private spaces: RFC 5424 with STRUCTURED-DATA or its NILVALUE `-`.
    Shuttle,
    /// Somebody else: Heroku's API with a space's events, syslog agents, people with curl. Read
    /// like [`Profile::Shuttle`], because what is not Logplex writes RFC 5424 whole.
    Other,
}

/// One message. Parsing never fails: what has no header is all text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The syslog header; `None` when the bytes do not start with a complete one.
    pub header: Option<Header<'a>>,
    /// The text as it came, less one trailing newline. Without a header: the whole message, less
    /// one trailing newline.
    pub text: &'a [u8],
    /// Whether there was a trailing newline. The parts of a line that Heroku had to split end
    /// without one, except for the last.
    pub had_newline: bool,
}

/// The header of a message. Fields are the bytes between single spaces and may hold anything
/// else, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Priority: facility × 8 + severity, 0 to 191.
    pub pri: u8,
    /// When the line was written; `None` when TIMESTAMP is no RFC 3339 time.
    pub timestamp: Option<UnixMicros>,
    /// HOSTNAME: `host` from Logplex.
    pub hostname: &'a [u8],
    /// APP-NAME: `app`, `heroku`, an add-on's name.
    pub app_name: &'a [u8],
    /// PROCID: `web.1`, `router`, `api`.
    pub proc_id: &'a [u8],
    /// MSGID: `-` from Logplex.
    pub msg_id: &'a [u8],
    /// The bytes from HOSTNAME through PROCID as one slice. Together with `pri` it says where a
    /// message comes from, and there are few of them: a cheap key for a cache.
    pub routing: &'a [u8],
    /// STRUCTURED-DATA, brackets included; empty when there is none, and always from Logplex.
    pub structured_data: &'a [u8],
}

impl Header<'_> {
    /// The severity's name, RFC 5424 table 2 in its usual short form: `emerg` to `debug`.
    #[must_use]
    pub const fn severity(&self) -> &'static str {
        match self.pri & 7 {
            0 => "emerg",
            1 => "alert",
            2 => "crit",
            3 => "err",
            4 => "warning",
            5 => "notice",
            6 => "info",
            _ => "debug",
        }
    }

    /// The facility's name, RFC 5424 table 1 in its usual short form: `kern` to `local7`.
    #[must_use]
    pub const fn facility(&self) -> &'static str {
        match self.pri >> 3 {
            0 => "kern",
            1 => "user",
            2 => "mail",
            3 => "daemon",
            4 => "auth",
            5 => "syslog",
            6 => "lpr",
            7 => "news",
            8 => "uucp",
            9 => "cron",
            10 => "authpriv",
            11 => "ftp",
            12 => "ntp",
            13 => "audit",
            14 => "alert",
            15 => "clock",
            16 => "local0",
            17 => "local1",
            18 => "local2",
            19 => "local3",
            20 => "local4",
            21 => "local5",
            22 => "local6",
            _ => "local7",
        }
    }

    /// Where the message comes from.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(self)
    }

    /// The process type: `web` of `web.1`, all of a PROCID without a dot.
    #[must_use]
    pub fn proc_type(&self) -> &[u8] {
        let dot = self.proc_id.iter().position(|&byte| byte == b'.');
        dot.and_then(|at| self.proc_id.get(..at)).unwrap_or(self.proc_id)
    }
}

/// Reads one message, as cut out by [`pieces`](super::pieces).
#[must_use]
#[inline]
pub fn parse(piece: &[u8], profile: Profile) -> Message<'_> {
    let (line, had_newline) = match piece {
        [line @ .., b'\n'] => (line, true),
        line => (line, false),
    };
    match header(line) {
        Some((mut header, mut text)) => {
            if profile != Profile::Logplex {
                (header.structured_data, text) = split_structured_data(text);
            }
            Message { header: Some(header), text, had_newline }
        }
        None => Message { header: None, text: line, had_newline },
    }
}

/// Splits a line into its header and its text.
#[inline]
fn header(line: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let (pri, rest) = priority(line)?;
    let (timestamp, rest) = time(rest)?;
    let routing = rest;
    let (hostname, rest) = field(rest)?;
    let (app_name, rest) = field(rest)?;
    let (proc_id, rest) = field(rest)?;
    // What has been taken from `routing`, less the space behind PROCID.
    let taken = routing.len().checked_sub(rest.len())?.checked_sub(1)?;
    let routing = routing.get(..taken)?;
    // Logplex leaves out the space when there is no text at all (logplex_syslog_utils.erl).
    let (msg_id, text) = field(rest).unwrap_or((rest, &[]));
    let structured_data = &[];
    let header =
        Header { pri, timestamp, hostname, app_name, proc_id, msg_id, routing, structured_data };
    Some((header, text))
}

/// Reads `<PRI>1 `. RFC 5424 allows 0 to 191.
#[inline]
fn priority(line: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte & 0x0f));
    let (value, rest) = match line {
        [b'<', a, b, c, b'>', b'1', b' ', rest @ ..] => {
            (digit(a)? * 100 + digit(b)? * 10 + digit(c)?, rest)
        }
        [b'<', a, b, b'>', b'1', b' ', rest @ ..] => (digit(a)? * 10 + digit(b)?, rest),
        [b'<', a, b'>', b'1', b' ', rest @ ..] => (digit(a)?, rest),
        _ => return None,
    };
    let pri = u8::try_from(value).ok().filter(|pri| *pri <= 191)?;
    Some((pri, rest))
}

/// Reads TIMESTAMP.
#[inline]
fn time(rest: &[u8]) -> Option<(Option<UnixMicros>, &[u8])> {
    // As Logplex writes it, with six digits of a second: the space need not be looked for.
    if let Some((time, [b' ', rest @ ..])) = rest.split_first_chunk::<32>()
        && let Some(time) = timestamp::parse(time)
    {
        return Some((Some(time), rest));
    }
    let (time, rest) = field(rest)?;
    Some((timestamp::parse(time), rest))
}

/// Splits at the first space, which goes with neither half.
#[inline]
fn field(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    // Fields have a handful of bytes: too few for a vector search to pay.
    let (field, rest) = rest.split_at_checked(rest.iter().position(|&byte| byte == b' ')?)?;
    Some((field, rest.get(1..)?))
}

/// Splits what follows MSGID into STRUCTURED-DATA and text, as log-shuttle writes them.
///
/// One NILVALUE is taken off and dropped. Elements are taken off only when all of them are
/// complete and have parameters: `[YELLOW] [13-2] …` is the text of a database.
fn split_structured_data(rest: &[u8]) -> (&[u8], &[u8]) {
    match rest {
        [b'-', b' ', text @ ..] => (&[], text),
        b"-" => (&[], &[]),
        [b'[', ..] => {
            let split = structured_data_len(rest).and_then(|len| rest.split_at_checked(len));
            match split {
                Some((data, [])) => (data, &[]),
                Some((data, [b' ', text @ ..])) => (data, text),
                _ => (&[], rest),
            }
        }
        _ => (&[], rest),
    }
}

/// The length of the STRUCTURED-DATA that `bytes` start with (RFC 5424, section 6.3).
fn structured_data_len(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    while let [b'[', element @ ..] = rest {
        rest = sd_name(element)?;
        let mut parameters = 0_usize;
        while let [b' ', parameter @ ..] = rest {
            let [b'=', b'"', value @ ..] = sd_name(parameter)? else { return None };
            rest = sd_value(value)?;
            parameters = parameters.saturating_add(1);
        }
        let [b']', after @ ..] = rest else { return None };
        if parameters == 0 {
            return None;
        }
        rest = after;
    }
    bytes.len().checked_sub(rest.len())
}

/// What follows an SD-NAME: 1 to 32 printable bytes other than `=`, `]` and `"`.
fn sd_name(bytes: &[u8]) -> Option<&[u8]> {
    let part = |byte: &&u8| byte.is_ascii_graphic() && !matches!(byte, b'=' | b']' | b'"');
    let len = bytes.iter().take_while(part).count();
    (1..=32).contains(&len).then(|| bytes.get(len..)).flatten()
}

/// What follows the quote that ends a PARAM-VALUE, in which `"`, `\` and `]` are escaped.
fn sd_value(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        match bytes {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'"' | b'\\' | b']', rest @ ..] => bytes = rest,
            [b']', ..] | [] => return None,
            [_, rest @ ..] => bytes = rest,
        }
    }
}

#[cfg(test)]
#[path = "syslog_tests.rs"]
mod tests;
