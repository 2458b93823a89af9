use std::time::Duration;

use crate::support::{Frame, Hec, Lab, SOON, Shim, eventually, measured, usual_ack};

/// A lab whose disk obeys, and whose destination is down, so that nothing but frames is written.
/// None where there is no C compiler.
fn lab() -> Option<(Hec, Lab, Shim)> {
    let hec = Hec::down(usual_ack());
    let mut lab = Lab::with(&hec, "");
    let shim = Shim::build(lab.path(), &lab.data_dir())?;
    lab.environment(shim.environment());
    Some((hec, lab, shim))
}

/// The direct proof of P1: while the sync of a frame is held, no byte of an answer leaves.
#[tokio::test]
async fn no_answer_leaves_before_the_sync_has_returned() {
    let Some((mut hec, mut lab, shim)) = lab() else { return };
    lab.start().await;

    // The shim lets pass what it is not told to hold, and every answer has had a sync of its own.
    let mut client = lab.client().await;
    for number in 0..20 {
        let before = shim.syncs();
        let frame = Frame::new(&format!("{number:032X}"), &[&format!("passes {number}")]);
        assert_eq!(client.post(&frame).await, 200);
        assert!(shim.syncs() > before, "a 200 without a sync");
    }

    for round in 0..3 {
        shim.hold();
        let frame = Frame::new(&format!("A{round:031X}"), &[&format!("held {round}")]);
        client.send(&frame.request()).await;
        eventually(SOON, "a sync of the log is held", async || {
            // Said apart from the time running out: this is the answer that must not be.
            let silent = client.is_silent(Duration::from_millis(1)).await;
            assert!(silent, "an answer before the sync");
            shim.holds_one()
        })
        .await;
        assert!(client.is_silent(Duration::from_millis(500)).await, "an answer during the sync");
        // A duplicate of a frame that is not durable is not durable either.
        let mut second = lab.client().await;
        second.send(&frame.request()).await;
        let silent = tokio::join!(
            client.is_silent(Duration::from_millis(300)),
            second.is_silent(Duration::from_millis(300))
        );
        assert_eq!(silent, (true, true), "an answer during the sync");
        let end = lab.status().await["log"]["messages"].as_u64();
        assert_eq!(end, Some(20 + round), "what is not durable is not visible");
        shim.release();
        assert_eq!(client.answer().await.unwrap().status, 200);
        assert_eq!(second.answer().await.unwrap().status, 200);
    }

    hec.start();
    let books = lab.drained(SOON).await;
    assert_eq!(books.acknowledged, 23, "each frame is stored once: {books:?}");
}

/// A power cut, as far as a process can tell: what was never synced was never promised.
#[tokio::test]
async fn a_kill_during_a_sync_breaks_no_promise() {
    let Some((mut hec, mut lab, shim)) = lab() else { return };
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("01", &["answered"])).await, 200);
    shim.hold();
    let frame = Frame::new("02", &["not answered"]);
    let mut client = lab.client().await;
    client.send(&frame.request()).await;
    shim.until_it_holds_one().await;
    lab.kill();
    assert_eq!(client.answer().await, None, "no answer");
    shim.release();

    hec.start();
    lab.start().await;
    // The page cache may have kept it; the sender tries again either way.
    assert_eq!(lab.post(&frame).await, 200);
    let books = lab.drained(SOON).await;
    assert_eq!(books.acknowledged, 2, "{books:?}");
    for text in ["answered", "not answered"] {
        assert_eq!(hec.ledger.counts_of(text.as_bytes()).acknowledged, 1, "{text}");
    }
}

/// I1: a sync that fails is final. No 200, no second try, the process ends with 74; the next start
/// has every frame that was answered.
#[tokio::test]
async fn a_failed_sync_ends_the_process() {
    fails_and_comes_back(Shim::fail_next_sync).await;
}

/// I1 again, for a write.
#[tokio::test]
async fn a_failed_write_ends_the_process() {
    fails_and_comes_back(Shim::fail_next_write).await;
}

async fn fails_and_comes_back(fail: fn(&Shim)) {
    let Some((mut hec, mut lab, shim)) = lab() else { return };
    lab.start().await;
    let mut client = lab.client().await;
    for number in 0..50 {
        let frame = Frame::new(&format!("{number:032X}"), &[&format!("answered {number}")]);
        assert_eq!(client.post(&frame).await, 200);
    }
    let synced = shim.syncs();
    fail(&shim);
    client.send(&Frame::new("FA", &["not answered 200"]).request()).await;
    let status = client.answer().await.map(|answer| answer.status);
    assert!(matches!(status, None | Some(503)), "no 200: {status:?}");
    assert!(shim.has_failed());
    let (code, took) = lab.exit(Duration::from_secs(10)).await;
    assert_eq!(code, Some(74));
    assert_eq!(shim.syncs(), synced, "a failed sync is not tried again");
    measured("the end after a failed write or sync took, ms", took.as_millis());
    let log = lab.log();
    assert!(log.contains("the process has to restart"), "{log}");

    hec.start();
    lab.environment(Vec::new());
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("FB", &["after the restart"])).await, 200);
    lab.drained(SOON).await;
    let texts = (0..50).map(|number| format!("answered {number}"));
    for text in texts.chain(["after the restart".to_owned()]) {
        let counts = hec.ledger.counts_of(text.as_bytes());
        assert_eq!((counts.accepted, counts.acknowledged), (1, 1), "{text}");
    }
    assert!(hec.ledger.counts_of(b"not answered 200").accepted <= 1);
}

/// A disk that takes too long: Logplex hears 503 before it gives up by itself, log-shuttle, which
/// takes any status for success, hears nothing; and the frame's next try is known to be one.
#[tokio::test]
async fn a_slow_disk_is_answered_before_logplex_gives_up() {
    let Some((mut hec, mut lab, shim)) = lab() else { return };
    lab.start().await;
    shim.hold();
    let logplex = Frame::new("01", &["from logplex"]);
    let shuttle = Frame::shuttle("8f6c2b1e", "from a shuttle");
    let (mut one, mut two) = (lab.client().await, lab.client().await);
    let start = forebay::clock::instant();
    let answers = async {
        one.send(&logplex.request()).await;
        (one.answer().await, start.elapsed())
    };
    let silence = async {
        two.send(&shuttle.request()).await;
        (two.answer().await, start.elapsed())
    };
    let ((answer, after), (nothing, closed_after)) = tokio::join!(answers, silence);
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    assert_eq!(one.answer().await, None, "and the connection is closed");
    assert_eq!(nothing, None, "log-shuttle takes any answer for success");
    for time in [after, closed_after] {
        let in_time = Duration::from_millis(3900)..Duration::from_millis(4900);
        assert!(in_time.contains(&time), "{time:?}");
    }
    measured("the answer of a slow disk took, ms", after.as_millis());
    assert!(shim.holds_one());

    shim.release();
    assert_eq!((lab.post(&logplex).await, lab.post(&shuttle).await), (200, 200));
    hec.start();
    let books = lab.drained(SOON).await;
    assert_eq!(books.acknowledged, 2, "{books:?}");
}

/// I1 holds for the very last write, too: a stop whose closing write fails is no stop in order.
#[tokio::test]
async fn a_stop_whose_last_write_fails_ends_with_74() {
    for fail in [Shim::fail_next_sync, Shim::fail_next_write] {
        let Some((_hec, mut lab, shim)) = lab() else { return };
        lab.start().await;
        assert_eq!(lab.post(&Frame::new("01", &["answered"])).await, 200);
        fail(&shim);
        lab.process().terminate();
        let (code, _) = lab.exit(Duration::from_secs(30)).await;
        assert!(shim.has_failed(), "the stop has written something");
        assert_eq!(code, Some(74));
        lab.environment(Vec::new());
        lab.start().await;
        assert_eq!(lab.status().await["log"]["messages"], 1);
        lab.stop().await;
    }
}

/// Neither is one whose disk does not answer: it ends all the same, and says so.
#[tokio::test]
async fn a_stop_whose_disk_hangs_ends_with_74() {
    let Some((_hec, mut lab, shim)) = lab() else { return };
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("01", &["answered"])).await, 200);
    shim.hold();
    lab.process().terminate();
    let (code, took) = lab.exit(Duration::from_secs(60)).await;
    assert!(shim.holds_one());
    assert_eq!(code, Some(74));
    measured("a stop on a disk that hangs took, ms", took.as_millis());
    let log = lab.log();
    assert!(log.contains("did not close in order"), "{log}");
}
