//! `forebay completions` and `forebay man`: made from the command line itself.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::app::Exit;

use super::args::Args;
use super::output;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Write a page for forebay and one for each command into this directory; without, the page
    /// of forebay goes to standard output.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn completions(shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "forebay", &mut script);
    print(&script)
}

pub(super) fn man(args: &ManArgs) -> Exit {
    let command = Args::command();
    match &args.out {
        None => {
            let mut page = Vec::new();
            match clap_mangen::Man::new(command).render(&mut page) {
                Ok(()) => print(&page),
                Err(error) => failed(&error, None),
            }
        }
        Some(directory) => {
            let made = std::fs::create_dir_all(directory)
                .and_then(|()| clap_mangen::generate_to(command, directory));
            match made {
                Ok(()) => Exit::Stopped,
                Err(error) => failed(&error, Some(directory)),
            }
        }
    }
}

fn print(bytes: &[u8]) -> Exit {
    let mut out = std::io::stdout().lock();
    // A reader that has gone away is no error.
    drop(out.write_all(bytes).and_then(|()| out.flush()));
    Exit::Stopped
}

fn failed(error: &std::io::Error, directory: Option<&Path>) -> Exit {
    let place = directory.map(|directory| format!(" in {}", directory.display()));
    output::error(&format!("the pages cannot be written{}: {error}", place.unwrap_or_default()));
    Exit::Storage
}
