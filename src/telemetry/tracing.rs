//! Log lines: for people on a terminal, JSON for everything else.

use std::fmt;
use std::io::{IsTerminal as _, stderr};
use std::str::FromStr;
use std::sync::OnceLock;

use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::recent::Recent;

/// The environment variable that says which log lines are written, in the syntax of `RUST_LOG`:
/// `debug`, or `info,forebay::sink=trace`. Without it, `info`.
pub const FILTER_VARIABLE: &str = "FOREBAY_LOG";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// [`Human`](Self::Human) when stderr is a terminal, [`Json`](Self::Json) when it is not.
    #[default]
    Auto,
    /// One line of text, in colour on a terminal, unless `NO_COLOR` is set.
    Human,
    /// One JSON object a line: `timestamp`, `level`, `target`, `message` and the line's fields.
    Json,
}

/// A text that is no [`LogFormat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log format is `auto`, `human` or `json`")]
pub struct ParseLogFormatError;

impl FromStr for LogFormat {
    type Err = ParseLogFormatError;

    fn from_str(text: &str) -> Result<Self, ParseLogFormatError> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(ParseLogFormatError),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}

/// Why there will be no log.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter cannot be read.
    #[error("{FILTER_VARIABLE} is no log filter: {0}")]
    Filter(#[from] ParseError),
    /// The filter is not text.
    #[error("{FILTER_VARIABLE} is not UTF-8")]
    NotUnicode,
    /// Log lines already go somewhere.
    #[error("logging is already set up: {0}")]
    Already(#[from] TryInitError),
}

/// From now on, log lines go to stderr, filtered by [`FILTER_VARIABLE`].
///
/// # Errors
/// When the filter cannot be read, or when this was done before.
pub fn init(format: LogFormat) -> Result<(), InitError> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) => Some(text),
        Err(std::env::VarError::NotPresent) => None,
        Err(std::env::VarError::NotUnicode(_)) => return Err(InitError::NotUnicode),
    };
    let terminal = stderr().is_terminal();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let layer = layer(format, terminal, terminal && !no_color, stderr);
    let from_environment = filter.is_some();
    let (filter, handle) = reload::Layer::new(env_filter(filter.as_deref())?);
    let recent = Recent::of_the_process();
    Registry::default().with(layer).with(filter).with(recent).try_init()?;
    // `try_init` succeeds once in a process, so the place is free.
    drop(FILTER.set(Filter { handle, from_environment }));
    Ok(())
}

/// What writes the lines.
type Lines = Box<dyn Layer<Registry> + Send + Sync>;

struct Filter {
    handle: reload::Handle<EnvFilter, Layered<Lines, Registry>>,
    /// [`FILTER_VARIABLE`] has said how lines are filtered.
    from_environment: bool,
}

/// The filter in force.
static FILTER: OnceLock<Filter> = OnceLock::new();

/// Why the filter stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum SetFilterError {
    /// The filter cannot be read.
    #[error("this is no log filter: {0}")]
    Filter(#[from] ParseError),
    /// Log lines go nowhere.
    #[error("this process writes no log")]
    NoLog,
}

/// The filter in force, as [`set_filter`] takes it; empty when no log is written.
#[must_use]
pub fn filter() -> String {
    let shown = |filter: &Filter| filter.handle.with_current(ToString::to_string).ok();
    FILTER.get().and_then(shown).unwrap_or_default()
}

/// What is wrong with a filter, if anything is.
#[must_use]
pub fn wrong_filter(text: &str) -> Option<String> {
    env_filter(Some(text)).err().map(|error| error.to_string())
}

/// From now on, this filter decides which lines are written, in the syntax of
/// [`FILTER_VARIABLE`]. Whole: what the filter before said is forgotten.
///
/// # Errors
/// When it cannot be read; the filter before stays in force.
pub fn set_filter(text: &str) -> Result<(), SetFilterError> {
    let filter = env_filter(Some(text))?;
    let installed = FILTER.get().ok_or(SetFilterError::NoLog)?;
    installed.handle.reload(filter).map_err(|_| SetFilterError::NoLog)
}

/// The same for the filter of the configuration, which gives way to [`FILTER_VARIABLE`]. Says
/// whether it is in force.
pub fn configured_filter(text: &str) -> bool {
    let gives_way = FILTER.get().is_some_and(|filter| filter.from_environment);
    !gives_way && set_filter(text).is_ok()
}

/// Reads a filter; without one, everything from `info` upward.
fn env_filter(text: Option<&str>) -> Result<EnvFilter, ParseError> {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    builder.parse(text.unwrap_or_default())
}

/// What writes the lines.
fn layer<W>(format: LogFormat, terminal: bool, color: bool, writer: W) -> Lines
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(color);
    match (format, terminal) {
        (LogFormat::Human, _) | (LogFormat::Auto, true) => layer.boxed(),
        // Fields beside the message instead of inside an object: what log tools index.
        (LogFormat::Json, _) | (LogFormat::Auto, false) => {
            layer.json().flatten_event(true).with_current_span(false).boxed()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, terminal: bool, color: bool, filter: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = layer(format, terminal, color, move || writer.clone());
        let filter = env_filter(Some(filter)).unwrap();
        let subscriber = Registry::default().with(layer).with(filter);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(destination = "splunk", offset = 7, "held");
            tracing::debug!("detail");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_have_their_fields_beside_the_message() {
        for (format, terminal) in [(LogFormat::Json, true), (LogFormat::Auto, false)] {
            let text = written(format, terminal, false, "");
            let [line] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["message"], "held");
            assert_eq!(line["level"], "INFO");
            assert_eq!(line["destination"], "splunk");
            assert_eq!(line["offset"], 7);
            assert!(line["timestamp"].is_string() && line["target"].is_string());
        }
    }

    #[test]
    fn lines_for_people_are_text() {
        for (format, terminal) in [(LogFormat::Human, false), (LogFormat::Auto, true)] {
            let text = written(format, terminal, false, "");
            assert!(text.ends_with("held destination=\"splunk\" offset=7\n"), "{text}");
            assert!(!text.contains('\u{1b}'));
            assert!(written(format, terminal, true, "").contains('\u{1b}'));
        }
    }

    #[test]
    fn the_filter_decides() {
        let lines = |filter| written(LogFormat::Json, false, false, filter).lines().count();
        assert_eq!(lines(""), 1);
        assert_eq!(lines("debug"), 2);
        assert_eq!(lines("error"), 0);
        assert_eq!(lines("warn,forebay=trace"), 2);
        assert!(env_filter(Some("forebay=loud")).is_err());
    }

    #[test]
    fn formats_are_read_back() {
        for format in [LogFormat::Auto, LogFormat::Human, LogFormat::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!("text".parse::<LogFormat>(), Err(ParseLogFormatError));
    }
}
