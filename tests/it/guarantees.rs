//! `docs/guarantees.md` names the tests that hold each promise. They have to be there.

use std::collections::BTreeMap;
use std::path::Path;

/// A test in the documentation, taken apart: `it::signals::name` or `hec::ack::tests::name`.
fn parts(name: &str) -> Option<(Vec<&str>, &str)> {
    let (module, test) = name.rsplit_once("::")?;
    // Where the tests of a module are written, in it, below it or beside it, is nobody's business.
    let module = module.split("::").map(|part| part.trim_end_matches("_tests"));
    Some((module.filter(|part| *part != "tests").collect(), test))
}

/// The module a file belongs to, as [`parts`] has it.
fn module(file: &Path) -> Vec<String> {
    file.with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().trim_end_matches("_tests").to_owned())
        .filter(|part| !matches!(part.as_str(), "tests" | "mod"))
        .collect()
}

/// The names of the tests in a source: functions that follow a line `#[test]` or the like, and
/// those that proptest's macro makes.
fn tests(source: &str) -> Vec<&str> {
    let mut marked = false;
    let mut all = Vec::new();
    for line in source.lines().map(str::trim_start) {
        let function = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
        match function {
            Some(function) if marked => {
                all.extend(function.split_once('(').map(|(name, _)| name));
                marked = false;
            }
            Some(_) => marked = false,
            None => marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test"),
        }
    }
    all
}

/// Every test below `root`, by module; `it` stands before those of the integration tests.
fn all_tests(root: &Path, prefix: &[&str], all: &mut BTreeMap<Vec<String>, Vec<String>>) {
    for (file, source) in super::floors::sources(root).unwrap_or_default() {
        let mut path: Vec<String> = prefix.iter().map(|part| (*part).to_owned()).collect();
        path.extend(module(&file));
        let names = tests(&source).into_iter().map(str::to_owned);
        all.entry(path).or_default().extend(names);
    }
}

/// The sections of the page, with the tests each names.
fn sections(page: &str) -> Vec<(&str, Vec<&str>)> {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            all.push((title, Vec::new()));
        } else if let Some(test) = line.strip_prefix("- `").and_then(|rest| rest.strip_suffix('`'))
            && let Some((_, named)) = all.last_mut()
        {
            named.push(test);
        }
    }
    all
}

/// Whether there is a test of a name.
pub(super) fn known_tests() -> impl Fn(&str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeMap::new();
    all_tests(&root.join("src"), &[], &mut known);
    all_tests(&root.join("tests/it"), &["it"], &mut known);
    move |name: &str| {
        parts(name).is_some_and(|(module, test)| {
            let module: Vec<String> = module.into_iter().map(str::to_owned).collect();
            known.get(&module).is_some_and(|tests| tests.iter().any(|known| known == test))
        })
    }
}

#[test]
fn every_test_named_here_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let exists = known_tests();
    let page = std::fs::read_to_string(root.join("docs/guarantees.md")).unwrap();
    let sections = sections(&page);
    let without: Vec<_> = sections.iter().filter(|(_, tests)| tests.is_empty()).collect();
    assert!(without.is_empty(), "a promise without a test: {without:?}");
    let missing: Vec<_> =
        sections.iter().flat_map(|(_, tests)| tests).filter(|test| !exists(test)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");

    assert!(sections.len() >= 12, "three promises and nine invariants, at least");
    assert!(exists(
        "sink::pack_tests::the_pieces_of_a_batch_are_the_batch_and_a_letter_is_its_event"
    ));
    assert!(!exists("delivery::machine_tests::no_such_test"));
    assert!(!exists("delivery::simulation::no_such_test"));
    assert!(!exists("wal::in_every_world_nothing_is_lost_and_the_books_balance"));
    assert!(!exists("it::signals::lab"), "a function that is no test");
}
