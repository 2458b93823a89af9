//! What changes at a destination while requests are on their way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Barrier, Notify};
use tokio::task::JoinSet;

use super::client::HecClient;
use super::link::Link;
use super::pack::Body;
use super::{Config, Proxy, http, rig};
use crate::delivery::{EndpointId, PollOutcome, PostOutcome};
use crate::types::{AckId, ChannelId};

/// A collector that knows the new token. Of two requests with the old one, the second is refused when
/// the first has come again with the new one.
async fn collector() -> (SocketAddr, JoinSet<()>) {
    let (both, renewed) = (Arc::new(Barrier::new(2)), Arc::new(Notify::new()));
    rig::collector(move |head| {
        let (both, renewed) = (Arc::clone(&both), Arc::clone(&renewed));
        async move {
            if head.contains("splunk new-token") {
                renewed.notify_one();
                let is_post = head.starts_with("post /services/collector/event");
                let accepted = "{\"text\":\"Success\",\"code\":0,\"ackId\":1}";
                return (200, if is_post { accepted } else { "{\"acks\":{\"1\":true}}" });
            }
            if !both.wait().await.is_leader() {
                renewed.notified().await;
            }
            (403, "{\"text\":\"Invalid token\",\"code\":4}")
        }
    })
    .await
}

/// Two requests carry the old token. The first that is refused finds the new one in the file; for the
/// other it is known by then, which is no reason to hold the endpoint.
#[tokio::test]
async fn whatever_carried_the_old_token_is_sent_with_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hec");
    std::fs::write(&file, "new-token\n").unwrap();
    let client = |address| {
        let config = Config { token_file: Some(file.clone()), ..rig::config(address) };
        HecClient::new(&config).unwrap()
    };
    let (endpoint, channel) = (EndpointId::FIRST, ChannelId::from_random);

    let (address, _listening) = collector().await;
    let posting = client(address);
    let body = || Body { bytes: "{\"event\":\"x\"}".into(), gzip: false };
    let post = async |number| posting.post(endpoint, channel(number), &Link::Free, body()).await;
    let (first, second) = tokio::join!(post(1), post(2));
    for outcome in [first, second] {
        assert!(matches!(outcome, PostOutcome::Accepted { .. }), "{outcome:?}");
    }

    let (address, _listening) = collector().await;
    let polling = client(address);
    let ids = [AckId::new(1)];
    let poll = async |number| polling.poll(endpoint, channel(number), &Link::Free, &ids).await;
    let (first, second) = tokio::join!(poll(1), poll(2));
    for outcome in [first, second] {
        assert!(matches!(outcome, PollOutcome::Answered { .. }), "{outcome:?}");
    }
}

/// Whatever stands before a collector may take batches to it, and no questions.
#[tokio::test]
async fn why_questions_are_not_answered_is_told_once_and_shown() {
    let (heard, _listening) = rig::Heard::warnings();
    let broken = Arc::new(AtomicBool::new(true));
    let now = Arc::clone(&broken);
    let (address, _serving) = rig::collector(move |_| {
        let answer = match now.load(Ordering::SeqCst) {
            true => (404, "<html>nothing here</html>"),
            false => (200, "{\"acks\":{\"1\":false}}"),
        };
        std::future::ready(answer)
    })
    .await;
    let client = HecClient::new(&rig::config(address)).unwrap();
    let poll = async || {
        let (channel, ids) = (ChannelId::from_random(1), [AckId::new(1)]);
        client.poll(EndpointId::FIRST, channel, &Link::Free, &ids).await
    };
    let url = format!("http://{address}");
    for _ in 0..3 {
        assert_eq!(poll().await, PollOutcome::Failed);
    }
    let told = heard.lines("");
    assert_eq!(told.len(), 1, "{told:?}");
    let words = ["does not say what is acknowledged", "it answers HTTP 404", &url];
    assert!(words.iter().all(|word| told[0].contains(word)), "{told:?}");
    assert!(client.unanswered.why(&url).unwrap().contains("HTTP 404"));
    assert_eq!(client.outages.why(&url), None, "batches are taken");
    broken.store(false, Ordering::SeqCst);
    assert!(matches!(poll().await, PollOutcome::Answered { .. }));
    assert_eq!(client.unanswered.why(&url), None);
}

/// A host without authorities has nobody to trust, and needs nobody for plain HTTP.
#[test]
fn without_tls_nobody_has_to_be_trusted() {
    let mut config = rig::config(([127, 0, 0, 1], 1).into());
    assert!(!http::has_tls(&config));
    config.proxy = Some(Proxy { url: "https://proxy:1".to_owned(), credentials: None });
    assert!(http::has_tls(&config), "the proxy shows a certificate");
    config.proxy = None;
    config.endpoints.push("https://hec:8088".to_owned());
    assert!(http::has_tls(&config));
}
