//! A failure, and a kill, at each edge of durability. A kill is the directory as it was at that
//! moment: whatever RocksDB has not handed to the system by then is gone.

/// Said aloud, so that nobody takes this build's silence for a pass.
#[cfg(not(feature = "failpoints"))]
#[test]
fn this_build_has_no_failpoints() {
    println!("SKIPPED: the failpoint tests need `--features failpoints`; ops/test runs them");
}

#[cfg(feature = "failpoints")]
mod with_the_feature {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use fail::FailScenario;

    use super::super::torn::copy;
    use super::super::*;

    /// What was answered before anything fails.
    const BEFORE: u64 = 7;

    struct Scene {
        /// Serialises the tests, and clears what they have set.
        _scenario: FailScenario<'static>,
        dir: TempDir,
        wal: Wal,
    }

    /// Seven frames, segments of three, and two destinations.
    fn scene(change: impl FnOnce(&mut Config)) -> Scene {
        let scenario = FailScenario::setup();
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        let (wal, _) = Wal::open(config).unwrap();
        run(async {
            for number in 0..BEFORE {
                put(&wal, Some(&format!("A{number}")), 1, &[b'x'; 1500]).await;
            }
            commit(&wal, "splunk", 1).await;
        });
        Scene { _scenario: scenario, dir, wal }
    }

    /// Takes the directory at the first time a place is passed.
    fn kill_at(scene: &Scene, place: &str) -> (TempDir, Arc<AtomicBool>) {
        let killed = tempfile::tempdir().unwrap();
        let (from, to): (PathBuf, PathBuf) =
            (scene.dir.path().join("wal"), killed.path().join("wal"));
        let passed = Arc::new(AtomicBool::new(false));
        let once = Arc::clone(&passed);
        fail::cfg_callback(place, move || {
            if !once.swap(true, Ordering::SeqCst) {
                copy(&from, &to);
            }
        })
        .unwrap();
        (killed, passed)
    }

    /// Opens what a kill or a failure has left: everything that was answered is there, and the
    /// frame that was not is stored once, whoever sends it again.
    #[track_caller]
    fn comes_back(dir: &Path, stored: Option<bool>) {
        let (wal, report) = Wal::open(config(dir)).unwrap();
        assert_eq!(report.given_up, []);
        let end = tail(&wal).end.get();
        assert!(end == BEFORE || end == BEFORE + 1, "{end}");
        assert!(stored.is_none_or(|stored| stored == (end > BEFORE)), "{stored:?}, but {end}");
        for number in 0..BEFORE {
            let again = run(append(&wal, frame(Some(&format!("A{number}")), 1, b"x"))).unwrap();
            assert!(again.duplicate, "A{number} is forgotten");
        }
        let again = run(append(&wal, frame(Some("X"), 1, b"x"))).unwrap();
        assert_eq!(again.duplicate, end > BEFORE);
        assert_eq!(tail(&wal).end.get(), BEFORE + 1, "stored once");
        let first = wal.first().get();
        assert_eq!(read(&wal, first, u64::MAX).unwrap().len() as u64, BEFORE + 1 - first);
        close(wal);
    }

    #[test]
    fn a_write_that_fails_answers_nobody_and_takes_nothing() {
        for (place, stored) in [("wal::write::before", false), ("wal::write::after", true)] {
            let scene = scene(|_| {});
            fail::cfg(place, "return").unwrap();
            run(async {
                let failed = append(&scene.wal, frame(Some("X"), 1, b"x")).await;
                assert_eq!(failed, Err(AppendError::Poisoned), "{place}");
                assert_eq!(tail(&scene.wal).end.get(), BEFORE, "nothing became visible");
                // Without a restart: for good, though the cause is gone.
                fail::remove(place);
                let later = append(&scene.wal, frame(Some("Y"), 1, b"y")).await;
                assert_eq!(later, Err(AppendError::Poisoned), "{place}");
                let saved = scene.wal.commit(&name("splunk"), checkpoint(3)).await;
                assert_eq!(saved, Err(CommitError::Poisoned));
            });
            assert_eq!(read(&scene.wal, 0, u64::MAX).unwrap().len() as u64, BEFORE);
            close(scene.wal);
            comes_back(scene.dir.path(), Some(stored));
        }
    }

    #[test]
    fn a_last_write_that_fails_or_hangs_is_told_by_the_close() {
        assert_eq!(scene(|_| {}).wal.close(), Closed::InOrder);
        for place in ["wal::write::before", "wal::write::after"] {
            let scene = scene(|_| {});
            fail::cfg(place, "return").unwrap();
            assert_eq!(scene.wal.close(), Closed::Failed, "{place}");
            fail::remove(place);
            assert_eq!(scene.wal.close(), Closed::Failed, "{place}: for good");
            drop(scene.wal);
            comes_back(scene.dir.path(), Some(false));
        }
        let scene = scene(|_| {});
        fail::cfg("wal::write::before", "pause").unwrap();
        assert_eq!(scene.wal.close(), Closed::Hangs);
        let started = crate::clock::instant();
        assert_eq!(scene.wal.close(), Closed::Hangs);
        assert!(started.elapsed() < Duration::from_secs(4), "it is waited for once");
        fail::remove("wal::write::before");
        let ended = || scene.wal.shared.ended.load(Ordering::SeqCst);
        while !ended() {
            std::thread::yield_now();
        }
        drop(scene.wal);
        // An appender that still holds the store has it locked.
        while matches!(Wal::open(config(scene.dir.path())), Err(OpenError::Locked { .. })) {}
        comes_back(scene.dir.path(), Some(false));
    }

    #[test]
    fn a_kill_around_a_write_takes_nothing_that_was_answered() {
        for (place, stored) in [
            ("wal::write::before", false),
            ("wal::write::after", true),
            ("wal::answer::before", true),
        ] {
            let scene = scene(|_| {});
            let (killed, passed) = kill_at(&scene, place);
            run(put(&scene.wal, Some("X"), 1, b"x"));
            assert!(passed.load(Ordering::SeqCst), "{place} was never passed");
            comes_back(killed.path(), Some(stored));
            // Without the restart it goes on.
            fail::remove(place);
            run(put(&scene.wal, Some("Y"), 1, b"y"));
            close(scene.wal);
        }
    }

    /// P1 again: while the appender stands before its write, nobody is answered.
    #[test]
    fn nobody_is_answered_while_the_write_is_held() {
        let scene = scene(|_| {});
        fail::cfg("wal::write::before", "pause").unwrap();
        run(async {
            let mut waiting = Box::pin(append(&scene.wal, frame(Some("X"), 1, b"x")));
            let early = tokio::time::timeout(Duration::from_millis(300), waiting.as_mut()).await;
            assert!(early.is_err(), "an answer before the write: {early:?}");
            assert_eq!(tail(&scene.wal).end.get(), BEFORE);
            fail::remove("wal::write::before");
            assert!(waiting.await.is_ok());
        });
        close(scene.wal);
    }

    #[test]
    fn a_kill_around_a_checkpoint_leaves_the_old_one_or_the_new_one() {
        for (place, offset) in [("wal::checkpoint::before", 1), ("wal::checkpoint::after", 5)] {
            let scene = scene(|_| {});
            let (killed, passed) = kill_at(&scene, place);
            run(commit(&scene.wal, "splunk", 5));
            assert!(passed.load(Ordering::SeqCst), "{place} was never passed");
            fail::remove(place);
            let wal = Wal::open(config(killed.path())).unwrap().0;
            assert_eq!(wal.checkpoint(&name("splunk")).unwrap(), Some(checkpoint(offset)));
            close(wal);
            comes_back(killed.path(), Some(false));
            assert_eq!(scene.wal.checkpoint(&name("splunk")).unwrap(), Some(checkpoint(5)));
            close(scene.wal);
        }
    }

    #[test]
    fn a_kill_around_a_drop_leaves_a_log_that_fits_together() {
        for (place, first) in [("wal::trim::before", 0), ("wal::trim::committed", 6)] {
            let scene = scene(|_| {});
            run(commit(&scene.wal, "splunk", 7));
            let (killed, passed) = kill_at(&scene, place);
            assert_eq!(scene.wal.sweep().unwrap().end.get(), 6);
            assert!(passed.load(Ordering::SeqCst), "{place} was never passed");
            fail::remove(place);
            let wal = Wal::open(config(killed.path())).unwrap().0;
            assert_eq!(wal.first().get(), first, "{place}");
            // The next sweep does what is left, or all of it.
            assert_eq!(wal.sweep().unwrap().end.get(), 6);
            close(wal);
            comes_back(killed.path(), Some(false));
            run(put(&scene.wal, Some("X"), 1, b"x"));
            close(scene.wal);
            comes_back(scene.dir.path(), Some(true));
        }
    }

    #[test]
    fn a_drop_whose_commit_fails_drops_nothing() {
        let scene = scene(|_| {});
        run(commit(&scene.wal, "splunk", 7));
        fail::cfg("wal::write::before", "return").unwrap();
        let failed = scene.wal.sweep();
        assert!(matches!(failed, Err(SweepError::Commit(CommitError::Poisoned))), "{failed:?}");
        fail::remove("wal::write::before");
        close(scene.wal);
        let wal = open(&scene.dir);
        assert_eq!((wal.first().get(), read(&wal, 0, 99).unwrap().len() as u64), (0, BEFORE));
        close(wal);
        comes_back(scene.dir.path(), Some(false));
    }

    /// The same when the segments are in a file of their own, which a step too early would delete.
    #[test]
    fn a_drop_whose_commit_fails_deletes_no_file() {
        let scene = scene(|_| {});
        close(scene.wal);
        // What a start finds in the log, it writes into a file.
        let wal = open(&scene.dir);
        let store = &wal.shared.store;
        let started = crate::clock::instant();
        let at_level_0 = || {
            let family = store.family(crate::wal::keys::RECORDS);
            store.db().property_int_value_cf(family, "rocksdb.num-files-at-level0").unwrap()
        };
        // There it could not be deleted.
        while at_level_0() != Some(0) && started.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        assert_eq!(at_level_0(), Some(0));
        run(async {
            for number in 0..BEFORE {
                put(&wal, Some(&format!("B{number}")), 1, &[b'x'; 1500]).await;
            }
            commit(&wal, "splunk", 14).await;
        });
        fail::cfg("wal::write::before", "return").unwrap();
        let failed = wal.sweep();
        assert!(matches!(failed, Err(SweepError::Commit(CommitError::Poisoned))), "{failed:?}");
        fail::remove("wal::write::before");
        close(wal);
        let wal = open(&scene.dir);
        assert_eq!((wal.first().get(), read(&wal, 0, 99).unwrap().len() as u64), (0, 2 * BEFORE));
        close(wal);
    }

    #[test]
    fn a_kill_while_the_oldest_segment_goes_keeps_the_books() {
        for place in ["wal::lift::committed", "wal::trim::before", "wal::trim::committed"] {
            let full = |config: &mut Config| {
                config.max_size = ByteSize::bytes(10_500);
                config.when_full = WhenFull::DropOldest;
            };
            let scene = scene(full);
            let (killed, passed) = kill_at(&scene, place);
            assert_eq!(scene.wal.sweep().unwrap().end.get(), 3);
            assert!(passed.load(Ordering::SeqCst), "{place} was never passed");
            fail::remove(place);
            for (wal, first) in
                [(Wal::open(config(killed.path())).unwrap().0, None), (scene.wal, Some(3))]
            {
                let stored = wal.checkpoint(&name("splunk")).unwrap().unwrap();
                assert_eq!(stored.position, Position::at(Offset::new(3)), "{place}");
                assert_eq!((stored.totals.dropped, stored.totals.settled()), (3, 3), "{place}");
                assert_eq!(wal.gaps().len(), 1, "{place}");
                assert!(first.is_none_or(|first| wal.first().get() == first));
                assert_eq!(wal.sweep().map(|dropped| dropped.end.get()).unwrap(), 3);
                assert_eq!(wal.gaps().len(), 1, "{place}: dropped once");
                close(wal);
            }
        }
    }

    #[test]
    fn a_failed_sync_between_intervals_is_final() {
        let every = Durability::Interval(Duration::from_millis(10));
        let scene = scene(|config| config.durability = every);
        run(async {
            put(&scene.wal, Some("X"), 1, b"x").await;
            fail::cfg("wal::sync", "return").unwrap();
            // The sync for the frames may have been, or not: this asks for one more, until one
            // has failed.
            while scene.wal.commit(&name("splunk"), checkpoint(1)).await.is_ok() {}
            assert_eq!(scene.wal.poisoned().await, "a sync failed: failpoint");
            let later = append(&scene.wal, frame(Some("Y"), 1, b"y")).await;
            assert_eq!(later, Err(AppendError::Poisoned));
        });
        close(scene.wal);
        comes_back(scene.dir.path(), Some(true));
    }
}
