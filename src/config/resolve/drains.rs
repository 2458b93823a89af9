//! `[[drain]]`, in the file itself and in `drains_file`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use toml::de::DeTable;

use crate::config::raw::RawSection;
use crate::config::read::{Placed, Reader};
use crate::config::report::{Report, Reported, Scope, shown};
use crate::config::{read_text, syntax_mistakes, table};
use crate::hec::mapping::DrainInfo;
use crate::ingest;

/// The largest drains file, in bytes: some hundred thousand drains.
const LARGEST: u64 = 16 << 20;

/// The drains that are known by name, as ingest and as the destinations see them.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) ingest: Arc<ingest::Drains>,
    pub(super) destinations: super::Drains,
}

impl Known {
    /// The names of all.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.ingest.0.values().map(|drain| drain.name.as_str()).collect()
    }
}

type ByToken = BTreeMap<String, DrainInfo>;

pub(super) fn resolve(root: &RawSection<'_>, report: &mut Report<'_>) -> Result<Known, Reported> {
    let mut drains = BTreeMap::new();
    let here = all(root, &mut drains, report);
    let key = &table::DRAINS_FILE;
    let mut reader = Reader::new(Some(root), report);
    let there = match reader.written(key) {
        Ok(None) => Ok(()),
        Ok(Some(words)) => {
            reader.absolute(key, &words).and_then(|path| file(&path, &mut drains, report))
        }
        Err(mistake) => Err(mistake),
    };
    here?;
    there?;
    let seen_by_ingest = |(token, drain): (&String, &DrainInfo)| {
        (token.clone(), ingest::Drain { name: drain.app.clone(), profile: drain.profile })
    };
    let seen = ingest::Drains(drains.iter().map(seen_by_ingest).collect());
    Ok(Known { ingest: Arc::new(seen), destinations: Arc::new(drains) })
}

/// Every `[[drain]]` of a file.
fn all(
    root: &RawSection<'_>,
    drains: &mut ByToken,
    report: &mut Report<'_>,
) -> Result<(), Reported> {
    let mut first_mistake = Ok(());
    for section in root.all("drain") {
        if let Err(mistake) = drain(section, drains, report) {
            first_mistake = first_mistake.and(Err(mistake));
        }
    }
    first_mistake
}

fn drain(
    section: &RawSection<'_>,
    drains: &mut ByToken,
    report: &mut Report<'_>,
) -> Result<(), Reported> {
    let mapped = super::drain::mapped(section, report);
    let mut reader = Reader::new(Some(section), report);
    let (token, app) = (reader.text(&table::DRAIN_TOKEN), reader.text(&table::DRAIN_APP));
    let (token, app, mapped) = (token?, app?, mapped?);
    if app.value.text.trim().is_empty() {
        let fix = "write the name of the app";
        return Err(reader.mistake(&table::DRAIN_APP, app.at, "the name is empty", fix));
    }
    let text = token.value.text;
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
        let fix = "copy it from `heroku drains`";
        let problem = "this is not the token of a drain";
        return Err(reader.mistake(&table::DRAIN_TOKEN, token.at, problem, fix));
    }
    // Whoever knows a drain's token can send in its name: only its beginning is shown.
    let beginning: String = text.chars().take(8).collect();
    if drains.insert(text, DrainInfo { app: app.value.text, ..mapped }).is_some() {
        let problem = format!("the token that begins {} stands twice", shown(&beginning));
        let fix = "remove one of the two [[drain]]";
        let key = table::DRAIN_TOKEN.path;
        return Err(reader.report.mistake(Scope::File, key, token.at, problem, fix));
    }
    Ok(())
}

/// The drains of another file. Its mistakes are told with its name and lines.
fn file(
    path: &Placed<std::path::PathBuf>,
    drains: &mut ByToken,
    report: &mut Report<'_>,
) -> Result<(), Reported> {
    let key = table::DRAINS_FILE.path;
    let text = read_text(&path.value, LARGEST).map_err(|problem| {
        let problem = format!("{} {problem}", path.value.display());
        let fix = "name a TOML file of [[drain]] that the user forebay runs as may read";
        report.mistake(Scope::Key, key, path.at, problem, fix)
    })?;
    let name = path.value.display().to_string();
    let mut inner = Report::new(&name, &text, report.env());
    let (document, syntax) = DeTable::parse_recoverable(&text);
    let root = RawSection::of(document.get_ref(), &mut inner);
    for (name, at) in root.others("drain") {
        let fix = "keep it in the configuration file";
        inner.mistake(Scope::Key, name, at, "a drains file holds [[drain]] and nothing else", fix);
    }
    let read = all(&root, drains, &mut inner);
    if !syntax.is_empty() {
        syntax_mistakes(&syntax, &text, &mut inner);
    }
    if inner.is_clean() {
        return read;
    }
    let mut last = read;
    let errors = inner.into_errors();
    for error in errors.errors() {
        let line = error.line.map_or_else(String::new, |line| format!("{line}:"));
        let problem = format!("{name}:{line} {}: {}", error.key, error.problem);
        last = Err(report.mistake(Scope::Key, key, path.at, problem, error.fix.clone()));
    }
    last
}
