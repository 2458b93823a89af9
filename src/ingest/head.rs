//! What hyper does not show of a head: whether it says twice how long its body is.
//!
//! A request with both `Content-Length` and `Transfer-Encoding` is how one request is smuggled
//! inside another past a proxy. hyper follows the latter and hides the former (RFC 9112, 6.3),
//! which is safe, but a sender that writes both is broken or hostile, and is told so.

/// Looks at the bytes of one head after the other.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// What has come of a head that came in pieces. Few do.
    partial: Vec<u8>,
    /// The head has ended: what comes is its body. hyper may read that before it tells anybody of
    /// the head, and a body may hold anything.
    ended: bool,
}

impl HeadScan {
    /// The next bytes are the first of a head.
    pub(super) fn begins(&mut self) {
        *self = Self::default();
    }

    /// Takes bytes of a head. At its end: whether it has both headers. More than `limit` bytes
    /// are not kept; hyper refuses such a head. Behind its end nothing is looked at.
    pub(super) fn feed(&mut self, bytes: &[u8], limit: usize) -> Option<bool> {
        if self.ended {
            return None;
        }
        let found = self.look(bytes, limit);
        self.ended = found.is_some();
        found
    }

    fn look(&mut self, bytes: &[u8], limit: usize) -> Option<bool> {
        if self.partial.is_empty() {
            let found = both(bytes);
            if found.is_none() && bytes.len() <= limit {
                self.partial.extend_from_slice(bytes);
            }
            return found;
        }
        if self.partial.len().saturating_add(bytes.len()) > limit {
            return None;
        }
        self.partial.extend_from_slice(bytes);
        let found = both(&self.partial);
        if found.is_some() {
            self.partial = Vec::new();
        }
        found
    }
}

/// Whether a head has both headers; none when it does not end here.
fn both(bytes: &[u8]) -> Option<bool> {
    let (mut length, mut coding, mut begun, mut start) = (false, false, false, 0);
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = bytes.get(start..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        start = end.saturating_add(1);
        if line.is_empty() {
            // Empty lines before the request line are skipped.
            if begun {
                return Some(length && coding);
            }
            continue;
        }
        begun = true;
        length |= is(line, b"content-length:");
        coding |= is(line, b"transfer-encoding:");
    }
    None
}

fn is(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[u8] =
        b"POST / HTTP/1.1\r\nContent-length: 5\r\nX: y\r\nTRANSFER-ENCODING: chunked\r\n\r\nbody";

    #[test]
    fn both_headers_are_seen_in_either_order() {
        for (head, expected) in [
            (
                &b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nTransfer-Encoding: x\r\n\r\n"[..],
                false,
            ),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nContent-Length: 5", false),
            (b"\r\n\r\nPOST / HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 1\n\n", true),
            (
                b"POST / HTTP/1.1\r\nX-Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
            ),
            (BOTH, true),
        ] {
            assert_eq!(both(head), Some(expected), "{}", head.escape_ascii());
        }
    }

    /// What stands in a body is no reason to refuse it.
    #[test]
    fn behind_the_end_of_a_head_nothing_is_looked_at() {
        let mut scan = HeadScan::default();
        for _ in 0..2 {
            scan.begins();
            assert_eq!(
                scan.feed(b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n", 1000),
                Some(false)
            );
            assert_eq!(scan.feed(BOTH, 1000), None, "a body");
            assert_eq!(scan.feed(BOTH, 1000), None);
        }
    }

    #[test]
    fn a_head_may_come_in_any_pieces() {
        for size in 1..BOTH.len() {
            let mut scan = HeadScan::default();
            scan.begins();
            let found: Vec<_> =
                BOTH.chunks(size).filter_map(|piece| scan.feed(piece, 1000)).collect();
            assert_eq!(found.first(), Some(&true), "{size}");
        }
        let mut scan = HeadScan::default();
        scan.begins();
        assert_eq!(scan.feed(&BOTH[..40], 50), None);
        assert_eq!(scan.feed(&BOTH[40..], 50), None, "a head that is too long is not kept");
        assert!(scan.partial.len() <= 50);
    }
}
