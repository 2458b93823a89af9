//! `[[drain]]`, formats, filters, the raw endpoint, TLS and the proxy.

use std::time::Duration;

use super::*;
use crate::hec::Target;
use crate::hec::mapping::{Format, Nul};
use crate::logplex::Profile;
use crate::sink::Affinity;

#[test]
fn formats_filters_and_drains_are_taken_over() {
    let config = right(
        r#"
[[drain]]
token = "d.1"
app = "checkout"
index = "own"
sourcetype = "own:{{ kind }}"
profile = "shuttle"
[drain.fields]
team = "payments"

[[destination]]
endpoints = ["https://hec.example.com:8088"]
token = "tok"
[destination.event]
format = "auto"
nul = "replace"
router_fields = true
query = ["app", "team"]
[destination.filter]
drains = ["checkout", "d.2"]
apps = ["a"]
severity = "warning"
include = ["x"]
exclude = ["y", "z"]
"#,
    );
    let mapping = &config.destinations[0].mapping;
    assert_eq!((mapping.format, mapping.nul), (Format::Auto, Nul::Replace));
    assert!(mapping.router_fields);
    assert_eq!(mapping.query.as_ref().map(Vec::len), Some(2));
    let drain = &mapping.drains["d.1"];
    assert_eq!((&*drain.app, drain.index.as_deref()), ("checkout", Some("own")));
    assert_eq!((drain.profile, drain.fields.len()), (Some(Profile::Shuttle), 1));
    let filter = &mapping.filter;
    assert_eq!(filter.drains.as_deref(), Some(&["d.1".to_owned(), "d.2".to_owned()][..]));
    assert_eq!((filter.severity, filter.include.len(), filter.exclude.len()), (Some(4), 1, 2));
}

#[test]
fn mistakes_in_drains_and_filters_are_told_at_their_line() {
    check(
        with_minimal,
        &[
            (
                "[[drain]]\ntoken = \"d.1\"\napp = \"a\"\nhost = \"{{ nobody }}\"",
                "4: drain.host: `nobody` is no variable of a template; there are app, drain, host, app_name, proc_id, proc_type, severity, facility, kind, query; docs/configuration.md says what a template may use",
            ),
            (
                "[[drain]]\ntoken = \"d.1\"\napp = \"a\"\nfields._x = \"1\"",
                "4: drain.fields._x: `_x` is a field that Splunk keeps to itself; docs/configuration.md says what a template may use",
            ),
            (
                "[[drain]]\ntoken = \"d.1\"\napp = \"a\"\nprofile = \"syslog\"",
                "4: drain.profile: \"syslog\" is not one of \"logplex\", \"shuttle\", \"other\"; write one of \"logplex\", \"shuttle\", \"other\"",
            ),
        ],
    );
    check(
        in_destination,
        &[
            (
                "filter.exclude = [\"a(b\"]",
                "4: destination.filter.exclude: this is no regular expression: unclosed group; docs/configuration.md says what may be written",
            ),
            (
                "filter.drains = [\"nobody\"]",
                "4: destination.filter.drains: \"nobody\" is no drain; write the `app` of a [[drain]], or a token that begins with `d.`",
            ),
            (
                "event.query = [\"host\", \"_x\"]",
                "4: destination.event.query: `_x` is a field that Splunk keeps to itself; docs/configuration.md says what may be written",
            ),
        ],
    );
}

#[test]
fn the_raw_endpoint_takes_constants_only() {
    let minimal = MINIMAL.trim();
    let config = right(&format!(
        "{minimal}\nendpoint_target = \"raw\"\nevent.sourcetype = \"heroku\"\nevent.index = \"i\""
    ));
    let destination = &config.destinations[0];
    assert_eq!(destination.target, Target::Raw);
    assert_eq!(destination.raw.sourcetype.as_deref(), Some("heroku"));
    assert_eq!((destination.raw.index.as_deref(), &destination.raw.host), (Some("i"), &None));
    check(
        in_destination,
        &[
            (
                "endpoint_target = \"raw\"\nevent.host = \"{{ app }}\"",
                "5: destination.event.host: with `endpoint_target = \"raw\"` this is the same for all messages; write a text without variables, or endpoint_target = \"event\"",
            ),
            (
                "endpoint_target = \"raw\"\nevent.format = \"json\"",
                "5: destination.endpoint_target: with `endpoint_target = \"raw\"` there is no format and there are no fields; remove `format`, `fields` and `router_fields`, or write endpoint_target = \"event\"",
            ),
        ],
    );
}

#[test]
fn tls_files_are_read_and_what_is_none_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let junk = path("junk", "junk");
    let missing = dir.path().join("missing").display().to_string();
    let first = |text: String| {
        let found = in_destination(&text);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        found.into_iter().next().unwrap_or_default()
    };
    let found = first(format!("tls.ca_file = {missing:?}"));
    assert!(found.starts_with("f.toml:4: destination.tls.ca_file: "), "{found}");
    assert!(found.contains("cannot be read"), "{found}");
    let found = first(format!("tls.ca_file = {junk:?}"));
    assert!(found.contains("there is no PEM certificate in it"), "{found}");
    let found = first(format!("tls.certificate = {junk:?}"));
    assert!(found.contains("stands without `private_key_file`"), "{found}");
    let found = first(format!("tls.private_key_file = {junk:?}"));
    assert!(found.contains("stands without `certificate`"), "{found}");
    let found = first("tls.server_name = \"not a name\"".to_owned());
    assert!(found.contains("this is no name of a server"), "{found}");

    let loaded = parse(&format!("{}\ntls.verify = false", MINIMAL.trim())).expect("right");
    assert!(!loaded.config.destinations[0].tls_verified());
    assert!(loaded.warnings.iter().any(|w| w.contains("destination.tls.verify")), "said loudly");
    let without = right(&format!("{}\ntls.verify = true", MINIMAL.trim()));
    assert!(without.destinations[0].trust.is_none());
}

#[test]
fn a_channel_has_no_connection_of_its_own_through_a_proxy() {
    check(
        in_destination,
        &[(
            "affinity = \"connection\"\nproxy = \"http://proxy:3128\"",
            "4: destination.affinity: a channel has no connection of its own through destination.proxy; remove `proxy`, or write affinity = \"cookie\" or \"none\"",
        )],
    );
}

#[test]
fn a_proxy_looks_names_up_itself() {
    check(
        in_destination,
        &[(
            "resolve = \"all\"\nproxy = \"http://proxy:3128\"",
            "4: destination.resolve: the proxy looks the names up (destination.proxy); remove `proxy`, or write resolve = \"one\"",
        )],
    );
    let config = right(&format!("{}\nresolve = \"all\"", MINIMAL.trim()));
    assert_eq!(config.destinations[0].resolve_every, Some(Duration::from_mins(1)));
    assert_eq!(right(MINIMAL).destinations[0].resolve_every, None);
}

#[test]
fn a_connection_of_its_own_is_kept_in_use_and_not_asked_for_after_a_restart() {
    let minimal = MINIMAL;
    let config = right(&format!("{}\naffinity = \"connection\"", minimal.trim()));
    let delivery = &config.destinations[0].delivery;
    assert_eq!(config.destinations[0].affinity, Affinity::Connection);
    assert!(delivery.longest_poll < Duration::from_secs(8), "Splunk may close after 12 s");
    assert_eq!(delivery.recall, Duration::ZERO);
    let config = right(minimal);
    assert_eq!(config.destinations[0].affinity, Affinity::None);
    assert_eq!(config.destinations[0].delivery.recall, Duration::from_secs(10));
}

#[test]
fn a_proxys_credentials_stand_in_a_file_and_are_never_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("proxy");
    std::fs::write(&path, "relay:hunter2\n").expect("written");
    let path = path.display().to_string();
    let minimal = MINIMAL.trim();
    let config = right(&format!(
        "{minimal}\nproxy = \"http://proxy:3128\"\nproxy_credentials_file = {path:?}"
    ));
    let proxy = config.destinations[0].proxy.as_ref().expect("a proxy");
    let (user, password) = proxy.credentials.as_ref().expect("credentials");
    assert_eq!(
        (&*proxy.url, &**user, password.expose()),
        ("http://proxy:3128", "relay", "hunter2")
    );
    assert!(!format!("{config:?}").contains("hunter2"));

    std::fs::write(&path, "no colon").expect("written");
    for (text, words) in [
        ("proxy = \"http://relay:hunter2@proxy:3128\"".to_owned(), "user info (not shown)"),
        ("proxy = \"ftp://proxy\"".to_owned(), "no URL of a proxy"),
        (format!("proxy_credentials_file = {path:?}"), "does not hold `user:password`"),
    ] {
        let found = in_destination(&text);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(words) && !found[0].contains("hunter2"), "{found:#?}");
    }
}
