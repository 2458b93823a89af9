//! Whether connections are accepted.
//!
//! ```text
//!          nothing is taken for hold_after         nothing is taken for close_after more
//!  open ─────────────────────────────▶ holding ─────────────────────────────▶ full
//!   ▲ ◀──────── a frame is taken ─────────┘                                     │
//!   └──────── a frame is taken, or the log has space and answers a probe ───────┘
//!
//!  closed: the log takes nothing before a restart. From anywhere, to nowhere.
//! ```
//!
//! A log that takes no more frames is first met by holding requests, then by 503. When it lasts,
//! a 503 is not good enough: Logplex makes its three tries within a second and drops the frame.
//! A refused connection costs no try, so the listener closes (Logplex source,
//! logplex_http_drain.erl, `try_connect`). To the outside, full and closed are one: `closed`.
//!
//! Only waiting for the log counts: for space, for a sync, or for memory that frames have which are
//! with the log. A sender that is slow with its body closes nothing, also when it has all the
//! memory that others wait for.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// What the accept loop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Accepts, and frames are taken.
    Open,
    /// Accepts, and requests wait.
    Holding,
    /// The log has taken nothing for too long: refuses connections until it would.
    Full,
    /// The log will not take anything before a restart: refuses connections.
    Closed,
}

impl State {
    /// Every state as it is seen from outside.
    pub(super) const SHOWN: [&'static str; 3] = ["open", "holding", "closed"];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Holding => "holding",
            Self::Full | Self::Closed => "closed",
        }
    }
}

/// Learns from every request, tells the accept loop.
#[derive(Debug)]
pub(super) struct Gate {
    hold_after: Duration,
    close_after: Duration,
    /// Requests that wait for the log.
    waiting: AtomicUsize,
    /// Requests that wait for memory.
    without_memory: AtomicUsize,
    /// Frames that the log has and has not answered, also when nobody waits for that any more.
    with_log: Arc<AtomicUsize>,
    /// Frames that were taken.
    taken: AtomicU64,
    /// Whether the state is not open: what the good path looks at.
    troubled: AtomicBool,
    stall: Mutex<Stall>,
    state: watch::Sender<State>,
}

/// How long nothing has been taken although somebody waited.
#[derive(Clone, Copy, Debug, Default)]
struct Stall {
    looked: Option<Instant>,
    taken: u64,
    lasts: Duration,
}

/// A request waits for as long as this lives.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A frame is with the log for as long as this lives.
#[derive(Debug)]
pub(super) struct WithLog(Arc<AtomicUsize>);

impl Drop for WithLog {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub(super) fn new(hold_after: Duration, close_after: Duration) -> Self {
        Self {
            hold_after,
            close_after,
            waiting: AtomicUsize::new(0),
            without_memory: AtomicUsize::new(0),
            with_log: Arc::default(),
            taken: AtomicU64::new(0),
            troubled: AtomicBool::new(false),
            stall: Mutex::default(),
            state: watch::Sender::new(State::Open),
        }
    }

    /// The state, to be waited on.
    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// The state at this moment.
    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// How often [`Self::look`] wants to be called.
    pub(super) fn pace(&self) -> Duration {
        const SLOWEST: Duration = Duration::from_millis(250);
        const FASTEST: Duration = Duration::from_millis(10);
        (self.hold_after / 4).clamp(FASTEST, SLOWEST)
    }

    /// A request waits for the log.
    pub(super) fn waits(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// A request waits for memory.
    pub(super) fn waits_for_memory(&self) -> Waiting<'_> {
        self.without_memory.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.without_memory)
    }

    /// A frame goes to the log.
    pub(super) fn hands_over(&self) -> WithLog {
        self.with_log.fetch_add(1, Ordering::Relaxed);
        WithLog(Arc::clone(&self.with_log))
    }

    /// Whether no request waits for the log. One that waits for memory does when the log has
    /// frames: otherwise it is senders who have the memory.
    pub(super) fn is_idle(&self) -> bool {
        let none = |count: &AtomicUsize| count.load(Ordering::Relaxed) == 0;
        none(&self.waiting) && (none(&self.without_memory) || none(&self.with_log))
    }

    /// The log took a frame.
    pub(super) fn taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        if self.troubled.load(Ordering::Relaxed) {
            self.open();
        }
    }

    /// The log will not take anything any more.
    pub(super) fn broken(&self) {
        self.troubled.store(true, Ordering::Relaxed);
        self.state.send_replace(State::Closed);
    }

    /// Accepts again: the log took a frame, or says that it would.
    pub(super) fn open(&self) {
        {
            let mut stall = self.stall();
            (stall.looked, stall.lasts) = (None, Duration::ZERO);
        }
        self.troubled.store(false, Ordering::Relaxed);
        self.change(&[State::Holding, State::Full], State::Open);
    }

    /// Looks how things are. Time counts as stalled when somebody waited at its end and nothing
    /// was taken in it.
    pub(super) fn look(&self, now: Instant) {
        let taken = self.taken.load(Ordering::Relaxed);
        let lasts = {
            let mut stall = self.stall();
            let since = stall.looked.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            if taken != stall.taken {
                stall.lasts = Duration::ZERO;
            } else if !self.is_idle() {
                stall.lasts = stall.lasts.saturating_add(since);
            }
            (stall.looked, stall.taken) = (Some(now), taken);
            stall.lasts
        };
        if lasts < self.hold_after {
            return;
        }
        self.troubled.store(true, Ordering::Relaxed);
        if lasts >= self.hold_after.saturating_add(self.close_after) {
            self.change(&[State::Open, State::Holding], State::Full);
        } else {
            self.change(&[State::Open], State::Holding);
        }
    }

    fn change(&self, from: &[State], to: State) {
        self.state.send_if_modified(|state| {
            let changes = from.contains(state);
            if changes {
                *state = to;
            }
            changes
        });
    }

    fn stall(&self) -> MutexGuard<'_, Stall> {
        // Nothing can panic while this is locked, and half of it is as good as all of it.
        self.stall.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn gate() -> Gate {
        Gate::new(Duration::from_secs(1), Duration::from_secs(4))
    }

    /// Looks every 250 ms from one time to another, in seconds.
    fn look(gate: &Gate, start: Instant, from: u64, until: u64) -> State {
        for quarter in from * 4..=until * 4 {
            gate.look(start + Duration::from_millis(250 * quarter));
        }
        gate.state()
    }

    #[test]
    fn the_gate_holds_and_then_closes_only_when_nothing_is_taken() {
        let (start, gate) = (clock::instant(), gate());
        assert_eq!(look(&gate, start, 0, 100), State::Open, "nobody waits");
        let waiting = gate.waits();
        gate.look(start + Duration::from_millis(100_900));
        assert_eq!(gate.state(), State::Open);
        assert_eq!(look(&gate, start, 101, 101), State::Holding);
        gate.taken();
        assert_eq!(gate.state(), State::Open);
        assert_eq!(look(&gate, start, 102, 105), State::Holding, "a frame was taken in between");
        assert_eq!(look(&gate, start, 106, 107), State::Full);
        assert_eq!(look(&gate, start, 108, 109), State::Full);
        gate.taken();
        assert_eq!(gate.state(), State::Open);
        drop(waiting);
        assert!(gate.is_idle());
    }

    #[test]
    fn a_log_that_takes_something_now_and_then_never_closes_the_gate() {
        let (start, gate) = (clock::instant(), gate());
        let _waiting = gate.waits();
        for second in 0..60 {
            assert_ne!(look(&gate, start, second * 3, second * 3 + 2), State::Full);
            gate.taken();
        }
    }

    #[test]
    fn time_without_requests_does_not_count() {
        let (start, gate) = (clock::instant(), gate());
        let waiting = gate.waits();
        assert_eq!(look(&gate, start, 0, 2), State::Holding);
        drop(waiting);
        assert_eq!(look(&gate, start, 3, 60), State::Holding);
        let _again = gate.waits();
        assert_eq!(look(&gate, start, 61, 61), State::Holding);
        assert_eq!(look(&gate, start, 62, 64), State::Full);
    }

    #[test]
    fn who_waits_for_memory_closes_the_gate_only_when_the_log_has_it() {
        let (start, gate) = (clock::instant(), gate());
        let _waiting = gate.waits_for_memory();
        assert_eq!(look(&gate, start, 0, 60), State::Open, "slow senders have it");
        let frame = gate.hands_over();
        assert_eq!(look(&gate, start, 61, 63), State::Holding);
        drop(frame);
        assert_eq!(look(&gate, start, 64, 90), State::Holding);
        let _frame = gate.hands_over();
        assert_eq!(look(&gate, start, 91, 95), State::Full);
    }

    #[test]
    fn a_try_begins_with_full_patience() {
        let (start, gate) = (clock::instant(), gate());
        let _waiting = gate.waits();
        assert_eq!(look(&gate, start, 0, 6), State::Full);
        gate.open();
        assert_eq!(look(&gate, start, 7, 7), State::Open);
        assert_eq!(look(&gate, start, 8, 10), State::Holding);
        assert_eq!(look(&gate, start, 11, 13), State::Full);
    }

    #[test]
    fn a_broken_log_never_opens_the_gate() {
        let gate = gate();
        gate.broken();
        gate.look(clock::instant());
        gate.taken();
        gate.open();
        assert_eq!(gate.state(), State::Closed);
        assert_eq!(gate.state().as_str(), "closed");
    }
}
