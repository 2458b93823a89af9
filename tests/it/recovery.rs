use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::{Destination, Frame, Hec, Lab, Port, SOON, eventually, usual_ack};

/// The files of RocksDB's log that hold something.
fn logs(lab: &Lab) -> Vec<PathBuf> {
    let files = fs::read_dir(lab.data_dir()).unwrap().map(|entry| entry.unwrap());
    let full = files.filter(|file| file.metadata().unwrap().len() > 0).map(|file| file.path());
    full.filter(|path| path.extension().is_some_and(|kind| kind == "log")).collect()
}

/// Sends frames that are answered, and kills the process.
async fn filled(lab: &mut Lab, frames: u32) {
    lab.start().await;
    for number in 0..frames {
        let frame = Frame::new(&format!("{number:032X}"), &[&format!("answered {number}")]);
        assert_eq!(lab.post(&frame).await, 200);
    }
    lab.kill();
}

async fn refused(lab: &mut Lab) -> String {
    lab.launch();
    let (code, _) = lab.exit(SOON).await;
    assert_eq!(code, Some(74));
    lab.log()
}

/// A tail that is torn heals without hands, and the status says so; everything that was answered
/// is delivered.
#[tokio::test]
async fn a_torn_tail_heals_without_hands_and_is_shown() {
    let mut hec = Hec::down(usual_ack());
    let mut lab = Lab::with(&hec, "");
    filled(&mut lab, 20).await;
    let [log] = &logs(&lab)[..] else { panic!("one log file") };
    let mut bytes = fs::read(log).unwrap();
    let whole = bytes.len();
    // The start of a record that never came to its end.
    bytes.extend_from_slice(&[1, 2, 3, 4, 200, 0, 1, 9, 9, 9]);
    fs::write(log, bytes).unwrap();
    hec.start();
    lab.start().await;
    let recovery = lab.status().await["log"]["recovery"].clone();
    assert_eq!(recovery["torn"][0]["at"], whole, "{recovery}");
    assert_eq!(recovery["torn"][0]["bytes"], 10, "{recovery}");
    assert!(lab.log().contains("was cut there"), "{}", lab.log());
    assert_eq!(lab.drained(SOON).await.acknowledged, 20);
}

/// Damage is refused with 74, the file and the byte, and nothing is changed; `--recover` is the
/// way out, and the books say what it cost.
#[tokio::test]
async fn damage_is_refused_with_74_and_recover_counts_the_loss() {
    let hec = Hec::down(usual_ack());
    let mut lab = Lab::with(&hec, "");
    filled(&mut lab, 20).await;
    let [log] = &logs(&lab)[..] else { panic!("one log file") };
    let mut bytes = fs::read(log).unwrap();
    let at = bytes.windows(10).position(|window| window == b"answered 7").unwrap();
    bytes[at] ^= 1;
    fs::write(log, &bytes).unwrap();
    let said = refused(&mut lab).await;
    assert!(said.contains(&format!("{} is damaged at byte ", log.display())), "{said}");
    assert!(said.contains("records that were acknowledged lie behind that"), "{said}");
    assert_eq!(fs::read(log).unwrap(), bytes, "nothing was changed");

    lab.arguments(&["--recover"]);
    let mut hec = hec;
    hec.start();
    lab.start().await;
    eventually(SOON, "everything else is delivered", async || {
        lab.books("splunk").await.acknowledged == 19
    })
    .await;
    let books = lab.books("splunk").await;
    assert_eq!((books.accepted, books.dropped, books.pending, books.difference), (20, 1, 0, 0));
    let status = lab.status().await;
    let gap = &status["log"]["gaps"][0];
    assert_eq!((&gap["cause"], &gap["first_offset"]), (&"damage".into(), &7.into()), "{gap}");
    assert_eq!(gap["losses"]["splunk"], 1, "{gap}");
    assert_eq!(lab.metric("forebay_wal_gaps").await, Some(1.0));
    lab.stop().await;
    // Once is enough.
    lab.arguments(&[]);
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("AA", &["afterwards"])).await, 200);
    lab.stop().await;
}

/// Two processes never share a store, and the second one says who has it.
#[tokio::test]
async fn a_second_process_is_refused_and_names_the_first() {
    let mut first = Lab::new(vec![Destination::new("splunk", Port::free().address(), "")]);
    first.start().await;
    let mut second = Lab::new(vec![Destination::new("splunk", Port::free().address(), "")]);
    second.share_data_dir(&first);
    let said = refused(&mut second).await;
    let holder = format!("in use by another process: process {} (forebay)", first.process().id());
    assert!(said.contains(&holder), "{said}");
    assert_eq!(first.post(&Frame::new("AA", &["undisturbed"])).await, 200);
}

/// A log that is full of what a dead collector does not take, and `drop_oldest`: ingest goes on,
/// and when the collector is back, the books say what it never got.
#[tokio::test]
async fn drop_oldest_keeps_ingest_going_and_the_books_balanced() {
    let mut hec = Hec::down(usual_ack());
    let mut lab = Lab::with(&hec, "").wal(
        "segment_size = \"1MiB\"\nmax_size = \"4MiB\"\nretention = \"0s\"\n\
         when_full = \"drop_oldest\"\n",
    );
    lab.start().await;
    let report = lab
        .send(|config| {
            config.messages_per_frame = crate::support::number(100);
            config.message_bytes = 1000;
            config.frames = Some(200);
        })
        .end()
        .await;
    let messages = report.end.totals.accepted_messages;
    assert_eq!(messages, 20_000, "{report}");
    let before = lab.books("splunk").await;
    assert_eq!(before.difference, 0, "{before:?}");
    hec.start();
    eventually(SOON, "what there is is delivered", async || {
        let books = lab.books("splunk").await;
        books.accepted == messages && books.pending == 0
    })
    .await;
    let books = lab.books("splunk").await;
    assert_eq!(books.difference, 0, "{books:?}");
    assert_eq!(books.acknowledged + books.dropped, messages, "{books:?}");
    assert!(books.dropped > 5000 && books.acknowledged > 0, "{books:?}");
    let status = lab.status().await;
    let gap = &status["log"]["gaps"][0];
    assert_eq!(gap["cause"], "space", "{gap}");
    // What was in flight when its segment went may have arrived: never less than the books say.
    assert!(gap["losses"]["splunk"].as_u64().unwrap() >= books.dropped, "{gap} {books:?}");
    let dropped = lab.metric("forebay_dropped_messages_total{destination=\"splunk\"}").await;
    assert_eq!(dropped, Some(books.dropped as f64));
    assert!(lab.log().contains("the log is full: frames are dropped"), "said aloud");
    lab.stop().await;
    lab.start().await;
    let after = lab.books("splunk").await;
    assert_eq!((after.dropped, after.acknowledged), (books.dropped, books.acknowledged));
}

/// `start`: a destination that is new to the log begins with what is kept, or with what comes.
#[tokio::test]
async fn a_new_destination_begins_where_it_is_told_to() {
    let (earliest, latest) = (Hec::usual(), Hec::usual());
    let keep = "retention = \"24h\"\n";
    let mut lab = Lab::with(&Hec::usual(), "").wal(keep);
    lab.start().await;
    for number in 0..3 {
        assert_eq!(lab.post(&Frame::new(&format!("A{number}"), &["before"])).await, 200);
    }
    lab.stop().await;
    lab.destinations(vec![
        Destination::new("all", earliest.address(), "start = \"earliest\"\n"),
        Destination::new("new", latest.address(), "start = \"latest\"\n"),
    ]);
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("B0", &["after"])).await, 200);
    for (name, hec, accepted, before) in [("all", &earliest, 4, 3), ("new", &latest, 1, 0)] {
        eventually(SOON, "it has what it is to have", async || {
            lab.books(name).await.acknowledged == accepted
        })
        .await;
        let books = lab.books(name).await;
        assert_eq!((books.accepted, books.difference), (accepted, 0), "{name}: {books:?}");
        assert_eq!(hec.ledger.counts_of(b"after").acknowledged, 1);
        assert_eq!(hec.ledger.counts_of(b"before").acknowledged, before);
    }
    // The one that is gone is an orphan.
    let orphaned = lab.status().await["orphaned"].clone();
    assert_eq!(orphaned[0]["name"], "splunk", "{orphaned}");
    assert!(orphaned[0]["pinned_segments"].as_u64().unwrap() >= 1, "{orphaned}");
    assert_eq!(lab.metric("forebay_orphaned_destinations").await, Some(1.0));
    assert!(lab.log().contains("is not configured any more"), "{}", lab.log());
}

/// What a 200 means is shown, and said at the start.
#[tokio::test]
async fn a_weaker_durability_is_shown() {
    let hec = Hec::usual();
    for (keys, durability, storage) in [
        ("durability = \"interval:50ms\"\n", "interval:50ms", "disk"),
        ("durability = \"none\"\n", "none", "disk"),
        ("storage = \"memory\"\n", "fsync", "memory"),
    ] {
        let mut lab = Lab::with(&hec, "").wal(keys);
        lab.start().await;
        assert_eq!(lab.post(&Frame::new("A0", &["some"])).await, 200);
        assert_eq!(lab.drained(Duration::from_secs(60)).await.acknowledged, 1);
        let log = lab.status().await["log"].clone();
        assert_eq!(log["durability"], durability, "{log}");
        assert_eq!(log["storage"], storage, "{log}");
        let promise = log["promise"].as_str().unwrap();
        assert!(lab.log().contains(promise), "{promise}");
        let series = format!("forebay_wal_durability{{mode=\"{durability}\"}}");
        assert_eq!(lab.metric(&series).await, Some(1.0));
        lab.stop().await;
    }
}

/// The directory of another program, which runs: its log may end in half a record at this moment, and
/// is not ours to mend. It locks `LOCK` and not the directory, as every user of RocksDB does.
#[tokio::test]
async fn the_log_of_another_program_that_runs_is_left_alone() {
    let mut lab = Lab::with(&Hec::usual(), "");
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    let theirs = rocksdb::DB::open(&options, lab.data_dir()).unwrap();
    theirs.put("theirs", "1").unwrap();
    let logs = fs::read_dir(lab.data_dir()).unwrap().map(|entry| entry.unwrap().path());
    let log = logs.filter(|path| path.extension().is_some_and(|kind| kind == "log")).max().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    bytes.extend_from_slice(b"\x01\x02\x03\x04\xff\x00\x01half");
    fs::write(&log, &bytes).unwrap();
    lab.launch();
    let (code, _) = lab.exit(SOON).await;
    assert_eq!(code, Some(74));
    let log_of_ours = lab.log();
    let who = format!("is in use by another process: process {} (", std::process::id());
    assert!(log_of_ours.contains(&who), "{who}: {log_of_ours}");
    assert_eq!(fs::read(&log).unwrap(), bytes, "not a byte is changed");
    drop(theirs);
}
