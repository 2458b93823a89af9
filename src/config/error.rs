//! Mistakes in a configuration: found all at once, each with its key, its line and its fix.

use std::fmt;

/// One mistake.
///
/// Neither text ever holds a secret: the value of a secret key is not shown, nor is a value that
/// came out of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The full name of the key, such as `ingest.max_body`. Empty when the file as a whole is
    /// meant.
    pub key: String,
    /// The line, counted from 1. `None` when nothing in the file is to blame: something is
    /// missing.
    pub line: Option<u32>,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub fix: String,
}

/// Every mistake of one configuration file, in the order of lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    file: String,
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(super) const fn new(file: String, errors: Vec<ConfigError>) -> Self {
        Self { file, errors }
    }

    /// The one mistake of a file that cannot even be read.
    pub(super) fn unreadable(file: String, problem: String) -> Self {
        let fix = "name a readable file with `-c FILE` or FOREBAY_CONFIG".to_owned();
        Self { file, errors: vec![ConfigError { key: String::new(), line: None, problem, fix }] }
    }

    /// The file, as it was named by whoever asked for it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The mistakes, in the order of lines; those without a line come last.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }
}

impl fmt::Display for ConfigErrors {
    /// One line for each mistake: `FILE:LINE: KEY: PROBLEM; FIX`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&place(&self.file, error.line, &error.key))?;
            write!(f, " {}; {}", error.problem, error.fix)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// `FILE:LINE: KEY:`, as far as there is a line and a key.
pub(super) fn place(file: &str, line: Option<u32>, key: &str) -> String {
    let line = line.map_or_else(String::new, |line| format!("{line}:"));
    let key = if key.is_empty() { String::new() } else { format!(" {key}:") };
    format!("{file}:{line}{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_what_is_known() {
        assert_eq!(place("f.toml", Some(4), "wal.min_free"), "f.toml:4: wal.min_free:");
        assert_eq!(place("f.toml", Some(4), ""), "f.toml:4:");
        assert_eq!(place("f.toml", None, "destination"), "f.toml: destination:");
        assert_eq!(place("f.toml", None, ""), "f.toml:");
    }
}
