//! What must hold of every body and of every message, whatever the bytes: for the fuzzer
//! (`tests/fuzz`), and for the tests, which replay its corpus.

use super::{Framing, Kind, Piece, Profile, loss, parse, pieces, tally};

/// Any body: the pieces, the lengths in front of them and the separators between them are the
/// body, in order, and nothing else.
pub fn framing(body: &[u8]) {
    let (mut end, mut skipped) = (0, 0);
    let mut last = None;
    let mut rebuilt = Vec::new();
    let all: Vec<Piece<'_>> = pieces(body).collect();
    for piece in &all {
        let start = place(body, piece.bytes);
        assert!(start >= end, "pieces do not overlap");
        assert_ne!(last, Some(Framing::Truncated), "a truncated piece is the last");
        let gap = body.get(end..start).unwrap_or_default();
        let separators = gap.iter().take_while(|b| matches!(b, b'\n' | b'\r' | b' ')).count();
        skipped += separators;
        let prefix = gap.get(separators..).unwrap_or_default();
        match piece.framing {
            Framing::Counted => assert_eq!(length(prefix), Some(piece.bytes.len())),
            Framing::Truncated if prefix.is_empty() => {
                // The length is in the piece.
                let digits = piece.bytes.iter().take_while(|b| b.is_ascii_digit()).count();
                let (number, rest) = piece.bytes.split_at_checked(digits + 1).unwrap_or_default();
                assert!(length(number).is_some_and(|length| length > rest.len()));
            }
            Framing::Truncated => {
                assert!(length(prefix).is_some_and(|length| length > piece.bytes.len()));
                assert!(piece.bytes.starts_with(b"<"), "a header makes the prefix a prefix");
            }
            Framing::BadLength => {
                assert!(prefix.is_empty(), "nothing is lost in front of garbage");
                assert!(!piece.bytes.is_empty(), "each piece takes something");
                assert_ne!(last, Some(Framing::BadLength), "garbage is one piece");
            }
        }
        if !matches!(piece.framing, Framing::Counted | Framing::BadLength) {
            assert_eq!(start + piece.bytes.len(), body.len(), "all that is left");
        }
        end = start + piece.bytes.len();
        last = Some(piece.framing);
        rebuilt.extend_from_slice(format!("{} ", piece.bytes.len()).as_bytes());
        rebuilt.extend_from_slice(piece.bytes);
    }
    let rest = body.get(end..).unwrap_or_default();
    assert!(rest.iter().all(|b| matches!(b, b'\n' | b'\r' | b' ')), "the end of the body");
    skipped += rest.len();

    let of = |framing| all.iter().filter(|piece| piece.framing == framing).count() as u64;
    let tally = tally(body);
    assert_eq!(u64::from(tally.messages), all.len() as u64);
    assert_eq!(u64::from(tally.truncated), of(Framing::Truncated));
    assert_eq!(u64::from(tally.bad_length), of(Framing::BadLength));
    assert_eq!(tally.bytes, all.iter().map(|piece| piece.bytes.len() as u64).sum::<u64>());
    assert_eq!(tally.skipped, skipped as u64);

    // With the right lengths, the same messages come out, and all of them well framed.
    let again: Vec<_> = pieces(&rebuilt).map(|piece| (piece.bytes, piece.framing)).collect();
    let expected: Vec<_> = all.iter().map(|piece| (piece.bytes, Framing::Counted)).collect();
    assert_eq!(again, expected);
}

/// Any message: what is taken apart is what was there, and the profile changes nothing but
/// STRUCTURED-DATA.
pub fn line(piece: &[u8]) {
    let logplex = parse(piece, Profile::Logplex);
    assert_eq!(logplex.had_newline, piece.ends_with(b"\n"));
    let line = piece.strip_suffix(b"\n").unwrap_or(piece);
    assert!(line.ends_with(logplex.text), "the text is the end of the line");
    for profile in [Profile::Shuttle, Profile::Other] {
        let other = parse(piece, profile);
        assert_eq!(other.had_newline, logplex.had_newline);
        assert!(logplex.text.ends_with(other.text), "less text, if another");
        let (Some(own), Some(theirs)) = (&logplex.header, &other.header) else {
            assert_eq!(logplex, other, "no header, no profile");
            continue;
        };
        assert!(own.structured_data.is_empty());
        let data = theirs.structured_data;
        if data.is_empty() {
            let taken = logplex.text.len() - other.text.len();
            assert!(taken == 0 || logplex.text.starts_with(b"-"), "a NILVALUE, or nothing");
            assert!(taken <= 2);
        } else {
            assert!(logplex.text.starts_with(data));
            assert!(data.starts_with(b"[") && data.ends_with(b"]"));
            assert!(logplex.text.len() - data.len() - other.text.len() <= 1);
        }
        let mut theirs = theirs.clone();
        theirs.structured_data = &[];
        assert_eq!(*own, theirs);
    }
    let Some(header) = &logplex.header else {
        assert_eq!(logplex.text, line);
        assert_eq!(loss(&logplex), None, "a report of loss has a sender");
        return;
    };
    assert!(header.pri <= 191);
    let fields = [header.hostname, header.app_name, header.proc_id];
    assert_eq!(fields.join(&b' '), header.routing);
    assert!(fields.iter().all(|field| !field.contains(&b' ')));
    assert!(!header.msg_id.contains(&b' '));
    let (prefix, behind) = line.split_at_checked(place(line, header.routing)).unwrap_or_default();
    // PRI may have leading zeros.
    assert!(prefix.starts_with(b"<") && prefix.ends_with(b" "));
    let behind = behind.strip_prefix(header.routing).and_then(|rest| rest.strip_prefix(b" "));
    let behind = behind.and_then(|rest| rest.strip_prefix(header.msg_id));
    let Some(rest) = behind else { unreachable!("MSGID follows the routing") };
    let text = rest.strip_prefix(b" ").unwrap_or(rest);
    assert_eq!(text, logplex.text, "six single spaces");
    assert!(!header.severity().is_empty() && !header.facility().is_empty());
    assert!(header.proc_id.starts_with(header.proc_type()));
    assert_eq!(Kind::parse(header.kind().as_str()), Some(header.kind()));
    if loss(&logplex).is_some() {
        assert_eq!(header.kind(), Kind::Logplex, "only they report loss");
    }
}

/// Where a part of `whole` begins in it.
fn place(whole: &[u8], part: &[u8]) -> usize {
    let place = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    assert!(place + part.len() <= whole.len(), "it is a part");
    place
}

/// `LEN SP`, and nothing else.
fn length(prefix: &[u8]) -> Option<usize> {
    let digits = prefix.strip_suffix(b" ")?;
    let plain = (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use crate::types::corpus;

    #[test]
    fn the_corpus_of_bodies_holds() {
        for (name, body) in corpus("framing") {
            println!("{name}");
            super::framing(&body);
        }
    }

    #[test]
    fn the_corpus_of_messages_holds() {
        for (name, piece) in corpus("line") {
            println!("{name}");
            super::line(&piece);
        }
    }
}
