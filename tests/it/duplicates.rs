use std::time::Duration;

use crate::support::{Frame, Hec, Lab, SOON, eventually};

/// Frame ids as Logplex makes them.
fn id(number: u32) -> String {
    format!("{number:032X}")
}

#[tokio::test]
async fn a_frame_that_comes_again_is_stored_once() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;

    // One after the other, on one connection and on another.
    let frame = Frame::new(&id(1), &["sequential a", "sequential b"]);
    let mut client = lab.client().await;
    assert_eq!((client.post(&frame).await, client.post(&frame).await), (200, 200));
    assert_eq!(lab.post(&frame).await, 200);

    // The identity is id and drain, not the body: an L10 line may stand in front of a retry.
    let retry = Frame { body: [&b"3 x y"[..], &frame.body].concat(), ..frame.clone() };
    assert_eq!(client.post(&retry).await, 200);
    let other_drain = Frame {
        drain: Some("d.00000000-0000-4000-8000-000000000000".to_owned()),
        ..Frame::new(&id(1), &["another drain"])
    };
    assert_eq!(client.post(&other_drain).await, 200);
    assert_eq!(client.post(&other_drain).await, 200);

    // Batches of log-shuttle by their request id; frames without an id are never duplicates.
    let batch = Frame::shuttle("8f6c2b1e", "from a shuttle");
    assert_eq!((client.post(&batch).await, client.post(&batch).await), (200, 200));
    let nameless = Frame { id: None, ..Frame::new("", &["nameless"]) };
    assert_eq!((client.post(&nameless).await, client.post(&nameless).await), (200, 200));

    // At the same time, on two connections.
    let mut second = lab.client().await;
    for round in 0..50 {
        let frame = Frame::new(&id(100 + round), &[&format!("concurrent {round}")]);
        assert_eq!(tokio::join!(client.post(&frame), second.post(&frame)), (200, 200));
    }

    // Across a kill: the 200 was sent, so the frame is there, and it is known to be.
    assert_eq!(client.post(&Frame::new(&id(2), &["before the kill"])).await, 200);
    lab.kill();
    lab.start().await;
    let frame = Frame::new(&id(2), &["before the kill"]);
    assert_eq!(lab.post(&frame).await, 200);
    assert_eq!(lab.post(&Frame::new(&id(1), &["sequential a", "sequential b"])).await, 200);
    assert_eq!(lab.metric("forebay_frames_duplicate_total").await, Some(2.0));

    let books = lab.drained(SOON).await;
    assert_eq!(books.accepted, 2 + 1 + 1 + 2 + 50 + 1, "{books:?}");
    // The kill came while batches waited for their acknowledgement, so deliveries may be doubled;
    // each text is there, though, and those sent after the restart are there once.
    for text in ["sequential a", "sequential b", "another drain", "from a shuttle", "concurrent 49"]
    {
        assert!(hec.ledger.counts_of(text.as_bytes()).acknowledged >= 1, "{text}");
    }
}

/// Without a restart in between, what is stored once is delivered once.
#[tokio::test]
async fn a_frame_that_comes_again_is_delivered_once() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    let (mut one, mut two) = (lab.client().await, lab.client().await);
    for round in 0..100 {
        let frame = Frame::new(&id(round), &[&format!("text {round}")]);
        assert_eq!(tokio::join!(one.post(&frame), two.post(&frame)), (200, 200));
    }
    assert_eq!(lab.drained(SOON).await.accepted, 100);
    // Long enough after its delivery to be sure that it is not a matter of being in flight.
    assert_eq!(one.post(&Frame::new(&id(7), &["text 7"])).await, 200);
    assert_eq!(one.post(&Frame::new(&id(1000), &["text 1000"])).await, 200);
    eventually(Duration::from_secs(10), "the last frame arrives", async || {
        hec.ledger.counts_of(b"text 1000").acknowledged == 1
    })
    .await;
    for round in 0..100 {
        let counts = hec.ledger.counts_of(format!("text {round}").as_bytes());
        assert_eq!((counts.accepted, counts.acknowledged), (1, 1), "text {round}");
    }
}
