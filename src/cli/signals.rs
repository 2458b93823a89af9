//! SIGTERM and SIGINT: the first stops in order, the second ends at once. SIGHUP has `serve` read the
//! configuration again, and is a SIGTERM to all others. SIGUSR1 dumps the state into the log.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::app::Exit;

/// What does something at SIGHUP waits here.
pub(super) type Hangup = Arc<Notify>;

/// What a SIGHUP does.
#[derive(Clone, Debug)]
pub(super) enum AtHangup {
    /// Wakes whoever reads the configuration again.
    Wake(Hangup),
    /// The terminal has gone: the same as SIGTERM. Unless whoever started this had it ignored, as
    /// `nohup` does.
    Stop,
}

/// Cancels `stop` at the first signal, and resolves at the second.
pub(super) async fn twice(stop: CancellationToken, at_hangup: AtHangup) -> Exit {
    // Before it is caught.
    let ignored = ignores_hangup();
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
            _ = hangup.recv() => match &at_hangup {
                AtHangup::Wake(heard) => {
                    // Several that come while one is served are one.
                    heard.notify_one();
                    continue;
                }
                AtHangup::Stop if ignored => continue,
                AtHangup::Stop => {}
            }
        }
        if stop.is_cancelled() {
            tracing::warn!("told twice: ending at once");
            return Exit::DeadlinePassed;
        }
        stop.cancel();
    }
}

/// Whether this process was started with SIGHUP ignored (`man 5 proc`, `SigIgn`: a bit for each
/// signal, from 1 on).
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

/// The SIGUSR1s from now on.
pub(super) fn dumps() -> Option<Signal> {
    signal(SignalKind::user_defined1())
        .inspect_err(|error| tracing::error!(%error, "SIGUSR1 cannot be caught"))
        .ok()
}
