//! The rows of `/v1/cursors`, `/v1/segments` and `/v1/drains`.

use serde::Serialize;

use crate::clock;
use crate::types::UnixMicros;
use crate::wal::{OpenError, SegmentInfo};

use super::config::Drain;
use super::{Books, View};

/// A cursor: what the store remembers of a destination, and how it goes on.
#[derive(Clone, Debug, Serialize)]
pub struct CursorStatus {
    /// The destination's name.
    pub name: String,
    /// Whether no destination of that name is configured. Its messages are kept all the same.
    pub orphaned: bool,
    /// Whether an operator has paused the destination.
    pub paused: bool,
    /// The first message that is not settled, as it is stored: offset and index.
    pub position: (u64, u32),
    /// When that was stored, in seconds since 1970.
    pub saved: f64,
    /// Segments that this cursor needs.
    pub segments: usize,
    /// Bytes of frames that only this cursor keeps from being dropped.
    pub pins_bytes: u64,
    /// The books; none for an orphaned cursor.
    pub books: Option<Books>,
}

impl CursorStatus {
    /// All cursors, by name.
    ///
    /// # Errors
    /// When the checkpoints cannot be read.
    pub fn all(view: &View) -> Result<Vec<Self>, OpenError> {
        let stored = view.wal.checkpoints()?;
        let segments = view.wal.segments();
        let offsets: Vec<_> =
            stored.iter().map(|(_, checkpoint)| checkpoint.position.offset).collect();
        let rows = stored.iter().enumerate().map(|(number, (name, checkpoint))| {
            let offset = checkpoint.position.offset;
            let sink = view.sinks.iter().find(|sink| sink.name() == name);
            let others = offsets.iter().enumerate().filter(|(other, _)| *other != number);
            let next = others.map(|(_, offset)| *offset).min();
            let pins = segments.iter().filter(|segment| {
                segment.frames.end > offset && next.is_none_or(|next| segment.frames.end <= next)
            });
            Self {
                name: name.to_string(),
                orphaned: sink.is_none(),
                paused: checkpoint.paused,
                position: (offset.get(), checkpoint.position.index),
                saved: seconds(checkpoint.saved),
                segments: segments.iter().filter(|segment| segment.frames.end > offset).count(),
                pins_bytes: pins.map(|segment| segment.bytes.get()).sum(),
                books: sink.map(|sink| Books::of(&sink.status())),
            }
        });
        Ok(rows.collect())
    }
}

/// A segment.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentRow {
    /// Its number.
    pub id: u64,
    /// Its first offset.
    pub first_offset: u64,
    /// The offset behind its last.
    pub end_offset: u64,
    /// Messages in it.
    pub messages: u64,
    /// Bytes of its frames, before compression.
    pub bytes: u64,
    /// When it was opened, in seconds since 1970.
    pub first_received: f64,
    /// When its last frame arrived, in seconds since 1970.
    pub last_received: f64,
    /// Since then, in seconds.
    pub age_seconds: f64,
    /// Whether it takes no more frames.
    pub sealed: bool,
}

impl SegmentRow {
    /// The row of a segment.
    #[must_use]
    pub fn of(segment: SegmentInfo) -> Self {
        let age = clock::unix_micros().since(segment.last_received);
        Self {
            id: segment.id.get(),
            first_offset: segment.frames.start.get(),
            end_offset: segment.frames.end.get(),
            messages: segment.messages,
            bytes: segment.bytes.get(),
            first_received: seconds(segment.first_received),
            last_received: seconds(segment.last_received),
            age_seconds: std::time::Duration::from_micros(age).as_secs_f64(),
            sealed: segment.sealed,
        }
    }
}

/// A drain that is known by name.
#[derive(Clone, Debug, Serialize)]
pub struct DrainStatus {
    /// The app behind it.
    pub app: String,
    /// The beginning of its token.
    pub token_begins: String,
}

impl DrainStatus {
    pub(super) fn of(drain: &Drain) -> Self {
        Self { app: drain.app.clone(), token_begins: drain.token_begins.clone() }
    }
}

/// Seconds since 1970. For people and dashboards: a float of this size is exact to a microsecond.
fn seconds(at: UnixMicros) -> f64 {
    at.get() as f64 / 1e6
}
