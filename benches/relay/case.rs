//! One line of the table: what is sent to a relay, and how it is measured.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use forebay::clock;

use super::children::{Hec, Logplex, NOW_AND_THEN, Running, within};
use super::figures::{Figures, median};
use super::options::{Options, Relay};
use super::proc::{Used, peak_memory};

/// How much is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// As fast as answers come.
    Peak,
    /// Half of the peak that was measured in this run of the program.
    Half,
    /// Half of the peak, while a backlog is delivered.
    Backlog,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) connections: u32,
    pub(super) messages: u32,
    pub(super) gzip: bool,
    pub(super) destinations: u32,
    pub(super) load: Load,
}

/// How long a relay may take to deliver what is left when nothing more comes.
const DRAIN: Duration = Duration::from_secs(300);

const fn peak(connections: u32, messages: u32) -> Case {
    Case { connections, messages, gzip: false, destinations: 1, load: Load::Peak }
}

impl Case {
    pub(super) fn all(options: &Options) -> Vec<Self> {
        let mut all = Vec::new();
        let usual = peak(8, 100);
        let many = peak(64, 100);
        if options.quick {
            all.extend([peak(1, 10), peak(64, 10), usual, peak(8, 1000), many]);
        } else {
            for messages in [10, 100, 1000] {
                all.extend([1, 8, 64].map(|connections| peak(connections, messages)));
            }
            for messages in [10, 100, 1000] {
                let zipped = |connections| Self { gzip: true, ..peak(connections, messages) };
                all.extend([1, 8, 64].map(zipped));
            }
            all.push(Self { destinations: 3, ..peak(8, 1000) });
            all.push(Self { load: Load::Half, ..usual });
        }
        if options.quick {
            all.push(Self { gzip: true, ..usual });
        }
        all.push(Self { destinations: 3, ..usual });
        all.push(Self { load: Load::Half, ..many });
        all.push(Self { load: Load::Backlog, ..usual });
        if let Some(only) = &options.only {
            all.retain(|case| case.to_string().contains(only.as_str()));
        }
        all
    }

    /// About how long a run takes.
    pub(super) fn seconds(&self, options: &Options) -> f64 {
        let other = if self.load == Load::Backlog { 20.0 } else { 3.0 };
        options.seconds().as_secs_f64() + other
    }

    /// How many destinations a relay has, and how much it has before it delivers, is something
    /// that only forebay can be told.
    pub(super) fn fits(&self, relay: &Relay) -> bool {
        *relay == Relay::Forebay || (self.destinations == 1 && self.load != Load::Backlog)
    }

    pub(super) async fn run(&self, options: &Options, relay: &Relay, peaks: &mut Peaks) -> Figures {
        let dir = options.directory();
        let mut hec = Hec::start(options);
        let (mut running, _) = Running::start(options, relay, self, dir.path()).await;
        let shape = (self.connections, self.messages);
        let rate = match self.load {
            Load::Peak => None,
            Load::Half | Load::Backlog => peaks.half(self, relay),
        };
        let mut before = 0;
        if self.load == Load::Backlog {
            hec.hold();
            before = build(options, self, &mut running, options.backlog().get()).await;
            hec.go();
        }
        let id = running.id();
        let (used, taken, start) = (Used::of(id), hec.taken(), clock::instant());
        let sent = Logplex::start(options, relay, shape, Some(options.seconds()), rate).end().await;
        let (delivered, time) = (hec.taken().indexed - taken.indexed, start.elapsed());
        let copies = u64::from(self.destinations);
        let all = taken.indexed + (before + sent.messages) * copies;
        let drained = within(DRAIN, NOW_AND_THEN, || hec.taken().acknowledged >= all).await;
        running.check();
        let used = Used::of(id) - used;
        if let Some(bytes) = running.message_bytes() {
            peaks.bytes_a_message = bytes / (before + sent.messages) as f64;
        }
        let peak_memory = peak_memory(id);
        running.stop().await;
        // What was delivered of the backlog cost CPU, too.
        let messages =
            if self.load == Load::Backlog { before + sent.messages } else { sent.messages };
        let million = messages as f64 / 1e6;
        Figures {
            accepted: sent.messages as f64 / sent.seconds,
            delivered: delivered as f64 / copies as f64 / time.as_secs_f64(),
            latency: [sent.p50, sent.p99, sent.p999, sent.max],
            cpu: used.cpu / million,
            memory: peak_memory as f64 / 1e6,
            // A backlog's bytes were written before.
            written: used.written as f64 / (sent.messages as f64 * peaks.bytes_a_message),
            drained,
            not_accepted: sent.not_accepted,
            kept_up: rate.is_none() || sent.kept_up,
        }
    }
}

/// Sends until so much is in forebay's log. Returns how many messages that were.
pub(super) async fn build(
    options: &Options,
    case: &Case,
    running: &mut Running,
    bytes: u64,
) -> u64 {
    let shape = (case.connections.max(8), case.messages.max(1000));
    let logplex = Logplex::start(options, &Relay::Forebay, shape, None, None);
    let there = |running: &Running| running.status()["log"]["bytes"].as_u64().unwrap();
    let built = within(Duration::from_secs(3600), NOW_AND_THEN, || {
        running.check();
        there(running) >= bytes
    })
    .await;
    assert!(built, "the backlog does not grow");
    logplex.end().await.messages
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.connections, self.messages)?;
        if self.gzip {
            write!(f, ", gzip")?;
        }
        if self.destinations != 1 {
            write!(f, ", {} destinations", self.destinations)?;
        }
        match self.load {
            Load::Peak => Ok(()),
            Load::Half => write!(f, ", at half of the peak"),
            Load::Backlog => write!(f, ", at half of the peak, with a backlog"),
        }
    }
}

/// What later cases take from earlier ones.
#[derive(Debug, Default)]
pub(super) struct Peaks {
    /// Messages accepted a second: relay, connections and messages a frame.
    accepted: BTreeMap<(String, u32, u32), Vec<f64>>,
    /// Bytes of a message with its header, as forebay counts them.
    bytes_a_message: f64,
}

impl Peaks {
    pub(super) fn note(&mut self, case: &Case, relay: &Relay, figures: &Figures) {
        if !case.gzip && case.destinations == 1 {
            let key = (relay.name(), case.connections, case.messages);
            self.accepted.entry(key).or_default().push(figures.accepted);
        }
    }

    /// The case whose peak has to be measured first, if there is one.
    pub(super) fn missing(&self, case: &Case, relay: &Relay) -> Option<Case> {
        let first = peak(case.connections, case.messages);
        (case.load != Load::Peak && self.half(case, relay).is_none()).then_some(first)
    }

    /// None when the peak was not measured.
    fn half(&self, case: &Case, relay: &Relay) -> Option<f64> {
        let key = (relay.name(), case.connections, case.messages);
        Some(median(self.accepted.get(&key)?) / 2.0)
    }
}
