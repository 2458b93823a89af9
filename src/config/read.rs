//! The second stage's tool: one value at a time, from what was written or from the table's
//! default, checked against the table's limits.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::duration::{self, DurationError};
use super::expand::{ExpandError, expand};
use super::key::{Key, Kind, Preset, choices};
use super::raw::{Item, RawSection};
use super::report::{At, Report, Reported, Scope, shown};
use crate::types::{ByteSize, SizeError};

/// What systemd tells a service where its credentials are by.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// A value and the place it was written at; no place when it is a default.
#[derive(Clone, Debug)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) at: At,
}

/// A text, expanded, with what may be shown of it.
#[derive(Clone, Debug)]
pub(super) struct Words {
    pub(super) text: String,
    /// Quoted, as it was written, before variables were replaced: they may hold secrets.
    pub(super) shown: String,
    /// Whether it stands in the file letter by letter.
    pub(super) literal: bool,
}

/// Reads the values of one table.
pub(super) struct Reader<'r, 'd, 'e> {
    section: Option<&'r RawSection<'d>>,
    /// The name that stands for the open end of a key, while one is read.
    name: Option<&'d str>,
    pub(super) report: &'r mut Report<'e>,
}

impl<'r, 'd, 'e> Reader<'r, 'd, 'e> {
    /// A reader of a table, which need not be in the file.
    pub(super) const fn new(
        section: Option<&'r RawSection<'d>>,
        report: &'r mut Report<'e>,
    ) -> Self {
        Self { section, name: None, report }
    }

    /// Where the key stands, or else its table.
    pub(super) fn place(&self, name: &str) -> At {
        let item = self.section.and_then(|section| section.items.get(name));
        item.map(|item| item.at).or_else(|| self.section.and_then(|section| section.at))
    }

    /// Where the value of a key stands, if there is one.
    pub(super) fn place_of(&self, key: &Key) -> At {
        self.item(key).map(|item| item.at)
    }

    /// The text of a key that has been read before, without telling its mistakes again.
    pub(super) fn written_quietly(&self, key: &Key) -> Option<String> {
        let DeValue::String(written) = self.item(key)?.value else { return None };
        expand(written, self.report.env()).ok()
    }

    fn item(&self, key: &Key) -> Option<&'r Item<'d>> {
        self.section.and_then(|section| section.items.get(key.name()))
    }

    /// Notes a mistake in the value of a key.
    pub(super) fn mistake(
        &mut self,
        key: &Key,
        at: At,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Reported {
        let path = match self.name {
            Some(name) => format!("{}.{name}", key.section()),
            None => key.path.to_owned(),
        };
        self.report.mistake(Scope::Key, path, at, problem, fix)
    }

    /// Notes that a required key is not there, at its table.
    fn missing(&mut self, key: &Key, example: &str) -> Reported {
        let at = self.section.and_then(|section| section.at);
        let fix = format!("write one, such as {} = {example}", key.name());
        self.report.mistake(Scope::File, key.path, at, "is missing", fix)
    }

    fn wrong_type(&mut self, key: &Key, at: At, value: &DeValue<'_>, fix: String) -> Reported {
        let found = match value {
            _ if key.kind.is_hidden() => "this value".to_owned(),
            DeValue::String(text) => shown(text),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        let problem = format!("{found} is not {}", expected(&key.kind));
        self.mistake(key, at, problem, fix)
    }

    /// A TOML text, expanded.
    pub(super) fn words(
        &mut self,
        key: &Key,
        at: At,
        value: &DeValue<'_>,
    ) -> Result<Words, Reported> {
        let DeValue::String(written) = value else {
            let fix = format!("write a text in quotes{}", in_toml(key));
            return Err(self.wrong_type(key, at, value, fix));
        };
        match expand(written, self.report.env()) {
            Ok(text) => {
                let literal = !written.contains("${");
                Ok(Words { shown: shown(written), literal, text })
            }
            Err(ExpandError::Unset(name)) => {
                let problem = format!("the environment variable {name} is not set");
                let fix = if name == CREDENTIALS {
                    "systemd sets it for the service; by hand, as root, write \
                     CREDENTIALS_DIRECTORY=/etc/forebay/credentials before the command"
                } else {
                    "set it, or write `$$` for a dollar sign"
                };
                Err(self.mistake(key, at, problem, fix))
            }
            Err(ExpandError::LoneDollar) => {
                let problem = "a `$` begins neither `${NAME}` nor `$$`";
                let fix = "write `${NAME}` for an environment variable, `$$` for a dollar sign";
                Err(self.mistake(key, at, problem, fix))
            }
        }
    }

    /// The text of a key, if it was written.
    pub(super) fn written(&mut self, key: &Key) -> Result<Option<Placed<Words>>, Reported> {
        let Some(item) = self.item(key) else { return Ok(None) };
        let at = Some(item.at);
        Ok(Some(Placed { value: self.words(key, at, item.value)?, at }))
    }

    /// The text of a key, or its default.
    pub(super) fn text(&mut self, key: &Key) -> Result<Placed<Words>, Reported> {
        if let Some(placed) = self.written(key)? {
            return Ok(placed);
        }
        match key.preset {
            Preset::Value(text) => {
                let value = Words { text: text.to_owned(), shown: shown(text), literal: true };
                Ok(Placed { value, at: None })
            }
            Preset::Required { example } | Preset::Absent { example, .. } => {
                Err(self.missing(key, example))
            }
        }
    }

    /// An absolute path, or its default.
    pub(super) fn path(&mut self, key: &Key) -> Result<Placed<PathBuf>, Reported> {
        let words = self.text(key)?;
        self.absolute(key, &words)
    }

    /// Checks that a path does not depend on where forebay is started.
    pub(super) fn absolute(
        &mut self,
        key: &Key,
        words: &Placed<Words>,
    ) -> Result<Placed<PathBuf>, Reported> {
        let path = PathBuf::from(&words.value.text);
        if path.is_absolute() {
            return Ok(Placed { value: path, at: words.at });
        }
        let shown = if key.kind.is_hidden() { "this value" } else { &words.value.shown };
        let problem = format!("{shown} is not an absolute path");
        let fix = "begin it with `/`, or with `${PWD}/` for the directory forebay is started in";
        Err(self.mistake(key, words.at, problem, fix))
    }

    /// A size within its limits, or its default.
    pub(super) fn size(&mut self, key: &Key) -> Result<Placed<ByteSize>, Reported> {
        let Kind::Size { min, max } = key.kind else { return Err(self.bug(key)) };
        if let Some(Item { value: value @ DeValue::Integer(_), at }) = self.item(key) {
            let fix = format!("write a whole number and a unit, in quotes{}", in_toml(key));
            return Err(self.wrong_type(key, Some(*at), value, fix));
        }
        let words = self.text(key)?;
        let size = words.value.text.parse::<ByteSize>().map_err(|error| {
            let fix = match error {
                SizeError::Number | SizeError::Unit => {
                    format!("write a whole number and a unit{}", such_as(key))
                }
                SizeError::TooLarge => format!("write at most {max}"),
            };
            self.mistake(key, words.at, format!("{} is not a size", words.value.shown), fix)
        })?;
        self.within(key, &words, size, min, max, ByteSize::to_string)
    }

    /// A duration within its limits, or its default.
    pub(super) fn time(&mut self, key: &Key) -> Result<Placed<Duration>, Reported> {
        let Kind::Time { min, max } = key.kind else { return Err(self.bug(key)) };
        if let Some(Item { value: value @ DeValue::Integer(_), at }) = self.item(key) {
            let fix = format!("write a whole number and a unit, in quotes{}", in_toml(key));
            return Err(self.wrong_type(key, Some(*at), value, fix));
        }
        let words = self.text(key)?;
        let time = duration::parse(&words.value.text).map_err(|error| {
            let fix = match error {
                DurationError::Form => format!(
                    "write whole numbers with the units d, h, m, s, ms, the largest first{}",
                    such_as(key)
                ),
                DurationError::TooLong => format!("write at most {}", duration::text(max)),
            };
            self.mistake(key, words.at, format!("{} is not a duration", words.value.shown), fix)
        })?;
        self.within(key, &words, time, min, max, |time| duration::text(*time))
    }

    fn within<T: PartialOrd>(
        &mut self,
        key: &Key,
        words: &Placed<Words>,
        value: T,
        min: T,
        max: T,
        text: impl Fn(&T) -> String,
    ) -> Result<Placed<T>, Reported> {
        let shown = &words.value.shown;
        if value < min {
            let fix = format!("write at least {}", text(&min));
            return Err(self.mistake(key, words.at, format!("{shown} is too little"), fix));
        }
        if value > max {
            let fix = format!("write at most {}", text(&max));
            return Err(self.mistake(key, words.at, format!("{shown} is too much"), fix));
        }
        Ok(Placed { value, at: words.at })
    }

    /// A whole number within its limits, or its default.
    pub(super) fn count(&mut self, key: &Key) -> Result<Placed<u64>, Reported> {
        let (Kind::Count { min, max }, Preset::Value(preset)) = (key.kind, key.preset) else {
            return Err(self.bug(key));
        };
        let Some(item) = self.item(key) else {
            let value = preset.parse().map_err(|_| self.bug(key))?;
            return Ok(Placed { value, at: None });
        };
        let at = Some(item.at);
        let number = if let DeValue::Integer(digits) = item.value {
            u64::from_str_radix(digits.as_str(), digits.radix()).ok()
        } else {
            None
        };
        match number {
            Some(value) if (min..=max).contains(&value) => Ok(Placed { value, at }),
            _ => {
                let quoted = matches!(item.value, DeValue::String(_));
                let without = if quoted { " without quotes" } else { "" };
                let fix = format!("write one{without}{}", such_as(key));
                Err(self.wrong_type(key, at, item.value, fix))
            }
        }
    }

    /// The same where it has to fit into memory.
    pub(super) fn number(&mut self, key: &Key) -> Result<usize, Reported> {
        let count = self.count(key)?;
        usize::try_from(count.value).map_err(|_| self.bug(key))
    }

    /// The same where 0 makes no sense.
    pub(super) fn some(&mut self, key: &Key) -> Result<NonZeroUsize, Reported> {
        let number = self.number(key)?;
        NonZeroUsize::new(number).ok_or_else(|| self.bug(key))
    }

    /// `true` or `false`, or the default.
    pub(super) fn flag(&mut self, key: &Key) -> Result<Placed<bool>, Reported> {
        let Preset::Value(preset) = key.preset else { return Err(self.bug(key)) };
        match self.item(key) {
            None => Ok(Placed { value: preset.parse().map_err(|_| self.bug(key))?, at: None }),
            Some(Item { value: DeValue::Boolean(flag), at }) => {
                Ok(Placed { value: *flag, at: Some(*at) })
            }
            Some(item) => {
                let fix = "write one of the two without quotes".to_owned();
                Err(self.wrong_type(key, Some(item.at), item.value, fix))
            }
        }
    }

    /// One of the words of a choice, as the value that stands for it.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &Key,
        meanings: &[(&str, T)],
    ) -> Result<T, Reported> {
        let Kind::Choice { now, .. } = key.kind else { return Err(self.bug(key)) };
        let words = self.text(key)?;
        let text = words.value.text.as_str();
        if let Some((_, meaning)) = meanings.iter().find(|(word, _)| *word == text) {
            return Ok(*meaning);
        }
        let fix = format!("write {}", choices(now, "\""));
        self.supported(key, &words, &fix)?;
        let problem = format!("{} is not {}", words.value.shown, expected(&key.kind));
        Err(self.mistake(key, words.at, problem, fix))
    }

    /// The same for a key without a default, if it was written.
    pub(super) fn choice_if_written<T: Copy>(
        &mut self,
        key: &Key,
        meanings: &[(&str, T)],
    ) -> Result<Option<T>, Reported> {
        if self.item(key).is_none() { Ok(None) } else { self.choice(key, meanings).map(Some) }
    }

    /// Refuses a value that a later forebay takes.
    fn supported(&mut self, key: &Key, words: &Placed<Words>, fix: &str) -> Result<(), Reported> {
        match key.kind.later().iter().find(|later| later.is(&words.value.text)) {
            None => Ok(()),
            Some(later) => {
                let problem = format!(
                    "{} is not yet supported: it comes with {}",
                    words.value.shown, later.with
                );
                Err(self.mistake(key, words.at, problem, fix))
            }
        }
    }

    /// A list of texts, if it was written. Never an empty one.
    pub(super) fn list(&mut self, key: &Key) -> Result<Option<Vec<Placed<Words>>>, Reported> {
        let Some(item) = self.item(key) else { return Ok(None) };
        let at = Some(item.at);
        let DeValue::Array(array) = item.value else {
            let fix = format!("write texts in square brackets{}", such_as(key));
            return Err(self.wrong_type(key, at, item.value, fix));
        };
        if array.is_empty() {
            let fix = format!("write at least one{}", such_as(key));
            // Not certain in a file that is no TOML: its elements may be what is wrong.
            return Err(self.report.mistake(Scope::File, key.path, at, "the list is empty", fix));
        }
        // Every element is looked at, so that every mistake is found.
        let words: Vec<_> = array
            .iter()
            .map(|element| {
                let at = Some(element.span().start);
                Ok(Placed { value: self.words(key, at, element.get_ref())?, at })
            })
            .collect();
        words.into_iter().collect::<Result<_, _>>().map(Some)
    }

    /// The list of a required key.
    pub(super) fn required_list(&mut self, key: &Key) -> Result<Vec<Placed<Words>>, Reported> {
        match (self.list(key)?, key.preset) {
            (Some(list), _) => Ok(list),
            (None, Preset::Required { example }) => Err(self.missing(key, example)),
            (None, Preset::Value(_) | Preset::Absent { .. }) => Err(self.bug(key)),
        }
    }

    /// The names in a table that takes any, with their texts, as far as they can be read.
    pub(super) fn open(&mut self, key: &Key) -> (BTreeMap<String, String>, Result<(), Reported>) {
        let mut texts = BTreeMap::new();
        let mut mistakes = Ok(());
        let section = self.section;
        for (name, item) in section.iter().flat_map(|section| &section.items) {
            self.name = Some(name);
            match self.words(key, Some(item.at), item.value) {
                Ok(words) => {
                    texts.insert((*name).to_owned(), words.text);
                }
                Err(mistake) => mistakes = Err(mistake),
            }
        }
        self.name = None;
        (texts, mistakes)
    }

    /// The table and the code disagree. Tests read every key, so that no user sees this.
    pub(super) fn bug(&mut self, key: &Key) -> Reported {
        let problem = "is read as something else than the table of keys says";
        self.report.mistake(Scope::File, key.path, None, problem, "report this bug in forebay")
    }
}

fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Size { .. } => "a size".to_owned(),
        Kind::Time { .. } => "a duration".to_owned(),
        Kind::Count { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::List => "a list".to_owned(),
        Kind::Choice { now, .. } => choices(now, "\""),
        Kind::Text
        | Kind::Path
        | Kind::Secret
        | Kind::SecretFile
        | Kind::Listen
        | Kind::Socket
        | Kind::Template => "a text".to_owned(),
    }
}

/// `, such as` and the default or the example.
fn such_as(key: &Key) -> String {
    match key.preset {
        Preset::Value(text) => format!(", such as {text}"),
        Preset::Required { example } | Preset::Absent { example, .. } => {
            format!(", such as {example}")
        }
    }
}

/// The same with quotes where TOML wants them.
fn in_toml(key: &Key) -> String {
    match key.preset {
        Preset::Value(text) => format!(", such as {}", key.kind.toml(text)),
        Preset::Required { .. } | Preset::Absent { .. } => such_as(key),
    }
}
