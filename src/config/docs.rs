//! The documentation of the configuration, made from the table of keys.

use super::key::{Key, Kind, Preset, Section, Status};
use super::table::{KEYS, SECTIONS};

const HEAD: &str = "\
# Configuration

<!-- Made from src/config/table.rs: change that, then run
     `FOREBAY_REGENERATE=1 cargo test --lib config::tests::docs` -->

forebay reads one TOML file: the one named with `-c FILE`, or else by the environment variable
`FOREBAY_CONFIG`, or else `/etc/forebay/forebay.toml`. The least it needs is one destination:

```toml
[[destination]]
endpoints = [\"https://hec-1.example.com:8088\"]
token_file = \"/etc/forebay/hec-token\"
```

Every mistake in the file is told at once, with its key, its line and what to write instead, and
forebay then exits with 78. A key that does not exist is a mistake, and so is one that this version
does not support yet: nothing is ignored, nothing is guessed.

- **Sizes** are whole numbers with a unit: `B`, `KB`, `MB`, `GB`, `TB` (powers of 1000), `KiB`,
  `MiB`, `GiB`, `TiB` (powers of 1024): `\"8MiB\"`.
- **Durations** are whole numbers with a unit, the largest first: `d`, `h`, `m`, `s`, `ms`:
  `\"250ms\"`, `\"1h30m\"`.
- **Paths** are absolute.
- **Environment variables** are put into any text: `\"${HEC_TOKEN}\"`,
  `\"${CREDENTIALS_DIRECTORY}/hec\"`. One that is not set is a mistake. `$$` is a dollar sign.
- **SIGHUP** reads the file again. A file with a mistake is refused whole: one log line names every
  mistake, and the old configuration stays. Keys marked as reloaded take effect at once and close no
  connection; those that only a restart can change are named in a warning.
- **Secrets** are best kept in files of their own, named by a key that ends in `_file`. One newline
  at the end of such a file is not part of the secret. forebay warns when others than the owner can
  read it, and shows no secret in any message.
";

const SAMPLE_HEAD: &str = "\
# forebay: every key of the configuration.
#
# A line that begins with `#` and a space explains; one that begins with `#` and a key shows that
# key's default, or an example where there is none. docs/configuration.md says the same at more
# length. Both are made from src/config/table.rs: change that, then run
# `FOREBAY_REGENERATE=1 cargo test --lib config::tests::docs`.
";

/// The text of `docs/configuration.md`.
#[must_use]
pub fn markdown() -> String {
    let mut out = HEAD.to_owned();
    for section in SECTIONS {
        let title = match section.path {
            "" => "Top of the file".to_owned(),
            _ => format!("`{}`", section.header()),
        };
        out.push_str(&format!("\n## {title}\n\n"));
        paragraph(&mut out, section.doc, "", "");
        if let Status::Later(later) = section.status {
            let text = format!("**Not yet supported:** it comes with {}.", later.with);
            out.push('\n');
            paragraph(&mut out, &text, "", "");
        }
        let mut keys = keys_of(section).peekable();
        if keys.peek().is_some() {
            out.push('\n');
        }
        for key in keys {
            paragraph(&mut out, &entry(key), "- ", "  ");
        }
    }
    out
}

/// The text of `ops/forebay.toml`.
#[must_use]
pub fn sample() -> String {
    let mut out = SAMPLE_HEAD.to_owned();
    for section in SECTIONS {
        if !section.path.is_empty() {
            out.push('\n');
            paragraph(&mut out, section.doc, "# ", "# ");
        }
        if let Status::Later(later) = section.status {
            let text = format!("[{}]: not yet supported, comes with {}.", section.path, later.with);
            paragraph(&mut out, &text, "# ", "# ");
            continue;
        }
        if !section.path.is_empty() {
            let mark = if is_optional(section) { "#" } else { "" };
            out.push_str(&format!("{mark}{}\n", section.header()));
        }
        for key in keys_of(section) {
            out.push('\n');
            sample_key(&mut out, section, key);
        }
    }
    out
}

/// Whether the sample leaves a table out. An optional table that may be repeated would be one more
/// entry if it were open, and so would a table in one.
fn is_optional(section: &Section) -> bool {
    let around = SECTIONS.iter().find(|around| around.path == section.parent());
    // One with a key that has to be written would want it if it were open.
    let required = |key: &Key| matches!(key.preset, Preset::Required { .. });
    (section.path != "destination" && (section.repeated || keys_of(section).any(required)))
        || around.is_some_and(|around| around.path != section.path && is_optional(around))
}

fn keys_of(section: &Section) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().copied().filter(move |key| key.section() == section.path)
}

/// One key for the reader: name, type, limits, default, meaning.
fn entry(key: &Key) -> String {
    let name = key.name();
    let kind = key.kind.describe();
    let mut text = match (key.status, key.preset) {
        (Status::Later(later), _) => {
            return format!(
                "**`{name}`** (not yet supported: it comes with {}). {}",
                later.with, key.doc
            );
        }
        (Status::Supported, Preset::Value(value)) => {
            format!("**`{name}`** ({kind}; default `{}`). {}", key.kind.toml(value), key.doc)
        }
        (Status::Supported, Preset::Required { example }) => {
            format!("**`{name}`** ({kind}; required). {} Example: `{example}`.", key.doc)
        }
        (Status::Supported, Preset::Absent { example, means }) => {
            format!("**`{name}`** ({kind}; default: {means}). {} Example: `{example}`.", key.doc)
        }
    };
    text.push_str(&later_values(&key.kind, "`"));
    if key.live {
        text.push_str(" Reloaded on SIGHUP.");
    }
    text
}

/// Which values are not yet supported: sentences, each with a space before it.
fn later_values(kind: &Kind, mark: &str) -> String {
    let mut text = String::new();
    for group in kind.later().chunk_by(|a, b| a.with == b.with) {
        let values: Vec<String> = group
            .iter()
            .map(|later| {
                // `interval:` stands for all that begin so.
                let more = if later.value.ends_with(':') { "..." } else { "" };
                format!("{mark}\"{}{more}\"{mark}", later.value)
            })
            .collect();
        let with = group.first().map_or("", |later| later.with);
        text.push_str(&format!(
            " Not yet supported: {} (comes with {with}).",
            values.join(" and ")
        ));
    }
    text
}

/// One key as it stands in the sample: meaning, then the key itself, commented out where the
/// sample works without it.
fn sample_key(out: &mut String, section: &Section, key: &Key) {
    let mut text = key.doc.to_owned();
    if let Status::Later(later) = key.status {
        let text = format!("{}: not yet supported, comes with {}. {text}", key.name(), later.with);
        paragraph(out, &text, "# ", "# ");
        return;
    }
    if let Kind::Size { .. } | Kind::Time { .. } | Kind::Count { .. } = key.kind {
        text.push_str(&format!(" A {}.", key.kind.describe()));
    }
    if let Kind::Choice { now, .. } = key.kind
        && now.len() > 1
    {
        let mut kind = key.kind.describe();
        kind.replace_range(..1, "O");
        text.push_str(&format!(" {kind}."));
    }
    text.push_str(&later_values(&key.kind, ""));
    let (value, live) = match key.preset {
        Preset::Value(value) => (key.kind.toml(value), false),
        Preset::Required { example } => (example.to_owned(), section.path == "destination"),
        Preset::Absent { example, means } => {
            text.push_str(&format!(" Default: {means}."));
            // The sample has to be complete, and it reads its secret from a file.
            (example.to_owned(), key.path == "destination.token_file")
        }
    };
    paragraph(out, &text, "# ", "# ");
    let mark = if live { "" } else { "#" };
    let name = if key.is_open() { "team" } else { key.name() };
    out.push_str(&format!("{mark}{name} = {value}\n"));
}

/// Appends a paragraph, broken into lines of at most 100 characters.
fn paragraph(out: &mut String, text: &str, first: &str, others: &str) {
    const WIDTH: usize = 100;
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.len().saturating_add(word.len()) >= WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            others.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}
