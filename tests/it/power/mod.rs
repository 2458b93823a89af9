//! Power cuts: the relay writes to a disk that forgets what was not synced, and its power goes at
//! any moment, in the middle of a write, a sync, a rename, of a start.
//!
//! `FOREBAY_POWER_CUTS` is how often (120), `FOREBAY_POWER_SEED` what the choices are made from;
//! a test prints its seed.

mod disk;
mod kernel;
mod mount;

use std::time::Duration;

use fastrand::Rng;
use forebay::simulate::ledger::{Audit, audit};

use crate::support::usual_ack;
use crate::support::{
    Frame, Hec, Lab, SOON, Sending, eventually, from_environment, measured, number,
};
use disk::Cut;
use mount::{Class, PowerDisk, Trigger};

/// Small segments in a log that is soon full, so that segments roll and are dropped all the time,
/// and small batches.
const LOG: &str = "segment_size = \"1MiB\"\nmax_size = \"6MiB\"\nretention = \"0s\"\n";
const BATCHES: &str = "window = 16\n[destination.batch]\nmax_events = 200\nlinger = \"20ms\"\n";

/// Over both tests that count them.
const CUTS: u64 = 120;
/// Cuts that one store goes through.
const CUTS_A_STORE: u64 = 20;

/// Stores whose first start is cut.
const FIRST_STARTS: u64 = 30;
/// Of the disk, in a first start, less than there are.
const OPERATIONS: u32 = 100;

/// How a start ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Ready,
    /// The power went first.
    Cut,
}

/// A relay on a disk with a switch. The fields go in this order: the process before its disk.
struct Rig {
    lab: Lab,
    hec: Hec,
    disk: PowerDisk,
    chance: Rng,
    cut: Cut,
}

/// What there was to see in the lives of one store.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    in_start: u64,
    /// With something that was not synced.
    unsynced: u64,
    /// Last records of RocksDB's log that were torn, and cut off by the next start.
    torn: u64,
    dropped_segments: u64,
}

impl Rig {
    fn new(hec: Hec, cut: Cut, seed: u64) -> Option<Self> {
        let disk = PowerDisk::new()?;
        let lab = Lab::with(&hec, BATCHES).wal(LOG).data_at(disk.data_dir());
        Some(Self { lab, hec, disk, chance: Rng::with_seed(seed), cut })
    }

    fn load(&self) -> Sending {
        self.lab.send(|config| {
            config.connections = number(8);
            config.messages_per_frame = number(50);
            config.rate = Some(20_000.0);
        })
    }

    /// Starts the relay, and checks that it has every frame it ever answered 200.
    async fn start(&mut self) -> Start {
        let accepted = self.lab.sent.totals().accepted_messages;
        self.lab.launch();
        let mut start = None;
        eventually(SOON, "the relay is ready", async || {
            start = if self.disk.is_cut() {
                Some(Start::Cut)
            } else if self.lab.is_ready() {
                Some(Start::Ready)
            } else {
                let ended = self.lab.process().ended();
                assert_eq!(ended, None, "the relay does not open what is left");
                None
            };
            start.is_some()
        })
        .await;
        if start == Some(Start::Ready)
            && let Some(answer) = self.lab.get("/v1/status").await
        {
            let status: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            let stored = status["log"]["messages"].as_u64().unwrap();
            assert!(stored >= accepted, "{accepted} messages accepted, {stored} are there");
        }
        start.unwrap()
    }

    /// The power goes, if it has not yet, and the relay with it; then there is power again.
    fn fall(&mut self) {
        self.disk.cut();
        self.lab.process().shoot();
        let frozen = self.disk.frozen();
        self.disk.let_go();
        self.lab.kill();
        self.disk.restore(&frozen, self.cut, &mut self.chance);
    }

    /// Somewhere in the next moments, in any kind of operation. Returns after how many frames the
    /// power goes at the latest.
    fn arm(&mut self) -> u64 {
        let tear = self.cut == Cut::Random && self.chance.bool();
        let class = if tear { Class::Log } else { self.chance.choice(Class::ALL).unwrap() };
        // A group is a write and a sync of the log. The other files change in a start, when a
        // memtable is flushed, and when segments are dropped.
        let (most, frames) = match class {
            Class::Log => (60, 250),
            Class::Any => (120, 250),
            Class::Manifest | Class::Table | Class::Names => (12, 600),
        };
        let at_sync = tear || self.chance.u8(..4) == 0;
        let most = if at_sync { most / 3 } else { most };
        self.disk.arm(Trigger { class, at_sync, after: self.chance.u32(..most) });
        self.chance.u64(20..frames)
    }

    /// One life of the relay, from its start to the cut.
    async fn live(&mut self, sending: &Sending, seen: &mut Seen, cut_in_start: bool) {
        let mut most = if cut_in_start { self.arm() } else { 0 };
        if self.start().await == Start::Cut {
            seen.in_start += 1;
        } else {
            if !cut_in_start {
                most = self.arm();
            }
            let frames = || sending.progress.snapshot().totals.accepted_frames;
            most += frames();
            eventually(SOON, "the power goes", async || {
                if self.disk.is_cut() || frames() >= most {
                    return true;
                }
                assert_eq!(self.lab.process().ended(), None, "the relay ends by itself");
                false
            })
            .await;
        }
        self.disk.cut();
        let (bytes, names) = self.disk.unsynced();
        seen.unsynced += u64::from(bytes > 0 || names > 0);
        eprintln!("power cut {}", self.disk.cut_at());
        self.fall();
    }

    /// Everything accepted arrives, once there is power for good.
    async fn settle(&mut self, sending: Sending, seen: &mut Seen) -> Audit {
        assert_eq!(self.start().await, Start::Ready);
        sending.accepted(50).await;
        sending.connected(8).await;
        sending.stop().await;
        self.lab.drained(Duration::from_secs(60)).await;
        for line in self.lab.log().lines() {
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            seen.dropped_segments += u64::from(line["message"] == "segments dropped");
            seen.torn += line["torn"].as_u64().unwrap_or_default();
        }
        let found = self.lab.audit(&self.hec);
        self.lab.stop().await;
        found
    }
}

/// What the choices are made from.
fn seed() -> u64 {
    let seed = from_environment("FOREBAY_POWER_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("FOREBAY_POWER_SEED={seed}");
    seed
}

/// Many stores, each through many cuts.
async fn cut_again_and_again(cut: Cut) {
    let cuts = from_environment("FOREBAY_POWER_CUTS").unwrap_or(CUTS).div_ceil(2);
    let first = seed();
    let (mut seen, mut done, mut accepted, mut duplicates) = (Seen::default(), 0, 0, 0);
    for number in 0..cuts.div_ceil(CUTS_A_STORE) {
        let Some(mut rig) = Rig::new(Hec::usual(), cut, first.wrapping_add(number)) else { return };
        let sending = rig.load();
        for life in 0..CUTS_A_STORE.min(cuts - done) {
            rig.live(&sending, &mut seen, life % 2 == 1).await;
        }
        done += CUTS_A_STORE.min(cuts - done);
        let found = rig.settle(sending, &mut seen).await;
        accepted += found.accepted_messages;
        duplicates += found.duplicates;
    }
    assert!(seen.unsynced * 4 > done, "the cuts hit something: {seen:?}");
    assert!(seen.dropped_segments > 0, "segments roll and go: {seen:?}");
    assert!(cut == Cut::Plain || seen.torn > 0, "records are torn: {seen:?}");
    // As for a kill: the window, and what was settled since the last checkpoint.
    assert!(duplicates <= done * 2 * 16 * 200, "{duplicates} duplicates");
    measured("power cuts", done);
    measured("of them in a start", seen.in_start);
    measured("of them with something not synced", seen.unsynced);
    measured("torn last records", seen.torn);
    measured("messages accepted", accepted);
    measured("drops of segments", seen.dropped_segments);
    measured("duplicates a cut", duplicates / done);
}

/// P1 on a disk that forgets everything that was not synced.
#[tokio::test]
async fn what_was_answered_survives_a_disk_that_forgets() {
    cut_again_and_again(Cut::Plain).await;
}

/// P1 on a disk that keeps some of the pages and names that were not synced, and not others.
#[tokio::test]
async fn what_was_answered_survives_a_disk_that_keeps_random_pages() {
    cut_again_and_again(Cut::Random).await;
}

/// A store that is being made when the power goes is made by the next start.
#[tokio::test]
async fn a_cut_in_the_first_start_leaves_what_can_be_started() {
    let seed = seed();
    let (mut seen, mut chance) = (Seen::default(), Rng::with_seed(seed));
    for number in 0..FIRST_STARTS {
        let cut = if number % 2 == 0 { Cut::Plain } else { Cut::Random };
        let Some(mut rig) = Rig::new(Hec::down(usual_ack()), cut, chance.u64(..)) else { return };
        rig.disk.arm(Trigger {
            class: Class::Any,
            at_sync: false,
            after: chance.u32(..OPERATIONS),
        });
        if rig.start().await == Start::Cut {
            seen.in_start += 1;
        }
        rig.disk.cut();
        eprintln!("power cut {}", rig.disk.cut_at());
        rig.fall();
        assert_eq!(rig.start().await, Start::Ready);
        assert_eq!(rig.lab.post(&Frame::new("01", &["taken"])).await, 200);
    }
    assert!(seen.in_start * 4 > FIRST_STARTS, "the cuts hit the start: {seen:?}");
    measured("cuts in a first start", seen.in_start);
}

/// The kernel makes a file system read-only under the relay, as it does after an error of the disk:
/// the process ends, does not start while it is so, changes nothing, and starts without hands when
/// the disk is mended.
#[tokio::test]
async fn a_disk_that_turns_read_only_is_outlived() {
    let Some(mut rig) = Rig::new(Hec::usual(), Cut::Plain, 0) else { return };
    assert_eq!(rig.start().await, Start::Ready);
    let sending = rig.load();
    sending.accepted(50).await;
    rig.disk.read_only(true);
    assert_eq!(rig.lab.exit(SOON).await.0, Some(74));
    assert!(rig.lab.log().contains("Read-only file system"), "the log says why");
    for _ in 0..3 {
        rig.lab.launch();
        assert_eq!(rig.lab.exit(SOON).await.0, Some(74), "as long as it is so");
    }
    rig.disk.read_only(false);
    let mut seen = Seen::default();
    let found = rig.settle(sending, &mut seen).await;
    assert!(found.is_clean(), "{found}");
}

/// The test of the tests above: on a disk that answers a sync and does not do it, they find loss.
#[tokio::test]
async fn a_disk_that_lies_about_syncs_is_found_out() {
    // Down, so that nothing is delivered before the cut.
    let Some(mut rig) = Rig::new(Hec::down(usual_ack()), Cut::Plain, 0) else { return };
    assert_eq!(rig.start().await, Start::Ready);
    let sending = rig.load();
    sending.accepted(20).await;
    let before = rig.lab.sent.totals().accepted_messages;
    rig.disk.lie();
    let syncs = rig.disk.syncs();
    sending.accepted(50).await;
    assert!(rig.disk.syncs() > syncs, "it syncs, and is lied to");
    rig.fall();
    let accepted = rig.lab.sent.totals().accepted_messages;

    rig.hec.start();
    rig.lab.start().await;
    let stored = rig.lab.status().await["log"]["messages"].as_u64().unwrap();
    assert!(before <= stored && stored < accepted, "{before} synced, {stored} of {accepted} left");
    sending.connected(8).await;
    sending.stop().await;
    rig.lab.drained(SOON).await;
    let found = audit(&rig.lab.sent, &rig.hec.ledger);
    assert!(found.lost > 0 && !found.is_clean(), "{found}");
    measured("messages lost to the lie", found.lost);
    rig.lab.stop().await;
}
