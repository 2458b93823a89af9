//! The command line as the documentation has it: every command and every flag that a page names is
//! one that there is.

use std::path::Path;

use clap::CommandFactory as _;
use regex::Regex;

use super::args::Args;

/// What a placeholder stands for, where not any text would do.
const PLACEHOLDERS: &[(&str, &str)] = &[
    ("SHELL", "bash"),
    ("ADDRESS", "127.0.0.1:9600"),
    ("DURATION", "10s"),
    ("FILTER", "debug"),
    ("OFFSET", "7"),
    ("ID", "7"),
    ("N", "7"),
    ("TIME", "-2h"),
    ("URL", "http://user:password@127.0.0.1:8080/logs"),
];

/// The commands of a page: lines of its blocks, and what stands between backquotes.
fn commands(page: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut prose = String::new();
    for (number, part) in page.split("```").enumerate() {
        if number % 2 == 0 {
            prose.push_str(part);
            continue;
        }
        // What was printed is no command, even where it begins with the program's name.
        let lines = part.lines().skip(1).filter(|_| !part.starts_with("text\n"));
        for line in lines.map(str::trim) {
            let line = line.strip_prefix("$ ").unwrap_or(line);
            let line = line.strip_prefix("sudo ").unwrap_or(line);
            let line = line.strip_prefix("until ").unwrap_or(line);
            // A variable that is set for one command.
            let line = match line.split_once(' ') {
                Some((first, rest)) if first.contains('=') => rest,
                _ => line,
            };
            if line.starts_with("forebay ") {
                all.push(line.to_owned());
            }
        }
    }
    let code = Regex::new("`(forebay [^`]+)`").unwrap();
    all.extend(code.captures_iter(&prose).map(|found| found[1].replace('\n', " ")));
    // The demo's own output begins with the program's name and a colon's sentence.
    all.retain(|command| !command.contains('…') && !command.starts_with("forebay demo: "));
    all
}

/// The words of a command, without what a shell would do with the rest.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in command.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => {
                words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty()))
            }
            ';' | '>' | '&' | '#' if !quoted => {
                // A number before `>` is a file of the shell's.
                word.retain(|c| !c.is_ascii_digit());
                break;
            }
            '[' | ']' if !quoted => {}
            c => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    // A line that goes on in the next one is taken as far as it goes.
    words.retain(|word| word != "\\");
    if let Some(end) = words.iter().position(|word| matches!(word.as_str(), "|" | "||")) {
        words.truncate(end);
    }
    words
}

/// `a|b` is two commands.
fn alternatives(words: &[String]) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    for word in words {
        let choices: Vec<&str> = word.split('|').collect();
        all = all
            .into_iter()
            .flat_map(|before: Vec<String>| {
                choices.iter().map(move |choice| {
                    let known = PLACEHOLDERS.iter().find(|(name, _)| name == choice);
                    let word = known.map_or(*choice, |(_, value)| *value);
                    [before.as_slice(), &[word.to_owned()]].concat()
                })
            })
            .collect();
    }
    all
}

/// Whether the program would take it: a command that still lacks an argument is one it has.
fn wrong(words: &[String]) -> Option<String> {
    use clap::error::ErrorKind;
    let error = Args::command().try_get_matches_from(words).err()?;
    let incomplete = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::MissingRequiredArgument
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::MissingSubcommand
    );
    (!incomplete).then(|| error.to_string())
}

#[test]
fn every_command_that_a_page_names_is_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let (mut tried, mut mistakes) = (0, Vec::new());
    for page in pages.chain([root.join("README.md")]) {
        for command in commands(&std::fs::read_to_string(&page).unwrap()) {
            for words in alternatives(&words(&command)) {
                tried += 1;
                let mistake = wrong(&words);
                mistakes.extend(mistake.map(|why| format!("{}: {command}: {why}", page.display())));
            }
        }
    }
    assert_eq!(mistakes, [""; 0], "{}", mistakes.join("\n"));
    assert!(tried > 60, "{tried}");
}

#[test]
fn commands_are_found_and_taken_apart() {
    let page = "Do `forebay wal info|verify` or\n`forebay log-level [FILTER]`, not `forebayd x`.\n\
                ```sh\n$ sudo forebay serve -c a.toml 2>log &   # starts\nother\n```\n";
    let found: Vec<_> = commands(page).iter().flat_map(|c| alternatives(&words(c))).collect();
    let found: Vec<String> = found.iter().map(|words| words.join(" ")).collect();
    assert_eq!(
        found,
        [
            "forebay serve -c a.toml",
            "forebay wal info",
            "forebay wal verify",
            "forebay log-level debug"
        ]
    );
    assert!(wrong(&["forebay".to_owned(), "serve".to_owned(), "--fast".to_owned()]).is_some());
    assert!(wrong(&["forebay".to_owned(), "dance".to_owned()]).is_some());
}
