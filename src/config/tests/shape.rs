//! Keys that do not exist, are missing, come later, or stand in no TOML: each message.

use super::{check, messages, with_minimal};

#[test]
fn unknown_keys() {
    check(
        with_minimal,
        &[
            (
                "[ingest]\n\n\nlisen = \"127.0.0.1:1\"",
                "4: ingest.lisen: unknown key; did you mean `listen`?",
            ),
            ("[ingst]\nlisten = 1", "1: ingst: unknown key; did you mean `[ingest]`?"),
            ("[ingest.users]", "1: ingest.users: unknown key; did you mean `[[ingest.user]]`?"),
            (
                "max_bytes = \"1MB\"",
                "1: max_bytes: unknown key; did you mean `destination.batch.max_bytes` or `destination.event.max_bytes`?",
            ),
            (
                "colour = \"red\"",
                "1: colour: unknown key; remove it, or look for its name in docs/configuration.md",
            ),
        ],
    );
}

#[test]
fn tables_of_the_wrong_shape() {
    check(
        with_minimal,
        &[
            ("ingest = 7", "1: ingest: is a table, not a value; open it with `[ingest]`"),
            (
                "[[ingest]]\nmax_body = \"1MiB\"",
                "1: ingest: is written as a list, but there is only one; open it with `[ingest]`",
            ),
        ],
    );
    assert_eq!(
        messages("[destination]\nendpoints = [\"h\"]\ntoken = \"t\""),
        [
            "f.toml:1: destination: is written as one table, but there may be several; open it with `[[destination]]`",
            "f.toml:2: destination.endpoints: \"h\" begins with neither https:// nor http://; write a URL such as https://hec-1.example.com:8088",
        ]
    );
}

#[test]
fn what_is_missing() {
    assert_eq!(
        messages(""),
        [
            "f.toml: destination: there is none; write a [[destination]] with `endpoints` and `token_file`"
        ]
    );
    assert_eq!(
        messages("\n[[destination]]\nname = \"a\""),
        [
            "f.toml:2: destination.endpoints: is missing; write one, such as endpoints = [\"https://hec-1.example.com:8088\"]",
            "f.toml:2: destination.token: is missing; write `token` or `token_file`",
        ]
    );
    assert_eq!(
        with_minimal("[[ingest.user]]"),
        [
            "f.toml:1: ingest.user.name: is missing; write one, such as name = \"heroku\"",
            "f.toml:1: ingest.user.password: is missing; write `password` or `password_file`",
        ]
    );
}

#[test]
fn text_that_is_no_toml() {
    let found = with_minimal("[ingest]\nlisten = 127.0.0.1:8080\nmax_body = 8MiB");
    let fix = "; texts, sizes and durations stand in quotes, each key on a line of its own";
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("f.toml:2: not TOML at column "), "{found:#?}");
    assert!(found[1].starts_with("f.toml:3: not TOML at column "), "{found:#?}");
    assert!(found.iter().all(|message| message.ends_with(fix)), "{found:#?}");
    let found = messages("[[destination]]\ntoken = \"t\"\nendpoints = [\n  https://h\n]");
    assert!(found.iter().all(|message| message.contains(": not TOML at column ")), "{found:#?}");
}

#[test]
fn before_the_first_place_that_is_no_toml_mistakes_are_certain() {
    let found = messages("[ingest]\nlisen = 1\nmax_body = \"8\"\n\n[wal\nmax_size = \"x\"\n");
    assert_eq!(found[0], "f.toml:2: ingest.lisen: unknown key; did you mean `listen`?");
    assert!(found[1].starts_with("f.toml:3: ingest.max_body: \"8\" is not a size"));
    assert!(found[2].starts_with("f.toml:5: not TOML"), "{found:#?}");
    assert_eq!(found.len(), 3, "{found:#?}");
}
