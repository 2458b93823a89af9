//! The configuration: one TOML file, read in two stages.
//!
//! The first stage takes the file apart and knows where everything stands; the second makes of
//! it a [`Config`] that cannot be wrong. One table names every key with its type, limits,
//! default and meaning, and everything is made from that table: what is parsed, what is refused
//! as unknown or as not yet supported, and the documentation ([`docs`]).
//!
//! Nothing is guessed and nothing ignored, and every mistake is told at once: each with its key,
//! its line, and what to write instead. Secrets are in no message.

pub mod docs;
mod duration;
mod error;
mod expand;
mod exposure;
mod file;
mod fixed;
mod key;
mod peek;
mod raw;
mod read;
mod report;
mod resolve;
mod secret;
mod table;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

pub use error::{ConfigError, ConfigErrors};
pub use exposure::Exposure;
pub use file::read_text;
pub use fixed::Fixed;
pub use peek::Peek;

use crate::{admin, ingest, sink, wal};
use raw::RawSection;
use report::{Report, Scope};

/// Reads a duration as the configuration has it, such as `250ms`, `4s` or `1h30m`: for arguments
/// of commands, so that there is one way to write a duration.
///
/// # Errors
/// A sentence that says how durations are written.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    duration::parse(text).map_err(|_| {
        "a duration is a whole number and a unit, such as 250ms, 4s, 5m, 1h30m or 2d".to_owned()
    })
}

/// Looks up an environment variable. An argument, so that a test needs no environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The largest configuration file, in bytes.
const LARGEST: u64 = 1 << 20;

/// What the program uses.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything that outlives the process is kept (`data_dir`).
    pub data_dir: PathBuf,
    /// What ingest is told.
    pub ingest: ingest::Config,
    /// What the log is told.
    pub wal: wal::Config,
    /// What each destination is told: at least one, each with a name of its own.
    pub destinations: Vec<sink::Config>,
    /// What admin is told.
    pub admin: admin::Config,
    /// Which log lines are written (`log_level`).
    pub log_level: String,
    /// What only a restart can change.
    pub fixed: Fixed,
    /// How ingest's listener may be reached.
    pub exposure: Exposure,
}

/// A configuration, and what its operator should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the program uses.
    pub config: Config,
    /// What is no mistake but should be seen: one line each, with file, line and key.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the configuration from a file.
    ///
    /// # Errors
    /// When the file cannot be read, and for every mistake in it.
    pub fn load(path: &Path, env: Env<'_>) -> Result<Loaded, ConfigErrors> {
        let (name, text, mode) = read_file(path)?;
        parse(&text, &name, env, Some(mode))
    }

    /// Reads the configuration from a text. `file_name` stands in messages only.
    ///
    /// # Errors
    /// For every mistake in it.
    pub fn parse(text: &str, file_name: &str, env: Env<'_>) -> Result<Loaded, ConfigErrors> {
        parse(text, file_name, env, None)
    }
}

/// What forebay makes is its user's alone; a directory that was there keeps the mode it has, and the
/// files in it are made as the process's umask says.
fn warn_of_readers(data_dir: &Path, report: &mut Report<'_>) {
    // One that is not there yet will be made; one that cannot be looked at is found out about later.
    let Ok(metadata) = std::fs::metadata(data_dir) else { return };
    let mode = metadata.permissions().mode();
    if metadata.is_dir() && mode & 0o055 != 0 {
        let warning = format!(
            "{} can be read by others than its owner (mode {:04o}), and the log with it; \
             `chmod 700` it",
            data_dir.display(),
            mode & 0o7777
        );
        report.warn(table::DATA_DIR.path, None, &warning);
    }
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The name, the text and the mode of a configuration file.
fn read_file(path: &Path) -> Result<(String, String, u32), ConfigErrors> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        let mode = file.metadata()?.permissions().mode();
        file.take(LARGEST + 1).read_to_end(&mut bytes)?;
        Ok(mode)
    });
    let mode = match read {
        Ok(mode) => mode,
        Err(error) => {
            let problem = format!("the configuration file cannot be read: {error}");
            return Err(ConfigErrors::unreadable(name, problem));
        }
    };
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        let problem = format!("the file is no configuration: more than {LARGEST} bytes");
        return Err(ConfigErrors::unreadable(name, problem));
    }
    let Ok(text) = String::from_utf8(bytes) else {
        let problem = "the file is no configuration: not UTF-8 text".to_owned();
        return Err(ConfigErrors::unreadable(name, problem));
    };
    Ok((name, text, mode))
}

/// Reads a text; `mode` is that of the file it comes from.
fn parse(text: &str, name: &str, env: Env<'_>, mode: Option<u32>) -> Result<Loaded, ConfigErrors> {
    let mut report = Report::new(name, text, env);
    let (document, syntax) = DeTable::parse_recoverable(text);
    let root = RawSection::of(document.get_ref(), &mut report);
    let config = resolve::resolve(&root, &mut report);

    if !syntax.is_empty() {
        syntax_mistakes(&syntax, text, &mut report);
        return Err(report.into_errors());
    }
    match config {
        Ok(config) if report.is_clean() => {
            if let (Some(key), Some(mode)) = (report.literal_secret(), mode)
                && mode & 0o044 != 0
            {
                let warning = format!(
                    "stands in a file that others than its owner can read (mode {:04o}); \
                     `chmod 600` it, or keep the secret in a file of its own",
                    mode & 0o7777
                );
                report.warn(key, None, &warning);
            }
            if mode.is_some() {
                warn_of_readers(&config.data_dir, &mut report);
            }
            Ok(Loaded { config, warnings: report.into_warnings() })
        }
        Ok(_) | Err(_) => Err(report.into_errors()),
    }
}

/// Tells where the text is no TOML. What else was found is kept only where it is certain: before
/// the first such place. The parser goes on behind it, but a table's header may be lost there.
///
/// The parser's own message is used and not its display, which would show the line, and with it
/// perhaps a secret.
fn syntax_mistakes(errors: &[toml::de::Error], text: &str, report: &mut Report<'_>) {
    let place = |error: &toml::de::Error| error.span().map_or(text.len(), |span| span.start);
    report.keep_certain(errors.iter().map(place).min().unwrap_or(0));
    for error in errors {
        let at = place(error);
        let column = report.column(at);
        let problem = format!("not TOML at column {column}: {}", error.message());
        let fix = "texts, sizes and durations stand in quotes, each key on a line of its own";
        report.mistake(Scope::Key, "", Some(at), problem, fix);
    }
}
