//! One line of the table: what is sent to a relay, and how it is measured.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use forebay::clock;
use forebay::types::ByteSize;

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

/// What is otherwise than in the usual cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Usual,
    /// Beside the destination that works, one whose HEC hangs, and one whose HEC refuses.
    Broken,
    /// So many batches in flight, and a HEC that acknowledges after [`ACK_AFTER`].
    Window(u32),
    /// So many thousand frame ids are known before.
    Known(u32),
    /// Segments of 16 MiB, so that they roll, are flushed and go all the time, and a replay of
    /// [`REPLAYED`] beside the load.
    Busy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) connections: u32,
    pub(super) messages: u32,
    pub(super) gzip: bool,
    pub(super) destinations: u16,
    pub(super) drains: u32,
    pub(super) load: Load,
    pub(super) setting: Setting,
}

/// How late the HEC acknowledges where the window counts.
pub(super) const ACK_AFTER: Duration = Duration::from_millis(200);

/// What is replayed, and how fast: it takes longer than a case.
const REPLAYED: ByteSize = ByteSize::mib(1024);
const REPLAY_RATE: u32 = 100_000;

/// How long a relay may take to deliver what is left when nothing more comes.
const DRAIN: Duration = Duration::from_secs(300);

const fn peak(connections: u32, messages: u32) -> Case {
    Case {
        connections,
        messages,
        gzip: false,
        destinations: 1,
        drains: 1,
        load: Load::Peak,
        setting: Setting::Usual,
    }
}

/// How cost grows: each series changes one thing.
fn scale() -> Vec<Case> {
    let usual = peak(8, 100);
    let mut all = Vec::new();
    all.extend([1, 10, 100, 1000, 4000].map(|messages| peak(8, messages)));
    all.extend([1, 8, 64, 256].map(|connections| peak(connections, 100)));
    all.extend([1, 2, 3, 5].map(|destinations| Case { destinations, ..usual }));
    all.extend([1, 100, 10_000].map(|drains| Case { drains, ..usual }));
    let window = |window| Case { setting: Setting::Window(window), ..peak(8, 1000) };
    all.extend([4, 16, 64, 256, 1024].map(window));
    let known = |thousands| Case { setting: Setting::Known(thousands), ..peak(64, 10) };
    all.extend([0, 100, 1000].map(known));
    all.extend([usual, Case { setting: Setting::Broken, ..usual }]);
    let half = Case { load: Load::Half, ..peak(64, 100) };
    all.extend([half, Case { setting: Setting::Busy, ..half }]);
    let mut once = Vec::new();
    for case in all {
        if !once.contains(&case) {
            once.push(case);
        }
    }
    once
}

impl Case {
    /// The settings of the usual case, without a load.
    pub(super) const fn light() -> Self {
        peak(1, 1)
    }

    pub(super) fn all(options: &Options) -> Vec<Self> {
        let mut all = Vec::new();
        let usual = peak(8, 100);
        let many = peak(64, 100);
        if options.scale {
            all = scale();
        } else if options.quick {
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
        if !options.scale {
            all.push(Self { destinations: 3, ..usual });
            all.push(Self { load: Load::Half, ..many });
            all.push(Self { load: Load::Backlog, ..usual });
        }
        if let Some(only) = &options.only {
            let exact = all.iter().any(|case| case.to_string() == *only);
            let wanted = |name: &str| if exact { name == only } else { name.contains(only) };
            all.retain(|case| wanted(&case.to_string()));
        }
        all
    }

    /// About how long a run takes.
    pub(super) fn seconds(&self, options: &Options) -> f64 {
        let other = match (self.load, self.setting) {
            (Load::Backlog, _) => 20.0,
            (_, Setting::Busy) => 8.0,
            (_, Setting::Known(thousands)) => 3.0 + f64::from(thousands) / 30.0,
            (_, Setting::Window(_)) => 10.0,
            (..) => 3.0,
        };
        options.seconds().as_secs_f64() + other
    }

    /// How many destinations a relay has, and how much it has before it delivers, is something
    /// that only forebay can be told.
    pub(super) fn fits(&self, relay: &Relay) -> bool {
        *relay == Relay::Forebay
            || (self.destinations == 1
                && self.load != Load::Backlog
                && self.setting == Setting::Usual)
    }

    pub(super) async fn run(&self, options: &Options, relay: &Relay, peaks: &mut Peaks) -> Figures {
        let dir = options.directory();
        let late = matches!(self.setting, Setting::Window(_));
        let mut hec = Hec::start(options.hec, if late { ACK_AFTER } else { Duration::ZERO });
        let _broken = (self.setting == Setting::Broken).then(|| Hec::broken(options));
        let (mut running, _) = Running::start(options, relay, self, dir.path()).await;
        let rate = match self.load {
            Load::Peak => None,
            Load::Half | Load::Backlog => peaks.half(self, relay),
        };
        // What was sent before, and how much of that is not delivered yet.
        let (mut before, mut waiting) = (0, 0);
        if self.load == Load::Backlog {
            hec.hold();
            before = build(options, self, &mut running, options.backlog().get()).await;
            waiting = before;
            hec.go();
        }
        match self.setting {
            Setting::Usual | Setting::Broken | Setting::Window(_) | Setting::Known(0) => {}
            Setting::Known(thousands) => {
                before = know(options, &mut running, u64::from(thousands) * 1000).await;
                let all_there = || hec.taken().acknowledged >= before;
                assert!(within(DRAIN, NOW_AND_THEN, all_there).await, "what is known is delivered");
            }
            Setting::Busy => {
                hec.hold();
                before = build(options, self, &mut running, REPLAYED.get()).await;
                running.replay(REPLAY_RATE);
                hec.go();
                // Twice: the replay goes on.
                let all_there = || hec.taken().acknowledged >= before;
                assert!(within(DRAIN, NOW_AND_THEN, all_there).await, "the backlog is delivered");
            }
        }
        let id = running.id();
        let (used, taken, start) = (Used::of(id), hec.taken(), clock::instant());
        let sent = Logplex::start(options, relay, self, Some(options.seconds()), rate).end().await;
        let (delivered, time) = (hec.taken().indexed - taken.indexed, start.elapsed());
        let copies = u64::from(self.destinations);
        let all = taken.indexed + (waiting + sent.messages) * copies;
        // A small window takes minutes for what came in seconds: that shows in the rate.
        let drained = matches!(self.setting, Setting::Window(_))
            || within(DRAIN, NOW_AND_THEN, || hec.taken().acknowledged >= all).await;
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
    let (connections, messages) = (case.connections.max(8), case.messages.max(1000));
    let case = Case { connections, messages, ..*case };
    let there = |status: &serde_json::Value| status["log"]["bytes"].as_u64().unwrap() >= bytes;
    send_until(options, &case, running, there).await
}

/// Sends frames of one message until so many are known. Returns how many messages that were.
async fn know(options: &Options, running: &mut Running, frames: u64) -> u64 {
    let enough = |status: &serde_json::Value| status["log"]["messages"].as_u64().unwrap() >= frames;
    send_until(options, &peak(64, 1), running, enough).await
}

async fn send_until(
    options: &Options,
    case: &Case,
    running: &mut Running,
    done: impl Fn(&serde_json::Value) -> bool,
) -> u64 {
    let logplex = Logplex::start(options, &Relay::Forebay, case, None, None);
    let there = within(Duration::from_secs(3600), NOW_AND_THEN, || {
        running.check();
        done(&running.status())
    })
    .await;
    assert!(there, "the log does not grow");
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
        if self.drains != 1 {
            write!(f, ", {} drains", self.drains)?;
        }
        match self.setting {
            Setting::Usual => {}
            Setting::Broken => write!(f, ", beside one HEC that hangs and one that refuses")?,
            Setting::Window(batches) => write!(f, ", window {batches}")?,
            Setting::Known(thousands) => write!(f, ", {thousands},000 ids known")?,
            Setting::Busy => write!(f, ", small segments and a replay")?,
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
        let usual = case.setting == Setting::Usual && case.drains == 1;
        if usual && !case.gzip && case.destinations == 1 {
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
