//! Why a collector takes nothing just now: for whoever looks at the state, and for the log, once
//! when it begins and once when it is over. The machine decides without it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::types::DestinationName;

/// One that fails now and then is not told of more often.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// The outages of one destination's collectors.
#[derive(Debug)]
pub(super) struct Outages {
    destination: DestinationName,
    endpoints: Vec<String>,
    open: Mutex<Vec<Outage>>,
}

#[derive(Clone, Debug, Default)]
struct Outage {
    /// Why the latest POST was not taken; none when it was.
    why: Option<String>,
    /// Since when none was.
    since: Option<Instant>,
    /// When the log was told last, and whether of what goes on now.
    told: Option<Instant>,
    telling: bool,
}

impl Outages {
    pub(super) fn new(destination: DestinationName, endpoints: &[String]) -> Self {
        let open = Mutex::new(vec![Outage::default(); endpoints.len()]);
        Self { destination, endpoints: endpoints.to_vec(), open }
    }

    fn open(&self) -> MutexGuard<'_, Vec<Outage>> {
        // A text that somebody could not finish to write is no harm.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why this collector took nothing the last time.
    pub(super) fn why(&self, endpoint: usize) -> Option<String> {
        self.open().get(endpoint).and_then(|outage| outage.why.clone())
    }

    /// A POST has ended: taken, or why not.
    pub(super) fn saw(&self, endpoint: usize, why: Option<String>) {
        let now = clock::instant();
        let mut open = self.open();
        let Some(outage) = open.get_mut(endpoint) else { return };
        let url = self.endpoints.get(endpoint).map_or("", String::as_str);
        match why {
            Some(why) => {
                outage.since.get_or_insert(now);
                let quiet = outage.told.is_some_and(|told| now.duration_since(told) < TELL_EVERY);
                if !outage.telling && !quiet {
                    (outage.told, outage.telling) = (Some(now), true);
                    tracing::warn!(
                        destination = %self.destination, endpoint = url, why,
                        "a collector takes nothing; it is tried again, and nothing is lost"
                    );
                }
                outage.why = Some(why);
            }
            None => {
                let since = outage.since.take();
                outage.why = None;
                if std::mem::take(&mut outage.telling) {
                    let after = since.map_or(Duration::ZERO, |since| now.duration_since(since));
                    tracing::info!(
                        destination = %self.destination, endpoint = url,
                        after_ms = after.as_millis(), "a collector takes batches again"
                    );
                }
            }
        }
    }
}

/// Why a POST has no answer, in the words of whoever is at the bottom of it.
pub(super) fn in_words(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connect() {
        format!("it cannot be reached: {cause}")
    } else {
        format!("no answer: {cause}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_last_is_known_until_a_batch_is_taken() {
        let name = DestinationName::new("splunk").unwrap();
        let outages = Outages::new(name, &["http://a".to_owned(), "http://b".to_owned()]);
        outages.saw(1, Some("refused".to_owned()));
        outages.saw(1, Some("timed out".to_owned()));
        outages.saw(7, Some("there is none".to_owned()));
        assert_eq!((outages.why(0), outages.why(1)), (None, Some("timed out".to_owned())));
        outages.saw(1, None);
        assert_eq!((outages.why(1), outages.why(7)), (None, None));
    }
}
