//! Vector's `${VAR}` and `{{ field }}` in ours.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// A text of Vector, written as forebay reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// With `${NAME}` for variables, and `$$` for a dollar sign.
    pub(super) text: String,
    /// The variables.
    pub(super) variables: Vec<String>,
    /// Those for which Vector had a default. It is not kept: it may be a secret.
    pub(super) defaults: Vec<String>,
    /// Whether there is nothing in it but one variable.
    pub(super) reference: bool,
}

/// Vector's ways to name a variable: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:?message}`,
/// and `$$` for a dollar sign.
static VARIABLE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\$\$|\$(\w[\w.]*)|\$\{([\w.]+)(?:(:?-|:?\?)([^}]*))?\}|\$").ok());

/// Writes a text as forebay reads it.
pub(super) fn words(text: &str) -> Words {
    let (mut variables, mut defaults) = (Vec::new(), Vec::new());
    let mut replace = |found: &Captures<'_>| {
        let Some(name) = found.get(1).or_else(|| found.get(2)) else { return "$$".to_owned() };
        // forebay's names have no dot.
        let name = name.as_str().replace('.', "_");
        if found.get(3).is_some_and(|sign| sign.as_str().ends_with('-')) {
            defaults.push(name.clone());
        }
        let written = format!("${{{name}}}");
        variables.push(name);
        written
    };
    let text = match &*VARIABLE {
        Some(variable) => variable.replace_all(text, &mut replace).into_owned(),
        None => text.replace('$', "$$"),
    };
    let reference = matches!(variables.as_slice(), [one] if text == format!("${{{one}}}"));
    Words { text, variables, defaults, reference }
}

/// The key of a secret that Vector fetches: `SECRET[backend.key]`.
pub(super) fn fetched(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("SECRET[")?.strip_suffix(']')?;
    let key = inside.split_once('.').map_or(inside, |(_, key)| key);
    (!key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)))
        .then_some(key)
}

/// The field of an event in a template, with or without the dot of newer versions.
static FIELD: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"\{\{\s*\.?"?([\w.-]+)"?\s*\}\}"#).ok());

/// What becomes of a field that a `heroku_logs` source makes. `query` are its query parameters.
pub(super) fn variable(field: &str, query: &BTreeSet<String>) -> Option<String> {
    match field {
        "host" | "app_name" | "proc_id" => Some(field.to_owned()),
        "hostname" => Some("host".to_owned()),
        _ if query.contains(field) => Some(if field.contains('-') {
            format!("query[\"{field}\"]")
        } else {
            format!("query.{field}")
        }),
        _ => None,
    }
}

/// A template of Vector in ours, or what in it has no counterpart.
pub(super) fn template(text: &str, query: &BTreeSet<String>) -> Result<String, String> {
    let Some(field) = &*FIELD else { return Err("it cannot be read".to_owned()) };
    let mut unknown = None;
    let converted = field.replace_all(text, |found: &Captures<'_>| {
        let name = found.get(1).map_or("", |name| name.as_str());
        variable(name, query).map_or_else(
            || {
                unknown.get_or_insert_with(|| name.to_owned());
                String::new()
            },
            |name| format!("{{{{ {name} }}}}"),
        )
    });
    if let Some(name) = unknown {
        return Err(format!("the field `{name}` is made by Vector, and no message has it"));
    }
    if text.contains('%') {
        return Err("it holds a time (strftime)".to_owned());
    }
    // Only what was a field may be a variable: nothing else is to be read as minijinja.
    let rest = field.replace_all(text, "");
    if ["{{", "}}", "{%", "{#"].iter().any(|sign| rest.contains(sign)) {
        return Err("it holds what is no plain field".to_owned());
    }
    Ok(converted.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_written_as_forebay_reads_them() {
        for (vector, ours, reference) in [
            ("plain", "plain", false),
            ("$TOKEN", "${TOKEN}", true),
            ("${TOKEN}", "${TOKEN}", true),
            ("${TOKEN:-s3cr3t}", "${TOKEN}", true),
            ("${TOKEN:?write it}", "${TOKEN}", true),
            ("Splunk ${TOKEN}", "Splunk ${TOKEN}", false),
            ("a$$b", "a$$b", false),
            ("5$", "5$$", false),
            ("$a.b", "${a_b}", true),
        ] {
            let words = words(vector);
            assert_eq!((words.text.as_str(), words.reference), (ours, reference), "{vector}");
        }
        assert_eq!(words("${A:-x}${B-}${C:?y}").defaults, ["A", "B"]);
    }

    #[test]
    fn secrets_from_a_backend_are_named() {
        assert_eq!(fetched("SECRET[vault.hec]"), Some("hec"));
        assert_eq!(fetched("SECRET[vault.a/b]"), None);
        assert_eq!(fetched("plain"), None);
    }

    #[test]
    fn templates_of_known_fields_are_converted() {
        let query = BTreeSet::from(["team".to_owned(), "my-app".to_owned()]);
        let converted = |text| template(text, &query);
        assert_eq!(converted("main").as_deref(), Ok("main"));
        assert_eq!(
            converted("{{ .app_name }}-{{proc_id}}").as_deref(),
            Ok("{{ app_name }}-{{ proc_id }}")
        );
        assert_eq!(converted("{{ team }}").as_deref(), Ok("{{ query.team }}"));
        assert_eq!(converted("{{ my-app }}").as_deref(), Ok("{{ query[\"my-app\"] }}"));
        assert!(converted("{{ kubernetes.pod }}").unwrap_err().contains("kubernetes.pod"));
        assert!(converted("logs-%Y").is_err());
        assert!(converted("{{ app_name }}{% x %}").is_err());
    }
}
