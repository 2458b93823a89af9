//! What an operator does to the cursor of a destination that runs.

use std::collections::BTreeMap;

use crate::support::{Control, Destination, Frame, Hec, Lab, SOON, eventually};

fn frame(number: usize) -> Frame {
    let texts = [format!("frame {number} message 0"), format!("frame {number} message 1")];
    Frame::new(&format!("{number:032}"), &[&texts[0], &texts[1]])
}

async fn post(lab: &Lab, frames: std::ops::Range<usize>) {
    let mut client = lab.client().await;
    for number in frames {
        assert_eq!(client.post(&frame(number)).await, 200);
    }
}

/// A pause stops what is sent to one destination, is shown, outlives a kill and a restart, and
/// loses nothing.
#[tokio::test]
async fn a_pause_is_durable_shown_and_loses_nothing() {
    let (hec, audit) = (Hec::usual(), Hec::usual());
    let mut lab = Lab::new(vec![
        Destination::new("splunk", hec.address(), ""),
        Destination::new("audit", audit.address(), ""),
    ]);
    lab.show(&hec);
    let control = Control::of(&mut lab);
    lab.start().await;
    post(&lab, 0..5).await;
    lab.drained(SOON).await;

    let paused = control.ask(&["cursor", "pause", "splunk", "--json"]).json();
    assert_eq!(paused, serde_json::json!({ "name": "splunk", "paused": true }));
    let said = control.ask(&["cursor", "pause", "splunk"]);
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (
            Some(0),
            "splunk is paused: nothing more is sent, and what comes in waits in the log; replays go on\n"
        ),
        "{said:?}"
    );
    let before = hec.ledger.events().len();
    for life in 0..3 {
        post(&lab, 5 + 5 * life..10 + 5 * life).await;
        let all = 2 * (10 + 5 * life as u64);
        eventually(SOON, "the other destination goes on", async || {
            lab.books("audit").await.acknowledged == all
        })
        .await;
        let status = lab.status().await;
        let [splunk, other] = [&status["destinations"][0], &status["destinations"][1]];
        assert_eq!((&splunk["paused"], &splunk["state"]), (&true.into(), &"paused".into()));
        assert_eq!((&other["paused"], &other["state"]), (&false.into(), &"delivering".into()));
        // What is shown of a destination is up to half a second old.
        eventually(SOON, "what waits is seen", async || {
            let books = lab.books("splunk").await;
            assert_eq!(books.difference, 0, "{books:?}");
            books.pending == all - 10
        })
        .await;
        for (name, gauge) in [("splunk", 1.0), ("audit", 0.0)] {
            let series = format!("forebay_destination_paused{{destination=\"{name}\"}}");
            assert_eq!(lab.metric(&series).await, Some(gauge), "{name}");
        }
        assert_eq!(hec.ledger.events().len(), before, "nothing is sent");
        let listed = control.ask(&["cursor", "list", "--json"]).json();
        assert_eq!((&listed[1]["name"], &listed[1]["paused"]), (&"splunk".into(), &true.into()));
        assert!(control.ask(&["cursor", "list"]).stdout.contains("paused"));
        if life == 0 {
            lab.kill();
        } else {
            lab.stop().await;
        }
        lab.start().await;
    }
    assert_eq!(control.ask(&["cursor", "resume", "splunk"]).stdout, "splunk goes on\n");
    let books = lab.drained(SOON).await;
    assert_eq!(books.acknowledged, 40);
    assert_eq!(hec.ledger.events().len(), before + 30, "each once");
    lab.stop().await;
}

/// What waits for a paused destination grows old, though nothing of it is read: across a restart, too,
/// as the age is that of the message.
#[tokio::test]
async fn what_waits_for_a_paused_destination_is_seen_to_grow_old() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    let control = Control::of(&mut lab);
    lab.start().await;
    post(&lab, 0..5).await;
    lab.drained(SOON).await;
    let lag = "forebay_lag_seconds{destination=\"splunk\"}";
    let grows = async |lab: &Lab, beyond: f64| {
        eventually(SOON, "the lag grows", async || lab.metric(lag).await > Some(beyond)).await;
        lab.metric(lag).await.unwrap()
    };
    assert_eq!(control.ask(&["cursor", "pause", "splunk"]).code, Some(0));
    eventually(SOON, "nothing waits", async || lab.metric(lag).await == Some(0.0)).await;
    post(&lab, 5..8).await;
    let first = grows(&lab, 0.0).await;
    let second = grows(&lab, first).await;
    let shown = lab.status().await["destinations"][0]["lag_seconds"].as_f64().unwrap();
    assert!(shown >= second, "{shown} {second}");
    lab.kill();
    lab.start().await;
    grows(&lab, shown).await;
    assert_eq!(control.ask(&["cursor", "resume", "splunk"]).code, Some(0));
    lab.drained(SOON).await;
    eventually(SOON, "nothing waits", async || lab.metric(lag).await == Some(0.0)).await;
}

/// Whoever may not change anything cannot pause, and what is not there is said.
#[tokio::test]
async fn only_the_token_pauses_and_an_unknown_name_is_said() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    let control = Control::of(&mut lab);
    lab.start().await;
    for action in ["pause", "resume"] {
        let ran = control.ask(&["cursor", action, "splnk"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains("no destination splnk"), "{ran:?}");
        assert!(ran.stderr.contains("it is one of: splunk"), "{ran:?}");
        let ran = control.without_token(&["cursor", action, "splunk"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains("the token is wrong"), "{ran:?}");
    }
    assert_eq!(lab.status().await["destinations"][0]["paused"], false);
    lab.stop().await;
}

/// How often each message is in the index, by event id.
fn copies(hec: &Hec) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for event in hec.ledger.events().iter().filter(|event| event.indexed) {
        *found.entry(event.fields["event_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    found
}

/// Back: what lies between is sent again, with the ids it had, and counted. The books balance at
/// every moment, and after a kill.
#[tokio::test]
async fn a_seek_back_sends_again_and_the_books_balance() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    let control = Control::of(&mut lab);
    lab.start().await;
    post(&lab, 0..20).await;
    lab.drained(SOON).await;
    let moved = control.ask(&["cursor", "seek", "splunk", "--to", "15", "--json"]).json();
    let wanted = serde_json::json!({
        "name": "splunk", "from": [20, 0], "to": [15, 0], "skipped": 0, "rewound": 10,
    });
    assert_eq!(moved, wanted);
    let books = lab.drained(SOON).await;
    assert_eq!((books.accepted, books.acknowledged, books.rewound), (40, 50, 10), "{books:?}");
    // Everything again, by the word and by the time; and a kill changes nothing of it.
    for (to, rewound) in [("earliest", 50), ("-1h", 90)] {
        let said = control.ask(&["cursor", "seek", "splunk", "--to", to]);
        assert_eq!(said.code, Some(0), "{said:?}");
        for words in ["moved from 20:0 to 0:0", "40 messages are sent again", "| dedup event_id"] {
            assert!(said.stdout.contains(words), "{words}: {said:?}");
        }
        lab.kill();
        lab.start().await;
        let books = lab.drained(SOON).await;
        assert_eq!((books.accepted, books.rewound), (40, rewound), "{books:?}");
        assert_eq!(books.acknowledged, 40 + rewound, "{books:?}");
        let metric = lab.metric("forebay_rewound_messages_total{destination=\"splunk\"}").await;
        assert_eq!(metric, Some(rewound as f64));
    }
    let copies = copies(&hec);
    assert_eq!(copies.len(), 40, "the same ids");
    for (id, copies) in &copies {
        let late = id.as_str() >= "00000000000000000000000000000015";
        assert!(*copies >= if late { 4 } else { 3 }, "{id}: {copies}");
    }
    // New messages go their way.
    post(&lab, 20..25).await;
    let books = lab.drained(SOON).await;
    assert_eq!((books.accepted, books.rewound), (50, 90), "{books:?}");
    lab.stop().await;
    let verified = control.ask(&["wal", "verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

/// Forward: nothing is skipped unless the operator says so, what is skipped is counted and never
/// sent, and what is not retained is refused with what is.
#[tokio::test]
async fn a_seek_forward_skips_only_when_the_operator_says_so() {
    let mut hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    let control = Control::of(&mut lab);
    lab.start().await;
    post(&lab, 0..5).await;
    lab.drained(SOON).await;
    hec.stop().await;
    post(&lab, 5..25).await;
    let refused = control.ask(&["cursor", "seek", "splunk", "--to", "15"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for words in ["20 messages would be skipped", "--yes"] {
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
    }
    for (to, words) in
        [("26", "the log has the frames [0, 25)"), ("2999-01-01T00:00:00Z", "has not come yet")]
    {
        let refused = control.ask(&["cursor", "seek", "splunk", "--to", to, "--yes"]);
        assert!(refused.code == Some(1) && refused.stderr.contains(words), "{refused:?}");
    }
    let refused = control.without_token(&["cursor", "seek", "splunk", "--to", "0"]);
    assert!(refused.stderr.contains("the token is wrong"), "{refused:?}");
    eventually(SOON, "nothing was moved", async || {
        let books = lab.books("splunk").await;
        (books.acknowledged, books.skipped, books.pending) == (10, 0, 40)
    })
    .await;

    // While it is paused, it is moved and stays paused.
    control.ask(&["cursor", "pause", "splunk"]);
    let moved = control.ask(&["cursor", "seek", "splunk", "--to", "15", "--yes"]);
    assert!(moved.stdout.contains("20 messages are skipped: splunk never gets them"), "{moved:?}");
    assert_eq!(lab.status().await["destinations"][0]["paused"], true);
    let books = lab.books("splunk").await;
    assert_eq!((books.skipped, books.pending, books.difference), (20, 20, 0), "{books:?}");
    hec.start();
    control.ask(&["cursor", "resume", "splunk"]);
    let books = lab.drained(SOON).await;
    assert_eq!((books.acknowledged, books.skipped), (30, 20), "{books:?}");
    let arrived = copies(&hec);
    let all = (0..5).chain(15..25).flat_map(|n| [format!("{n:032}:0"), format!("{n:032}:1")]);
    assert_eq!(arrived.keys().cloned().collect::<Vec<_>>(), all.collect::<Vec<_>>());
    // At the end there is nothing to skip, and nothing has to be said.
    let moved = control.ask(&["cursor", "seek", "splunk", "--to", "latest", "--json"]).json();
    assert_eq!((&moved["skipped"], &moved["rewound"]), (&0.into(), &0.into()), "{moved}");
    let metric = lab.metric("forebay_skipped_messages_total{destination=\"splunk\"}").await;
    assert_eq!(metric, Some(20.0));
    assert!(lab.log().contains("an operator has moved the cursor"));
    lab.stop().await;
    let verified = control.ask(&["wal", "verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
