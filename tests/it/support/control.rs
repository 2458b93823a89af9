//! The commands, asked of a lab's relay by somebody who has the token.

use std::path::{Path, PathBuf};

use super::{Lab, Process, Ran, command, private, run};

/// Somebody who may change something.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    config: PathBuf,
    wrong: PathBuf,
}

impl Control {
    /// Gives the relay a token, from its next start on.
    pub(crate) fn of(lab: &mut Lab) -> Self {
        let token = private(lab.path(), "admin-token", "adm1n-t0ken-2f9c");
        let wrong = private(lab.path(), "wrong-token", "adm1n-t0ken-2f9d");
        let listen = format!("[admin]\nlisten = \"{}\"\n", lab.admin_address());
        lab.edit(&listen, &format!("{listen}token_file = \"{}\"\n", token.display()));
        Self { config: lab.path().join("forebay.toml"), wrong }
    }

    /// Runs a command.
    pub(crate) fn ask(&self, args: &[&str]) -> Ran {
        run(&[args, &["--config", self.config.to_str().unwrap()]].concat())
    }

    /// Runs a command that takes its time, beside the test.
    pub(crate) async fn wait(&self, args: &'static [&'static str]) -> Ran {
        let control = self.clone();
        tokio::task::spawn_blocking(move || control.ask(args)).await.unwrap()
    }

    /// Starts a command that does not end by itself, or not soon.
    pub(crate) fn start(&self, args: &[&str], stdout: &Path, stderr: &Path) -> Process {
        let args = [args, &["--config", self.config.to_str().unwrap()]].concat();
        Process::start(command(&args), stdout, stderr)
    }

    /// Runs a command with a wrong token.
    pub(crate) fn without_token(&self, args: &[&str]) -> Ran {
        self.ask(&[args, &["--token-file", self.wrong.to_str().unwrap()]].concat())
    }
}
