//! What there is to know about one key of the configuration, and about one table of keys.

use std::time::Duration;

use super::duration;
use crate::types::ByteSize;

/// One key. Parsing, refusals, `docs/configuration.md` and `ops/forebay.toml` all come from it.
#[derive(Debug)]
pub(super) struct Key {
    /// The full name, `ingest.max_body`. A last part in angle brackets stands for any name.
    pub(super) path: &'static str,
    /// What may be written.
    pub(super) kind: Kind,
    /// What holds when nothing is written.
    pub(super) preset: Preset,
    /// What it does: whole sentences.
    pub(super) doc: &'static str,
    /// Whether this forebay can do it.
    pub(super) status: Status,
    /// Whether a change takes effect on SIGHUP. If not, it waits for a restart.
    pub(super) live: bool,
}

/// What may be written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// An absolute path.
    Path,
    /// A text that is never shown.
    Secret,
    /// An absolute path of a file that holds a secret.
    SecretFile,
    /// An IP address and a port, or `systemd`.
    Listen,
    /// An IP address and a port, or `unix:` and an absolute path.
    Socket,
    /// A list of texts.
    List,
    /// A minijinja template.
    Template,
    /// A number of bytes with its unit.
    Size { min: ByteSize, max: ByteSize },
    /// A duration with its units.
    Time { min: Duration, max: Duration },
    /// A whole number.
    Count { min: u64, max: u64 },
    /// `true` or `false`.
    Flag,
    /// One of several words.
    Choice { now: &'static [&'static str], later: &'static [LaterValue] },
}

/// What holds when nothing is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Preset {
    /// This, as it would be written (without quotes).
    Value(&'static str),
    /// Nothing: the key has to be written. An example, in TOML.
    Required { example: &'static str },
    /// Nothing, which is fine, and what that means. An example, in TOML.
    Absent { example: &'static str, means: &'static str },
}

/// Whether this forebay can do what a key asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Status {
    /// It can.
    Supported,
    /// A later one will. The key is recognised and refused, never ignored.
    Later(Later),
}

/// What is still missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Later {
    /// What will bring it, to be read after "it comes with".
    pub(super) with: &'static str,
    /// What to do until then.
    pub(super) meanwhile: &'static str,
}

/// A value that is recognised and refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaterValue {
    /// The value; one that ends with `:` stands for all that begin so.
    pub(super) value: &'static str,
    /// What will bring it, to be read after "it comes with".
    pub(super) with: &'static str,
}

/// One table of keys.
#[derive(Debug)]
pub(super) struct Section {
    /// The full name, `destination.batch`; empty for the top of the file.
    pub(super) path: &'static str,
    /// Whether it may be written several times, as `[[destination]]`.
    pub(super) repeated: bool,
    /// What it is about: whole sentences.
    pub(super) doc: &'static str,
    /// Whether this forebay can do it.
    pub(super) status: Status,
}

/// The part of a full name before the last dot, and the part behind it.
pub(super) fn split(path: &'static str) -> (&'static str, &'static str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

impl Key {
    /// The name within its table.
    pub(super) fn name(&self) -> &'static str {
        split(self.path).1
    }

    /// The full name of its table.
    pub(super) fn section(&self) -> &'static str {
        split(self.path).0
    }

    /// Whether the key stands for any name.
    pub(super) fn is_open(&self) -> bool {
        self.name().starts_with('<')
    }
}

impl Section {
    /// The name within the table around it.
    pub(super) fn name(&self) -> &'static str {
        split(self.path).1
    }

    /// The full name of the table around it.
    pub(super) fn parent(&self) -> &'static str {
        split(self.path).0
    }

    /// How it is opened: `[wal]` or `[[destination]]`.
    pub(super) fn header(&self) -> String {
        if self.repeated { format!("[[{}]]", self.path) } else { format!("[{}]", self.path) }
    }
}

impl LaterValue {
    /// Whether a text is this value.
    pub(super) fn is(&self, text: &str) -> bool {
        if self.value.ends_with(':') { text.starts_with(self.value) } else { text == self.value }
    }
}

impl Kind {
    /// The values that are recognised and refused.
    pub(super) const fn later(&self) -> &'static [LaterValue] {
        match self {
            Self::Choice { later, .. } => later,
            Self::Text
            | Self::Path
            | Self::Secret
            | Self::SecretFile
            | Self::Listen
            | Self::Socket
            | Self::List
            | Self::Template
            | Self::Size { .. }
            | Self::Time { .. }
            | Self::Count { .. }
            | Self::Flag => &[],
        }
    }

    /// Whether a value is hidden in every message. That of a `*_file` key may be the secret
    /// itself, put under the wrong key.
    pub(super) const fn is_hidden(&self) -> bool {
        matches!(self, Self::Secret | Self::SecretFile)
    }

    /// What may be written, in words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Path => "absolute path".to_owned(),
            Self::Secret => "secret".to_owned(),
            Self::SecretFile => "absolute path of a file that holds a secret".to_owned(),
            Self::Listen => "IP address and port, or `\"systemd\"`".to_owned(),
            Self::Socket => "IP address and port, or `unix:` and an absolute path".to_owned(),
            Self::List => "list of texts".to_owned(),
            Self::Template => "template".to_owned(),
            Self::Size { min, max } => format!("size, {min} to {max}"),
            Self::Time { min, max } => {
                format!("duration, {} to {}", duration::text(*min), duration::text(*max))
            }
            Self::Count { min, max } => format!("whole number, {min} to {max}"),
            Self::Flag => "`true` or `false`".to_owned(),
            Self::Choice { now, .. } => choices(now, "`"),
        }
    }

    /// A value as TOML writes it: quoted, but for numbers and `true` and `false`.
    pub(super) fn toml(&self, value: &str) -> String {
        match self {
            Self::Count { .. } | Self::Flag => value.to_owned(),
            Self::Text
            | Self::Path
            | Self::Secret
            | Self::SecretFile
            | Self::Listen
            | Self::Socket
            | Self::List
            | Self::Template
            | Self::Size { .. }
            | Self::Time { .. }
            | Self::Choice { .. } => format!("{value:?}"),
        }
    }
}

/// `"a"`, or `one of "a", "b"`.
pub(super) fn choices(words: &[&str], quote: &str) -> String {
    let list: Vec<String> = words.iter().map(|word| format!("{quote}{word}{quote}")).collect();
    let one_of = if list.len() > 1 { "one of " } else { "" };
    format!("{one_of}{}", list.join(", "))
}
