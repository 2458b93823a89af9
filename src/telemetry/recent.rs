//! The latest warnings and errors, for those who look at the relay and not at its log.
//!
//! A ring of fixed size beside the log. It holds what the log lines say and no more, so what is kept
//! out of them (secrets, what senders sent) is not here either. The filter of the log decides about
//! both.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::clock;

/// How many lines are kept.
const LINES: usize = 100;

/// How many bytes of a line are kept: with [`LINES`], 100 KiB in all.
const LINE_BYTES: usize = 1024;

/// A warning or an error that was logged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Warning {
    /// When it was last logged, in seconds since 1970.
    pub at: f64,
    /// `WARN` or `ERROR`.
    pub level: &'static str,
    /// The module that said it.
    pub target: &'static str,
    /// The message and, behind it, the fields; cut off after 1 KiB.
    pub text: String,
    /// How often it came, one directly after the other.
    pub times: u64,
}

/// The ring, and the layer that fills it. Clones share one ring.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(Arc<Mutex<VecDeque<Warning>>>);

/// That of this process.
static RECENT: LazyLock<Recent> = LazyLock::new(Recent::default);

/// The latest warnings and errors of this process, the newest first; at most 100.
#[must_use]
pub fn recent_warnings() -> Vec<Warning> {
    RECENT.all()
}

impl Recent {
    /// The one that [`recent_warnings`] reads.
    pub(super) fn of_the_process() -> Self {
        RECENT.clone()
    }

    fn all(&self) -> Vec<Warning> {
        self.lock().iter().rev().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Warning>> {
        // A line is pushed or not: a panic between leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, new: Warning) {
        let mut ring = self.lock();
        if let Some(last) = ring.back_mut()
            && (last.level, last.target, &last.text) == (new.level, new.target, &new.text)
        {
            last.times = last.times.saturating_add(1);
            last.at = new.at;
            return;
        }
        if ring.len() == LINES {
            ring.pop_front();
        }
        ring.push_back(new);
    }
}

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN",
            _ => return,
        };
        let mut text = Text::default();
        event.record(&mut text);
        let at = clock::unix_micros().get() as f64 / 1e6;
        self.push(Warning { at, level, target: metadata.target(), text: text.whole(), times: 1 });
    }
}

/// What an event says, up to [`LINE_BYTES`].
#[derive(Debug, Default)]
struct Text {
    message: Bounded,
    fields: Bounded,
}

impl Text {
    fn whole(self) -> String {
        let mut whole = self.message;
        // Cut off, and marked so, when it is too long.
        whole.write_str(&self.fields.text).ok();
        whole.cut |= self.fields.cut;
        if whole.cut {
            whole.text.push('…');
        }
        whole.text
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // An error is the end of the room, which the text tells.
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.ok();
    }
}

/// A text that ends where its room does, and stops whoever goes on writing.
#[derive(Debug, Default)]
struct Bounded {
    text: String,
    cut: bool,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = LINE_BYTES.saturating_sub(self.text.len());
        let fits = more.get(..more.floor_char_boundary(room)).unwrap_or_default();
        self.text.push_str(fits);
        self.cut |= fits.len() < more.len();
        if self.cut { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn heard(log: impl FnOnce()) -> Vec<Warning> {
        let recent = Recent::default();
        tracing::subscriber::with_default(Registry::default().with(recent.clone()), log);
        recent.all()
    }

    #[test]
    fn warnings_and_errors_are_kept_with_their_fields_the_newest_first() {
        let all = heard(|| {
            tracing::warn!(destination = "splunk", left = 7, "slow");
            tracing::info!("nothing of it");
            tracing::error!(error = %"no disk", "held");
        });
        let lines: Vec<_> = all.iter().map(|line| (line.level, line.text.as_str())).collect();
        assert_eq!(
            lines,
            [("ERROR", "held error=no disk"), ("WARN", "slow destination=\"splunk\" left=7")]
        );
        assert!(all[0].target.ends_with("recent::tests") && all[0].at > 1.7e9, "{all:?}");
    }

    #[test]
    fn the_ring_is_bounded_in_lines_and_in_bytes() {
        let long = "ä".repeat(5000);
        let all = heard(|| {
            for number in 0..LINES + 50 {
                tracing::warn!(number, long, "{number} {long}");
            }
            tracing::warn!(long, number = 1, "short");
        });
        assert_eq!(all.len(), LINES);
        for line in &all {
            assert!(line.text.len() <= LINE_BYTES + '…'.len_utf8() && line.text.ends_with('…'));
        }
        assert!(all[0].text.starts_with("short long=\"ä"), "{}", all[0].text);
    }

    #[test]
    fn what_is_said_again_and_again_takes_one_line() {
        let all = heard(|| {
            for _ in 0..3 {
                tracing::warn!("full");
            }
            tracing::warn!("well");
            tracing::warn!("full");
        });
        let lines: Vec<_> = all.iter().map(|line| (line.text.as_str(), line.times)).collect();
        assert_eq!(lines, [("full", 1), ("well", 1), ("full", 3)]);
    }
}
