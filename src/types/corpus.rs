//! The inputs that fuzzing starts from, for the tests that replay them.

use std::path::Path;

/// Every file of `tests/fuzz/corpus/<target>`, by name, so that a failure names the file.
pub(crate) fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut all: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    all.sort();
    assert!(all.len() >= 5, "{} has {} files", directory.display(), all.len());
    all
}
