//! The text form of both ledgers: words separated by single spaces, one record a line.
//!
//! Hashes are 16 hex digits. The first line names the kind and the version, the last one is
//! `end`; a file without it was cut off and is refused.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

/// Why a ledger file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file system said no.
    #[error("ledger file: {0}")]
    Io(#[from] io::Error),
    /// The content is no ledger of the expected kind.
    #[error("ledger file, line {line}: {what}")]
    Format {
        /// Counted from 1.
        line: u64,
        /// What was expected there.
        what: &'static str,
    },
}

/// Writes a ledger file: the head, what `records` writes, and the end.
pub(super) fn write(
    path: &Path,
    head: &str,
    records: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), LedgerError> {
    let mut out = BufWriter::with_capacity(1 << 18, File::create(path)?);
    writeln!(out, "{head}")?;
    records(&mut out)?;
    writeln!(out, "end")?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(())
}

/// Writes the hashes of a record and ends its line.
pub(super) fn write_hashes(out: &mut impl Write, hashes: &[u64]) -> io::Result<()> {
    let mut text = *b" 0000000000000000";
    for hash in hashes {
        for (slot, nibble) in text.iter_mut().skip(1).zip((0..16).rev()) {
            *slot = b"0123456789abcdef"
                .get(usize::try_from(hash >> (nibble * 4) & 15).unwrap_or(0))
                .copied()
                .unwrap_or(b'0');
        }
        out.write_all(&text)?;
    }
    out.write_all(b"\n")
}

/// Reads a ledger file; `record` gets each line between head and end as words, and says what is
/// wrong with it.
pub(super) fn read(
    path: &Path,
    head: &str,
    mut record: impl FnMut(&mut Words<'_>) -> Result<(), &'static str>,
) -> Result<(), LedgerError> {
    let mut input = BufReader::with_capacity(1 << 18, File::open(path)?);
    let mut text = String::new();
    let mut line = 0u64;
    loop {
        text.clear();
        let bytes = input.read_line(&mut text)?;
        line += 1;
        let content = text.trim_end_matches('\n');
        if bytes == 0 {
            return Err(LedgerError::Format { line, what: "the file is cut off: no `end`" });
        } else if line == 1 {
            if content != head {
                return Err(LedgerError::Format { line, what: "another kind of file" });
            }
        } else if content == "end" {
            return Ok(());
        } else {
            record(&mut Words(content.split(' ')))
                .map_err(|what| LedgerError::Format { line, what })?;
        }
    }
}

/// The words of one line.
pub(super) struct Words<'a>(std::str::Split<'a, char>);

impl<'a> Words<'a> {
    pub(super) fn word(&mut self) -> Result<&'a str, &'static str> {
        self.0.next().ok_or("a word is missing")
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self) -> Result<T, &'static str> {
        self.word()?.parse().map_err(|_| "a number is expected")
    }

    /// All remaining words as hashes.
    pub(super) fn hashes(&mut self) -> Result<Vec<u64>, &'static str> {
        self.0
            .by_ref()
            .map(|word| u64::from_str_radix(word, 16).map_err(|_| "a hash is expected"))
            .collect()
    }
}
