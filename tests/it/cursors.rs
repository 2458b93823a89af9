//! What an operator does to the cursor of a destination that runs.

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
        (Some(0), "splunk is paused: nothing more is sent, and what comes in waits in the log\n"),
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
        let books = lab.books("splunk").await;
        assert_eq!((books.pending, books.difference), (all - 10, 0), "{books:?}");
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
