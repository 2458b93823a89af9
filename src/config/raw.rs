//! The first stage: what was written, key by key, with its place. Unknown keys and keys of a
//! later forebay are refused here; what a value means is the second stage's business.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{Key, Later, Section, Status};
use super::report::{At, Report, Scope};
use super::table::{KEYS, SECTIONS};

/// A value as it was written.
#[derive(Debug)]
pub(super) struct Item<'d> {
    /// The TOML value.
    pub(super) value: &'d DeValue<'d>,
    /// Where its key stands.
    pub(super) at: usize,
}

/// One table as it was written.
#[derive(Debug)]
pub(super) struct RawSection<'d> {
    /// Where its header stands.
    pub(super) at: At,
    /// Its keys, by name.
    pub(super) items: BTreeMap<&'d str, Item<'d>>,
    /// The tables in it, by their full name.
    children: BTreeMap<&'static str, Vec<Self>>,
}

impl<'d> RawSection<'d> {
    /// The tables of this name in this one.
    pub(super) fn all(&self, path: &str) -> &[Self] {
        self.children.get(path).map_or(&[], Vec::as_slice)
    }

    /// The table of this name in this one, when it can be there only once.
    pub(super) fn one(&self, path: &str) -> Option<&Self> {
        self.all(path).first()
    }

    /// What stands in this table besides the tables of this name.
    pub(super) fn others(&self, path: &str) -> Vec<(&str, At)> {
        let items = self.items.iter().map(|(name, item)| (*name, Some(item.at)));
        let tables = self.children.iter().filter(|(name, _)| **name != path);
        let tables = tables.map(|(name, all)| (*name, all.first().and_then(|table| table.at)));
        items.chain(tables).collect()
    }

    /// Sorts a whole file's table into sections.
    pub(super) fn of(root: &'d DeTable<'d>, report: &mut Report<'_>) -> Self {
        walk("", root, None, report)
    }
}

fn walk<'d>(
    path: &'static str,
    table: &'d DeTable<'d>,
    at: At,
    report: &mut Report<'_>,
) -> RawSection<'d> {
    let mut section = RawSection { at, items: BTreeMap::new(), children: BTreeMap::new() };
    for (name, value) in table {
        let at = name.span().start;
        let name: &'d str = name.get_ref();
        if let Some(child) = SECTIONS
            .iter()
            .find(|child| !child.path.is_empty() && child.parent() == path && child.name() == name)
        {
            let tables = tables(child, value, at, report);
            section.children.insert(child.path, tables);
            continue;
        }
        let known =
            KEYS.iter().find(|key| key.section() == path && (key.name() == name || key.is_open()));
        match known {
            Some(Key { status: Status::Supported, .. }) => {
                section.items.insert(name, Item { value: value.get_ref(), at });
            }
            Some(Key { path, status: Status::Later(later), .. }) => {
                not_yet(path, later, at, report);
            }
            None => unknown(path, name, at, report),
        }
    }
    section
}

/// The tables behind one name: one, or as many as were written with `[[...]]`.
fn tables<'d>(
    section: &'static Section,
    value: &'d Spanned<DeValue<'d>>,
    at: usize,
    report: &mut Report<'_>,
) -> Vec<RawSection<'d>> {
    if let Status::Later(later) = &section.status {
        not_yet(section.path, later, at, report);
        return Vec::new();
    }
    let mut found = Vec::new();
    match value.get_ref() {
        DeValue::Table(table) if !section.repeated => {
            found.push(walk(section.path, table, Some(at), report));
        }
        DeValue::Array(array) if section.repeated => {
            for element in array.iter() {
                if let DeValue::Table(table) = element.get_ref() {
                    let at = element.span().start;
                    found.push(walk(section.path, table, Some(at), report));
                } else {
                    wrong_shape(section, "holds something that is no table", at, report);
                }
            }
        }
        // What is inside is looked at all the same, so that every mistake is found.
        DeValue::Table(table) => {
            wrong_shape(section, "is written as one table, but there may be several", at, report);
            found.push(walk(section.path, table, Some(at), report));
        }
        DeValue::Array(array) => {
            wrong_shape(section, "is written as a list, but there is only one", at, report);
            if let Some(DeValue::Table(table)) = array.first().map(Spanned::get_ref) {
                found.push(walk(section.path, table, Some(at), report));
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {
            wrong_shape(section, "is a table, not a value", at, report);
        }
    }
    found
}

fn wrong_shape(section: &Section, problem: &str, at: usize, report: &mut Report<'_>) {
    let fix = format!("open it with `{}`", section.header());
    report.mistake(Scope::Key, section.path, Some(at), problem, fix);
}

fn not_yet(path: &str, later: &Later, at: usize, report: &mut Report<'_>) {
    let problem = format!("not yet supported: it comes with {}", later.with);
    report.mistake(Scope::Key, path, Some(at), problem, later.meanwhile);
}

fn unknown(path: &str, name: &str, at: usize, report: &mut Report<'_>) {
    let full = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let fix = meant(path, name)
        .unwrap_or_else(|| "remove it, or look for its name in docs/configuration.md".to_owned());
    report.mistake(Scope::Key, full, Some(at), "unknown key", fix);
}

/// What the writer of an unknown key may have had in mind: a key or table of the same table that
/// is spelled nearly so, or a key of another table that is spelled exactly so.
fn meant(path: &str, name: &str) -> Option<String> {
    let here = KEYS.iter().filter(|key| key.section() == path && !key.is_open());
    let inner = SECTIONS.iter().filter(|s| !s.path.is_empty() && s.parent() == path);
    let names = here.map(|key| (key.name(), format!("`{}`", key.name())));
    let headers = inner.map(|section| (section.name(), format!("`{}`", section.header())));
    let distance = |candidate: &str| strsim::damerau_levenshtein(candidate, name);
    let near = names
        .chain(headers)
        .map(|(candidate, text)| (distance(candidate), candidate, text))
        .filter(|(distance, candidate, _)| *distance <= candidate.len().div_euclid(3).max(1))
        .min_by_key(|(distance, _, _)| *distance);
    if let Some((_, _, text)) = near {
        return Some(format!("did you mean {text}?"));
    }
    let elsewhere: Vec<String> =
        KEYS.iter().filter(|key| key.name() == name).map(|key| format!("`{}`", key.path)).collect();
    (!elsewhere.is_empty()).then(|| format!("did you mean {}?", elsewhere.join(" or ")))
}
