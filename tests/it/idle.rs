use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::support::{Client, Frame, Hec, Lab, SOON, eventually, measured, number};

/// Connections of the test itself beside the idle ones, and other files.
const OTHERS: u64 = 600;

/// How many idle connections this machine allows the test, up to 10,000: each needs a file here
/// and one in forebay.
fn allowed() -> u32 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    u32::try_from(files.saturating_sub(OTHERS)).unwrap_or(u32::MAX).min(10_000)
}

/// Peak and present memory of a process, in KiB.
fn memory(process: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let value = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (value("VmHWM:"), value("VmRSS:"))
}

/// 10,000 connections that have sent a frame and keep quiet, and 64 that do not: memory stays
/// within its target, and the quiet ones are still good afterwards.
#[tokio::test]
async fn ten_thousand_idle_connections_and_sixty_four_busy_ones() {
    let count = allowed();
    if count < 10_000 {
        eprintln!("ONLY {count} IDLE CONNECTIONS: `ulimit -n` allows no more");
    }
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "")
        .ingest("max_connections = 11000\nmax_connections_per_address = 11000\n");
    lab.start().await;
    let (_, before) = memory(lab.process().id());

    let address = lab.ingest_address();
    let mut opening = JoinSet::new();
    for opener in 0..64_u32 {
        opening.spawn(async move {
            let mut clients = Vec::new();
            for number in (0..count).filter(|number| number % 64 == opener) {
                let mut client = Client::connect(address).await;
                let text = "x".repeat(2000);
                let frame = Frame::new(&format!("{number:X}"), &[&text]);
                assert_eq!(client.post(&frame).await, 200);
                clients.push(client);
            }
            clients
        });
    }
    let mut idle: Vec<Client> = opening.join_all().await.into_iter().flatten().collect();
    assert_eq!(lab.status().await["ingest"]["connections"], count);
    let (_, opened) = memory(lab.process().id());

    let report = lab
        .send(|config| {
            config.connections = number(64);
            config.frames = Some(6400);
        })
        .end()
        .await;
    let totals = report.end.totals;
    assert_eq!((totals.accepted_frames, totals.retries), (6400, 0), "{report}");
    let (peak, after) = memory(lab.process().id());
    measured("idle connections", count);
    measured("memory before, MiB", before >> 10);
    measured("memory with them, MiB", opened >> 10);
    measured("memory with 64 busy ones beside them, MiB", after >> 10);
    measured("peak memory, MiB", peak >> 10);
    measured("answers to the busy ones", report.latency);
    assert!(peak < 350_000_000 >> 10, "{peak} KiB");

    let last = idle.len() - 1;
    for (number, client) in [0, last / 2, last].into_iter().zip(["A", "B", "C"]) {
        let frame = Frame::new(&format!("F{client}"), &["still here"]);
        assert_eq!(idle[number].post(&frame).await, 200, "an idle connection is kept");
    }
    drop(idle);
    eventually(SOON, "they are closed", async || lab.status().await["ingest"]["connections"] == 0)
        .await;
    lab.drained(Duration::from_secs(60)).await;
}
