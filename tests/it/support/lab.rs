//! A forebay process with its directory, its configuration, and the books around it.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay::simulate::ledger::{Audit, HecLedger, SenderLedger, audit};
use forebay::simulate::logplex::{LogplexConfig, LogplexSender, Progress, Report};
use forebay::types::Secret;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::process::{behind, inheriting, ready};
use super::{Answer, Client, Frame, Hec, Pair, Port, Process, SOON, eventually, get, private};

pub(crate) const USER: &str = "heroku";
pub(crate) const PASSWORD: &str = "drain-pAssw0rd-5e1f";
pub(crate) const TOKEN: &str = "7c3b1f9e-hec-t0ken-a51d";

/// A destination in the configuration.
#[derive(Debug)]
pub(crate) struct Destination {
    name: &'static str,
    endpoint: SocketAddr,
    scheme: &'static str,
    /// The line that says where the token is.
    token: &'static str,
    extra: &'static str,
}

impl Destination {
    /// `extra` are further keys of the destination, and tables below it.
    pub(crate) const fn new(name: &'static str, endpoint: SocketAddr, extra: &'static str) -> Self {
        Self { name, endpoint, scheme: "http", token: "", extra }
    }

    /// The collector speaks TLS.
    pub(crate) const fn over_tls(mut self) -> Self {
        self.scheme = "https";
        self
    }

    /// The token is where this line says, and not in the configuration.
    pub(crate) const fn with_token(mut self, line: &'static str) -> Self {
        self.token = line;
        self
    }
}

/// A destination's books, as `/v1/status` has them.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Books {
    pub(crate) accepted: u64,
    pub(crate) acknowledged: u64,
    pub(crate) filtered: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) skipped: u64,
    pub(crate) dropped: u64,
    pub(crate) rewound: u64,
    pub(crate) pending: u64,
    pub(crate) difference: i64,
}

/// Everything of one test. Prints itself when the test fails.
#[derive(Debug)]
pub(crate) struct Lab {
    dir: TempDir,
    ingest: Port,
    admin: Port,
    destinations: Vec<Destination>,
    /// Further keys of `[ingest]` and `[wal]`.
    ingest_extra: &'static str,
    wal_extra: &'static str,
    /// Further tables.
    tables: &'static str,
    environment: Vec<(String, String)>,
    /// What the configuration has, and what is to stand there instead.
    edits: Vec<(String, String)>,
    /// The socket that every process inherits, as from a service manager.
    socket: Option<TcpListener>,
    /// Further arguments of the next start.
    arguments: &'static [&'static str],
    data_dir: PathBuf,
    /// What the simulated Logplex of this test sent.
    pub(crate) sent: Arc<SenderLedger>,
    /// To be shown when the test fails.
    books: Vec<Arc<HecLedger>>,
    /// What starts it.
    wrapper: Option<String>,
    process: Option<Process>,
    /// How often it had said that it is ready before the latest launch.
    was_ready: usize,
}

impl Lab {
    pub(crate) fn new(destinations: Vec<Destination>) -> Self {
        let dir = tempfile::Builder::new().prefix("forebay-it-").tempdir().unwrap();
        Self {
            data_dir: dir.path().join("data"),
            dir,
            ingest: Port::free(),
            admin: Port::free(),
            destinations,
            ingest_extra: "",
            wal_extra: "",
            tables: "",
            environment: Vec::new(),
            edits: Vec::new(),
            socket: None,
            arguments: &[],
            sent: Arc::default(),
            books: Vec::new(),
            wrapper: None,
            process: None,
            was_ready: 0,
        }
    }

    /// One destination `splunk`.
    pub(crate) fn with(hec: &Hec, extra: &'static str) -> Self {
        let mut lab = Self::new(vec![Destination::new("splunk", hec.address(), extra)]);
        lab.show(hec);
        lab
    }

    /// Shows the HEC's book, too, when the test fails.
    pub(crate) fn show(&mut self, hec: &Hec) {
        self.books.push(Arc::clone(&hec.ledger));
    }

    pub(crate) const fn wal(mut self, extra: &'static str) -> Self {
        self.wal_extra = extra;
        self
    }

    /// Puts the data directory somewhere else.
    pub(crate) fn data_at(mut self, dir: PathBuf) -> Self {
        self.data_dir = dir;
        self
    }

    pub(crate) const fn tables(mut self, tables: &'static str) -> Self {
        self.tables = tables;
        self
    }

    pub(crate) const fn ingest(mut self, extra: &'static str) -> Self {
        self.ingest_extra = extra;
        self
    }

    /// Variables of the next start.
    pub(crate) fn environment(&mut self, variables: Vec<(String, String)>) {
        self.environment = variables;
    }

    /// Writes the configuration with something else in a place. For the next start, or for a
    /// reload.
    pub(crate) fn edit(&mut self, before: &str, after: &str) {
        assert!(self.config().contains(before), "{before}");
        self.edits.push((before.to_owned(), after.to_owned()));
        self.config_file();
    }

    /// Speaks TLS with this certificate.
    pub(crate) fn serve_tls(&mut self, pair: &Pair) {
        let certificate = private(self.path(), "ingest.crt", &pair.chain);
        let key = private(self.path(), "ingest.key", &pair.key);
        let table = format!(
            "[ingest.tls]\ncertificate = {certificate:?}\nprivate_key_file = {key:?}\n\n[wal]\n"
        );
        self.edit("[wal]\n", &table);
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&mut self) {
        self.process().hang_up();
    }

    /// SIGHUP, until the configuration is in force.
    pub(crate) async fn reload(&mut self) {
        let before = self.metric("forebay_config_last_reload_seconds").await;
        self.hang_up();
        eventually(SOON, "the configuration is taken", async || {
            self.metric("forebay_config_last_reload_seconds").await > before
        })
        .await;
    }

    /// From now on every process inherits one listening socket, which stays open between them.
    pub(crate) fn inherit(&mut self) {
        let listen = format!("listen = \"{}\"", self.ingest.address());
        self.edit(&listen, "listen = \"systemd\"\nallow_insecure = true");
        self.socket = Some(TcpListener::bind(self.ingest.address()).unwrap());
    }

    /// The service manager's end of that socket.
    pub(crate) fn inherited(&self) -> TcpListener {
        self.socket.as_ref().unwrap().try_clone().unwrap()
    }

    /// Further arguments of the next start.
    pub(crate) const fn arguments(&mut self, arguments: &'static [&'static str]) {
        self.arguments = arguments;
    }

    /// Other destinations, from the next start on.
    pub(crate) fn destinations(&mut self, destinations: Vec<Destination>) {
        self.destinations = destinations;
    }

    /// What starts forebay in the next starts, as a shell script that ends with `exec "$@"`.
    pub(crate) fn wrap(&mut self, script: String) {
        self.wrapper = Some(script);
    }

    /// Uses another lab's data directory.
    pub(crate) fn share_data_dir(&mut self, other: &Self) {
        self.data_dir = other.data_dir();
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    fn log_file(&self) -> PathBuf {
        self.path().join("log")
    }

    /// Everything it has logged so far, over all starts.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub(crate) fn ingest_address(&self) -> SocketAddr {
        self.ingest.address()
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    pub(crate) fn config(&self) -> String {
        let mut text = format!(
            "data_dir = \"{}\"\n\n[ingest]\nlisten = \"{}\"\n{}\n\
             [[ingest.user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\n\
             [wal]\nmin_free = \"256MiB\"\n{}\n",
            self.data_dir().display(),
            self.ingest.address(),
            self.ingest_extra,
            self.wal_extra,
        );
        for Destination { name, endpoint, scheme, token, extra } in &self.destinations {
            let inline = format!("token = \"{TOKEN}\"");
            let token = if token.is_empty() { &*inline } else { token };
            write!(
                text,
                "[[destination]]\nname = \"{name}\"\nendpoints = [\"{scheme}://{endpoint}\"]\n\
                 {token}\nretry_initial = \"20ms\"\nretry_max = \"500ms\"\n{extra}\n"
            )
            .unwrap();
        }
        write!(text, "{}\n[admin]\nlisten = \"{}\"\n", self.tables, self.admin.address()).unwrap();
        self.edits.iter().fold(text, |text, (before, after)| text.replacen(before, after, 1))
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        let path = self.path().join("forebay.toml");
        fs::write(&path, self.config()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Starts the process and waits until it says that it is ready.
    pub(crate) async fn start(&mut self) {
        self.launch();
        eventually(SOON, "forebay says that it is ready", async || {
            let ended = self.process().ended();
            assert_eq!(ended, None, "forebay ends before it is ready");
            self.is_ready()
        })
        .await;
    }

    /// Whether it has said, since its launch, that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        let log = self.log();
        let Some(heard) = log.lines().filter_map(ready).nth(self.was_ready) else { return false };
        let expected = (self.ingest.address().to_string(), self.admin.address().to_string());
        assert_eq!(heard, expected);
        true
    }

    /// Starts the process.
    pub(crate) fn launch(&mut self) {
        assert!(self.process.is_none(), "one at a time");
        self.was_ready = self.log().lines().filter_map(ready).count();
        let config = self.config_file();
        let args = ["serve", "--config", config.to_str().unwrap()];
        let mut command = match &self.socket {
            None => behind(self.wrapper.as_deref(), &args),
            Some(socket) => inheriting(socket, &args),
        };
        command.args(self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let started = Process::start(command, &self.path().join("stdout"), &self.log_file());
        self.process = Some(started);
    }

    pub(crate) const fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("forebay runs")
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// Waits for the end after SIGTERM, or by itself: the exit code, and how long it took.
    pub(crate) async fn exit(&mut self, deadline: Duration) -> (Option<i32>, Duration) {
        let ended = self.process().exit(deadline).await;
        self.process = None;
        ended
    }

    /// SIGTERM, and a stop in order.
    pub(crate) async fn stop(&mut self) -> Duration {
        self.process().terminate();
        let (code, took) = self.exit(Duration::from_secs(10)).await;
        assert_eq!(code, Some(0), "a stop in order");
        took
    }

    /// What admin says; none when it is not there.
    pub(crate) async fn get(&self, path: &str) -> Option<Answer> {
        get(self.admin_address(), path).await
    }

    pub(crate) async fn status(&self) -> Value {
        serde_json::from_str(&self.get("/v1/status").await.unwrap().body).unwrap()
    }

    /// Waits until a part of the status is another than now.
    pub(crate) async fn moves(&self, what: &str, part: impl Fn(&Value) -> &Value) {
        let before = part(&self.status().await).clone();
        eventually(SOON, what, async || *part(&self.status().await) != before).await;
    }

    pub(crate) async fn books(&self, destination: &str) -> Books {
        let status = self.status().await;
        let all = status["destinations"].as_array().unwrap();
        let found = all.iter().find(|one| one["name"] == destination).unwrap();
        serde_json::from_value(found["books"].clone()).unwrap()
    }

    /// A counter or gauge of `/metrics`, with its labels as they are written.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.get("/metrics").await.unwrap().body;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }

    /// A connection to ingest.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.ingest.address()).await
    }

    /// Sends one frame on a connection of its own and returns the status.
    pub(crate) async fn post(&self, frame: &Frame) -> u16 {
        self.client().await.post(frame).await
    }

    /// Starts a simulated Logplex.
    pub(crate) fn send(&self, change: impl FnOnce(&mut LogplexConfig)) -> Sending {
        let mut config = LogplexConfig {
            target: self.ingest.address(),
            user: USER.to_owned(),
            password: Secret::new(PASSWORD.to_owned()),
            connections: number(4),
            messages_per_frame: number(20),
            ..LogplexConfig::default()
        };
        change(&mut config);
        let sender = LogplexSender::new(config, Arc::clone(&self.sent)).unwrap();
        let (progress, stop) = (sender.progress(), CancellationToken::new());
        let mut task = JoinSet::new();
        task.spawn(sender.run(stop.clone()));
        Sending { progress, stop, task }
    }

    /// The two books compared; everything accepted is in the index and acknowledged, and nothing
    /// is there that was not sent.
    pub(crate) fn audit(&self, hec: &Hec) -> Audit {
        let found = audit(&self.sent, &hec.ledger);
        assert!(found.is_clean(), "{found}");
        assert_eq!(found.unacknowledged, 0, "{found}");
        found
    }
}

pub(crate) const fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// A simulated Logplex at work.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) progress: Progress,
    stop: CancellationToken,
    task: JoinSet<Report>,
}

impl Sending {
    /// Waits for its own end.
    pub(crate) async fn end(mut self) -> Report {
        self.task.join_next().await.unwrap().unwrap()
    }

    /// Stops it; frames in flight are seen through.
    pub(crate) async fn stop(self) -> Report {
        self.stop.cancel();
        self.end().await
    }

    /// Waits until so many connections are open. A sender that is stopped while it cannot connect
    /// leaves its frame unsent.
    pub(crate) async fn connected(&self, connections: u64) {
        eventually(SOON, "the sender is connected", async || {
            self.progress.snapshot().connections == connections
        })
        .await;
    }

    /// Waits until so many more frames are answered 2xx.
    pub(crate) async fn accepted(&self, more: u64) {
        let before = self.progress.snapshot().totals.accepted_frames;
        let what = format!("{more} more frames are accepted");
        eventually(SOON, &what, async || {
            self.progress.snapshot().totals.accepted_frames >= before + more
        })
        .await;
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let running = self.process.take().is_some();
        if !std::thread::panicking() {
            return;
        }
        eprintln!("---- the configuration\n{}", self.config());
        eprintln!("---- the process {}", if running { "was running" } else { "had ended" });
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        eprintln!("---- the last of {} log lines", lines.len());
        for line in lines.iter().skip(lines.len().saturating_sub(40)) {
            eprintln!("{line}");
        }
        eprintln!("---- the data directory");
        for entry in fs::read_dir(self.data_dir()).into_iter().flatten().flatten() {
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            eprintln!("{size:>12} {}", entry.file_name().display());
        }
        eprintln!("---- the sender\n{:?}", self.sent.totals());
        for book in &self.books {
            eprintln!("---- the HEC\n{:?}\n{}", book.totals(), audit(&self.sent, book));
        }
    }
}
