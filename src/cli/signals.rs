//! SIGTERM and SIGINT: the first stops in order, the second ends at once. SIGHUP reads the
//! configuration again, where there is one. SIGUSR1 dumps the state into the log.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::app::Exit;

/// What does something at SIGHUP waits here.
pub(super) type Hangup = Arc<Notify>;

/// Cancels `stop` at the first signal, and resolves at the second.
pub(super) async fn twice(stop: CancellationToken, hangup_heard: Hangup) -> Exit {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) else {
        tracing::error!("signals cannot be caught");
        return Exit::Bug;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {
                // Several that come while one is served are one.
                hangup_heard.notify_one();
                continue;
            }
        }
        if stop.is_cancelled() {
            tracing::warn!("told twice: ending at once");
            return Exit::DeadlinePassed;
        }
        stop.cancel();
    }
}

/// The SIGUSR1s from now on.
pub(super) fn dumps() -> Option<Signal> {
    signal(SignalKind::user_defined1())
        .inspect_err(|error| tracing::error!(%error, "SIGUSR1 cannot be caught"))
        .ok()
}
