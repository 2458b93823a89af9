//! `splunk_hec_logs` sinks: our `[[destination]]`.
//!
//! Option names and defaults after Vector's reference of the sink, as of version 0.50.

use reqwest::Url;

use super::document::{Node, Value};
use super::event;
use super::options::{Options, Taken};
use super::out::{Findings, Table, list};
use super::source::{Ingest, file};

/// One destination.
#[derive(Debug)]
pub(super) struct Destination {
    /// `[[destination]]` and the tables in it.
    pub(super) tables: Vec<Table>,
    /// How large Vector's disk buffer was, in bytes, and where that stands.
    pub(super) buffer: Option<(u64, String)>,
}

/// Makes a destination of a sink. `proxy` is the one for all of Vector.
pub(super) fn convert(
    id: &str,
    mut sink: Options,
    ingest: &Ingest,
    proxy: Option<&Options>,
    findings: &mut Findings,
) -> Destination {
    for done in ["type", "inputs", "graph"] {
        sink.take(done);
    }
    let mut table = Table::new("[[destination]]");
    let name = name(id);
    table.text("name", &name, format!("From {}, line {}.", sink.name, sink.line));
    endpoints(&mut sink, &mut table, findings);
    let variable = format!("{}_HEC_TOKEN", name.to_ascii_uppercase().replace(['-', '.'], "_"));
    match sink.take("default_token").or_else(|| sink.take("token")) {
        Some(token) => token.secret(&mut table, "token", &variable, findings),
        None => {
            let text = format!("names no default_token; set the variable {variable}");
            findings.add(sink.line, &*sink.name, text);
            table.text("token", &format!("${{{variable}}}"), "Vector's sink has none.");
        }
    }
    acknowledgements(&mut sink, &mut table, findings);
    compression(&mut sink, &mut table, findings);
    let raw = event::target(&mut sink, &mut table, findings);
    request(&mut sink, &mut table, findings);
    let own = sink.table("proxy");
    if let Some(proxy) = own.or_else(|| proxy.cloned()) {
        self::proxy(proxy, &mut table, findings);
    }
    let buffer = buffer(&mut sink, &mut table, findings);
    health(&mut sink, &mut table, findings);
    let (batch, most) = batch(&mut sink, findings);
    let event = event::convert(&mut sink, ingest, raw, most, findings);
    let tls = sink.table("tls").and_then(|tls| trust(tls, findings));
    sink.rest(findings);
    let mut tables = vec![table];
    tables.extend([Some(batch), Some(event), tls].into_iter().flatten().filter(Table::has_keys));
    Destination { tables, buffer }
}

/// A name that forebay takes.
pub(super) fn name(id: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name: String = id.chars().map(|c| if fits(c) { c } else { '_' }).take(64).collect();
    if name.is_empty() { "splunk".to_owned() } else { name }
}

fn endpoints(sink: &mut Options, table: &mut Table, findings: &mut Findings) {
    const EXAMPLE: &str = "https://splunk.example.com:8088";
    let taken = sink.take("endpoint").or_else(|| sink.take("host"));
    let Some(taken) = taken else {
        findings.add(sink.line, &*sink.name, "names no endpoint; write the collector's URL");
        table.set("endpoints", list([EXAMPLE]), "Vector's sink names none.");
        return;
    };
    let words = taken.words(findings);
    let variables = words.as_ref().is_some_and(|words| !words.variables.is_empty());
    let text = words.map(|words| words.text).unwrap_or_default();
    let mut comment = taken.origin();
    let endpoint = match Url::parse(&text) {
        // Nothing is known about it but what the variables will say.
        _ if variables && !text.contains('@') => text.trim_end_matches('/').to_owned(),
        Ok(mut url) if url.has_host() && matches!(url.scheme(), "http" | "https") => {
            if !url.username().is_empty() || url.password().is_some() {
                let text = "holds a user or a password, which are not copied: the token is enough";
                findings.add(taken.line, &*taken.name, text);
                url.set_username("").ok();
                url.set_password(None).ok();
            }
            if !matches!(url.path(), "" | "/") || url.query().is_some() {
                let text = "has a path or a query, which are not copied: forebay adds the path of \
                            the collector";
                findings.add(taken.line, &*taken.name, text);
                url.set_path("");
                url.set_query(None);
            }
            url.set_fragment(None);
            let loopback = match url.host_str().unwrap_or_default() {
                "localhost" | "[::1]" => true,
                host => host.starts_with("127."),
            };
            if url.scheme() == "http" && !loopback {
                let text = "sends token and logs in the clear, which forebay does on loopback only; \
                            https:// is written: turn on TLS for the collector";
                findings.add(taken.line, &*taken.name, text);
                url.set_scheme("https").ok();
                comment.push_str(" It was http:// there.");
            }
            url.as_str().trim_end_matches('/').to_owned()
        }
        Ok(_) | Err(_) => {
            findings.add(taken.line, &*taken.name, "is no URL of a collector; write one");
            EXAMPLE.to_owned()
        }
    };
    comment.push_str(" Several collectors may stand here; batches are spread over them.");
    table.set("endpoints", list([endpoint.as_str()]), comment);
}

fn acknowledgements(sink: &mut Options, table: &mut Table, findings: &mut Findings) {
    let Some(taken) = sink.take("acknowledgements") else {
        table.comment("A batch counts as delivered when the indexers acknowledge it; so it was.");
        return;
    };
    // An old way to write `enabled`, which forebay always does.
    if matches!(taken.value, Value::Bool(_)) {
        return;
    }
    let mut options = Options::of(taken.name, Node { line: taken.line, value: taken.value });
    options.take("enabled");
    match options.flag("indexer_acknowledgements_enabled", findings) {
        Some((taken, false)) => table.text(
            "acknowledgement",
            "off",
            format!("{} A 200 counts as delivered: data can be lost behind it.", taken.origin()),
        ),
        Some((taken, true)) => table.text("acknowledgement", "required", taken.origin()),
        None => table.comment("Delivered is what the indexers acknowledge; so it was in Vector."),
    }
    let interval = options.number("query_interval", findings);
    let limit = options.number("retry_limit", findings);
    if let Some((taken, _)) = interval.as_ref().or(limit.as_ref()) {
        let wait = interval.as_ref().map_or(10.0, |(_, seconds)| *seconds)
            * limit.as_ref().map_or(30.0, |(_, count)| *count);
        let comment = format!("{} query_interval times retry_limit.", taken.origin());
        table.text("ack_timeout", &seconds(wait.clamp(1.0, 86_400.0)), comment);
    }
    if let Some(taken) = options.take("max_pending_acks") {
        table.comment(format!("{}: `window` limits it, counted in batches.", taken.origin()));
    }
    options.rest(findings);
}

fn compression(sink: &mut Options, table: &mut Table, findings: &mut Findings) {
    let Some(taken) = sink.take("compression") else {
        table.text("compression", "none", "Vector's default. `gzip` saves most of the traffic.");
        return;
    };
    let algorithm = if matches!(taken.value, Value::Table(_)) {
        let node = Node { line: taken.line, value: taken.value.clone() };
        let mut options = Options::of(taken.name.clone(), node);
        let algorithm = options.take("algorithm");
        options.instead("level", "the level is 2, chosen by measurement", findings);
        options.rest(findings);
        algorithm.map_or(Value::Null, |taken| taken.value)
    } else {
        taken.value.clone()
    };
    let text = algorithm.text().unwrap_or_default();
    if matches!(text, "gzip" | "none") {
        table.text("compression", text, taken.origin());
        return;
    }
    findings.add(
        taken.line,
        &*taken.name,
        "has no counterpart: gzip is written, which Splunk's own \
        collector reads; there is gzip and none",
    );
    table.text("compression", "gzip", format!("{} It was another one there.", taken.origin()));
}

/// Seconds of Vector as a duration.
fn seconds(seconds: f64) -> String {
    let millis = (seconds * 1000.0).round();
    if millis % 1000.0 == 0.0 { format!("{}s", millis / 1000.0) } else { format!("{millis}ms") }
}

fn request(sink: &mut Options, table: &mut Table, findings: &mut Findings) {
    let Some(mut request) = sink.table("request") else { return };
    if let Some((taken, value)) = request.number("timeout_secs", findings) {
        table.text("timeout", &seconds(value.clamp(1.0, 3600.0)), taken.origin());
    }
    let initial = request.number("retry_initial_backoff_secs", findings);
    let most = request.number("retry_max_duration_secs", findings);
    if let Some((taken, value)) = &initial {
        table.text("retry_initial", &seconds(value.clamp(0.001, 3600.0)), taken.origin());
    }
    let least = initial.as_ref().map_or(0.25, |(_, value)| value.clamp(0.001, 3600.0));
    match (&most, &initial) {
        (Some((taken, value)), _) => {
            let value = value.clamp(least, 3600.0);
            table.text("retry_max", &seconds(value), taken.origin());
        }
        (None, Some((taken, _))) if least > 30.0 => {
            table.text("retry_max", &seconds(least), format!("{} Not less.", taken.origin()));
        }
        _ => {}
    }
    if let Some(taken) = request.take("concurrency") {
        let lanes = match &taken.value {
            Value::Integer(number) => {
                if *number > 64 {
                    taken
                        .lost(findings, "there are at most 64 lanes to an endpoint; 64 is written");
                }
                Some((*number).clamp(1, 64))
            }
            word if word.is("none") => Some(1),
            word if word.is("adaptive") => None,
            Value::Null
            | Value::Bool(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Table(_) => {
                taken.lost(findings, "see destination.lanes");
                None
            }
        };
        match lanes {
            Some(lanes) => table.set("lanes", lanes.to_string(), taken.origin()),
            None => {
                table.comment(format!("{} `lanes` is not adaptive; 2 by default.", taken.origin()))
            }
        }
    }
    request.instead("retry_attempts", "forebay never gives up", findings);
    request.instead("retry_jitter_mode", "waits always have full jitter", findings);
    request.instead("adaptive_concurrency", "see destination.lanes", findings);
    for option in ["rate_limit_num", "rate_limit_duration_secs"] {
        request.instead(option, "a collector that is busy gets pauses by itself", findings);
    }
    request.rest(findings);
}

/// A proxy on the way. What is written in the URL before an `@` is not copied.
fn proxy(mut proxy: Options, table: &mut Table, findings: &mut Findings) {
    if proxy.flag("enabled", findings).is_some_and(|(_, on)| !on) {
        return;
    }
    let plain = proxy.take("http");
    let taken = proxy.take("https").or(plain);
    if let Some(taken) = taken
        && let Some(words) = taken.words(findings)
    {
        match words.text.rsplit_once('@') {
            None => table.text("proxy", &words.text, taken.origin()),
            Some((before, host)) => {
                let scheme = before.split_once("://").map_or("http", |(scheme, _)| scheme);
                table.text("proxy", &format!("{scheme}://{host}"), taken.origin());
                let file = "${CREDENTIALS_DIRECTORY}/proxy";
                table.text("proxy_credentials_file", file, "The URL held user and password.");
                let text = "holds credentials, which are not copied: write `user:password` into a \
                            file that the service loads as the credential proxy";
                findings.add(taken.line, &*taken.name, text);
            }
        }
    }
    proxy.instead("no_proxy", "a destination has a proxy, or none", findings);
    proxy.rest(findings);
}

/// The buffer in front of a sink: the log takes its place.
fn buffer(sink: &mut Options, table: &mut Table, findings: &mut Findings) -> Option<(u64, String)> {
    let taken: Option<Taken> = sink.take("buffer");
    let Some(taken) = taken else {
        table.comment("Vector buffered in memory; forebay's log is on disk.");
        return None;
    };
    let stages = Node { line: taken.line, value: taken.value.clone() }.elements();
    let mut size: Option<(u64, String)> = None;
    for stage in stages {
        let mut stage = Options::of(taken.name.clone(), stage);
        let kind = stage.take("type");
        let disk = kind.is_some_and(|kind| kind.value.is("disk"));
        if let Some((option, bytes)) = stage.number("max_size", findings)
            && disk
        {
            // A size that was written as a number of bytes, and is no larger than a disk.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "finite and not negative; a cast of floats saturates"
            )]
            let bytes = bytes as u64;
            if size.as_ref().is_none_or(|(largest, _)| bytes > *largest) {
                size = Some((bytes, option.origin()));
            }
        }
        stage.take("max_events");
        if let Some(full) = stage.take("when_full")
            && !full.value.is("block")
            && !full.value.is("overflow")
        {
            let instead = "nothing is dropped: when the log is full, senders wait (wal.when_full)";
            full.lost(findings, instead);
        }
        stage.rest(findings);
    }
    if size.is_none() {
        table.comment(format!("{} In memory; forebay's log is on disk.", taken.origin()));
    }
    size
}

fn health(sink: &mut Options, table: &mut Table, findings: &mut Findings) {
    let Some(taken) = sink.take("healthcheck") else { return };
    table.comment(format!("{} Here `forebay check --probe` asks, when you do.", taken.origin()));
    if matches!(taken.value, Value::Bool(_)) {
        return;
    }
    let node = Node { line: taken.line, value: taken.value };
    let mut options = Options::of(taken.name, node);
    options.take("enabled");
    options.instead("uri", "`forebay check --probe` asks the collector itself", findings);
    options.rest(findings);
}

/// `[destination.batch]`, and the most bytes of a body.
fn batch(sink: &mut Options, findings: &mut Findings) -> (Table, u64) {
    const DEFAULT: u64 = 1_000_000;
    let mut table = Table::new("[destination.batch]");
    let mut most = DEFAULT;
    let Some(mut batch) = sink.table("batch") else { return (table, most) };
    let whole = |value: f64, least: f64, most: f64| format!("{}", value.round().clamp(least, most));
    if let Some((taken, value)) = batch.number("max_bytes", findings) {
        let bytes = whole(value, 10_000.0, 100_000_000.0);
        most = bytes.parse().unwrap_or(DEFAULT);
        table.text("max_bytes", &format!("{bytes}B"), taken.origin());
    }
    if let Some((taken, value)) = batch.number("max_events", findings) {
        table.set("max_events", whole(value, 1.0, 1_000_000.0), taken.origin());
    }
    if let Some((taken, value)) = batch.number("timeout_secs", findings) {
        table.text("linger", &seconds(value.clamp(0.0, 60.0)), taken.origin());
    }
    batch.rest(findings);
    (table, most)
}

/// `[destination.tls]`.
fn trust(mut tls: Options, findings: &mut Findings) -> Option<Table> {
    let mut table = Table::new("[destination.tls]");
    tls.take("enabled");
    for (option, key, fallback) in [
        ("ca_file", "ca_file", "/etc/forebay/splunk-ca.pem"),
        ("crt_file", "certificate", "/etc/forebay/client.pem"),
        ("key_file", "private_key_file", "${CREDENTIALS_DIRECTORY}/client.key"),
    ] {
        if let Some(taken) = tls.take(option) {
            file(&taken, &mut table, key, fallback, findings);
        }
    }
    if let Some((taken, words)) = tls.words("server_name", findings) {
        table.text("server_name", &words.text, taken.origin());
    }
    if let Some((taken, false)) = tls.flag("verify_certificate", findings) {
        let comment = format!(
            "{} Whoever sits in between can read the token and the logs. Better: ca_file.",
            taken.origin()
        );
        table.set("verify", "false", comment);
    }
    if let Some((taken, false)) = tls.flag("verify_hostname", findings) {
        taken.lost(
            findings,
            "names are checked; write the name that the certificate has as \
             destination.tls.server_name",
        );
    }
    tls.instead(
        "key_pass",
        "keys are read without a passphrase; decrypt it with `openssl pkey` into a file that only \
         forebay can read",
        findings,
    );
    tls.take("alpn_protocols");
    tls.rest(findings);
    table.has_keys().then_some(table)
}
