//! An endpoint for each address of a collector's name (`destination.resolve = "all"`).
//!
//! Names are looked up at the start and then again and again. A name that cannot be looked up keeps
//! the addresses it had; one that never had any is an endpoint as it is written, so that whatever
//! connects looks it up. When the set of endpoints changes, the machine ends and another goes on
//! from the checkpoint (`seek.rs`).

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::types::DestinationName;

use super::Config;
use super::renew::Renewable;

/// How long a lookup may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How soon a name that could not be looked up is looked up again.
const SOON: Duration = Duration::from_secs(5);

/// The most addresses of one name that become endpoints: the lowest ones.
const MOST: usize = 64;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its URL, as it is written.
    pub url: String,
    /// The address, where it is one of several. Certificate and `Host` go by the URL all the same.
    pub address: Option<IpAddr>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => f.write_str(&self.url),
            Some(address) => write!(f, "{} at {address}", self.url),
        }
    }
}

/// The endpoints of a destination.
pub(super) type Places = Arc<[Place]>;

/// The names of a destination's collectors.
#[derive(Debug)]
pub(super) struct Names {
    destination: DestinationName,
    written: Vec<String>,
    every: Duration,
    set: watch::Sender<Places>,
    lookup: Lookup,
}

/// Whoever knows the addresses of a name.
type Lookup = fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

impl Names {
    /// None if the names are not to be looked up here.
    pub(super) fn new(config: &Config) -> Option<Self> {
        let written = config.endpoints.clone();
        let place = |url: &String| Place { url: url.clone(), address: None };
        let set = watch::Sender::new(written.iter().map(place).collect());
        let every = config.resolve_every?;
        let lookup: Lookup = |name| Box::pin(resolved(name));
        Some(Self { destination: config.name.clone(), written, every, set, lookup })
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Places> {
        self.set.subscribe()
    }

    /// The endpoints to begin with. A start does not wait for long for a name server.
    pub(super) async fn at_the_start(&self) -> Places {
        if timeout(PATIENCE, self.round(self.lookup)).await.is_err() {
            tracing::warn!(
                destination = %self.destination,
                "the names of the collectors are not all looked up in time; they are used as they are \
                 written until then"
            );
        }
        Arc::clone(&self.set.borrow())
    }

    /// Looks the names up now, and whenever it is time, until told to stop.
    pub(super) async fn follow(&self, stop: &CancellationToken) {
        loop {
            // A stop does not wait for a name server.
            let known = tokio::select! {
                known = self.round(self.lookup) => known,
                () = stop.cancelled() => return,
            };
            let wait = if known { self.every } else { self.every.min(SOON) };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Looks every name up. Returns whether all could be.
    pub(super) async fn round<F>(&self, lookup: impl Fn(String) -> F) -> bool
    where
        F: Future<Output = io::Result<Vec<IpAddr>>>,
    {
        let mut found = Vec::with_capacity(self.written.len());
        for url in &self.written {
            let Some(name) = name(url) else {
                found.push(Some(Vec::new()));
                continue;
            };
            let addresses = timeout(PATIENCE, lookup(name.clone())).await;
            let problem = match addresses {
                Ok(Ok(addresses)) if !addresses.is_empty() => {
                    found.push(Some(addresses));
                    continue;
                }
                Ok(Ok(_)) => "it has no address".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            tracing::warn!(
                destination = %self.destination, name, problem,
                "the name of a collector cannot be looked up; its endpoints stay as they are"
            );
            found.push(None);
        }
        let known = found.iter().all(Option::is_some);
        self.set.send_if_modified(|set| {
            let new = merged(&self.written, set, found);
            let changes = new != **set;
            if changes {
                *set = new.into();
                let all: Vec<_> = set.iter().map(Place::to_string).collect();
                tracing::info!(
                    destination = %self.destination, endpoints = all.join(", "),
                    "the endpoints are now these"
                );
            }
            changes
        });
        known
    }
}

/// The name in a URL; none if there is an address.
fn name(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_err().then(|| host.to_owned())
}

async fn resolved(name: String) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((name, 0)).await?;
    Ok(found.map(|address| address.ip().to_canonical()).collect())
}

/// The endpoints after a lookup: of each URL the addresses that were found (none for a URL that has
/// no name), or those of before where the lookup failed.
fn merged(written: &[String], before: &[Place], found: Vec<Option<Vec<IpAddr>>>) -> Vec<Place> {
    let mut places = Vec::new();
    for (url, found) in written.iter().zip(found) {
        let place = |address| Place { url: url.clone(), address };
        match found {
            // In an order that does not change with every answer.
            Some(mut addresses) if !addresses.is_empty() => {
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(MOST);
                places.extend(addresses.into_iter().map(|address| place(Some(address))));
            }
            Some(_) => places.push(place(None)),
            None => places.extend(before.iter().filter(|place| place.url == *url).cloned()),
        }
    }
    places
}

/// For those who send beside the log: the endpoints as they are now.
pub(super) fn follow(
    set: &mut Option<watch::Receiver<Places>>,
    config: &mut Config,
    client: &mut Arc<Renewable>,
) {
    let Some(set) = set else { return };
    config.at(&set.borrow_and_update());
    // Their URLs were good before.
    if let Ok(other) = client.at(config) {
        *client = other;
    }
}

/// Sends, and tells it to stop when there are other endpoints.
pub(super) async fn unless_changed<T>(
    set: &mut Option<watch::Receiver<Places>>,
    stopping: &CancellationToken,
    sending: impl Future<Output = T>,
) -> T {
    let mut sending = pin!(sending);
    if let Some(set) = set {
        tokio::select! {
            ended = &mut sending => return ended,
            Ok(()) = set.changed() => stopping.cancel(),
        }
    }
    sending.await
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    fn names(written: &[&str]) -> Names {
        let written: Vec<_> = written.iter().map(|url| (*url).to_owned()).collect();
        let place = |url: &String| Place { url: url.clone(), address: None };
        let set = watch::Sender::new(written.iter().map(place).collect());
        let destination = DestinationName::new("splunk").unwrap();
        let lookup: Lookup = |_| Box::pin(std::future::pending());
        Names { destination, written, every: Duration::from_secs(60), set, lookup }
    }

    fn shown(names: &Names) -> Vec<String> {
        names.set.borrow().iter().map(Place::to_string).collect()
    }

    /// What DNS says of each name.
    type Zone = RefCell<BTreeMap<&'static str, Vec<&'static str>>>;

    async fn round(names: &Names, zone: &Zone) -> bool {
        names
            .round(async |name: String| {
                let found = zone.borrow().get(name.as_str()).cloned();
                let found = found.ok_or_else(|| io::Error::other("NXDOMAIN"))?;
                Ok(found.iter().map(|address| address.parse().unwrap()).collect())
            })
            .await
    }

    #[tokio::test]
    async fn every_address_is_an_endpoint_and_the_order_of_answers_says_nothing() {
        let names = names(&["https://hec.example.com:8088", "https://10.9.9.9:8088"]);
        let zone = Zone::default();
        zone.borrow_mut().insert("hec.example.com", vec!["10.0.0.2", "2001:db8::1", "10.0.0.1"]);
        let mut set = names.subscribe();
        assert!(round(&names, &zone).await);
        assert!(set.has_changed().unwrap());
        set.mark_unchanged();
        let all = [
            "https://hec.example.com:8088 at 10.0.0.1",
            "https://hec.example.com:8088 at 10.0.0.2",
            "https://hec.example.com:8088 at 2001:db8::1",
            "https://10.9.9.9:8088",
        ];
        assert_eq!(shown(&names), all);
        zone.borrow_mut().insert("hec.example.com", vec!["10.0.0.1", "2001:db8::1", "10.0.0.2"]);
        assert!(round(&names, &zone).await);
        assert!(!set.has_changed().unwrap(), "the same addresses in another order");
        zone.borrow_mut().insert("hec.example.com", vec!["10.0.0.2"]);
        assert!(round(&names, &zone).await);
        assert_eq!(shown(&names), [all[1], all[3]]);
    }

    #[tokio::test]
    async fn a_lookup_that_fails_or_is_empty_keeps_what_was_there() {
        let names = names(&["https://a.example.com:8088", "https://b.example.com:8088"]);
        let zone = Zone::default();
        assert!(!round(&names, &zone).await);
        assert_eq!(shown(&names), ["https://a.example.com:8088", "https://b.example.com:8088"]);
        zone.borrow_mut().insert("a.example.com", vec!["10.0.0.1", "10.0.0.2"]);
        assert!(!round(&names, &zone).await);
        let all = [
            "https://a.example.com:8088 at 10.0.0.1",
            "https://a.example.com:8088 at 10.0.0.2",
            "https://b.example.com:8088",
        ];
        assert_eq!(shown(&names), all);
        zone.borrow_mut().insert("a.example.com", Vec::new());
        assert!(!round(&names, &zone).await);
        assert_eq!(shown(&names), all, "none is no answer");
        zone.borrow_mut().clear();
        zone.borrow_mut().insert("b.example.com", vec!["10.0.0.3"]);
        assert!(!round(&names, &zone).await);
        assert_eq!(shown(&names)[..2], all[..2]);
        assert_eq!(shown(&names)[2], "https://b.example.com:8088 at 10.0.0.3");
    }

    /// A name server that answers nobody has until the patience ends for every name.
    #[tokio::test]
    async fn a_stop_does_not_wait_for_a_lookup() {
        let names = names(&["https://a.example.com:8088", "https://b.example.com:8088"]);
        let stop = CancellationToken::new();
        // It asks before it is stopped: what stands first goes first.
        let both = async { tokio::join!(biased; names.follow(&stop), async { stop.cancel() }) };
        timeout(PATIENCE / 2, both).await.expect("it ends with the stop");
    }

    #[test]
    fn a_name_with_very_many_addresses_is_bounded() {
        let written = ["https://a.example.com".to_owned()];
        let found = (0..1000u32).map(|n| IpAddr::V4(n.into())).collect();
        assert_eq!(merged(&written, &[], vec![Some(found)]).len(), MOST);
    }
}
