use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{
    Destination, Frame, Hec, Lab, PASSWORD, Port, Process, Ran, SOON, command, eventually, run,
};

/// A relay whose configuration is not that of a lab.
struct Relay {
    process: Process,
    config: PathBuf,
    log: PathBuf,
}

impl Relay {
    /// Starts it and waits until it answers.
    async fn start(directory: &Path, config: &str) -> Self {
        let (path, log) = (directory.join("relay.toml"), directory.join("relay.log"));
        fs::write(&path, config).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let serve = command(&["serve", "--config", path.to_str().unwrap()]);
        let process = Process::start(serve, &directory.join("relay.out"), &log);
        let mut relay = Self { process, config: path, log };
        eventually(SOON, "the relay answers", async || {
            assert_eq!(relay.process.ended(), None, "{}", relay.log());
            relay.ask(&["status", "--json"]).code == Some(0)
        })
        .await;
        relay
    }

    fn ask(&self, args: &[&str]) -> Ran {
        run(&[args, &["--config", self.config.to_str().unwrap()]].concat())
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn stop(mut self) {
        self.process.terminate();
        assert_eq!(self.process.exit(SOON).await.0, Some(0));
    }
}

#[tokio::test]
async fn the_state_is_shown_to_people_and_to_programs() {
    let (hec, dead) = (Hec::usual(), Port::free());
    let mut lab = Lab::new(vec![
        Destination::new("splunk", hec.address(), ""),
        Destination::new("dead", dead.address(), ""),
    ])
    .tables("[[drain]]\ntoken = \"d.fc6b856b-3332-4546-93de-7d0ee272c3bd\"\napp = \"checkout\"\n");
    lab.show(&hec);
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("01", &["one", "two"])).await, 200);
    lab.drained(SOON).await;
    let config = lab.config_file();
    let config = ["--config", config.to_str().unwrap()];
    let shown = run(&[&["status"], &config[..]].concat());
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{shown:?}");
    for word in ["ready", "splunk  delivering", "acknowledged 2", "dead  delivering", "resting"] {
        assert!(shown.stdout.contains(word), "{word}: {shown:?}");
    }
    assert!(!shown.stdout.contains('\u{1b}'), "colours are for terminals: {shown:?}");
    let json = run(&[&["status", "--json"], &config[..]].concat()).json();
    assert_eq!(json["destinations"][1]["name"], "dead");

    // The checkpoint that holds the acknowledgement is written a moment later.
    let listed = || run(&[&["cursor", "list", "--json"], &config[..]].concat()).json();
    eventually(SOON, "the cursor is behind the frame", async || listed()[1]["position"][0] == 1)
        .await;
    let cursors = listed();
    assert_eq!((&cursors[0]["name"], &cursors[0]["position"][0]), (&"dead".into(), &0.into()));
    assert_eq!((&cursors[1]["name"], &cursors[1]["position"][0]), (&"splunk".into(), &1.into()));
    assert_eq!(cursors[1]["orphaned"], false);
    let drains = run(&[&["drain", "list", "--json"], &config[..]].concat()).json();
    assert_eq!(drains, serde_json::json!([{ "app": "checkout", "token_begins": "d.fc6b85" }]));
    let segments = lab.get("/v1/segments").await.unwrap().body;
    let segments: serde_json::Value = serde_json::from_str(&segments).unwrap();
    assert_eq!((&segments[0]["end_offset"], &segments[0]["messages"]), (&1.into(), &2.into()));

    // The address can be given in other ways.
    let address = lab.admin_address().to_string();
    assert_eq!(run(&["status", "--admin", &address]).code, Some(0));
    let mut by_variable = command(&["status", "--json"]);
    assert!(by_variable.env("FOREBAY_ADMIN", &address).output().unwrap().status.success());
}

#[tokio::test]
async fn a_cursor_that_no_destination_has_is_shown_as_orphaned_and_can_be_removed() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("01", &["one"])).await, 200);
    lab.drained(SOON).await;
    lab.stop().await;
    let token_file = lab.path().join("admin-token");
    fs::write(&token_file, "adm1n-t0ken-2f9c").unwrap();
    fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600)).unwrap();
    let config = lab.config().replace("name = \"splunk\"", "name = \"successor\"");
    let config = format!("{config}token_file = \"{}\"\n", token_file.display());
    let relay = Relay::start(lab.path(), &config).await;
    let cursors = relay.ask(&["cursor", "list", "--json"]).json();
    let states: Vec<_> = cursors
        .as_array()
        .unwrap()
        .iter()
        .map(|cursor| (cursor["name"].as_str().unwrap(), cursor["orphaned"].as_bool().unwrap()))
        .collect();
    assert_eq!(states, [("splunk", true), ("successor", false)]);
    let shown = relay.ask(&["cursor", "list"]).stdout;
    assert!(
        shown.lines().any(|line| line.starts_with("splunk") && line.contains("orphaned")),
        "{shown}"
    );

    // What is in use stays; what nobody knows is said; what is orphaned goes.
    for (name, word) in [("successor", "is configured"), ("splnk", "there is no cursor")] {
        let ran = relay.ask(&["cursor", "remove", name]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(word), "{ran:?}");
    }
    let ran = relay.ask(&["cursor", "remove", "splunk"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "removed the cursor of splunk\n"),
        "{ran:?}"
    );
    let cursors = relay.ask(&["cursor", "list", "--json"]).json();
    let names: Vec<_> = cursors.as_array().unwrap().iter().map(|cursor| &cursor["name"]).collect();
    assert_eq!(names, ["successor"]);
    relay.stop().await;
}

#[test]
fn without_a_relay_a_command_says_where_it_looked_and_where_to_look_next() {
    let port = Port::free();
    let address = port.address().to_string();
    for args in [&["status"][..], &["cursor", "list"], &["drain", "list"], &["log-level"]] {
        let ran = run(&[args, &["--admin", &address]].concat());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert_eq!(ran.stdout, "");
        for word in [address.as_str(), "--admin", "systemctl status forebay.service"] {
            assert!(ran.stderr.contains(word), "{word}: {ran:?}");
        }
    }
    let ran = run(&["status", "--config", "/nowhere/forebay.toml"]);
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(
        ran.stderr.contains("--admin") && ran.stderr.contains("/nowhere/forebay.toml"),
        "{ran:?}"
    );
    let ran = run(&["status", "--admin", "somewhere"]);
    assert_eq!(ran.code, Some(64), "{ran:?}");
    let ran = run(&["top", "--admin", &address]);
    assert_eq!(ran.code, Some(64), "{ran:?}");
    assert!(ran.stderr.contains("needs a terminal"), "{ran:?}");
}

/// Over TCP with the token of the configuration: what is written to the log changes at once.
#[tokio::test]
async fn the_log_level_is_changed_at_run_time_by_whoever_has_the_token() {
    let hec = Hec::usual();
    let lab = Lab::with(&hec, "");
    let token_file = lab.path().join("admin-token");
    let token = "adm1n-t0ken-2f9c";
    fs::write(&token_file, format!("{token}\n")).unwrap();
    fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600)).unwrap();
    let config = format!("{}token_file = \"{}\"\n", lab.config(), token_file.display());
    let relay = Relay::start(lab.path(), &config).await;
    assert_eq!(relay.ask(&["log-level"]).stdout, "info\n");
    assert!(!relay.log().contains("\"level\":\"TRACE\""));

    let wrong = lab.path().join("wrong-token");
    fs::write(&wrong, "wr0ng").unwrap();
    let ran = relay.ask(&["log-level", "trace", "--token-file", wrong.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("the token is wrong"), "{ran:?}");
    let ran = relay.ask(&["log-level", "forebay=loud"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("this is no log filter"), "{ran:?}");
    assert_eq!(relay.ask(&["log-level"]).stdout, "info\n");

    let ran = relay.ask(&["log-level", "trace"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(relay.ask(&["log-level", "--json"]).json()["filter"], "trace");
    eventually(SOON, "more is written", async || relay.log().contains("\"level\":\"TRACE\"")).await;
    let log = relay.log();
    assert!(log.contains("an operator has changed which log lines are written"));
    assert!(!log.contains(token), "the token is in no log line");
    relay.stop().await;
}

#[tokio::test]
async fn admin_on_a_unix_socket_is_its_owners_and_needs_no_token() {
    let hec = Hec::usual();
    let lab = Lab::with(&hec, "");
    let socket = lab.path().join("admin.sock");
    let listen = format!("listen = \"unix:{}\"", socket.display());
    let config = lab.config().replace(&format!("listen = \"{}\"", lab.admin_address()), &listen);
    let relay = Relay::start(lab.path(), &config).await;
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(relay.ask(&["log-level", "debug"]).code, Some(0));
    assert_eq!(relay.ask(&["log-level"]).stdout, "debug\n");
    let by_name = run(&["status", "--admin", &format!("unix:{}", socket.display())]);
    assert!(by_name.stdout.contains("ready"), "{by_name:?}");
    relay.stop().await;
    assert!(!socket.exists());
    let gone = run(&["status", "--admin", &format!("unix:{}", socket.display())]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("admin.sock"), "{gone:?}");
}

#[tokio::test]
async fn sigusr1_dumps_the_state_into_the_log() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("01", &["one"])).await, 200);
    lab.drained(SOON).await;
    lab.process().signal(Signal::USR1);
    eventually(SOON, "the state is in the log", async || lab.log().contains("SIGUSR1: the state"))
        .await;
    let log = lab.log();
    let line = log.lines().find(|line| line.contains("SIGUSR1: the state")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let state: serde_json::Value = serde_json::from_str(line["state"].as_str().unwrap()).unwrap();
    assert_eq!(state["log"]["end_offset"], 1);
    lab.stop().await;
}

/// In a pseudo-terminal, by util-linux's `script`: the screen is taken and given back.
#[tokio::test]
async fn top_shows_the_relay_in_a_terminal_and_gives_it_back() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no `script` of util-linux here, so no terminal");
        return;
    }
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("01", &["one"])).await, 200);
    lab.drained(SOON).await;
    for end in ["q", "SIGTERM"] {
        let typed = lab.path().join(format!("typescript-{end}"));
        let pid = lab.path().join(format!("pid-{end}"));
        let inside = format!(
            "stty rows 30 cols 120; echo $$ > {}; exec {} top --admin {}",
            pid.display(),
            env!("CARGO_BIN_EXE_forebay"),
            lab.admin_address()
        );
        let mut script = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", &inside])
            .arg(&typed)
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let screen = || String::from_utf8_lossy(&fs::read(&typed).unwrap_or_default()).into_owned();
        eventually(SOON, "the screen shows the destination", async || {
            screen().contains("splunk") && screen().contains("balance")
        })
        .await;
        let mut keys = script.stdin.take().unwrap();
        if end == "q" {
            std::io::Write::write_all(&mut keys, b"q").unwrap();
        } else {
            let pid: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, Signal::TERM).unwrap();
        }
        let mut status = None;
        eventually(SOON, "top ends", async || {
            status = script.try_wait().unwrap();
            status.is_some()
        })
        .await;
        assert_eq!(status.unwrap().code(), Some(0), "{end}: {}", screen());
        let screen = screen();
        let (taken, given) = (screen.find("\u{1b}[?1049h"), screen.rfind("\u{1b}[?1049l"));
        assert!(taken.is_some() && given > taken, "{end}: {screen:?}");
        drop(keys);
    }
}

#[test]
fn completions_and_manual_pages_are_made_of_the_command_line() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&["completions", shell]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.stdout.contains("log-level") && ran.stdout.contains("verify"), "{shell}");
    }
    let page = run(&["man"]).stdout;
    assert!(page.contains(".TH forebay 1"), "{page}");
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(&["man", "--out", dir.path().to_str().unwrap()]).code, Some(0));
    let verify = fs::read_to_string(dir.path().join("forebay-wal-verify.1")).unwrap();
    assert!(verify.contains("every crc"), "{verify}");
    assert_eq!(run(&["completions", "cmd.com"]).code, Some(64));
}

#[tokio::test]
async fn a_drain_gets_a_password_that_works_and_is_never_overwritten() {
    let hec = Hec::usual();
    let lab = Lab::with(&hec, "");
    let config = lab.config_file();
    let add = |name: &str| {
        run(&[
            "drain",
            "add",
            name,
            "--config",
            config.to_str().unwrap(),
            "--url",
            "https://logs.example.org:8443",
            "--app",
            "shop-prod",
            "--json",
        ])
    };
    let added = add("shop").json();
    let file = PathBuf::from(added["password_file"].as_str().unwrap());
    assert_eq!(file, lab.path().join("credentials/shop"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let password = fs::read_to_string(&file).unwrap().trim_end().to_owned();
    assert_eq!(password.len(), 32);
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    assert!(password.chars().all(safe), "{password}");
    let url = format!("https://shop:{password}@logs.example.org:8443/logs");
    assert_eq!(added["url"], url);
    assert_eq!(added["command"], format!("heroku drains:add '{url}' --app shop-prod"));

    let again = add("shop");
    assert_eq!(again.code, Some(78), "{again:?}");
    assert!(again.stderr.contains("there is a password already"), "{again:?}");
    assert_eq!(fs::read_to_string(&file).unwrap().trim_end(), password);
    assert_ne!(add("other").json()["url"], added["url"]);
    assert_eq!(add("a b").code, Some(64));
    let text = run(&["drain", "add", "third", "--config", config.to_str().unwrap()]).stdout;
    assert!(text.contains("heroku drains:add 'https://third:"), "{text}");
    assert!(text.contains("[[ingest.user]]\nname = \"third\""), "{text}");
    assert!(text.contains("and reload it.") && text.contains("a restart is needed"), "{text}");
    let by_systemd = text.find("LoadCredential=third:").unwrap();
    assert!(by_systemd < text.find("chown").unwrap(), "what the package needs comes first: {text}");
    assert!(text.contains("only the user who ran this command can read"), "{text}");

    // With what the command says, the drain can send.
    let user = format!(
        "[[ingest.user]]\nname = \"shop\"\npassword_file = \"{}\"\n\n[wal]",
        file.display()
    );
    let relay = Relay::start(lab.path(), &lab.config().replace("[wal]", &user)).await;
    let drain = format!("http://shop:{password}@{}/logs", lab.ingest_address());
    let ran = run(&["simulate", "logplex", "--quiet", "--frames", "1", &drain]);
    assert!(ran.stdout.contains("200: 1"), "{ran:?}");
    let wrong = format!("http://shop:{PASSWORD}@{}/logs", lab.ingest_address());
    let ran = run(&["simulate", "logplex", "--quiet", "--frames", "1", &wrong]);
    assert!(ran.stdout.contains("401: 1"), "{ran:?}");
    relay.stop().await;
}
