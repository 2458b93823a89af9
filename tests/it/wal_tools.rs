use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use forebay::simulate::ledger::audit;

use crate::support::{Frame, Hec, Lab, PASSWORD, Ran, SOON, USER, number, run};

/// Runs `forebay wal …` on the log of a lab.
fn wal(lab: &Lab, args: &[&str]) -> Ran {
    let dir = lab.data_dir();
    let place = ["--data-dir", dir.to_str().unwrap()];
    run(&[&["wal", args[0]], &place, &args[1..]].concat())
}

/// A relay with three frames: two messages, one that is blank, and one of another drain.
async fn three(lab: &mut Lab) {
    lab.start().await;
    let mut client = lab.client().await;
    assert_eq!(client.post(&Frame::new("0A", &["one", "two \u{1b}[31m"])).await, 200);
    assert_eq!(client.post(&Frame::new("0B", &["  "])).await, 200);
    let other = Frame {
        drain: Some("d.00000000-another".to_owned()),
        query: "?app=the%20shop",
        ..Frame::new("0C", &["three"])
    };
    assert_eq!(client.post(&other).await, 200);
    lab.drained(SOON).await;
}

#[tokio::test]
async fn a_log_is_shown_while_the_relay_runs_and_when_it_is_stopped() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    three(&mut lab).await;
    let pid = lab.process().id();
    for running in [true, false] {
        if !running {
            lab.stop().await;
        }
        let info = wal(&lab, &["info", "--json"]).json();
        assert_eq!(info["in_use_by"], if running { serde_json::json!(pid) } else { ().into() });
        assert_eq!((&info["first_offset"], &info["end_offset"]), (&0.into(), &3.into()), "{info}");
        assert_eq!(info["messages"], 4, "{info}");
        assert_eq!(info["cursors"][0]["name"], "splunk");
        assert_eq!(info["segments"][0]["sealed"], false);
        let shown = wal(&lab, &["info"]);
        assert!(shown.stdout.contains("offsets   [0, 3): 3 frames"), "{shown:?}");

        let verified = wal(&lab, &["verify"]);
        assert_eq!((verified.code, verified.stderr.as_str()), (Some(0), ""), "{verified:?}");
        assert!(
            verified.stdout.contains("read 3 frames of [0, 3) with 4 messages"),
            "{verified:?}"
        );
        assert!(
            verified.stdout.ends_with("3 frame ids, 1 cursors: nothing is wrong\n"),
            "{verified:?}"
        );
        let sums = wal(&lab, &["verify", "--json"]).json();
        assert_eq!((&sums["defects"], &sums["frames"]), (&0.into(), &3.into()), "{sums}");
    }
    in_terminal(&lab);
    // The relay that was looked at goes on from where it was.
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("0D", &["four"])).await, 200);
    lab.drained(SOON).await;
}

/// On a terminal there are a bar and colours, and `NO_COLOR` takes the colours away.
fn in_terminal(lab: &Lab) {
    let typed = |environment: &str| {
        let inside = format!(
            "stty rows 24 cols 100; {environment} {} wal verify --data-dir {}",
            env!("CARGO_BIN_EXE_forebay"),
            lab.data_dir().display()
        );
        let ran = Command::new("script")
            .args(["--quiet", "--return", "--command", &inside, "/dev/null"])
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::null())
            .output();
        ran.map(|ran| String::from_utf8(ran.stdout).unwrap())
    };
    let Ok(colourful) = typed("NO_COLOR=") else {
        eprintln!("SKIPPED: there is no `script` of util-linux here, so no terminal");
        return;
    };
    assert!(colourful.contains("/3 frames"), "{colourful:?}");
    assert!(colourful.contains("\u{1b}[32mnothing is wrong\u{1b}[0m"), "{colourful:?}");
    let plain = typed("NO_COLOR=1").unwrap();
    assert!(plain.contains(": nothing is wrong"), "{plain:?}");
}

#[tokio::test]
async fn frames_are_dumped_by_range_time_drain_and_app() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    three(&mut lab).await;
    lab.stop().await;
    let offsets = |args: &[&str]| -> Vec<u64> {
        let ran = wal(&lab, &[&["dump", "--json"], args].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        ran.json_lines().iter().map(|frame| frame["offset"].as_u64().unwrap()).collect()
    };
    for (args, wanted) in [
        (&[][..], &[0, 1, 2][..]),
        (&["--from", "1"], &[1, 2]),
        (&["--from", "1", "--to", "2"], &[1]),
        (&["--from", "7"], &[]),
        (&["--limit", "2"], &[0, 1]),
        (&["--since", "-1h"], &[0, 1, 2]),
        (&["--until", "-1h"], &[]),
        (&["--since", "2026-01-02T03:04:05Z"], &[0, 1, 2]),
        (&["--since", "2999-01-01T00:00:00Z"], &[]),
        (&["--drain", "d.fc6b856b"], &[0, 1]),
        (&["--app", "the shop"], &[2]),
    ] {
        assert_eq!(offsets(args), wanted, "{args:?}");
    }
    let frames = wal(&lab, &["dump", "--json", "--limit", "1"]).json_lines();
    assert_eq!(frames[0]["messages"][1]["text"], "two \u{1b}[31m");
    assert_eq!(frames[0]["messages"][1]["event_id"], "0A:1");
    assert_eq!(frames[0]["drain"], "d.fc6b85", "a token is not shown whole");

    let text = wal(&lab, &["dump"]).stdout;
    assert!(text.contains("app web.1 - one\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "a message cannot steer the terminal: {text:?}");
    let raw = wal(&lab, &["dump", "--raw", "--to", "1"]).stdout;
    assert_eq!(raw.into_bytes(), Frame::new("0A", &["one", "two \u{1b}[31m"]).body);

    let lines = wal(&lab, &["export"]).json_lines();
    let texts: Vec<_> = lines.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["one", "two \u{1b}[31m", "  ", "three"]);
    assert_eq!((&lines[3]["app"], &lines[3]["kind"]), (&"the shop".into(), &"app".into()));

    for wrong in [&["dump", "--since", "yesterday"][..], &["dump", "--raw", "--json"]] {
        assert_eq!(wal(&lab, wrong).code, Some(64), "{wrong:?}");
    }
    let nothing = run(&["wal", "info", "--data-dir", "/nowhere"]);
    assert_eq!(nothing.code, Some(74));
    assert!(nothing.stderr.contains("/nowhere holds no log"), "{nothing:?}");
    let nothing = run(&["wal", "info", "--config", "/nowhere/forebay.toml"]);
    assert_eq!(nothing.code, Some(78));
    assert!(nothing.stderr.contains("--data-dir"), "{nothing:?}");
}

/// A log that is in files, not only in RocksDB's own log.
async fn in_files(lab: &mut Lab, hec: &Hec) {
    lab.start().await;
    lab.send(|config| config.frames = Some(40)).end().await;
    lab.drained(SOON).await;
    lab.audit(hec);
    lab.stop().await;
    // A start moves what it finds in RocksDB's log into files.
    lab.start().await;
    lab.stop().await;
}

fn files(lab: &Lab, ending: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(lab.data_dir()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> =
        all.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    all.sort_by_key(|path| fs::metadata(path).unwrap().len());
    all
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_flipped_byte_in_a_table_file_is_found_and_what_is_whole_is_still_read() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    in_files(&mut lab, &hec).await;
    assert_eq!(wal(&lab, &["verify"]).code, Some(0));
    let records = files(&lab, "sst").pop().unwrap();
    flip(&records, 100);
    let ran = wal(&lab, &["verify"]);
    assert_eq!(ran.code, Some(74), "{ran:?}");
    let first = ran.stdout.lines().next().unwrap();
    assert!(first.starts_with("the frames [0, "), "{ran:?}");
    assert!(
        first.contains("RocksDB cannot read them: Corruption: block checksum mismatch"),
        "{first}"
    );
    let rows = wal(&lab, &["verify", "--json"]);
    assert_eq!(rows.code, Some(74));
    let rows = rows.json_lines();
    assert_eq!((&rows[0]["part"], &rows[0]["offset"]), (&"frames".into(), &0.into()), "{rows:?}");
    let (unread, sums) = (rows[0]["end_offset"].as_u64().unwrap(), rows.last().unwrap());
    assert!(unread < 40, "not the whole file is given up: {rows:?}");
    assert_eq!(sums["frames"], 40 - unread, "{rows:?}");
    // From behind the damage, frames can be had.
    let (from, left) = (unread.to_string(), usize::try_from(40 - unread).unwrap());
    let dump = wal(&lab, &["dump", "--json", "--from", &from]);
    assert_eq!((dump.code, dump.json_lines().len()), (Some(0), left));
    let dump = wal(&lab, &["dump", "--json"]);
    assert_eq!(dump.code, Some(74), "{dump:?}");
    assert!(dump.stderr.contains("cannot read the log at offset 0"), "{dump:?}");
}

#[tokio::test]
async fn a_flipped_byte_in_the_log_of_rocksdb_refuses_every_command() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    lab.send(|config| config.frames = Some(40)).end().await;
    lab.drained(SOON).await;
    lab.stop().await;
    let log = files(&lab, "log").pop().unwrap();
    let middle = usize::try_from(fs::metadata(&log).unwrap().len()).unwrap() / 2;
    flip(&log, middle);
    for command in ["verify", "info", "dump", "export"] {
        let ran = wal(&lab, &[command]);
        assert_eq!(ran.code, Some(74), "{ran:?}");
        assert!(ran.stderr.contains("the log cannot be read: "), "{ran:?}");
        assert!(ran.stderr.contains("Corruption"), "{ran:?}");
    }
}

#[tokio::test]
async fn what_is_exported_can_be_sent_again_and_the_same_messages_arrive() {
    let (first, second) = (Hec::usual(), Hec::usual());
    let mut lab = Lab::with(&first, "");
    lab.start().await;
    let report = lab
        .send(|config| {
            config.frames = Some(30);
            config.drains = number(3);
        })
        .end()
        .await;
    assert_eq!(report.end.totals.accepted_frames, 30);
    assert_eq!(lab.post(&Frame::shuttle("batch-1", "- from a shuttle")).await, 200);
    let books = lab.drained(SOON).await;
    assert_eq!(books.accepted, 601);

    // From a relay that runs.
    let file = lab.path().join("frames");
    let file = file.to_str().unwrap();
    let export = ["export", "--format", "frames", "--output", file];
    let ran = wal(&lab, &export);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("31 frames with 601 messages are in "), "{ran:?}");
    let again = wal(&lab, &export);
    assert_eq!(again.code, Some(74));
    assert!(again.stderr.contains("it exists already"), "{again:?}");

    // To a relay that knows the frames: nothing is stored twice, unless it is meant.
    let url = |lab: &Lab| format!("http://{USER}:{PASSWORD}@{}/logs", lab.ingest_address());
    let send = |lab: &Lab, more: &[&str]| {
        run(&[&["simulate", "logplex", "--quiet", "--from", file][..], more, &[&url(lab)]].concat())
    };
    let ran = send(&lab, &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("accepted   601 messages in 31 frames"), "{ran:?}");
    assert_eq!(lab.status().await["log"]["end_offset"], 31);
    assert_eq!(send(&lab, &["--new-ids", "--frames", "5"]).code, Some(0));
    assert_eq!(lab.status().await["log"]["end_offset"], 36);

    // To a new one.
    let mut other = Lab::with(&second, "");
    other.start().await;
    assert_eq!(send(&other, &["--connections", "1"]).code, Some(0));
    other.drained(SOON).await;
    let found = audit(&lab.sent, &second.ledger);
    // The shuttle's message is not in the sender's ledger.
    let figures = (found.accepted_messages, found.lost, found.duplicates, found.unexpected);
    assert_eq!(figures, (600, 0, 0, 1), "{found}");
    other.stop().await;
    let lines = |lab: &Lab| -> Vec<_> {
        let to = ["dump", "--json", "--to", "31"];
        let frames = wal(lab, &to).json_lines().into_iter();
        frames
            .map(|mut frame| {
                for different in ["received", "peer"] {
                    frame.as_object_mut().unwrap().remove(different);
                }
                frame.to_string()
            })
            .collect()
    };
    assert_eq!(lines(&lab), lines(&other), "frame by frame, in the same order");

    let broken = lab.path().join("broken");
    fs::write(&broken, &fs::read(file).unwrap()[..5000]).unwrap();
    let url = url(&lab);
    let ran = run(&["simulate", "logplex", "--quiet", "--from", broken.to_str().unwrap(), &url]);
    assert_eq!(ran.code, Some(74), "{ran:?}");
    assert!(ran.stderr.contains("of the file: "), "{ran:?}");
}

/// The relay goes on dropping segments while its log is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_verified_again_and_again_under_load() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "").wal("segment_size = \"1MiB\"\nretention = \"0s\"\n");
    lab.start().await;
    let sending = lab.send(|config| config.messages_per_frame = number(100));
    for round in 0..5 {
        sending.accepted(50).await;
        let ran = tokio::task::block_in_place(|| wal(&lab, &["verify"]));
        assert_eq!(ran.code, Some(0), "round {round}: {ran:?}");
    }
    sending.stop().await;
    lab.drained(SOON).await;
    lab.audit(&hec);
    lab.stop().await;
    assert_eq!(wal(&lab, &["verify"]).code, Some(0));
}
