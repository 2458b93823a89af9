//! Where mistakes and warnings are gathered while a file is read.

use super::Env;
use super::error::{ConfigError, ConfigErrors, place};

/// Proof that a mistake has been reported: whoever holds it may give up a value in silence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported(());

/// What a mistake rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// One key and its value. Certain even if a part of the file cannot be read.
    Key,
    /// Several keys, or one that is missing.
    File,
}

/// A place in the file: a byte, of a table that may not be in the file at all.
pub(super) type At = Option<usize>;

/// A file being read, with what was found in it.
pub(super) struct Report<'e> {
    file: &'e str,
    text: &'e str,
    /// Where each line but the first begins.
    lines: Vec<usize>,
    env: Env<'e>,
    mistakes: Vec<(At, Scope, ConfigError)>,
    warnings: Vec<(At, String)>,
    literal_secret: Option<&'static str>,
}

impl<'e> Report<'e> {
    pub(super) fn new(file: &'e str, text: &'e str, env: Env<'e>) -> Self {
        Self {
            file,
            text,
            lines: text.match_indices('\n').map(|(at, _)| at.saturating_add(1)).collect(),
            env,
            mistakes: Vec::new(),
            warnings: Vec::new(),
            literal_secret: None,
        }
    }

    /// The file, as messages name it.
    pub(super) const fn file(&self) -> &'e str {
        self.file
    }

    /// The environment.
    pub(super) const fn env(&self) -> Env<'e> {
        self.env
    }

    /// Notes a mistake.
    pub(super) fn mistake(
        &mut self,
        scope: Scope,
        key: impl Into<String>,
        at: At,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Reported {
        let line = at.map(|at| self.line(at));
        let error = ConfigError { key: key.into(), line, problem: problem.into(), fix: fix.into() };
        self.mistakes.push((at, scope, error));
        Reported(())
    }

    /// Notes something that is no mistake but that an operator should know.
    pub(super) fn warn(&mut self, key: &str, at: At, message: &str) {
        let place = place(self.file, at.map(|at| self.line(at)), key);
        self.warnings.push((at, format!("{place} {message}")));
    }

    /// Notes that the file itself holds a secret.
    pub(super) const fn holds_secret(&mut self, key: &'static str) {
        self.literal_secret = Some(key);
    }

    /// The key of a secret that stands in the file itself, if there is one.
    pub(super) const fn literal_secret(&self) -> Option<&'static str> {
        self.literal_secret
    }

    /// The number of the line that holds this byte, from 1.
    pub(super) fn line(&self, at: usize) -> u32 {
        let before = self.lines.partition_point(|start| *start <= at);
        u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The number of the character within its line, from 1.
    pub(super) fn column(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or(self.text);
        before.rsplit('\n').next().map_or(0, |line| line.chars().count()).saturating_add(1)
    }

    /// Drops what cannot be known when the file is not TOML at this byte: what stands on its
    /// line or behind it, and what is said about several keys.
    pub(super) fn keep_certain(&mut self, bad: usize) {
        let line = self.lines.partition_point(|start| *start <= bad);
        let before = line.checked_sub(1).and_then(|line| self.lines.get(line)).copied();
        let before = before.unwrap_or(0);
        self.mistakes
            .retain(|(at, scope, _)| *scope == Scope::Key && at.is_some_and(|at| at < before));
    }

    /// Whether there is any mistake.
    pub(super) const fn is_clean(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// The mistakes in the order of the file; those without a place last.
    pub(super) fn into_errors(mut self) -> ConfigErrors {
        self.mistakes.sort_by_key(|(at, _, _)| at.unwrap_or(usize::MAX));
        let errors = self.mistakes.into_iter().map(|(_, _, error)| error).collect();
        ConfigErrors::new(self.file.to_owned(), errors)
    }

    /// The warnings in the order of the file; those without a place last.
    pub(super) fn into_warnings(mut self) -> Vec<String> {
        self.warnings.sort_by_key(|(at, _)| at.unwrap_or(usize::MAX));
        self.warnings.into_iter().map(|(_, warning)| warning).collect()
    }
}

/// A text for a message: quoted, short, on one line; hidden when it could hold credentials, as
/// the `user:password@` of a URL.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.contains('@') {
        return "this value (not shown: it holds an `@`, so perhaps credentials)".to_owned();
    }
    let first = text.lines().next().unwrap_or("");
    let short: String = first.chars().take(LONGEST).collect();
    let more = if short.len() < text.len() { "..." } else { "" };
    format!("{:?}", format!("{short}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_from_one() {
        let report = Report::new("f", "ab\nüc\n", &|_| None);
        assert_eq!((report.line(0), report.column(0)), (1, 1));
        assert_eq!((report.line(2), report.column(2)), (1, 3));
        assert_eq!((report.line(3), report.column(3)), (2, 1));
        assert_eq!((report.line(5), report.column(5)), (2, 2));
        assert_eq!((report.line(99), report.column(99)), (3, 1));
    }

    #[test]
    fn shown_texts_are_short_and_hide_credentials() {
        assert_eq!(shown("8Mb"), r#""8Mb""#);
        assert_eq!(shown(r#"a"b"#), r#""a\"b""#);
        assert_eq!(shown("one\ntwo"), r#""one...""#);
        assert_eq!(shown(&"x".repeat(61)), format!("\"{}...\"", "x".repeat(60)));
        assert!(!shown("https://user:hunter2@host").contains("hunter2"));
    }
}
