//! What commands print. A reader that has gone away is no error.

use std::io::{IsTerminal as _, Write};

use serde::Serialize;

/// A line for the user.
pub(super) fn line(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// Bytes as they are.
pub(super) fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(bytes).and_then(|()| out.flush()));
}

/// A line about what went wrong.
pub(super) fn error(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "forebay: {text}"));
}

/// A value as JSON, for programs and for people.
pub(super) fn json(value: &impl Serialize) {
    // Nothing that a command shows has a key that is no text, which is all that could fail.
    line(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// How a word is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// A heading.
    Strong,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Somebody has to do something.
    Bad,
    /// Beside the point.
    Dim,
}

/// A text in its colour, on a terminal and unless `NO_COLOR` is set.
pub(super) fn paint(tone: Tone, text: &str) -> String {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted && std::io::stdout().is_terminal() { painted(tone, text) } else { text.to_owned() }
}

fn painted(tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Strong => 1,
        Tone::Good => 32,
        Tone::Warn => 33,
        Tone::Bad => 31,
        Tone::Dim => 2,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// Rows under headings, in columns as wide as their widest cell.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let heading = headings.get(column).map_or(0, |heading| heading.chars().count());
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(heading)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let text = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    line(&paint(Tone::Strong, &text(&mut headings.iter().copied())));
    for row in rows {
        line(&text(&mut row.iter().map(String::as_str)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_closed_again() {
        for tone in [Tone::Strong, Tone::Good, Tone::Warn, Tone::Bad, Tone::Dim] {
            let text = painted(tone, "x");
            assert!(text.starts_with("\u{1b}[") && text.ends_with("mx\u{1b}[0m"), "{text:?}");
        }
    }
}
