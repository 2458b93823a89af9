//! What the kernel knows of a process.

use std::fs;
use std::ops::Sub;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// What a process has used up to a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// User and system time, in seconds.
    pub(super) cpu: f64,
    /// Bytes it has had written to the disk.
    pub(super) written: u64,
}

impl Sub for Used {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { cpu: self.cpu - before.cpu, written: self.written - before.written }
    }
}

impl Used {
    pub(super) fn of(process: u32) -> Self {
        let stat = read(process, "stat");
        // The name, in parentheses, may hold anything; the fields count from behind it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).unwrap().parse::<f64>().unwrap();
        // utime and stime are fields 14 and 15 of the whole line.
        let cpu = (ticks(11) + ticks(12)) / ticks_a_second();
        Self { cpu, written: number(&read(process, "io"), "write_bytes:") }
    }
}

/// The most memory it ever had, in bytes.
pub(super) fn peak_memory(process: u32) -> u64 {
    number(&read(process, "status"), "VmHWM:") * 1024
}

/// The memory it has now, in bytes.
pub(super) fn memory(process: u32) -> u64 {
    number(&read(process, "status"), "VmRSS:") * 1024
}

/// Files below a directory, and the bytes they hold on the disk.
pub(super) fn files(dir: &Path) -> (usize, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let (mut count, mut bytes) = (0, 0);
    // Files come and go meanwhile.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            let below = files(&entry.path());
            (count, bytes) = (count + below.0, bytes + below.1);
        } else {
            (count, bytes) = (count + 1, bytes + metadata.blocks() * 512);
        }
    }
    (count, bytes)
}

fn read(process: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/{file}")).expect("the relay runs")
}

fn number(text: &str, key: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    value.and_then(|value| value.split_whitespace().next()).unwrap().parse().unwrap()
}

fn ticks_a_second() -> f64 {
    static TICKS: OnceLock<f64> = OnceLock::new();
    *TICKS.get_or_init(|| {
        let said = Command::new("getconf").arg("CLK_TCK").output().ok();
        let text = said.and_then(|said| String::from_utf8(said.stdout).ok());
        // 100 on every Linux that anybody has built in years.
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(100.0)
    })
}
