//! The parameters of a drain URL, as templates see them.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectExt};

/// A query string, taken apart. Of a repeated parameter the first counts.
#[derive(Debug, Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn parse(raw: &str) -> Self {
        Self::parse_only(raw, None)
    }

    /// Keeps only the parameters that are in a list, if there is one.
    pub(super) fn parse_only(raw: &str, allowed: Option<&[String]>) -> Self {
        let mut map = BTreeMap::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name);
            if allowed.is_none_or(|allowed| allowed.contains(&name)) {
                map.entry(name).or_insert_with(|| decode(value));
            }
        }
        Self(map)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl Object for Query {
    /// A parameter that is absent is empty: not every drain URL has to have it.
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(Value::from(key.as_str().and_then(|name| self.get(name)).unwrap_or_default()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|this| Box::new(this.0.keys().map(|name| Value::from(&**name))))
    }
}

/// Undoes percent-encoding; what is no `%XX` stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = tail;
                }
                _ => bytes.push(b'%'),
            },
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_first_of_a_name_counts() {
        let query =
            Query::parse("app=a%20b&team=x+y&app=second&&flag&odd=100%&utf8=%C3%A9&bad=%FF");
        assert_eq!(query.get("app"), Some("a b"));
        assert_eq!(query.get("team"), Some("x y"));
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.get("odd"), Some("100%"));
        assert_eq!(query.get("utf8"), Some("é"));
        assert_eq!(query.get("bad"), Some("\u{fffd}"));
        assert_eq!(query.get("missing"), None);
    }
}
