//! The log against a model of it: any order of appends, checkpoints, reads, sweeps, restarts and
//! crashes. A crash is a copy of the files while the log is open: what was answered was synced,
//! so it must be in the copy; of what was not answered, a prefix may be.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::*;

/// A frame of the model: what tells it apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    drain: u8,
    id: Option<u8>,
    messages: u32,
    body: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Op {
    Append(Frame),
    /// All on their way before the first is answered.
    Together(Vec<Frame>),
    /// `place` says where between the trim point and the end.
    Commit {
        destination: u8,
        place: prop::sample::Index,
    },
    Read {
        from: prop::sample::Index,
        until: prop::sample::Index,
    },
    Sweep,
    Reopen,
    Crash,
    /// A crash while these are on their way.
    CrashDuring(Vec<Frame>),
}

fn a_frame() -> impl Strategy<Value = Frame> {
    (0..2u8, prop::option::of(0..12u8), 0..5u32, any::<u8>(), 0..2200usize).prop_map(
        |(drain, id, messages, byte, len)| Frame { drain, id, messages, body: vec![byte; len] },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        6 => a_frame().prop_map(Op::Append),
        4 => prop::collection::vec(a_frame(), 2..8).prop_map(Op::Together),
        3 => (0..2u8, place()).prop_map(|(destination, place)| Op::Commit { destination, place }),
        3 => (place(), place()).prop_map(|(from, until)| Op::Read { from, until }),
        3 => Just(Op::Sweep),
        2 => Just(Op::Reopen),
        1 => Just(Op::Crash),
        2 => prop::collection::vec(a_frame(), 1..8).prop_map(Op::CrashDuring),
    ]
}

fn new_frame(frame: &Frame) -> NewFrame {
    let token = format!("d.{}", frame.drain);
    NewFrame {
        drain_token: Some(token.clone()),
        dedupe_scope: token,
        ..super::frame(frame.id.map(|id| id.to_string()).as_deref(), frame.messages, &frame.body)
    }
}

/// What a record says that the model knows.
fn of_record(record: &Record) -> Frame {
    let drain = record.drain_token.as_deref().unwrap().strip_prefix("d.").unwrap();
    Frame {
        drain: drain.parse().unwrap(),
        id: record.frame_id.as_deref().map(|id| id.parse().unwrap()),
        messages: record.messages,
        body: record.body.to_vec(),
    }
}

struct World {
    home: TempDir,
    runtime: Runtime,
    wal: Option<Wal>,
    /// Where the store of this moment lives.
    place: PathBuf,
    crashes: u32,
    /// Every frame there ever was.
    frames: Vec<Frame>,
    first: u64,
    checkpoints: BTreeMap<u8, u64>,
}

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("0");
        let (wal, _) = Wal::open(config(&place)).unwrap();
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap(),
            wal: Some(wal),
            home,
            place,
            crashes: 0,
            frames: Vec::new(),
            first: 0,
            checkpoints: BTreeMap::new(),
        }
    }

    fn wal(&self) -> &Wal {
        self.wal.as_ref().unwrap()
    }

    fn end(&self) -> u64 {
        self.frames.len() as u64
    }

    fn knows(&self, frame: &Frame) -> bool {
        let same = |known: &Frame| (known.drain, known.id) == (frame.drain, frame.id);
        frame.id.is_some() && self.frames.iter().any(same)
    }

    fn take(&mut self, op: Op) {
        match op {
            Op::Append(frame) => self.append(vec![frame]),
            Op::Together(frames) => self.append(frames),
            Op::Commit { destination, place } => {
                let offset = self.between(place);
                self.checkpoints.insert(destination, offset);
                let destination = destination.to_string();
                self.block_on(async |wal| commit(wal, &destination, offset).await);
            }
            Op::Read { from, until } => {
                let (from, until) = (from.index(self.frames.len() + 1) as u64, until.index(60));
                self.read(from, from + until as u64);
            }
            Op::Sweep => self.sweep(),
            Op::Reopen => {
                close(self.wal.take().unwrap());
                self.open();
                self.check();
            }
            Op::Crash => self.crash(vec![]),
            Op::CrashDuring(frames) => self.crash(frames),
        }
        assert_eq!(tail(self.wal()).end.get(), self.end());
        let messages: u64 = self.frames.iter().map(|frame| u64::from(frame.messages)).sum();
        assert_eq!(tail(self.wal()).messages, messages);
    }

    fn block_on<T>(&self, what: impl AsyncFnOnce(&Wal) -> T) -> T {
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, what(self.wal())).await.expect("no answer")
        })
    }

    fn between(&self, place: prop::sample::Index) -> u64 {
        let retained = self.frames.len() - usize::try_from(self.first).unwrap();
        self.first + place.index(retained + 1) as u64
    }

    fn append(&mut self, frames: Vec<Frame>) {
        let answers = self.block_on(async |wal| {
            let mut waiting = JoinSet::new();
            for (number, frame) in frames.into_iter().enumerate() {
                let wal = wal.clone();
                waiting.spawn(async move {
                    let appended = append(&wal, new_frame(&frame)).await.unwrap();
                    (number, frame, appended)
                });
            }
            let mut answers = waiting.join_all().await;
            // They are asked in this order, and the appender keeps it.
            answers.sort_by_key(|(number, ..)| *number);
            answers
        });
        for (_, frame, appended) in answers {
            assert_eq!(appended.duplicate, self.knows(&frame), "{frame:?}");
            if !appended.duplicate {
                assert_eq!(appended.durable.offset(), Some(Offset::new(self.end())));
                self.frames.push(frame);
            }
        }
    }

    fn read(&self, from: u64, until: u64) {
        match read(self.wal(), from, until) {
            Ok(entries) => {
                assert!(from >= self.first, "{from} is trimmed");
                let until = until.min(self.end()).max(from);
                assert_eq!(entries.len() as u64, until - from);
                let [start, end] = [from, until].map(|at| usize::try_from(at).unwrap());
                let mut before: u64 =
                    self.frames[..start].iter().map(|frame| u64::from(frame.messages)).sum();
                for (entry, frame) in entries.iter().zip(&self.frames[start..end]) {
                    assert_eq!(of_record(&entry.record), *frame);
                    assert_eq!(entry.record.messages_before, before);
                    before += u64::from(frame.messages);
                }
                assert!(entries.iter().map(|entry| entry.offset.get()).eq(from..until));
            }
            Err(ReadError::Trimmed { at, first }) => {
                assert_eq!((at.get(), first.get()), (from, self.first));
                assert!(from < self.first);
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn sweep(&mut self) {
        let lowest = self.checkpoints.values().copied().min().unwrap_or(0);
        let dropped = self.wal().sweep().unwrap();
        let (start, end) = (dropped.start.get(), dropped.end.get());
        assert_eq!(start, self.first);
        assert!(end == start || end <= lowest, "{dropped} is dropped, {lowest} still needed (P3)");
        self.first = end;
        // And nothing stays that could go.
        let catalogue = self.wal().shared.catalogue();
        let oldest = catalogue.sealed().front();
        assert!(oldest.is_none_or(|oldest| oldest.end.get() > lowest), "{oldest:?} {lowest}");
    }

    fn open(&mut self) {
        let (wal, report) = Wal::open(config(&self.place)).unwrap();
        assert!(!report.created);
        assert_eq!(report.first.get(), self.first);
        self.wal = Some(wal);
    }

    /// Everything that is retained, and every checkpoint, is as the model has it.
    fn check(&self) {
        self.read(self.first, u64::MAX / 2);
        let stored: BTreeMap<u8, u64> = self
            .wal()
            .checkpoints()
            .unwrap()
            .into_iter()
            .map(|(name, checkpoint)| {
                (name.as_str().parse().unwrap(), checkpoint.position.offset.get())
            })
            .collect();
        assert_eq!(stored, self.checkpoints);
    }

    fn crash(&mut self, on_their_way: Vec<Frame>) {
        self.crashes += 1;
        let place = self.home.path().join(self.crashes.to_string());
        let (from, to) = (self.place.join("wal"), place.join("wal"));
        self.block_on(async |wal| {
            let mut waiting = JoinSet::new();
            for frame in on_their_way.clone() {
                let wal = wal.clone();
                waiting.spawn(async move { append(&wal, new_frame(&frame)).await });
            }
            // Once round: all of them are on their way.
            tokio::task::yield_now().await;
            copy(&from, &to);
        });
        close(self.wal.take().unwrap());
        std::fs::remove_dir_all(&self.place).unwrap();
        self.place = place;
        self.open();
        // What was on its way is there up to some point, in the order in which it was sent.
        let found = tail(self.wal()).end.get();
        for frame in on_their_way {
            if self.end() < found && !self.knows(&frame) {
                self.frames.push(frame);
            }
        }
        self.check();
    }
}

/// Copies a store that is in use, as a power cut would leave it: the log file last, cut wherever
/// the appender is at that moment. A compaction in the background is waited for: files come and
/// go with it.
fn copy(from: &Path, to: &Path) {
    let names = || -> BTreeMap<PathBuf, u64> {
        let files = std::fs::read_dir(from).unwrap().map(Result::unwrap);
        // Not the log files: they grow, and are copied at last; and not the journal for people.
        let files = files.filter(|file| {
            let name = file.file_name().into_string().unwrap();
            !name.starts_with("LOG") && !is_log(&file.path())
        });
        files.map(|file| (file.path(), file.metadata().map_or(0, |data| data.len()))).collect()
    };
    let started = clock::instant();
    loop {
        drop(std::fs::remove_dir_all(to));
        std::fs::create_dir_all(to).unwrap();
        let before = names();
        let whole = before
            .keys()
            .all(|path| std::fs::copy(path, to.join(path.file_name().unwrap())).is_ok());
        let logs = std::fs::read_dir(from).unwrap().map(|file| file.unwrap().path());
        let whole = whole
            && logs
                .filter(|path| is_log(path))
                .all(|path| std::fs::copy(&path, to.join(path.file_name().unwrap())).is_ok());
        if whole && names() == before {
            return;
        }
        assert!(clock::instant() - started < PATIENCE, "the store never comes to rest");
        std::thread::yield_now();
    }
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "log")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_log_does_what_its_model_does(ops in prop::collection::vec(op(), 1..30)) {
        let mut world = World::new();
        for op in ops {
            world.take(op);
        }
        world.take(Op::Reopen);
        world.take(Op::Sweep);
        world.check();
    }
}
