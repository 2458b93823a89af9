//! The vocabulary of forebay: positions in the log, identities, sizes, secrets.
//!
//! Every range in this crate is half-open, `[start, end)`. "Last" appears in no name, absence is
//! an [`Option`] and never a magic value.

#[cfg(test)]
mod corpus;
mod id;
mod offset;
mod secret;
mod size;
mod time;

#[cfg(test)]
pub(crate) use corpus::corpus;
pub use id::{AckId, BatchId, ChannelId, DestinationName, NameError, SegmentId};
pub use offset::{Offset, OffsetRange, ParsePositionError, Position, PositionRange, Tail};
pub use secret::Secret;
pub use size::{ByteSize, SizeError};
pub use time::UnixMicros;
