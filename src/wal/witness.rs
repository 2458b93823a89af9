//! An eyewitness beside RocksDB's files: how far the log had come.
//!
//! RocksDB notices most of what can happen to its files, but not all: the newest log file can go,
//! or the last entry of the MANIFEST, and what is left is an older store that is whole. So the
//! log's end is kept in a file of its own as well, and a start that finds less refuses. It lags:
//! it is written at an open, at a close, and with the sweeps in between.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::clock;
use crate::generated::storage;
use crate::record::{decode_value, encode_value};
use crate::types::{Offset, Tail};

use super::error::OpenError;
use super::preflight::io_error;

/// The file's name.
pub(super) const FILE: &str = "WITNESS";

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Witness {
    pub(super) node: String,
    pub(super) end: Offset,
    pub(super) messages: u64,
}

/// Reads it, if there is one.
pub(super) fn read(dir: &Path) -> Result<Option<Witness>, OpenError> {
    let path = dir.join(FILE);
    let value = match std::fs::read(&path) {
        Ok(value) => value,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error(&path, source)),
    };
    match decode_value::<storage::Witness>(&value) {
        Ok(seen) => {
            let (node, end) = (seen.node, Offset::new(seen.end_offset));
            Ok(Some(Witness { node, end, messages: seen.messages }))
        }
        // It can only say that something else is damaged, and is made again.
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "cannot be read, and is written anew");
            Ok(None)
        }
    }
}

/// Writes it: the old one or the new one is there at any moment.
pub(super) fn write(dir: &Path, node: &str, tail: &Tail) -> io::Result<()> {
    let seen = storage::Witness {
        node: node.to_owned(),
        end_offset: tail.end.get(),
        messages: tail.messages,
        written_us: clock::unix_micros().get(),
    };
    let (fresh, path) = (dir.join("WITNESS.new"), dir.join(FILE));
    let mut file = File::create(&fresh)?;
    file.write_all(&encode_value(&seen))?;
    file.sync_all()?;
    std::fs::rename(&fresh, &path)?;
    File::open(dir)?.sync_all()
}
