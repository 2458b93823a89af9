//! The real binary, driven from outside, between a simulated Logplex and a simulated HEC.
//!
//! What belongs here is what only a process can show: that it survives SIGKILL and stops on
//! SIGTERM, that no answer leaves before the disk has said yes, that its exit codes are those of
//! the manual. The two simulators run in the test and keep the books: they use neither forebay's
//! parser nor its encoder. Every test has its own directory, its own ports and its own process,
//! and waits for things to happen, never for time to pass. A test that fails prints the
//! configuration, the last log lines, the data directory and the books.

#![cfg(feature = "server")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "clippy.toml allows these in tests, which does not reach the helpers of tests"
)]

mod support;

/// `/healthz`, `/readyz`, `/metrics`, `/v1/status`; and that secrets are nowhere.
mod admin;
/// `destination.affinity`.
mod affinity;
/// `acknowledgement = "auto"`.
mod auto;
/// Every fault of the simulated collector at once, poison, and SIGKILL.
mod chaos;
/// Exit codes, `check`, `demo`, `simulate`.
mod commands;
/// `docs/comparison.md` names tests that exist; and defects of others, provoked.
mod comparison;
/// `forebay simulate logplex --conformance`, against forebay.
mod conformance;
/// `forebay cursor pause`, `resume` and `seek`.
mod cursors;
/// The dashboard, asked by a real Prometheus.
mod dashboard;
/// Messages that collectors refuse.
mod dead_letters;
/// What each answer costs a Logplex.
mod decisions;
/// Destinations that die, hang, lose acknowledgements or restart.
mod destinations;
/// The commands, configurations and links of the documentation.
mod docs;
/// The same frame sent twice is stored once.
mod duplicates;
/// P1: nothing is answered 200 before it is synced.
mod durability;
/// Imports only point down.
mod floors;
/// One frame through the log lines, and request ids.
mod follow;
/// From the bytes of a drain to the event in Splunk.
mod golden;
/// `docs/guarantees.md` names tests that exist.
mod guarantees;
/// Hostile clients beside good senders.
mod hostile;
/// Ten thousand idle connections.
mod idle;
/// `forebay import vector`, and the relay that comes of it.
mod import;
/// A destination beside one that hangs and one that refuses.
mod isolation;
/// `dead-letter list|show|redrive|purge`.
mod letter_tools;
/// Full disks, held requests, memory.
mod limits;
/// `destination.resolve`.
mod names;
/// `status`, `top`, `cursor`, `drain`, `log-level`: the relay asked and changed while it runs.
mod operate;
/// What is installed beside the program: units, alert rules, Splunk's files.
mod ops_files;
/// More load than the disk takes.
mod overload;
/// The Debian package.
mod package;
/// The status page, in a real browser.
mod page;
/// The power goes, on a disk that forgets what was not synced.
mod power;
/// `forebay check --probe`, against a collector with each fault.
mod probe;
/// What a start does about damage, and about a store that is in use.
mod recovery;
/// SIGHUP: what changes without a restart, and what is refused.
mod reload;
/// `forebay replay start --wait`, and replays that do not come on.
mod replay_wait;
/// `forebay replay`: stretches of the log, sent once more.
mod replays;
/// Restarts with an inherited socket, and what the service manager is told.
mod restart;
/// Logplex, log-shuttle, Heroku's API and curl, as they are.
mod senders;
/// What an operator may make of messages, from the drain to the collector.
mod shapes;
/// SIGKILL and SIGTERM under load.
mod signals;
/// `forebay simulate hec`, from its command line.
mod simulated;
/// What the encoder writes is taken whole, whatever came in.
mod strict;
/// TLS to the collectors, proxies, and tokens that change.
mod trust;
/// `wal info|verify|dump|export`, and what was exported sent again.
mod wal_tools;
