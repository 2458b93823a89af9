use base64::Engine as _;

use crate::support::{Destination, Frame, Hec, Lab, PASSWORD, Port, SOON, TOKEN, USER, eventually};

#[tokio::test]
async fn admin_says_how_things_are() {
    let (hec, dead) = (Hec::usual(), Port::free());
    let mut lab = Lab::new(vec![
        Destination::new("splunk", hec.address(), "[destination.filter]\nkinds = [\"app\"]\n"),
        Destination::new("dead", dead.address(), ""),
    ]);
    lab.show(&hec);
    lab.start().await;
    let mut client = lab.client().await;
    assert_eq!(client.post(&Frame::new("01", &["one", "two", " "])).await, 200);
    assert_eq!(client.post(&Frame::new("01", &["one", "two", " "])).await, 200);
    let router = "68 <158>1 2026-01-02T03:04:05.000001+00:00 host heroku router - at=info";
    assert_eq!(client.post(&Frame::of("02", router.as_bytes().to_vec())).await, 200);
    let wrong = String::from_utf8(Frame::new("03", &["three"]).request()).unwrap();
    client.send(wrong.replace("/logs", "/other").as_bytes()).await;
    assert_eq!(client.answer().await.unwrap().status, 404);
    lab.drained(SOON).await;

    for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = lab.get(path).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
    }
    assert_eq!(lab.get("/nothing").await.unwrap().status, 404);

    let books = lab.books("splunk").await;
    let figures = (books.accepted, books.acknowledged, books.filtered, books.pending);
    assert_eq!(figures, (4, 2, 2, 0), "{books:?}");
    assert_eq!((books.dead_lettered, books.skipped, books.dropped, books.difference), (0, 0, 0, 0));
    eventually(SOON, "the dead one's books are up to date", async || {
        lab.books("dead").await.accepted == 4
    })
    .await;
    let books = lab.books("dead").await;
    assert_eq!((books.pending, books.difference), (4, 0), "{books:?}");
    let status = lab.status().await;
    assert_eq!(status["phase"], "ready");
    assert_eq!(status["log"]["end_offset"], 2);
    assert_eq!(status["log"]["messages"], 4);
    assert_eq!(status["log"]["durability"], "fsync");
    assert_eq!(status["destinations"][0]["endpoints"][0]["state"], "up");
    assert_eq!(status["destinations"][0]["acknowledgement"], "required");
    assert_eq!(status["destinations"][0]["checkpoint"], serde_json::json!([2, 0]));
    assert_eq!(status["destinations"][1]["endpoints"][0]["state"], "resting");

    for (series, value) in [
        ("forebay_http_requests_total{code=\"200\"}", 3.0),
        ("forebay_http_requests_total{code=\"404\"}", 1.0),
        ("forebay_http_connections", 1.0),
        ("forebay_frames_received_total", 2.0),
        ("forebay_frames_duplicate_total", 1.0),
        ("forebay_messages_received_total", 4.0),
        ("forebay_wal_durable_offset", 2.0),
        ("forebay_wal_poisoned", 0.0),
        ("forebay_delivered_messages_total{destination=\"splunk\"}", 2.0),
        ("forebay_filtered_messages_total{destination=\"splunk\"}", 2.0),
        ("forebay_pending_messages{destination=\"splunk\"}", 0.0),
        ("forebay_pending_messages{destination=\"dead\"}", 4.0),
        ("forebay_books_difference{destination=\"splunk\"}", 0.0),
        ("forebay_acknowledgement_required{destination=\"splunk\"}", 1.0),
        ("forebay_ack_latency_seconds_count{destination=\"splunk\"}", 1.0),
    ] {
        assert_eq!(lab.metric(series).await, Some(value), "{series}");
    }
    for (series, at_least) in [
        ("forebay_wal_commit_seconds_count", 2.0),
        ("forebay_wal_free_bytes", 1.0),
        ("forebay_hec_requests_total{destination=\"splunk\",outcome=\"accepted\"}", 1.0),
        ("forebay_hec_requests_total{destination=\"dead\",outcome=\"unreachable\"}", 1.0),
    ] {
        let value = lab.metric(series).await.unwrap_or_default();
        assert!(value >= at_least, "{series}: {value}");
    }
}

/// Passwords and tokens are in none of the places an operator would copy into a ticket, also with
/// every log line there is, and when something is wrong with them.
#[tokio::test]
async fn secrets_show_nowhere() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.environment(vec![("FOREBAY_LOG".to_owned(), "trace".to_owned())]);
    lab.start().await;
    let mut client = lab.client().await;
    assert_eq!(client.post(&Frame::new("01", &["one"])).await, 200);
    let request = String::from_utf8(Frame::new("02", &["two"]).request()).unwrap();
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let good = encode(&format!("{USER}:{PASSWORD}"));
    let almost = encode(&format!("{USER}:{PASSWORD}x"));
    assert!(request.contains(&good));
    client.send(request.replace(&good, &almost).as_bytes()).await;
    assert_eq!(client.answer().await.unwrap().status, 401);
    lab.drained(SOON).await;

    let mut places = vec![("the status", lab.status().await.to_string())];
    places.push(("the metrics", lab.get("/metrics").await.unwrap().body));
    let warnings = lab.get("/v1/warnings").await.unwrap().body;
    assert!(warnings.contains("refused a request"), "{warnings}");
    places.push(("the warnings", warnings));
    for path in ["/", "/v1/history", "/v1/access"] {
        places.push((path, lab.get(path).await.unwrap().body));
    }
    lab.stop().await;
    places.push(("the log", lab.log()));
    assert!(lab.log().contains("\"level\":\"TRACE\""), "every line was written");
    for secret in [PASSWORD, TOKEN, &good, &almost] {
        for (place, text) in &places {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{place} shows a secret");
        }
    }
}

/// Every line of a real relay's `/metrics` by the rules of the text format and of naming, and
/// nothing that is not in the manual.
#[tokio::test]
async fn metrics_follow_prometheus_rules_and_are_in_the_manual() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    let frame = Frame::new("01", &["one", "two"]);
    assert_eq!(lab.post(&frame).await, 200);
    lab.drained(SOON).await;
    let text = lab.get("/metrics").await.unwrap().body;
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let manual = std::fs::read_to_string(page).unwrap();

    let mut types = std::collections::BTreeMap::new();
    let (mut helped, mut series) = (std::collections::BTreeSet::new(), 0);
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(types.insert(name, kind), None, "{name} has one type");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.ends_with('.'), "{line}");
            helped.insert(name);
            continue;
        }
        series += 1;
        let (name, behind) = line.split_at(line.find(['{', ' ']).unwrap());
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
        let (labels, value) = match behind.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ").unwrap(),
            None => ("", behind.trim_start()),
        };
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(!labels.contains(frame.drain.as_deref().unwrap()), "a token is no label: {line}");
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|ending| name.strip_suffix(ending))
            .find(|family| types.get(family) == Some(&"histogram"))
            .unwrap_or(name);
        let kind = types.get(family).unwrap_or_else(|| panic!("{family} has a type before it"));
        assert!(helped.contains(family), "{family} has a help text");
        assert_eq!(family.ends_with("_total"), *kind == "counter", "{line}");
        let row = manual.lines().find(|row| row.starts_with(&format!("| `{family}` |")));
        let row = row.unwrap_or_else(|| panic!("{family} is not in docs/metrics.md"));
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let label = label.split_once('=').unwrap().0;
            let known = row.contains(&format!("`{label}`"));
            assert!(
                known || label == "le",
                "{family} has a label that is not in the manual: {label}"
            );
        }
    }
    assert!(series > 50, "{text}");
}

/// What is asked in the wrong way is told so in JSON, with the right way.
#[tokio::test]
async fn wrong_paths_and_methods_are_answered_in_json() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    let ask = async |method: &str, path: &str, body: &str| {
        let mut client = crate::support::Client::connect(lab.admin_address()).await;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.send(request.as_bytes()).await;
        let answer = client.answer().await.unwrap();
        let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        (answer.status, answer.header("allow").map(str::to_owned), json)
    };
    let read = Some("GET, HEAD, OPTIONS".to_owned());
    let (status, allow, body) = ask("OPTIONS", "/v1/status", "").await;
    assert_eq!((status, &allow), (200, &read));
    assert_eq!(body["allow"], serde_json::json!(["GET", "HEAD", "OPTIONS"]));
    for method in ["POST", "DELETE", "PUT", "BREW"] {
        let (status, allow, body) = ask(method, "/v1/status", "").await;
        assert_eq!((status, &allow), (405, &read), "{method}");
        assert!(body["fix"].as_str().unwrap().contains("GET"), "{body}");
    }
    let (status, allow, _) = ask("POST", "/v1/log-level", "").await;
    assert_eq!((status, allow.as_deref()), (405, Some("GET, HEAD, OPTIONS, PUT")));
    let (status, _, body) = ask("GET", "/v1/nothing", "").await;
    assert_eq!(status, 404);
    assert!(body["fix"].as_str().unwrap().contains("/v1/status"), "{body}");
    // This relay has no token, so nobody may change anything over TCP.
    let (status, _, body) = ask("PUT", "/v1/log-level", "{\"filter\":\"debug\"}").await;
    assert_eq!(status, 403);
    assert!(body["fix"].as_str().unwrap().contains("admin.token_file"), "{body}");
    let (_, _, level) = ask("GET", "/v1/log-level", "").await;
    assert_eq!(level["filter"], "info");
}

/// The page brings everything along, and its policy forbids everything else.
#[tokio::test]
async fn the_page_forbids_what_comes_from_elsewhere() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    let page = lab.get("/").await.unwrap();
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    let parts: Vec<&str> = policy.split("; ").collect();
    for part in [
        "default-src 'none'",
        "connect-src 'self'",
        "img-src data:",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ] {
        assert!(parts.contains(&part), "{part}: {policy}");
    }
    // Only by hashes, and nothing that would undo them.
    let sources = parts.iter().filter(|part| part.contains("-src ")).flat_map(|p| p.split(' '));
    for source in sources.filter(|source| !source.ends_with("-src")) {
        let known =
            matches!(source, "'none'" | "'self'" | "data:") || source.starts_with("'sha256-");
        assert!(known, "{source}");
    }
    for (name, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store")] {
        assert_eq!(page.header(name), Some(value));
    }
    for way in ["src=\"", "@import", "url(http"] {
        assert!(!page.body.contains(way), "{way}");
    }
}

/// What a change needs is told before it is tried.
#[tokio::test]
async fn history_and_access_are_told() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    let json = async |path: &str| -> serde_json::Value {
        serde_json::from_str(&lab.get(path).await.unwrap().body).unwrap()
    };
    let access = json("/v1/access").await;
    let nobody = serde_json::json!({ "changes_need": "impossible", "may_change": false });
    assert_eq!(access, nobody);
    assert_eq!(json("/v1/warnings").await, serde_json::json!([]));
    assert_eq!(lab.post(&Frame::new("01", &["one", "two"])).await, 200);
    lab.drained(SOON).await;
    let is = |rates: &serde_json::Value| {
        rates.as_array().unwrap().iter().any(|rate| rate.as_f64().is_some_and(|rate| rate > 0.0))
    };
    eventually(SOON, "rates and quantiles are there", async || {
        let history = json("/v1/history").await;
        let (ingest, splunk) = (&history["ingest"], &history["destinations"][0]);
        assert_eq!(splunk["name"], "splunk");
        let samples = history["at"].as_array().unwrap().len();
        assert_eq!(splunk["lag_seconds"].as_array().unwrap().len(), samples);
        is(&ingest["messages_per_second"])
            && is(&ingest["answer_p99_seconds"])
            && is(&splunk["acknowledged_per_second"])
            && is(&splunk["acknowledgement_p99_seconds"])
    })
    .await;
    let oldest = lab.status().await["log"]["oldest_seconds"].as_f64().unwrap();
    assert!((0.0..60.0).contains(&oldest), "{oldest}");
}
