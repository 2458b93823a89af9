//! Who may send what, over a real socket; and that it may change.

use std::collections::BTreeSet;

use super::super::{Drain, Drains, Live, UnknownDrain, Via};
use super::server::{BODY, SHUTTLE, Server, drains, logplex, post, until, user};
use crate::logplex::Profile;

const GOOD: &str = "Authorization: Basic aGVyb2t1OnNlY3JldA==\r\n";

fn at(path: &str, headers: &str) -> String {
    String::from_utf8(post(headers, BODY)).unwrap().replacen("/logs", path, 1)
}

#[tokio::test]
async fn each_way_of_saying_who_one_is_works_and_no_mixture() {
    let server = Server::with(|setup| {
        setup.ingest.live.users = vec![
            user("heroku", "secret", Via::Basic),
            user("space", "t0ken", Via::Bearer),
            user("path", "s3cret", Via::Path),
        ];
    })
    .await;
    for (path, headers, code) in [
        ("/logs", GOOD, 200),
        ("/logs", "Authorization: Bearer t0ken\r\n", 200),
        ("/logs/s3cret", "", 200),
        ("/logs/s3cret?app=x", "", 200),
        ("/logs/s3cre", "", 401),
        ("/logs/", "", 401),
        ("/logs/s3cret/", "", 401),
        ("/logss3cret", "", 404),
        ("/other/s3cret", "", 404),
        ("/logs", "", 401),
        ("/logs", "Authorization: Bearer s3cret\r\n", 401),
        ("/logs/t0ken", "", 401),
    ] {
        assert_eq!(server.ask(at(path, headers)).await.code(), code, "{path} {headers}");
    }
}

/// Also behind a path that ends with the `/` that stands before the secret.
#[tokio::test]
async fn a_secret_stands_behind_any_path() {
    for (own, good, bad) in [
        ("/", ["/s3cret", "/s3cret?app=x"], ["/", "//s3cret"]),
        ("/logs/", ["/logs/s3cret", "/logs/s3cret?app=x"], ["/logs/", "/logs//s3cret"]),
    ] {
        let server = Server::with(|setup| {
            setup.ingest.path = own.to_owned();
            setup.ingest.live.users = vec![user("path", "s3cret", Via::Path)];
        })
        .await;
        for path in good {
            assert_eq!(server.ask(at(path, "")).await.code(), 200, "{own} {path}");
        }
        for path in bad {
            assert_eq!(server.ask(at(path, "")).await.code(), 401, "{own} {path}");
        }
    }
}

#[tokio::test]
async fn users_send_for_their_drains_and_unknown_ones_are_seen() {
    let bound = |unknown_drain| Live {
        users: vec![super::super::User {
            drains: Some(BTreeSet::from(["shop".to_owned()])),
            ..user("heroku", "secret", Via::Basic)
        }],
        drains: drains(&[("d.fc6b856b", "shop"), ("d.other", "blog")]),
        unknown_drain,
        ..Live::default()
    };
    let server = Server::with(|setup| setup.ingest.live = bound(UnknownDrain::Accept)).await;
    let frame = |id: &str, token: &str| {
        post(&format!("{GOOD}{}", logplex(id).replace("d.fc6b856b", token)), BODY)
    };
    assert_eq!(server.ask(frame("A", "d.fc6b856b")).await.code(), 200);
    assert_eq!(server.ask(frame("B", "d.other")).await.code(), 403);
    assert_eq!(server.ask(frame("C", "d.0123456789")).await.code(), 200);
    // A sender that names no drain is its user's one drain.
    assert_eq!(server.ask(post(&format!("{GOOD}{SHUTTLE}"), BODY)).await.code(), 200);
    let tokens: Vec<_> = server.stored().into_iter().map(|frame| frame.drain_token).collect();
    assert_eq!(tokens, ["d.fc6b856b", "d.0123456789", "d.fc6b856b"].map(|t| Some(t.to_owned())));
    let strangers = server.handle.status().unknown_drains;
    let [stranger] = &strangers[..] else { panic!("{strangers:?}") };
    assert_eq!((stranger.token.as_str(), stranger.frames), ("01234567", 1));

    server.handle.reload(bound(UnknownDrain::Reject));
    assert_eq!(server.ask(frame("D", "d.0123456789")).await.code(), 403);
    assert_eq!(server.ask(frame("E", "d.fc6b856b")).await.code(), 200);
}

/// What a drain is decides which id is its frames', and how it is told that one is not stored.
#[tokio::test]
async fn the_profile_of_a_drain_can_be_given() {
    let server = Server::with(|setup| {
        let shuttle = Drain { name: "space".to_owned(), profile: Some(Profile::Shuttle) };
        setup.ingest.live.drains =
            std::sync::Arc::new(Drains([("d.fc6b856b".to_owned(), shuttle)].into()));
    })
    .await;
    let headers = format!("{}X-Request-Id: batch-7\r\n", logplex("A"));
    assert_eq!(server.ask(post(&headers, BODY)).await.code(), 200);
    let stored = server.stored();
    assert_eq!(stored[0].profile, Profile::Shuttle);
    assert_eq!(stored[0].frame_id.as_deref(), Some("batch-7"));
    server.end_log();
    let mut client = server.connect().await;
    client.send(post(&headers.replace("batch-7", "batch-8"), BODY)).await;
    client.closed().await;
}

/// New settings hold for the next request, also of a connection that is open.
#[tokio::test]
async fn credentials_change_without_closing_a_connection() {
    let live = |password: &str| Live {
        users: vec![user("heroku", password, Via::Basic)],
        ..Live::default()
    };
    let server = Server::with(|setup| setup.ingest.live = live("secret")).await;
    let mut client = server.connect().await;
    for (password, code) in [("secret", 200), ("changed", 401), ("secret", 200)] {
        server.handle.reload(live(password));
        client.send(post(GOOD, BODY)).await;
        assert_eq!(client.answer().await.code(), code, "{password}");
    }
}

/// Loss that senders report is counted by drain; what log-shuttle says twice, once.
#[tokio::test]
async fn loss_before_us_is_counted_by_drain() {
    let server =
        Server::with(|setup| setup.ingest.live.drains = drains(&[("d.fc6b856b", "shop")])).await;
    let line = |text: &str| {
        let message = format!("<172>1 2026-01-02T03:04:05+00:00 host {text}");
        format!("{} {message}", message.len())
    };
    let l10 =
        line("heroku logplex - Error L10 (output buffer overflow): 3 messages dropped since x.");
    let l12 = line("app log-shuttle - Error L12: 12 messages dropped since x\n");
    let fake = line("app web.1 - Error L10 (output buffer overflow): 9 messages dropped since x.");
    let known = post(&logplex("A"), format!("{l10}{BODY}{fake}"));
    assert_eq!(server.ask(&known).await.code(), 200);
    // The same frame again: a duplicate counts nothing.
    assert_eq!(server.ask(&known).await.code(), 200);
    let headers = format!("{SHUTTLE}Logplex-Drop-Count: 12\r\nLogplex-Lost-Count: 7\r\n");
    assert_eq!(server.ask(post(&headers, &l12)).await.code(), 200);
    let lost: Vec<_> = server
        .handle
        .status()
        .upstream_loss
        .into_iter()
        .map(|loss| (loss.drain, loss.code, loss.messages))
        .collect();
    let expected = [("shop", "L10", 3), ("unknown", "L12", 12), ("unknown", "L13", 7)];
    assert_eq!(lost, expected.map(|(drain, code, n)| (drain.to_owned(), code, n)));
}

#[tokio::test]
async fn the_accept_loop_says_that_it_is_alive() {
    let mut server = Server::start().await;
    assert!(server.handle.is_alive().await);
    server.begin_stop();
    server.stopped().await;
    assert!(!server.handle.is_alive().await);
    until("the request count is 0", || server.handle.status().requests == 0).await;
}
