//! systemd's watchdog: the service manager hears from forebay as long as it works, and restarts
//! it otherwise.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::admin::View;
use crate::clock;
use crate::types::Tail;

/// How long requests may wait for the log without any of them being written. A disk that takes
/// longer than this for one sync hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the log gets on.
#[derive(Debug)]
struct Progress {
    tail: Tail,
    since: Instant,
}

impl Progress {
    /// Whether all is well: nothing waits, or something was written not long ago.
    fn look(&mut self, tail: Tail, waiting: usize, now: Instant) -> bool {
        if waiting == 0 || tail != self.tail {
            *self = Self { tail, since: now };
        }
        now.saturating_duration_since(self.since) < PATIENCE
    }
}

/// Tells systemd that forebay is alive, as often as it wants to hear that, and only while the log
/// gets on. Ends never; without a watchdog it does nothing.
pub(super) async fn feed(view: &View) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    // Twice as often as it has to be, as systemd advises.
    let every = limit / 2;
    let mut progress = Progress { tail: view.wal.status().tail, since: clock::instant() };
    loop {
        tokio::time::sleep(every).await;
        let tail = *view.wal.tail().borrow();
        if !progress.look(tail, view.wal.waiting(), clock::instant()) {
            tracing::error!(
                waiting = view.wal.waiting(),
                "the log does not get on: the watchdog is not told that all is well"
            );
            continue;
        }
        if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            tracing::warn!(%error, "the service manager cannot be told that forebay is alive");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Offset;

    #[test]
    fn a_log_that_takes_requests_and_writes_none_is_not_well() {
        let start = clock::instant();
        let at = |seconds| start + Duration::from_secs(seconds);
        let tail = |end| Tail { end: Offset::new(end), messages: 0, bytes: 0 };
        let mut progress = Progress { tail: tail(1), since: start };
        assert!(progress.look(tail(1), 0, at(100)), "nothing waits");
        assert!(progress.look(tail(1), 5, at(119)));
        assert!(!progress.look(tail(1), 5, at(120)), "they wait for twenty seconds");
        assert!(progress.look(tail(2), 5, at(121)), "it goes on");
        assert!(!progress.look(tail(2), 5, at(141)));
        assert!(progress.look(tail(2), 0, at(142)));
    }
}
