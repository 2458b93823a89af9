//! What is configured about drains, as far as it can change while a destination runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::Environment;

use super::check::{self, check_template};
use super::{MappingConfig, MappingError, add_fields};
use crate::logplex::Profile;

/// What is configured about one drain. What it says goes before what the destination says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainInfo {
    /// The Heroku app the drain belongs to.
    pub app: String,
    /// Template of `host`.
    pub host: Option<String>,
    /// Template of `source`.
    pub source: Option<String>,
    /// Template of `sourcetype`.
    pub sourcetype: Option<String>,
    /// Template of `index`.
    pub index: Option<String>,
    /// Further indexed fields: name and template.
    pub fields: BTreeMap<String, String>,
    /// How its messages are read, whatever the headers of the frame say.
    pub profile: Option<Profile>,
}

impl DrainInfo {
    /// The keys that stand for a template, and what is in them.
    pub(super) fn templates(&self) -> [(&'static str, Option<&String>); 4] {
        let Self { host, source, sourcetype, index, .. } = self;
        [
            ("host", host.as_ref()),
            ("source", source.as_ref()),
            ("sourcetype", sourcetype.as_ref()),
            ("index", index.as_ref()),
        ]
    }

    /// Whether it says anything about the events of its messages.
    #[must_use]
    pub fn maps(&self) -> bool {
        !self.fields.is_empty() || self.templates().iter().any(|(_, template)| template.is_some())
    }

    /// Checks its templates and names, as [`Mapping::compile`](super::Mapping::compile) does for a
    /// destination.
    ///
    /// # Errors
    /// Every mistake.
    pub fn check(&self) -> Result<(), Vec<MappingError>> {
        let mut errors = Vec::new();
        self.add(&mut check::environment(), "", &mut errors);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Adds its templates under a prefix.
    pub(super) fn add(
        &self,
        environment: &mut Environment<'static>,
        prefix: &str,
        errors: &mut Vec<MappingError>,
    ) {
        for (key, template) in self.templates() {
            if let Some(template) = template {
                check_template(environment, &format!("{prefix}{key}"), template, errors);
            }
        }
        add_fields(&self.fields, environment, prefix, errors);
    }
}

/// The drains as one configuration has them, and which of them are delivered. They change
/// together: a filter names drains and apps, and a drain that is made anew has another token.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DrainSettings {
    /// What is configured about drains, by drain token ([`MappingConfig::drains`]).
    pub known: Arc<BTreeMap<String, DrainInfo>>,
    /// The tokens of the drains that are delivered ([`Filter::drains`](super::Filter::drains)).
    pub wanted: Option<Vec<String>>,
    /// The apps that are delivered ([`Filter::apps`](super::Filter::apps)).
    pub wanted_apps: Option<Vec<String>>,
}

impl fmt::Debug for DrainSettings {
    /// Drain tokens are left out, as in [`MappingConfig`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainSettings")
            .field("known", &self.known.len())
            .field("wanted", &self.wanted.as_ref().map(Vec::len))
            .field("wanted_apps", &self.wanted_apps)
            .finish()
    }
}

impl DrainSettings {
    /// Those of a configuration.
    #[must_use]
    pub fn of(config: &MappingConfig) -> Self {
        Self {
            known: Arc::clone(&config.drains),
            wanted: config.filter.drains.clone(),
            wanted_apps: config.filter.apps.clone(),
        }
    }

    /// A configuration with these in place of its own.
    #[must_use]
    pub fn within(&self, mut config: MappingConfig) -> MappingConfig {
        config.drains = Arc::clone(&self.known);
        config.filter.drains.clone_from(&self.wanted);
        config.filter.apps.clone_from(&self.wanted_apps);
        config
    }
}
