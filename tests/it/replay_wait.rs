//! `forebay replay start --wait`, and a replay that does not come on: told wherever one looks.

use std::path::Path;

use forebay::simulate::hec::{Fault, FaultKind};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Control, Frame, Hec, Lab, SOON, eventually, number};

const SMALL: &str =
    "hold_probe = \"300ms\"\n[destination.batch]\nmax_events = 10\nlinger = \"20ms\"\n";

/// A relay whose Splunk has everything of some frames of two messages.
async fn delivered(hec: &Hec, frames: usize, ingest: &'static str) -> (Lab, Control) {
    let mut lab = Lab::with(hec, SMALL)
        .ingest(ingest)
        .tables("[[drain]]\ntoken = \"d.1\"\napp = \"checkout\"\n");
    let control = Control::of(&mut lab);
    lab.start().await;
    let mut client = lab.client().await;
    for number in 0..frames {
        let frame = Frame::new(&format!("{number:032}"), &["one", "two"]);
        let frame = Frame { drain: Some("d.1".to_owned()), ..frame };
        assert_eq!(client.post(&frame).await, 200);
    }
    lab.drained(SOON).await;
    (lab, control)
}

fn open(control: &Control) -> Option<Value> {
    let all = control.ask(&["replay", "list", "--json"]).json();
    let ended = |row: &&Value| row["ended"].is_null();
    all.as_array().unwrap().iter().find(ended).cloned()
}

/// One that is sent ends with 0 and says how it came on; in JSON it is one object.
#[tokio::test]
async fn whoever_waits_for_a_replay_is_told_its_end() {
    let hec = Hec::usual();
    let (mut lab, control) = delivered(&hec, 30, "").await;
    let args = &["replay", "start", "splunk", "--from", "0", "--rate", "20", "--wait"];
    let ran = control.wait(args).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains(" of 60 messages, running"), "{ran:?}");
    let end = "has finished: 60 messages acknowledged, 0 filtered, 0 dead-lettered";
    assert!(ran.stdout.lines().last().is_some_and(|line| line.ends_with(end)), "{ran:?}");
    let ran = control.wait(&["replay", "start", "splunk", "--from", "3", "--wait", "--json"]).await;
    let row = ran.json();
    assert_eq!(
        (ran.code, &row["state"], &row["pending"]),
        (Some(0), &"finished".into(), &0.into())
    );
    // Whoever asks for what is not there is told that nothing came of it.
    let args = &["replay", "start", "splunk", "--from", "0", "--drain", "d.none", "--wait"];
    let ran = control.wait(args).await;
    assert!(ran.code == Some(0) && ran.stderr.contains("nothing was sent"), "{ran:?}");
    lab.stop().await;
}

/// While one is sent at a rate, the list has what it does in a second and how long the rest takes. One
/// that is cancelled ends whoever waits for it, with 1 and the reason.
#[tokio::test]
async fn a_replay_that_is_cancelled_is_no_success() {
    let hec = Hec::usual();
    let (mut lab, control) = delivered(&hec, 200, "").await;
    let args = &["replay", "start", "splunk", "--from", "0", "--rate", "20", "--wait", "--json"];
    let waiting = control.wait(args);
    let cancelling = async {
        let known = async || {
            open(&control).is_some_and(|row| row["remaining_seconds"].as_f64() > Some(0.0))
        };
        eventually(SOON, "there is a rate", known).await;
        let row = open(&control).unwrap();
        let rate = row["messages_per_second"].as_f64().unwrap();
        assert!(rate > 0.0 && rate <= 40.0, "{row}");
        let listed = control.ask(&["replay", "list"]).stdout;
        let heading = listed.lines().next().unwrap();
        assert!(heading.contains("RATE") && heading.contains("LEFT"), "{listed}");
        assert!(listed.contains("/s  ") && listed.contains(" s  "), "{listed}");
        let status = control.ask(&["status"]).stdout;
        assert!(status.contains("running  to splunk") && status.contains(" left"), "{status}");
        control.ask(&["replay", "cancel", row["id"].as_str().unwrap()]);
    };
    let (ran, ()) = tokio::join!(waiting, cancelling);
    let row: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &row["state"]), (Some(1), &"cancelled".into()), "{ran:?}");
    assert!(
        ran.stderr.contains("was cancelled: ") && ran.stderr.contains("are not sent"),
        "{ran:?}"
    );
    lab.stop().await;
}

/// So does a signal; the replay goes on.
#[tokio::test]
async fn a_signal_ends_the_waiting_and_not_the_replay() {
    let hec = Hec::usual();
    let (mut lab, control) = delivered(&hec, 200, "").await;
    for signal in [Signal::TERM, Signal::INT] {
        let [out, err] = ["out", "err"].map(|name| lab.path().join(format!("{signal:?}.{name}")));
        let said = |path: &Path| std::fs::read_to_string(path).unwrap();
        let args = ["replay", "start", "splunk", "--from", "0", "--rate", "20", "--wait"];
        let mut waiting = control.start(&args, &out, &err);
        let what = "it follows the replay";
        eventually(SOON, what, async || said(&out).contains(" of 400 messages, running")).await;
        waiting.signal(signal);
        let (code, _) = waiting.exit(SOON).await;
        assert_eq!(code, Some(1), "{signal:?}: {}", said(&err));
        let row = open(&control).unwrap();
        assert_eq!(row["state"], "running", "{signal:?}: {row}");
        let id = row["id"].as_str().unwrap();
        let words = format!("not waited for any longer; the replay {id} goes on");
        assert!(said(&err).contains(&words), "{signal:?}: {}", said(&err));
        let left = |row: &Value| row["pending"].as_u64().unwrap();
        eventually(SOON, "it goes on", async || {
            open(&control).is_some_and(|later| left(&later) < left(&row))
        })
        .await;
        assert_eq!(control.ask(&["replay", "cancel", id]).code, Some(0));
    }
    lab.stop().await;
}

/// All collectors refuse the token: the replay is held, and says so in the list, in the status, in a
/// metric, and to whoever waits. When the token is good again it goes on by itself.
#[tokio::test]
async fn a_replay_that_is_held_says_so_everywhere() {
    let hec = Hec::usual();
    let (mut lab, control) = delivered(&hec, 20, "").await;
    hec.handle().set_fault(Some(Fault::always(FaultKind::InvalidToken)));
    let ran = control.wait(&["replay", "start", "splunk", "--from", "0", "--wait"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for words in [" is held: http://", "token", "it goes on by itself", "forebay replay cancel r-"]
    {
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    }
    let row = open(&control).unwrap();
    let reason = row["reason"].as_str().unwrap();
    assert_eq!(row["state"], "held", "{row}");
    assert!(row["stalled_seconds"].as_f64() > Some(5.0), "{row}");
    for command in [&["replay", "list"][..], &["status"]] {
        let said = control.ask(command).stdout;
        assert!(said.contains(" held ") && said.contains(reason), "{said}");
    }
    // What is delivered as usual has nothing to send, and does not know of it.
    assert_eq!(lab.status().await["destinations"][0]["state"], "delivering");
    let stuck = "forebay_replay_stuck{destination=\"splunk\"}";
    assert_eq!(lab.metric(stuck).await, Some(1.0));
    let stalled = "forebay_replay_stalled_seconds{destination=\"splunk\"}";
    assert!(lab.metric(stalled).await > Some(5.0));
    hec.handle().set_fault(None);
    eventually(SOON, "it goes on", async || open(&control).is_none()).await;
    eventually(SOON, "the metrics follow", async || {
        (lab.metric(stuck).await, lab.metric(stalled).await) == (Some(0.0), Some(0.0))
    })
    .await;
    lab.stop().await;
}

/// An app that no drain is configured for: a warning where a drain's URL may name it, and where it
/// cannot have frames a refusal with the names that there are.
#[tokio::test]
async fn an_app_that_nobody_knows_is_not_taken_silently() {
    let hec = Hec::usual();
    let asked = ["replay", "start", "splunk", "--from", "0", "--app", "chekout"];
    let (mut lab, control) = delivered(&hec, 3, "").await;
    let ran = control.ask(&asked);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for words in ["no drain of the app chekout", "there are: checkout", "?app=chekout"] {
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    }
    let known = ["replay", "start", "splunk", "--from", "0", "--app", "checkout"];
    assert!(control.ask(&known).stderr.is_empty());
    // Where the parameter is not kept, no frame can have another app. A reload is enough.
    lab.edit("[ingest]\n", "[ingest]\nquery = [\"env\"]\n");
    lab.reload().await;
    let ran = control.ask(&asked);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr.contains("there are: checkout") && ran.stderr.contains("by its token"),
        "{ran:?}"
    );
    assert_eq!(control.ask(&known).code, Some(0));
    lab.stop().await;
}

/// What stays in the log only because a replay has not sent it is counted, and goes when the replay is
/// cancelled.
#[tokio::test]
async fn what_a_replay_alone_keeps_is_counted() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "")
        .wal("retention = \"0s\"\nsegment_size = \"1MiB\"\nmax_size = \"64MiB\"\n");
    let control = Control::of(&mut lab);
    lab.start().await;
    let send = async |frames| {
        let sending = lab.send(|config| {
            config.frames = Some(frames);
            config.messages_per_frame = number(100);
        });
        sending.end().await;
        lab.drained(SOON).await;
    };
    send(5).await;
    // 500 messages at one a second: it stays where it is, for this test.
    let args = ["replay", "start", "splunk", "--from", "0", "--rate", "1", "--json"];
    let id = control.ask(&args).json()["id"].as_str().unwrap().to_owned();
    assert_eq!(lab.metric("forebay_replay_pinned_bytes").await, Some(0.0), "nothing could go yet");
    assert_eq!(lab.metric("forebay_wal_max_bytes").await, Some(64.0 * 1024.0 * 1024.0));
    send(150).await;
    eventually(SOON, "it keeps whole segments", async || {
        lab.metric("forebay_replay_pinned_bytes").await > Some(1e6)
    })
    .await;
    assert_eq!(lab.status().await["log"]["first_offset"], 0);
    assert_eq!(control.ask(&["replay", "cancel", &id]).code, Some(0));
    eventually(SOON, "they go", async || {
        let first = lab.status().await["log"]["first_offset"].as_u64();
        lab.metric("forebay_replay_pinned_bytes").await == Some(0.0) && first > Some(0)
    })
    .await;
    lab.stop().await;
}
