//! The processes of a measurement. All of them end when they are dropped.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use forebay::clock;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use super::case::{Case, Setting};
use super::options::{Options, Relay};
use super::roles::{PASSWORD, Sent, TOKEN, Taken, USER};

/// How often something is asked that costs those who are measured.
pub(super) const NOW_AND_THEN: Duration = Duration::from_millis(50);
const SOON: Duration = Duration::from_millis(5);
const AT_ONCE: Duration = Duration::from_millis(1);

/// Waits until `condition` holds; false when it does not in time.
pub(super) async fn within(
    limit: Duration,
    every: Duration,
    mut condition: impl FnMut() -> bool,
) -> bool {
    let start = clock::instant();
    while !condition() {
        if start.elapsed() > limit {
            return false;
        }
        tokio::time::sleep(every).await;
    }
    true
}

const CONFIG: &str = "forebay.toml";
const DATA: &str = "data";
const ADMIN_TOKEN: &str = "admin-token";

#[derive(Debug)]
struct Own {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Own {
    fn start(args: &[String]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Self { child, input, output: BufReader::new(output.unwrap()) }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn hear<T: DeserializeOwned>(&mut self) -> T {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("the simulator says what it is asked")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.input = None;
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The simulated HEC.
#[derive(Debug)]
pub(super) struct Hec(Own);

impl Hec {
    pub(super) fn start(listen: SocketAddr, ack_after: Duration) -> Self {
        let ack_after = format!("--ack-after={}", ack_after.as_millis());
        let mut own = Own::start(&["hec".to_owned(), listen.to_string(), ack_after]);
        assert_eq!(own.hear::<String>(), "listening");
        Self(own)
    }

    /// One that hangs, and one that refuses, on the ports behind that of the one that works.
    pub(super) fn broken(options: &Options) -> [Self; 2] {
        [(1, "hang"), (2, "refuse")].map(|(more, how)| {
            let mut hec = Self::start(beside(options.hec, more), Duration::ZERO);
            hec.0.tell(how);
            hec
        })
    }

    pub(super) fn taken(&mut self) -> Taken {
        self.0.tell("?");
        self.0.hear()
    }

    /// It refuses everything for now.
    pub(super) fn hold(&mut self) {
        self.0.tell("hold");
    }

    pub(super) fn go(&mut self) {
        self.0.tell("go");
    }
}

/// The simulated Logplex.
#[derive(Debug)]
pub(super) struct Logplex(Own);

impl Logplex {
    /// Sends for a time, or until it is told to stop.
    pub(super) fn start(
        options: &Options,
        relay: &Relay,
        case: &Case,
        time: Option<Duration>,
        rate: Option<f64>,
    ) -> Self {
        let path = match relay {
            Relay::Forebay => "/logs",
            Relay::Peer(..) => &options.peer_path,
        };
        let mut args = vec!["logplex".to_owned(), options.ingest.to_string()];
        let mut add = |name: &str, value: String| args.extend([format!("--{name}"), value]);
        add("path", path.to_owned());
        add("connections", case.connections.to_string());
        add("messages", case.messages.to_string());
        add("drains", case.drains.to_string());
        if let Some(time) = time {
            add("seconds", time.as_secs_f64().to_string());
        }
        if let Some(rate) = rate {
            add("rate", rate.to_string());
        }
        Self(Own::start(&args))
    }

    /// Waits for its end.
    pub(super) async fn end(mut self) -> Sent {
        self.0.input = None;
        let child = &mut self.0.child;
        within(Duration::from_secs(3600), SOON, || child.try_wait().unwrap().is_some()).await;
        self.0.hear()
    }
}

/// A relay with its directory.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    dir: PathBuf,
    admin: Option<SocketAddr>,
}

impl Running {
    /// Starts it and waits until it takes connections. Returns how long that took.
    pub(super) async fn start(
        options: &Options,
        relay: &Relay,
        case: &Case,
        dir: &Path,
    ) -> (Self, Duration) {
        let mut command = match relay {
            Relay::Forebay => {
                let file = dir.join(CONFIG);
                secret(&dir.join(ADMIN_TOKEN), "bench-admin-token-of-no-secrecy");
                secret(&file, &config(options, case, dir));
                let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
                command.arg("serve").arg("--config").arg(file);
                command
            }
            Relay::Peer(peer, _) => {
                let mut command = Command::new("sh");
                // The shell becomes the relay, so that the process is the relay's.
                command.arg("-c").arg(format!("exec {peer}")).current_dir(dir);
                command.env("FOREBAY_BENCH_INGEST", options.ingest.to_string());
                command.env("FOREBAY_BENCH_HEC", options.hec.to_string());
                command.env("FOREBAY_BENCH_TOKEN", TOKEN);
                command
            }
        };
        let log = || File::options().create(true).append(true).open(dir.join("log")).unwrap();
        command.env_remove("FOREBAY_LOG").stdin(Stdio::null()).stdout(log()).stderr(log());
        let started = clock::instant();
        let child = command.spawn().unwrap();
        let admin = (*relay == Relay::Forebay).then_some(options.admin);
        let mut running = Self { child, dir: dir.to_owned(), admin };
        let listens = within(Duration::from_secs(120), AT_ONCE, || {
            running.check();
            TcpStream::connect(options.ingest).is_ok()
        })
        .await;
        assert!(listens, "{} does not listen: {}", relay.name(), running.log());
        (running, started.elapsed())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// # Panics
    /// When it has ended.
    pub(super) fn check(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the relay has ended ({ended:?}): {}", self.log());
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join(DATA)
    }

    /// Forebay's status.
    pub(super) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.get("/v1/status").unwrap()).unwrap()
    }

    /// Bytes of the messages that forebay has taken.
    pub(super) fn message_bytes(&self) -> Option<f64> {
        let text = self.get("/metrics")?;
        let name = "forebay_message_bytes_received_total ";
        text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok())
    }

    /// Begins a replay of what there is.
    pub(super) fn replay(&self, rate: u32) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(["replay", "start", "hec-1", "--from", "earliest", "--rate"]);
        command.arg(rate.to_string()).arg("--config").arg(self.dir.join(CONFIG));
        let out = command.stdin(Stdio::null()).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.admin?).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }

    /// SIGKILL, and the end.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the end, sooner or later.
    pub(super) async fn stop(mut self) {
        let id = Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        kill_process(id, Signal::TERM).ok();
        within(Duration::from_secs(15), NOW_AND_THEN, || self.child.try_wait().unwrap().is_some())
            .await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The address so many ports further on.
fn beside(mut address: SocketAddr, ports: u16) -> SocketAddr {
    address.set_port(address.port() + ports);
    address
}

fn secret(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

fn config(options: &Options, case: &Case, dir: &Path) -> String {
    let Options { ingest, hec, admin, .. } = options;
    let segment_size = if case.setting == Setting::Busy { "16MiB" } else { "128MiB" };
    let mut text = format!(
        "data_dir = \"{}\"\n[ingest]\nlisten = \"{ingest}\"\n\
         [[ingest.user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [wal]\nmax_size = \"200GiB\"\nretention = \"0s\"\nsegment_size = \"{segment_size}\"\n\
         [admin]\nlisten = \"{admin}\"\ntoken_file = \"{}\"\n",
        dir.join(DATA).display(),
        dir.join(ADMIN_TOKEN).display()
    );
    let compression = if case.gzip { "gzip" } else { "none" };
    let broken = case.setting == Setting::Broken;
    let window = if let Setting::Window(batches) = case.setting { batches } else { 1024 };
    for number in 1..=if broken { 3 } else { case.destinations } {
        let hec = if broken { beside(*hec, number - 1) } else { *hec };
        text.push_str(&format!(
            "[[destination]]\nname = \"hec-{number}\"\nendpoints = [\"http://{hec}\"]\n\
             token = \"{TOKEN}\"\ncompression = \"{compression}\"\nretry_max = \"1s\"\n\
             window = {window}\n"
        ));
    }
    text
}
