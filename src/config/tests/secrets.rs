//! Secrets: where they come from, and that they are never shown.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Config, MINIMAL, messages, parse};

const SECRET: &str = "xyzzy-S3CRET";

fn file(dir: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).expect("written");
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
    path
}

fn destination(token: &str) -> String {
    format!("[[destination]]\nendpoints = [\"https://h\"]\n{token}")
}

#[test]
fn a_secret_comes_from_a_file_less_one_newline() {
    let dir = tempfile::tempdir().expect("a directory");
    for (content, secret) in
        [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), ("a-b_c9\n", "a-b_c9")]
    {
        let path = file(dir.path(), "hec", content.as_bytes(), 0o600);
        let env = |name: &str| {
            (name == "CREDENTIALS_DIRECTORY").then(|| dir.path().display().to_string())
        };
        let text = destination("token_file = \"${CREDENTIALS_DIRECTORY}/hec\"");
        let text = format!(
            "{text}\n[[ingest.user]]\nname = \"heroku\"\npassword_file = {:?}",
            path.display().to_string()
        );
        let loaded = Config::parse(&text, "f.toml", &env).expect("right");
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert_eq!(loaded.config.destinations[0].token.expose(), secret);
        assert_eq!(loaded.config.ingest.live.users[0].password.expose(), secret);
    }
}

#[test]
fn a_file_without_a_secret_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let rule = "name a file that holds the secret and nothing else";
    for (content, problem) in [
        (&b""[..], "the secret is empty; write the secret".to_owned()),
        (b"\n", "the secret is empty; write the secret".to_owned()),
        (
            b"a b\n",
            "the secret holds something else than visible ASCII characters; choose another secret"
                .to_owned(),
        ),
        (
            b"a\n\n",
            "the secret holds something else than visible ASCII characters; choose another secret"
                .to_owned(),
        ),
        (b"\xff", format!("PATH does not hold UTF-8 text; {rule}")),
        (&[b'a'; 4097], format!("PATH holds more than 4096 bytes; {rule}")),
    ] {
        let path = file(dir.path(), "s", content, 0o600).display().to_string();
        let expected = format!("f.toml:3: destination.token_file: {problem}");
        assert_eq!(
            messages(&destination(&format!("token_file = {path:?}"))),
            [expected.replace("PATH", &path)]
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_reason() {
    assert_eq!(
        messages(&destination("token_file = \"/nowhere/hec\"")),
        [
            "f.toml:3: destination.token_file: /nowhere/hec cannot be read: No such file or directory (os error 2); name a file that the user forebay runs as may read"
        ]
    );
}

#[test]
fn there_is_exactly_one_secret() {
    assert_eq!(
        messages(&destination("token = \"a\"\ntoken_file = \"/b\"")),
        ["f.toml:4: destination.token_file: there is also `token`; remove one of the two"]
    );
    assert_eq!(
        messages(&destination("")),
        ["f.toml:1: destination.token: is missing; write `token` or `token_file`"]
    );
    assert_eq!(
        messages(&destination("token = \"\"")),
        ["f.toml:3: destination.token: the secret is empty; write the secret"]
    );
}

#[test]
fn credentials_are_what_logplex_can_send() {
    let user = |name: &str, password: &str| {
        super::with_minimal(&format!("[[ingest.user]]\nname = {name:?}\npassword = {password:?}"))
    };
    assert_eq!(user("heroku-1_A", "aZ09-_"), Vec::<String>::new());
    for name in ["", "a:b", "a b", "ü", "a%20"] {
        assert_eq!(
            user(name, "ok"),
            [
                "f.toml:2: ingest.user.name: the name is empty or holds something else than letters, digits, `-` and `_`; choose another name"
            ]
        );
    }
    for password in ["a:b", "a@b", "a.b", "pä"] {
        assert_eq!(
            user("ok", password),
            [
                "f.toml:3: ingest.user.password: the secret holds something else than letters, digits, `-` and `_`, which Logplex does not decode; choose another secret"
            ]
        );
    }
}

#[test]
fn a_secret_that_others_can_read_is_warned_about() {
    let dir = tempfile::tempdir().expect("a directory");
    for (mode, warned) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
        let path = file(dir.path(), "s", b"abc", mode);
        let path = path.display().to_string();
        let loaded = parse(&destination(&format!("token_file = {path:?}"))).expect("right");
        let warning = format!(
            "f.toml:3: destination.token_file: {path} can be read by others than its owner (mode {mode:04o}); `chmod 600` it"
        );
        let expected = if warned { vec![warning] } else { Vec::new() };
        assert_eq!(loaded.warnings, expected);
        std::fs::remove_file(&path).expect("removed");
    }
}

#[test]
fn the_mode_of_a_systemd_credential_is_no_reason_to_warn() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(dir.path(), "hec", b"abc", 0o440);
    let text = destination(&format!("token_file = {:?}", path.display().to_string()));
    let warnings = |directory: &Path| {
        let env =
            |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| directory.display().to_string());
        Config::parse(&text, "f.toml", &env).expect("right").warnings.len()
    };
    assert_eq!(warnings(dir.path()), 0);
    assert_eq!(warnings(&dir.path().join("other")), 1);
    assert_eq!(warnings(Path::new("")), 1);
}

#[test]
fn a_configuration_that_holds_a_secret_and_others_can_read_is_warned_about() {
    let dir = tempfile::tempdir().expect("a directory");
    let env = |name: &str| (name == "TOKEN").then(|| SECRET.to_owned());
    let warnings = |text: &str, mode: u32| {
        let path = file(dir.path(), "f.toml", text.as_bytes(), mode);
        Config::load(&path, &env).expect("right").warnings
    };
    let from_env = MINIMAL.replace("\"tok\"", "\"${TOKEN}\"");
    assert_eq!(warnings(MINIMAL, 0o600), Vec::<String>::new());
    assert_eq!(warnings(&from_env, 0o644), Vec::<String>::new());
    let found = warnings(MINIMAL, 0o644);
    assert_eq!(
        found,
        [format!(
            "{}: destination.token: stands in a file that others than its owner can read (mode 0644); `chmod 600` it, or keep the secret in a file of its own",
            dir.path().join("f.toml").display()
        )]
    );
}

/// Messages are as secret as passwords are, and stand in files that the umask has made.
#[test]
fn a_log_that_others_can_read_is_warned_about() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let text = format!("data_dir = {:?}\n{MINIMAL}", data.display().to_string());
    let path = file(dir.path(), "f.toml", text.as_bytes(), 0o600);
    let warnings = || Config::load(&path, &|_| None).expect("right").warnings;
    assert_eq!(warnings(), Vec::<String>::new(), "it is not there yet");
    std::fs::create_dir(&data).expect("made");
    for (mode, warned) in
        [(0o700, false), (0o755, true), (0o750, true), (0o701, true), (0o711, true)]
    {
        std::fs::set_permissions(&data, Permissions::from_mode(mode)).expect("set");
        let warning = format!(
            "{}: data_dir: {} can be read by others than its owner (mode {mode:04o}), and the log with it; `chmod 700` it",
            path.display(),
            data.display()
        );
        assert_eq!(warnings(), if warned { vec![warning] } else { Vec::new() });
    }
}

/// Whatever goes wrong around a secret, it is not in the message.
#[test]
fn no_message_holds_a_secret() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(dir.path(), "s", format!("{SECRET} {SECRET}").as_bytes(), 0o644);
    let path = path.display().to_string();
    let user = "[[ingest.user]]\nname = \"a\"\n";
    let drain = "[[drain]]\napp = \"a\"\n";
    let texts = [
        destination(&format!("token = \"{SECRET} \"")),
        destination(&format!("token = [\"{SECRET}\"]")),
        destination(&format!("token = \"{SECRET}$\"")),
        destination(&format!("token = \"{SECRET}\"\ntoken_file = \"{SECRET}\"")),
        destination(&format!("token_file = \"{SECRET}\"")),
        destination(&format!("token_file = [\"{SECRET}\"]")),
        destination(&format!("token_file = {path:?}")),
        destination(&format!("token = \"{SECRET}\ntoken = 1")),
        destination(&format!("token = {SECRET}")),
        destination(&format!("token \"{SECRET}\"")),
        destination(&format!("token = \"{SECRET}\"\ntoken = \"{SECRET}\"")),
        destination(&format!("token = \"\"\"{SECRET}\n")),
        destination(&format!("toke = \"{SECRET}\"")),
        destination("token = \"${TOKEN} \""),
        destination("token = \"t\"\nlanes = \"${TOKEN}\"\nname = \"${TOKEN}/\""),
        destination("token = \"t\"\n[wal]\nstorage = \"${TOKEN}\"\nmax_size = \"${TOKEN}\""),
        format!("[[destination]]\ntoken = \"t\"\nendpoints = [\"https://u:{SECRET}@h\"]"),
        format!("[[destination]]\ntoken = \"t\"\nendpoints = [\"u:{SECRET}@h\"]"),
        format!("[[destination]]\ntoken = \"t\"\nendpoints = [\"https://h?token={SECRET}\"]"),
        format!("[[destination]]\ntoken = \"t\"\nendpoints = [\"https://h/{SECRET}\"]"),
        format!("[[destination]]\ntoken = \"t\"\nendpoints = \"https://u:{SECRET}@h\""),
        "[[destination]]\ntoken = \"t\"\nendpoints = [\"${TOKEN}\"]".to_owned(),
        format!("{MINIMAL}{user}password = \"{SECRET}:\""),
        format!("{MINIMAL}{user}password = \"{SECRET} \""),
        format!("{MINIMAL}{user}password_file = {path:?}"),
        format!("{MINIMAL}{user}passwort = \"{SECRET}\""),
        format!("{MINIMAL}[[ingest.user]]\nname = \"heroku:{SECRET}\"\npassword = \"x\""),
        format!("{MINIMAL}[ingest]\nlisten = \"https://heroku:{SECRET}@127.0.0.1\""),
        format!(
            "{MINIMAL}{drain}token = \"12345678{SECRET}\"\n{drain}token = \"12345678{SECRET}\""
        ),
    ];
    let env = |name: &str| (name == "TOKEN").then(|| SECRET.to_owned());
    for text in texts {
        let errors = Config::parse(&text, "f.toml", &env).expect_err(&text);
        let shown = format!("{errors}\n{errors:?}");
        assert!(!shown.contains(SECRET), "{text}\n{shown}");
        assert!(errors.errors().iter().all(|error| !error.problem.is_empty()), "{text}");
    }
}

/// A secret of digits that somebody forgot to quote.
#[test]
fn no_message_holds_a_secret_that_is_a_number() {
    let keys = ["token = ", "token_file = ", "token = 0x", "token = -", "token = 1."];
    for key in keys {
        let found = messages(&destination(&format!("{key}9182736455"))).join("\n");
        assert!(found.contains(": this value is not a text; write a text in quotes"), "{found}");
        assert!(!found.contains("9182736455"), "{found}");
    }
}

#[test]
fn no_debug_output_holds_a_secret() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(dir.path(), "s", SECRET.as_bytes(), 0o644).display().to_string();
    let text = format!(
        "[[ingest.user]]\nname = \"a\"\npassword = \"{SECRET}\"\n\
         [[ingest.user]]\nname = \"b\"\npassword_file = {path:?}\n\
         [[drain]]\ntoken = \"{SECRET}\"\napp = \"a\"\n{}",
        destination(&format!("token = \"{SECRET}\""))
    );
    let loaded = parse(&text).expect("right");
    assert_eq!(loaded.config.ingest.live.users[1].password.expose(), SECRET);
    assert_eq!(loaded.warnings.len(), 1);
    let shown = format!("{loaded:?}\n{loaded:#?}");
    assert!(!shown.contains(SECRET), "{shown}");
}
