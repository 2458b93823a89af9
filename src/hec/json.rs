//! The inside of a JSON string, fast.
//!
//! Nearly all bytes of a log need no escape, so 32 of them are looked at together and copied as
//! runs. RFC 8259, section 7: what has to be escaped is `"`, `\` and everything below 0x20.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// Whether a text is one JSON object, and one that can stand in an event as it is: complete, not
/// empty, with pairs of surrogates only, with numbers that a program can hold, and no deeper than
/// serde_json goes (128).
pub(super) fn is_object(text: &str) -> bool {
    // JSON's own white space, and not ASCII's: a form feed would be written, and is no JSON.
    let blank = [' ', '\t', '\n', '\r'];
    let inner = text.trim_matches(blank);
    // Nearly all texts are none, and this is all that is looked at then.
    if !inner.starts_with('{') || !inner.ends_with('}') {
        return false;
    }
    // `{}` is blank to Splunk (code 13).
    let empty =
        inner.get(1..inner.len() - 1).is_some_and(|inside| inside.trim_matches(blank).is_empty());
    !empty && serde_json::from_str::<Checked>(inner).is_ok()
}

/// Any JSON value, read with all checks and thrown away.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        while all.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        while all.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// How many bytes are looked at together: a width the compiler turns into vector instructions.
const WIDE: usize = 32;

/// Appends `text`, escaped, without the quotes around it.
pub(super) fn escape(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    // What lies before `at` and behind `done` needs no escape and is copied in one go.
    let (mut done, mut at) = (0, 0);
    let (wide, tail) = bytes.as_chunks::<WIDE>();
    for chunk in wide {
        let end = at + WIDE;
        if needs_escape(chunk) {
            out.extend_from_slice(bytes.get(done..at).unwrap_or_default());
            for word in chunk.as_chunks::<8>().0 {
                escape_word(*word, 8, out);
            }
            done = end;
        }
        at = end;
    }
    out.extend_from_slice(bytes.get(done..at).unwrap_or_default());
    let (words, last) = tail.as_chunks::<8>();
    for word in words {
        escape_word(*word, 8, out);
    }
    let mut word = [b' '; 8];
    word.iter_mut().zip(last).for_each(|(to, from)| *to = *from);
    escape_word(word, last.len(), out);
}

/// Whether any byte of the chunk has to be escaped.
fn needs_escape(chunk: &[u8; WIDE]) -> bool {
    chunk.iter().fold(false, |any, &b| any | (b < 0x20) | (b == b'"') | (b == b'\\'))
}

const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const ONES: u64 = 0x0101_0101_0101_0101;

/// The top bit of every byte that is zero, exactly: nothing carries from one byte to the next.
const fn zero_bytes(word: u64) -> u64 {
    !(((word & LOW) + LOW) | word | LOW)
}

/// Appends the first `len` of eight bytes, escaped; those behind need no escape.
///
/// Copies eight bytes every time and takes back what was too much: that is one store, where a
/// copy of unknown length is a call.
fn escape_word(word: [u8; 8], len: usize, out: &mut Vec<u8>) {
    let mut rest = u64::from_le_bytes(word);
    let mut found = zero_bytes(rest & (ONES * 0xe0))
        | zero_bytes(rest ^ (ONES * b'"' as u64))
        | zero_bytes(rest ^ (ONES * b'\\' as u64));
    let mut end = out.len() + len;
    while found != 0 {
        let before = found.trailing_zeros() / 8;
        let copied = out.len() + before as usize;
        out.extend_from_slice(&rest.to_le_bytes());
        out.truncate(copied);
        rest >>= 8 * before;
        let [byte, ..] = rest.to_le_bytes();
        escape_byte(byte, out);
        rest >>= 8;
        found = (found >> (8 * before)) >> 8;
        end += out.len() - copied - 1;
    }
    out.extend_from_slice(&rest.to_le_bytes());
    out.truncate(end);
}

/// Appends the escape of one byte.
fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
            return out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                digit(byte >> 4),
                digit(byte & 15),
            ]);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends `"name":"value"`.
pub(super) fn pair(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(name, out);
    out.extend_from_slice(b"\":\"");
    escape(value, out);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        escape(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_character_below_128_at_every_place() {
        for code in 0u8..128 {
            for place in 0..80 {
                let text = format!("{}{}{}", "x".repeat(place), code as char, "é".repeat(9));
                let expected = serde_json::to_string(&text).unwrap();
                assert_eq!(format!("\"{}\"", escaped(&text)), expected);
            }
        }
    }

    #[test]
    fn neighbours_that_differ_by_a_borrow_are_told_apart() {
        // The well-known inexact zero test marks the byte above a match: `!` beside `"`.
        assert_eq!(escaped("\"!\"!\"!\"!"), "\\\"!\\\"!\\\"!\\\"!");
        assert_eq!(escaped("\0\u{1}\u{1f} \u{7f}"), "\\u0000\\u0001\\u001f \u{7f}");
    }

    #[test]
    fn only_whole_objects_are_objects() {
        for good in [
            r#"{"a":1}"#,
            " {\"a\": [1, 2.5e3, -0, null, true, {\"b\": \"\\u00e9\\ud83d\\ude00\"}]}\r\n",
            r#"{"a":1,"a":12345678901234567890123}"#,
        ] {
            assert!(is_object(good), "{good}");
        }
        let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
        for bad in [
            "",
            "{}",
            "{ \n }",
            "{\"a\":1",
            "[1]",
            "{\"a\":1}{\"b\":2}",
            "{a:1}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":1e999}",
            "{\"a\":01}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":1,}",
            "x{\"a\":1}",
            "\x0c{\"a\":1}",
            "{\"a\":1}\x0c",
            "\x0b{\"a\":1}",
            "{\"a\":1}\n\x0b",
            &deep,
        ] {
            assert!(!is_object(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_same_as_serde_json(text in "(\\PC|[\"\\\\\n\t\u{0}-\u{1f}]){0,120}") {
            prop_assert_eq!(format!("\"{}\"", escaped(&text)), serde_json::to_string(&text).unwrap());
        }
    }
}
