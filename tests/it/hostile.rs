mod attack;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use attack::{ATTACKS, Attackers, Tally, Target};

use crate::support::{
    Authority, Frame, Hec, Lab, SOON, eventually, from_environment, measured, number, peak_memory,
};

/// Frames that the good senders send while it is calm, and while they are not alone: 3 s and 6 s
/// at their pace.
const CALM: u64 = 600;
const HOSTILE: u64 = 1200;
const MESSAGES: u32 = 20;

/// How often it is calm and then not, without TLS and with it. `FOREBAY_HOSTILE_ROUNDS` is another
/// number of rounds.
const ROUNDS: u64 = 5;
const TLS_ROUNDS: u64 = 3;

/// What a good sender may feel beside the promised twice. Attackers, senders, relay and collector
/// share two processors here, and the relay works no faster than the others let it: with a p99 of
/// some milliseconds, one turn of the scheduler more is the whole difference. What would be wrong
/// is to wait for an attacker: their clocks are 3 to 10 s.
const NOISE: Duration = Duration::from_millis(50);

/// Good senders at a steady pace, on connections of their own, and the p99 of their answers.
async fn good(lab: &Lab, tls: bool, frames: u64) -> Duration {
    let earlier = lab.sent.latency();
    let before = lab.sent.totals();
    let sending = lab.send(|config| {
        config.tls = tls;
        config.connections = number(8);
        config.messages_per_frame = number(MESSAGES);
        config.frames = Some(frames);
        config.rate = Some(4000.0);
    });
    let report = sending.end().await;
    let totals = report.end.totals;
    assert_eq!(totals.accepted_frames, before.accepted_frames + frames, "{report}");
    assert_eq!(totals.retries, 0, "{report}");
    report.latency.since(&earlier).quantile(0.99)
}

/// How many connections that say nothing this machine allows: each takes a file here and one in
/// forebay.
fn silent_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if files > 6000 {
        return 5000;
    }
    let allowed = usize::try_from(files).unwrap() / 2;
    eprintln!("ONLY {allowed} SILENT CONNECTIONS: `ulimit -n` allows no more");
    allowed
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

/// Calm and hostile phases in turn, on one relay with the limits it has by itself.
async fn attacked(mut lab: Lab, hec: &Hec, tls: Option<tokio_rustls::TlsConnector>) {
    lab.start().await;
    let target = Target { address: lab.ingest_address(), tls };
    let is_tls = target.tls.is_some();
    let silent = silent_connections();
    let rounds = from_environment("FOREBAY_HOSTILE_ROUNDS").unwrap_or(if is_tls {
        TLS_ROUNDS
    } else {
        ROUNDS
    });
    let (mut calm, mut hostile, mut made) = (Vec::new(), Vec::new(), Tally::new());
    for _ in 0..rounds {
        calm.push(good(&lab, is_tls, CALM).await);
        let attackers = Attackers::start(&target, silent);
        // Over TLS, who says nothing is closed after 3 s, and comes again.
        eventually(SOON, "they are at work", async || {
            attackers.silent() > silent * 9 / 10 && attackers.tally().len() >= 5
        })
        .await;
        hostile.push(good(&lab, is_tls, HOSTILE).await);
        eventually(Duration::from_secs(60), "every attack was made", async || {
            attackers.tally().len() == ATTACKS.len()
        })
        .await;
        for (kind, (times, taken)) in attackers.stop() {
            assert!(!taken, "{kind:?} is answered 2xx");
            made.entry(kind).or_default().0 += times;
        }
        eventually(SOON, "they are gone", async || {
            lab.status().await["ingest"]["connections"] == 0
        })
        .await;
    }
    let times: Vec<_> = made.iter().map(|(kind, (times, _))| format!("{kind:?} {times}")).collect();
    measured("connections that say nothing", silent);
    measured("attacks", times.join(", "));
    let shown = |all: &[Duration]| {
        let ms: Vec<_> = all.iter().map(|p99| format!("{:.1}", p99.as_secs_f64() * 1e3)).collect();
        ms.join(", ")
    };
    measured("p99 of good senders while it is calm, ms", shown(&calm));
    measured("p99 of good senders under attack, ms", shown(&hostile));
    let peak = peak_memory(lab.process().id());
    measured("peak memory, MiB", peak >> 10);
    let (calm, hostile) = (median(calm), median(hostile));
    assert!(hostile <= calm * 2 + NOISE, "{calm:?} became {hostile:?}");
    assert!(peak < 300 << 10, "{peak} KiB");

    let messages = rounds * (CALM + HOSTILE) * u64::from(MESSAGES);
    assert_eq!(lab.status().await["log"]["messages"], messages);
    lab.drained(Duration::from_secs(60)).await;
    assert_eq!(lab.audit(hec).duplicates, 0);
}

/// Who only connects, or has no credentials, cannot keep the places of those who send logs: when all
/// are taken, the next sender waits for seconds, not for as long as a sender may be idle.
#[tokio::test]
async fn silent_connections_do_not_keep_the_places_of_senders() {
    const PLACES: usize = 64;
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "").ingest("max_connections = 64\n");
    lab.start().await;
    let mut sender = lab.client().await;
    assert_eq!(sender.post(&Frame::new("1", &["text"])).await, 200);
    let mut silent = Vec::new();
    for number in 1..PLACES {
        let mut client = lab.client().await;
        if number % 2 == 0 {
            client.send(b"POST /logs HTTP/1.1\r\nHost: drain\r\nContent-Length: 0\r\n\r\n").await;
            assert_eq!(client.answer().await.unwrap().status, 401);
        }
        silent.push(client);
    }
    eventually(SOON, "all places are taken", async || {
        lab.status().await["ingest"]["connections"] == PLACES
    })
    .await;
    let started = forebay::clock::instant();
    let mut next = lab.client().await;
    next.send(&Frame::new("2", &["text"]).request()).await;
    assert_eq!(next.answer_within(Duration::from_secs(60)).await.unwrap().status, 200);
    measured("a sender waited for a place, ms", started.elapsed().as_millis());
    for client in &mut silent {
        assert_eq!(client.answer_within(Duration::from_secs(60)).await, None, "closed");
    }
    assert_eq!(sender.post(&Frame::new("3", &["text"])).await, 200, "who has sent keeps its place");
    assert_eq!(lab.drained(SOON).await.accepted, 3);
}

/// Everything that hostile clients do, at once: those who send logs lose nothing and feel little.
#[tokio::test]
async fn hostile_clients_cost_good_senders_nothing() {
    let hec = Hec::usual();
    attacked(Lab::with(&hec, ""), &hec, None).await;
}

/// The same behind TLS, and before its handshake is done.
#[tokio::test]
async fn hostile_clients_cost_good_senders_nothing_over_tls() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    let authority = Authority::new("hostile");
    lab.serve_tls(&authority.good());
    let connector = authority.client();
    attacked(lab, &hec, Some(connector)).await;
}
