//! SIGTERM and SIGINT: the first stops in order, the second ends at once. SIGHUP, which would end
//! the process by default, does nothing yet but say so. SIGUSR1 dumps the state into the log.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::Exit;

/// Cancels `stop` at the first signal, and resolves at the second.
pub(super) async fn twice(stop: CancellationToken) -> Exit {
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
                tracing::warn!("SIGHUP: reloading is not yet supported; restart forebay instead");
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
