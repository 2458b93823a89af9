//! Each rule about endpoints, names, choices, templates and variables, with its exact message.

use super::{check, in_destination, messages, right, with_minimal};

#[test]
fn endpoints() {
    let message = |endpoints: &str| {
        let text = format!("[[destination]]\ntoken = \"t\"\nendpoints = {endpoints}");
        messages(&text).join("\n").replace("f.toml:3: destination.endpoints: ", "")
    };
    let example = "write a URL such as https://hec-1.example.com:8088";
    for (endpoints, expected) in [
        ("[]", "the list is empty; write at least one, such as [\"https://hec-1.example.com:8088\"]".to_owned()),
        ("\"https://h\"", "\"https://h\" is not a list; write texts in square brackets, such as [\"https://hec-1.example.com:8088\"]".to_owned()),
        ("[7]", "7 is not a list; write a text in quotes, such as [\"https://hec-1.example.com:8088\"]".to_owned()),
        ("[\"hec:8088\"]", format!("\"hec:8088\" begins with neither https:// nor http://; {example}")),
        ("[\"HTTPS://hec\"]", format!("\"HTTPS://hec\" begins with neither https:// nor http://; {example}")),
        ("[\"https://\"]", format!("\"https://\" is no URL: empty host; {example}")),
        ("[\"https://h:99999\"]", format!("\"https://h:99999\" is no URL: invalid port number; {example}")),
        ("[\"https://h:0\"]", format!("\"https://h:0\" has port 0; {example}")),
        ("[\"https://h h\"]", format!("\"https://h h\" has characters that no URL has; {example}")),
        ("[\"https://u:hunter2@h\"]", "an endpoint holds user info (not shown); write scheme, host and port; the token goes into `token_file`".to_owned()),
        ("[\"https://h/hunter2\"]", "an endpoint has a path or a query (not shown); end it behind the port; forebay adds the path of the collector".to_owned()),
        ("[\"https://h?hunter2\"]", "an endpoint has a path or a query (not shown); end it behind the port; forebay adds the path of the collector".to_owned()),
        ("[\"http://10.0.0.1:8088\"]", "\"http://10.0.0.1:8088\" would send the token and the logs in the clear; write https://; http:// is for loopback only".to_owned()),
        ("[\"https://h\", \"https://h/\"]", "\"https://h/\" stands twice; remove one; `destination.lanes` is for more requests at a time".to_owned()),
    ] {
        assert_eq!(message(endpoints), expected, "{endpoints}");
    }
    for (written, used) in [
        ("https://h:8088/", "https://h:8088"),
        ("http://localhost:8088", "http://localhost:8088"),
        ("http://127.1.2.3", "http://127.1.2.3"),
        ("http://[::1]:8088", "http://[::1]:8088"),
        ("https://${HOST}:8088", "https://hec-9.example.com:8088"),
    ] {
        let text = format!("[[destination]]\ntoken = \"t\"\nendpoints = [{written:?}]");
        assert_eq!(right(&text).destinations[0].endpoints, [used]);
    }
    assert_eq!(
        messages("[[destination]]\ntoken = \"t\"\nendpoints = [\n\"https://h\",\n\"h\"]"),
        [format!(
            "f.toml:5: destination.endpoints: \"h\" begins with neither https:// nor http://; {example}"
        )],
        "the line of the endpoint, not of the list"
    );
}

#[test]
fn names() {
    check(
        in_destination,
        &[
            (
                "name = \"a b\"",
                "4: destination.name: \"a b\" is not a name: a name is made of letters, digits, `-`, `_` and `.`, not ` `; choose another name",
            ),
            (
                "[[destination]]\nendpoints = [\"https://h\"]\ntoken = \"t\"",
                "4: destination.name: there is another destination \"splunk\"; give each destination a name of its own",
            ),
        ],
    );
    check(
        with_minimal,
        &[
            (
                "[[drain]]\ntoken = \"d.12345678\"\napp = \"a\"\n[[drain]]\ntoken = \"d.12345678\"\napp = \"b\"",
                "5: drain.token: the token that begins \"d.123456\" stands twice; remove one of the two [[drain]]",
            ),
            (
                "[[drain]]\ntoken = \"\"\napp = \"a\"",
                "2: drain.token: this is not the token of a drain; copy it from `heroku drains`",
            ),
            (
                "[[drain]]\ntoken = \"d.1\"\napp = \" \"",
                "3: drain.app: the name is empty; write the name of the app",
            ),
            (
                "[[drain]]\ntoken = \"d.1\"",
                "1: drain.app: is missing; write one, such as app = \"checkout\"",
            ),
        ],
    );
}

#[test]
fn choices_and_kinds() {
    check(
        in_destination,
        &[
            (
                "compression = \"zstd\"",
                "4: destination.compression: \"zstd\" is not one of \"gzip\", \"none\"; write one of \"gzip\", \"none\"",
            ),
            (
                "start = \"now\"",
                "4: destination.start: \"now\" is not one of \"earliest\", \"latest\"; write one of \"earliest\", \"latest\"",
            ),
            (
                "[destination.filter]\nkinds = [\"app\", \"rooter\"]",
                "5: destination.filter.kinds: \"rooter\" is not a kind of message; write some of app, api, router, system, logplex, postgres, redis, addon",
            ),
            (
                "[destination.filter]\nkinds = []",
                "5: destination.filter.kinds: the list is empty; write at least one, such as [\"app\", \"router\"]",
            ),
        ],
    );
}

#[test]
fn templates() {
    let found = in_destination(
        "[destination.event]\nhost = \"{{ nope }}\"\nsource = \"{{ app \"\nindex = 7\n\
         [destination.event.fields]\nenv = \"{{ kind | nope }}\"\nteam = 8",
    );
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(found[0].starts_with("f.toml:5: destination.event.host: "), "{found:#?}");
    assert!(found[1].starts_with("f.toml:6: destination.event.source: "), "{found:#?}");
    assert_eq!(
        found[2],
        "f.toml:7: destination.event.index: 7 is not a text; write a text in quotes, such as \"heroku\""
    );
    assert!(found[3].starts_with("f.toml:9: destination.event.fields.env: "), "{found:#?}");
    assert!(found[4].starts_with("f.toml:10: destination.event.fields.team: 8 is not"));
    for message in [&found[0], &found[1], &found[3]] {
        assert!(message.ends_with("; docs/configuration.md says what a template may use"));
    }
}

#[test]
fn variables() {
    check(
        with_minimal,
        &[
            (
                "data_dir = \"${NOPE}/x\"",
                "1: data_dir: the environment variable NOPE is not set; set it, or write `$$` for a dollar sign",
            ),
            (
                "data_dir = \"${CREDENTIALS_DIRECTORY}/x\"",
                "1: data_dir: the environment variable CREDENTIALS_DIRECTORY is not set; systemd sets it for the service; by hand, as root, write CREDENTIALS_DIRECTORY=/etc/forebay/credentials before the command",
            ),
            (
                "data_dir = \"/a$b\"",
                "1: data_dir: a `$` begins neither `${NAME}` nor `$$`; write `${NAME}` for an environment variable, `$$` for a dollar sign",
            ),
            (
                "ingest.max_body = \"${HOST}\"",
                "1: ingest.max_body: \"${HOST}\" is not a size; write a whole number and a unit, such as 8MiB",
            ),
        ],
    );
    let text = format!("data_dir = \"/a/${{HOST}}/$$x\"\n{}", super::MINIMAL);
    assert_eq!(right(&text).data_dir.to_str(), Some("/a/hec-9.example.com/$x"));
}
