//! What a task waits for.

use std::time::Instant;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep_until;

use super::super::control::{Control, Controls};
use super::super::names::Places;
use super::Done;

/// The next job that has ended; none while there is none.
pub(super) async fn ended(
    commits: &mut JoinSet<Done>,
    jobs: &mut JoinSet<Done>,
) -> Option<Result<Done, JoinError>> {
    tokio::select! {
        biased;
        Some(done) = commits.join_next() => Some(done),
        Some(done) = jobs.join_next() => Some(done),
        else => None,
    }
}

/// The next thing that an operator asks for; none while nobody can.
pub(super) async fn asked_for(control: &mut Option<Controls>) -> Option<Control> {
    match control {
        Some(control) => control.recv().await,
        None => None,
    }
}

/// Resolves when the endpoints are others; never where they cannot be.
pub(super) async fn changed(set: &mut Option<watch::Receiver<Places>>) {
    if let Some(set) = set
        && set.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

pub(super) async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
