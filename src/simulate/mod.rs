//! The two ends of a drain, simulated: a Logplex that sends and a HEC that receives.
//!
//! They ship with the product (`forebay simulate`, `forebay demo`), and the integration tests and
//! the benches drive the relay between them. Each writes down what it saw in a
//! [`ledger`]; [`ledger::audit`] compares the two books and so says, without asking the relay,
//! what was lost and what came twice. Nothing here uses forebay's own parser or encoder: a bug
//! that both sides share would be invisible.
//!
//! ```text
//! logplex::LogplexSender ──frames──▶ (the relay) ──events──▶ hec::HecServer
//!         │                                                       │
//!         └─▶ ledger::SenderLedger ──▶ ledger::audit ◀── ledger::HecLedger
//! ```

mod hash;
pub mod hec;
pub mod ledger;
pub mod logplex;

pub use hash::text_hash;

#[cfg(test)]
mod tests;
