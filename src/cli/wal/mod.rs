//! `forebay wal`: looking at the log, checking all of it, taking frames out of it.

mod dump;
mod export;
mod frames;
mod info;
mod select;
mod verify;

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::app::Exit;
use crate::config::Config;
use crate::wal::{OpenError, ReadOnlyLog};

use super::args::DEFAULT_CONFIG;
use super::{limits, output};

use select::{AppNames, Selection};

/// What a relay that runs lets one see.
const RUNNING: &str = "Works on a log that is stopped, and on one that a relay has open: then it \
    shows the log as it was when the command began. The relay is not disturbed and nothing is \
    written; the last group of frames may be seen while its sync is still on its way.";

#[derive(Debug, clap::Subcommand)]
pub(super) enum WalCommand {
    /// Show what is in the log: offsets, segments, cursors.
    #[command(after_help = RUNNING)]
    Info(InfoArgs),
    /// Read everything, check every crc and whether all parts fit together. Exits with 0 when
    /// nothing is wrong, and with 74 when something is.
    #[command(after_help = RUNNING)]
    Verify(VerifyArgs),
    /// Print frames.
    #[command(after_help = RUNNING)]
    Dump(DumpArgs),
    /// Write messages as NDJSON, or frames in a form that `forebay simulate logplex --from` sends
    /// again.
    #[command(after_help = RUNNING)]
    Export(ExportArgs),
}

/// Which log.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Place {
    /// The directory of the log; without, `data_dir` of the configuration.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The configuration.
    #[arg(short, long, env = "FOREBAY_CONFIG", default_value = DEFAULT_CONFIG, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct InfoArgs {
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    place: Place,
    /// Print JSON: one object for each defect, then one with the sums.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct DumpArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    select: Selection,
    /// Print JSON, one object for each frame.
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// Print the bodies as they came, byte for byte, and nothing else.
    #[arg(long)]
    raw: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    select: Selection,
    /// `ndjson`: one message a line. `frames`: whole frames with their drain tokens and ids, to
    /// be sent again; see docs/wal-export.md.
    #[arg(long, value_enum, default_value_t = export::Format::Ndjson, value_name = "FORMAT")]
    format: export::Format,
    /// Write to this file, which must not exist yet; without, to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(command: WalCommand) -> Exit {
    let ended = match command {
        WalCommand::Info(args) => info::info(&args),
        WalCommand::Verify(args) => verify::verify(&args),
        WalCommand::Dump(args) => dump::dump(&args),
        WalCommand::Export(args) => export::export(&args),
    };
    ended.unwrap_or_else(|trouble| {
        if let Some(text) = &trouble.text {
            output::error(text);
        }
        trouble.exit
    })
}

/// Why a command ends early.
#[derive(Debug)]
struct Trouble {
    exit: Exit,
    /// None: whoever read the output has gone away, which is no trouble of theirs.
    text: Option<String>,
}

impl Trouble {
    fn storage(what: impl std::fmt::Display) -> Self {
        Self { exit: Exit::Storage, text: Some(what.to_string()) }
    }
}

impl From<OpenError> for Trouble {
    fn from(error: OpenError) -> Self {
        Self::storage(format!("the log cannot be read: {error}"))
    }
}

/// A failure to write the output.
impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self { exit: Exit::Stopped, text: None };
        }
        Self::storage(format!("the output cannot be written: {error}"))
    }
}

impl Place {
    /// Opens the log for reading, and says which names the drains' apps have.
    fn open(&self) -> Result<(ReadOnlyLog, AppNames), Trouble> {
        let peek = Config::peek(&self.config, &|name| std::env::var(name).ok());
        let names = AppNames::new(peek.as_ref().map_or(&[][..], |peek| &peek.drains));
        let dir = match (&self.data_dir, peek) {
            (Some(dir), _) => dir.clone(),
            (None, Ok(peek)) => peek.data_dir,
            (None, Err(errors)) => {
                let text = format!(
                    "which log? Name its directory with --data-dir, or a configuration with \
                     --config\n{errors}"
                );
                return Err(Trouble { exit: Exit::Configuration, text: Some(text) });
            }
        };
        // On a log that is in use every table file is held open.
        limits::raise_open_files(0);
        Ok((ReadOnlyLog::open(&dir)?, names))
    }
}

/// A bar on standard error, if that is a terminal and nothing else is written to the same one.
fn bar(total: u64, alone: bool) -> ProgressBar {
    let shown = std::io::stderr().is_terminal() && (alone || !std::io::stdout().is_terminal());
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    let style = "{wide_bar} {human_pos}/{human_len} frames, {per_sec}, {eta} left";
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Standard output, buffered. Its errors are told, so that a command ends with its reader.
fn stdout() -> impl Write {
    std::io::BufWriter::with_capacity(64 << 10, std::io::stdout().lock())
}
