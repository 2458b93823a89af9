//! What commands print. A reader that has gone away is no error.

use std::io::Write;

/// A line for the user.
pub(super) fn line(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// A line about what went wrong.
pub(super) fn error(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "forebay: {text}"));
}
