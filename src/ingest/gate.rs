//! Whether connections are accepted.
//!
//! A log that takes no more frames is first met by holding requests, then by 503. When it lasts,
//! a 503 is not good enough: Logplex makes its three tries within a second and drops the frame.
//! A refused connection costs no try, so the listener closes (Logplex source,
//! logplex_http_drain.erl, `try_connect`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// What the accept loop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Accepts.
    Open,
    /// The log has taken nothing for too long: refuses connections until it has space.
    Full,
    /// The log will not take anything before a restart: refuses connections.
    Closed,
}

/// Learns from every append, tells the accept loop.
#[derive(Debug)]
pub(super) struct Gate {
    /// How long the log may refuse before the gate closes.
    patience: Duration,
    /// Since when it refuses. Locked only in trouble.
    refused_since: Mutex<Option<Instant>>,
    /// Whether `refused_since` is set: what the good path looks at.
    troubled: AtomicBool,
    state: watch::Sender<State>,
}

impl Gate {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            refused_since: Mutex::new(None),
            troubled: AtomicBool::new(false),
            state: watch::Sender::new(State::Open),
        }
    }

    /// The state, to be waited on.
    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// The log took a frame.
    pub(super) fn taken(&self) {
        if self.troubled.load(Ordering::Relaxed) {
            self.open();
        }
    }

    /// The log refused a frame for now.
    pub(super) fn refused(&self, now: Instant) {
        let since = *self.since().get_or_insert(now);
        self.troubled.store(true, Ordering::Relaxed);
        if now.saturating_duration_since(since) >= self.patience {
            self.change(State::Open, State::Full);
        }
    }

    /// The log will not take anything any more.
    pub(super) fn broken(&self) {
        self.state.send_replace(State::Closed);
    }

    /// Accepts again: the log took a frame, or says that it would.
    pub(super) fn open(&self) {
        *self.since() = None;
        self.troubled.store(false, Ordering::Relaxed);
        self.change(State::Full, State::Open);
    }

    fn change(&self, from: State, to: State) {
        self.state.send_if_modified(|state| {
            let changes = *state == from;
            if changes {
                *state = to;
            }
            changes
        });
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        // Nothing can panic while this is locked, and an instant cannot be half written.
        self.refused_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_gate_closes_only_when_refusals_last() {
        let start = clock::instant();
        let at = |seconds| start + Duration::from_secs(seconds);
        let gate = Gate::new(Duration::from_secs(4));
        let state = gate.watch();
        gate.refused(at(0));
        gate.refused(at(3));
        assert_eq!(*state.borrow(), State::Open);
        gate.taken();
        gate.refused(at(4));
        assert_eq!(*state.borrow(), State::Open, "a frame was taken in between");
        gate.refused(at(8));
        assert_eq!(*state.borrow(), State::Full);
        gate.refused(at(9));
        assert_eq!(*state.borrow(), State::Full);
        gate.taken();
        assert_eq!(*state.borrow(), State::Open);
    }

    #[test]
    fn a_try_begins_with_full_patience() {
        let start = clock::instant();
        let at = |seconds| start + Duration::from_secs(seconds);
        let gate = Gate::new(Duration::from_secs(4));
        gate.refused(at(0));
        gate.refused(at(4));
        gate.open();
        gate.refused(at(5));
        assert_eq!(*gate.watch().borrow(), State::Open);
        gate.refused(at(9));
        assert_eq!(*gate.watch().borrow(), State::Full);
    }

    #[test]
    fn a_broken_log_never_opens_the_gate() {
        let gate = Gate::new(Duration::ZERO);
        gate.broken();
        gate.refused(clock::instant());
        gate.taken();
        gate.open();
        assert_eq!(*gate.watch().borrow(), State::Closed);
    }
}
