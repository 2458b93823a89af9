//! One Logplex node's connection to a drain: its tries, its patience and its memory of losses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::frame::{Frame, Generator, Stamp};
use super::pace::Pace;
use super::report::Counters;
use super::stream::{self, Tls};
use super::wire::Wire;
use super::{LogplexConfig, drain_token};
use crate::clock;
use crate::simulate::ledger::{Outcome, SenderLedger};
use crate::simulate::text_hash;
use crate::types::{Secret, UnixMicros};

/// What all connections of a sender share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: LogplexConfig,
    pub(super) tls: Option<Tls>,
    pub(super) run: u32,
    pub(super) ledger: Arc<SenderLedger>,
    pub(super) counters: Arc<Counters>,
    /// What never changes, up to the message count. Holds the `Authorization`.
    pub(super) head: Secret,
    /// No new frame after this.
    pub(super) stop: CancellationToken,
    /// The frames of a file, for whichever connection comes next.
    pub(super) file: Option<Mutex<mpsc::Receiver<Frame>>>,
}

/// Messages thrown away since the last 2xx.
#[derive(Clone, Copy, Debug)]
struct Loss {
    messages: u64,
    since: UnixMicros,
}

/// One connection and its sender.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    number: u32,
    token: String,
    generator: Generator,
    pace: Option<Pace>,
    wire: Option<Wire>,
    last_use: Instant,
    loss: Option<Loss>,
    /// Made while the last answer was awaited.
    next: Option<Frame>,
    /// The buffer of a frame that has ended.
    spare: Vec<u8>,
    backoff: fastrand::Rng,
}

/// How a frame ended, with the tries and answers it took.
struct Delivered {
    outcome: Outcome,
    tries: u8,
    answers: u8,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, number: u32, pace: Option<Pace>) -> Self {
        let config = &shared.config;
        let generator = Generator::new(
            shared.run,
            number,
            config.messages_per_frame,
            config.message_bytes,
            config.mix,
        );
        Self {
            number,
            token: drain_token(number % config.drains),
            generator,
            pace,
            wire: None,
            last_use: clock::instant(),
            loss: None,
            next: None,
            spare: Vec::new(),
            backoff: fastrand::Rng::with_seed(u64::from(shared.run) << 32 | u64::from(number)),
            shared,
        }
    }

    /// Sends frames until there are no more, or until told to stop; then the frame in flight is
    /// seen through.
    pub(super) async fn run(mut self) {
        let mut started = 0;
        while self.wait_until_due(started).await && self.shared.counters.claim_frame() {
            self.take_turn(started);
            started += 1;
            let Some(mut frame) = self.next_frame().await else { break };
            let hashes = std::mem::take(&mut frame.hashes);
            let key = self.shared.ledger.begin(frame.id, self.number, hashes);
            let Delivered { outcome, tries, answers } = self.deliver(&frame).await;
            self.shared.ledger.finish(key, outcome, tries, answers);
            self.spare = frame.body;
        }
        self.close();
    }

    /// Which drain the frame with this number is for.
    fn take_turn(&mut self, frame: u64) {
        let LogplexConfig { drains, connections, .. } = self.shared.config;
        if drains > connections {
            let drain = u64::from(self.number) + frame.wrapping_mul(u64::from(connections.get()));
            let drain = drain % u64::from(drains.get());
            self.token = drain_token(u32::try_from(drain).unwrap_or_default());
        }
    }

    /// The next frame. None: the file is at its end, or the sender stops.
    async fn next_frame(&mut self) -> Option<Frame> {
        let Some(file) = &self.shared.file else {
            let made = self.next.take();
            return made.or_else(|| {
                let buffer = std::mem::take(&mut self.spare);
                Some(self.generator.next(clock::unix_micros(), buffer))
            });
        };
        let next = async { file.lock().await.recv().await };
        tokio::select! {
            frame = next => frame,
            () = self.shared.stop.cancelled() => None,
        }
    }

    /// Waits for a frame's time. False: the sender stops.
    async fn wait_until_due(&mut self, frame: u64) -> bool {
        let stop = self.shared.stop.clone();
        if stop.is_cancelled() {
            return false;
        }
        let Some(pace) = &self.pace else { return true };
        let due = pace.due(frame);
        if let Some(late) = clock::instant().checked_duration_since(due) {
            self.shared.counters.started_late(late);
            return true;
        }
        // Saturates at "never" for an absurd configuration.
        let idle_end = self.last_use.checked_add(self.shared.config.idle_close);
        if self.wire.is_some()
            && let Some(idle_end) = idle_end.filter(|end| *end < due)
        {
            tokio::select! {
                () = sleep_until(idle_end.into()) => self.close(),
                () = stop.cancelled() => return false,
            }
        }
        tokio::select! {
            () = sleep_until(due.into()) => true,
            () = stop.cancelled() => false,
        }
    }

    /// One frame, up to its end.
    async fn deliver(&mut self, frame: &Frame) -> Delivered {
        let mut delivered = Delivered { outcome: Outcome::InFlight, tries: 0, answers: 0 };
        while delivered.tries < self.shared.config.tries {
            // A connection that cannot be opened costs no try: the frame is kept as long as it
            // takes.
            if self.wire.is_none() && !self.connect().await {
                return delivered;
            }
            delivered.tries += 1;
            match self.attempt(frame).await {
                Some(status @ 200..=299) => {
                    self.shared.counters.answered(status);
                    delivered.answers += 1;
                    delivered.outcome = Outcome::Accepted;
                    self.loss = None;
                    return delivered;
                }
                Some(status @ (400..=428 | 430..=499)) => {
                    self.shared.counters.answered(status);
                    delivered.answers += 1;
                    delivered.outcome = Outcome::Dropped4xx(status);
                    self.lose(frame.messages);
                    return delivered;
                }
                Some(status) => {
                    self.shared.counters.answered(status);
                    delivered.answers += 1;
                    self.close();
                }
                None => self.close(),
            }
        }
        delivered.outcome = Outcome::GaveUp;
        self.lose(frame.messages);
        delivered
    }

    fn lose(&mut self, messages: u32) {
        let loss =
            self.loss.get_or_insert_with(|| Loss { messages: 0, since: clock::unix_micros() });
        loss.messages += u64::from(messages);
    }

    fn close(&mut self) {
        if self.wire.take().is_some() {
            self.shared.counters.disconnected();
        }
    }

    /// Connects, as often as it takes. False: the sender stops, and at least one more attempt
    /// has failed.
    async fn connect(&mut self) -> bool {
        let Shared { config, tls, .. } = &*self.shared;
        let mut attempt = 0;
        loop {
            let open = stream::open(config.target, tls.as_ref());
            match timeout(config.connect_timeout, open).await {
                Ok(Ok(stream)) => {
                    self.wire = Some(Wire::new(stream));
                    self.last_use = clock::instant();
                    self.shared.counters.connected();
                    return true;
                }
                Ok(Err(_)) | Err(_) => {
                    attempt += 1;
                    self.shared.counters.connect_failed();
                }
            }
            let wait = backoff(attempt, self.backoff.u32(1..=attempt.min(10)));
            tokio::select! {
                () = self.shared.stop.cancelled() => return false,
                () = sleep(wait) => {}
            }
        }
    }

    /// One try: the answer's status, or nothing when it broke or took too long.
    async fn attempt(&mut self, frame: &Frame) -> Option<u16> {
        let Self { shared, wire, next, generator, pace, spare, .. } = self;
        let wire = wire.as_mut()?;
        let head = head(shared, frame, &self.token, self.loss);
        let start = clock::instant();
        let answer = timeout(shared.config.request_timeout, async {
            wire.send(head.as_bytes(), &frame.body).await?;
            // The next frame is made while this one's answer is awaited; not under a pace, where
            // it would carry a time long past.
            if pace.is_none() && next.is_none() && shared.file.is_none() {
                let buffer = std::mem::take(spare);
                *next = Some(generator.next(clock::unix_micros(), buffer));
            }
            wire.status().await
        });
        let answer = answer.await;
        self.last_use = clock::instant();
        match answer {
            Ok(Ok(status)) => {
                self.shared.ledger.answered(self.last_use.saturating_duration_since(start));
                Some(status)
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, connection = self.number, "a try has no answer");
                self.shared.counters.broke();
                None
            }
            Err(_) => {
                self.shared.counters.timed_out();
                None
            }
        }
    }
}

/// Request line, headers, and the L10 line when there is something to report. It is written anew
/// for every try and is the one part of a retry that differs.
fn head(shared: &Shared, frame: &Frame, token: &str, loss: Option<Loss>) -> String {
    if let Some(origin) = &frame.origin {
        // Sent as it was, byte for byte: without a report of ours in front.
        return [super::head(&shared.config, &origin.query), origin.headers(frame)].concat();
    }
    let report = loss.map(|loss| {
        let text = loss_text(loss);
        shared.ledger.report(text_hash(text.as_bytes()));
        let now = Stamp::new(clock::unix_micros());
        let stamp = String::from_utf8_lossy(now.get()).into_owned();
        // No newline: the next message's length follows at once.
        let message = format!("<172>1 {stamp} host heroku logplex - {text}");
        format!("{} {message}", message.len())
    });
    let report = report.unwrap_or_default();
    let count = u64::from(frame.messages) + u64::from(loss.is_some());
    let length = report.len() + frame.body.len();
    let own = format!(
        "Logplex-Msg-Count: {count}\r\n\
         Logplex-Frame-Id: {:032X}\r\n\
         Logplex-Drain-Token: {token}\r\n\
         User-Agent: Logplex/v73\r\n\
         Content-Length: {length}\r\n\
         \r\n",
        frame.id
    );
    [shared.head.expose(), &own, &report].concat()
}

fn loss_text(loss: Loss) -> String {
    let since = Stamp::new(loss.since);
    let since = String::from_utf8_lossy(since.get()).into_owned();
    format!("Error L10 (output buffer overflow): {} messages dropped since {since}.", loss.messages)
}

/// The wait before connection attempt number `attempt` of a row: 10 ms times half of a random
/// power of two.
fn backoff(attempt: u32, exponent: u32) -> Duration {
    if attempt == 0 {
        return Duration::ZERO;
    }
    let factor = 1u32.checked_shl(exponent).unwrap_or(u32::MAX).saturating_sub(1) / 2;
    Duration::from_millis(10).saturating_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_as_logplex_computes_it() {
        let millis = |exponent| backoff(1, exponent).as_millis();
        assert_eq!([1, 2, 3, 10].map(millis), [0, 10, 30, 5110]);
        assert_eq!(backoff(0, 10), Duration::ZERO);
    }
}
