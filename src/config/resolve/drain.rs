//! What a `[[drain]]` says about its events.

use crate::config::key::Key;
use crate::config::raw::RawSection;
use crate::config::read::Reader;
use crate::config::report::{Report, Reported, Scope};
use crate::config::table;
use crate::hec::mapping::DrainInfo;
use crate::logplex::Profile;

/// Everything but the drain's token and app.
pub(super) fn mapped(
    section: &RawSection<'_>,
    report: &mut Report<'_>,
) -> Result<DrainInfo, Reported> {
    let fields_section = section.one("drain.fields");
    let (fields, fields_read) = Reader::new(fields_section, report).open(&table::DRAIN_FIELDS);
    let mut reader = Reader::new(Some(section), report);
    let mut template = |key: &Key| -> Result<Option<String>, Reported> {
        Ok(reader.written(key)?.map(|words| words.value.text))
    };
    let host = template(&table::DRAIN_HOST);
    let source = template(&table::DRAIN_SOURCE);
    let sourcetype = template(&table::DRAIN_SOURCETYPE);
    let index = template(&table::DRAIN_INDEX);
    let profiles =
        [("logplex", Profile::Logplex), ("shuttle", Profile::Shuttle), ("other", Profile::Other)];
    let profile = reader.choice_if_written(&table::DRAIN_PROFILE, &profiles);
    fields_read?;
    let info = DrainInfo {
        app: String::new(),
        host: host?,
        source: source?,
        sourcetype: sourcetype?,
        index: index?,
        fields,
        profile: profile?,
    };
    let Err(errors) = info.check() else { return Ok(info) };
    let mut result = Ok(());
    for error in errors {
        let (section, name) = match error.key.strip_prefix("fields.") {
            Some(name) => (fields_section, name),
            None => (Some(section), &*error.key),
        };
        let at = Reader::new(section, report).place(name);
        let fix = "docs/configuration.md says what a template may use";
        let key = format!("drain.{}", error.key);
        result = Err(report.mistake(Scope::Key, key, at, error.message, fix));
    }
    result.map(|()| info)
}
