//! What changes at a destination while requests are on their way.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Barrier, Notify};
use tokio::task::JoinSet;

use super::client::HecClient;
use super::link::Link;
use super::pack::Body;
use super::{Config, rig};
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
