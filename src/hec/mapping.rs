//! What a destination makes of a message: the configured templates, checked once, rendered per
//! routing key.
//!
//! A template is [minijinja](https://docs.rs/minijinja) text over [`VARIABLES`]. What a key says
//! when no template is given is in [`MappingConfig`]. All checks are made by
//! [`Mapping::compile`]; rendering never stops a message: a template that fails for one message
//! gives way to the default, and the event carries `mapping_error=<key>`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use super::query::Query;
use crate::logplex::Kind;

/// How messages become events. What the configuration file says, not yet checked.
#[derive(Clone)]
pub struct MappingConfig {
    /// `host`. Default: `{{ app }}`.
    pub host: Option<String>,
    /// `source`. Default: `heroku:{{ app }}:{{ app_name }}/{{ proc_type }}`.
    pub source: Option<String>,
    /// `sourcetype`. Default: `heroku:{{ kind }}`.
    pub sourcetype: Option<String>,
    /// `index`. Default: none is named, and the HEC token's own index applies.
    pub index: Option<String>,
    /// Indexed fields beside the ones forebay writes: name and template. One that renders to
    /// nothing is left out of that event.
    pub fields: BTreeMap<String, String>,
    /// Whether every event carries an `event_id` that stays the same however often it is sent.
    pub event_id: bool,
    /// The kinds of messages that are delivered; the others are counted as filtered. `None`: all.
    pub kinds: Option<Vec<Kind>>,
    /// What is configured about drains, by drain token.
    pub drains: Arc<BTreeMap<String, DrainInfo>>,
    /// This node's id, for the event ids of frames that came without a frame id.
    pub node: String,
}

/// What is configured about one drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainInfo {
    /// The Heroku app the drain belongs to.
    pub app: String,
}

impl Default for MappingConfig {
    fn default() -> Self {
        Self {
            host: None,
            source: None,
            sourcetype: None,
            index: None,
            fields: BTreeMap::new(),
            event_id: true,
            kinds: None,
            drains: Arc::default(),
            node: String::new(),
        }
    }
}

impl fmt::Debug for MappingConfig {
    /// Drain tokens are left out: they identify a drain to whoever sends to it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappingConfig")
            .field("host", &self.host)
            .field("source", &self.source)
            .field("sourcetype", &self.sourcetype)
            .field("index", &self.index)
            .field("fields", &self.fields)
            .field("event_id", &self.event_id)
            .field("kinds", &self.kinds)
            .field("drains", &self.drains.len())
            .field("node", &self.node)
            .finish()
    }
}

/// One mistake in a [`MappingConfig`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct MappingError {
    /// The key the mistake is in, such as `host` or `fields.env`.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
}

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
const OWN_FIELDS: [&str; 14] = [
    "heroku_app",
    "drain",
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

/// A checked [`MappingConfig`]. Cheap to clone.
#[derive(Clone)]
pub struct Mapping(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    environment: Environment<'static>,
    host: bool,
    source: bool,
    sourcetype: bool,
    index: bool,
    /// Field names and the names of their templates.
    fields: Vec<(String, String)>,
    event_id: bool,
    kinds: Option<Vec<Kind>>,
    drains: Arc<BTreeMap<String, DrainInfo>>,
    node: String,
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("fields", &self.0.fields).finish_non_exhaustive()
    }
}

/// What templates see of one message. All messages of one routing key look the same.
#[derive(Clone, Debug)]
pub(super) struct Variables<'a> {
    pub(super) app: Cow<'a, str>,
    pub(super) drain: &'a str,
    pub(super) host: Cow<'a, str>,
    pub(super) app_name: Cow<'a, str>,
    pub(super) proc_id: Cow<'a, str>,
    pub(super) proc_type: Cow<'a, str>,
    pub(super) severity: &'static str,
    pub(super) facility: &'static str,
    pub(super) kind: Kind,
    pub(super) query: &'a Arc<Query>,
}

/// What the templates made of [`Variables`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    pub(super) host: String,
    pub(super) source: String,
    pub(super) sourcetype: String,
    pub(super) index: Option<String>,
    pub(super) fields: Vec<(String, String)>,
    /// The first key whose template failed.
    pub(super) failed: Option<String>,
}

impl Mapping {
    /// Checks a configuration: template syntax, variables, filters, field names.
    ///
    /// # Errors
    /// Every mistake that was found, not only the first.
    pub fn compile(config: &MappingConfig) -> Result<Self, Vec<MappingError>> {
        let mut errors = Vec::new();
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);

        let keys = [
            ("host", &config.host),
            ("source", &config.source),
            ("sourcetype", &config.sourcetype),
            ("index", &config.index),
        ];
        for (key, template) in keys {
            if let Some(template) = template {
                check_template(&mut environment, key, template, &mut errors);
            }
        }
        let mut fields = Vec::with_capacity(config.fields.len());
        for (name, template) in &config.fields {
            let key = format!("fields.{name}");
            if let Some(message) = wrong_field_name(name) {
                errors.push(MappingError { key, message });
            } else {
                check_template(&mut environment, &key, template, &mut errors);
                fields.push((name.clone(), key));
            }
        }
        if config.kinds.as_ref().is_some_and(Vec::is_empty) {
            let message = "an empty list delivers nothing; leave it out to deliver all".to_owned();
            errors.push(MappingError { key: "kinds".to_owned(), message });
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self(Arc::new(Inner {
            environment,
            host: config.host.is_some(),
            source: config.source.is_some(),
            sourcetype: config.sourcetype.is_some(),
            index: config.index.is_some(),
            fields,
            event_id: config.event_id,
            kinds: config.kinds.clone(),
            drains: Arc::clone(&config.drains),
            node: config.node.clone(),
        })))
    }

    /// The same with other drains.
    #[must_use]
    pub(super) fn with_drains(&self, drains: Arc<BTreeMap<String, DrainInfo>>) -> Self {
        Self(Arc::new(Inner { drains, ..(*self.0).clone() }))
    }

    /// Whether messages of this kind are delivered.
    pub(super) fn delivers(&self, kind: Kind) -> bool {
        self.0.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }

    /// Whether events carry an id.
    pub(super) fn event_id(&self) -> bool {
        self.0.event_id
    }

    /// What is configured about a drain.
    pub(super) fn drain(&self, token: &str) -> Option<&DrainInfo> {
        self.0.drains.get(token)
    }

    /// This node's id.
    pub(super) fn node(&self) -> &str {
        &self.0.node
    }

    /// Renders all keys.
    pub(super) fn render(&self, variables: &Variables<'_>) -> Rendered {
        let mut failed = None;
        let context = variables.value();
        let mut one = |given: bool, key: &str| -> Option<String> {
            if !given {
                return None;
            }
            let template = self.0.environment.get_template(key);
            match template.and_then(|template| template.render(&context)) {
                Ok(text) => Some(text).filter(|text| !text.trim().is_empty()),
                Err(_) => {
                    failed.get_or_insert_with(|| key.to_owned());
                    None
                }
            }
        };
        let Variables { app, app_name, proc_type, kind, .. } = variables;
        let host = one(self.0.host, "host").unwrap_or_else(|| app.clone().into_owned());
        let source = one(self.0.source, "source")
            .unwrap_or_else(|| format!("heroku:{app}:{app_name}/{proc_type}"));
        let sourcetype = one(self.0.sourcetype, "sourcetype")
            .unwrap_or_else(|| format!("heroku:{}", kind.as_str()));
        let index = one(self.0.index, "index");
        let fields = self.0.fields.iter();
        let fields =
            fields.filter_map(|(name, key)| Some((name.clone(), one(true, key)?))).collect();
        Rendered { host, source, sourcetype, index, fields, failed }
    }
}

impl Variables<'_> {
    fn value(&self) -> Value {
        Value::from_pairs([
            ("app", Value::from(&*self.app)),
            ("drain", Value::from(self.drain)),
            ("host", Value::from(&*self.host)),
            ("app_name", Value::from(&*self.app_name)),
            ("proc_id", Value::from(&*self.proc_id)),
            ("proc_type", Value::from(&*self.proc_type)),
            ("severity", Value::from(self.severity)),
            ("facility", Value::from(self.facility)),
            ("kind", Value::from(self.kind.as_str())),
            ("query", Value::from_dyn_object(Arc::clone(self.query))),
        ])
    }
}

/// Adds a template, looks for unknown variables in all its branches, and renders it once for
/// every kind of message, which finds unknown filters and most mistakes of type.
fn check_template(
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
fn wrong_field_name(name: &str) -> Option<String> {
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

#[cfg(test)]
mod tests;
