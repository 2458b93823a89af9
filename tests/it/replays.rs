//! `forebay replay`: a stretch of the log is sent once more, beside the live delivery.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Control, Destination, Frame, Hec, Lab, Ran, SOON, eventually, from_environment, measured,
    number,
};

/// A frame of a drain.
fn frame(number: usize, drain: &str) -> Frame {
    let texts = [format!("frame {number} message 0"), format!("frame {number} message 1")];
    let frame = Frame::new(&format!("{number:032}"), &[&texts[0], &texts[1]]);
    Frame { drain: Some(drain.to_owned()), ..frame }
}

async fn post(lab: &Lab, frames: std::ops::Range<usize>) {
    let mut client = lab.client().await;
    for number in frames {
        let drain = if number.is_multiple_of(3) { "d.third" } else { "d.other" };
        assert_eq!(client.post(&frame(number, drain)).await, 200);
    }
}

/// How often each event is in the index with the mark of a replay, or with none, by event id.
fn indexed(hec: &Hec, replay: Option<&str>) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for event in hec.ledger.events().iter().filter(|event| event.indexed) {
        if event.fields.get("forebay_replay").and_then(Value::as_str) == replay {
            let id = event.fields["event_id"].as_str().unwrap().to_owned();
            *found.entry(id).or_default() += 1;
        }
    }
    found
}

/// The ids of the events of some frames.
fn ids(frames: impl Iterator<Item = usize>) -> BTreeSet<String> {
    frames.flat_map(|n| [format!("{n:032}:0"), format!("{n:032}:1")]).collect()
}

fn row(control: &Control, id: &str) -> Value {
    let all = control.ask(&["replay", "list", "--json"]).json();
    let found = all.as_array().unwrap().iter().find(|row| row["id"] == id);
    found.unwrap_or_else(|| panic!("{id}: {all}")).clone()
}

fn id(ran: &Ran) -> String {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.json()["id"].as_str().unwrap().to_owned()
}

async fn finished(control: &Control, id: &str) -> Value {
    eventually(SOON, "the replay has finished", async || row(control, id)["state"] == "finished")
        .await;
    row(control, id)
}

/// A stretch by offset, one of a drain, one of an app, and one by time: each event is sent again
/// with the mark and its old id, nothing else is, and the live books do not move.
#[tokio::test]
async fn what_is_asked_for_is_sent_again_and_nothing_else() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "[destination.batch]\nmax_events = 7\nlinger = \"20ms\"\n")
        .tables("[[drain]]\ntoken = \"d.third\"\napp = \"checkout\"\n");
    let control = Control::of(&mut lab);
    lab.start().await;
    post(&lab, 0..30).await;
    let before = lab.drained(SOON).await;
    let middle = forebay::clock::unix_micros().get();
    post(&lab, 30..40).await;
    lab.drained(SOON).await;
    // A moment of the past, in the middle.
    let time = std::process::Command::new("date")
        .args(["--utc", "--date", &format!("@{}.{:06}", middle / 1_000_000, middle % 1_000_000)])
        .arg("+%Y-%m-%dT%H:%M:%S.%NZ")
        .output()
        .unwrap();
    let time = String::from_utf8(time.stdout).unwrap().trim().to_owned();

    let third = |n: &usize| n.is_multiple_of(3);
    for (args, wanted) in [
        (vec!["--from", "5", "--to", "17"], ids(5..17)),
        (vec!["--from", "earliest"], ids(0..40)),
        (vec!["--from", "0", "--to", "20", "--drain", "d.th"], ids((0..20).filter(third))),
        (vec!["--from", "3", "--app", "checkout"], ids((3..40).filter(third))),
        (vec!["--from", &time], ids(30..40)),
        (vec!["--from", "-1h", "--to", &time], ids(0..30)),
        (vec!["--from", "0", "--app", "nobody"], BTreeSet::new()),
    ] {
        let ran = control.ask(&[&["replay", "start", "splunk", "--json"], &args[..]].concat());
        let id = id(&ran);
        let row = finished(&control, &id).await;
        let found = indexed(&hec, Some(&id));
        assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), wanted, "{args:?}");
        assert!(found.values().all(|copies| *copies == 1), "{args:?}: {found:?}");
        let number = |name: &str| row[name].as_u64().unwrap();
        assert_eq!(number("acknowledged"), wanted.len() as u64, "{row}");
        assert_eq!(number("acknowledged") + number("filtered"), number("messages"), "{row}");
        assert_eq!((number("pending"), &row["progress"]), (0, &1.0.into()), "{row}");
        assert!(row["ended"].as_str().is_some() && !row.to_string().contains("d.third"), "{row}");
    }
    // What was delivered in the first place carries no mark, and its books are as before.
    let live = indexed(&hec, None);
    assert_eq!(live.keys().cloned().collect::<BTreeSet<_>>(), ids(0..40));
    let books = lab.drained(SOON).await;
    assert_eq!(books.acknowledged, before.acknowledged + 20);
    assert_eq!(lab.metric("forebay_replays{destination=\"splunk\"}").await, Some(0.0));
    let replayed = lab.metric("forebay_replayed_messages_total{destination=\"splunk\"}").await;
    assert_eq!(replayed, Some(24.0 + 80.0 + 14.0 + 26.0 + 20.0 + 60.0));
    let listed = control.ask(&["replay", "list"]).stdout;
    assert_eq!(listed.lines().count(), 8, "{listed}");
    assert!(listed.contains("[5, 17)") && listed.contains("100.0%"), "{listed}");
    assert_eq!(lab.status().await["replays"].as_array().unwrap().len(), 7);
    lab.stop().await;
}

/// Killed again and again while it sends, and while new frames come in: in the end every message
/// of the stretch has arrived with the mark, every new one without, and all books balance.
#[tokio::test]
async fn a_replay_survives_kills_and_the_live_delivery_goes_on() {
    let hec = Hec::usual();
    let mut lab = Lab::with(
        &hec,
        "recall = \"1s\"\nack_timeout = \"5s\"\n[destination.batch]\nmax_events = 20\nlinger = \"20ms\"\n",
    );
    let control = Control::of(&mut lab);
    lab.start().await;
    let frames = 300;
    post(&lab, 0..frames).await;
    lab.drained(SOON).await;
    let args = ["replay", "start", "splunk", "--from", "0", "--rate", "150", "--json"];
    let replay = id(&control.ask(&args));
    let kills = from_environment("FOREBAY_REPLAY_KILLS").unwrap_or(5);
    let (mut next, mut killed) = (frames, 0);
    while killed < kills {
        let before = row(&control, &replay);
        post(&lab, next..next + 5).await;
        next += 5;
        let live = ids(next - 5..next);
        eventually(SOON, "what is new is delivered meanwhile", async || {
            let found = indexed(&hec, None);
            live.iter().all(|id| found.contains_key(id))
        })
        .await;
        eventually(SOON, "the replay comes further", async || {
            let now = row(&control, &replay);
            now["state"] == "finished" || now["acknowledged"] != before["acknowledged"]
        })
        .await;
        if row(&control, &replay)["state"] == "finished" {
            break;
        }
        let books = lab.books("splunk").await;
        assert_eq!(books.difference, 0, "{books:?}");
        lab.kill();
        killed += 1;
        lab.start().await;
    }
    assert!(killed >= 2, "it was over before it was killed");
    let row = finished(&control, &replay).await;
    let found = indexed(&hec, Some(&replay));
    assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), ids(0..frames));
    assert_eq!(row["acknowledged"], 2 * frames as u64, "{row}");
    let live = indexed(&hec, None);
    assert_eq!(live.keys().cloned().collect::<BTreeSet<_>>(), ids(0..next));
    let books = lab.drained(SOON).await;
    assert_eq!((books.acknowledged, books.difference), (2 * next as u64, 0), "{books:?}");
    measured("kills of a replay", killed);
    measured("events it sent twice", found.values().map(|copies| copies - 1).sum::<u64>());
    lab.stop().await;
}

/// The rate is an upper bound, and roughly kept; one that is cancelled stops, and the next one,
/// which has waited, goes on.
#[tokio::test]
async fn the_rate_is_kept_and_a_cancelled_replay_stops() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "[destination.batch]\nmax_events = 50\nlinger = \"20ms\"\n");
    let control = Control::of(&mut lab);
    lab.start().await;
    let sending = lab.send(|config| {
        config.frames = Some(200);
        config.messages_per_frame = number(20);
    });
    sending.end().await;
    lab.drained(SOON).await;
    let start = forebay::clock::instant();
    let args = ["replay", "start", "splunk", "--from", "0", "--rate", "100", "--json"];
    let (slow, next) = (
        id(&control.ask(&args)),
        id(&control.ask(&["replay", "start", "splunk", "--from", "0", "--to", "2", "--json"])),
    );
    assert_eq!(row(&control, &next)["state"], "waiting");
    eventually(SOON, "some of it is there", async || {
        row(&control, &slow)["acknowledged"].as_u64() >= Some(300)
    })
    .await;
    let sent = hec.ledger.totals().accepted - 4000;
    let allowed = start.elapsed().as_secs_f64() * 100.0 + 100.0;
    assert!(sent as f64 <= allowed, "{sent} of at most {allowed}");
    assert!(start.elapsed() >= Duration::from_secs(2), "300 events are 3 batches at 1 s");
    let gauge = lab.metric("forebay_replays{destination=\"splunk\"}").await;
    assert_eq!(gauge, Some(2.0));

    let cancelled = control.ask(&["replay", "cancel", &slow, "--json"]).json();
    assert_eq!((&cancelled["state"], &cancelled["rate"]), (&"cancelled".into(), &100.into()));
    finished(&control, &next).await;
    let after = row(&control, &slow);
    assert_eq!((&after["state"], &after["pending"]), (&"cancelled".into(), &cancelled["pending"]));
    let pending = lab.metric("forebay_replay_pending_messages{destination=\"splunk\"}").await;
    assert_eq!(pending, Some(0.0));
    let again = control.ask(&["replay", "cancel", &slow]);
    assert!(again.code == Some(1) && again.stderr.contains("is cancelled already"), "{again:?}");
    let books = lab.drained(SOON).await;
    assert_eq!(books.acknowledged, 4000);
    lab.stop().await;
}

/// What is not retained is refused with what is, and so is everything else that cannot be.
#[tokio::test]
async fn what_cannot_be_replayed_is_refused_with_the_reason() {
    let hec = Hec::usual();
    let mut lab = Lab::new(vec![Destination::new("splunk", hec.address(), "")])
        .wal("retention = \"0s\"\nsegment_size = \"1MiB\"\nmax_size = \"64MiB\"\n");
    lab.show(&hec);
    let control = Control::of(&mut lab);
    lab.start().await;
    let sending = lab.send(|config| {
        config.frames = Some(150);
        config.messages_per_frame = number(100);
    });
    sending.end().await;
    lab.drained(SOON).await;
    eventually(SOON, "segments are dropped", async || {
        lab.status().await["log"]["first_offset"].as_u64() > Some(0)
    })
    .await;
    let log = lab.status().await["log"].clone();
    let range = format!("[{}, {})", log["first_offset"], log["end_offset"]);
    let first = log["first_offset"].as_u64().unwrap();
    let (below, beyond) = ((first - 1).to_string(), (150 + 1).to_string());
    for (args, words) in [
        (vec!["--from", &below], vec!["not retained", &range, "which arrived from"]),
        (vec!["--from", &beyond], vec!["not retained", &range]),
        (vec!["--from", "-1h"], vec!["not retained", &range]),
        (vec!["--from", "earliest", "--to", &below], vec!["not retained", &range]),
        (vec!["--from", "latest"], vec!["there is nothing in"]),
        (vec!["--from", "earliest", "--to", "earliest"], vec!["there is nothing in"]),
        (vec!["--from", "2999-01-01T00:00:00Z"], vec!["has not come yet"]),
        (vec!["--from", "earliest", "--app", ""], vec!["`app` is empty"]),
    ] {
        let ran = control.ask(&[&["replay", "start", "splunk"], &args[..]].concat());
        assert_eq!(ran.code, Some(1), "{args:?}: {ran:?}");
        for word in words {
            assert!(ran.stderr.contains(word), "{args:?}: {word}: {ran:?}");
        }
    }
    let ran = control.ask(&["replay", "start", "splnk", "--from", "earliest"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("it is one of: splunk"), "{ran:?}");
    let ran = control.ask(&["replay", "start", "splunk", "--from", "yesterday"]);
    assert!(ran.code == Some(64) && ran.stderr.contains("a place is an offset"), "{ran:?}");
    let ran = control.ask(&["replay", "cancel", "r-0"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("there is no replay r-0"), "{ran:?}");
    let ran = control.without_token(&["replay", "start", "splunk", "--from", "earliest"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("the token is wrong"), "{ran:?}");
    let none = control.ask(&["replay", "list", "--json"]).json();
    assert_eq!(none, serde_json::json!([]));
    lab.stop().await;
}
