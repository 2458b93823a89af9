use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use forebay::simulate::logplex::Report;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::{Frame, Hec, Lab, SOON, eventually, measured, number};

const FRAMES: u64 = 800;
const MESSAGES: u32 = 20;

/// What a hostile client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Attack {
    /// A head, a byte at a time.
    SlowHead,
    /// A body, a byte at a time.
    SlowBody,
    /// A head of a megabyte.
    HugeHead,
    /// 64 MiB of nothing in 64 KiB of gzip.
    Bomb,
    /// A TLS hello, where there is no TLS, and other bytes that are no HTTP.
    Garbage,
    /// Half a request, then the end of the sending side, and nobody who closes.
    HalfClosed,
    /// A connection that is gone again.
    Gone,
}

const ATTACKS: [Attack; 7] = [
    Attack::SlowHead,
    Attack::SlowBody,
    Attack::HugeHead,
    Attack::Bomb,
    Attack::Garbage,
    Attack::HalfClosed,
    Attack::Gone,
];

/// How often each attack was made to its end, and whether one was answered 2xx.
type Tally = Arc<Mutex<BTreeMap<Attack, (u64, bool)>>>;

/// The head of a frame that is to come, with its credentials.
fn head(length: usize, headers: &str) -> Vec<u8> {
    let frame = String::from_utf8(Frame::new("HOSTILE", &[""]).request()).unwrap();
    let (head, _) = frame.split_once("Content-Length: ").unwrap();
    format!("{head}{headers}Content-Length: {length}\r\n\r\n").into_bytes()
}

fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    (0..64).for_each(|_| encoder.write_all(&zeros).unwrap());
    let body = encoder.finish().unwrap();
    [head(body.len(), "Content-Encoding: gzip\r\n"), body].concat()
}

/// One attack. What fails is the attacker's problem.
async fn attack(kind: Attack, address: SocketAddr, bomb: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let mut answer = vec![0; 256];
    let trickle = match kind {
        Attack::SlowHead => b"POST /logs HTTP/1.1\r\nHost: drain\r\nX: ".to_vec(),
        Attack::SlowBody => {
            stream.write_all(&head(100_000, "")).await?;
            b"x".to_vec()
        }
        Attack::HugeHead => {
            stream.write_all(b"POST /logs HTTP/1.1\r\n").await?;
            stream
                .write_all(&b"X-Filler: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(23_000))
                .await?;
            Vec::new()
        }
        Attack::Bomb => {
            stream.write_all(bomb).await?;
            Vec::new()
        }
        Attack::Garbage => {
            let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
            let noise: Vec<u8> = (0..2000).map(|_| fastrand::u8(..)).collect();
            stream.write_all(if fastrand::bool() { hello } else { &noise }).await?;
            Vec::new()
        }
        Attack::HalfClosed => {
            let request = head(5000, "");
            let part = request.len() / (1 + fastrand::usize(..2));
            stream.write_all(&request[..part]).await?;
            stream.shutdown().await?;
            Vec::new()
        }
        Attack::Gone => return Ok(Vec::new()),
    };
    for byte in trickle.iter().cycle().take(if trickle.is_empty() { 0 } else { 200 }) {
        stream.write_all(&[*byte]).await?;
        if timeout(Duration::from_millis(100), stream.readable()).await.is_ok() {
            break;
        }
    }
    let read = timeout(Duration::from_secs(10), stream.read(&mut answer)).await;
    answer.truncate(read.unwrap_or(Ok(0))?);
    Ok(answer)
}

/// Attackers of every kind, until `stop`.
fn attackers(address: SocketAddr, stop: &CancellationToken) -> (JoinSet<()>, Tally) {
    let (tally, bomb) = (Tally::default(), Arc::new(bomb()));
    let mut tasks = JoinSet::new();
    for kind in ATTACKS.into_iter().cycle().take(8 * ATTACKS.len()) {
        let (tally, bomb, stop) = (Arc::clone(&tally), Arc::clone(&bomb), stop.clone());
        tasks.spawn(async move {
            let again = async {
                loop {
                    let answer = attack(kind, address, &bomb).await.unwrap_or_default();
                    {
                        let mut tally = tally.lock().unwrap();
                        let entry = tally.entry(kind).or_default();
                        entry.0 += 1;
                        entry.1 |= answer.starts_with(b"HTTP/1.1 2");
                    }
                    // Without, they would measure who gets more of the processor.
                    sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::select! {
                () = again => {}
                () = stop.cancelled() => {}
            }
        });
    }
    (tasks, tally)
}

/// Good senders at a steady pace, and how they fared.
async fn good(lab: &Lab) -> Report {
    let sending = lab.send(|config| {
        config.connections = number(8);
        config.messages_per_frame = number(MESSAGES);
        config.frames = Some(FRAMES);
        config.rate = Some(4000.0);
    });
    let report = sending.end().await;
    let totals = report.end.totals;
    assert_eq!((totals.accepted_frames, totals.retries), (FRAMES, 0), "{report}");
    report
}

/// How many connections that say nothing this machine allows: each takes a file here and one in
/// forebay.
fn silent_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if files > 6000 { 5000 } else { 2000.min(usize::try_from(files).unwrap() / 2) }
}

/// Everything that hostile clients do, at once: those who send logs lose nothing and feel little.
#[tokio::test]
async fn hostile_clients_cost_good_senders_nothing() {
    // Apart, so that each has books and latencies of its own.
    let before = {
        let hec = Hec::usual();
        let mut lab = Lab::with(&hec, "");
        lab.start().await;
        good(&lab).await
    };
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "").ingest("max_connections = 11000\n");
    lab.start().await;
    let address = lab.ingest_address();
    let mut silent = Vec::new();
    for _ in 0..silent_connections() {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let stop = CancellationToken::new();
    let (attackers, tally) = attackers(address, &stop);
    eventually(SOON, "they are at work", async || tally.lock().unwrap().len() >= 5).await;
    let during = good(&lab).await;
    eventually(Duration::from_secs(60), "every attack was made", async || {
        tally.lock().unwrap().len() == ATTACKS.len()
    })
    .await;
    stop.cancel();
    attackers.join_all().await;

    let tally = tally.lock().unwrap().clone();
    measured("silent connections", silent.len());
    measured("attacks", format!("{tally:?}"));
    assert!(tally.values().all(|(_, taken)| !taken), "an attack is answered 2xx: {tally:?}");
    let [quiet, loud] = [&before, &during].map(|report| report.latency.quantile(0.99));
    measured("p99 of good senders without, ms", quiet.as_secs_f64() * 1e3);
    measured("p99 of good senders with, ms", loud.as_secs_f64() * 1e3);
    // The attackers share this machine's processors with everybody, so not the 2 times of a
    // machine of its own. What would be wrong here is waiting for an attacker: seconds.
    assert!(loud < quiet * 10 + Duration::from_secs(1), "{quiet:?} became {loud:?}");
    drop(silent);

    assert_eq!(lab.status().await["log"]["messages"], FRAMES * u64::from(MESSAGES));
    lab.drained(Duration::from_secs(60)).await;
    assert_eq!(lab.audit(&hec).duplicates, 0);
    let peak = peak_memory(lab.process().id());
    measured("peak memory, MiB", peak >> 10);
    assert!(peak < 400 << 10, "{peak} KiB");
}

/// Frames of 30 KiB for a while, at a rate or as fast as answers come.
async fn load(lab: &Lab, seconds: u64, connections: u32, rate: Option<f64>) -> Report {
    let sending = lab.send(|config| {
        config.connections = number(connections);
        config.messages_per_frame = number(50);
        config.message_bytes = 500;
        config.duration = Some(Duration::from_secs(seconds));
        config.rate = rate;
    });
    sending.end().await
}

/// Four times what it can take, offered for a while: requests wait, nothing is refused, memory
/// stays where it was, and all that was answered 200 arrives.
#[tokio::test]
async fn overload_makes_requests_wait_and_loses_nothing() {
    let sustained = {
        let hec = Hec::usual();
        let mut lab = Lab::with(&hec, "");
        lab.start().await;
        load(&lab, 3, 8, None).await
    };
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "").ingest("max_body = \"1MiB\"\nmax_in_flight = \"8MiB\"\n");
    lab.start().await;
    let offered = 4.0 * sustained.accepted_rate();
    // 512 frames of 30 KiB at once are twice the memory that bodies may take.
    let overload = load(&lab, 15, 512, Some(offered)).await;
    let after = Frame::new("AFTER", &["after the overload"]);
    let start = forebay::clock::instant();
    assert_eq!(lab.post(&after).await, 200);
    let recovered = start.elapsed();

    measured("sustained, messages/s", sustained.accepted_rate().round());
    measured("taken of 4 times that, messages/s", overload.accepted_rate().round());
    measured("answers under overload", &overload.latency);
    measured("statuses under overload", format!("{:?}", overload.end.answers));
    measured("tries that took longer than Logplex waits", overload.end.timeouts);
    measured("the next answer after it, ms", recovered.as_millis());
    assert!(!overload.kept_up(), "that was no overload: {overload}");
    let refused = overload.end.answers.keys().find(|status| !matches!(status, 200 | 503));
    assert_eq!(refused, None, "{overload}");
    assert!(recovered < Duration::from_secs(5), "{recovered:?}");
    let peak = peak_memory(lab.process().id());
    measured("peak memory, MiB", peak >> 10);
    assert!(peak < 400 << 10, "{peak} KiB");
    lab.drained(Duration::from_secs(240)).await;
    let found = forebay::simulate::ledger::audit(&lab.sent, &hec.ledger);
    // The one frame from outside of the ledger is the one that came after.
    assert_eq!((found.lost, found.unacknowledged), (0, 0), "{found}");
}

/// The most memory a process has ever had, in KiB.
fn peak_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
