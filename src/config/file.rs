//! Files beside the configuration.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// The text of a file of at most `limit` bytes; no more than that is read.
///
/// # Errors
/// What stands behind the file's name in a message, when it cannot be read, is longer, or is not
/// UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(format!("holds more than {limit} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "does not hold UTF-8 text".to_owned())
}
