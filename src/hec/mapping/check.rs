//! What a template and the name of a field may be.

use std::sync::Arc;

use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use super::super::query::Query;
use super::{MappingError, Variables};
use crate::logplex::Kind;

/// The variables a template may use.
///
/// - `app`: the configured app of the drain; without one `query.app`; without that the syslog
///   hostname, unless it is `-` or one of the constants `host` and `heroku`, or the drain token;
///   without that the first 8 characters of the drain token; without one `heroku`.
/// - `drain`: the configured app of the drain, or the first 8 characters of its token.
/// - `host`, `app_name`, `proc_id`: as the syslog header has them, `-` where there is none.
/// - `proc_type`: `web` of `web.1`.
/// - `severity` (`info`), `facility` (`local7`): in words.
/// - `kind`: `app`, `api`, `router`, `system`, `logplex`, `postgres`, `redis` or `addon`.
/// - `query`: the parameters of the drain URL, such as `query.team`; empty where absent.
pub const VARIABLES: [&str; 10] = [
    "app",
    "drain",
    "host",
    "app_name",
    "proc_id",
    "proc_type",
    "severity",
    "facility",
    "kind",
    "query",
];

/// Fields that forebay writes itself.
const OWN_FIELDS: [&str; 20] = [
    "heroku_app",
    "drain",
    "unknown_drain",
    "appname",
    "dyno",
    "dyno_type",
    "severity",
    "facility",
    "utf8",
    "framing",
    "count_mismatch",
    "truncated",
    "ts_source",
    "mapping_error",
    "event_id",
    "chunk",
    "nul",
    "loss_code",
    "loss_messages",
    "router_dyno",
];

/// Fields Splunk fills itself (Splunk docs: "Use default fields"): internal, basic, date and
/// time. Setting them as indexed fields gives an event two values, or is ignored.
const SPLUNK_FIELDS: [&str; 17] = [
    "host",
    "source",
    "sourcetype",
    "index",
    "event",
    "time",
    "fields",
    "channel",
    "linecount",
    "punct",
    "splunk_server",
    "splunk_server_group",
    "timestamp",
    "timestartpos",
    "timeendpos",
    "eventtype",
    "tag",
];

/// An environment as every template sees it.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment
}

/// Adds a template, looks for unknown variables in all its branches, and renders it once for
/// every kind of message, which finds unknown filters and most mistakes of type.
pub(super) fn check_template(
    environment: &mut Environment<'static>,
    key: &str,
    source: &str,
    errors: &mut Vec<MappingError>,
) {
    let mut wrong = |message: String| errors.push(MappingError { key: key.to_owned(), message });
    if let Err(error) = environment.add_template_owned(key.to_owned(), source.to_owned()) {
        return wrong(error.to_string());
    }
    let template = match environment.get_template(key) {
        Ok(template) => template,
        Err(error) => return wrong(error.to_string()),
    };
    let mut names: Vec<String> = template.undeclared_variables(false).into_iter().collect();
    names.sort();
    let mut unknown = names.iter().filter(|name| {
        !VARIABLES.contains(&name.as_str())
            && !environment.globals().any(|(global, _)| global == name.as_str())
    });
    if let Some(name) = unknown.next() {
        return wrong(format!(
            "`{name}` is no variable of a template; there are {}",
            VARIABLES.join(", ")
        ));
    }
    let query = Arc::new(Query::parse(""));
    for kind in Kind::ALL {
        let probe = Variables {
            app: "checkout".into(),
            drain: "checkout",
            host: "host".into(),
            app_name: "app".into(),
            proc_id: "web.1".into(),
            proc_type: "web".into(),
            severity: "info",
            facility: "local7",
            kind,
            query: &query,
        };
        if let Err(error) = template.render(probe.value()) {
            return wrong(error.to_string());
        }
    }
}

/// Splunk docs ("Configure index-time field extraction", "About fields"): names are made of
/// letters, digits, `.`, `:` and `_` and do not begin with a digit or `_`, which marks internal
/// fields.
pub(super) fn wrong_field_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a field needs a name".to_owned());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_');
    if let Some(c) = name.chars().find(|&c| !fits(c)) {
        return Some(format!(
            "a field name is made of letters, digits, `.`, `:` and `_`, not `{c}`"
        ));
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return Some("a field name cannot begin with a digit".to_owned());
    }
    if name.starts_with('_') || name.starts_with("date_") || SPLUNK_FIELDS.contains(&name) {
        return Some(format!("`{name}` is a field that Splunk keeps to itself"));
    }
    if name.starts_with("forebay_") || OWN_FIELDS.contains(&name) {
        return Some(format!("`{name}` is a field that forebay writes itself"));
    }
    None
}

/// Splunk docs ("Create custom indexes"): digits, lower-case letters, `_` and `-`. A name with
/// anything else is answered with code 7.
pub(super) fn is_index_name(name: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    !name.is_empty() && name.len() <= 80 && !name.starts_with('-') && name.bytes().all(fits)
}
