//! What only a restart can change.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash as _, Hasher as _};

use toml::de::DeValue;

use super::key::{Key, Preset};
use super::raw::RawSection;
use super::table::{KEYS, SECTIONS};

/// The keys of a configuration that have no effect while forebay runs, with digests of what was
/// written. Those that say what holds anyway are left out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fixed(BTreeMap<String, u64>);

impl fmt::Debug for Fixed {
    /// The digests are of no use to anybody else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fixed")
    }
}

impl Fixed {
    pub(super) fn of(root: &RawSection<'_>) -> Self {
        let mut all = BTreeMap::new();
        gather(root, "", "", &mut all);
        Self(all)
    }

    /// The keys that are different in another configuration, by their full names; those of a
    /// table that may be repeated with its name or number: `destination[splunk].endpoints`.
    #[must_use]
    pub fn changes(&self, other: &Self) -> Vec<String> {
        let keys = self.0.keys().chain(other.0.keys().filter(|key| !self.0.contains_key(*key)));
        let mut all: Vec<String> =
            keys.filter(|key| self.0.get(*key) != other.0.get(*key)).cloned().collect();
        all.sort();
        all
    }
}

fn gather(section: &RawSection<'_>, path: &str, label: &str, all: &mut BTreeMap<String, u64>) {
    let full =
        |name: &str| if label.is_empty() { name.to_owned() } else { format!("{label}.{name}") };
    for (name, item) in &section.items {
        let key = KEYS.iter().find(|k| k.section() == path && (k.name() == *name || k.is_open()));
        if let Some(key) = key
            && !key.live
            && !says_nothing(key, item.value)
        {
            all.insert(full(name), digest(item.value));
        }
    }
    for inner in SECTIONS.iter().filter(|s| !s.path.is_empty() && s.parent() == path) {
        for (number, table) in section.all(inner.path).iter().enumerate() {
            let mut label = full(inner.name());
            if inner.repeated {
                let name = match table.items.get("name").map(|item| item.value) {
                    Some(DeValue::String(name)) => name.to_string(),
                    _ => number.to_string(),
                };
                label = format!("{label}[{name}]");
            }
            gather(table, inner.path, &label, all);
        }
    }
}

/// Whether a key says what holds without it.
fn says_nothing(key: &Key, value: &DeValue<'_>) -> bool {
    match (key.preset, value) {
        (Preset::Value(preset), DeValue::String(text)) => text == preset,
        (Preset::Value(preset), DeValue::Integer(number)) => number.as_str() == preset,
        (Preset::Value(preset), DeValue::Boolean(flag)) => flag.to_string() == preset,
        _ => false,
    }
}

/// Of a secret, too: nobody sees it, and it says next to nothing.
fn digest(value: &DeValue<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash(value, &mut hasher);
    hasher.finish()
}

fn hash(value: &DeValue<'_>, hasher: &mut DefaultHasher) {
    match value {
        DeValue::String(text) => text.hash(hasher),
        DeValue::Integer(number) => number.as_str().hash(hasher),
        DeValue::Float(number) => number.as_str().hash(hasher),
        DeValue::Boolean(flag) => flag.hash(hasher),
        DeValue::Datetime(time) => time.to_string().hash(hasher),
        DeValue::Array(array) => {
            array.len().hash(hasher);
            array.iter().for_each(|element| hash(element.get_ref(), hasher));
        }
        DeValue::Table(table) => {
            table.len().hash(hasher);
            for (name, element) in table {
                name.get_ref().hash(hasher);
                hash(element.get_ref(), hasher);
            }
        }
    }
}
