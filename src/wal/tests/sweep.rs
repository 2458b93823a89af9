//! Every byte of a small store flipped in turn, every file cut and taken away: each either costs
//! nothing, or is refused and named. Never a panic, never silence. And whatever is refused has a way
//! on: one of the flags opens the store, without what was damaged and with all else, or the refusal
//! says that only a copy helps.

use std::path::PathBuf;

use super::torn::copy;
use super::*;
use crate::wal::witness;

/// A store with table files and with a log: what was answered is in both.
struct Store {
    dir: TempDir,
    frames: Vec<(Offset, Bytes)>,
}

fn small(dir: &Path) -> Config {
    Config { segment_size: ByteSize::bytes(2000), ..config(dir) }
}

fn store() -> Store {
    let dir = tempfile::tempdir().unwrap();
    let mut frames = Vec::new();
    for round in 0..2 {
        let (wal, _) = Wal::open(small(dir.path())).unwrap();
        run(async {
            for number in 0..4 {
                let body = Bytes::from(format!("round {round} number {number} ").repeat(10));
                let id = format!("{round}-{number}");
                frames.push((put(&wal, Some(&id), 1, &body).await, body));
            }
            commit(&wal, "splunk", 1).await;
        });
        close(wal);
    }
    Store { dir, frames }
}

/// The worst that a flag gave up in a sweep, and how often none helped.
#[derive(Debug, Default)]
struct Ways {
    /// Frames of one refused store that were given up, at most.
    lost: usize,
    opened: usize,
    /// Only a copy helps.
    none: usize,
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Every frame is there.
    Whole,
    /// The start was refused.
    Refused,
    /// The reader named the damage.
    Named,
}

/// Goes on after a refusal, as an operator would: with one flag, with the other, with both.
#[track_caller]
fn go_on(store: &Store, dir: &Path, what: &str, flags: &[(bool, bool)], ways: &mut Ways) {
    let mut said = String::new();
    for (recover, skip_damaged) in flags.iter().copied() {
        let on_damage = OnDamage { recover, skip_damaged };
        match Wal::open(Config { on_damage, ..small(dir) }) {
            Ok((wal, _)) => {
                ways.opened += 1;
                ways.lost = ways.lost.max(lost(store, &wal, what));
                assert!(wal.checkpoints().is_ok(), "{what}: the cursors");
                close(wal);
                // Nothing has to be said a second time, and no offset is given out twice.
                let (wal, _) = Wal::open(small(dir)).unwrap_or_else(|e| panic!("{what}: then {e}"));
                let next = run(put(&wal, None, 1, b"next"));
                assert!(next.get() >= store.frames.len() as u64, "{what}: {next} again");
                close(wal);
                return;
            }
            Err(error) => said = error.to_string(),
        }
    }
    ways.none += 1;
    assert!(said.contains("copy"), "{what}: there is no way on, and this says none: {said}");
}

/// How many frames are given up. All others are there, byte for byte.
#[track_caller]
fn lost(store: &Store, wal: &Wal, what: &str) -> usize {
    let (mut lost, mut at) = (0, 0);
    while at < store.frames.len() {
        let mut found = Vec::new();
        let end = Offset::new(store.frames.len() as u64);
        let read = wal.reader().read(Offset::new(at as u64), end, |entry| {
            found.push((entry.offset, entry.record.body));
            ControlFlow::Continue(())
        });
        assert_eq!(found, store.frames[at..at + found.len()], "{what}");
        at += found.len();
        match read {
            Ok(_) => {}
            Err(ReadError::GivenUp { range, .. }) => {
                let end = usize::try_from(range.end.get()).unwrap();
                lost += end - at;
                at = end;
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
    let tail = tail(wal);
    assert_eq!(tail.messages, store.frames.len() as u64, "{what}: {tail:?}");
    lost
}

/// Starts on a copy, reads everything, and accepts no loss that is not named.
#[track_caller]
fn look(store: &Store, dir: &Path, what: &str) -> Outcome {
    let wal = match Wal::open(small(dir)) {
        Ok((wal, _)) => wal,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return Outcome::Refused;
        }
    };
    let outcome = match read(&wal, 0, u64::MAX) {
        Err(_) => Outcome::Named,
        Ok(found) => {
            let found: Vec<_> = found.into_iter().map(|e| (e.offset, e.record.body)).collect();
            assert!(found == store.frames, "{what}: {} frames in silence", found.len());
            // A checkpoint that is gone would send again, and one that is wrong would skip.
            match wal.checkpoint(&name("splunk")) {
                Ok(found) => assert_eq!(found, Some(checkpoint(1)), "{what}: the checkpoint"),
                Err(_) => return Outcome::Named,
            }
            Outcome::Whole
        }
    };
    close(wal);
    outcome
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = all.filter(|path| path.is_file()).collect();
    all.sort();
    all
}

/// Files that hold no data: RocksDB makes them anew, or does not look at them.
fn holds_data(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    !(name.starts_with("LOG") || name.starts_with("OPTIONS") || name == "LOCK")
}

fn try_each(
    store: &Store,
    changes: impl Iterator<Item = (PathBuf, String, Vec<u8>)>,
    ways: &mut Ways,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (file, what, bytes) in changes {
        let copy_dir = tempfile::tempdir().unwrap();
        let wal = copy_dir.path().join("wal");
        copy(&store.dir.path().join("wal"), &wal);
        let path = wal.join(file.file_name().unwrap());
        if what.starts_with("without") {
            std::fs::remove_file(&path).unwrap();
        } else {
            std::fs::write(&path, bytes).unwrap();
        }
        let outcome = look(store, copy_dir.path(), &what);
        match outcome {
            Outcome::Whole => {}
            Outcome::Refused => {
                let flags = [(true, false), (false, true), (true, true)];
                go_on(store, copy_dir.path(), &what, &flags, ways);
            }
            // It opens, and a destination cannot go on.
            Outcome::Named => go_on(store, copy_dir.path(), &what, &[(false, true)], ways),
        }
        outcomes.push(outcome);
    }
    outcomes
}

#[test]
fn every_flipped_bit_of_a_small_store_costs_nothing_or_is_named() {
    let store = store();
    let mut refused = 0;
    let mut opened = 0;
    for path in names(&store.dir.path().join("wal")).into_iter().filter(|path| holds_data(path)) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        // Every place of the headers of a log's first records, and a sample of all others.
        let every = bytes.len().div_ceil(60).max(1);
        let places = (0..bytes.len()).filter(|at| *at < 16 || at % every == 0);
        let flips = places.map(|at| {
            let mut changed = bytes.clone();
            let bit = 1 << (at % 8);
            changed[at] ^= bit;
            (path.clone(), format!("{name}: byte {at} of {}, bit {bit}", bytes.len()), changed)
        });
        let mut ways = Ways::default();
        let outcomes = try_each(&store, flips, &mut ways);
        println!("{name}: {ways:?}");
        opened += ways.opened;
        if name.ends_with(".log") {
            assert!(ways.lost <= 1, "{name}: more than the damaged batch is lost: {ways:?}");
            assert_eq!(ways.none, 0, "{name}");
        }
        refused += outcomes.iter().filter(|outcome| **outcome != Outcome::Whole).count();
        if name == witness::FILE {
            assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Whole), "{name}");
        }
    }
    assert!(refused > 100, "a sweep that finds nothing has looked at nothing: {refused}");
    assert!(opened > 100, "and there is a way on: {opened}");
}

#[test]
fn every_cut_and_every_missing_file_costs_nothing_or_is_named() {
    let store = store();
    let wal = store.dir.path().join("wal");
    for path in names(&wal).into_iter().filter(|path| holds_data(path)) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        let len = bytes.len();
        let lengths = (0..12).map(|part| len * part / 12).chain([len.saturating_sub(1)]);
        let cuts = lengths.map(|len| {
            (
                path.clone(),
                format!("{name}: cut to {len} of {}", bytes.len()),
                bytes[..len].to_vec(),
            )
        });
        let zeros = (0..4).map(|part| {
            let mut changed = bytes.clone();
            changed[len * part / 4..].fill(0);
            (path.clone(), format!("{name}: zeros from {part}/4"), changed)
        });
        let gone = [(path.clone(), format!("without {name}"), Vec::new())];
        let mut ways = Ways::default();
        try_each(&store, cuts.chain(zeros).chain(gone), &mut ways);
        println!("{name}: {ways:?}");
    }
}
