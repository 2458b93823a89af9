//! A disk that can be told to be slow, or to fail: `slow_sync.c` between forebay and libc.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{SOON, eventually};

/// The shim, compiled, and the directory through which it is told what to do.
#[derive(Debug)]
pub(crate) struct Shim {
    library: PathBuf,
    control: PathBuf,
    data_dir: PathBuf,
}

impl Shim {
    /// Compiles it. None, and a loud word, on a machine without a C compiler.
    pub(crate) fn build(dir: &Path, data_dir: &Path) -> Option<Self> {
        let (library, control) = (dir.join("slow_sync.so"), dir.join("control"));
        fs::create_dir(&control).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/slow_sync.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .output();
        match compiled {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "cc: {said}");
                Some(Self { library, control, data_dir: data_dir.to_owned() })
            }
            Err(error) => {
                eprintln!("SKIPPED, NOTHING IS PROVEN: no C compiler `cc`: {error}");
                None
            }
        }
    }

    /// What forebay has to be started with.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        vec![
            ("LD_PRELOAD".to_owned(), path(&self.library)),
            ("SLOW_SYNC_CONTROL".to_owned(), path(&self.control)),
            ("SLOW_SYNC_DATA".to_owned(), path(&self.data_dir)),
        ]
    }

    /// From now on, syncs of the log do not return.
    pub(crate) fn hold(&self) {
        fs::write(self.control.join("hold"), "").unwrap();
    }

    /// Whether a sync waits.
    pub(crate) fn holds_one(&self) -> bool {
        self.control.join("reached").exists()
    }

    pub(crate) async fn until_it_holds_one(&self) {
        eventually(SOON, "a sync of the log is held", async || self.holds_one()).await;
    }

    /// Syncs return again.
    pub(crate) fn release(&self) {
        fs::remove_file(self.control.join("reached")).ok();
        fs::remove_file(self.control.join("hold")).unwrap();
    }

    /// From now on, each sync of the log takes this long, and the disk's own time.
    pub(crate) fn delay(&self, time: Duration) {
        fs::write(self.control.join("delay_ms"), time.as_millis().to_string()).unwrap();
    }

    /// The next sync of the log fails.
    pub(crate) fn fail_next_sync(&self) {
        fs::write(self.control.join("fail_sync"), "").unwrap();
    }

    /// The next write to the log fails.
    pub(crate) fn fail_next_write(&self) {
        fs::write(self.control.join("fail_write"), "").unwrap();
    }

    /// Whether what was to fail has failed.
    pub(crate) fn has_failed(&self) -> bool {
        !self.control.join("fail_sync").exists() && !self.control.join("fail_write").exists()
    }

    /// How many syncs of the log have returned.
    pub(crate) fn syncs(&self) -> usize {
        fs::read(self.control.join("syncs")).map_or(0, |bytes| bytes.len())
    }
}
