//! What an import makes: a configuration with a comment for each decision, and a list of what is
//! left to do.

/// Something that has no counterpart, or that needs a hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The line in Vector's file; 0 when nothing there is to blame.
    pub(super) line: usize,
    /// The full name of the key, such as `sinks.splunk.compression`.
    pub(super) key: String,
    /// What is wrong, and the nearest right thing. Never a secret.
    pub(super) text: String,
}

/// Gathers findings.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// Notes one.
    pub(super) fn add(&mut self, line: usize, key: impl Into<String>, text: impl Into<String>) {
        self.0.push(Finding { line, key: clean(&key.into()), text: clean(&text.into()) });
    }

    /// All of them in the order of the file, each once.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by(|a, b| (a.line, &a.key, &a.text).cmp(&(b.line, &b.key, &b.text)));
        self.0.dedup();
        self.0
    }
}

/// One table of the configuration.
#[derive(Debug)]
pub(super) struct Table {
    header: String,
    /// What has no key but is worth a comment, and keys with what is behind them.
    lines: Vec<(String, Option<(String, String)>)>,
}

impl Table {
    /// `header` as it is written, such as `[wal]`; empty at the top of the file.
    pub(super) fn new(header: &str) -> Self {
        Self { header: header.to_owned(), lines: Vec::new() }
    }

    /// A comment.
    pub(super) fn comment(&mut self, comment: impl Into<String>) {
        self.lines.push((comment.into(), None));
    }

    /// A key and its value in TOML.
    pub(super) fn set(&mut self, key: &str, value: impl Into<String>, comment: impl Into<String>) {
        self.lines.push((comment.into(), Some((key.to_owned(), value.into()))));
    }

    /// A key with a text.
    pub(super) fn text(&mut self, key: &str, value: &str, comment: impl Into<String>) {
        self.set(key, quoted(value), comment);
    }

    /// Whether there is a key in it.
    pub(super) fn has_keys(&self) -> bool {
        self.lines.iter().any(|(_, key)| key.is_some())
    }

    /// Writes it.
    pub(super) fn write(&self, out: &mut String) {
        if !self.header.is_empty() {
            out.push('\n');
            out.push_str(&self.header);
            out.push('\n');
        }
        for (comment, key) in &self.lines {
            for line in wrapped(comment) {
                out.push_str(&format!("# {line}\n"));
            }
            if let Some((key, value)) = key {
                out.push_str(&format!("{key} = {value}\n"));
            }
        }
    }
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Texts as TOML writes them.
pub(super) fn list<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let texts: Vec<_> = texts.into_iter().map(quoted).collect();
    format!("[{}]", texts.join(", "))
}

/// Names come from a file: they may not end a comment, nor colour a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Lines of a comment.
fn wrapped(comment: &str) -> Vec<String> {
    const WIDEST: usize = 96;
    let mut lines = vec![String::new()];
    for word in clean(comment).split_whitespace() {
        let Some(last) = lines.last_mut() else { break };
        if last.is_empty() {
            last.push_str(word);
        } else if last.len() + 1 + word.len() <= WIDEST {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_toml_whatever_the_names_are() {
        let mut table = Table::new("[wal]");
        table.comment(format!("{} [x]\ny = 1", "word ".repeat(40)));
        table.text("a", "q\"uo\\te\n", "of \u{1b}[31m");
        table.set("b", list(["1", "\"2"]), "");
        let mut out = String::new();
        table.write(&mut out);
        let read: toml::Table = out.parse().unwrap();
        assert_eq!(read["wal"]["a"].as_str(), Some("q\"uo\\te\n"));
        assert_eq!(read["wal"]["b"][1].as_str(), Some("\"2"));
        assert_eq!(read["wal"].as_table().unwrap().len(), 2, "{out}");
        assert!(!out.contains('\u{1b}'));
        assert!(out.lines().all(|line| line.len() <= 100), "{out}");
    }
}
