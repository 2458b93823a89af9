//! Secrets: written in the file, or in a file of their own. None is ever shown.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::key::Key;
use super::read::{Placed, Reader};
use super::report::{At, Reported, Scope};
use crate::types::Secret;

/// The longest secret, in bytes. A file that holds more is not a file with a secret.
const LONGEST: u64 = 4096;

impl Reader<'_, '_, '_> {
    /// A secret from exactly one of two keys. `allowed` says of a character whether a secret may
    /// hold it, `alphabet` the same in words.
    pub(super) fn secret(
        &mut self,
        inline: &'static Key,
        file: &'static Key,
        allowed: impl Fn(char) -> bool,
        alphabet: &str,
    ) -> Result<Secret, Reported> {
        // Both are looked at, so that every mistake is found.
        let (text, path) = (self.written(inline), self.written(file));
        let (key, at, secret) = match (text?, path?) {
            (Some(_), Some(path)) => {
                let problem = format!("there is also `{}`", inline.name());
                return Err(self.report.mistake(
                    Scope::File,
                    file.path,
                    path.at,
                    problem,
                    "remove one of the two",
                ));
            }
            (None, None) => {
                let at = self.place(inline.name());
                let fix = format!("write `{}` or `{}`", inline.name(), file.name());
                return Err(self.report.mistake(Scope::File, inline.path, at, "is missing", fix));
            }
            (Some(words), None) => {
                if words.value.literal {
                    self.report.holds_secret(inline.path);
                }
                (inline, words.at, words.value.text)
            }
            (None, Some(words)) => {
                let path = self.absolute(file, &words)?;
                (file, path.at, self.read_secret(file, &path.value, path.at)?)
            }
        };
        if secret.is_empty() {
            return Err(self.mistake(key, at, "the secret is empty", "write the secret"));
        }
        if !secret.chars().all(allowed) {
            let problem = format!("the secret holds something else than {alphabet}");
            return Err(self.mistake(key, at, problem, "choose another secret"));
        }
        Ok(Secret::new(secret))
    }

    /// The content of a secret's file, less one newline at its end.
    pub(super) fn read_secret(
        &mut self,
        key: &Key,
        path: &Path,
        at: At,
    ) -> Result<String, Reported> {
        let shown = path.display();
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| {
            let mode = file.metadata()?.permissions().mode();
            file.take(LONGEST + 1).read_to_end(&mut bytes)?;
            Ok(mode)
        });
        let mode = read.map_err(|error| {
            let problem = format!("{shown} cannot be read: {error}");
            let fix = "name a file that the user forebay runs as may read";
            self.mistake(key, at, problem, fix)
        })?;
        // systemd lets nobody else into the directory of credentials. It gives the service access
        // by an ACL, whose mask stat shows as group bits, so the mode would accuse wrongly.
        let kept = (self.report.env())("CREDENTIALS_DIRECTORY")
            .is_some_and(|directory| !directory.is_empty() && path.starts_with(directory));
        if mode & 0o044 != 0 && !kept {
            let warning = format!(
                "{shown} can be read by others than its owner (mode {:04o}); `chmod 600` it",
                mode & 0o7777
            );
            self.report.warn(key.path, at, &warning);
        }
        if u64::try_from(bytes.len()).is_ok_and(|length| length > LONGEST) {
            let problem = format!("{shown} holds more than {LONGEST} bytes");
            let fix = "name a file that holds the secret and nothing else";
            return Err(self.mistake(key, at, problem, fix));
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            let problem = format!("{shown} does not hold UTF-8 text");
            let fix = "name a file that holds the secret and nothing else";
            self.mistake(key, at, problem, fix)
        })?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
    }

    /// A required text made of what a URL's user info may hold. Logplex splits user info without
    /// decoding it (LX §2.2), so that anything else would never arrive as it was written.
    pub(super) fn url_safe(&mut self, key: &Key) -> Result<Placed<String>, Reported> {
        let words = self.text(key)?;
        if !words.value.text.is_empty() && words.value.text.chars().all(is_url_safe) {
            return Ok(Placed { value: words.value.text, at: words.at });
        }
        // Not shown: it may be name and password in one.
        let problem = format!("the name is empty or holds something else than {URL_SAFE}");
        Err(self.mistake(key, words.at, problem, "choose another name"))
    }
}

/// What the user info of a drain URL may hold, in words.
pub(super) const URL_SAFE: &str = "letters, digits, `-` and `_`";

/// Whether the user info of a drain URL may hold this.
pub(super) const fn is_url_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}
