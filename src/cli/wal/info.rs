//! `forebay wal info`.

use serde_json::json;

use crate::app::Exit;
use crate::cli::human;
use crate::cli::output::{self, Tone, paint, table};

use super::{InfoArgs, Trouble};

pub(super) fn info(args: &InfoArgs) -> Result<Exit, Trouble> {
    let (log, _) = args.place.open()?;
    let (facts, segments, tail) = (log.facts()?, log.segments()?, log.tail()?);
    let ((first, _), checkpoints) = (log.trimmed()?, log.checkpoints()?);
    let before_first = segments.first().map_or(0, |segment| segment.messages_before);
    if args.json {
        let segments: Vec<_> = segments.into_iter().map(crate::admin::SegmentRow::of).collect();
        let cursors = checkpoints.iter().map(|(name, checkpoint)| {
            let totals = checkpoint.totals;
            json!({
                "name": name.as_str(),
                "position": [checkpoint.position.offset.get(), checkpoint.position.index],
                "saved": human::rfc3339(checkpoint.saved),
                "origin_messages": checkpoint.origin_messages,
                "acknowledged": totals.acknowledged,
                "filtered": totals.filtered,
                "dead_lettered": totals.dead_lettered,
                "skipped": totals.skipped,
                "dropped": totals.dropped,
            })
        });
        output::json(&json!({
            "layout": facts.layout,
            "node": facts.node,
            "created": human::rfc3339(facts.created),
            "in_use_by": log.used_by(),
            "first_offset": first.get(),
            "end_offset": tail.end.get(),
            "messages": tail.messages,
            "messages_retained": tail.messages.saturating_sub(before_first),
            "file_bytes": log.file_bytes().map(crate::types::ByteSize::get),
            "cursors": cursors.collect::<Vec<_>>(),
            "segments": segments,
        }));
        return Ok(Exit::Stopped);
    }
    let state = match log.used_by() {
        Some(pid) => paint(Tone::Good, &format!("in use by process {pid}")),
        None => "stopped".to_owned(),
    };
    output::line(&format!("log       {state}, layout {}, node {}", facts.layout, facts.node));
    output::line(&format!("created   {}", human::rfc3339(facts.created)));
    output::line(&format!(
        "offsets   [{first}, {}): {} frames",
        tail.end,
        human::count(tail.end.since(first))
    ));
    output::line(&format!(
        "messages  {} ever, {} retained",
        human::count(tail.messages),
        human::count(tail.messages.saturating_sub(before_first))
    ));
    if let Some(bytes) = log.file_bytes() {
        output::line(&format!("files     {}", human::bytes(bytes.get())));
    }
    output::line("");
    let rows: Vec<_> = checkpoints
        .iter()
        .map(|(name, checkpoint)| {
            let totals = checkpoint.totals;
            vec![
                name.to_string(),
                checkpoint.position.to_string(),
                human::count(tail.end.since(checkpoint.position.offset)),
                human::count(totals.acknowledged),
                human::count(totals.settled() - totals.acknowledged),
                human::rfc3339(checkpoint.saved),
            ]
        })
        .collect();
    table(
        &["CURSOR", "POSITION", "FRAMES BEHIND", "ACKNOWLEDGED", "OTHERWISE SETTLED", "SAVED"],
        &rows,
    );
    output::line("");
    let rows: Vec<_> = segments
        .iter()
        .map(|segment| {
            vec![
                segment.id.to_string(),
                segment.frames.to_string(),
                human::count(segment.messages),
                human::bytes(segment.bytes.get()),
                human::rfc3339(segment.first_received),
                human::rfc3339(segment.last_received),
                if segment.sealed { "sealed" } else { "active" }.to_owned(),
            ]
        })
        .collect();
    table(&["SEGMENT", "OFFSETS", "MESSAGES", "BYTES", "OPENED", "LAST FRAME", "STATE"], &rows);
    Ok(Exit::Stopped)
}
