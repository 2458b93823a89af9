//! What a sender says about itself, while it runs and at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::simulate::ledger::{Histogram, SenderLedger, SenderTotals};

/// A frame may start this late before the sender says that it cannot keep up.
const TOLERANCE: Duration = Duration::from_millis(500);

/// Counters of all connections.
#[derive(Debug)]
pub(super) struct Counters {
    /// Frames that may still be begun.
    frames_left: AtomicU64,
    open: AtomicU64,
    connect_failures: AtomicU64,
    timeouts: AtomicU64,
    broken: AtomicU64,
    /// Microseconds.
    behind: AtomicU64,
    max_behind: AtomicU64,
    answers: Mutex<BTreeMap<u16, u64>>,
}

impl Counters {
    pub(super) fn new(frames: Option<u64>) -> Self {
        Self {
            frames_left: AtomicU64::new(frames.unwrap_or(u64::MAX)),
            open: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            behind: AtomicU64::new(0),
            max_behind: AtomicU64::new(0),
            answers: Mutex::default(),
        }
    }

    /// Takes one of the frames to send. False: there are no more.
    pub(super) fn claim_frame(&self) -> bool {
        self.frames_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    pub(super) fn connected(&self) {
        self.open.fetch_add(1, Relaxed);
    }

    pub(super) fn disconnected(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    pub(super) fn connect_failed(&self) {
        self.connect_failures.fetch_add(1, Relaxed);
    }

    pub(super) fn timed_out(&self) {
        self.timeouts.fetch_add(1, Relaxed);
    }

    pub(super) fn broke(&self) {
        self.broken.fetch_add(1, Relaxed);
    }

    pub(super) fn answered(&self, status: u16) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry(status).or_default() += 1;
    }

    /// A frame starts after its time.
    pub(super) fn started_late(&self, late: Duration) {
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.behind.store(micros, Relaxed);
        let before = self.max_behind.fetch_max(micros, Relaxed);
        if late > TOLERANCE && Duration::from_micros(before) <= TOLERANCE {
            tracing::warn!(
                behind_ms = late.as_millis(),
                "the simulated Logplex does not keep up with its rate"
            );
        }
    }
}

/// Looks at a running sender. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Progress {
    pub(super) counters: Arc<Counters>,
    pub(super) ledger: Arc<SenderLedger>,
}

/// One look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Frames and messages: begun, accepted, thrown away, retried, in flight.
    pub totals: SenderTotals,
    /// Answers by status.
    pub answers: BTreeMap<u16, u64>,
    /// Open connections.
    pub connections: u64,
    /// Connection attempts that failed. They cost no try.
    pub connect_failures: u64,
    /// Tries that ended by the request timeout.
    pub timeouts: u64,
    /// Tries that ended by a closed connection or an answer Logplex cannot read.
    pub broken: u64,
    /// How late the latest frame that was late has started. Zero without a rate.
    pub behind: Duration,
    /// How late any frame has started.
    pub max_behind: Duration,
}

impl Progress {
    /// What has happened so far.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let counters = &self.counters;
        let answers = counters.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Snapshot {
            totals: self.ledger.totals(),
            answers,
            connections: counters.open.load(Relaxed),
            connect_failures: counters.connect_failures.load(Relaxed),
            timeouts: counters.timeouts.load(Relaxed),
            broken: counters.broken.load(Relaxed),
            behind: Duration::from_micros(counters.behind.load(Relaxed)),
            max_behind: Duration::from_micros(counters.max_behind.load(Relaxed)),
        }
    }
}

/// What a sender did, from its start to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Why the file of frames could not be read to its end.
    pub file_error: Option<String>,
    /// The number that made its texts unique.
    pub run: u32,
    /// How long it ran.
    pub elapsed: Duration,
    /// The counters at the end. The totals are those of the ledger.
    pub end: Snapshot,
    /// From the start of a try to its answer, whatever that was.
    pub latency: Histogram,
    /// The messages a second it was asked for.
    pub rate: Option<f64>,
}

impl Report {
    /// Messages accepted a second.
    #[must_use]
    pub fn accepted_rate(&self) -> f64 {
        // f64 counts exactly to 2^53.
        self.end.totals.accepted_messages as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Every frame started within half a second of its time.
    #[must_use]
    pub fn kept_up(&self) -> bool {
        self.end.max_behind <= TOLERANCE
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot { totals, answers, connect_failures, timeouts, broken, max_behind, .. } =
            &self.end;
        writeln!(f, "run        {:08x}, {:.1} s", self.run, self.elapsed.as_secs_f64())?;
        writeln!(f, "sent       {} messages in {} frames", totals.messages, totals.frames)?;
        writeln!(
            f,
            "accepted   {} messages in {} frames, {:.0} messages/s",
            totals.accepted_messages,
            totals.accepted_frames,
            self.accepted_rate()
        )?;
        writeln!(
            f,
            "dropped    {} messages: {} frames for a 4xx, {} after the last try",
            totals.dropped_messages, totals.dropped_frames, totals.gave_up_frames
        )?;
        writeln!(f, "in flight  {} frames", totals.in_flight())?;
        writeln!(
            f,
            "trouble    {} retries, {timeouts} timeouts, {broken} broken, {connect_failures} failed connections",
            totals.retries
        )?;
        write!(f, "answers   ")?;
        for (status, count) in answers {
            write!(f, " {status}: {count}")?;
        }
        write!(f, "\nlatency    {}", self.latency)?;
        if let Some(rate) = self.rate {
            let verdict = if self.kept_up() { "kept up" } else { "DID NOT KEEP UP" };
            write!(
                f,
                "\nrate       {rate:.0} messages/s asked for: {verdict}, at most {:.1} ms late",
                max_behind.as_secs_f64() * 1e3
            )?;
        }
        Ok(())
    }
}
