//! The commands.

mod args;
mod demo;
mod limits;
mod output;
mod probe;
mod serve;
mod signals;
mod simulate;
mod simulate_hec;

use std::ffi::OsString;
use std::future::Future;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use tokio_util::sync::CancellationToken;

use crate::app::Exit;
use crate::telemetry::{self, LogFormat};

use args::{Args, Command, SimulateCommand};

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
        Command::Serve { config } => serve::serve(&config),
        Command::Check { config, probe: false, .. } => serve::check(&config),
        Command::Check { config, probe: true, json, probe_wait } => {
            serve::probe(&config, json, probe_wait)
        }
        Command::Demo(args) => runtime(|stop| demo::demo(args, stop)),
        Command::Simulate(SimulateCommand::Hec(args)) => {
            runtime(|stop| simulate_hec::hec(*args, stop))
        }
        Command::Simulate(SimulateCommand::Logplex(args)) => {
            runtime(|stop| simulate::logplex(args, stop))
        }
    }
}

/// Runs a command until it ends by itself, or by a signal; a second signal ends it at once.
fn runtime<F: Future<Output = Exit>>(command: impl FnOnce(CancellationToken) -> F) -> Exit {
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
            exit = signals::twice(stop) => exit,
        }
    });
    // What still runs has been told to end; a thread that waits for the disk must not hold up
    // the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    exit
}
