//! What a connection is doing, and since when.
//!
//! hyper has one clock for heads, and it also runs on idle connections, whose sender would lose a
//! try by our closing early. So hyper's clock is off and this one runs instead. It knows three
//! phases, because three different times are right for them:
//!
//! ```text
//!  idle ──first byte──▶ head ──head complete──▶ busy ──answered──▶ idle
//!  ≤ idle_timeout       ≤ 5 s                   ≤ ack_deadline
//! ```
//!
//! A connection may be idle for that long only when it has proven to be a sender's: when a request
//! on it had good credentials and everything else that a frame has. Before that it has 10 s, from
//! its start or from when its credentials were good no longer, whatever it sends: nobody can keep
//! the places of senders by saying nothing, or nothing of worth. Logplex writes as soon as it has
//! connected (Logplex source, logplex_http_drain.erl).
//!
//! [`Watched`] sees the first byte, the handler sees the rest. All of it happens in the task of
//! one connection; the atomics only make it shareable.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::MAX_HEAD;
use super::head::HeadScan;
use crate::clock;

/// How long the phases of a connection may take. A request has its own deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// Between requests.
    pub(super) idle: Duration,
    /// From the first byte of a head to its end.
    pub(super) head: Duration,
    /// Until a connection has proven to be a sender's.
    pub(super) proof: Duration,
}

impl Timeouts {
    /// How long a head may take: Logplex writes it at once.
    const HEAD: Duration = Duration::from_secs(5);

    /// How long a connection may take until a request of it can be accepted.
    const PROOF: Duration = Duration::from_secs(10);

    pub(super) const fn new(idle: Duration) -> Self {
        Self { idle, head: Self::HEAD, proof: Self::PROOF }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Head,
    Busy,
}

/// The phase of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    epoch: Instant,
    /// Microseconds from `epoch` to the start of the phase, times 4, plus the phase.
    state: AtomicU64,
    /// Since when a proof is awaited that it is a sender's, in microseconds from `epoch`; or
    /// [`PROVEN`].
    unproven: AtomicU64,
    /// Whether the head of this request has two lengths.
    two_lengths: AtomicBool,
}

/// No proof is awaited.
const PROVEN: u64 = u64::MAX;

impl Activity {
    /// A connection that has just been accepted.
    pub(super) fn new(now: Instant) -> Self {
        let activity = Self {
            epoch: now,
            state: AtomicU64::new(0),
            unproven: AtomicU64::new(0),
            two_lengths: AtomicBool::new(false),
        };
        activity.enter(Phase::Idle, now);
        activity
    }

    /// Bytes have come.
    fn bytes_came(&self) {
        if self.phase().0 == Phase::Idle {
            self.two_lengths.store(false, Ordering::Relaxed);
            self.enter(Phase::Head, clock::instant());
        }
    }

    /// Whether the head that was read last says twice how long its body is. Of a pipelined head,
    /// which comes with the request before it, this is not known.
    pub(super) fn has_two_lengths(&self) -> bool {
        self.two_lengths.load(Ordering::Relaxed)
    }

    /// A head is complete. Returns when its first byte came.
    pub(super) fn request_begins(&self, now: Instant) -> Instant {
        let (phase, since) = self.phase();
        self.enter(Phase::Busy, now);
        // A pipelined head has been read with the request before it.
        if phase == Phase::Head { since } else { now }
    }

    /// A request can be accepted, as far as its head says.
    pub(super) fn proves(&self) {
        self.unproven.store(PROVEN, Ordering::Relaxed);
    }

    /// A request had wrong credentials. What was proven before counts no longer.
    pub(super) fn disproves(&self, now: Instant) {
        if self.unproven.load(Ordering::Relaxed) == PROVEN {
            self.unproven.store(self.micros(now), Ordering::Relaxed);
        }
    }

    /// A request has its answer.
    pub(super) fn request_ends(&self, now: Instant) {
        self.enter(Phase::Idle, now);
    }

    /// When the connection has to be closed if nothing happens.
    pub(super) fn deadline(&self, timeouts: Timeouts) -> Option<Instant> {
        let (phase, since) = self.phase();
        match phase {
            Phase::Idle => {
                let idle = since.checked_add(timeouts.idle)?;
                let unproven = self.unproven.load(Ordering::Relaxed);
                if unproven == PROVEN {
                    return Some(idle);
                }
                let awaited = Duration::from_micros(unproven).saturating_add(timeouts.proof);
                self.epoch.checked_add(awaited).map(|proof| proof.min(idle))
            }
            Phase::Head => since.checked_add(timeouts.head),
            Phase::Busy => None,
        }
    }

    fn phase(&self) -> (Phase, Instant) {
        let state = self.state.load(Ordering::Relaxed);
        let phase = match state & 3 {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Busy,
        };
        let since = self.epoch.checked_add(Duration::from_micros(state >> 2));
        (phase, since.unwrap_or(self.epoch))
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }

    fn enter(&self, phase: Phase, now: Instant) {
        // Two bits less than a u64 of microseconds: 146,000 years.
        let micros = self.micros(now) << 2;
        let phase = match phase {
            Phase::Idle => 0,
            Phase::Head => 1,
            Phase::Busy => 2,
        };
        self.state.store(micros | phase, Ordering::Relaxed);
    }
}

/// A stream that tells an [`Activity`] when bytes come.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    scan: HeadScan,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, scan: HeadScan::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let Self { activity, scan, .. } = &mut *self;
        let bytes = buf.filled().get(before..).unwrap_or_default();
        if bytes.is_empty() {
            return Poll::Ready(result);
        }
        if activity.phase().0 == Phase::Idle {
            scan.begins();
        }
        activity.bytes_came();
        if activity.phase().0 == Phase::Head
            && let Some(both) = scan.feed(bytes, MAX_HEAD)
        {
            activity.two_lengths.store(both, Ordering::Relaxed);
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts::new(Duration::from_secs(310));

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn each_phase_has_its_own_deadline() {
        let start = clock::instant();
        let activity = Activity::new(start);
        activity.proves();
        assert_eq!(activity.deadline(TIMEOUTS), Some(at(start, 310)));

        activity.enter(Phase::Head, at(start, 100));
        assert_eq!(activity.deadline(TIMEOUTS), Some(at(start, 105)));

        assert_eq!(activity.request_begins(at(start, 102)), at(start, 100));
        assert_eq!(activity.deadline(TIMEOUTS), None);

        activity.request_ends(at(start, 103));
        assert_eq!(activity.deadline(TIMEOUTS), Some(at(start, 413)));

        // A pipelined request: no byte was read for it alone.
        assert_eq!(activity.request_begins(at(start, 104)), at(start, 104));
    }

    /// Also when it sends one refused request after the other.
    #[test]
    fn who_has_proven_nothing_has_ten_seconds() {
        let start = clock::instant();
        let activity = Activity::new(start);
        assert_eq!(activity.deadline(TIMEOUTS), Some(at(start, 10)));
        for second in [3, 6, 9] {
            activity.request_begins(at(start, second));
            assert_eq!(activity.deadline(TIMEOUTS), None);
            activity.disproves(at(start, second));
            activity.request_ends(at(start, second));
            assert_eq!(activity.deadline(TIMEOUTS), Some(at(start, 10)));
        }
        activity.proves();
        activity.request_ends(at(start, 9));
        assert_eq!(activity.deadline(TIMEOUTS), Some(at(start, 319)));
        // Its credentials are good no longer.
        activity.disproves(at(start, 100));
        activity.request_ends(at(start, 101));
        activity.disproves(at(start, 105));
        assert_eq!(activity.deadline(TIMEOUTS), Some(at(start, 110)));
        assert_eq!(
            activity.deadline(Timeouts { idle: at(start, 3) - start, ..TIMEOUTS }),
            Some(at(start, 104))
        );
    }

    /// Bytes of a body that are read before anybody has heard of its head.
    #[tokio::test]
    async fn a_body_is_not_taken_for_a_head() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let head = b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n";
        let body = b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let activity = Arc::new(Activity::new(clock::instant()));
        let (mut sender, stream) = tokio::io::duplex(1000);
        let mut watched = Watched::new(stream, Arc::clone(&activity));
        sender.write_all(&[&head[..], body].concat()).await.unwrap();
        for part in [&head[..], body] {
            let mut bytes = vec![0; part.len()];
            assert_eq!(watched.read(&mut bytes).await.unwrap(), part.len());
            assert_eq!(bytes, part);
            assert!(!activity.has_two_lengths());
        }
    }

    #[test]
    fn only_the_first_byte_of_a_head_starts_its_clock() {
        let start = clock::instant();
        let activity = Activity::new(start);
        activity.enter(Phase::Head, at(start, 1));
        activity.bytes_came();
        assert_eq!(activity.deadline(TIMEOUTS), Some(at(start, 6)));
        activity.request_begins(at(start, 2));
        activity.bytes_came();
        assert_eq!(activity.deadline(TIMEOUTS), None);
    }
}
