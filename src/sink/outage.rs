//! Why a collector takes nothing just now: for whoever looks at the state, and for the log, once
//! when it begins and once when it is over. The machine decides without it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::types::DestinationName;

/// Collectors that are remembered; names in DNS may lead to ever new ones.
const MOST: usize = 256;

/// One that fails now and then is not told of more often.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// What collectors do not answer, or not as they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// POSTs of batches.
    Batches,
    /// Questions for acknowledgements. A collector may take everything, and whatever stands before it
    /// keeps these from it: then everything is sent again and again.
    Questions,
}

/// The outages of one destination's collectors.
#[derive(Debug)]
pub(super) struct Outages {
    destination: DestinationName,
    about: About,
    /// By the collector's URL; those that take everything have none.
    open: Mutex<BTreeMap<String, Outage>>,
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
    pub(super) const fn new(destination: DestinationName, about: About) -> Self {
        Self { destination, about, open: Mutex::new(BTreeMap::new()) }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<String, Outage>> {
        // A text that somebody could not finish to write is no harm.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why this collector took nothing the last time.
    pub(super) fn why(&self, url: &str) -> Option<String> {
        self.open().get(url).and_then(|outage| outage.why.clone())
    }

    /// A request has ended: taken, or why not.
    pub(super) fn saw(&self, url: &str, why: Option<String>) {
        let now = clock::instant();
        let mut open = self.open();
        if why.is_some() && !open.contains_key(url) && open.len() < MOST {
            open.insert(url.to_owned(), Outage::default());
        }
        let Some(outage) = open.get_mut(url) else { return };
        match why {
            Some(why) => {
                outage.since.get_or_insert(now);
                let quiet = outage.told.is_some_and(|told| now.duration_since(told) < TELL_EVERY);
                if !outage.telling && !quiet {
                    (outage.told, outage.telling) = (Some(now), true);
                    match self.about {
                        About::Batches => tracing::warn!(
                            destination = %self.destination, endpoint = url, why,
                            "a collector takes nothing; it is tried again, and nothing is lost"
                        ),
                        About::Questions => tracing::warn!(
                            destination = %self.destination, endpoint = url, why,
                            "a collector does not say what is acknowledged; it is asked again, and \
                             what it has taken is sent again after ack_timeout"
                        ),
                    }
                }
                outage.why = Some(why);
            }
            None => {
                let since = outage.since.take();
                outage.why = None;
                if std::mem::take(&mut outage.telling) {
                    let after = since.map_or(Duration::ZERO, |since| now.duration_since(since));
                    let again = match self.about {
                        About::Batches => "a collector takes batches again",
                        About::Questions => "a collector says again what is acknowledged",
                    };
                    tracing::info!(
                        destination = %self.destination, endpoint = url,
                        after_ms = after.as_millis(), "{again}"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_last_is_known_until_a_batch_is_taken() {
        let name = DestinationName::new("splunk").unwrap();
        let outages = Outages::new(name, About::Batches);
        outages.saw("http://a", None);
        outages.saw("http://b", Some("refused".to_owned()));
        outages.saw("http://b", Some("timed out".to_owned()));
        let why = || (outages.why("http://a"), outages.why("http://b"));
        assert_eq!(why(), (None, Some("timed out".to_owned())));
        outages.saw("http://b", None);
        assert_eq!(why(), (None, None));
    }
}
