use std::time::Duration;

use forebay::types::{ByteSize, DestinationName, Position, UnixMicros};
use forebay::wal::{self, LetterBook, Wal};

use crate::support::{Frame, Hec, Lab, SOON, eventually, measured, usual_ack};

/// The index is the kind of a message: a token that may write to some indexes only refuses the
/// other kinds, with code 7 and its number, which is one too high.
const BY_KIND: &str = "ack_timeout = \"5s\"\nhold_probe = \"300ms\"\n\
     [destination.batch]\nmax_events = 50\nlinger = \"20ms\"\n\
     [destination.event]\nindex = \"{{ kind }}\"\n";

/// A message of the router.
fn router(text: &str) -> Vec<u8> {
    let head = "<158>1 2026-01-02T03:04:05.000001+00:00 host heroku router - ";
    let length = head.len() + text.len() + 1;
    format!("{length} {head}{text}\n").into_bytes()
}

/// Twenty messages, the second and the last but one of which are the router's.
fn frame(number: usize) -> Frame {
    let message = |index| {
        let text = format!("frame {number} message {index}");
        if index == 1 || index == 18 { router(&text) } else { Frame::message(text.as_bytes()) }
    };
    let body = (0..20).flat_map(message).collect();
    Frame { count: Some("20".to_owned()), ..Frame::of(&format!("{number:032}"), body) }
}

const FRAMES: usize = 30;

async fn fill(lab: &Lab) {
    let mut client = lab.client().await;
    for number in 0..FRAMES {
        assert_eq!(client.post(&frame(number)).await, 200);
    }
}

/// Everything is settled, and this much of it is dead.
async fn settled(lab: &Lab, dead: u64) {
    let all = 20 * FRAMES as u64;
    eventually(SOON, "everything is settled", async || {
        let books = lab.books("splunk").await;
        assert_eq!(books.difference, 0, "{books:?}");
        books.accepted == all && books.pending == 0
    })
    .await;
    let books = lab.books("splunk").await;
    assert_eq!((books.acknowledged, books.dead_lettered), (all - dead, dead), "{books:?}");
}

/// How often each event is indexed, by its text; the copies beyond the first.
fn duplicates(hec: &Hec) -> u64 {
    let mut seen = std::collections::BTreeMap::<String, u64>::new();
    for event in hec.ledger.events().iter().filter(|event| event.indexed) {
        *seen.entry(event.fields["event_id"].to_string()).or_default() += 1;
    }
    seen.values().map(|copies| copies - 1).sum()
}

/// The log of a relay that is stopped.
fn open(lab: &Lab) -> Wal {
    let config = wal::Config {
        dir: lab.data_dir(),
        segment_size: ByteSize::mib(128),
        max_size: ByteSize::mib(1024),
        min_free: ByteSize::bytes(0),
        retention: Duration::from_hours(24),
        dedupe_window: Duration::from_hours(24),
        dedupe_memory: ByteSize::mib(64),
        when_full: wal::WhenFull::default(),
        durability: wal::Durability::default(),
        storage: wal::Storage::default(),
        on_damage: wal::OnDamage::default(),
    };
    Wal::open(config).unwrap().0
}

/// What is dead is in the dead letters, everything else is in Splunk, once; and when the collector
/// takes it after all, the dead letters are sent, with the ids they always had.
#[tokio::test]
async fn what_is_refused_is_kept_and_sent_again_when_an_operator_wants_that() {
    let splunk = DestinationName::new("splunk").unwrap();
    let mut hec = Hec::down(usual_ack());
    hec.indexes = vec!["app".to_owned()];
    hec.start();
    let mut lab = Lab::with(&hec, BY_KIND);
    lab.start().await;
    fill(&lab).await;
    settled(&lab, 2 * FRAMES as u64).await;
    assert_eq!(duplicates(&hec), 0, "a refusal doubles nothing");
    let metric = lab.metric("forebay_dead_letters{destination=\"splunk\"}").await;
    assert_eq!(metric, Some(2.0 * FRAMES as f64));
    lab.stop().await;

    let wal = open(&lab);
    let letters = wal.letters(&splunk, Position::ZERO, 1000, ByteSize::mib(8)).unwrap();
    assert_eq!(letters.len(), 2 * FRAMES);
    for (at, letter) in &letters {
        let text = format!("frame {} message {}", at.offset, at.index);
        assert!(letter.message.ends_with(format!("{text}\n").as_bytes()), "{letter:?}");
        assert!([1, 18].contains(&at.index));
        assert_eq!((letter.code, letter.status, letter.refusals), (Some(7), 400, 1));
        assert_eq!(letter.text, "Incorrect index");
        assert_eq!(letter.endpoint, format!("http://{}", hec.address()));
        assert_eq!(letter.event_id, format!("{:032}:{}", at.offset.get(), at.index));
    }
    // Half of them are to be sent again, to a collector that still refuses them.
    let half: Vec<_> = letters.iter().map(|(at, _)| *at).take(FRAMES).collect();
    let marked = wal.redrive(&splunk, &half, UnixMicros::new(1)).await.unwrap();
    assert_eq!(marked, FRAMES as u64);
    wal.close();
    drop(wal);
    lab.start().await;
    eventually(SOON, "all are refused again", async || {
        lab.log().matches("an event is refused").count() == 3 * FRAMES
    })
    .await;
    settled(&lab, 2 * FRAMES as u64).await;
    lab.stop().await;
    let wal = open(&lab);
    let again = wal.letters(&splunk, Position::ZERO, 1000, ByteSize::mib(8)).unwrap();
    let refusals: Vec<_> = again.iter().map(|(_, letter)| letter.refusals).collect();
    assert_eq!(refusals, [[2; FRAMES], [1; FRAMES]].concat());
    assert!(again.iter().all(|(_, letter)| letter.redrive.is_none()));
    // Now somebody allows the index, and one of them is not wanted any more.
    let all: Vec<_> = again.iter().map(|(at, _)| *at).collect();
    wal.remove_letters(&splunk, &all[..1], wal::Removal::Purged).await.unwrap();
    wal.redrive(&splunk, &all[1..], UnixMicros::new(1)).await.unwrap();
    wal.close();
    drop(wal);
    hec.stop().await;
    hec.indexes = Vec::new();
    hec.start();
    lab.start().await;
    eventually(SOON, "all are sent", async || {
        lab.metric("forebay_dead_letters{destination=\"splunk\"}").await == Some(0.0)
    })
    .await;
    settled(&lab, 2 * FRAMES as u64).await;
    lab.stop().await;
    let wal = open(&lab);
    let LetterBook { letters, redriving, bytes, totals } = wal.letter_book(&splunk);
    assert_eq!((letters, redriving, bytes), (0, 0, 0));
    assert_eq!((totals.written, totals.redriven, totals.purged), (60, 59, 1));
    // All but the one that was purged is in the index, under the id it always had.
    let events = hec.ledger.events();
    let indexed: std::collections::BTreeSet<_> =
        events.iter().filter(|e| e.indexed).map(|e| e.fields["event_id"].to_string()).collect();
    assert_eq!(indexed.len(), 20 * FRAMES - 1);
    measured("events that were sent twice in a redrive", duplicates(&hec));
}

/// A collector that takes nothing at all is not the events' fault.
#[tokio::test]
async fn a_collector_that_refuses_every_index_is_held_and_buries_nothing() {
    let mut hec = Hec::down(usual_ack());
    hec.indexes = vec!["another".to_owned()];
    hec.start();
    let mut lab = Lab::with(&hec, BY_KIND);
    lab.start().await;
    fill(&lab).await;
    let held = "forebay_destination_held{destination=\"splunk\"}";
    eventually(SOON, "it is held", async || lab.metric(held).await == Some(1.0)).await;
    assert!(lab.log().contains("refuses whatever it is given"));
    let books = lab.books("splunk").await;
    assert_eq!((books.dead_lettered, books.acknowledged), (0, 0), "{books:?}");
    hec.stop().await;
    hec.indexes = vec!["app".to_owned()];
    hec.start();
    settled(&lab, 2 * FRAMES as u64).await;
}

/// Dead letters are bounded: the destination waits, and says so.
#[tokio::test]
async fn dead_letters_that_are_full_hold_the_destination_and_drop_nothing() {
    let mut hec = Hec::down(usual_ack());
    hec.indexes = vec!["app".to_owned()];
    hec.start();
    // 100 KB take some of the letters, whose messages are made long.
    let mut lab = Lab::with(
        &hec,
        "hold_probe = \"300ms\"\n[destination.batch]\nmax_events = 50\nlinger = \"20ms\"\n\
         [destination.event]\nindex = \"{{ kind }}\"\n\
         [destination.dead_letters]\nmax_size = \"100KB\"\n",
    );
    lab.start().await;
    let mut client = lab.client().await;
    for number in 0..10u64 {
        let long = router(&"x".repeat(30_000));
        let body = [Frame::message(b"before"), long, Frame::message(b"behind")].concat();
        let frame =
            Frame { count: Some("3".to_owned()), ..Frame::of(&format!("{number:032}"), body) };
        assert_eq!(client.post(&frame).await, 200);
    }
    eventually(SOON, "there is no room", async || {
        lab.log().contains("there is no room for dead letters")
    })
    .await;
    let status = lab.status().await;
    assert_eq!(status["destinations"][0]["state"], "stuck", "{status}");
    assert_eq!(lab.metric("forebay_dead_letters{destination=\"splunk\"}").await, Some(3.0));
    let books = lab.books("splunk").await;
    assert_eq!((books.accepted, books.difference), (30, 0), "{books:?}");
    assert!(books.pending > 0, "{books:?}");
    lab.stop().await;
    let (wal, splunk) = (open(&lab), DestinationName::new("splunk").unwrap());
    let letters = wal.letters(&splunk, Position::ZERO, 9, ByteSize::mib(1)).unwrap();
    let all: Vec<_> = letters.iter().map(|(at, _)| *at).collect();
    wal.remove_letters(&splunk, &all, wal::Removal::Purged).await.unwrap();
    wal.close();
    drop(wal);
    lab.start().await;
    eventually(SOON, "there is room for three more", async || {
        let letters = lab.metric("forebay_dead_letters{destination=\"splunk\"}").await;
        // Which of those that wait get the room is not said: the books count a prefix only.
        let books = lab.get("/v1/dead-letters").await.unwrap().body;
        let books: serde_json::Value = serde_json::from_str(&books).unwrap();
        letters == Some(3.0) && books["destinations"][0]["written"].as_u64() >= Some(6)
    })
    .await;
}
