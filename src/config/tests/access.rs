//! Who may send, from where, and how: TLS, drains, users, networks.

use std::path::Path;

use super::{MINIMAL, check, messages, parse, right, with_minimal};

/// Writes a certificate and its key.
pub(super) fn pair(dir: &Path, name: &str) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
    let write = |ending: &str, text: String| {
        std::fs::write(dir.join(format!("{name}.{ending}")), text).expect("written");
    };
    write("crt", made.cert.pem());
    write("key", made.signing_key.serialize_pem());
}

fn tls(certificate: &str, key: &str) -> String {
    format!("[ingest.tls]\ncertificate = {certificate:?}\nprivate_key_file = {key:?}")
}

#[test]
fn a_pair_is_read_at_once_and_a_bad_one_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    pair(dir.path(), "a");
    pair(dir.path(), "b");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let config = right(&format!("{}\n{MINIMAL}", tls(&file("a.crt"), &file("a.key"))));
    assert!(config.ingest.live.tls.is_some());

    let found = with_minimal(&tls(&file("a.crt"), &file("b.key")));
    let expected = format!(
        "f.toml:3: ingest.tls.private_key_file: {}: does not fit the certificate in {}; name the file with this certificate's key in PEM form",
        file("b.key"),
        file("a.crt")
    );
    assert_eq!(found, [expected]);
    let found = with_minimal(&tls(&file("c.crt"), &file("a.key")));
    let expected = format!("f.toml:2: ingest.tls.certificate: {}: cannot be read: ", file("c.crt"));
    assert!(found.len() == 1 && found[0].starts_with(&expected), "{found:#?}");
}

#[test]
fn an_open_address_needs_tls_and_a_user() {
    let dir = tempfile::tempdir().expect("a directory");
    pair(dir.path(), "a");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let tls = tls(&file("a.crt"), &file("a.key"));
    let user = "[[ingest.user]]\nname = \"a\"\npassword = \"b\"";
    for listen in ["0.0.0.0:8443", "systemd"] {
        let head = format!("ingest.listen = {listen:?}");
        right(&format!("{head}\n{tls}\n{user}\n{MINIMAL}"));
        let found = with_minimal(&format!("{head}\n{tls}"));
        assert!(found.len() == 1 && found[0].contains(", without a user; "), "{found:#?}");
        let found = with_minimal(&format!("{head}\n{user}"));
        assert!(found.len() == 1 && found[0].contains(", without TLS; "), "{found:#?}");
    }
}

#[test]
fn networks_queries_and_drains_of_users() {
    let user = "[[drain]]\ntoken = \"d.1\"\napp = \"shop\"\n[[ingest.user]]\nname = \"a\"\npassword = \"b\"\n";
    check(
        with_minimal,
        &[
            (
                "[ingest]\nallow = [\"10.0.0.0/8\", \"10.0.0.0/33\"]",
                "2: ingest.allow: \"10.0.0.0/33\" is no network and no address; write one such as 10.0.0.0/8 or 192.0.2.1",
            ),
            (
                "[ingest]\nproxy_protocol_from = [\"localhost\"]",
                "2: ingest.proxy_protocol_from: \"localhost\" is no network and no address; write one such as 10.0.0.0/8 or 192.0.2.1",
            ),
            (
                "[ingest]\nquery = [\"a&b\"]",
                "2: ingest.query: \"a&b\" is no name of a query parameter; write letters, digits, `-` and `_`",
            ),
            (
                "[ingest]\nunknown_drain = \"reject\"",
                "2: ingest.unknown_drain: no drain is configured: every frame would be rejected, and lost; write a [[drain]] or `drains_file`, or accept unknown drains",
            ),
            (
                "[ingest]\nunknown_drain = \"quarantine\"",
                "2: ingest.unknown_drain: \"quarantine\" is not one of \"accept\", \"reject\"; write one of \"accept\", \"reject\"",
            ),
            (
                &format!("{user}drains = [\"shop\", \"blog\"]"),
                "7: ingest.user.drains: there is no [[drain]] with the app \"blog\"; write its `app` as the [[drain]] has it, or write the [[drain]]",
            ),
            (
                "log_level = \"loud,=\"",
                "1: log_level: \"loud,=\" is no level and no filter: invalid filter directive; write error, warn, info, debug or trace",
            ),
        ],
    );
}

/// Mistakes in a drains file are told with its own name and lines.
#[test]
fn a_drains_file_is_read_like_the_file_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("drains.toml");
    let name = path.display().to_string();
    let text =
        format!("drains_file = {name:?}\n{MINIMAL}\n[[drain]]\ntoken = \"d.1\"\napp = \"shop\"\n");
    let write = |text: &str| std::fs::write(&path, text).expect("written");

    write("[[drain]]\ntoken = \"d.2\"\napp = \"blog\"\nprofile = \"shuttle\"\n");
    let config = right(&text);
    assert_eq!(config.ingest.live.drains.0.len(), 2);
    assert_eq!(config.destinations[0].mapping.drains["d.2"].app, "blog");

    for (content, expected) in [
        (
            "[[drain]]\ntoken = \"d.1\"\napp = \"x\"",
            format!("{name}:2: drain.token: the token that begins \"d.1\" stands twice; "),
        ),
        ("[[drain]]\ntoken = \"d.2\"", format!("{name}:1: drain.app: is missing; ")),
        (
            "data_dir = \"/x\"",
            format!("{name}:1: data_dir: a drains file holds [[drain]] and nothing else; "),
        ),
        ("[admin]\n", format!("{name}:1: admin: a drains file holds [[drain]] and nothing else; ")),
        ("[[drain]\n", format!("{name}:1: : not TOML at column ")),
        (
            "[[drain]]\ntokn = 1",
            format!("{name}:2: drain.tokn: unknown key; did you mean `token`?"),
        ),
    ] {
        write(content);
        let found = messages(&text);
        let start = format!("f.toml:1: drains_file: {expected}");
        assert!(found.iter().any(|message| message.starts_with(&start)), "{content}\n{found:#?}");
    }
    std::fs::remove_file(&path).expect("removed");
    let found = messages(&text);
    let start = format!("f.toml:1: drains_file: {name} cannot be read: ");
    assert!(found.len() == 1 && found[0].starts_with(&start), "{found:#?}");
}

/// What only a restart can change is found by its name, whatever table it is in.
#[test]
fn what_a_restart_needs_is_named() {
    let fixed = |text: &str| {
        parse(&format!("{text}\n{MINIMAL}")).unwrap_or_else(|e| panic!("{e}")).config.fixed
    };
    let before = fixed("[wal]\nretention = \"1h\"");
    let second =
        "[[destination]]\nname = \"audit\"\nendpoints = [\"https://h\"]\ntoken = \"t\"\nlanes = 3";
    for (text, expected) in [
        ("[wal]\nretention = \"1h\"", &[][..]),
        ("[wal]\nretention = \"1h\"\nmax_size = \"50GiB\"", &[]),
        ("[wal]\nretention = \"2h\"", &["wal.retention"]),
        ("", &["wal.retention"]),
        ("[wal]\nretention = \"1h\"\n[ingest]\nunknown_drain = \"accept\"\nallow = [\"::1\"]", &[]),
        (
            "[wal]\nretention = \"1h\"\n[ingest]\npath = \"/x\"\nmax_connections = 7",
            &["ingest.max_connections", "ingest.path"],
        ),
    ] {
        assert_eq!(before.changes(&fixed(text)), expected, "{text}");
    }
    let changes = before.changes(&fixed(&format!("[wal]\nretention = \"1h\"\n{second}")));
    assert!(changes.contains(&"destination[audit].lanes".to_owned()), "{changes:?}");
    assert_eq!(format!("{before:?}"), "Fixed", "digests of secrets are nobody's business");
}
