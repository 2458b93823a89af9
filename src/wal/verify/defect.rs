//! What can be wrong, and where.

use std::fmt;

use crate::types::{Offset, OffsetRange, Position, SegmentId};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// Where.
    pub part: Part,
    /// What.
    pub what: String,
}

/// A part of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The store marker.
    Marker,
    /// The trim point.
    TrimPoint,
    /// The catalogue of segments as a whole.
    Catalogue,
    /// One segment.
    Segment(SegmentId),
    /// One frame.
    Frame(Offset),
    /// Several frames.
    Frames(OffsetRange),
    /// A remembered frame id, and the offset it leads to, if that can be read.
    FrameId(Option<Offset>),
    /// A destination's checkpoint.
    Checkpoint(String),
    /// One of a destination's dead letters.
    DeadLetter(String, Position),
    /// All dead letters of a destination.
    DeadLetters(String),
    /// A column family.
    Family(String),
}

impl Part {
    /// What kind of part it is, in a word.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Marker => "marker",
            Self::TrimPoint => "trim_point",
            Self::Catalogue => "catalogue",
            Self::Segment(_) => "segment",
            Self::Frame(_) => "frame",
            Self::Frames(_) => "frames",
            Self::FrameId(_) => "frame_id",
            Self::Checkpoint(_) => "checkpoint",
            Self::DeadLetter(..) => "dead_letter",
            Self::DeadLetters(_) => "dead_letters",
            Self::Family(_) => "family",
        }
    }

    /// The first offset it is about.
    #[must_use]
    pub const fn offset(&self) -> Option<Offset> {
        match self {
            Self::Frame(offset) => Some(*offset),
            Self::Frames(range) => Some(range.start),
            Self::FrameId(offset) => *offset,
            Self::DeadLetter(_, at) => Some(at.offset),
            Self::Marker
            | Self::TrimPoint
            | Self::Catalogue
            | Self::Segment(_)
            | Self::Checkpoint(_)
            | Self::DeadLetters(_)
            | Self::Family(_) => None,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Marker => f.write_str("the store marker"),
            Self::TrimPoint => f.write_str("the trim point"),
            Self::Catalogue => f.write_str("the catalogue"),
            Self::Segment(id) => write!(f, "segment {id}"),
            Self::Frame(offset) => write!(f, "the frame at offset {offset}"),
            Self::Frames(range) => write!(f, "the frames {range}"),
            Self::FrameId(Some(offset)) => write!(f, "the remembered id of offset {offset}"),
            Self::FrameId(None) => f.write_str("a remembered frame id"),
            Self::Checkpoint(name) => write!(f, "the checkpoint of {name}"),
            Self::DeadLetter(name, at) => write!(f, "the dead letter {at} of {name}"),
            Self::DeadLetters(name) => write!(f, "the dead letters of {name}"),
            Self::Family(name) => write!(f, "the family {name}"),
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.what)
    }
}
