//! RocksDB's files, changed behind its back: a torn tail is mended, everything else is refused
//! with what to do, and nothing passes in silence.

use std::path::PathBuf;

use super::*;
use crate::wal::rocks_log::BLOCK;

/// A store with frames that only RocksDB's log holds: a flush happens at every open.
struct Shelf {
    dir: TempDir,
    /// What was answered, in order.
    frames: Vec<(Offset, Bytes)>,
}

/// How the process ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// In order.
    Closed,
    /// As after a kill: the files as they were at that moment.
    Killed,
}

impl Shelf {
    /// Frames of various sizes, one smaller and some larger than a block.
    fn fill(sizes: &[usize], end: End) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (wal, _) = Wal::open(roomy(dir.path())).unwrap();
        let frames = run(async {
            let mut frames = Vec::new();
            for (number, size) in sizes.iter().enumerate() {
                let body = Bytes::from(vec![b'a' + u8::try_from(number % 26).unwrap(); *size]);
                let id = format!("F{number}");
                frames.push((put(&wal, Some(&id), 1, &body).await, body));
            }
            frames
        });
        match end {
            End::Closed => {
                close(wal);
                Self { dir, frames }
            }
            End::Killed => {
                let killed = tempfile::tempdir().unwrap();
                copy(&dir.path().join("wal"), &killed.path().join("wal"));
                close(wal);
                Self { dir: killed, frames }
            }
        }
    }

    fn wal(&self) -> PathBuf {
        self.dir.path().join("wal")
    }

    /// The one log file that is not empty.
    fn log(&self) -> PathBuf {
        let logs: Vec<_> = files(&self.wal(), "log");
        let full = |path: &&PathBuf| std::fs::metadata(path).unwrap().len() > 0;
        assert_eq!(logs.iter().filter(full).count(), 1, "{logs:?}");
        logs.iter().find(full).unwrap().clone()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.log();
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
    }

    fn refusal(&self) -> String {
        let error = Wal::open(roomy(self.dir.path())).unwrap_err();
        error.to_string().replace(&self.wal().display().to_string(), "WAL")
    }

    /// Opens, and expects the first `whole` frames and no more.
    #[track_caller]
    fn opens_with(&self, whole: usize) -> RecoveryReport {
        let (wal, report) = Wal::open(roomy(self.dir.path())).unwrap();
        let found = read(&wal, 0, u64::MAX).unwrap();
        let found: Vec<_> = found.into_iter().map(|e| (e.offset, e.record.body)).collect();
        assert!(found == self.frames[..whole], "{} of {whole} frames", found.len());
        // And it goes on, and what was torn is not in the way of any later start.
        assert_eq!(run(put(&wal, None, 1, b"next")).get(), whole as u64);
        close(wal);
        let (wal, again) = Wal::open(roomy(self.dir.path())).unwrap();
        assert_eq!(tail(&wal).end.get(), whole as u64 + 1);
        assert_eq!((again.torn.len(), again.given_up.len()), (0, 0));
        report
    }
}

fn roomy(dir: &Path) -> Config {
    Config { segment_size: ByteSize::mib(8), ..config(dir) }
}

pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

pub(super) fn files(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|have| have == kind)).collect();
    found.sort();
    found
}

type Change = fn(&mut [u8]);

const SIZES: [usize; 5] = [100, 3000, 80_000, 200, 50_000];

#[test]
fn a_last_record_that_is_cut_is_mended_without_hands_and_said() {
    for left in [1, 5, 7, 40, 2 * BLOCK] {
        let shelf = Shelf::fill(&SIZES, End::Killed);
        let len = std::fs::metadata(shelf.log()).unwrap().len();
        // The last frame takes more than 50,000 bytes, so it begins about there.
        let begins = len - 50_000 - 300;
        shelf.change(|bytes| {
            let keep = bytes.len() - 50_000 + left.min(49_000);
            bytes.truncate(keep);
        });
        let report = shelf.opens_with(4);
        let [torn] = &report.torn[..] else { panic!("{report:?}") };
        assert!((begins..len).contains(&torn.at), "{torn:?}, {len}");
        assert!(torn.bytes > 0 && torn.records == 0, "{torn:?}");
    }
}

#[test]
fn a_last_record_that_is_zeros_or_noise_is_mended_without_hands_and_said() {
    let tears: [Change; 4] = [
        |tail| tail.fill(0),
        |tail| fastrand::Rng::with_seed(1).fill(tail),
        // Pages that came to the disk out of order: the last ones are there, one is not.
        |tail| tail[4096..8192].fill(0),
        |tail| tail[100] ^= 1,
    ];
    for (number, tear) in tears.into_iter().enumerate() {
        let shelf = Shelf::fill(&SIZES, End::Killed);
        shelf.change(|bytes| {
            let from = bytes.len() - 50_000;
            tear(&mut bytes[from..]);
        });
        let report = shelf.opens_with(4);
        assert_eq!(report.torn.len(), 1, "tear {number}: {report:?}");
    }
}

/// The silence that this is about: RocksDB alone opens each of these without a word, with frames
/// gone that were answered.
#[test]
fn damage_that_rocksdb_takes_for_the_end_of_the_log_is_refused() {
    let changes: [(&str, Change); 5] = [
        ("a length that reaches beyond the file", |bytes| bytes[5] ^= 0x40),
        ("a type that makes the record look recycled", |bytes| bytes[6] = 5),
        ("a header of zeros", |bytes| bytes[..7].fill(0)),
        ("a type nobody knows", |bytes| bytes[6] = 200),
        ("a payload", |bytes| bytes[50] ^= 1),
    ];
    for (what, change) in changes {
        for end in [End::Closed, End::Killed] {
            let shelf = Shelf::fill(&[100, 200, 300], end);
            shelf.change(|bytes| change(bytes));
            let before = std::fs::read(shelf.log()).unwrap();
            let said = shelf.refusal();
            assert!(said.contains(".log is damaged at byte 0; "), "{what}: {said}");
            assert!(said.contains("records that were acknowledged lie behind that"), "{said}");
            assert!(said.contains("`forebay serve --recover`"), "{said}");
            assert_eq!(std::fs::read(shelf.log()).unwrap(), before, "nothing was changed");
        }
    }
}

/// A store that was closed ends in a record that holds nothing: so the last frame is not the last
/// record, and damage to it is not taken for a torn write.
#[test]
fn damage_to_the_last_frame_of_a_closed_store_is_refused() {
    let shelf = Shelf::fill(&SIZES, End::Closed);
    shelf.change(|bytes| {
        let at = bytes.len() - 1000;
        bytes[at] ^= 1;
    });
    assert!(shelf.refusal().contains(".log is damaged at byte "), "{}", shelf.refusal());
    // And damage to that record costs nothing.
    let shelf = Shelf::fill(&SIZES, End::Closed);
    shelf.change(|bytes| *bytes.last_mut().unwrap() ^= 1);
    assert_eq!(shelf.opens_with(5).torn.len(), 1);
}

#[test]
fn a_log_file_that_is_gone_is_noticed() {
    for end in [End::Closed, End::Killed] {
        let shelf = Shelf::fill(&[100, 200, 300], end);
        // A start at which everything was well, so that something is known about this log.
        if end == End::Killed {
            let (wal, _) = Wal::open(roomy(shelf.dir.path())).unwrap();
            run(put(&wal, None, 1, b"one more"));
            wal.sweep().unwrap();
            let killed = tempfile::tempdir().unwrap();
            copy(&shelf.wal(), &killed.path().join("wal"));
            close(wal);
            let killed = Shelf { dir: killed, frames: Vec::new() };
            std::fs::remove_file(killed.log()).unwrap();
            let wanted = "WAL: the log ends at offset 3, but had come to 4 when it was last looked at: at least 1 acknowledged frames \
                          are missing";
            assert!(killed.refusal().starts_with(wanted), "{}", killed.refusal());
            continue;
        }
        std::fs::remove_file(shelf.log()).unwrap();
        let said = shelf.refusal();
        assert!(said.contains("the log ends at offset 0, but had come to 3"), "{said}");
    }
}

#[test]
fn a_store_that_lost_its_current_file_is_not_made_anew() {
    let shelf = Shelf::fill(&[100, 200], End::Closed);
    std::fs::remove_file(shelf.wal().join("CURRENT")).unwrap();
    let said = shelf.refusal();
    assert!(said.starts_with("WAL/CURRENT is missing, but WAL/"), "{said}");
    std::fs::write(shelf.wal().join("CURRENT"), "MANI").unwrap();
    let said = shelf.refusal();
    assert!(
        said.starts_with("WAL/CURRENT: does not name a MANIFEST: the file is damaged"),
        "{said}"
    );
}

#[test]
fn recover_keeps_what_is_whole_and_counts_what_is_not() {
    let shelf = Shelf::fill(&SIZES, End::Killed);
    {
        let (wal, _) = Wal::open(roomy(shelf.dir.path())).unwrap();
        run(async {
            commit(&wal, "slow", 0).await;
            wal.commit(
                &name("fast"),
                Checkpoint {
                    position: Position::at(Offset::new(5)),
                    totals: crate::record::Totals { acknowledged: 5, ..Default::default() },
                    ..Checkpoint::default()
                },
            )
            .await
            .unwrap();
            for number in 5..9 {
                put(&wal, None, 2, format!("{number}").as_bytes()).await;
            }
        });
        close(wal);
    }
    // In the middle of what the log holds: frame 6.
    shelf.change(|bytes| {
        let needle = b"J\x016";
        let at = bytes.windows(3).position(|window| window == needle).expect("the body of frame 6");
        bytes[at + 2] ^= 1;
    });
    assert!(shelf.refusal().contains("--recover"), "{}", shelf.refusal());
    let on_damage = OnDamage { recover: true, ..OnDamage::default() };
    let (wal, report) = Wal::open(Config { on_damage, ..roomy(shelf.dir.path()) }).unwrap();
    let lost = crate::types::OffsetRange { start: Offset::new(6), end: Offset::new(7) };
    assert_eq!(report.given_up, [lost]);
    assert_eq!((tail(&wal).end.get(), tail(&wal).messages), (9, 13));
    let [gap] = &wal.gaps()[..] else { panic!("{:?}", wal.gaps()) };
    assert_eq!(
        (gap.cause, gap.range, gap.messages_before, gap.messages),
        (GapCause::Damage, lost, 7, 2)
    );
    assert_eq!(gap.losses, [(name("fast"), 2), (name("slow"), 2)]);
    // The reader stops before it, and then says what it is.
    assert_eq!(read(&wal, 0, 9).unwrap().len(), 6);
    let error = read(&wal, 6, 9).unwrap_err();
    assert!(
        matches!(error, ReadError::GivenUp { range, messages_end: 9 } if range == lost),
        "{error}"
    );
    assert_eq!(read(&wal, 7, 9).unwrap().len(), 2);
    assert_eq!(files(&shelf.wal(), "damaged").len(), 1, "the damaged file is kept");
    close(wal);
    // Nothing has to be said a second time.
    let (wal, report) = Wal::open(roomy(shelf.dir.path())).unwrap();
    assert_eq!((report.given_up.len(), tail(&wal).end.get(), tail(&wal).messages), (0, 9, 13));
    assert_eq!(wal.gaps().len(), 1);
    assert_eq!(run(put(&wal, None, 1, b"next")).get(), 9);
}

#[test]
fn recover_goes_on_behind_a_lost_end_and_gives_no_offset_out_twice() {
    let shelf = Shelf::fill(&[100, 200, 300], End::Closed);
    std::fs::remove_file(shelf.log()).unwrap();
    let on_damage = OnDamage { recover: true, ..OnDamage::default() };
    let (wal, report) = Wal::open(Config { on_damage, ..roomy(shelf.dir.path()) }).unwrap();
    assert_eq!(report.given_up.len(), 1, "{report:?}");
    assert_eq!((tail(&wal).end.get(), tail(&wal).messages), (3, 3));
    assert_eq!(run(put(&wal, None, 1, b"next")).get(), 3);
    close(wal);
    let (wal, report) = Wal::open(roomy(shelf.dir.path())).unwrap();
    assert_eq!((report.given_up.len(), tail(&wal).end.get(), tail(&wal).messages), (0, 4, 4));
    assert_eq!(read(&wal, 3, 4).unwrap().len(), 1);
}

#[test]
fn an_open_that_hangs_is_ended() {
    let dir = Path::new("/data");
    let (held, hangs) = crossbeam_channel::bounded::<()>(0);
    let error = preflight::within(Duration::from_millis(20), dir, move || {
        // Ends with the test.
        assert!(hangs.recv().is_err());
        Ok(())
    })
    .unwrap_err()
    .to_string();
    drop(held);
    let wanted = "/data: RocksDB has not opened the store within 20ms, and hangs: ";
    assert!(error.starts_with(wanted), "{error}");
    assert!(preflight::within(PATIENCE, dir, || Ok(7)).is_ok_and(|seven| seven == 7));
    let error = preflight::within::<()>(PATIENCE, dir, || panic!("no")).unwrap_err();
    assert_eq!(error.to_string(), "/data: bug: opening has panicked");
}
