//! Faults of a real file system. Each test runs itself again in a mount namespace of its own,
//! which goes with the process.

use std::path::PathBuf;
use std::process::Command;

use super::*;

const CHILD: &str = "FOREBAY_FAULT_TEST_DIR";

/// In the child: a small file system of its own. In the parent: none, when the child has passed.
fn small_disk(test: &str, size: &str) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os(CHILD) {
        return Some(dir.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let mount =
        format!("mount -t tmpfs -o size={size} none \"${CHILD}\" || exit 77; exec \"$0\" \"$@\"");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &mount])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("wal::tests::faults::{test}"), "--nocapture"])
        .env(CHILD, dir.path())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("1 passed"), "{said}");
        }
        Ok(output) if output.status.code() != Some(77) && rustix::process::geteuid().is_root() => {
            let said = String::from_utf8_lossy(&output.stderr);
            // unshare itself is not allowed everywhere, root or not.
            if said.contains("unshare") && said.contains("not permitted") {
                println!("SKIPPED 1 of the tests of a full disk: {said}");
            } else {
                panic!("{}\n{}\n{said}", output.status, String::from_utf8_lossy(&output.stdout));
            }
        }
        other => println!("SKIPPED 1 of the tests of a full disk: no mount here: {other:?}"),
    }
    None
}

fn mount(dir: &Path, options: &str) {
    let status = Command::new("mount").args(["-o", options]).arg(dir).status().unwrap();
    assert!(status.success(), "mount -o {options}");
}

const BODY: usize = 256 << 10;

/// What lz4 cannot make smaller.
fn noise(number: u64) -> Vec<u8> {
    let mut chance = fastrand::Rng::with_seed(number);
    (0..BODY).map(|_| chance.u8(..)).collect()
}

/// Appends until it fails, and returns how many frames were answered, and what ended it.
async fn until_it_fails(wal: &Wal) -> (u64, AppendError) {
    for number in 0..1000 {
        match append(wal, frame(Some(&format!("F{number}")), 1, &noise(number))).await {
            Ok(appended) => assert_eq!(appended.durable.offset(), Some(Offset::new(number))),
            Err(error) => return (number, error),
        }
    }
    panic!("the disk is not full");
}

fn all_is_there(wal: &Wal, answered: u64) {
    let entries = read(wal, 0, u64::MAX).unwrap();
    assert!(entries.len() as u64 >= answered, "{} of {answered}", entries.len());
    for (number, entry) in (0..).zip(entries) {
        assert!(entry.record.body == noise(number), "frame {number}");
    }
}

/// With no reserve, the disk runs full under RocksDB itself.
#[test]
fn a_full_disk_takes_nothing_that_was_answered_and_is_over_when_there_is_space() {
    let Some(disk) = small_disk(
        "a_full_disk_takes_nothing_that_was_answered_and_is_over_when_there_is_space",
        "128m",
    ) else {
        return;
    };
    let large = Config { segment_size: ByteSize::mib(8), ..config(&disk) };
    let (wal, _) = Wal::open(large.clone()).unwrap();
    let (answered, error) = run(until_it_fails(&wal));
    assert_eq!(error, AppendError::Poisoned);
    assert!(answered > 60, "{answered}");
    all_is_there(&wal, answered);
    close(wal);
    // As long as the cause lasts, a start may fail, and takes nothing either.
    if let Err(error) = Wal::open(large.clone()) {
        println!("still full: {error}");
    }
    mount(&disk, "remount,size=500m");
    let (wal, report) = Wal::open(large).unwrap();
    assert_eq!(report.given_up, []);
    all_is_there(&wal, answered);
    assert!(run(append(&wal, frame(None, 1, b"next"))).is_ok());
}

/// RocksDB may have to write eight write buffers, 128 MiB, for what is in its log already. With a
/// reserve above that it never comes to that: frames are refused, and taken again, without a restart.
#[test]
fn a_reserve_is_kept_and_frames_are_taken_again_when_there_is_space() {
    let Some(disk) =
        small_disk("a_reserve_is_kept_and_frames_are_taken_again_when_there_is_space", "384m")
    else {
        return;
    };
    let reserved =
        Config { segment_size: ByteSize::mib(8), min_free: ByteSize::mib(160), ..config(&disk) };
    let (wal, _) = Wal::open(reserved).unwrap();
    let (answered, error) = run(until_it_fails(&wal));
    assert_eq!((error, wal.status().poisoned), (AppendError::NoSpace, None));
    run(commit(&wal, "splunk", 1));
    mount(&disk, "remount,size=500m");
    let started = clock::instant();
    run(async {
        while append(&wal, frame(Some("next"), 1, &noise(answered))).await.is_err() {
            assert!(clock::instant() - started < PATIENCE);
            tokio::task::yield_now().await;
        }
    });
    all_is_there(&wal, answered + 1);
}

#[test]
fn a_file_system_that_is_read_only_is_named_and_opens_when_it_is_not() {
    let Some(disk) =
        small_disk("a_file_system_that_is_read_only_is_named_and_opens_when_it_is_not", "64m")
    else {
        return;
    };
    let wal = Wal::open(config(&disk)).unwrap().0;
    run(fill(&wal, 5));
    close(wal);
    mount(&disk, "remount,ro");
    let error = Wal::open(config(&disk)).unwrap_err().to_string();
    assert!(error.contains("Read-only file system"), "{error}");
    mount(&disk, "remount,rw");
    let wal = Wal::open(config(&disk)).unwrap().0;
    assert_eq!(read(&wal, 0, 9).unwrap().len(), 5);
}

/// Whoever has a deleted file open can go on writing into it: that must not be taken for a disk.
#[test]
fn files_that_are_deleted_under_a_running_log_end_it() {
    let gone: [fn(&Path); 3] = [
        |wal| std::fs::remove_dir_all(wal).unwrap(),
        |wal| std::fs::remove_file(wal.join("CURRENT")).unwrap(),
        |wal| torn::files(wal, "log").iter().for_each(|log| std::fs::remove_file(log).unwrap()),
    ];
    for (number, remove) in gone.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(&dir);
        run(async {
            fill(&wal, 5).await;
            remove(&dir.path().join("wal"));
            let started = clock::instant();
            let error = loop {
                match append(&wal, frame(None, 1, b"x")).await {
                    Ok(_) => assert!(clock::instant() - started < PATIENCE, "{number}: for ever"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error, AppendError::Poisoned, "{number}");
            // The disk is looked at twenty times a second.
            let why = wal.poisoned().await;
            assert!(why.ends_with("was deleted while the log was open"), "{number}: {why}");
        });
        drop(wal);
        // What is left is refused, or, where nothing is, begun anew.
        match Wal::open(config(dir.path())) {
            Ok((wal, report)) => {
                assert!(number == 0 && report.created, "{number}: {:?}", tail(&wal))
            }
            Err(error) => assert!(number > 0 && !error.to_string().is_empty(), "{error}"),
        }
    }
}
