//! `forebay wal export`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::json;

use crate::app::Exit;
use crate::cli::human;
use crate::cli::output;
use crate::record::Record;
use crate::types::Offset;

use super::dump::profile;
use super::frames::{self, Seen};
use super::select::AppNames;
use super::{ExportArgs, Trouble, stdout};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// One message a line.
    Ndjson,
    /// Whole frames.
    Frames,
}

/// The first line of an export of frames. `docs/wal-export.md` describes the form.
const HEAD: &str = r#"{"format":"forebay-frames","version":1}"#;

pub(super) fn export(args: &ExportArgs) -> Result<Exit, Trouble> {
    let (log, names) = args.place.open()?;
    let node = log.facts()?.node;
    let mut out: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(BufWriter::with_capacity(1 << 20, create(path)?)),
        None => Box::new(stdout()),
    };
    if args.format == Format::Frames {
        writeln!(out, "{HEAD}")?;
    }
    let (mut count, mut messages) = (0, 0);
    let bad = frames::each(&log, &args.select, &names, args.output.is_some(), |seen| {
        match seen {
            Seen::Frame(offset, record) => {
                count += 1;
                messages += u64::from(record.messages);
                match args.format {
                    Format::Ndjson => lines(&mut out, offset, record, &names, &node)?,
                    Format::Frames => frame(&mut out, offset, record)?,
                }
            }
            Seen::Bad(bad) => {
                output::error(&format!("offset {} is left out: {}", bad.offset, bad.why));
            }
        }
        Ok(())
    })?;
    out.flush()?;
    if let Some(path) = &args.output {
        output::line(&format!(
            "{} frames with {} messages are in {}",
            human::count(count),
            human::count(messages),
            path.display()
        ));
    }
    Ok(if bad == 0 { Exit::Stopped } else { Exit::Storage })
}

/// A file of one's own: it holds customers' logs, and drain tokens.
fn create(path: &Path) -> Result<File, Trouble> {
    let opened = File::options().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| {
        let why = if error.kind() == io::ErrorKind::AlreadyExists {
            "it exists already".to_owned()
        } else {
            error.to_string()
        };
        Trouble::storage(format!("{} cannot be created: {why}", path.display()))
    })
}

fn lines(
    out: &mut impl Write,
    offset: Offset,
    record: &Record,
    names: &AppNames,
    node: &str,
) -> io::Result<()> {
    let received = human::rfc3339(record.received);
    let (drain, app) = (frames::drain(record), names.app(record));
    for message in frames::messages(offset, record, node) {
        let line = Line {
            offset: offset.get(),
            received: &received,
            drain: drain.as_deref(),
            app: app.as_deref(),
            message,
        };
        writeln!(out, "{}", serde_json::to_string(&line).map_err(io::Error::other)?)?;
    }
    Ok(())
}

/// One line of NDJSON.
#[derive(serde::Serialize)]
struct Line<'a> {
    offset: u64,
    received: &'a str,
    drain: Option<&'a str>,
    app: Option<&'a str>,
    #[serde(flatten)]
    message: frames::MessageRow<'a>,
}

fn frame(out: &mut impl Write, offset: Offset, record: &Record) -> io::Result<()> {
    let head = json!({
        "offset": offset.get(),
        "received": human::rfc3339(record.received),
        "profile": profile(record.profile),
        "drain_token": record.drain_token,
        "frame_id": record.frame_id,
        "messages_claimed": record.messages_claimed,
        "messages": record.messages,
        "query": record.query,
        "length": record.body.len(),
    });
    writeln!(out, "{head}")?;
    out.write_all(&record.body)?;
    out.write_all(b"\n")
}
