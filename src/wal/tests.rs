//! The log on a real RocksDB, in directories that go when the test ends.

mod answers;
mod damage;
mod failpoints;
mod faults;
mod full;
mod in_force;
mod letters;
mod model;
mod poison;
mod replays;
mod room;
mod salvage;
mod sweep;
mod torn;
mod verify;
mod weaker;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::clock;
use crate::logplex::Profile;
use crate::record::{Checkpoint, Record};
use crate::types::{ByteSize, DestinationName, Offset, Position, UnixMicros};

/// However slow the machine is, what a test waits for is there by then, or never comes.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(dir: &Path) -> Config {
    Config {
        dir: dir.join("wal"),
        segment_size: ByteSize::bytes(4096),
        max_size: ByteSize::mib(1 << 20),
        min_free: ByteSize::bytes(0),
        retention: Duration::ZERO,
        dedupe_window: Duration::from_hours(24),
        dedupe_memory: ByteSize::mib(64),
        when_full: WhenFull::default(),
        durability: Durability::default(),
        storage: Storage::default(),
        on_damage: OnDamage::default(),
    }
}

fn open(dir: &TempDir) -> Wal {
    Wal::open(config(dir.path())).unwrap().0
}

/// Closes the log and everything that keeps its store open.
fn close(wal: Wal) {
    wal.close();
    drop(wal);
}

/// Ten seconds ago: past every retention of zero.
fn received() -> UnixMicros {
    UnixMicros::new(clock::unix_micros().get() - 10_000_000)
}

fn frame(id: Option<&str>, messages: u32, body: &[u8]) -> NewFrame {
    NewFrame {
        drain_token: Some("d.1".to_owned()),
        frame_id: id.map(ToOwned::to_owned),
        dedupe_scope: "d.1".to_owned(),
        messages_claimed: Some(messages),
        messages,
        received: received(),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        query: "app=checkout".to_owned(),
        profile: Profile::Logplex,
        body: Bytes::copy_from_slice(body),
    }
}

/// Runs one test's tasks on this thread, and never for ever.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, future).await.expect("what was waited for never came")
    })
}

async fn append(wal: &Wal, frame: NewFrame) -> Result<Appended, AppendError> {
    wal.append(Wal::prepare(frame), ()).await
}

/// Appends a frame that is new, and returns where it is.
async fn put(wal: &Wal, id: Option<&str>, messages: u32, body: &[u8]) -> Offset {
    let appended = append(wal, frame(id, messages, body)).await.unwrap();
    assert!(!appended.duplicate);
    appended.durable.offset().unwrap()
}

fn read(wal: &Wal, from: u64, until: u64) -> Result<Vec<Entry>, ReadError> {
    let mut entries = Vec::new();
    let end = wal.reader().read(Offset::new(from), Offset::new(until), |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    })?;
    let behind = entries.last().map_or_else(|| Offset::new(from), |entry| entry.offset.next());
    assert_eq!(end, behind);
    Ok(entries)
}

fn name(name: &str) -> DestinationName {
    DestinationName::new(name).unwrap()
}

fn checkpoint(offset: u64) -> Checkpoint {
    Checkpoint { position: Position::at(Offset::new(offset)), ..Checkpoint::default() }
}

async fn commit(wal: &Wal, destination: &str, offset: u64) {
    wal.commit(&name(destination), checkpoint(offset)).await.unwrap();
}

fn tail(wal: &Wal) -> crate::types::Tail {
    *wal.tail().borrow()
}

/// `number` frames of one message and about 1.5 KB: a segment of 4 KiB takes three.
async fn fill(wal: &Wal, number: u64) {
    for _ in 0..number {
        put(wal, None, 1, &[b'x'; 1500]).await;
    }
}

#[test]
fn frames_come_back_byte_for_byte_and_in_order_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    let every_byte: Vec<u8> = (0..=255).collect();
    let new = NewFrame {
        query: "app=\"ü\"&x".to_owned(),
        messages_claimed: None,
        peer: "2001:db8::1".parse().unwrap(),
        profile: Profile::Shuttle,
        ..frame(Some("F"), 7, &every_byte)
    };
    let wanted = Record {
        drain_token: Some("d.1".to_owned()),
        frame_id: Some("F".to_owned()),
        messages_claimed: None,
        messages: 7,
        messages_before: 3,
        received: new.received,
        peer: "2001:db8::1".to_owned(),
        query: "app=\"ü\"&x".to_owned(),
        profile: Profile::Shuttle,
        body: Bytes::from(every_byte),
    };
    run(async {
        assert_eq!(put(&wal, Some("E"), 3, b"").await, Offset::ZERO);
        assert_eq!(append(&wal, new).await.unwrap().durable.offset(), Some(Offset::new(1)));
        assert_eq!(put(&wal, None, 1, b"third").await, Offset::new(2));
    });
    let before = (read(&wal, 0, u64::MAX).unwrap(), tail(&wal), wal.node().to_owned());
    assert_eq!(before.0.len(), 3);
    assert_eq!(before.0[1], Entry { offset: Offset::new(1), record: wanted });
    let counts: Vec<_> = before.0.iter().map(|entry| entry.record.messages_before).collect();
    assert_eq!((counts, before.1.messages), (vec![0, 3, 10], 11));
    close(wal);

    let (wal, report) = Wal::open(config(dir.path())).unwrap();
    assert_eq!((read(&wal, 0, u64::MAX).unwrap(), tail(&wal), wal.node().to_owned()), before);
    assert!(!report.created);
    assert_eq!((report.first, report.end), (Offset::ZERO, Offset::new(3)));
    assert_eq!((report.recounted, report.frame_ids), (3, 2));
}

#[test]
fn a_new_store_is_said_to_be_new_and_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (wal, report) = Wal::open(config(dir.path())).unwrap();
    assert!(report.created);
    assert_eq!((report.end, report.segments), (Offset::ZERO, 1));
    assert_eq!(wal.node().len(), 12);
    let mode = std::fs::metadata(dir.path().join("wal")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_start_counts_one_segment_again_and_not_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(fill(&wal, 20));
    let before = (tail(&wal), wal.status().segments, wal.status().bytes);
    assert_eq!(before.1, 7);
    close(wal);
    let (wal, report) = Wal::open(config(dir.path())).unwrap();
    assert_eq!((tail(&wal), wal.status().segments, wal.status().bytes), before);
    assert_eq!((report.segments, report.recounted), (7, 2));
    // And the log goes on where it was.
    assert_eq!(run(put(&wal, None, 1, b"next")), Offset::new(20));
    assert_eq!(read(&wal, 20, 21).unwrap()[0].record.messages_before, 20);
}

#[test]
fn a_read_ends_where_it_is_told_to_and_at_the_durable_end() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(fill(&wal, 5));
    let offsets = |from, until| -> Vec<u64> {
        read(&wal, from, until).unwrap().iter().map(|entry| entry.offset.get()).collect()
    };
    assert_eq!(offsets(1, 3), [1, 2]);
    assert_eq!(offsets(3, u64::MAX), [3, 4]);
    assert_eq!(offsets(3, 3), [0; 0]);
    assert_eq!(offsets(5, 9), [0; 0]);
    let mut seen = 0;
    let end = wal.reader().read(Offset::new(1), Offset::new(5), |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((end.unwrap(), seen), (Offset::new(3), 2), "behind the last frame visited");
}

#[test]
fn a_frame_id_is_stored_once_one_after_the_other_in_one_group_and_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        put(&wal, Some("A"), 1, b"a").await;
        let again = append(&wal, frame(Some("A"), 1, b"a")).await.unwrap();
        assert!(again.duplicate);
        assert_eq!(tail(&wal).end, Offset::new(1));
        // Another drain may use the same id, and a frame without one is never a duplicate.
        let other = NewFrame { dedupe_scope: "d.2".to_owned(), ..frame(Some("A"), 1, b"a") };
        assert!(!append(&wal, other).await.unwrap().duplicate);
        assert!(!append(&wal, frame(None, 1, b"a")).await.unwrap().duplicate);
        assert!(!append(&wal, frame(None, 1, b"a")).await.unwrap().duplicate);
    });
    assert_eq!(tail(&wal).end, Offset::new(4));
    // In one group: a lead that takes its time lets the others gather behind it.
    let stored = run(async {
        let gate = answers::Gate::shut(&wal).await;
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let wal = wal.clone();
            waiting.spawn(async move { append(&wal, frame(Some("B"), 1, b"b")).await.unwrap() });
        }
        while wal.requests.len() < 20 {
            tokio::task::yield_now().await;
        }
        gate.open();
        waiting.join_all().await
    });
    assert_eq!(stored.iter().filter(|appended| !appended.duplicate).count(), 1);
    assert!(stored.iter().all(|appended| appended.durable.offset() == Some(Offset::new(5))));
    assert_eq!(tail(&wal).end, Offset::new(6));
    close(wal);
    let wal = open(&dir);
    run(async {
        for id in ["A", "B"] {
            assert!(append(&wal, frame(Some(id), 1, b"-")).await.unwrap().duplicate);
        }
    });
    assert_eq!(tail(&wal).end, Offset::new(6));
}
