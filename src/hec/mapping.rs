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

use minijinja::{Environment, Value};

use super::encoder::cut;
use super::query::Query;
use crate::logplex::{Header, Kind};

mod check;
mod drains;
mod filter;

pub use check::VARIABLES;
pub use drains::{DrainInfo, DrainSettings};
pub use filter::{Filter, SEVERITIES};

use check::{check_template, is_index_name, wrong_field_name};

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
    /// Which messages are delivered, beside their kind.
    pub filter: Filter,
    /// What `event` is.
    pub format: Format,
    /// What becomes of NUL in a text.
    pub nul: Nul,
    /// Whether the keys of router lines become indexed fields.
    pub router_fields: bool,
    /// The parameters of the drain URL that count. `None`: those that a template names, and
    /// `app`. With a list no others are seen; of those in it `host`, `source`, `sourcetype` and
    /// `index` stand in where nothing is configured, and the others but `app` are indexed fields.
    pub query: Option<Vec<String>>,
    /// What is configured about drains, by drain token.
    pub drains: Arc<BTreeMap<String, DrainInfo>>,
    /// This node's id, for the event ids of frames that came without a frame id.
    pub node: String,
}

/// What `event` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The text of the message, as it came.
    #[default]
    Text,
    /// An object of the text (`message`) and where it comes from.
    Json,
    /// A text that is a JSON object is that object, byte for byte; any other is a text.
    Auto,
}

/// What becomes of NUL in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nul {
    /// It is sent, as `\u0000`.
    #[default]
    Keep,
    /// U+FFFD stands in for it, and the event says `nul=replaced`.
    Replace,
}

/// Adds the templates of indexed fields under a prefix.
fn add_fields(
    fields: &BTreeMap<String, String>,
    environment: &mut Environment<'static>,
    prefix: &str,
    errors: &mut Vec<MappingError>,
) {
    for (name, template) in fields {
        let key = format!("{prefix}fields.{name}");
        match wrong_field_name(name) {
            Some(message) => errors.push(MappingError { key, message }),
            None => check_template(environment, &key, template, errors),
        }
    }
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
            filter: Filter::default(),
            format: Format::Text,
            nul: Nul::Keep,
            router_fields: false,
            query: None,
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
            .field("filter", &self.filter)
            .field("format", &self.format)
            .field("nul", &self.nul)
            .field("router_fields", &self.router_fields)
            .field("query", &self.query)
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

/// A checked [`MappingConfig`]. Cheap to clone.
#[derive(Clone)]
pub struct Mapping(Arc<Inner>);

struct Inner {
    environment: Environment<'static>,
    config: MappingConfig,
    texts: filter::Texts,
    /// The prefix of each drain's templates.
    prefixes: BTreeMap<String, String>,
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("config", &self.0.config).finish_non_exhaustive()
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
    /// A value was longer than [`MAX_VALUE`].
    pub(super) cut: bool,
}

/// So much of what a template makes, or a parameter of the drain URL says, goes into an event. What
/// a template makes of a field can be many times as long as the field.
const MAX_VALUE: usize = 4096;

impl Mapping {
    /// Checks a configuration: template syntax, variables, filters, field names.
    ///
    /// # Errors
    /// Every mistake that was found, not only the first.
    pub fn compile(config: &MappingConfig) -> Result<Self, Vec<MappingError>> {
        let mut errors = Vec::new();
        let mut environment = check::environment();
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
        add_fields(&config.fields, &mut environment, "", &mut errors);
        for name in config.query.iter().flatten() {
            if !STAND_INS.contains(&&**name)
                && let Some(message) = wrong_field_name(name)
            {
                errors.push(MappingError { key: "query".to_owned(), message });
            }
        }
        let mut prefixes = BTreeMap::new();
        for (number, (token, info)) in (0..).zip(config.drains.iter()) {
            // By number: a token may hold anything, and is not for everybody to see.
            let prefix = format!("drain-{number}.");
            info.add(&mut environment, &prefix, &mut errors);
            prefixes.insert(token.clone(), prefix);
        }
        if config.kinds.as_ref().is_some_and(Vec::is_empty) {
            let message = "an empty list delivers nothing; leave it out to deliver all".to_owned();
            errors.push(MappingError { key: "kinds".to_owned(), message });
        }
        let texts = filter::Texts::compile(&config.filter, &mut errors);
        match texts {
            Some(texts) if errors.is_empty() => {
                Ok(Self(Arc::new(Inner { environment, config: config.clone(), texts, prefixes })))
            }
            _ => Err(errors),
        }
    }

    /// The same with other drains, or others of them delivered.
    #[must_use]
    pub(super) fn with_drains(&self, drains: &DrainSettings) -> Self {
        let config = drains.within(self.0.config.clone());
        // Whoever has read the drains has checked them; what is wrong all the same changes
        // nothing.
        Self::compile(&config).unwrap_or_else(|_| self.clone())
    }

    /// Whether messages of this kind are delivered.
    pub(super) fn delivers(&self, kind: Kind) -> bool {
        self.0.config.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }

    /// Whether messages from there are delivered, whatever their kind.
    pub(super) fn delivers_from(
        &self,
        token: Option<&str>,
        app: &str,
        header: Option<&Header<'_>>,
    ) -> bool {
        self.0.config.filter.takes(token, app, header.map(|header| header.pri & 7))
    }

    /// Whether a message with this text is delivered.
    #[inline]
    pub(super) fn delivers_text(&self, text: &str) -> bool {
        self.0.texts.take(text)
    }

    /// Whether events carry an id.
    pub(super) fn event_id(&self) -> bool {
        self.0.config.event_id
    }

    /// What `event` is.
    pub(super) fn format(&self) -> Format {
        self.0.config.format
    }

    /// What becomes of NUL.
    pub(super) fn nul(&self) -> Nul {
        self.0.config.nul
    }

    /// Whether the keys of router lines become fields.
    pub(super) fn router_fields(&self) -> bool {
        self.0.config.router_fields
    }

    /// Whether the destination, the drain or the drain URL gives a field of this name.
    pub(super) fn gives_field(&self, name: &str, token: Option<&str>) -> bool {
        let config = &self.0.config;
        config.fields.contains_key(name)
            || token.and_then(|t| self.drain(t)).is_some_and(|d| d.fields.contains_key(name))
            || config.query.iter().flatten().any(|listed| listed == name)
    }

    /// The parameters of a drain URL, as far as they count.
    pub(super) fn query(&self, raw: &str) -> Query {
        Query::parse_only(raw, self.0.config.query.as_deref())
    }

    /// Whether a frame has the token of a drain that is not configured although others are.
    pub(super) fn is_stranger(&self, token: Option<&str>) -> bool {
        let drains = &self.0.config.drains;
        !drains.is_empty() && token.is_some_and(|token| !drains.contains_key(token))
    }

    /// What is configured about a drain.
    pub(super) fn drain(&self, token: &str) -> Option<&DrainInfo> {
        self.0.config.drains.get(token)
    }

    /// This node's id.
    pub(super) fn node(&self) -> &str {
        &self.0.config.node
    }

    /// Renders all keys, for messages of a drain.
    pub(super) fn render(&self, variables: &Variables<'_>, token: Option<&str>) -> Rendered {
        let Inner { config, prefixes, .. } = &*self.0;
        let drain = token.and_then(|token| Some((self.drain(token)?, prefixes.get(token)?)));
        let mut render = Rendering {
            environment: &self.0.environment,
            context: variables.value(),
            failed: None,
            cut: false,
        };
        let listed = |name: &str| {
            let allowed = config.query.as_ref().is_some_and(|all| all.iter().any(|n| n == name));
            let value = cut(variables.query.get(name).filter(|_| allowed)?, MAX_VALUE);
            (!value.trim().is_empty()).then(|| value.to_owned())
        };
        let mut key = |name: &'static str, given: bool| {
            let own = drain.and_then(|(info, prefix)| {
                let given = info.templates().iter().any(|(key, t)| *key == name && t.is_some());
                given.then(|| format!("{prefix}{name}"))
            });
            let own = own.and_then(|key| render.one(&key, name));
            own.or_else(|| given.then(|| render.one(name, name)).flatten()).or_else(|| listed(name))
        };
        let Variables { app, app_name, proc_type, kind, .. } = variables;
        let host = key("host", config.host.is_some());
        let source = key("source", config.source.is_some());
        let sourcetype = key("sourcetype", config.sourcetype.is_some());
        let index = key("index", config.index.is_some());
        let index = index.filter(|name| {
            let good = is_index_name(name);
            if !good {
                render.failed.get_or_insert_with(|| "index".to_owned());
            }
            good
        });
        let mut fields = BTreeMap::new();
        for name in config.query.iter().flatten() {
            if !STAND_INS.contains(&&**name)
                && let Some(value) = listed(name)
            {
                fields.insert(name.clone(), value);
            }
        }
        for name in config.fields.keys() {
            let key = format!("fields.{name}");
            if let Some(value) = render.one(&key, &key) {
                fields.insert(name.clone(), value);
            }
        }
        if let Some((info, prefix)) = drain {
            for name in info.fields.keys() {
                let key = format!("fields.{name}");
                if let Some(value) = render.one(&format!("{prefix}{key}"), &key) {
                    fields.insert(name.clone(), value);
                }
            }
        }
        Rendered {
            host: host.unwrap_or_else(|| app.clone().into_owned()),
            source: source.unwrap_or_else(|| format!("heroku:{app}:{app_name}/{proc_type}")),
            sourcetype: sourcetype.unwrap_or_else(|| format!("heroku:{}", kind.as_str())),
            index,
            fields: fields.into_iter().collect(),
            failed: render.failed,
            cut: render.cut,
        }
    }
}

/// Parameters of a drain URL that stand for a key of the event, or for the app.
const STAND_INS: [&str; 5] = ["app", "host", "source", "sourcetype", "index"];

/// Templates being rendered for one source.
struct Rendering<'a> {
    environment: &'a Environment<'static>,
    context: Value,
    /// The first key whose template failed.
    failed: Option<String>,
    /// A value was too long.
    cut: bool,
}

impl Rendering<'_> {
    /// What a template makes, unless that is nothing. `name` is what a failure is called.
    fn one(&mut self, key: &str, name: &str) -> Option<String> {
        let template = self.environment.get_template(key);
        match template.and_then(|template| template.render(&self.context)) {
            Ok(mut text) => {
                if text.len() > MAX_VALUE {
                    text.truncate(text.floor_char_boundary(MAX_VALUE));
                    self.cut = true;
                }
                Some(text).filter(|text| !text.trim().is_empty())
            }
            Err(_) => {
                self.failed.get_or_insert_with(|| name.to_owned());
                None
            }
        }
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

#[cfg(test)]
mod tests;
