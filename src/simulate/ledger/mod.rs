//! What each end saw, kept apart from the relay: the ground truth of every test and load run.
//!
//! A message is known by the [`text_hash`](super::text_hash) of its text. The sender writes texts
//! that are unique, so a hash that the sender had accepted and the HEC never indexed is a lost
//! message, and one that was indexed twice is a duplicate.

mod audit;
mod file;
mod hec;
mod histogram;
mod sender;

pub use audit::{Audit, audit};
pub use file::LedgerError;
pub use hec::{Batch, BatchKey, Counts, HecLedger, HecTotals, KeptEvent};
pub use histogram::Histogram;
pub use sender::{FrameEntry, FrameKey, Outcome, SenderLedger, SenderTotals};
