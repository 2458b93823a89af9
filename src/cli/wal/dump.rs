//! `forebay wal dump`.

use std::io::{self, Write};

use serde_json::json;

use crate::app::Exit;
use crate::cli::human;
use crate::cli::output::{self, Tone, paint};
use crate::logplex::{self, Profile};
use crate::record::Record;
use crate::types::Offset;

use super::frames::{self, Bad, Seen};
use super::select::AppNames;
use super::{DumpArgs, Trouble, stdout};

pub(super) fn dump(args: &DumpArgs) -> Result<Exit, Trouble> {
    let (log, names) = args.place.open()?;
    let node = log.facts()?.node;
    let mut out = stdout();
    let bad = frames::each(&log, &args.select, &names, false, |seen| {
        match seen {
            Seen::Frame(_, record) if args.raw => out.write_all(&record.body)?,
            Seen::Frame(offset, record) if args.json => {
                writeln!(out, "{}", row(offset, record, &names, &node))?;
            }
            Seen::Frame(offset, record) => text(&mut out, offset, record, &names)?,
            Seen::Bad(bad) if args.json => writeln!(out, "{}", bad_row(&bad))?,
            Seen::Bad(bad) => {
                out.flush()?;
                output::error(&format!("offset {}: {}", bad.offset, bad.why));
            }
        }
        Ok(())
    })?;
    out.flush()?;
    Ok(if bad == 0 { Exit::Stopped } else { Exit::Storage })
}

pub(super) const fn profile(profile: Profile) -> &'static str {
    match profile {
        Profile::Logplex => "logplex",
        Profile::Shuttle => "shuttle",
        Profile::Other => "other",
    }
}

fn text(out: &mut impl Write, offset: Offset, record: &Record, names: &AppNames) -> io::Result<()> {
    let drain = frames::drain(record).map(|drain| format!("  drain {drain}"));
    let app = names.app(record).map(|app| format!("  app {app}"));
    let frame = record.frame_id.as_ref().map(|id| format!("  frame {id}"));
    let head = format!("offset {offset}  {}", human::rfc3339(record.received));
    writeln!(
        out,
        "{}{}{}{}  {}  {} messages after {}  {}  from {}",
        paint(Tone::Strong, &head),
        drain.unwrap_or_default(),
        app.unwrap_or_default(),
        frame.unwrap_or_default(),
        profile(record.profile),
        record.messages,
        record.messages_before,
        human::bytes(record.body.len() as u64),
        record.peer,
    )?;
    for piece in logplex::pieces(&record.body) {
        let line = piece.bytes.strip_suffix(b"\n").unwrap_or(piece.bytes);
        let flag = piece.framing.as_flag().map(|flag| format!(" framing={flag}"));
        // Controls would move the cursor, or worse.
        let line = String::from_utf8_lossy(line);
        let safe: String = line
            .chars()
            .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
            .collect();
        writeln!(out, "  {safe}{}", paint(Tone::Warn, &flag.unwrap_or_default()))?;
    }
    Ok(())
}

fn row(offset: Offset, record: &Record, names: &AppNames, node: &str) -> serde_json::Value {
    json!({
        "offset": offset.get(),
        "received": human::rfc3339(record.received),
        "drain": frames::drain(record),
        "app": names.app(record),
        "frame_id": record.frame_id,
        "profile": profile(record.profile),
        "peer": record.peer,
        "query": record.query,
        "bytes": record.body.len(),
        "messages_claimed": record.messages_claimed,
        "messages_before": record.messages_before,
        "messages": frames::messages(offset, record, node).collect::<Vec<_>>(),
    })
}

fn bad_row(bad: &Bad) -> serde_json::Value {
    json!({ "offset": bad.offset.get(), "error": bad.why.to_string() })
}
