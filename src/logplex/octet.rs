//! Octet counting: a body cut into messages by their lengths (RFC 6587, section 3.4.1).
//!
//! Every body has exactly one reading, and it loses nothing: the pieces, the length prefixes in
//! front of them and the separators between them are the body, in order.
//!
//! 1. CR, LF and SP between messages are skipped: no Heroku client writes them, people with curl
//!    do.
//! 2. `LEN SP`, with a LEN of one to eight digits, takes LEN bytes, whatever they are: text that
//!    looks like the start of a message is text. LEN 0 is an empty message.
//! 3. A LEN that is larger than what is left makes one [`Framing::Truncated`] piece of the rest.
//!    When a message header follows the LEN, the prefix is left out, so that the header can be
//!    read. Otherwise the digits may well be text (`100 items sold`) and stay in the piece.
//! 4. Anything else is no length. The bytes up to the next thing that looks like the start of a
//!    message (`83 <190>1 `) make one [`Framing::BadLength`] piece. Only here is anything searched
//!    for.

use memchr::memmem;

/// How a [`Piece`] was cut out of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// By its length: as it should be.
    Counted,
    /// The length reaches behind the end of the body; the piece is all that is left.
    Truncated,
    /// There is no length; the piece reaches to the next recognisable message or to the end.
    BadLength,
}

impl Framing {
    /// The value of the `framing` field that marks such a message; `None` for a good one.
    #[must_use]
    pub const fn as_flag(self) -> Option<&'static str> {
        match self {
            Self::Counted => None,
            Self::Truncated => Some("truncated"),
            Self::BadLength => Some("bad_length"),
        }
    }
}

/// One message, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The bytes between the length prefixes.
    pub bytes: &'a [u8],
    /// How they were found.
    pub framing: Framing,
}

/// What [`tally`] found in a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many messages there are, flagged ones included.
    pub messages: u32,
    /// How many of them are [`Framing::Truncated`]: 0 or 1.
    pub truncated: u32,
    /// How many of them are [`Framing::BadLength`].
    pub bad_length: u32,
    /// How many bytes the messages have together.
    pub bytes: u64,
    /// How many bytes of separators were skipped.
    pub skipped: u64,
}

/// The messages of a body, in order. Never fails and never panics.
#[must_use]
pub const fn pieces(body: &[u8]) -> Pieces<'_> {
    Pieces { rest: body, skipped: 0 }
}

/// How many messages a body holds. Jumps from length to length.
#[must_use]
pub fn count(body: &[u8]) -> u32 {
    tally(body).messages
}

/// Counts a body's messages and what is odd about them, in one pass.
#[must_use]
pub fn tally(body: &[u8]) -> Tally {
    let mut tally = Tally::default();
    let mut all = pieces(body);
    for piece in &mut all {
        // A body of 4 billion messages has at least 8 GB; ingest takes a thousandth of that.
        tally.messages = tally.messages.saturating_add(1);
        tally.bytes = tally.bytes.saturating_add(widen(piece.bytes.len()));
        match piece.framing {
            Framing::Counted => {}
            Framing::Truncated => tally.truncated = tally.truncated.saturating_add(1),
            Framing::BadLength => tally.bad_length = tally.bad_length.saturating_add(1),
        }
    }
    tally.skipped = widen(all.skipped());
    tally
}

/// `usize` has at most 64 bits.
fn widen(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The iterator behind [`pieces`].
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    rest: &'a [u8],
    skipped: usize,
}

impl Pieces<'_> {
    /// How many separator bytes have been skipped so far.
    #[must_use]
    pub const fn skipped(&self) -> usize {
        self.skipped
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    #[inline]
    fn next(&mut self) -> Option<Piece<'a>> {
        while let [b'\n' | b'\r' | b' ', rest @ ..] = self.rest {
            self.rest = rest;
            self.skipped = self.skipped.saturating_add(1);
        }
        if self.rest.is_empty() {
            return None;
        }
        let Some((len, rest)) = length(self.rest) else {
            return Some(self.bad_length());
        };
        if let Some((bytes, rest)) = rest.split_at_checked(len) {
            self.rest = rest;
            return Some(Piece { bytes, framing: Framing::Counted });
        }
        let bytes = if starts_like_header(rest) { rest } else { self.rest };
        self.rest = &[];
        Some(Piece { bytes, framing: Framing::Truncated })
    }
}

impl<'a> Pieces<'a> {
    /// Takes everything up to the next recognisable message.
    #[cold]
    fn bad_length(&mut self) -> Piece<'a> {
        let end = resync(self.rest).unwrap_or(self.rest.len());
        let (bytes, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, &[]));
        self.rest = rest;
        Piece { bytes, framing: Framing::BadLength }
    }
}

/// The most digits a length may have: 100 MB, more than any body ingest takes.
const MAX_DIGITS: usize = 8;

/// The most digits a length may have that is *guessed* after a bad one. A Heroku message has at
/// most 10,240 bytes (Logplex source, syslog_parser.erl).
const MAX_GUESSED_DIGITS: usize = 5;

/// Reads `LEN SP`. Leading zeros are taken: nobody writes them, and nothing else starts so.
#[inline]
fn length(at: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    let mut rest = at;
    let mut digits = 0_usize;
    loop {
        match rest {
            [digit @ b'0'..=b'9', tail @ ..] if digits < MAX_DIGITS => {
                // At most 99,999,999: no overflow.
                value = value.wrapping_mul(10).wrapping_add(usize::from(digit & 0x0f));
                digits = digits.wrapping_add(1);
                rest = tail;
            }
            [b' ', tail @ ..] if digits > 0 => return Some((value, tail)),
            _ => return None,
        }
    }
}

/// Whether a message header seems to start here: `<190>1 `.
fn starts_like_header(at: &[u8]) -> bool {
    let Some((b'<', rest)) = at.split_first() else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=3).contains(&digits) && rest.get(digits..).is_some_and(|tail| tail.starts_with(b">1 "))
}

/// Where, behind its first byte, `garbage` next looks like the start of a message: a length of
/// one to five digits, a space and `<PRI>1 `.
fn resync(garbage: &[u8]) -> Option<usize> {
    memmem::find_iter(garbage, b">1 ").find_map(|gt| {
        let before = garbage.get(..gt)?;
        let pri = trailing_digits(before, 3);
        let before = before.get(..before.len().checked_sub(pri)?)?;
        let before = before.strip_suffix(b"<")?.strip_suffix(b" ")?;
        let digits = trailing_digits(before, MAX_GUESSED_DIGITS);
        (pri > 0 && digits > 0).then(|| best_start(garbage, before.len(), digits)).flatten()
    })
}

/// The number of digits at the end of `bytes`, at most `limit`.
fn trailing_digits(bytes: &[u8], limit: usize) -> usize {
    bytes.iter().rev().take(limit).take_while(|byte| byte.is_ascii_digit()).count()
}

/// Chooses where a length starts whose digits end at `end`.
///
/// Garbage may end in digits itself (`…in 20083 <190>1 …` is `in 200` and then `83`), so each
/// start is tried, the longest length first, for one that leads to the end of the body or to
/// another length. No sender writes leading zeros.
fn best_start(garbage: &[u8], end: usize, digits: usize) -> Option<usize> {
    let starts = || {
        (end.saturating_sub(digits)..end)
            .filter(|&start| start > 0 && garbage.get(start).is_some_and(|digit| *digit != b'0'))
    };
    let leads_on = |start: &usize| {
        let landing =
            garbage.get(*start..).and_then(length).and_then(|(len, rest)| rest.get(len..));
        landing.is_some_and(|rest| rest.is_empty() || length(rest).is_some())
    };
    starts().find(leads_on).or_else(|| starts().next())
}

#[cfg(test)]
#[path = "octet_tests.rs"]
mod tests;
