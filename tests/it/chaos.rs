use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forebay::simulate::hec::{Fault, FaultKind, HecConfig, HecStats, Poison, PoisonCode};

use crate::support::{
    Client, Frame, Hec, Lab, SOON, eventually, from_environment, measured, number, run,
};

/// How long, unless `FOREBAY_CHAOS_SECONDS` says otherwise.
const SECONDS: u64 = 30;

/// What each fault hits.
const SHARE: f64 = 0.05;

const BATCH: u64 = 50;
const WINDOW: u64 = 16;

/// Everything that waits is quick, so that much happens; what is acknowledged in time is in 300 ms.
const QUICK: &str = "ack_timeout = \"3s\"\ntimeout = \"1s\"\nhold_probe = \"50ms\"\n\
     recall = \"1s\"\nwindow = 16\nlanes = 4\n\
     [destination.batch]\nmax_events = 50\nlinger = \"20ms\"\n";

/// The codes that are about one event. The text of a poisoned message ends with its marker.
const CODES: [u16; 5] = [6, 7, 12, 13, 15];

fn faults(seed: u64) -> Vec<Fault> {
    let seeds = (1..).map(|number| seed.wrapping_mul(1000).wrapping_add(number));
    // The first that hits is the one: in one order the last ones would be rare.
    let mut kinds = FaultKind::ALL;
    fastrand::Rng::with_seed(seed).shuffle(&mut kinds);
    let kinds = kinds.into_iter().zip(seeds);
    kinds.map(|(kind, seed)| Fault::sometimes(kind, SHARE, seed)).collect()
}

/// The most duplicates that faults and kills account for, in messages.
fn explained(stats: &HecStats, kills: u64) -> u64 {
    let batches = stats.faults.iter().map(|(kind, hits)| {
        hits * match kind {
            // The collector has the batch, and the answer does not say so.
            FaultKind::AckDisabled
            | FaultKind::ServerError
            | FaultKind::Hang
            | FaultKind::SlowReply
            | FaultKind::ResetAfterIndexing
            | FaultKind::GatewayTimeout
            | FaultKind::LostUpstream => 1,
            // Or, if it was a poll: what it said of the batches on its channel is lost. A channel
            // that is forgotten, or that goes with its process, is the same.
            FaultKind::TruncatedReply
            | FaultKind::OversizedReply
            | FaultKind::LostAckReply
            | FaultKind::IdleReap
            | FaultKind::ShuttingDown => WINDOW / 4,
            FaultKind::Restart => WINDOW,
            // Nothing was taken, but the answer does not prove it: the first batch of the channel
            // is sent again.
            FaultKind::BadGateway | FaultKind::NoTarget => 1,
            // Nothing was taken, or the answer says that it was.
            FaultKind::Busy
            | FaultKind::RetryAfter
            | FaultKind::Unhealthy
            | FaultKind::QueueFull
            | FaultKind::AckFull
            | FaultKind::ApproachingCapacity
            | FaultKind::ApproachingAckCapacity
            | FaultKind::InvalidToken
            | FaultKind::ResetBeforeBody
            | FaultKind::ResetAfterBody
            | FaultKind::Detention
            | FaultKind::Captive => 0,
        }
    });
    // A kill: the window, and what was acknowledged since the last checkpoint.
    (batches.sum::<u64>() + kills * 2 * WINDOW) * BATCH
}

/// Posts until it is answered 200, over kills of the relay: the frame's id makes it one.
async fn post(lab: &Lab, frame: &Frame) {
    eventually(SOON, "the frame is taken", async || {
        let Ok(stream) = tokio::net::TcpStream::connect(lab.ingest_address()).await else {
            return false;
        };
        drop(stream);
        Client::connect(lab.ingest_address()).await.post(frame).await == 200
    })
    .await;
}

/// Every fault the simulated collector has, each on a twentieth of the requests, poison of each
/// kind in between, and SIGKILL: nothing is lost, the books balance, the dead letters hold the
/// poison and nothing else, and there are no more duplicates than the faults explain.
#[tokio::test]
async fn under_every_fault_and_sigkill_nothing_is_lost_and_only_poison_is_dead() {
    let seconds = from_environment("FOREBAY_CHAOS_SECONDS").unwrap_or(SECONDS);
    let seed = from_environment("FOREBAY_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    eprintln!("FOREBAY_CHAOS_SEED={seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let poison = CODES.map(|code| Poison {
        marker: format!("POISON-{code}."),
        code: PoisonCode::of(code).unwrap(),
    });
    let hec = Hec::with(HecConfig {
        poison: poison.to_vec(),
        slow: Duration::from_millis(500),
        seed,
        ..HecConfig::default()
    });
    hec.handle().set_faults(&faults(seed));
    let mut lab = Lab::with(&hec, QUICK);
    lab.start().await;
    let sending = lab.send(|config| {
        config.connections = number(4);
        config.messages_per_frame = number(10);
        config.rate = Some(250.0);
    });
    let began = forebay::clock::instant();
    let (mut kills, mut poisoned) = (0, BTreeMap::<String, u16>::new());
    while began.elapsed() < Duration::from_secs(seconds) {
        for code in CODES {
            let id = format!("{:032}", poisoned.len());
            let text = format!("frame {} POISON-{code}.", poisoned.len());
            post(&lab, &Frame::new(&id, &[&text])).await;
            poisoned.insert(format!("{id}:0"), code);
        }
        // Sometimes at once, sometimes when much is on its way.
        sending.accepted(chance.u64(1..120)).await;
        lab.kill();
        kills += 1;
        // Whatever hangs is let go, and other requests are hit.
        hec.handle().set_faults(&faults(seed ^ kills));
        lab.start().await;
    }
    sending.accepted(10).await;
    sending.connected(4).await;
    let report = sending.stop().await;
    let stats = hec.handle().stats();
    hec.handle().set_faults(&[]);
    let dead = poisoned.len() as u64;
    // So much is left behind as the faults have held up, and the window is small.
    eventually(Duration::from_secs(60 + seconds), "everything is settled", async || {
        let status = lab.status().await;
        let books = &status["destinations"][0]["books"];
        assert_eq!(books["difference"], 0, "I8, at any moment: {books}");
        books["pending"] == 0 && books["accepted"] == status["log"]["messages"]
    })
    .await;

    let books = lab.books("splunk").await;
    assert_eq!((books.dead_lettered, books.skipped, books.dropped), (dead, 0, 0), "{books:?}");
    let config = lab.config_file();
    let config = config.to_str().unwrap();
    let listed = run(&["dead-letter", "list", "--json", "--limit", "100000", "--config", config]);
    let listed = listed.json();
    let letters: BTreeMap<String, u16> = listed["letters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| {
            let code = u16::try_from(letter["code"].as_u64().unwrap()).unwrap();
            (letter["event_id"].as_str().unwrap().to_owned(), code)
        })
        .collect();
    assert_eq!(letters, poisoned, "the dead letters are the poison");

    // Poison in the index would be a text that the sender has not sent.
    let found = lab.audit(&hec);
    assert!(found.accepted_messages > 50 * seconds, "there was load: {found}");
    let hit: BTreeSet<_> = stats.faults.keys().copied().collect();
    let missed: Vec<_> = FaultKind::ALL.into_iter().filter(|kind| !hit.contains(kind)).collect();
    // In half a minute a rare one can stay away.
    assert!(missed.len() <= 4, "{missed:?} hit nothing");
    measured("kinds of faults that hit nothing", missed.len());
    let bound = explained(&stats, kills);
    assert!(found.duplicates <= bound, "more than the {bound} explained: {found}\n{stats:?}");
    measured("kills", kills);
    measured("poisoned messages", dead);
    measured("messages accepted", found.accepted_messages);
    measured("frames the sender gave up", report.end.totals.gave_up_frames);
    measured("faults met", stats.faults.values().sum::<u64>());
    measured("requests", stats.answers.values().sum::<u64>());
    measured("duplicates", found.duplicates);
    measured("duplicates that the faults explain, at most", bound);
}
