//! The keys of a router line, for indexed fields.
//!
//! ```text
//! at=info method=GET path="/x" host=… request_id=… fwd="…" dyno=web.1 connect=1ms service=18ms
//! status=200 bytes=13 protocol=https tls_version=tls1.3
//! at=error code=H12 desc="Request timeout" method=GET path="/" …
//! ```
//!
//! (Dev Center, "HTTP Routing", "Heroku Error Codes".) What takes many values, `path`,
//! `request_id`, `fwd` and `host`, stays in the text: an index of it would cost more than it is
//! worth.

/// The keys that become fields, and the names of these.
const KEYS: [(&str, &str, Form); 12] = [
    ("at", "at", Form::Word),
    ("code", "code", Form::Word),
    ("desc", "desc", Form::Word),
    ("method", "method", Form::Word),
    ("status", "status", Form::Number),
    ("connect", "connect_ms", Form::Millis),
    ("service", "service_ms", Form::Millis),
    ("bytes", "bytes", Form::Number),
    ("protocol", "protocol", Form::Word),
    ("tls_version", "tls_version", Form::Word),
    // `dyno` is the source of the line, which is the router.
    ("dyno", "router_dyno", Form::Word),
    ("sock", "sock", Form::Word),
];

/// What is longer is no value of these keys.
const LONGEST: usize = 128;

#[derive(Clone, Copy)]
enum Form {
    Word,
    Number,
    /// A number with `ms` behind it, which is taken off.
    Millis,
}

/// The fields of a router line, in the order of [`KEYS`]. `None` when the line is broken: a word
/// that is no pair, or a quote where none can be. A value without its closing quote ends with the
/// line, as one does that was cut.
pub(super) fn fields(line: &str) -> Option<[Option<&str>; KEYS.len()]> {
    let mut found = [None; KEYS.len()];
    let mut rest = line.trim_ascii();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (key, behind) = rest.split_once('=')?;
        if key.is_empty() || key.contains([' ', '"', '\t']) {
            return None;
        }
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => match quoted.split_once('"') {
                Some((value, behind)) if behind.is_empty() || behind.starts_with(' ') => {
                    (value, behind)
                }
                Some(_) => return None,
                None => (quoted, ""),
            },
            None => {
                let (value, behind) = behind.split_once(' ').unwrap_or((behind, ""));
                if value.contains('"') {
                    return None;
                }
                (value, behind)
            }
        };
        rest = behind.trim_ascii_start();
        let place = KEYS.iter().position(|(name, ..)| *name == key);
        if let Some(place) = place
            && let Some((.., form)) = KEYS.get(place)
            && let Some(slot) = found.get_mut(place)
        {
            // Of a repeated key the first counts.
            *slot = slot.or_else(|| checked(value, *form));
        }
    }
    Some(found)
}

/// The names of the fields.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(_, name, _)| *name)
}

fn checked(value: &str, form: Form) -> Option<&str> {
    let value = match form {
        Form::Word | Form::Number => value,
        Form::Millis => value.strip_suffix("ms")?,
    };
    let number = || value.bytes().all(|byte| byte.is_ascii_digit());
    let fits = !value.is_empty() && value.len() <= LONGEST;
    (fits && (matches!(form, Form::Word) || number())).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Vec<(&'static str, &str)>> {
        let pairs = names().zip(fields(line)?);
        Some(pairs.filter_map(|(name, value)| Some((name, value?))).collect())
    }

    #[test]
    fn lines_of_the_router() {
        let line = "at=info method=GET path=\"/a b?c=d\" host=shop.example.com request_id=1-2 \
                    fwd=\"1.2.3.4, 5.6.7.8\" dyno=web.1 connect=0ms service=18ms status=200 \
                    bytes=13 protocol=https tls_version=tls1.3";
        let expected = vec![
            ("at", "info"),
            ("method", "GET"),
            ("status", "200"),
            ("connect_ms", "0"),
            ("service_ms", "18"),
            ("bytes", "13"),
            ("protocol", "https"),
            ("tls_version", "tls1.3"),
            ("router_dyno", "web.1"),
        ];
        assert_eq!(read(line), Some(expected));
        let line = "at=error code=H12 desc=\"Request timeout\" dyno= connect= service=30000ms \
                    status=503 bytes= sock=backend";
        let expected = vec![
            ("at", "error"),
            ("code", "H12"),
            ("desc", "Request timeout"),
            ("status", "503"),
            ("service_ms", "30000"),
            ("sock", "backend"),
        ];
        assert_eq!(read(line), Some(expected));
    }

    #[test]
    fn oddities_are_read_and_broken_lines_are_none() {
        // A cut line, a comma without quotes, a repeated key, a value of the wrong form.
        assert_eq!(read("at=error desc=\"Request ti").unwrap()[1], ("desc", "Request ti"));
        assert_eq!(read("fwd=1.2.3.4,5.6.7.8 at=info"), Some(vec![("at", "info")]));
        assert_eq!(read("at=info at=error"), Some(vec![("at", "info")]));
        assert_eq!(read("status=many connect=3s bytes=-1"), Some(vec![]));
        assert_eq!(read(&format!("at={}", "x".repeat(LONGEST + 1))), Some(vec![]));
        for broken in ["", "Router is up", "at=info word", "at=\"a\"b", "at=a\"b", "=x", "a b=c"] {
            assert_eq!(read(broken), None, "{broken:?}");
        }
    }
}
