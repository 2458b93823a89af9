//! The cookies that a load balancer has set on a channel's answers, to be sent back on that channel
//! and on no other.
//!
//! What a cookie says is not looked at: AWS' balancer gives it another value with every answer, so a
//! change alone says nothing. Whether another indexer has answered shows in its ackIds.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cookie_store::{Cookie, CookieStore, StoreAction};
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, SET_COOKIE};

/// The most cookies that are kept for a channel. A balancer sets one or two.
const MOST: usize = 16;

/// The most bytes of their names and values, and of one cookie with its attributes (RFC 6265,
/// section 6.1: clients take at least so much of each).
const MOST_BYTES: usize = 4096;

/// One channel's cookies.
#[derive(Default)]
pub(super) struct Jar(Mutex<CookieStore>);

impl Jar {
    /// What to send with a request.
    pub(super) fn header(&self, url: &Url) -> Option<HeaderValue> {
        let store = self.locked();
        let pairs: Vec<_> =
            store.get_request_values(url).map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() {
            return None;
        }
        let mut header = HeaderValue::from_str(&pairs.join("; ")).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// Takes what an answer sets. What is too large, too much or not meant for this host is left
    /// out.
    pub(super) fn keep(&self, url: &Url, headers: &HeaderMap) {
        let mut store = self.locked();
        for text in headers.get_all(SET_COOKIE).iter().take(MOST) {
            let Ok(text) = text.to_str() else { continue };
            if text.len() > MOST_BYTES {
                tracing::debug!("a cookie of a collector is too large and is not kept");
                continue;
            }
            let Ok(cookie) = Cookie::parse(text.to_owned(), url) else { continue };
            let place = (String::from(&cookie.domain), String::from(&cookie.path));
            let name = cookie.name().to_owned();
            let taken = store.insert(cookie, url);
            if matches!(taken, Ok(StoreAction::Inserted)) && is_full(&store) {
                store.remove(&place.0, &place.1, &name);
                tracing::debug!("a collector sets more cookies than are kept");
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, CookieStore> {
        // Nothing in here is left half done by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_full(store: &CookieStore) -> bool {
    let bytes: usize =
        store.iter_any().map(|cookie| cookie.name().len() + cookie.value().len()).sum();
    store.iter_any().count() > MOST || bytes > MOST_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn answer(cookies: &[&str]) -> HeaderMap {
        let all = cookies.iter().map(|text| (SET_COOKIE, HeaderValue::from_str(text).unwrap()));
        all.collect()
    }

    fn sent(jar: &Jar, at: &str) -> String {
        let header = jar.header(&url(at));
        header.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    }

    const EVENT: &str = "https://hec.example.com:8088/services/collector/event";
    const ACK: &str = "https://hec.example.com:8088/services/collector/ack";

    #[test]
    fn what_one_answer_sets_the_next_request_sends() {
        let jar = Jar::default();
        assert_eq!(sent(&jar, EVENT), "");
        jar.keep(
            &url(EVENT),
            &answer(&["AWSALB=one; Path=/; Expires=Fri, 01 Jan 2100 00:00:00 GMT"]),
        );
        assert_eq!(sent(&jar, ACK), "AWSALB=one");
        jar.keep(&url(ACK), &answer(&["AWSALB=two; Path=/; HttpOnly; Secure"]));
        assert_eq!(sent(&jar, EVENT), "AWSALB=two");
        assert!(jar.header(&url(EVENT)).unwrap().is_sensitive());
        jar.keep(&url(ACK), &answer(&["AWSALB=; Path=/; Max-Age=0"]));
        assert_eq!(sent(&jar, EVENT), "", "taken back");
    }

    #[test]
    fn a_cookie_for_somebody_else_is_not_kept() {
        let jar = Jar::default();
        let foreign = ["a=1; Domain=example.org", "b=2; Path=/elsewhere", "no cookie", "\u{7f}=3"];
        jar.keep(&url(EVENT), &answer(&foreign[..3]));
        assert_eq!(sent(&jar, EVENT), "");
        assert_eq!(sent(&jar, "https://other.example.com:8088/services/collector/event"), "");
    }

    #[test]
    fn a_jar_is_bounded_in_number_and_bytes() {
        let jar = Jar::default();
        for number in 0..1000 {
            jar.keep(&url(EVENT), &answer(&[&format!("c{number}=v; Path=/")]));
        }
        assert_eq!(sent(&jar, EVENT).split("; ").count(), MOST);
        let jar = Jar::default();
        for number in 0..100 {
            let value = "v".repeat(1000);
            jar.keep(&url(EVENT), &answer(&[&format!("c{number}={value}; Path=/")]));
        }
        assert_eq!(sent(&jar, EVENT).split("; ").count(), 4);
        jar.keep(&url(EVENT), &answer(&["c0=new; Path=/"]));
        assert!(sent(&jar, EVENT).contains("c0=new"), "one that is there may change");
        let jar = Jar::default();
        jar.keep(&url(EVENT), &answer(&[&format!("big={}; Path=/", "v".repeat(5000))]));
        assert_eq!(sent(&jar, EVENT), "");
    }
}
