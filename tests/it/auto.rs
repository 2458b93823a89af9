//! `acknowledgement = "auto"`: the collectors say what counts as delivered.

use std::time::Duration;

use forebay::simulate::hec::{
    AckMode, Fault, FaultKind, HecConfig, HecToken, On, Poison, PoisonCode, Script, Step,
};
use forebay::simulate::ledger::audit;
use forebay::types::Secret;
use serde_json::Value;

use crate::support::{
    Control, Destination, Frame, Hec, Lab, SOON, TOKEN, eventually, private, usual_ack,
};

const AUTO: &str = "acknowledgement = \"auto\"\nhold_probe = \"200ms\"\n\
     [destination.batch]\nlinger = \"20ms\"\n";

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

/// A collector whose token has no acknowledgement.
async fn without_acknowledgement() -> Hec {
    let mut hec = Hec::down(usual_ack());
    let value = Secret::new(TOKEN.to_owned());
    hec.tokens(vec![HecToken { value, use_ack: false, ..HecToken::default() }]);
    hec.start();
    hec
}

/// One destination with all of them.
fn lab(hecs: &[&Hec]) -> Lab {
    let mut lab = Lab::with(hecs[0], AUTO);
    for hec in &hecs[1..] {
        lab.show(hec);
    }
    let urls = |hecs: &[&Hec]| {
        let all: Vec<_> = hecs.iter().map(|hec| format!("\"http://{}\"", hec.address())).collect();
        format!("endpoints = [{}]", all.join(", "))
    };
    lab.edit(&urls(&hecs[..1]), &urls(hecs));
    lab
}

async fn destination(lab: &Lab) -> Value {
    lab.status().await["destinations"][0].clone()
}

async fn mode(lab: &Lab) -> String {
    destination(lab).await["acknowledgement"].as_str().unwrap().to_owned()
}

async fn chooses(lab: &Lab, wanted: &str) {
    eventually(SOON, wanted, async || mode(lab).await == wanted).await;
    for known in ["required", "off", "unknown"] {
        let series = format!("forebay_acknowledgement{{destination=\"splunk\",mode=\"{known}\"}}");
        let expected = if known == wanted { 1.0 } else { 0.0 };
        assert_eq!(lab.metric(&series).await, Some(expected), "{series}");
    }
    let required = lab.metric("forebay_acknowledgement_required{destination=\"splunk\"}").await;
    assert_eq!(required, Some(if wanted == "off" { 0.0 } else { 1.0 }));
}

/// Waits until an endpoint is held for a reason.
async fn held(lab: &Lab, endpoint: usize, words: &str) {
    let what = format!("endpoint {endpoint} is held: {words}");
    eventually(SOON, &what, async || {
        let endpoint = destination(lab).await["endpoints"][endpoint].clone();
        endpoint["state"] == "held" && endpoint["reason"].as_str().unwrap().contains(words)
    })
    .await;
}

/// How many lines were logged with these words, and at which level.
fn logged(lab: &Lab, level: &str, words: &str) -> usize {
    let lines = lab.log();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let hit = |line: &Value| {
        line["level"] == level && line["message"].as_str().is_some_and(|text| text.contains(words))
    };
    lines.filter(hit).count()
}

#[tokio::test]
async fn a_collector_that_acknowledges_is_waited_for() {
    let hec = Hec::usual();
    let mut lab = lab(&[&hec]);
    let control = Control::of(&mut lab);
    lab.start().await;
    chooses(&lab, "required").await;
    assert_eq!(logged(&lab, "INFO", "auto has chosen"), 1, "{}", lab.log());
    post(&lab, 0..5).await;
    lab.drained(SOON).await;
    assert_eq!(hec.ledger.totals().acknowledged, 10, "not by a 200");
    // From here on a collector without acknowledgement is a hold, and no reason to choose anew.
    hec.handle().set_fault(Some(Fault::always(FaultKind::AckDisabled)));
    post(&lab, 5..6).await;
    held(&lab, 0, "gives no ackId").await;
    assert_eq!(mode(&lab).await, "required");
    assert_eq!(lab.books("splunk").await.acknowledged, 10);
    // The checkpoint is due a moment later; a seek is from where the cursor is.
    let moved = control.ask(&["cursor", "seek", "splunk", "--to", "4"]);
    assert_eq!(moved.code, Some(0), "{moved:?}");
    assert_eq!(mode(&lab).await, "required", "another machine, the same choice");
    hec.handle().set_fault(None);
    lab.drained(SOON).await;
}

#[tokio::test]
async fn a_collector_without_acknowledgement_is_believed_by_its_200() {
    let hec = without_acknowledgement().await;
    let mut lab = lab(&[&hec]);
    lab.start().await;
    chooses(&lab, "off").await;
    assert_eq!(logged(&lab, "WARN", "answered 200, although it can still die"), 1, "{}", lab.log());
    post(&lab, 0..5).await;
    assert_eq!(lab.drained(SOON).await.acknowledged, 10);
    let ran = crate::support::run(&["status", "--admin", &lab.admin_address().to_string()]);
    assert!(ran.stdout.contains("acknowledgement off"), "{ran:?}");
    assert_eq!(hec.ledger.events().len(), 10, "each once");
}

/// Whatever a collector says but yes and no: nothing is sent, the reason is shown, messages are
/// counted, an operator can pause and move the cursor, and a stop waits for nobody.
#[tokio::test]
async fn nothing_is_sent_until_it_is_known() {
    let mut hec = Hec::usual();
    hec.handle().set_fault(Some(Fault::always(FaultKind::InvalidToken)));
    let mut lab = lab(&[&hec]);
    let control = Control::of(&mut lab);
    lab.start().await;
    post(&lab, 0..5).await;
    for (kind, words) in [
        (FaultKind::InvalidToken, "nothing is sent: HTTP 403, code 4"),
        (FaultKind::Detention, "nothing is sent: HTTP 404"),
        (FaultKind::Captive, "nothing is sent: HTTP 200"),
        (FaultKind::BadGateway, "nothing is sent: HTTP 502"),
        (FaultKind::NoTarget, "nothing is sent: HTTP 503"),
        (FaultKind::ShuttingDown, "nothing is sent: HTTP 503, code 23"),
        (FaultKind::LostAckReply, "nothing is sent: connection closed"),
        (FaultKind::TruncatedReply, "nothing is sent: HTTP 200, and the answer breaks off"),
        (FaultKind::OversizedReply, "nothing is sent: HTTP 200, and the answer breaks off or"),
    ] {
        hec.handle().set_fault(Some(Fault::always(kind)));
        held(&lab, 0, words).await;
    }
    hec.stop().await;
    held(&lab, 0, "refused").await;
    assert_eq!(
        (mode(&lab).await.as_str(), &*destination(&lab).await["state"].to_string()),
        ("unknown", "\"held\"")
    );
    assert_eq!(lab.metric("forebay_destination_held{destination=\"splunk\"}").await, Some(1.0));
    eventually(SOON, "all is counted", async || lab.books("splunk").await.pending == 10).await;

    assert_eq!(control.ask(&["cursor", "pause", "splunk"]).code, Some(0));
    assert_eq!(destination(&lab).await["state"], "paused");
    assert_eq!(control.ask(&["cursor", "resume", "splunk"]).code, Some(0));
    let moved = control.ask(&["cursor", "seek", "splunk", "--to", "1", "--yes"]);
    assert_eq!(moved.code, Some(0), "{moved:?}");
    assert_eq!((lab.books("splunk").await.skipped, mode(&lab).await.as_str()), (2, "unknown"));
    assert_eq!(hec.ledger.totals().accepted, 0, "nothing is sent");
    let took = lab.stop().await;
    assert!(took < Duration::from_secs(3), "a stop waits for nobody: {took:?}");

    lab.start().await;
    held(&lab, 0, "refused").await;
    hec.start();
    chooses(&lab, "required").await;
    lab.drained(SOON).await;
    assert_eq!(hec.ledger.events().len(), 8);
}

#[tokio::test]
async fn a_new_token_is_found_while_it_waits() {
    let hec = Hec::usual();
    let destination = Destination::new("splunk", hec.address(), AUTO);
    let mut lab = Lab::new(vec![destination.with_token("token_file = \"${LAB_TOKEN}\"")]);
    lab.show(&hec);
    let path = private(lab.path(), "hec", "not-the-token\n");
    lab.environment(vec![("LAB_TOKEN".to_owned(), path.display().to_string())]);
    lab.start().await;
    post(&lab, 0..1).await;
    held(&lab, 0, "code 4").await;
    private(lab.path(), "hec", &format!("{TOKEN}\n"));
    lab.drained(SOON).await;
    assert!(!lab.log().contains(TOKEN), "{}", lab.log());
}

#[tokio::test]
async fn one_of_two_that_acknowledges_decides_and_the_other_is_held() {
    let (with, without) = (Hec::usual(), without_acknowledgement().await);
    for hecs in [[&with, &without], [&without, &with]] {
        let before = with.ledger.events().len();
        let mut lab = lab(&hecs);
        lab.start().await;
        chooses(&lab, "required").await;
        post(&lab, 0..5).await;
        lab.drained(SOON).await;
        let other = usize::from(hecs[1].address() == without.address());
        held(&lab, other, "gives no ackId").await;
        assert_eq!(with.ledger.events().len(), before + 10);
    }
}

/// One that cannot be reached may be the one that acknowledges.
#[tokio::test]
async fn off_waits_for_the_word_of_every_endpoint() {
    let (first, mut second) = (without_acknowledgement().await, without_acknowledgement().await);
    second.stop().await;
    let mut lab = lab(&[&first, &second]);
    lab.start().await;
    post(&lab, 0..5).await;
    held(&lab, 0, "until each of them has said so").await;
    held(&lab, 1, "refused").await;
    assert_eq!(mode(&lab).await, "unknown");
    assert_eq!(first.ledger.totals().accepted, 0);
    second.start();
    chooses(&lab, "off").await;
    lab.drained(SOON).await;
    lab.stop().await;

    // And it may really be that one.
    second.stop().await;
    second.tokens(Vec::new());
    lab.start().await;
    post(&lab, 5..10).await;
    held(&lab, 1, "refused").await;
    assert_eq!(mode(&lab).await, "unknown", "what the last process chose is forgotten");
    second.start();
    chooses(&lab, "required").await;
    lab.drained(SOON).await;
    assert_eq!(second.ledger.totals().acknowledged, 10);
}

/// What a process had in flight with ackIds, when acknowledgement is switched off while it is down:
/// nobody can be asked any more, so it is sent again.
#[tokio::test]
async fn what_was_in_flight_is_not_lost_when_acknowledgement_goes() {
    let mut hec = Hec::up(AckMode::Never);
    let mut lab = lab(&[&hec]);
    lab.start().await;
    let sending = lab.send(|config| config.frames = Some(50));
    sending.end().await;
    eventually(SOON, "everything is in flight, and known to be", async || {
        let destination = destination(&lab).await;
        let in_flight = destination["batches_unacknowledged"].as_u64().unwrap();
        destination["read"][0] == 50 && destination["batches_posting"] == 0 && in_flight > 0
    })
    .await;
    // A checkpoint is written every 200 ms.
    lab.moves("a checkpoint", |status| &status["destinations"][0]["lag_seconds"]).await;
    lab.kill();
    hec.stop().await;
    let value = Secret::new(TOKEN.to_owned());
    hec.tokens(vec![HecToken { value, use_ack: false, ..HecToken::default() }]);
    hec.start();
    hec.handle().set_ack(AckMode::AT_ONCE);
    lab.start().await;
    chooses(&lab, "off").await;
    lab.drained(SOON).await;
    let found = audit(&lab.sent, &hec.ledger);
    assert!(found.is_clean(), "{found}");
}

/// A replay goes by the same choice, and waits for it.
#[tokio::test]
async fn a_replay_waits_for_the_choice_and_goes_by_it() {
    let hec = without_acknowledgement().await;
    let mut lab = lab(&[&hec]);
    let control = Control::of(&mut lab);
    lab.start().await;
    post(&lab, 0..5).await;
    lab.drained(SOON).await;
    lab.stop().await;
    hec.handle().set_fault(Some(Fault::always(FaultKind::Detention)));
    lab.start().await;
    held(&lab, 0, "HTTP 404").await;
    let replay = control.ask(&["replay", "start", "splunk", "--from", "0", "--json"]);
    assert_eq!(replay.code, Some(0), "{replay:?}");
    let answers = hec.handle().stats().faults[&FaultKind::Detention];
    eventually(SOON, "it is asked again", async || {
        hec.handle().stats().faults[&FaultKind::Detention] > answers + 3
    })
    .await;
    let state = |control: &Control| {
        control.ask(&["replay", "list", "--json"]).json()[0]["state"].as_str().unwrap().to_owned()
    };
    assert_ne!(state(&control), "finished");
    assert_eq!(hec.handle().stats().polls, 0, "only asked whether it can be asked");
    hec.handle().set_fault(None);
    eventually(SOON, "the replay has finished", async || state(&control) == "finished").await;
    assert_eq!(hec.ledger.events().len(), 20);
}

/// Dead letters that an operator wants sent again go by the same choice, and wait for it. Neither that
/// nor a kill meanwhile loses what is wanted.
#[tokio::test]
async fn a_redrive_waits_for_the_choice_and_goes_by_it() {
    let text = "frame 2 message 1";
    let poison = Poison { marker: text.to_owned(), code: PoisonCode::InvalidData };
    let mut hec = Hec::with(HecConfig { poison: vec![poison], ..HecConfig::default() });
    let mut lab = lab(&[&hec]);
    let control = Control::of(&mut lab);
    lab.start().await;
    post(&lab, 0..5).await;
    eventually(SOON, "one is dead, and the others are there", async || {
        let books = lab.books("splunk").await;
        (books.acknowledged, books.dead_lettered) == (9, 1)
    })
    .await;
    lab.kill();

    // It would be taken now, but nobody says what counts as delivered.
    hec.stop().await;
    hec.change(|config| config.poison.clear());
    hec.start();
    let unsure = Step { on: On::Ack, fault: Some(FaultKind::Detention), times: u32::MAX };
    hec.handle().set_script(&Script { steps: [unsure].into(), timed: Vec::new() });
    let before = hec.ledger.totals().accepted;
    let asked = || hec.handle().stats().faults.get(&FaultKind::Detention).copied().unwrap_or(0);
    let waits = async |lab: &Lab| {
        let already = asked();
        eventually(SOON, "it is asked again", async || asked() > already + 3).await;
        let letters = lab.get("/v1/dead-letters").await.unwrap().body;
        let letters: Value = serde_json::from_str(&letters).unwrap();
        let book = &letters["destinations"][0];
        assert_eq!((&book["letters"], &book["redriving"]), (&1.into(), &1.into()), "{letters}");
        assert_eq!(mode(lab).await, "unknown");
        assert_eq!(hec.ledger.totals().accepted, before, "nothing is sent");
    };
    lab.start().await;
    held(&lab, 0, "HTTP 404").await;
    let ran = control.ask(&["dead-letter", "redrive", "--all"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    waits(&lab).await;
    lab.kill();
    lab.start().await;
    waits(&lab).await;

    hec.handle().set_script(&Script::default());
    eventually(SOON, "the letter is sent", async || {
        lab.metric("forebay_dead_letters{destination=\"splunk\"}").await == Some(0.0)
    })
    .await;
    assert_eq!(mode(&lab).await, "required");
    let counts = hec.ledger.counts_of(text.as_bytes());
    assert_eq!((counts.accepted, counts.acknowledged), (1, 1), "{counts:?}");
    lab.stop().await;
}
