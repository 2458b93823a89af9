//! A write that fails for real. The limit on the size of files belongs to a whole process, so the
//! test starts itself again as a child that has one.

use std::process::Command;

use super::*;

const CHILD: &str = "FOREBAY_POISON_TEST_DIR";
const BODY: usize = 64 * 1024;

#[test]
fn a_failed_write_is_final_and_takes_nothing_that_was_answered() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return child(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    // Without the signal, which would kill it, a write past the limit fails with EFBIG.
    // 4 MiB in blocks of 512 bytes: the log's file reaches that first.
    let script = "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\"";
    let this = "wal::tests::poison::a_failed_write_is_final_and_takes_nothing_that_was_answered";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    let answered = stdout.lines().find_map(|line| line.split_once("answered ")).unwrap().1;
    let answered: u64 = answered.trim().parse().unwrap();
    assert!(answered > 10, "{answered}");

    // The next start finds every frame that was answered, and at most the one that was not.
    let wal = open(&dir);
    let entries = read(&wal, 0, u64::MAX).unwrap();
    let end = tail(&wal).end.get();
    assert!((answered..=answered + 1).contains(&end), "{answered} answered, {end} found");
    assert!(entries.iter().all(|entry| entry.record.body.len() == BODY));
    assert_eq!(run(put(&wal, None, 1, b"next")).get(), end, "and the log goes on");
}

fn child(dir: &Path) {
    let (wal, _) = Wal::open(config(dir)).unwrap();
    run(async {
        let mut answered: u64 = 0;
        let error = loop {
            match append(&wal, frame(None, 1, &[b'x'; BODY])).await {
                Ok(_) => answered += 1,
                Err(error) => break error,
            }
            assert!(answered < 1000, "no write fails");
        };
        assert_eq!(error, AppendError::Poisoned);
        let why = wal.poisoned().await;
        assert!(why.starts_with("a write failed: "), "{why}");
        assert_eq!(wal.status().poisoned, Some(why));
        // For good, and for everyone.
        assert_eq!(append(&wal, frame(None, 1, b"small")).await, Err(AppendError::Poisoned));
        assert_eq!(wal.commit(&name("splunk"), checkpoint(1)).await, Err(CommitError::Poisoned));
        assert!(wal.sweep().is_ok_and(|dropped| dropped.is_empty()));
        // What is durable can still be read.
        assert_eq!(tail(&wal).end.get(), answered);
        assert_eq!(read(&wal, 0, u64::MAX).unwrap().len() as u64, answered);
        println!("answered {answered}");
    });
    close(wal);
}
