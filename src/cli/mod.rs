//! The commands.

mod args;
mod client;
mod demo;
#[cfg(test)]
mod documented;
mod drain;
mod human;
mod import;
mod letters;
mod limits;
mod manual;
mod output;
mod probe;
mod replay;
mod replay_wait;
mod serve;
mod signals;
mod simulate;
mod simulate_hec;
mod status;
mod top;
mod wal;

use std::ffi::OsString;
use std::future::Future;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use tokio_util::sync::CancellationToken;

use crate::app::Exit;
use crate::telemetry::{self, LogFormat};
use crate::wal::OnDamage;

use args::{Args, Command, CursorCommand, DrainCommand, ImportCommand, SimulateCommand};
use signals::AtHangup;

/// Runs the command that the arguments name.
pub fn main(args: impl Iterator<Item = OsString>) -> Exit {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // A closed terminal is no reason for another exit code.
            drop(error.print());
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Exit::Stopped } else { Exit::Usage };
        }
    };
    if let Err(error) = telemetry::init(args.log_format.unwrap_or(LogFormat::Auto)) {
        output::error(&error.to_string());
        return Exit::Usage;
    }
    match args.command {
        Command::Serve { config, recover, skip_damaged } => {
            serve::serve(&config, OnDamage { recover, skip_damaged })
        }
        Command::Check { config, probe: false, .. } => serve::check(&config),
        Command::Check { config, probe: true, json, probe_wait } => {
            serve::probe(&config, json, probe_wait)
        }
        Command::Demo(args) => runtime(|stop| demo::demo(args, stop)),
        Command::Import(ImportCommand::Vector(args)) => import::vector(&args),
        Command::Simulate(SimulateCommand::Hec(args)) => {
            runtime(|stop| simulate_hec::hec(*args, stop))
        }
        Command::Simulate(SimulateCommand::Logplex(args)) => {
            runtime(|stop| simulate::logplex(args, stop))
        }
        Command::Status(args) => runtime(|_| status::status(args)),
        Command::Top(args) => runtime(|stop| top::top(args, stop)),
        Command::Cursor(CursorCommand::List(args)) => runtime(|_| status::cursors(args)),
        Command::Cursor(CursorCommand::Remove(args)) => runtime(|_| status::remove_cursor(args)),
        Command::Cursor(CursorCommand::Pause(args)) => {
            runtime(|_| status::pause_cursor(args, true))
        }
        Command::Cursor(CursorCommand::Resume(args)) => {
            runtime(|_| status::pause_cursor(args, false))
        }
        Command::Cursor(CursorCommand::Seek(args)) => runtime(|_| status::seek_cursor(args)),
        Command::Replay(command) => runtime(|stop| replay::run(command, stop)),
        Command::Drain(DrainCommand::List(args)) => runtime(|_| status::drains(args)),
        Command::Drain(DrainCommand::Add(args)) => drain::add(&args),
        Command::DeadLetter(command) => runtime(|_| letters::run(command)),
        Command::Wal(command) => wal::run(command),
        Command::LogLevel(args) => runtime(|_| status::log_level(args)),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man(args) => manual::man(&args),
    }
}

/// Runs a command until it ends by itself, or by a signal; a second signal ends it at once.
fn runtime<F: Future<Output = Exit>>(command: impl FnOnce(CancellationToken) -> F) -> Exit {
    runtime_at(AtHangup::Stop, command)
}

/// The same, with what a SIGHUP does.
fn runtime_at<F: Future<Output = Exit>>(
    at_hangup: AtHangup,
    command: impl FnOnce(CancellationToken) -> F,
) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(&format!("the runtime cannot be started: {error}"));
            return Exit::Bug;
        }
    };
    let stop = CancellationToken::new();
    let exit = runtime.block_on(async {
        tokio::select! {
            exit = command(stop.clone()) => exit,
            exit = signals::twice(stop, at_hangup) => exit,
        }
    });
    // What still runs has been told to end; a thread that waits for the disk must not hold up
    // the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    exit
}
