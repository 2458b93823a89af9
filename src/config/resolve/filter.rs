//! `[destination.filter]`.

use super::Drains;
use crate::config::key::Key;
use crate::config::raw::RawSection;
use crate::config::read::Reader;
use crate::config::report::{Report, Reported};
use crate::config::table;
use crate::hec::mapping::{Filter, SEVERITIES};
use crate::logplex::Kind;

/// Every condition but the kinds.
pub(super) fn resolve(
    section: Option<&RawSection<'_>>,
    drains: &Drains,
    report: &mut Report<'_>,
) -> Result<Filter, Reported> {
    let mut reader = Reader::new(section, report);
    let tokens = tokens(&mut reader, drains);
    let apps = texts(&mut reader, &table::FILTER_APPS);
    let places: Vec<_> = SEVERITIES.into_iter().zip(0u8..).collect();
    let severity = reader.choice_if_written(&table::FILTER_SEVERITY, &places);
    let include = texts(&mut reader, &table::FILTER_INCLUDE);
    let exclude = texts(&mut reader, &table::FILTER_EXCLUDE);
    Ok(Filter {
        apps: apps?,
        drains: tokens?,
        severity: severity?,
        include: include?.unwrap_or_default(),
        exclude: exclude?.unwrap_or_default(),
    })
}

/// A list as it was written.
pub(super) fn texts(
    reader: &mut Reader<'_, '_, '_>,
    key: &Key,
) -> Result<Option<Vec<String>>, Reported> {
    let list = reader.list(key)?;
    Ok(list.map(|list| list.into_iter().map(|words| words.value.text).collect()))
}

/// The tokens of drains that are named by app or by token.
fn tokens(
    reader: &mut Reader<'_, '_, '_>,
    drains: &Drains,
) -> Result<Option<Vec<String>>, Reported> {
    let key = &table::FILTER_DRAINS;
    let Some(list) = reader.list(key)? else { return Ok(None) };
    let mut tokens = Vec::with_capacity(list.len());
    let mut result = Ok(());
    for words in list {
        let text = words.value.text;
        let named: Vec<_> = drains
            .iter()
            .filter(|(_, info)| info.app == text)
            .map(|(token, _)| token.clone())
            .collect();
        if !named.is_empty() {
            tokens.extend(named);
        } else if drains.contains_key(&text) || text.starts_with("d.") {
            tokens.push(text);
        } else {
            let problem = format!("{} is no drain", words.value.shown);
            let fix = "write the `app` of a [[drain]], or a token that begins with `d.`";
            result = Err(reader.mistake(key, words.at, problem, fix));
        }
    }
    result.map(|()| Some(tokens))
}

pub(super) fn kinds(
    section: Option<&RawSection<'_>>,
    report: &mut Report<'_>,
) -> Result<Option<Vec<Kind>>, Reported> {
    let key = &table::FILTER_KINDS;
    let mut reader = Reader::new(section, report);
    let Some(list) = reader.list(key)? else { return Ok(None) };
    let kinds: Vec<_> = list
        .into_iter()
        .map(|words| {
            Kind::parse(&words.value.text).ok_or_else(|| {
                let all = Kind::ALL.map(Kind::as_str);
                let problem = format!("{} is not a kind of message", words.value.shown);
                let fix = format!("write some of {}", all.join(", "));
                reader.mistake(key, words.at, problem, fix)
            })
        })
        .collect();
    kinds.into_iter().collect::<Result<_, _>>().map(Some)
}
