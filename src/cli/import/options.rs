//! The options of one component of Vector, taken one by one: what nobody took is told.

use super::document::{Node, Value};
use super::out::{Findings, Table};
use super::text::{Words, fetched, words};

/// The options of a component, or of a table in it.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// The full name, such as `sinks.splunk`.
    pub(super) name: String,
    pub(super) line: usize,
    left: Vec<(String, Node)>,
}

/// An option that was taken.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    /// The full name.
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) value: Value,
}

impl Options {
    /// The options in a node. What is no table is one that nobody takes.
    pub(super) fn of(name: String, node: Node) -> Self {
        let line = node.line;
        let left = if let Value::Table(entries) = node.value {
            entries
        } else {
            // Told with the rest.
            vec![(String::new(), node)]
        };
        Self { name, line, left }
    }

    /// Takes an option, if it is there and not null.
    pub(super) fn take(&mut self, option: &str) -> Option<Taken> {
        let at = self.left.iter().position(|(name, _)| name == option)?;
        let (_, node) = self.left.remove(at);
        let name = self.full(option);
        (node.value != Value::Null).then_some(Taken { name, line: node.line, value: node.value })
    }

    fn full(&self, option: &str) -> String {
        if self.name.is_empty() { option.to_owned() } else { format!("{}.{option}", self.name) }
    }

    /// The names of what was not taken.
    pub(super) fn names(self) -> Vec<String> {
        self.left.into_iter().map(|(name, _)| name).collect()
    }

    /// Takes an option that is a table.
    pub(super) fn table(&mut self, option: &str) -> Option<Self> {
        let taken = self.take(option)?;
        Some(Self::of(taken.name, Node { line: taken.line, value: taken.value }))
    }

    /// Takes a text as forebay reads it. A variable that had a default is told.
    pub(super) fn words(
        &mut self,
        option: &str,
        findings: &mut Findings,
    ) -> Option<(Taken, Words)> {
        let taken = self.take(option)?;
        let words = taken.words(findings)?;
        Some((taken, words))
    }

    /// Takes `true` or `false`.
    pub(super) fn flag(&mut self, option: &str, findings: &mut Findings) -> Option<(Taken, bool)> {
        let taken = self.take(option)?;
        let flag = if let Value::Bool(flag) = taken.value {
            Some(flag)
        } else {
            taken.value.text().and_then(|text| text.parse().ok())
        };
        if flag.is_none() {
            taken.unreadable(findings, "true or false");
        }
        Some((taken, flag?))
    }

    /// Takes a number.
    pub(super) fn number(&mut self, option: &str, findings: &mut Findings) -> Option<(Taken, f64)> {
        let taken = self.take(option)?;
        let number = if let Value::Integer(number) = taken.value {
            // Sizes and seconds, far below where an f64 loses whole numbers.
            Some(number as f64)
        } else if let Value::Float(number) = taken.value {
            Some(number)
        } else {
            taken.value.text().and_then(|text| text.parse().ok())
        };
        let number = number.filter(|number: &f64| number.is_finite() && *number >= 0.0);
        if number.is_none() {
            taken.unreadable(findings, "a number");
        }
        Some((taken, number?))
    }

    /// Takes a list of texts; one text is a list of one.
    pub(super) fn list(&mut self, option: &str) -> Vec<(usize, String)> {
        let Some(taken) = self.take(option) else { return Vec::new() };
        let nodes = Node { line: taken.line, value: taken.value }.elements();
        let text = |node: &Node| Some((node.line, node.value.text()?.to_owned()));
        nodes.iter().filter_map(text).collect()
    }

    /// Takes an option, if it is there, and tells what to do instead.
    pub(super) fn instead(&mut self, option: &str, instead: &str, findings: &mut Findings) {
        if let Some(taken) = self.take(option) {
            taken.lost(findings, instead);
        }
    }

    /// Tells what nobody took.
    pub(super) fn rest(self, findings: &mut Findings) {
        for (option, node) in self.left {
            if node.value != Value::Null {
                let name = if option.is_empty() {
                    self.name.clone()
                } else {
                    format!("{}.{option}", self.name)
                };
                let text = "has no counterpart; see docs/configuration.md for what there is";
                findings.add(node.line, name, text);
            }
        }
    }
}

impl Taken {
    /// Tells that it has no counterpart, and what to do instead.
    pub(super) fn lost(&self, findings: &mut Findings, instead: &str) {
        findings.add(self.line, &*self.name, format!("has no counterpart: {instead}"));
    }

    fn unreadable(&self, findings: &mut Findings, expected: &str) {
        let text = format!("is not {expected} in the file; write it by hand, if it matters");
        findings.add(self.line, &*self.name, text);
    }

    /// Where it stands.
    pub(super) fn origin(&self) -> String {
        format!("From {}, line {}.", self.name, self.line)
    }

    /// Its text as forebay reads it.
    pub(super) fn words(&self, findings: &mut Findings) -> Option<Words> {
        let words = match &self.value {
            Value::Text(text) => words(text),
            Value::Integer(number) => words(&number.to_string()),
            Value::Bool(_) | Value::Float(_) | Value::Null | Value::List(_) | Value::Table(_) => {
                self.unreadable(findings, "a text");
                return None;
            }
        };
        for name in &words.defaults {
            let text = format!(
                "has a default, and forebay's ${{{name}}} has none: set the variable {name}"
            );
            findings.add(self.line, &*self.name, text);
        }
        Some(words)
    }

    /// Writes a secret as a reference: to the variable or the file that it came from, or to
    /// `placeholder`. `key` is forebay's, and `credential` the name of its file.
    pub(super) fn secret(
        &self,
        table: &mut Table,
        key: &str,
        placeholder: &str,
        findings: &mut Findings,
    ) {
        let from = self.origin();
        let Some(words) = self.words(findings) else {
            table.text(key, &format!("${{{placeholder}}}"), from);
            return;
        };
        if let Some(name) = self.value.text().and_then(fetched) {
            let file = format!("${{CREDENTIALS_DIRECTORY}}/{name}");
            let comment = format!(
                "{from} Vector fetched it from a secrets backend; with systemd: \
                 LoadCredential={name}:/etc/forebay/credentials/{name}"
            );
            table.text(&format!("{key}_file"), &file, comment);
            let text = format!(
                "comes from a secrets backend, and forebay reads files: write it into a file that \
                 the service loads as the credential {name}"
            );
            findings.add(self.line, &*self.name, text);
        } else if words.reference {
            table.text(key, &words.text, from);
        } else {
            let comment = format!(
                "{from} The secret itself stood there and is not copied: set the variable, or \
                 write {key}_file with a file that only forebay can read."
            );
            table.text(key, &format!("${{{placeholder}}}"), comment);
            let text = format!(
                "holds the secret itself, which is not copied: put it into the environment \
                 variable {placeholder}, or into a file and write `{key}_file`"
            );
            findings.add(self.line, &*self.name, text);
        }
    }
}
