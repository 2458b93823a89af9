//! The floors of `docs/ARCHITECTURE.md`: imports only point down.
//!
//! Every path in `src/` that begins at the crate's root is looked at, in whatever way it is
//! written: `crate::wal::Wal`, `use crate::{admin, wal}`, `super::super::wal`. Test code is under
//! the same rule: what a test needs from above is a test of what is above.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A module at the root of the crate, and the floor it is on.
type Floor = (&'static str, u8);

const FLOORS: &[Floor] = &[
    ("types", 1),
    ("generated", 1),
    ("clock", 1),
    ("logplex", 2),
    ("record", 2),
    ("hec", 3),
    ("delivery", 4),
    ("telemetry", 5),
    ("tls", 5),
    ("wal", 6),
    ("ingest", 7),
    ("sink", 7),
    ("simulate", 7),
    ("admin", 8),
    ("config", 9),
    ("app", 10),
    ("cli", 10),
    ("main", 10),
];

/// The only imports on the same floor.
const SIDEWAYS: &[(&str, &str)] =
    &[("clock", "types"), ("record", "logplex"), ("cli", "app"), ("main", "cli")];

/// The floors that do no I/O and are told the time. The clock lies on floor 1, so that everything
/// above may read it; these may not.
const PURE: u8 = 4;

/// What the pure floors take from the standard library only in tests.
const IMPURE: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread"];

/// A path that begins at the root of a crate.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Import {
    line: usize,
    /// `crate` or `std`.
    root: &'static str,
    /// The first name behind the root.
    name: String,
    /// Inside of `#[cfg(test)] mod … { … }`.
    test: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// `::`
    Path,
    Other(char),
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The tokens of a source with their lines; without comments, strings and numbers' meaning.
fn tokens(source: &str) -> Vec<(usize, Token<'_>)> {
    let mut all = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(c) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest) {
            length
        } else if is_word(c) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            all.push((line, Token::Word(rest.get(..length).unwrap_or_default())));
            length
        } else if rest.starts_with("::") {
            all.push((line, Token::Path));
            2
        } else {
            if !c.is_whitespace() {
                all.push((line, Token::Other(c)));
            }
            c.len_utf8()
        };
        let (token, behind) = rest.split_at(length);
        line += token.matches('\n').count();
        rest = behind;
    }
    all
}

/// The length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of a string or character literal, with its prefix.
fn string(text: &str) -> Option<usize> {
    let bare = ["br", "cr", "b", "c", "r"]
        .into_iter()
        .find_map(|prefix| {
            let rest = text.strip_prefix(prefix)?;
            rest.starts_with(['"', '#', '\'']).then_some((prefix, rest))
        })
        .unwrap_or(("", text));
    let (prefix, rest) = bare;
    if prefix.ends_with('r') {
        let hashes = rest.chars().take_while(|c| *c == '#').count();
        let body = rest.get(hashes..)?.strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = body.find(&end).map_or(body.len(), |at| at + end.len());
        return Some(prefix.len() + hashes + 1 + length);
    }
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut characters = rest.char_indices().skip(1);
    if quote == '\'' {
        // A lifetime has no quote at its end.
        let closes = rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'');
        if !closes {
            return None;
        }
    }
    while let Some((at, c)) = characters.next() {
        if c == '\\' {
            characters.next();
        } else if c == quote {
            return Some(prefix.len() + at + 1);
        }
    }
    Some(text.len())
}

/// The module a file holds: `["wal", "group"]` for `wal/group.rs`, nothing for `lib.rs`.
fn module(file: &Path) -> Vec<String> {
    let parts = file.with_extension("");
    let mut parts: Vec<_> = parts.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|part| part == "mod" || part == "lib") {
        parts.pop();
    }
    parts
}

/// Every path of a source that begins at the root of this crate or of `std`.
fn imports(file: &Path, source: &str) -> Vec<Import> {
    let tokens = tokens(source);
    let outer = module(file).len();
    let mut found = Vec::new();
    // The blocks that are open; `Some(test)` for those of modules.
    let mut blocks: Vec<Option<bool>> = Vec::new();
    let mut at = 0;
    while let Some((line, token)) = tokens.get(at).copied() {
        let word = |ahead: usize| match tokens.get(at + ahead) {
            Some((_, Token::Word(word))) => Some(*word),
            _ => None,
        };
        let is = |ahead: usize, token| tokens.get(at + ahead).is_some_and(|(_, t)| *t == token);
        let behind_path = at > 0 && tokens.get(at - 1).is_some_and(|(_, t)| *t == Token::Path);
        let (inner, test) =
            blocks.iter().flatten().fold((0, false), |(n, any), test| (n + 1, any || *test));
        let mut step = 1;
        match token {
            Token::Word("mod") if word(1).is_some() && is(2, Token::Other('{')) => {
                let before: Vec<_> = tokens.iter().take(at).rev().map(|(_, t)| *t).collect();
                blocks.push(Some(is_for_tests(&before)));
                step = 3;
            }
            Token::Other('{') => blocks.push(None),
            Token::Other('}') => drop(blocks.pop()),
            Token::Word("crate" | "forebay" | "std" | "super")
                if !behind_path && is(1, Token::Path) =>
            {
                let mut names = at + 2;
                let root = match token {
                    Token::Word("std") => Some("std"),
                    Token::Word("super") => {
                        let mut up = 1;
                        while tokens.get(names).is_some_and(|(_, t)| *t == Token::Word("super")) {
                            (up, names) = (up + 1, names + 2);
                        }
                        (up == outer + inner).then_some("crate")
                    }
                    // The library's name is a root for the binary only.
                    Token::Word("forebay") => (module(file) == ["main"]).then_some("crate"),
                    Token::Word(_) | Token::Path | Token::Other(_) => Some("crate"),
                };
                let rest = tokens.get(names..).unwrap_or_default();
                if let Some(root) = root {
                    let named = |name: &str| Import { line, root, name: name.to_owned(), test };
                    found.extend(first_names(rest).into_iter().map(named));
                }
                step = names - at;
            }
            Token::Word(_) | Token::Path | Token::Other(_) => {}
        }
        at += step;
    }
    found
}

/// The tokens before a `mod`, backwards: whether they are `#[cfg(test)]`, with or without `pub`.
fn is_for_tests(before: &[Token<'_>]) -> bool {
    let attribute = ['#', '[', ' ', '(', ' ', ')', ']'];
    let end = before.iter().position(|token| *token == Token::Other(']'));
    let Some(written) = end.and_then(|end| before.get(end..end + attribute.len())) else {
        return false;
    };
    let visible = [Token::Word("pub"), Token::Word("crate"), Token::Word("super")];
    let between = before.iter().take(end.unwrap_or_default());
    written.iter().rev().zip(attribute).all(|(token, c)| match token {
        Token::Other(found) => *found == c,
        Token::Word(word) => c == ' ' && matches!(*word, "cfg" | "test"),
        Token::Path => false,
    }) && between
        .copied()
        .all(|token| visible.contains(&token) || matches!(token, Token::Other('(' | ')')))
}

/// The names that follow a root: one, or those of a group at its first level.
fn first_names<'a>(rest: &[(usize, Token<'a>)]) -> Vec<&'a str> {
    match rest.first() {
        Some((_, Token::Word(name))) => vec![name],
        Some((_, Token::Other('{'))) => {
            let (mut depth, mut begins, mut names) = (0_u32, false, Vec::new());
            for (_, token) in rest {
                match token {
                    Token::Other('{') => (depth, begins) = (depth + 1, true),
                    Token::Other('}') => depth -= 1,
                    Token::Other(',') => begins = true,
                    Token::Word(name) => {
                        if depth == 1 && begins {
                            names.push(*name);
                        }
                        begins = false;
                    }
                    Token::Path | Token::Other(_) => {}
                }
                if depth == 0 {
                    break;
                }
            }
            names
        }
        _ => Vec::new(),
    }
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// What a file imports against the rules. `test` says that all of it is compiled for tests only.
fn violations(file: &Path, source: &str, test: bool) -> Vec<String> {
    let path = module(file);
    let Some(own) = path.first() else { return Vec::new() };
    let Some(own_floor) = floor(own) else {
        return vec![format!("{}: {own} is on no floor: add it to FLOORS", file.display())];
    };
    let mut all = Vec::new();
    for import in imports(file, source) {
        let name = import.name.as_str();
        let why = if import.root == "std" {
            let pure = own_floor <= PURE && own != "clock" && !test && !import.test;
            (pure && IMPURE.contains(&name)).then(|| format!("std::{name} in a pure floor"))
        } else {
            match floor(name) {
                _ if name == own => None,
                // A macro or an item at the root.
                None => Some(format!("crate::{name} is on no floor")),
                Some(_) if name == "clock" && own_floor <= PURE => {
                    Some("the pure floors are told the time".to_owned())
                }
                Some(other) if other < own_floor => None,
                Some(_) if SIDEWAYS.contains(&(own.as_str(), name)) => None,
                Some(other) => Some(format!("{own} ({own_floor}) imports {name} ({other})")),
            }
        };
        all.extend(why.map(|why| format!("{}:{}: {why}", file.display(), import.line)));
    }
    all
}

/// Every Rust file below `root`, relative to it, in order.
pub(super) fn sources(root: &Path) -> std::io::Result<Vec<(PathBuf, String)>> {
    let (mut all, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
                all.push((relative, std::fs::read_to_string(&path)?));
            }
        }
    }
    all.sort();
    Ok(all)
}

/// What prost wrote belongs to `generated`, which declares it with a path of its own.
fn is_generated(file: &Path) -> bool {
    file.starts_with("gen")
}

/// The modules that are declared under `#[cfg(test)]` in a file of their own, as paths without
/// an extension.
fn test_modules(files: &[(PathBuf, String)]) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for (file, source) in files {
        let directory: PathBuf = module(file).iter().collect();
        let tokens = tokens(source);
        for (at, window) in tokens.windows(3).enumerate() {
            if let [(_, Token::Word("mod")), (_, Token::Word(name)), (_, Token::Other(';'))] =
                window
            {
                let before: Vec<_> = tokens.iter().take(at).rev().map(|(_, t)| *t).collect();
                if is_for_tests(&before) {
                    all.insert(directory.join(name));
                }
            }
        }
    }
    all
}

#[test]
fn imports_only_point_down() {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let tests = test_modules(&files);
    let for_tests = |file: &Path| {
        let module: PathBuf = module(file).iter().collect();
        module.ancestors().any(|module| tests.contains(module))
    };
    let wrong: Vec<_> = files
        .iter()
        .filter(|(file, _)| !is_generated(file))
        .flat_map(|(file, source)| violations(file, source, for_tests(file)))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    // A check that looks at nothing passes, too.
    let looked_at: BTreeSet<_> =
        files.iter().filter_map(|(file, _)| module(file).first().cloned()).collect();
    let missing: Vec<_> = FLOORS.iter().filter(|(name, _)| !looked_at.contains(*name)).collect();
    assert!(missing.is_empty(), "no such modules: {missing:?}");
    let seen: usize = files.iter().map(|(file, source)| imports(file, source).len()).sum();
    assert!(seen > 300, "only {seen} imports were found");
    assert!(tests.contains(Path::new("delivery/simulation")), "{tests:?}");
}

#[test]
fn a_planted_violation_is_found_however_it_is_written() {
    for (file, source) in [
        ("wal/read.rs", "use crate::sink::Sink;"),
        ("wal/read.rs", "use crate::{types::{Offset, Tail}, sink};"),
        ("wal/read.rs", "use {crate::types::Offset, crate::sink::Sink};"),
        ("wal/read.rs", "fn f() { let x = crate :: sink\n::Sink; }"),
        ("wal/read.rs", "use super::super::sink::Sink;"),
        ("wal/mod.rs", "use super::sink::Sink;"),
        ("record.rs", "use super::wal::Wal;"),
        ("wal/read.rs", "mod inner { use super::super::super::sink::Sink; }"),
        ("wal/read.rs", "#[cfg(test)] mod tests { use crate::app::Relay; }"),
        ("ingest/mod.rs", "use crate::sink::Sink;"),
        ("sink/mod.rs", "use crate::simulate::hec;"),
        ("hec/mod.rs", "use crate::delivery::Event;"),
        ("logplex/mod.rs", "use crate::record::Record;"),
        ("app/mod.rs", "use crate::cli::main;"),
        ("delivery/mod.rs", "use crate::clock;"),
        ("delivery/mod.rs", "use std::fs::File;"),
        ("delivery/mod.rs", "use std::{fmt, thread};"),
        ("hec/mod.rs", "fn f() { std::net::TcpStream::connect(x); }"),
        ("wal/mod.rs", "use crate::brand_new::Thing;"),
        ("brand_new.rs", ""),
        ("wal/mod.rs", "/* \" */ use crate::sink::Sink; // \""),
        ("wal/mod.rs", "fn f<'a>(c: char) { c == '\"'; crate::sink::f(b'\\'', r#\"\"\"#) }"),
    ] {
        assert_eq!(violations(Path::new(file), source, false).len(), 1, "{file}: {source}");
    }
}

#[test]
fn what_is_allowed_is_not_reported() {
    for (file, source) in [
        ("wal/read.rs", "use crate::types::Offset; use crate::wal::keys; use super::error;"),
        ("wal/read.rs", "use std::{fs, thread};"),
        ("wal/read.rs", "//! [`crate::sink`]\n/* crate::sink /* */ crate::sink */"),
        ("wal/read.rs", "const A: &str = \"crate::sink \\\" crate::sink\"; // crate::sink"),
        ("wal/read.rs", "const A: &str = r##\"\"# crate::sink\"##;"),
        ("wal/read.rs", "pub(crate) fn f() { other::crate::sink(); }"),
        ("wal/read.rs", "mod inner { use super::super::keys; use super::sink; }"),
        ("hec/mod.rs", "use std::fmt; use std::time::Duration;"),
        ("hec/mod.rs", "#[cfg(test)]\nmod tests { use std::fs; fn f() {} use std::env; }"),
        ("clock.rs", "use crate::types::UnixMicros;"),
        ("record.rs", "use crate::logplex::Profile;"),
        ("main.rs", "fn main() { forebay::cli::main(std::env::args_os()) }"),
        ("lib.rs", "pub mod types; mod generated;"),
    ] {
        let none: [String; 0] = [];
        assert_eq!(violations(Path::new(file), source, false), none, "{file}: {source}");
    }
    let whole = violations(Path::new("generated/tests.rs"), "use std::fs;", true);
    assert!(whole.is_empty(), "a file that is compiled for tests only: {whole:?}");
}
