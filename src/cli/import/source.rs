//! `heroku_logs` sources: our `[ingest]`.
//!
//! Option names after Vector's reference of the source, as of version 0.50.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::document::Value;
use super::options::{Options, Taken};
use super::out::{Findings, Table, list};

/// What forebay listens with.
#[derive(Debug)]
pub(super) struct Ingest {
    /// `[ingest]`, `[ingest.tls]` and every `[[ingest.user]]`.
    pub(super) tables: Vec<Table>,
    /// The query parameters that are kept.
    pub(super) query: BTreeSet<String>,
    /// Whether messages are read as JSON.
    pub(super) json: bool,
}

/// Where Vector's source takes frames; it cannot be configured there.
const PATH: &str = "/events";

const USER: &str = "heroku";
const PASSWORD: &str = "FOREBAY_DRAIN_PASSWORD";

/// Makes `[ingest]` of all sources. There is one listener: the first source's.
pub(super) fn convert(sources: Vec<Options>, findings: &mut Findings) -> Ingest {
    let mut ingest = Table::new("[ingest]");
    let (mut tls, mut users) = (None, Vec::new());
    let (mut query, mut json) = (BTreeSet::from(["app".to_owned()]), false);
    let mut exposed = false;
    let mut first = None;
    for mut source in sources {
        source.take("type");
        let address = source.take("address");
        let secure = source.table("tls");
        match &first {
            None => {
                exposed = listen(&source, address.as_ref(), &mut ingest, findings);
                ingest.text(
                    "path",
                    PATH,
                    "Where Vector takes frames: drain URLs stay as they are.",
                );
                tls = secure.and_then(|secure| identity(secure, findings));
                first = Some(source.name.clone());
            }
            Some(first) => {
                let text = format!(
                    "is a second listener, and forebay has one: add the drains anew with the \
                     address of {first}; its users are taken over"
                );
                findings.add(source.line, &*source.name, text);
            }
        }
        user(&mut source, &mut users, findings);
        parameters(&mut source, &mut query, findings);
        json |= decoding(&mut source, findings);
        leftovers(&mut source, findings);
        source.rest(findings);
    }
    let kept = list(query.iter().map(String::as_str));
    ingest.set(
        "query",
        kept,
        "The parameters of the drain URL that are kept: query_parameters, and app.",
    );
    if exposed && (tls.is_none() || users.is_empty()) {
        let what = match (&tls, users.is_empty()) {
            (Some(_), _) => "without a user: whoever can connect may send",
            (None, true) => "without TLS and without a user",
            (None, false) => "without TLS",
        };
        let comment = format!(
            "Vector listens on more than loopback {what}. Better: [ingest.tls] and \
             [[ingest.user]], or a loopback address behind a proxy that speaks TLS."
        );
        ingest.set("allow_insecure", "true", comment);
    }
    let mut tables = vec![ingest];
    tables.extend(tls);
    tables.extend(users);
    Ingest { tables, query, json }
}

/// Writes `listen`; whether more than this machine reaches it.
fn listen(
    source: &Options,
    address: Option<&Taken>,
    ingest: &mut Table,
    findings: &mut Findings,
) -> bool {
    const FALLBACK: &str = "127.0.0.1:8080";
    let Some(address) = address else {
        findings.add(source.line, &*source.name, "names no address; 127.0.0.1:8080 is written");
        ingest.text("listen", FALLBACK, "Vector's source names no address.");
        return false;
    };
    let Some(words) = address.words(findings) else {
        ingest.text("listen", FALLBACK, address.origin());
        return false;
    };
    if words.text.starts_with("systemd") {
        ingest.text("listen", "systemd", format!("{} See forebay.socket.", address.origin()));
        return true;
    }
    let text = match words.text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => words.text,
    };
    if words.variables.is_empty() && text.parse::<SocketAddr>().is_err() {
        findings.add(address.line, &*address.name, "is no IP address and port; write one");
        ingest.text("listen", FALLBACK, address.origin());
        return false;
    }
    ingest.text("listen", &text, address.origin());
    let host = text.rsplit_once(':').map_or("", |(host, _)| host);
    !host.starts_with("127.") && host != "[::1]"
}

/// `[ingest.tls]`, when TLS is on.
fn identity(mut options: Options, findings: &mut Findings) -> Option<Table> {
    let enabled = options.flag("enabled", findings).is_some_and(|(_, on)| on);
    let (certificate, key) = (options.take("crt_file"), options.take("key_file"));
    if !enabled {
        if certificate.is_some() || key.is_some() {
            let text = "is not enabled, so Vector speaks plain HTTP, and so will forebay; write \
                        [ingest.tls] to change that";
            findings.add(options.line, &*options.name, text);
        }
        return None;
    }
    let mut table = Table::new("[ingest.tls]");
    for (key, taken, fallback) in [
        ("certificate", certificate, "/etc/forebay/tls.crt"),
        ("private_key_file", key, "/etc/forebay/tls.key"),
    ] {
        match taken {
            Some(taken) => file(&taken, &mut table, key, fallback, findings),
            None => {
                let text = format!("names no file for `{key}`; {fallback} is written");
                findings.add(options.line, &*options.name, text);
                table.text(key, fallback, "Vector's configuration names none.");
            }
        }
    }
    options.instead(
        "key_pass",
        "keys are read without a passphrase; decrypt it with `openssl pkey` into a file that only \
         forebay can read",
        findings,
    );
    for option in ["ca_file", "verify_certificate", "verify_hostname"] {
        let asks = options.take(option).filter(|taken| taken.value != Value::Bool(false));
        if let Some(taken) = asks {
            taken.lost(findings, "senders show no certificate; they are known by [[ingest.user]]");
        }
    }
    options.take("alpn_protocols");
    options.rest(findings);
    Some(table)
}

/// Writes the path of a file. A certificate or key that stands in the file itself is not copied.
pub(super) fn file(
    taken: &Taken,
    table: &mut Table,
    key: &str,
    fallback: &str,
    findings: &mut Findings,
) {
    let words = taken.words(findings);
    let text = words.map(|words| words.text).unwrap_or_default();
    if text.starts_with('/') || text.starts_with("${") {
        if text.ends_with(".p12") || text.ends_with(".pfx") || text.ends_with(".der") {
            let text = "is no PEM file; convert it with `openssl` and name that";
            findings.add(taken.line, &*taken.name, text);
        }
        table.text(key, &text, taken.origin());
        return;
    }
    let why = if text.contains("-----BEGIN") {
        "holds the PEM text itself, which is not copied: write it into the file"
    } else {
        "is no absolute path: write one instead of"
    };
    findings.add(taken.line, &*taken.name, format!("{why} {fallback}"));
    table.text(key, fallback, taken.origin());
}

/// `[[ingest.user]]`.
fn user(source: &mut Options, users: &mut Vec<Table>, findings: &mut Findings) {
    let Some(mut auth) = source.table("auth") else { return };
    let strategy = auth.take("strategy");
    let mut table = Table::new("[[ingest.user]]");
    let custom = strategy.filter(|taken| taken.value.is("custom"));
    if let Some(taken) = custom {
        auth.take("source");
        taken.lost(
            findings,
            "forebay runs no VRL; a user of the name heroku is written, who needs a password, or \
             `via = \"bearer\"` or `\"path\"`",
        );
        table.text("name", USER, taken.origin());
        let comment = "Vector asked a VRL program. Set the variable, or write password_file.";
        table.text("password", &format!("${{{PASSWORD}}}"), comment);
    } else {
        match auth.words("username", findings) {
            Some((_, words)) if words.reference || is_url_safe(&words.text) => {
                table.text("name", &words.text, format!("From {}.username.", auth.name));
            }
            named => {
                let line = named.map_or(auth.line, |(taken, _)| taken.line);
                let text = "is no name that a drain URL carries unchanged (letters, digits, - and \
                            _); heroku is written: change the drain's URL";
                findings.add(line, format!("{}.username", auth.name), text);
                table.text("name", USER, "The name in Vector's configuration cannot be used.");
            }
        }
        match auth.take("password") {
            Some(password) => password.secret(&mut table, "password", PASSWORD, findings),
            None => {
                let text = "names no password; set the variable FOREBAY_DRAIN_PASSWORD";
                findings.add(auth.line, &*auth.name, text);
                let comment = "Vector's configuration has none.";
                table.text("password", &format!("${{{PASSWORD}}}"), comment);
            }
        }
    }
    auth.rest(findings);
    users.push(table);
}

/// What the user info of a drain URL may hold.
fn is_url_safe(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

fn parameters(source: &mut Options, query: &mut BTreeSet<String>, findings: &mut Findings) {
    let name = format!("{}.query_parameters", source.name);
    for (line, parameter) in source.list("query_parameters") {
        if is_url_safe(&parameter) {
            query.insert(parameter);
        } else {
            let text = "holds a pattern, or a name that no drain URL needs; name each parameter in \
                        ingest.query";
            findings.add(line, &*name, text);
        }
    }
}

/// Whether messages are JSON.
fn decoding(source: &mut Options, findings: &mut Findings) -> bool {
    if let Some(mut framing) = source.table("framing") {
        let method = framing.take("method");
        if let Some(method) = method.filter(|method| !method.value.is("bytes")) {
            method.lost(findings, "a message is what Logplex's octet count says");
        }
        framing.rest(findings);
    }
    let Some(mut decoding) = source.table("decoding") else { return false };
    let codec = decoding.take("codec");
    let is = |word: &str| codec.as_ref().is_some_and(|codec| codec.value.is(word));
    let json = is("json");
    if let Some(codec) = codec.as_ref().filter(|_| !json && !is("bytes")) {
        codec.lost(findings, "messages stay as they came; extract fields in Splunk (props.conf)");
    }
    decoding.rest(findings);
    json
}

/// What is told, or needs no word.
fn leftovers(source: &mut Options, findings: &mut Findings) {
    // The answer always waits for the disk.
    source.take("acknowledgements");
    source.take("graph");
    source.instead(
        "keepalive",
        "a connection may stay as long as it sends; see ingest.idle_timeout",
        findings,
    );
    let namespace = source.take("log_namespace");
    if let Some(taken) = namespace.filter(|taken| taken.value == Value::Bool(true)) {
        taken.lost(findings, "events are text with indexed fields; see [destination.event]");
    }
}
