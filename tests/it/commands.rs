use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::Duration;

use forebay::simulate::ledger::{HecLedger, SenderLedger, audit};

use crate::support::{
    Destination, Hec, Lab, PASSWORD, Port, Process, SOON, TOKEN, USER, command, eventually, get,
    measured, usual_ack,
};

/// Runs a command to its end: exit code, stdout, stderr.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A lab that is not started.
fn lab() -> Lab {
    Lab::new(vec![Destination::new("splunk", Port::free().address(), "")])
}

#[test]
fn wrong_arguments_are_64_and_help_is_0() {
    for args in [&["--frobnicate"][..], &["serve", "--port", "1"], &["reset"], &[]] {
        let (code, _, stderr) = run(args);
        assert_eq!(code, Some(64), "{args:?}: {stderr}");
        assert!(stderr.contains("Usage"), "{stderr}");
    }
    let (code, stdout, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("serve") && stdout.contains("simulate"), "{stdout}");
    assert_eq!(run(&["--version"]).0, Some(0));
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once_and_is_78() {
    let lab = lab();
    let path = lab.config_file();
    let file = path.to_str().unwrap();
    let (code, stdout, stderr) = run(&["check", "--config", file]);
    assert_eq!(code, Some(0), "{stderr}");
    let listen = lab.ingest_address();
    assert!(stdout.contains(&format!("ingest on {listen}, destinations: splunk")), "{stdout}");

    // What is odd is said in words, to whoever has asked.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, stderr) = run(&["check", "--config", file]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.starts_with("forebay: warning: ") && stderr.contains("chmod 600"), "{stderr}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

    fs::write(
        &path,
        "[ingest]\n\
         listen = \"0.0.0.0:8080\"\n\
         max_body = \"8 bananas\"\n\
         [wal]\n\
         segmnt_size = \"1MiB\"\n\
         durability = \"often\"\n\
         [[destination]]\n\
         name = \"a b\"\n\
         endpoints = [\"https://splunk.example.com:8088\"]\n\
         token = \"t-0-k-e-n\"\n\
         ack_timeout = \"1000000s\"\n",
    )
    .unwrap();
    for command in ["check", "serve"] {
        let (code, stdout, stderr) = run(&[command, "--config", file]);
        assert_eq!(code, Some(78), "{stderr}");
        assert_eq!(stdout, "", "{command}");
        for (line, key) in [
            (2, "ingest.listen"),
            (3, "ingest.max_body"),
            (5, "wal.segmnt_size"),
            (6, "wal.durability"),
            (8, "destination.name"),
            (11, "destination.ack_timeout"),
        ] {
            assert!(stderr.contains(&format!("{file}:{line}: {key}: ")), "{key}: {stderr}");
        }
        assert!(stderr.contains("segment_size"), "what was meant is guessed: {stderr}");
        assert!(!stderr.contains("t-0-k-e-n"), "{stderr}");
    }
    let (code, _, stderr) = run(&["check", "--config", "/nowhere/forebay.toml"]);
    assert_eq!(code, Some(78));
    assert!(stderr.contains("/nowhere/forebay.toml"), "{stderr}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_78_and_a_log_that_is_in_use_is_74() {
    let mut lab = lab();
    // Shared with the socket that keeps the port for this test; but only one can listen.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&lab.ingest_address().into()).unwrap();
    socket.listen(1).unwrap();
    lab.launch();
    let (code, _) = lab.exit(SOON).await;
    assert_eq!(code, Some(78));
    let address = lab.ingest_address();
    let expected = format!("ingest cannot listen on {address}");
    assert!(lab.log().contains(&expected), "{}", lab.log());
    drop(socket);

    lab.start().await;
    let (ingest, admin) = (Port::free(), Port::free());
    let other = lab.path().join("other.toml");
    let config = lab
        .config()
        .replace(&lab.ingest_address().to_string(), &ingest.address().to_string())
        .replace(&lab.admin_address().to_string(), &admin.address().to_string());
    fs::write(&other, config).unwrap();
    let (code, _, stderr) = run(&["serve", "--config", other.to_str().unwrap()]);
    assert_eq!(code, Some(74), "{stderr}");
    let data_dir = lab.data_dir();
    let expected = format!("{} is in use by another process", data_dir.display());
    assert!(stderr.contains(&expected), "{stderr}");
    assert_eq!(lab.get("/readyz").await.unwrap().status, 200, "the first one goes on");
}

#[test]
fn the_demo_ends_by_itself_and_shows_its_books() {
    let (code, stdout, stderr) = run(&["demo", "--frames", "50"]);
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    let words = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for row in ["accepted (2xx) 500 lost 0", "never sent, but indexed 0", "nothing lost"] {
        assert!(words.contains(row), "{row:?} in {stdout}");
    }
}

/// The terminal in which it runs is closed.
#[tokio::test]
async fn what_is_not_the_relay_ends_at_a_hangup_and_goes_on_under_nohup() {
    let lab = lab();
    let err = lab.path().join("err");
    let start = |name: &str, command: std::process::Command| {
        let out = lab.path().join(name);
        (Process::start(command, &out, &err), out)
    };
    let simulator = &["simulate", "hec", "--listen", "127.0.0.1:0", "--quiet"];
    let hec = command(simulator);
    let mut under_nohup = std::process::Command::new("sh");
    under_nohup.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(hec.get_program());
    under_nohup.args(simulator);
    let demo = &["demo"];
    for (name, command, ends) in
        [("hec", hec, true), ("demo", command(demo), true), ("nohup", under_nohup, false)]
    {
        let (mut process, out) = start(name, command);
        // Both say where they listen, and catch signals by then.
        eventually(SOON, "it runs", async || {
            fs::read_to_string(&out).is_ok_and(|said| said.contains("http://"))
        })
        .await;
        process.hang_up();
        if !ends {
            process.hang_up();
            // It has heard of both when it hears of this.
            process.terminate();
        }
        let (code, _) = process.exit(SOON).await;
        assert_eq!(code, Some(0), "{name}: {}", fs::read_to_string(&err).unwrap());
    }
}

/// The simulators as commands, with forebay between them, and their ledgers compared.
#[tokio::test]
async fn the_simulators_keep_books_that_can_be_compared() {
    let hec = Hec::down(usual_ack());
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    let (indexed, sent) = (lab.path().join("indexed"), lab.path().join("sent"));
    let (address, out) = (hec.address().to_string(), lab.path().join("hec-out"));
    let mut collector = Process::start(
        command(&[
            "simulate",
            "hec",
            "--listen",
            &address,
            "--token",
            TOKEN,
            "--ack-min",
            "50ms",
            "--ack-max",
            "200ms",
            "--ledger",
            indexed.to_str().unwrap(),
        ]),
        &out,
        &lab.path().join("hec-err"),
    );
    let said = async || fs::read_to_string(&out).unwrap();
    let listens = format!("a simulated Splunk HEC listens on http://{address}");
    eventually(SOON, &listens, async || said().await.contains(&listens)).await;

    let drain = format!("http://{USER}:{PASSWORD}@{}/logs", lab.ingest_address());
    let mut sender = Process::start(
        command(&[
            "simulate",
            "logplex",
            &drain,
            "--frames",
            "20",
            "--messages",
            "10",
            "--ledger",
            sent.to_str().unwrap(),
        ]),
        &lab.path().join("sender-out"),
        &lab.path().join("sender-err"),
    );
    let (code, took) = sender.exit(SOON).await;
    assert_eq!(code, Some(0));
    measured("20 frames from the command took, ms", took.as_millis());
    let shown = fs::read_to_string(lab.path().join("sender-out")).unwrap();
    assert!(shown.contains("accepted   200 messages in 20 frames"), "{shown}");
    assert!(!shown.contains(PASSWORD), "{shown}");

    lab.drained(SOON).await;
    collector.terminate();
    let (code, _) = collector.exit(Duration::from_secs(5)).await;
    assert_eq!(code, Some(0), "{}", said().await);
    let shown = said().await;
    assert!(shown.contains("accepted 200 events, indexed 200, acknowledged 200"), "{shown}");

    let (sent, indexed) = (SenderLedger::load(&sent).unwrap(), HecLedger::load(&indexed).unwrap());
    let found = audit(&sent, &indexed);
    let figures = (found.accepted_messages, found.duplicates, found.unacknowledged);
    assert!(found.is_clean(), "{found}");
    assert_eq!(figures, (200, 0, 0), "{found}");
}

/// `--listen` with port 0 says which port it is.
#[tokio::test]
async fn a_simulated_collector_takes_any_free_port() {
    let lab = lab();
    let out = lab.path().join("out");
    let mut collector = Process::start(
        command(&["simulate", "hec", "--listen", "127.0.0.1:0", "--quiet"]),
        &out,
        &lab.path().join("err"),
    );
    let mut answer = None;
    eventually(SOON, "it answers where it says it listens", async || {
        let said = fs::read_to_string(&out).unwrap();
        let address = said.lines().next().and_then(|line| line.rsplit("http://").next());
        let Some(address) = address.and_then(|text| text.parse().ok()) else { return false };
        answer = get(address, "/services/collector/health").await;
        answer.is_some()
    })
    .await;
    assert_eq!(answer.unwrap().status, 200);
    collector.terminate();
    assert_eq!(collector.exit(SOON).await.0, Some(0));
}
