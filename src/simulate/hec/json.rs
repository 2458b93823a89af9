//! The envelopes of a `/event` body, borrowed from it: one pass, no allocation.
//!
//! Not forebay's own code path in reverse: forebay never parses envelopes. Written for speed,
//! because the simulator shares the machine with the relay it measures; whatever is rare (nested
//! values) is left to serde_json.

use serde::de::IgnoredAny;

/// The bytes are no JSON that could be an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// A JSON string between its quotes, syntax checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

/// `event`, as far as HEC's rules look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    Missing,
    /// `null`, `{}` or `[]`. Blank strings are found by whoever unescapes them.
    Blank,
    Text(Text<'a>),
    /// Any other JSON, as written.
    Json(&'a [u8]),
}

/// One object of the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope<'a> {
    pub(super) event: Event<'a>,
    /// Absent, a plain decimal as written, or something Splunk refuses.
    pub(super) time: Option<Result<&'a [u8], Invalid>>,
    pub(super) host: Option<Text<'a>>,
    pub(super) source: Option<Text<'a>>,
    pub(super) sourcetype: Option<Text<'a>>,
    pub(super) index: Option<Text<'a>>,
    /// Absent, a flat object as written, or something Splunk refuses.
    pub(super) fields: Option<Result<&'a [u8], Invalid>>,
    /// The length of the object in the body.
    pub(super) length: usize,
}

/// What comes next in a body.
#[derive(Debug)]
pub(super) enum Next<'a> {
    Envelope(Envelope<'a>),
    /// An object with a key HEC does not know: it stops here, without a word.
    UnknownKey,
    Invalid,
    End,
}

/// Reads concatenated envelopes, or one array of them.
#[derive(Debug)]
pub(super) struct Envelopes<'a> {
    cursor: Cursor<'a>,
    layout: Layout,
    /// The body has bytes that are no UTF-8 behind what the cursor sees.
    cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Start,
    Concatenated,
    Array,
    ArrayEnded,
}

impl<'a> Envelopes<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        let valid = match std::str::from_utf8(body) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let rest = body.get(..valid).unwrap_or(body);
        Self { cursor: Cursor { rest }, layout: Layout::Start, cut: valid < body.len() }
    }

    pub(super) fn next(&mut self) -> Next<'a> {
        self.cursor.skip_space();
        if self.layout == Layout::Start {
            self.layout = if self.cursor.eat(b'[') { Layout::Array } else { Layout::Concatenated };
            self.cursor.skip_space();
            if self.layout == Layout::Array && self.cursor.eat(b']') {
                self.layout = Layout::ArrayEnded;
            }
        }
        if self.cursor.rest.is_empty() {
            let complete = !self.cut && self.layout != Layout::Array;
            return if complete { Next::End } else { Next::Invalid };
        }
        if self.layout == Layout::ArrayEnded {
            return Next::Invalid;
        }
        match self.cursor.envelope() {
            Ok(Some(envelope)) => {
                if self.layout == Layout::Array && !self.array_goes_on() {
                    return Next::Invalid;
                }
                Next::Envelope(envelope)
            }
            Ok(None) => Next::UnknownKey,
            Err(Invalid) => Next::Invalid,
        }
    }

    fn array_goes_on(&mut self) -> bool {
        self.cursor.skip_space();
        if self.cursor.eat(b']') {
            self.layout = Layout::ArrayEnded;
            return true;
        }
        self.cursor.eat(b',')
    }
}

impl<'a> Text<'a> {
    /// The text itself; unescaped into `scratch` when it has to be.
    pub(super) fn bytes<'s>(self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        if !self.escaped {
            return self.raw;
        }
        scratch.clear();
        unescape(self.raw, scratch);
        scratch
    }

    /// The text as an owned string.
    pub(super) fn to_owned_string(self) -> String {
        String::from_utf8_lossy(self.bytes(&mut Vec::new())).into_owned()
    }
}

/// Undoes the escapes of a string that [`Cursor::string`] has checked.
fn unescape(mut raw: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(b'\\', raw) {
        let (plain, escape) = raw.split_at(at);
        out.extend_from_slice(plain);
        let (length, c) = match escape.get(1) {
            Some(b'n') => (2, '\n'),
            Some(b'r') => (2, '\r'),
            Some(b't') => (2, '\t'),
            Some(b'b') => (2, '\u{8}'),
            Some(b'f') => (2, '\u{c}'),
            Some(b'u') => unicode_escape(escape).unwrap_or((6, char::REPLACEMENT_CHARACTER)),
            Some(other) => (2, char::from(*other)),
            None => (1, char::REPLACEMENT_CHARACTER),
        };
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        raw = escape.get(length..).unwrap_or(&[]);
    }
    out.extend_from_slice(raw);
}

/// The character of `\uXXXX` or of a surrogate pair, and the length of the escape.
fn unicode_escape(escape: &[u8]) -> Option<(usize, char)> {
    let first = hex4(escape, 0)?;
    if let Some(c) = char::from_u32(first) {
        return Some((6, c));
    }
    let second = hex4(escape, 6)?;
    if !(0xD800..0xDC00).contains(&first) || !(0xDC00..0xE000).contains(&second) {
        return None;
    }
    let scalar = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    char::from_u32(scalar).map(|c| (12, c))
}

fn hex4(escape: &[u8], at: usize) -> Option<u32> {
    let digits = escape.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

#[derive(Debug)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn skip_space(&mut self) {
        while let Some((b' ' | b'\n' | b'\r' | b'\t', rest)) = self.rest.split_first() {
            self.rest = rest;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Invalid> {
        self.skip_space();
        if self.eat(byte) { Ok(()) } else { Err(Invalid) }
    }

    /// Takes `length` bytes.
    fn take(&mut self, length: usize) -> Result<&'a [u8], Invalid> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Invalid)?;
        self.rest = rest;
        Ok(taken)
    }

    /// An object; `None` when it has a key HEC does not know.
    fn envelope(&mut self) -> Result<Option<Envelope<'a>>, Invalid> {
        let start = self.rest.len();
        let mut envelope = Envelope {
            event: Event::Missing,
            time: None,
            host: None,
            source: None,
            sourcetype: None,
            index: None,
            fields: None,
            length: 0,
        };
        self.expect(b'{')?;
        self.skip_space();
        if !self.eat(b'}') {
            loop {
                let key = self.key()?;
                self.skip_space();
                match key {
                    b"event" => envelope.event = self.event()?,
                    b"time" => envelope.time = Some(self.time()?),
                    b"host" => envelope.host = self.metadata()?,
                    b"source" => envelope.source = self.metadata()?,
                    b"sourcetype" => envelope.sourcetype = self.metadata()?,
                    b"index" => envelope.index = self.metadata()?,
                    b"fields" => envelope.fields = Some(self.fields()?),
                    b"channel" => drop(self.value()?),
                    _ => return Ok(None),
                }
                self.skip_space();
                if self.eat(b'}') {
                    break;
                }
                self.expect(b',')?;
            }
        }
        envelope.length = start - self.rest.len();
        Ok(Some(envelope))
    }

    /// A key and its colon. An escaped key is none that HEC writes or we know.
    fn key(&mut self) -> Result<&'a [u8], Invalid> {
        self.expect(b'"')?;
        let key = self.string()?;
        self.expect(b':')?;
        Ok(key.raw)
    }

    fn event(&mut self) -> Result<Event<'a>, Invalid> {
        if self.eat(b'"') {
            return self.string().map(Event::Text);
        }
        Ok(match self.value()? {
            b"null" => Event::Blank,
            json => {
                let inner = json.get(1..json.len() - 1).unwrap_or(&[]);
                let container = matches!(json.first(), Some(b'{' | b'['));
                if container && inner.trim_ascii().is_empty() {
                    Event::Blank
                } else {
                    Event::Json(json)
                }
            }
        })
    }

    fn time(&mut self) -> Result<Result<&'a [u8], Invalid>, Invalid> {
        let raw = if self.eat(b'"') { self.string()?.raw } else { self.value()? };
        Ok(if is_decimal(raw) { Ok(raw) } else { Err(Invalid) })
    }

    /// `host` and its like: a string, or a number or boolean taken as its text.
    fn metadata(&mut self) -> Result<Option<Text<'a>>, Invalid> {
        if self.eat(b'"') {
            return self.string().map(Some);
        }
        match self.value()? {
            b"null" => Ok(None),
            [b'{' | b'[', ..] => Err(Invalid),
            raw => Ok(Some(Text { raw, escaped: false })),
        }
    }

    /// `fields`: flat means strings, numbers and booleans, or arrays of them.
    fn fields(&mut self) -> Result<Result<&'a [u8], Invalid>, Invalid> {
        let start = self.rest;
        if !self.eat(b'{') {
            self.value()?;
            return Ok(Err(Invalid));
        }
        let mut flat = true;
        self.skip_space();
        if !self.eat(b'}') {
            loop {
                self.key()?;
                self.skip_space();
                if self.eat(b'"') {
                    self.string()?;
                } else {
                    let value = self.value()?;
                    flat &= match value.first() {
                        Some(b'{' | b'n') => false,
                        Some(b'[') => array_is_flat(value),
                        _ => true,
                    };
                }
                self.skip_space();
                if self.eat(b'}') {
                    break;
                }
                self.expect(b',')?;
                self.skip_space();
            }
        }
        let raw = start.get(..start.len() - self.rest.len()).ok_or(Invalid)?;
        Ok(if flat { Ok(raw) } else { Err(Invalid) })
    }

    /// The rest of a string whose opening quote is eaten. Escapes are checked, so that undoing
    /// them cannot fail.
    fn string(&mut self) -> Result<Text<'a>, Invalid> {
        let start = self.rest;
        let mut at = 0;
        let mut escaped = false;
        loop {
            let tail = start.get(at..).ok_or(Invalid)?;
            at += plain(tail).ok_or(Invalid)?;
            let found = start.get(at..).ok_or(Invalid)?;
            at += match found {
                [b'"', ..] => break,
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
                [b'\\', b'u', ..] => unicode_escape(found).ok_or(Invalid)?.0,
                _ => return Err(Invalid),
            };
            escaped = true;
        }
        let raw = start.get(..at).ok_or(Invalid)?;
        self.rest = start.get(at + 1..).ok_or(Invalid)?;
        Ok(Text { raw, escaped })
    }

    /// Any value, as written.
    fn value(&mut self) -> Result<&'a [u8], Invalid> {
        match self.rest.first() {
            Some(b'0'..=b'9' | b'-') => {
                let part = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let length = self.rest.iter().take_while(|b| part(b)).count();
                let number = self.take(length)?;
                // Plain decimals are most of what comes; the rest of JSON's grammar is not ours.
                if !is_decimal(number) && serde_json::from_slice::<IgnoredAny>(number).is_err() {
                    return Err(Invalid);
                }
                Ok(number)
            }
            Some(_) => {
                let mut values =
                    serde_json::Deserializer::from_slice(self.rest).into_iter::<IgnoredAny>();
                match values.next() {
                    Some(Ok(IgnoredAny)) => self.take(values.byte_offset()),
                    _ => Err(Invalid),
                }
            }
            None => Err(Invalid),
        }
    }
}

/// How many bytes of a string stand for themselves: up to a quote, a backslash or a control
/// character.
fn plain(text: &[u8]) -> Option<usize> {
    // Keys and most values end within four words, where calling memchr would cost more than the
    // search; a message does not, and there vector instructions win.
    const NEAR: usize = 4;
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (words, _) = text.as_chunks::<8>();
    for (number, word) in words.iter().take(NEAR).enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of a byte is set where it is zero, a quote, a backslash, or below 0x20.
        // Borrows can set it wrongly, but only above (behind, in the text) a byte that is right.
        let zero = |word: u64| word.wrapping_sub(ONES) & !word;
        let quote = zero(word ^ (ONES * b'"' as u64));
        let backslash = zero(word ^ (ONES * b'\\' as u64));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (quote | backslash | control) & HIGH;
        if found != 0 {
            return Some(number * 8 + (found.trailing_zeros() / 8) as usize);
        }
    }
    let skipped = words.len().min(NEAR) * 8;
    let far = text.get(skipped..)?;
    let end = memchr::memchr2(b'"', b'\\', far)?;
    let before = far.get(..end)?;
    // A fold, unlike `any`, becomes vector instructions.
    let control = before.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < 0x20;
    (!control).then_some(skipped + end)
}

/// A JSON number without an exponent.
fn is_decimal(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text.first() == Some(&b'0')) {
        return false;
    }
    match text.get(whole..) {
        Some([b'.', fraction @ ..]) => !fraction.is_empty() && digits(fraction) == fraction.len(),
        rest => rest.is_none_or(<[u8]>::is_empty),
    }
}

fn array_is_flat(array: &[u8]) -> bool {
    serde_json::from_slice::<Vec<serde_json::Value>>(array).is_ok_and(|items| {
        items.iter().all(|item| item.is_string() || item.is_number() || item.is_boolean())
    })
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
