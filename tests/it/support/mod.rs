//! What the tests share.

mod browser;
mod control;
mod hec;
mod http;
mod lab;
mod pki;
mod port;
mod process;
mod settled;
mod shim;

use std::time::Duration;

pub(crate) use browser::Browser;
pub(crate) use control::Control;
pub(crate) use hec::{Hec, usual_ack};
pub(crate) use http::{Answer, Client, Frame, get};
pub(crate) use lab::{Destination, Lab, PASSWORD, Sending, TOKEN, USER, number};
pub(crate) use pki::{Authority, Pair, private};
pub(crate) use port::Port;
pub(crate) use process::{Process, Ran, command, peak_memory, run};
pub(crate) use shim::Shim;

/// How long something may take that should take no time at all.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Waits until `condition` holds, and returns how long that took.
///
/// # Panics
/// When it does not hold in time.
pub(crate) async fn eventually(
    deadline: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> Duration {
    let start = forebay::clock::instant();
    while !condition().await {
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

/// A number worth keeping: shown by `--no-capture`, and when the test fails.
pub(crate) fn measured(what: &str, value: impl std::fmt::Display) {
    eprintln!("measured: {what}: {value}");
}

/// A number that whoever runs the tests may set.
///
/// # Panics
/// When it is set and no number.
pub(crate) fn from_environment(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}
