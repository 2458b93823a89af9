//! What the service manager is told, when there is one: systemd's `sd_notify(3)`.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::ingest::IngestHandle;
use crate::wal::Wal;

/// How often a start asks for more time, and for how much. The service manager ends a start that
/// stops asking.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
const EXTEND_BY: Duration = Duration::from_secs(30);

/// How long a start may go on asking. What takes longer hangs.
const EXTEND_FOR: Duration = Duration::from_mins(60);

/// How long the parts may take to show that they are alive. A disk that takes longer for one sync
/// is ill, but a restart does not heal it: the time limit of the watchdog decides.
const ALIVE_WITHIN: Duration = Duration::from_secs(10);

fn tell(state: &[NotifyState<'_>]) {
    // Without a service manager this does nothing.
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told what happens");
    }
}

/// Recovery is done, frames are taken.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The process is on its way out.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The configuration is being read again; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager is not told of the reload"),
    }
}

/// Asks for more time for as long as something starts. Resolves when no start can take so long.
pub(super) async fn extend_start() {
    let by = u32::try_from(EXTEND_BY.as_micros()).unwrap_or(u32::MAX);
    let times = EXTEND_FOR.as_secs() / EXTEND_EVERY.as_secs();
    for _ in 0..times {
        tell(&[NotifyState::ExtendTimeoutUsec(by)]);
        sleep(EXTEND_EVERY).await;
    }
}

/// Feeds the watchdog, if there is one, as long as the accept loop and the appender answer. A stop
/// ends both, and has deadlines of its own.
pub(super) async fn feed_watchdog(ingest: IngestHandle, wal: Wal, stop: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    tracing::info!(limit_ms = limit.as_millis(), "the service manager watches");
    let mut fed = true;
    loop {
        let alive = async { tokio::join!(ingest.is_alive(), wal.is_alive()) };
        let alive = timeout(ALIVE_WITHIN.min(limit / 2), alive).await;
        let feeds = stop.is_cancelled() || matches!(alive, Ok((true, true)));
        if feeds {
            tell(&[NotifyState::Watchdog]);
        } else if fed {
            // Once: the service manager will say the rest.
            let accepts = alive.as_ref().is_ok_and(|(accepts, _)| *accepts);
            tracing::error!(accepts, "the accept loop or the appender does not answer");
        }
        fed = feeds;
        sleep(limit / 4).await;
    }
}
