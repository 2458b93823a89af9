//! `forebay wal verify`.

use std::io::Write as _;

use serde_json::json;

use crate::app::Exit;
use crate::cli::human;
use crate::cli::output::{Tone, paint};
use crate::types::Offset;
use crate::wal::{Defect, Part};

use super::{Trouble, VerifyArgs, bar, stdout};

pub(super) fn verify(args: &VerifyArgs) -> Result<Exit, Trouble> {
    let (log, _) = args.place.open()?;
    let mut out = stdout();
    let mut written = Ok(());
    let bar = bar(0, true);
    let done = log.verify(
        |read, total| {
            bar.set_length(total);
            bar.set_position(read);
        },
        |defect| {
            let line = if args.json { row(&defect) } else { paint(Tone::Bad, &defect.to_string()) };
            // Told as it is found: reading on may take hours.
            let now = bar.suspend(|| writeln!(out, "{line}").and_then(|()| out.flush()));
            if written.is_ok() {
                written = now;
            }
        },
    );
    bar.finish_and_clear();
    written?;
    let sums = if args.json {
        json!({
            "first_offset": done.first.get(),
            "end_offset": done.end.get(),
            "frames": done.frames,
            "messages": done.messages,
            "bytes": done.bytes,
            "segments": done.segments,
            "frame_ids": done.frame_ids,
            "cursors": done.checkpoints,
            "dead_letters": done.dead_letters,
            "given_up_frames": done.given_up,
            "other_values": done.other_values,
            "in_use_by": log.used_by(),
            "defects": done.defects,
        })
        .to_string()
    } else {
        let verdict = match done.defects {
            0 => paint(Tone::Good, "nothing is wrong"),
            1 => paint(Tone::Bad, "1 defect"),
            many => paint(Tone::Bad, &format!("{many} defects")),
        };
        let more = |count, what| match count {
            0 => String::new(),
            count => format!(", {} {what}", human::count(count)),
        };
        format!(
            "read {} frames of [{}, {}) with {} messages and {}, {} segments, {} frame ids, {} \
             cursors{}{}: {verdict}",
            human::count(done.frames),
            done.first,
            done.end,
            human::count(done.messages),
            human::bytes(done.bytes),
            human::count(done.segments),
            human::count(done.frame_ids),
            human::count(done.checkpoints),
            more(done.dead_letters, "dead letters"),
            more(done.given_up, "frames given up before"),
        )
    };
    writeln!(out, "{sums}")?;
    out.flush()?;
    Ok(if done.defects == 0 { Exit::Stopped } else { Exit::Storage })
}

/// A defect as JSON shows it.
#[derive(Default, serde::Serialize)]
struct Row<'a> {
    part: &'static str,
    what: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

fn row(defect: &Defect) -> String {
    let (part, what) = (defect.part.kind(), defect.what.as_str());
    let offset = defect.part.offset().map(Offset::get);
    let row = Row { part, what, offset, ..Row::default() };
    let row = match &defect.part {
        Part::Frames(range) => Row { end_offset: Some(range.end.get()), ..row },
        Part::Segment(id) => Row { segment: Some(id.get()), ..row },
        Part::Checkpoint(name)
        | Part::DeadLetter(name, _)
        | Part::DeadLetters(name)
        | Part::Family(name) => Row { name: Some(name), ..row },
        Part::Marker | Part::TrimPoint | Part::Catalogue | Part::Frame(_) | Part::FrameId(_) => row,
    };
    // Nothing in it could fail.
    serde_json::to_string(&row).unwrap_or_default()
}
