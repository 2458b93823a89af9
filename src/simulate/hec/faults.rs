//! What can go wrong, and when.

use std::collections::VecDeque;
use std::time::Duration;

use super::request::Route;

/// A fault, on every request or on some.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// The probability that a request it could hit is hit, 0 to 1.
    pub share: f64,
    /// Seeds the choice.
    pub seed: u64,
}

impl Fault {
    /// On every request.
    #[must_use]
    pub const fn always(kind: FaultKind) -> Self {
        Self { kind, share: 1.0, seed: 0 }
    }

    /// On a share of the requests.
    #[must_use]
    pub const fn sometimes(kind: FaultKind, share: f64, seed: u64) -> Self {
        Self { kind, share, seed }
    }
}

/// What can go wrong at a HEC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// 503, code 9, on `/event` and `/raw`; nothing is accepted.
    Busy,
    /// The same with a `Retry-After` header.
    RetryAfter,
    /// 503, code 18, on `/event`, `/raw` and `/health`; nothing is accepted.
    Unhealthy,
    /// 503, code 23, on every route but OPTIONS: the indexer is on its way down. Nothing is
    /// accepted.
    ShuttingDown,
    /// 429, code 26, on `/event` and `/raw`; nothing is accepted. Health says 503, code 18.
    QueueFull,
    /// 429, code 27, on `/event` and `/raw`; nothing is accepted. Health says 503, code 19.
    AckFull,
    /// 200 with code 24 and the `ackId`: accepted, with a warning.
    ApproachingCapacity,
    /// 200 with code 25 and the `ackId`: accepted, with a warning about acknowledgements.
    ApproachingAckCapacity,
    /// 403, code 4, on `/event`, `/raw` and `/ack`.
    InvalidToken,
    /// The token has lost its acknowledgement: posts get no `ackId`, `/ack` gets 400, code 14.
    AckDisabled,
    /// The events are accepted and indexed at once, then the answer is 500, code 8.
    ServerError,
    /// No answer until the fault is lifted. Posts are accepted first; `/ack` waits before it
    /// looks, so no `true` is spent.
    Hang,
    /// The answer comes late. Posts are accepted first; `/ack` waits before it looks, so that a
    /// client that is gone by then loses no `true`.
    SlowReply,
    /// The connection closes when the head is read, before the body; nothing is accepted.
    ResetBeforeBody,
    /// The connection closes when the body is read; nothing is accepted.
    ResetAfterBody,
    /// The events are accepted and indexed at once, then the connection closes without an answer.
    ResetAfterIndexing,
    /// The indexer is in detention: 404 on every route.
    Detention,
    /// A captive portal in between: 200 with an HTML page on every route, nothing is accepted.
    Captive,
    /// A proxy without an indexer: 502 with an HTML page on every route, nothing is accepted.
    BadGateway,
    /// A load balancer without a healthy target: 503 with an HTML page on every route, nothing is
    /// accepted.
    NoTarget,
    /// A proxy that did not wait: posts are accepted, the answer is 504 with an HTML page.
    GatewayTimeout,
    /// A proxy that lost its indexer when it had passed the request on: posts are accepted, the
    /// answer is 503 with an HTML page.
    LostUpstream,
    /// The answer breaks off in the middle of its body. Posts are accepted, `true`s are spent.
    TruncatedReply,
    /// The answer is 2 MiB of good JSON. Posts are accepted, `true`s are spent.
    OversizedReply,
    /// `/ack` spends its `true`s, then the connection closes without an answer.
    LostAckReply,
    /// The indexer has just restarted when the request reaches it: what was accepted and not
    /// indexed is gone, channels are forgotten, ids begin at 0. The request is then served.
    Restart,
    /// The channel of the request has just been forgotten, as one that was idle for too long:
    /// its ids begin at 0. The request is then served.
    IdleReap,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::Busy,
        Self::RetryAfter,
        Self::Unhealthy,
        Self::ShuttingDown,
        Self::QueueFull,
        Self::AckFull,
        Self::ApproachingCapacity,
        Self::ApproachingAckCapacity,
        Self::InvalidToken,
        Self::AckDisabled,
        Self::ServerError,
        Self::Hang,
        Self::SlowReply,
        Self::ResetBeforeBody,
        Self::ResetAfterBody,
        Self::ResetAfterIndexing,
        Self::Detention,
        Self::Captive,
        Self::BadGateway,
        Self::NoTarget,
        Self::GatewayTimeout,
        Self::LostUpstream,
        Self::TruncatedReply,
        Self::OversizedReply,
        Self::LostAckReply,
        Self::Restart,
        Self::IdleReap,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::RetryAfter => "retry-after",
            Self::Unhealthy => "unhealthy",
            Self::ShuttingDown => "shutting-down",
            Self::QueueFull => "queue-full",
            Self::AckFull => "ack-full",
            Self::ApproachingCapacity => "approaching-capacity",
            Self::ApproachingAckCapacity => "approaching-ack-capacity",
            Self::InvalidToken => "invalid-token",
            Self::AckDisabled => "ack-disabled",
            Self::ServerError => "server-error",
            Self::Hang => "hang",
            Self::SlowReply => "slow-reply",
            Self::ResetBeforeBody => "reset-before-body",
            Self::ResetAfterBody => "reset-after-body",
            Self::ResetAfterIndexing => "reset-after-indexing",
            Self::Detention => "detention",
            Self::Captive => "captive",
            Self::BadGateway => "bad-gateway",
            Self::NoTarget => "no-target",
            Self::GatewayTimeout => "gateway-timeout",
            Self::LostUpstream => "lost-upstream",
            Self::TruncatedReply => "truncated-reply",
            Self::OversizedReply => "oversized-reply",
            Self::LostAckReply => "lost-ack-reply",
            Self::Restart => "restart",
            Self::IdleReap => "idle-reap",
        }
    }

    /// The fault of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether a request to that route can meet it; `None` is a path that leads nowhere.
    pub(super) fn hits(self, route: Option<Route>) -> bool {
        let posts = route.is_some_and(Route::posts);
        let ack = route == Some(Route::Ack);
        match self {
            Self::Busy
            | Self::RetryAfter
            | Self::ApproachingCapacity
            | Self::ApproachingAckCapacity
            | Self::ServerError
            | Self::GatewayTimeout
            | Self::LostUpstream
            | Self::ResetAfterIndexing => posts,
            Self::Unhealthy | Self::QueueFull | Self::AckFull => {
                posts || route == Some(Route::Health)
            }
            Self::InvalidToken
            | Self::AckDisabled
            | Self::Hang
            | Self::SlowReply
            | Self::ResetBeforeBody
            | Self::ResetAfterBody
            | Self::TruncatedReply
            | Self::OversizedReply
            | Self::Restart
            | Self::IdleReap => posts || ack,
            Self::LostAckReply => ack,
            Self::ShuttingDown
            | Self::Detention
            | Self::Captive
            | Self::BadGateway
            | Self::NoTarget => true,
        }
    }
}

/// What the next requests meet, one by one. While it lasts it goes before the faults by
/// probability.
///
/// ```text
/// # for the next three posts nothing, then one 503, then one lost answer to a poll
/// post ok 3
/// post busy
/// ack lost-ack-reply
/// # from ten seconds after the start on, a fifth of the posts gets 503, for a minute
/// at 10s busy=0.2
/// at 70s busy=0
/// ```
///
/// A line with a route (`post`, `ack`, `health` or `any`) waits for the next request to that
/// route; requests to others do not use it up. A line with `at` sets a fault by probability.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// What single requests meet, in order.
    pub steps: VecDeque<Step>,
    /// What happens by time, in order.
    pub timed: Vec<Timed>,
}

/// What one request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The requests it waits for.
    pub on: On,
    /// What they meet; `None`: nothing.
    pub fault: Option<FaultKind>,
    /// How many of them.
    pub times: u32,
}

/// The requests that a [`Step`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// `/event` and `/raw`.
    Post,
    /// `/ack`.
    Ack,
    /// `/health`.
    Health,
    /// Every request.
    Any,
}

impl On {
    pub(super) fn takes(self, route: Option<Route>) -> bool {
        match self {
            Self::Post => route.is_some_and(Route::posts),
            Self::Ack => route == Some(Route::Ack),
            Self::Health => route == Some(Route::Health),
            Self::Any => true,
        }
    }
}

/// A fault that begins, changes or ends at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timed {
    /// From the start of the server.
    pub at: Duration,
    /// What.
    pub kind: FaultKind,
    /// Its share from then on; 0 ends it.
    pub share: f64,
}

/// A line of a script that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ScriptError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong, and what to write.
    pub problem: String,
}

impl Script {
    /// Reads a script. `duration` reads a duration such as `10s`.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn parse(
        text: &str,
        duration: impl Fn(&str) -> Result<Duration, String>,
    ) -> Result<Self, ScriptError> {
        let mut script = Self::default();
        for (line, written) in (1..).zip(text.lines()) {
            let words: Vec<_> =
                written.split('#').next().unwrap_or_default().split_whitespace().collect();
            let wrong = |problem: String| ScriptError { line, problem };
            match *words.as_slice() {
                [] => {}
                ["at", at, setting] => {
                    let at = duration(at).map_err(wrong)?;
                    let (kind, share) = share_of(setting, 1.0).map_err(wrong)?;
                    if script.timed.last().is_some_and(|last| last.at > at) {
                        return Err(wrong("the times have to rise".to_owned()));
                    }
                    script.timed.push(Timed { at, kind, share });
                }
                [on, fault] => script.step(on, fault, "1").map_err(wrong)?,
                [on, fault, times] => script.step(on, fault, times).map_err(wrong)?,
                _ => {
                    let problem = "write `post busy 3` or `at 10s busy=0.2`".to_owned();
                    return Err(wrong(problem));
                }
            }
        }
        Ok(script)
    }

    fn step(&mut self, on: &str, fault: &str, times: &str) -> Result<(), String> {
        let on = match on {
            "post" => On::Post,
            "ack" => On::Ack,
            "health" => On::Health,
            "any" => On::Any,
            _ => return Err(format!("`{on}` is none of post, ack, health, any, at")),
        };
        let fault = match fault {
            "ok" => None,
            name => Some(kind_of(name)?),
        };
        let times = times.parse().map_err(|_| format!("`{times}` is no number of requests"))?;
        self.steps.push_back(Step { on, fault, times });
        Ok(())
    }

    /// What the next request to a route meets; `None` when the script says nothing about it.
    pub(super) fn next(&mut self, route: Option<Route>) -> Option<Option<FaultKind>> {
        while self.steps.front().is_some_and(|step| step.times == 0) {
            self.steps.pop_front();
        }
        let step = self.steps.front_mut().filter(|step| step.on.takes(route))?;
        step.times -= 1;
        // A fault that cannot hit this route leaves the request alone, as a probability would.
        Some(step.fault.filter(|kind| kind.hits(route)))
    }
}

fn kind_of(name: &str) -> Result<FaultKind, String> {
    FaultKind::parse(name).ok_or_else(|| {
        let all: Vec<_> = FaultKind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("`{name}` is no fault; there are {}", all.join(", "))
    })
}

/// Reads `busy` or `busy=0.2`.
///
/// # Errors
/// A sentence that says what may be written.
pub fn share_of(text: &str, default: f64) -> Result<(FaultKind, f64), String> {
    let (name, share) = text.split_once('=').map_or((text, None), |(name, p)| (name, Some(p)));
    let share = match share {
        None => default,
        Some(share) => share
            .parse()
            .ok()
            .filter(|share| (0.0..=1.0).contains(share))
            .ok_or_else(|| format!("`{share}` is no probability from 0 to 1"))?,
    };
    Ok((kind_of(name)?, share))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Result<Duration, String> {
        let number = text.strip_suffix('s').and_then(|text| text.parse().ok());
        number.map(Duration::from_secs).ok_or_else(|| "no duration".to_owned())
    }

    #[test]
    fn fault_names_are_distinct_and_read_back() {
        for kind in FaultKind::ALL {
            assert_eq!(FaultKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(FaultKind::parse("none"), None);
        assert_eq!(share_of("busy=0.25", 1.0), Ok((FaultKind::Busy, 0.25)));
        assert_eq!(share_of("hang", 0.5), Ok((FaultKind::Hang, 0.5)));
        for wrong in ["busy=2", "busy=", "nothing=0.1", "busy=nan"] {
            assert!(share_of(wrong, 1.0).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_fault_hits_something_and_health_is_spared_by_most() {
        for kind in FaultKind::ALL {
            let routes = [Route::Event, Route::Raw, Route::Ack, Route::Health];
            assert!(routes.into_iter().any(|route| kind.hits(Some(route))), "{kind:?}");
        }
        assert!(!FaultKind::Busy.hits(Some(Route::Health)));
        assert!(FaultKind::Detention.hits(None));
    }

    #[test]
    fn steps_wait_for_their_route() {
        let text = "# a comment\npost ok 2\n\npost busy # once\nany detention 2\nack busy\n";
        let mut script = Script::parse(text, seconds).unwrap();
        let (event, ack) = (Some(Route::Event), Some(Route::Ack));
        assert_eq!(script.next(ack), None, "a poll does not use up what posts wait for");
        assert_eq!(script.next(event), Some(None));
        assert_eq!(script.next(Some(Route::Raw)), Some(None));
        assert_eq!(script.next(event), Some(Some(FaultKind::Busy)));
        assert_eq!(script.next(ack), Some(Some(FaultKind::Detention)));
        assert_eq!(script.next(None), Some(Some(FaultKind::Detention)));
        assert_eq!(script.next(event), None);
        assert_eq!(script.next(ack), Some(None), "busy is nothing a poll can meet");
        assert_eq!(script.next(ack), None);
    }

    #[test]
    fn times_rise_and_mistakes_name_their_line() {
        let script = Script::parse("at 1s busy=0.5\nat 2s busy=0\n", seconds).unwrap();
        let shares: Vec<_> = script.timed.iter().map(|timed| timed.share).collect();
        assert_eq!(shares, [0.5, 0.0]);
        for (text, line) in [
            ("post busy\nget busy", 2),
            ("post hungry", 1),
            ("post busy many", 1),
            ("at 2s busy\nat 1s busy", 2),
            ("at soon busy", 1),
            ("at 1s busy=3", 1),
            ("post busy 1 2", 1),
        ] {
            assert_eq!(Script::parse(text, seconds).unwrap_err().line, line, "{text}");
        }
    }
}
