//! A configuration of Vector, whichever of its three formats it is in, with the line of everything.

use std::path::Path;

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The formats of Vector's configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// `.toml`
    Toml,
    /// `.yaml` or `.yml`
    Yaml,
    /// `.json`
    Json,
}

impl Format {
    /// The format that the name of a file tells.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// The line of its key, or its own when it has none; from 1.
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What all three formats can say.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

impl Node {
    /// What is in a list; what is none is a list of one.
    pub(super) fn elements(self) -> Vec<Self> {
        if let Value::List(nodes) = self.value { nodes } else { vec![self] }
    }
}

impl Value {
    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Whether it is this text.
    pub(super) fn is(&self, word: &str) -> bool {
        self.text() == Some(word)
    }
}

/// Why a file is no configuration: the line, as far as it is known, and what is wrong there. Never
/// the text of the line, which may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) line: Option<usize>,
    pub(super) problem: String,
}

/// How deep lists and tables may be nested. Vector's own have six levels.
const DEEPEST: usize = 64;

/// Reads a text.
pub(super) fn read(text: &str, format: Format) -> Result<Node, Unreadable> {
    let root = match format {
        Format::Toml => toml(text)?,
        Format::Yaml => yaml(text)?,
        Format::Json => json(text)?,
    };
    if matches!(root.value, Value::Table(_)) {
        Ok(root)
    } else {
        wrong(Some(root.line), "the file holds no table of sources and sinks")
    }
}

fn wrong<T>(line: Option<usize>, problem: impl Into<String>) -> Result<T, Unreadable> {
    Err(Unreadable { line, problem: problem.into() })
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at.saturating_add(1)).collect())
    }

    fn line(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at).saturating_add(1)
    }
}

fn toml(text: &str) -> Result<Node, Unreadable> {
    let lines = Lines::of(text);
    let document = DeTable::parse(text).map_err(|error| Unreadable {
        line: error.span().map(|span| lines.line(span.start)),
        problem: format!("not TOML: {}", error.message()),
    })?;
    Ok(Node { line: 1, value: toml_table(document.get_ref(), &lines)? })
}

fn toml_table(table: &DeTable<'_>, lines: &Lines) -> Result<Value, Unreadable> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let line = lines.line(key.span().start);
        let value = toml_value(value, lines)?;
        entries.push((key.get_ref().to_string(), Node { line, value }));
    }
    // The parser sorts by name; a list of what is left to do is read from above.
    entries.sort_by_key(|(_, node)| node.line);
    Ok(Value::Table(entries))
}

fn toml_value(value: &Spanned<DeValue<'_>>, lines: &Lines) -> Result<Value, Unreadable> {
    let line = lines.line(value.span().start);
    Ok(match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => return wrong(Some(line), "a whole number is too large"),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => return wrong(Some(line), "this is no number"),
        },
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(array) => {
            let nodes = array.iter().map(|element| {
                let line = lines.line(element.span().start);
                Ok(Node { line, value: toml_value(element, lines)? })
            });
            Value::List(nodes.collect::<Result<_, Unreadable>>()?)
        }
        DeValue::Table(table) => toml_table(table, lines)?,
    })
}

/// JSON is YAML, but for tabs between its words; in its texts there are none.
fn json(text: &str) -> Result<Node, Unreadable> {
    // First by its own rules: YAML's are laxer.
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let line = error.line();
        return wrong(Some(line), format!("not JSON, at column {}", error.column()));
    }
    marked(&text.replace('\t', " "), "JSON")
}

fn yaml(text: &str) -> Result<Node, Unreadable> {
    marked(text, "YAML")
}

fn marked(text: &str, format: &str) -> Result<Node, Unreadable> {
    let documents = MarkedYaml::load_from_str(text).map_err(|error| Unreadable {
        line: Some(error.marker().line()),
        problem: format!("not {format}: {}", error.info()),
    })?;
    match documents.as_slice() {
        [] => wrong(None, "the file is empty"),
        [document] => {
            Ok(Node { line: document.span.start.line(), value: yaml_value(document, 0)? })
        }
        [_, second, ..] => {
            wrong(Some(second.span.start.line()), "a second document begins; Vector reads one")
        }
    }
}

fn yaml_value(node: &MarkedYaml<'_>, depth: usize) -> Result<Value, Unreadable> {
    let line = Some(node.span.start.line());
    if depth > DEEPEST {
        return wrong(line, "lists and tables are nested too deeply");
    }
    Ok(match &node.data {
        YamlData::Value(scalar) => yaml_scalar(scalar),
        YamlData::Sequence(elements) => {
            let nodes = elements.iter().map(|element| {
                let line = element.span.start.line();
                Ok(Node { line, value: yaml_value(element, depth + 1)? })
            });
            Value::List(nodes.collect::<Result<_, Unreadable>>()?)
        }
        YamlData::Mapping(mapping) => {
            let mut entries = Vec::with_capacity(mapping.len());
            for (key, value) in mapping {
                let line = key.span.start.line();
                let YamlData::Value(name) = &key.data else {
                    return wrong(Some(line), "a key is no text");
                };
                let Some(name) = yaml_scalar(name).text().map(str::to_owned) else {
                    return wrong(Some(line), "a key is no text");
                };
                entries.push((name, Node { line, value: yaml_value(value, depth + 1)? }));
            }
            Value::Table(merged(entries))
        }
        YamlData::Tagged(_, inner) => yaml_value(inner, depth + 1)?,
        YamlData::Representation(..) | YamlData::Alias(_) | YamlData::BadValue => {
            return wrong(line, "this value cannot be read");
        }
    })
}

fn yaml_scalar(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(flag) => Value::Bool(*flag),
        Scalar::Integer(number) => Value::Integer(*number),
        Scalar::FloatingPoint(number) => Value::Float(number.into_inner()),
        Scalar::String(text) => Value::Text(text.to_string()),
    }
}

/// Merge keys: what `<<` brings in stands behind what is written.
fn merged(entries: Vec<(String, Node)>) -> Vec<(String, Node)> {
    let (merges, mut entries): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|(name, _)| name == "<<");
    for (_, merge) in merges {
        for table in merge.elements() {
            let Value::Table(table) = table.value else { continue };
            for (name, node) in table {
                if !entries.iter().any(|(known, _)| *known == name) {
                    entries.push((name, node));
                }
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node<'n>(root: &'n Node, path: &[&str]) -> &'n Node {
        path.iter().fold(root, |node, name| {
            let Value::Table(entries) = &node.value else { panic!("{name} of {node:?}") };
            &entries.iter().find(|(key, _)| key == name).unwrap().1
        })
    }

    #[test]
    fn all_three_formats_say_the_same_with_their_lines() {
        let toml = "[sinks.a]\ntype = \"x\"\n[sinks.a.batch]\nmax = 7\nlist = [true, 0.5]\n";
        let yaml =
            "sinks:\n  a:\n    type: x\n    batch: # here\n      max: 7\n      list: [true, 0.5]\n";
        let json = "{\"sinks\":\n\t{\"a\": {\"type\": \"x\",\n\t\"batch\": {\"max\": 7,\n\"list\": [true, 0.5]}}}}";
        for (text, format, line) in
            [(toml, Format::Toml, 4), (yaml, Format::Yaml, 5), (json, Format::Json, 3)]
        {
            let root = read(text, format).unwrap();
            let max = node(&root, &["sinks", "a", "batch", "max"]);
            assert_eq!(*max, Node { line, value: Value::Integer(7) }, "{format:?}");
            assert_eq!(node(&root, &["sinks", "a", "type"]).value, Value::Text("x".to_owned()));
            let Value::List(list) = &node(&root, &["sinks", "a", "batch", "list"]).value else {
                panic!("{root:?}");
            };
            let values: Vec<_> = list.iter().map(|node| node.value.clone()).collect();
            assert_eq!(values, [Value::Bool(true), Value::Float(0.5)]);
        }
    }

    #[test]
    fn aliases_and_merge_keys_are_followed() {
        let text = "base: &b\n  x: 1\n  y: 2\none:\n  <<: *b\n  y: 3\n";
        let root = read(text, Format::Yaml).unwrap();
        assert_eq!(node(&root, &["one", "x"]).value, Value::Integer(1));
        assert_eq!(node(&root, &["one", "y"]).value, Value::Integer(3));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line_and_without_its_text() {
        for (text, format, line) in [
            ("a = 1\ntoken = s3cr3t\n", Format::Toml, Some(2)),
            ("a: 1\ntoken: \"s3cr3t\n", Format::Yaml, None),
            ("{\"a\": 1,\n\"token\": s3cr3t}", Format::Json, Some(2)),
            ("a: 1\n---\nb: 2\n", Format::Yaml, Some(3)),
            ("", Format::Yaml, None),
            ("- a\n", Format::Yaml, Some(1)),
        ] {
            let error = read(text, format).unwrap_err();
            assert!(line.is_none() || error.line == line, "{error:?}");
            assert!(!error.problem.contains("s3cr3t"), "{error:?}");
        }
    }
}
