//! `wal.durability` and `wal.storage`: what each promises, and that it says so.

use super::torn::copy;
use super::*;

fn with(dir: &Path, durability: Durability) -> Config {
    Config { durability, ..config(dir) }
}

#[test]
fn a_proof_says_what_it_proves() {
    for (durability, text) in [
        (Durability::Fsync, "fsync"),
        (Durability::Interval(Duration::from_millis(1500)), "interval:1500ms"),
        (Durability::None, "none"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (wal, _) = Wal::open(with(dir.path(), durability)).unwrap();
        let appended = run(append(&wal, frame(Some("A"), 1, b"a"))).unwrap();
        assert_eq!(appended.durable.promise(), durability);
        let again = run(append(&wal, frame(Some("A"), 1, b"a"))).unwrap();
        assert_eq!((again.duplicate, again.durable.promise()), (true, durability));
        let status = wal.status();
        assert_eq!((status.durability, status.durability.to_string().as_str()), (durability, text));
        assert_eq!(status.promise.contains("stable storage"), durability == Durability::Fsync);
    }
}

/// The end of the process takes nothing in any mode: what was written is the system's.
#[test]
fn a_kill_takes_nothing_in_any_mode() {
    for durability in [Durability::Interval(Duration::from_hours(1)), Durability::None] {
        let dir = tempfile::tempdir().unwrap();
        let (wal, _) = Wal::open(with(dir.path(), durability)).unwrap();
        run(async {
            fill(&wal, 20).await;
            commit(&wal, "splunk", 9).await;
        });
        assert_eq!(wal.sweep().unwrap().end, Offset::new(9));
        let killed = tempfile::tempdir().unwrap();
        copy(&dir.path().join("wal"), &killed.path().join("wal"));
        close(wal);
        let (wal, report) = Wal::open(with(killed.path(), durability)).unwrap();
        assert_eq!((report.first, report.end), (Offset::new(9), Offset::new(20)));
        assert_eq!(read(&wal, 9, 20).unwrap().len(), 11);
    }
}

/// Where nothing behind a tear was promised, nothing is refused for it: what lies before it stays.
#[test]
fn a_tear_anywhere_is_mended_where_it_was_never_promised() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(with(dir.path(), Durability::None)).unwrap();
    run(fill(&wal, 5));
    let killed = tempfile::tempdir().unwrap();
    let path = killed.path().join("wal");
    copy(&dir.path().join("wal"), &path);
    close(wal);
    let logs = torn::files(&path, "log");
    let log = logs.iter().find(|log| std::fs::metadata(log).unwrap().len() > 0).unwrap();
    let mut bytes = std::fs::read(log).unwrap();
    bytes[4000] ^= 1;
    std::fs::write(log, bytes).unwrap();
    let strict = Wal::open(config(killed.path())).unwrap_err();
    assert!(matches!(strict, OpenError::DamagedLog { .. }), "{strict}");
    let (wal, report) = Wal::open(with(killed.path(), Durability::None)).unwrap();
    assert_eq!((report.torn.len(), report.torn[0].records), (1, 2));
    assert_eq!(read(&wal, 0, u64::MAX).unwrap().len(), 2);
}

/// How often the log was synced, as RocksDB counts it, is not to be had; that an interval ends in a
/// sync shows in the histogram's twin: the appender wakes, and goes back to sleep.
#[test]
fn an_interval_ends_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let every = Durability::Interval(Duration::from_millis(10));
    let (wal, _) = Wal::open(with(dir.path(), every)).unwrap();
    let started = clock::instant();
    run(async {
        while clock::instant() - started < Duration::from_millis(100) {
            put(&wal, None, 1, b"a").await;
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
    });
    assert_eq!(wal.status().poisoned, None);
    let end = tail(&wal).end;
    close(wal);
    assert_eq!(tail(&open(&dir)).end, end);
}

#[test]
fn a_log_in_memory_works_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Config { storage: Storage::Memory, ..config(dir.path()) };
    let (wal, report) = Wal::open(memory.clone()).unwrap();
    assert!(report.created);
    run(async {
        put(&wal, Some("A"), 1, b"a").await;
        assert!(append(&wal, frame(Some("A"), 1, b"a")).await.unwrap().duplicate);
        fill(&wal, 20).await;
        commit(&wal, "splunk", 10).await;
    });
    assert_eq!(read(&wal, 0, 21).unwrap().len(), 21);
    assert!(wal.sweep().unwrap().end.get() >= 9);
    assert_eq!(
        wal.status().promise,
        "a frame is answered when it is in memory: nothing outlives the process"
    );
    close(wal);
    assert!(!dir.path().join("wal").exists());
    let (wal, report) = Wal::open(memory).unwrap();
    assert!(report.created && tail(&wal).end == Offset::ZERO, "{report:?}");
}
