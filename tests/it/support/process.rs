//! A forebay process.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::eventually;

/// The binary under test, with an environment that does not depend on who runs the tests.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command
        .args(args)
        .env_remove("FOREBAY_CONFIG")
        .env_remove("FOREBAY_LOG")
        .env_remove("FOREBAY_ADMIN")
        .stdin(Stdio::null());
    command
}

/// forebay, started by a shell script.
pub(super) fn behind(script: Option<&str>, args: &[&str]) -> Command {
    let forebay = command(args);
    let Some(script) = script else { return forebay };
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(forebay.get_program()).args(forebay.get_args());
    shell.env_remove("FOREBAY_CONFIG").env_remove("FOREBAY_LOG").stdin(Stdio::null());
    shell
}

/// forebay with a socket as its file 3, as systemd would have it. The shell moves it there.
pub(super) fn inheriting(socket: &TcpListener, args: &[&str]) -> Command {
    let mut shell = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
    shell.args(["-c", script, "sh"]);
    let forebay = command(args);
    shell.arg(forebay.get_program()).args(forebay.get_args());
    shell.env_remove("FOREBAY_CONFIG").env_remove("FOREBAY_LOG");
    shell.stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    shell
}

/// The addresses in a `forebay is ready` line.
pub(super) fn ready(line: &str) -> Option<(String, String)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| line[name].as_str().map(str::to_owned);
    (line["message"] == "forebay is ready").then(|| text("ingest").zip(text("admin")))?
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) fn run(args: &[&str]) -> Ran {
    let output = command(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ran {
    /// The lines of standard output, each as JSON.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`; both outputs are appended to files.
    pub(crate) fn start(mut command: Command, stdout: &Path, stderr: &Path) -> Self {
        let append = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        let child = command.stdout(append(stdout)).stderr(append(stderr)).spawn().unwrap();
        Self { child }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGKILL. Its end is not waited for.
    pub(crate) fn shoot(&mut self) {
        self.child.kill().unwrap();
    }

    /// SIGKILL, and the end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end: the exit code, and how long it took.
    pub(crate) async fn exit(&mut self, deadline: Duration) -> (Option<i32>, Duration) {
        let mut status = None;
        let took = eventually(deadline, "the process ends", async || {
            status = self.ended();
            status.is_some()
        })
        .await;
        (status.unwrap().code(), took)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The most memory a process has ever had, in KiB.
pub(crate) fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
