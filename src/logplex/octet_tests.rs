use proptest::prelude::*;

use super::*;

const HEADER: &str = "<190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - ";

/// The pieces of a body, readable.
fn read(body: &[u8]) -> Vec<(Framing, String)> {
    pieces(body)
        .map(|piece| (piece.framing, String::from_utf8_lossy(piece.bytes).into_owned()))
        .collect()
}

fn counted(bytes: &str) -> (Framing, String) {
    (Framing::Counted, bytes.to_owned())
}

fn truncated(bytes: &str) -> (Framing, String) {
    (Framing::Truncated, bytes.to_owned())
}

fn bad(bytes: &str) -> (Framing, String) {
    (Framing::BadLength, bytes.to_owned())
}

/// A length and a message with this text.
fn framed(text: &str) -> String {
    format!("{} {HEADER}{text}", HEADER.len() + text.len())
}

#[test]
fn a_body_without_content_has_no_messages() {
    for body in ["", "\n", " \r\n \n"] {
        let mut all = pieces(body.as_bytes());
        assert_eq!(all.next(), None);
        assert_eq!(all.skipped(), body.len());
    }
}

#[test]
fn length_zero_is_an_empty_message() {
    assert_eq!(read(b"0 "), [counted("")]);
    assert_eq!(read(b"0 0 3 abc0 "), [counted(""), counted(""), counted("abc"), counted("")]);
}

#[test]
fn leading_zeros_are_taken() {
    assert_eq!(read(b"003 abc00000002 de"), [counted("abc"), counted("de")]);
}

#[test]
fn separators_between_messages_are_skipped_and_counted() {
    let body = b"\n3 abc\r\n2 de \n";
    assert_eq!(read(body), [counted("abc"), counted("de")]);
    let expected = Tally { messages: 2, bytes: 5, skipped: 5, ..Tally::default() };
    assert_eq!(tally(body), expected);
}

#[test]
fn a_length_behind_the_end_keeps_the_rest() {
    // With a header the rest is a message cut short; its wrong length is not part of it.
    let cut = format!("900 {HEADER}cut");
    assert_eq!(read(cut.as_bytes()), [truncated(&format!("{HEADER}cut"))]);
    // Frames behind it are not looked for: they may well be its text.
    let two = format!("{HEADER}a\n{}", framed("b"));
    assert_eq!(read(format!("900 {two}").as_bytes()), [truncated(&two)]);
    // Without a header the digits may be text.
    assert_eq!(read(b"100 items sold"), [truncated("100 items sold")]);
    assert_eq!(read(b"3 abc4 abc"), [counted("abc"), truncated("4 abc")]);
    assert_eq!(read(b"1 "), [truncated("1 ")]);
}

#[test]
fn lengths_that_no_body_has_are_no_lengths() {
    assert_eq!(read(b"99999999 x"), [truncated("99999999 x")]);
    assert_eq!(read(b"100000000 x"), [bad("100000000 x")]);
    let huge = "9".repeat(400);
    assert_eq!(read(huge.as_bytes()), [bad(&huge)]);
    let huge = format!("{huge} {HEADER}");
    // The last five digits may be a length: nothing is lost by taking them for one.
    let expected = [bad(&"9".repeat(395)), truncated(HEADER)];
    assert_eq!(read(huge.as_bytes()), expected);
}

#[test]
fn text_without_lengths_is_one_flagged_message() {
    for body in ["hello world\n", "{\"a\": 1}", "-1 x", "+5 x", "5", "5\n", "5,x", "<190>1 x", "é"]
    {
        assert_eq!(read(body.as_bytes()), [bad(body)]);
    }
}

#[test]
fn after_a_bad_length_the_next_message_is_found() {
    let good = framed("good\n");
    let other = framed("other\n");
    for garbage in ["x", "garbage\n", "12a", "<190>1", "<190>1 >1 ", "a <190>1 b\n", "999999999 "] {
        let body = format!("{garbage}{good}{other}");
        let message = |text| counted(&format!("{HEADER}{text}"));
        let expected = [bad(garbage), message("good\n"), message("other\n")];
        assert_eq!(read(body.as_bytes()), expected, "{garbage}");
    }
}

#[test]
fn a_length_that_is_too_short_costs_one_flagged_message() {
    let text = "hello world\n";
    let body = format!("{} {HEADER}{text}{}", HEADER.len() + 5, framed("next\n"));
    let expected =
        [counted(&format!("{HEADER}hello")), bad("world\n"), counted(&format!("{HEADER}next\n"))];
    assert_eq!(read(body.as_bytes()), expected);
}

#[test]
fn digits_that_end_garbage_are_told_from_the_length() {
    let next = framed("next\n");
    let length = HEADER.len() + 5;
    for digits in ["1", "200", "99999999"] {
        let body = format!("took {digits}{next}{next}");
        let message = counted(&format!("{HEADER}next\n"));
        let expected = [bad(&format!("took {digits}")), message.clone(), message];
        assert_eq!(read(body.as_bytes()), expected, "{digits}{length}");
    }
}

#[test]
fn a_guess_that_leads_nowhere_takes_all_digits() {
    assert_eq!(read(b"x7 <190>1 aaaa"), [bad("x"), counted("<190>1 "), bad("aaaa")]);
    assert_eq!(read(b"x999 <190>1 a"), [bad("x"), truncated("<190>1 a")]);
    // Zeros are no guess.
    assert_eq!(read(b"x000 <190>1 a"), [bad("x000 <190>1 a")]);
    assert_eq!(read(b"x00012 <190>1 aaaaa"), [bad("x000"), counted("<190>1 aaaaa")]);
}

#[test]
fn flags_mark_what_was_not_counted() {
    assert_eq!(Framing::Counted.as_flag(), None);
    assert_eq!(Framing::Truncated.as_flag(), Some("truncated"));
    assert_eq!(Framing::BadLength.as_flag(), Some("bad_length"));
    let expected = Tally { messages: 3, truncated: 1, bad_length: 1, bytes: 12, skipped: 2 };
    assert_eq!(tally(b"x 5 <1>1 \n\n9 <1>1 "), expected);
}

/// Bytes that are likely to look like frames.
fn frame_like() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just(b"<190>1 ".to_vec()),
        Just(b">1 ".to_vec()),
        Just(b" <".to_vec()),
        Just(b"\n".to_vec()),
        Just(b" ".to_vec()),
        "[0-9]{1,9}".prop_map(String::into_bytes),
        "[0-9] ".prop_map(String::into_bytes),
        "[0-9]{1,2} <[0-9]{1,4}>1 ".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

/// Proves that nothing is lost: walks the body, piece by piece, and accounts for every byte.
fn account(body: &[u8]) -> Result<(), TestCaseError> {
    let mut all = pieces(body);
    let mut at = 0;
    let mut separators = 0;
    let mut number = 0;
    for piece in &mut all {
        number += 1;
        let start = piece.bytes.as_ptr() as usize - body.as_ptr() as usize;
        prop_assert!(start >= at && start + piece.bytes.len() <= body.len());
        let gap = &body[at..start];
        let prefix = gap.iter().position(|byte| !b"\r\n ".contains(byte)).unwrap_or(gap.len());
        separators += prefix;
        let prefix = &gap[prefix..];
        let length = prefix.strip_suffix(b" ").unwrap_or(prefix);
        prop_assert!(length.len() <= 8 && length.iter().all(u8::is_ascii_digit));
        let length = std::str::from_utf8(length).unwrap().parse::<usize>().ok();
        match piece.framing {
            Framing::Counted => prop_assert_eq!(length, Some(piece.bytes.len())),
            Framing::Truncated => {
                prop_assert_eq!(start + piece.bytes.len(), body.len());
                prop_assert!(length.is_none_or(|length| length > piece.bytes.len()));
            }
            Framing::BadLength => {
                prop_assert!(prefix.is_empty() && !piece.bytes.is_empty());
            }
        }
        at = start + piece.bytes.len();
    }
    let tail = &body[at..];
    prop_assert!(tail.iter().all(|byte| b"\r\n ".contains(byte)));
    prop_assert_eq!(all.skipped(), separators + tail.len());
    prop_assert_eq!(count(body), number);
    prop_assert_eq!(count(body) as usize, pieces(body).count());
    Ok(())
}

proptest! {
    /// The encoder here is all there is to octet counting.
    #[test]
    fn framing_is_the_inverse_of_encoding(
        messages in proptest::collection::vec(
            prop_oneof![proptest::collection::vec(any::<u8>(), 0..300), frame_like()], 0..40
        )
    ) {
        let mut body = Vec::new();
        for message in &messages {
            body.extend_from_slice(message.len().to_string().as_bytes());
            body.push(b' ');
            body.extend_from_slice(message);
        }
        let read: Vec<_> = pieces(&body).collect();
        let expected: Vec<_> = messages
            .iter()
            .map(|bytes| Piece { bytes, framing: Framing::Counted })
            .collect();
        prop_assert_eq!(read, expected);
        prop_assert_eq!(count(&body) as usize, messages.len());
    }

    #[test]
    fn any_bytes_are_read_and_none_is_lost(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        account(&body)?;
    }

    #[test]
    fn frame_like_bytes_are_read_and_none_is_lost(body in frame_like()) {
        account(&body)?;
    }
}
