//! Space: what happens when there is none, and how it comes back. Segments hold three frames.

use super::*;
use crate::record::encode_value;
use crate::wal::keys;
use crate::wal::store::Store;

/// Appends until the log says that it is full. The log looks at its size now and then only, so it
/// takes somewhat more than it should.
async fn until_full(wal: &Wal) -> u64 {
    let started = clock::instant();
    let mut taken = 0;
    loop {
        match append(wal, frame(None, 1, &[b'x'; 1500])).await {
            Ok(_) => taken += 1,
            Err(error) => {
                assert_eq!(error, AppendError::NoSpace);
                return taken;
            }
        }
        assert!(clock::instant() - started < PATIENCE, "{taken} frames and still not full");
    }
}

#[test]
fn a_full_log_refuses_frames_and_takes_them_again_when_a_segment_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let small = Config { max_size: ByteSize::bytes(30_000), ..config(dir.path()) };
    let (wal, _) = Wal::open(small).unwrap();
    run(async {
        let taken = until_full(&wal).await;
        assert!(taken >= 19, "30,000 bytes are not reached by {taken} frames");
        assert!(wal.status().space_is_short);
        wal.no_space().await;
        // What is stored can be read, and checkpoints can be written.
        assert_eq!(read(&wal, 0, u64::MAX).unwrap().len() as u64, taken);
        commit(&wal, "splunk", 0).await;
        let sweep = || async {
            let wal = wal.clone();
            tokio::task::spawn_blocking(move || wal.sweep()).await.unwrap().unwrap()
        };
        assert!(sweep().await.is_empty(), "nothing is delivered");
        let mut space = Box::pin(wal.space());
        let pending = tokio::time::timeout(Duration::ZERO, &mut space).await;
        assert!(pending.is_err(), "and so there is no space");
        commit(&wal, "splunk", taken).await;
        assert!(!sweep().await.is_empty());
        space.await;
        assert!(!wal.status().space_is_short);
        put(&wal, None, 1, b"on we go").await;
    });
}

#[test]
fn too_little_free_space_on_the_disk_refuses_frames_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(fill(&wal, 4));
    close(wal);
    // A tebibyte of tebibytes is never free.
    let full = Config { min_free: ByteSize::mib(1 << 40), ..config(dir.path()) };
    let (wal, _) = Wal::open(full).unwrap();
    run(async {
        assert_eq!(until_full(&wal).await, 0);
        commit(&wal, "splunk", 3).await;
    });
    assert_eq!(wal.sweep().unwrap().end, Offset::new(3));
    assert_eq!(read(&wal, 3, 4).unwrap().len(), 1);
}

#[test]
fn delivered_segments_stay_for_retention_and_go_when_space_is_short() {
    let dir = tempfile::tempdir().unwrap();
    let day = Config { retention: Duration::from_hours(24), ..config(dir.path()) };
    let (wal, _) = Wal::open(day.clone()).unwrap();
    run(async {
        fill(&wal, 7).await;
        commit(&wal, "splunk", 7).await;
    });
    assert!(wal.sweep().unwrap().is_empty(), "too young");
    close(wal);
    let short = Config { max_size: ByteSize::bytes(1), ..day };
    let (wal, _) = Wal::open(short).unwrap();
    let dropped = wal.sweep().unwrap();
    assert_eq!((dropped.start, dropped.end), (Offset::ZERO, Offset::new(7)), "the active one too");
}

/// The history that replays read goes from its old end, and no further than frames need room.
#[test]
fn no_more_delivered_segments_go_than_frames_need() {
    let dir = tempfile::tempdir().unwrap();
    let day = Config { retention: Duration::from_hours(24), ..config(dir.path()) };
    let (mut wal, _) = Wal::open(day.clone()).unwrap();
    run(async {
        fill(&wal, 61).await;
        commit(&wal, "splunk", 61).await;
    });
    assert!(wal.sweep().unwrap().is_empty(), "too young, and there is room");
    assert!(!wal.is_nearly_full());
    let mut first = 0;
    // A thousand bytes too many; then a thousand are left, and frames need never wait.
    for short in [true, false] {
        let bytes = wal.status().bytes.get();
        let max_size = ByteSize::bytes(if short { bytes - 1000 } else { bytes + 1000 });
        close(wal);
        let (reopened, _) = Wal::open(Config { max_size, ..day.clone() }).unwrap();
        wal = reopened;
        assert!(wal.is_nearly_full());
        let dropped = wal.sweep().unwrap();
        assert_eq!(dropped.start.get(), first);
        let frames = dropped.end.get() - first;
        assert!((3..=9).contains(&frames), "one segment to three of twenty: {frames} frames");
        first = dropped.end.get();
        assert_eq!(read(&wal, first, 61).unwrap().len() as u64, 61 - first);
        assert!(!wal.status().space_is_short);
        assert!(wal.sweep().unwrap().is_empty(), "that is enough");
    }
}

/// Only a frame seals a segment, and a full log takes none: it was full for ever.
#[test]
fn a_log_full_with_one_segment_makes_room_when_that_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let one = Config {
        segment_size: ByteSize::mib(1),
        max_size: ByteSize::bytes(30_000),
        ..config(dir.path())
    };
    let (wal, _) = Wal::open(one).unwrap();
    run(async {
        let taken = until_full(&wal).await;
        commit(&wal, "splunk", taken).await;
        let sweeper = wal.clone();
        let swept = tokio::task::spawn_blocking(move || sweeper.sweep()).await.unwrap().unwrap();
        assert_eq!(swept.end, Offset::new(taken));
        put(&wal, None, 1, b"on we go").await;
    });
}

#[test]
fn only_whole_segments_that_every_destination_has_go() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(fill(&wal, 10));
    let sweep = |wal: &Wal| wal.sweep().unwrap().end.get();
    assert_eq!(sweep(&wal), 0, "without any checkpoint nothing goes");
    for (fast, slow, first) in [(9, 0, 0), (9, 2, 0), (9, 3, 3), (10, 8, 6), (10, 10, 9)] {
        run(async {
            commit(&wal, "fast", fast).await;
            commit(&wal, "slow", slow).await;
        });
        assert_eq!(sweep(&wal), first);
        assert_eq!(wal.first().get(), first);
        assert_eq!(wal.messages_before_first(), first);
        assert_eq!(read(&wal, first, 10).unwrap().len() as u64, 10 - first);
        if let Some(gone) = first.checked_sub(1) {
            let error = read(&wal, gone, 10).unwrap_err().to_string();
            let wanted = format!("offset {gone} is no longer retained; the log begins at {first}");
            assert_eq!(error, wanted);
        }
    }
    let before = wal.status();
    close(wal);
    let (wal, report) = Wal::open(config(dir.path())).unwrap();
    assert_eq!((report.first, report.segments, wal.first()), (before.first, 1, before.first));
    assert_eq!(wal.messages_before_first(), 9);
    assert_eq!(wal.status().bytes, before.bytes);
}

#[test]
fn a_destination_that_is_no_longer_configured_still_keeps_its_messages() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        fill(&wal, 10).await;
        commit(&wal, "old", 4).await;
    });
    close(wal);
    // Nobody speaks for it any more.
    let wal = open(&dir);
    run(commit(&wal, "new", 10));
    assert_eq!(wal.sweep().unwrap().end, Offset::new(3));
    assert_eq!(read(&wal, 4, 10).unwrap().len(), 6);
}

#[test]
fn a_checkpoint_that_is_not_durable_drops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        fill(&wal, 10).await;
        commit(&wal, "splunk", 3).await;
        let gate = answers::Gate::shut(&wal).await;
        let (wal_too, destination) = (wal.clone(), name("splunk"));
        let mut commits = tokio::task::JoinSet::new();
        commits.spawn(async move { wal_too.commit(&destination, checkpoint(10)).await });
        while wal.requests.is_empty() {
            tokio::task::yield_now().await;
        }
        let wal_too = wal.clone();
        let sweep = tokio::task::spawn_blocking(move || wal_too.sweep().unwrap().end);
        // The sweep has asked for its trim: it has read the checkpoints by now.
        while wal.requests.len() < 2 {
            tokio::task::yield_now().await;
        }
        gate.open();
        assert_eq!(sweep.await.unwrap(), Offset::new(3));
        assert_eq!(commits.join_next().await.unwrap().unwrap(), Ok(()));
    });
    assert_eq!(read(&wal, 3, 10).unwrap().len(), 7);
}

#[test]
fn sweeps_at_the_same_time_drop_what_may_go_once() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(async {
        fill(&wal, 20).await;
        commit(&wal, "splunk", 10).await;
        let gate = answers::Gate::shut(&wal).await;
        let sweeps: Vec<_> = (0..2)
            .map(|_| {
                let wal = wal.clone();
                tokio::task::spawn_blocking(move || wal.sweep().unwrap())
            })
            .collect();
        // The second would ask as well, if it could: it gets a moment in which to be wrong.
        let started = clock::instant();
        while wal.requests.is_empty() || clock::instant() - started < Duration::from_millis(50) {
            tokio::task::yield_now().await;
        }
        gate.open();
        let mut dropped = 0;
        for sweep in sweeps {
            dropped += sweep.await.unwrap().len();
        }
        assert_eq!(dropped, 9);
    });
    assert_eq!(wal.status().segments, 4);
    assert_eq!(read(&wal, 9, 20).unwrap().len(), 11);
    close(wal);
    assert_eq!(open(&dir).first(), Offset::new(9));
}

/// Bytes of all table files.
fn tables(dir: &TempDir) -> u64 {
    let files = std::fs::read_dir(dir.path().join("wal")).unwrap().map(Result::unwrap);
    let tables = files.filter(|file| file.path().extension().is_some_and(|kind| kind == "sst"));
    tables.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum()
}

#[test]
fn the_files_of_dropped_segments_go_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let large = Config { segment_size: ByteSize::mib(1), ..config(dir.path()) };
    // A flush at each start makes a file of its own of what was appended before.
    for round in 0..4u64 {
        let (wal, _) = Wal::open(large.clone()).unwrap();
        run(async {
            for number in 0..16 {
                // What lz4 cannot make smaller.
                let mut chance = fastrand::Rng::with_seed(round * 100 + number);
                let body: Vec<u8> = (0..128 * 1024).map(|_| chance.u8(..)).collect();
                put(&wal, None, 1, &body).await;
            }
        });
        close(wal);
    }
    let (wal, _) = Wal::open(large).unwrap();
    let before = tables(&dir);
    assert!(before > 7 << 20, "{before}");
    run(commit(&wal, "splunk", 40));
    let started = clock::instant();
    // Files leave level 0, where they cannot be deleted, a moment after the start.
    let after = loop {
        wal.sweep().unwrap();
        let after = tables(&dir);
        if after < before - (4 << 20) || clock::instant() - started > PATIENCE {
            break after;
        }
        std::thread::yield_now();
    };
    assert!(after < before - (4 << 20), "{before} bytes before the sweeps, {after} after them");
    assert!(after > 3 << 20, "and no file that is needed: {after}");
    assert_eq!(read(&wal, 40, 64).unwrap().len(), 24);
    assert!(wal.status().file_bytes.map(ByteSize::get).is_some_and(|b| b < before));
}

#[test]
fn expired_frame_ids_go_and_are_not_loaded_at_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&dir);
    run(put(&wal, Some("A"), 1, b"a"));
    close(wal);
    let hour = Config { dedupe_window: Duration::from_hours(1), ..config(dir.path()) };
    let known = encode_value(&crate::generated::storage::FrameKey { offset: 0 });
    let old = keys::frame(dedupe::hour(received()) - 3, &[7; 16]);
    let store = Store::open(&dir.path().join("wal"), options::Opening::Whole, None).unwrap();
    store.db().put_cf(store.family(keys::FRAMES), old, known).unwrap();
    drop(store);
    let (wal, report) = Wal::open(hour).unwrap();
    assert_eq!(report.frame_ids, 1, "A, and not the old one");
    assert!(run(append(&wal, frame(Some("A"), 1, b"a"))).unwrap().duplicate);
}
