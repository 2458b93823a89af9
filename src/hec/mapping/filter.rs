//! Which messages go to a destination.

use std::fmt;

use regex::{RegexBuilder, RegexSet, RegexSetBuilder};

use super::MappingError;

/// The severities of RFC 5424, table 2, the most severe first.
pub const SEVERITIES: [&str; 8] =
    ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// The most bytes a compiled pattern may take, and the cache it matches with.
const LARGEST: usize = 1 << 20;

/// Which messages are delivered. All conditions have to hold.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only messages of these apps, as `app` in templates has them.
    pub apps: Option<Vec<String>>,
    /// Only messages of the drains with these tokens.
    pub drains: Option<Vec<String>>,
    /// Only messages at least as severe: a place in [`SEVERITIES`]. A message that says nothing
    /// about it is delivered.
    pub severity: Option<u8>,
    /// Only messages whose text matches one of these regular expressions.
    pub include: Vec<String>,
    /// No message whose text matches one of these.
    pub exclude: Vec<String>,
}

impl fmt::Debug for Filter {
    /// Drain tokens are left out: they identify a drain to whoever sends to it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter")
            .field("apps", &self.apps)
            .field("drains", &self.drains.as_ref().map(Vec::len))
            .field("severity", &self.severity)
            .field("include", &self.include)
            .field("exclude", &self.exclude)
            .finish()
    }
}

impl Filter {
    /// Whether messages from there are delivered.
    pub(super) fn takes(&self, token: Option<&str>, app: &str, severity: Option<u8>) -> bool {
        let listed = |list: &Option<Vec<String>>, value: &str| {
            list.as_ref().is_none_or(|list| list.iter().any(|item| item == value))
        };
        listed(&self.apps, app)
            && self.drains.as_ref().is_none_or(|drains| {
                token.is_some_and(|token| drains.iter().any(|drain| drain == token))
            })
            && self.severity.is_none_or(|least| severity.is_none_or(|severity| severity <= least))
    }
}

/// The patterns of a [`Filter`], compiled.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    include: Option<RegexSet>,
    exclude: Option<RegexSet>,
}

impl Texts {
    /// `None`: there are mistakes, which have been added.
    pub(super) fn compile(filter: &Filter, errors: &mut Vec<MappingError>) -> Option<Self> {
        let include = set("include", &filter.include, errors);
        let exclude = set("exclude", &filter.exclude, errors);
        Some(Self { include: include?, exclude: exclude? })
    }

    #[inline]
    pub(super) fn take(&self, text: &str) -> bool {
        self.include.as_ref().is_none_or(|set| set.is_match(text))
            && self.exclude.as_ref().is_none_or(|set| !set.is_match(text))
    }
}

fn set(key: &str, patterns: &[String], errors: &mut Vec<MappingError>) -> Option<Option<RegexSet>> {
    if patterns.is_empty() {
        return Some(None);
    }
    let before = errors.len();
    for (number, pattern) in patterns.iter().enumerate() {
        let built = RegexBuilder::new(pattern).size_limit(LARGEST).build();
        if let Err(error) = built {
            let message = if matches!(error, regex::Error::CompiledTooBig(_)) {
                "the regular expression is too large".to_owned()
            } else {
                // The last line says what is wrong; those before it draw where.
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                let last = last.strip_prefix("error: ").unwrap_or(last);
                format!("this is no regular expression: {last}")
            };
            errors.push(MappingError { key: format!("{key}.{number}"), message });
        }
    }
    if errors.len() > before {
        return None;
    }
    let built = RegexSetBuilder::new(patterns)
        .size_limit(LARGEST.saturating_mul(patterns.len()))
        .dfa_size_limit(LARGEST)
        .build();
    match built {
        Ok(set) => Some(Some(set)),
        Err(_) => {
            let message = "the regular expressions are too large together".to_owned();
            errors.push(MappingError { key: format!("{key}.0"), message });
            None
        }
    }
}
