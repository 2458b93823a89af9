//! What stands in front of several indexers.
//!
//! Acknowledgements live in one indexer's memory. Which indexer a request reaches is therefore
//! what decides whether an ackId means anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{COOKIE, HeaderValue, SET_COOKIE};

use super::indexer::Indexer;
use super::reply::Answer;
use crate::clock::Epoch;

/// The cookie's name, as AWS' application load balancer has it.
const NAME: &str = "AWSALB";

/// Who chooses the indexer of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// Nobody: every request reaches the first indexer.
    #[default]
    None,
    /// Each request goes to the next indexer, whatever connection it came by.
    RoundRobin,
    /// A request goes where its cookie says; one without a cookie goes to the next indexer. Every
    /// answer sets the cookie anew, with another value, as AWS' application load balancer does.
    Cookie {
        /// For how long after its first answer a cookie leads somewhere. `None`: for ever.
        lifetime: Option<Duration>,
    },
    /// Each connection goes to the next indexer, as behind a balancer of layer 4.
    Connection,
}

/// A balancer at work.
#[derive(Debug)]
pub(super) struct Balance {
    balancer: Balancer,
    pub(super) indexers: Box<[Arc<Indexer>]>,
    next: AtomicUsize,
    nonce: AtomicUsize,
    epoch: Epoch,
}

/// Which indexer, and the cookie that leads there again.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) indexer: Arc<Indexer>,
    cookie: Option<String>,
}

impl Balance {
    pub(super) fn new(balancer: Balancer, indexers: Box<[Arc<Indexer>]>) -> Self {
        let (next, nonce) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { balancer, indexers, next, nonce, epoch: Epoch::start() }
    }

    /// The number that a new connection keeps.
    pub(super) fn connection(&self) -> usize {
        if self.balancer == Balancer::Connection { self.turn() } else { 0 }
    }

    fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.indexers.len().max(1)
    }

    /// The indexer of a request; `None` only if there is none at all.
    pub(super) fn choose(&self, connection: usize, headers: &HeaderMap) -> Option<Choice> {
        let (number, cookie) = match self.balancer {
            Balancer::None => (0, None),
            Balancer::Connection => (connection, None),
            Balancer::RoundRobin => (self.turn(), None),
            Balancer::Cookie { lifetime } => {
                let now = self.epoch.now();
                let valid = cookie(headers).filter(|(number, since)| {
                    let age = now.saturating_sub(*since);
                    *number < self.indexers.len() && lifetime.is_none_or(|most| age <= most)
                });
                let (number, since) = valid.unwrap_or_else(|| (self.turn(), now));
                let nonce = self.nonce.fetch_add(1, Ordering::Relaxed);
                let value = format!("{NAME}={number}.{}.{nonce}; Path=/", since.as_micros());
                (number, Some(value))
            }
        };
        Some(Choice { indexer: Arc::clone(self.indexers.get(number)?), cookie })
    }
}

impl Choice {
    /// Sets the cookie on an answer.
    pub(super) fn mark(&self, answer: &mut Answer) {
        if let Some(value) = self.cookie.as_deref().and_then(|c| HeaderValue::from_str(c).ok()) {
            answer.headers_mut().append(SET_COOKIE, value);
        }
    }
}

/// The indexer that a cookie names, and when it was first given out.
fn cookie(headers: &HeaderMap) -> Option<(usize, Duration)> {
    let all = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let value = all.flat_map(|value| value.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == NAME).then_some(value)
    })?;
    let mut parts = value.split('.');
    let number = parts.next()?.parse().ok()?;
    let since = parts.next()?.parse().ok()?;
    Some((number, Duration::from_micros(since)))
}
