//! Going through the frames that a command is about.

use std::ops::ControlFlow;

use crate::logplex::{self, Framing};
use crate::record::Record;
use crate::types::Offset;
use crate::wal::{ReadOnlyLog, Unreadable};

use super::select::{AppNames, Selection};
use super::{Trouble, bar};
use crate::cli::human;

/// A frame that cannot be shown. It is passed over, and the command ends with 74.
pub(super) struct Bad {
    pub(super) offset: Offset,
    pub(super) why: Unreadable,
}

/// What a command sees.
pub(super) enum Seen<'a> {
    Frame(Offset, &'a Record),
    Bad(Bad),
}

/// Shows every frame that is asked for. Returns how many frames could not be shown.
pub(super) fn each(
    log: &ReadOnlyLog,
    select: &Selection,
    names: &AppNames,
    alone: bool,
    mut show: impl FnMut(Seen<'_>) -> Result<(), Trouble>,
) -> Result<u64, Trouble> {
    let range = select.range(log)?;
    let bar = bar(range.len(), alone);
    let (mut left, mut bad) = (select.limit(), 0);
    let mut trouble = None;
    let read = log.read(range, |offset, found| {
        if offset.get().is_multiple_of(256) {
            bar.set_position(offset.since(range.start));
        }
        if left == 0 {
            return ControlFlow::Break(());
        }
        let shown = match found {
            Ok(record) if !select.takes(&record, names) => return ControlFlow::Continue(()),
            Ok(record) => {
                left -= 1;
                show(Seen::Frame(offset, &record))
            }
            Err(why) => {
                bad += 1;
                show(Seen::Bad(Bad { offset, why }))
            }
        };
        match shown {
            Ok(()) => ControlFlow::Continue(()),
            Err(ended) => {
                trouble = Some(ended);
                ControlFlow::Break(())
            }
        }
    });
    bar.finish_and_clear();
    match (trouble, read) {
        (Some(trouble), _) => Err(trouble),
        (None, Err(error)) => Err(Trouble::storage(error)),
        (None, Ok(())) => Ok(bad),
    }
}

/// A message as JSON shows it.
#[derive(Debug, serde::Serialize)]
pub(super) struct MessageRow<'a> {
    pub(super) index: u32,
    /// The same as in Splunk: the frame's id, or the store's and the offset, and the index.
    pub(super) event_id: String,
    /// When the line was written, as it says itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time: Option<String>,
    pub(super) host: std::borrow::Cow<'a, str>,
    pub(super) app_name: std::borrow::Cow<'a, str>,
    pub(super) proc_id: std::borrow::Cow<'a, str>,
    pub(super) severity: &'static str,
    pub(super) facility: &'static str,
    pub(super) kind: &'static str,
    pub(super) text: std::borrow::Cow<'a, str>,
    /// `truncated` or `bad_length`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) framing: Option<&'static str>,
    /// `lossy` when the text is no UTF-8 and was made so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) utf8: Option<&'static str>,
}

/// The messages of a frame.
pub(super) fn messages<'a>(
    offset: Offset,
    record: &'a Record,
    node: &str,
) -> impl Iterator<Item = MessageRow<'a>> {
    let id = record.frame_id.clone().unwrap_or_else(|| format!("{node}-{offset}"));
    (0..).zip(logplex::pieces(&record.body)).map(move |(index, piece)| {
        let message = logplex::parse(piece.bytes, record.profile);
        let text = String::from_utf8_lossy(message.text);
        let lossy = matches!(text, std::borrow::Cow::Owned(_));
        let field = |bytes: Option<&'a [u8]>| String::from_utf8_lossy(bytes.unwrap_or(b"-"));
        let header = message.header.as_ref();
        MessageRow {
            index,
            event_id: format!("{id}:{index}"),
            time: header.and_then(|header| header.timestamp).map(human::rfc3339),
            host: field(header.map(|header| header.hostname)),
            app_name: field(header.map(|header| header.app_name)),
            proc_id: field(header.map(|header| header.proc_id)),
            severity: header.map_or("-", logplex::Header::severity),
            facility: header.map_or("-", logplex::Header::facility),
            kind: header.map_or("app", |header| header.kind().as_str()),
            text,
            framing: match piece.framing {
                Framing::Counted => None,
                framing @ (Framing::Truncated | Framing::BadLength) => framing.as_flag(),
            },
            utf8: lossy.then_some("lossy"),
        }
    })
}

/// A drain, as far as it may be shown: whoever knows all of its token can send in its name.
pub(super) fn drain(record: &Record) -> Option<String> {
    record.drain_token.as_ref().map(|token| token.chars().take(8).collect())
}
