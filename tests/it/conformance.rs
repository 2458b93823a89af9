use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Authority, Hec, Lab, PASSWORD, Port, SOON, USER, command, eventually};

/// Runs the suite to its end without holding up the simulators of this test.
async fn run(arguments: Vec<String>) -> (Option<i32>, String, String) {
    let run = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        command(&[&["simulate", "logplex", "--conformance"], &*arguments].concat()).output()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

/// forebay stands everything that Heroku's senders do.
#[tokio::test]
async fn forebay_conforms() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    let url = format!("http://{USER}:{PASSWORD}@{}/logs", lab.ingest_address());
    let (code, json, stderr) = run(owned(&[&url, "--json", "--idle", "1s"])).await;
    let all: Value = serde_json::from_str(&json).unwrap();
    let rows = all["rows"].as_array().unwrap();
    let failed: Vec<_> = rows.iter().filter(|row| row["outcome"] != "pass").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!((code, &all["good"]), (Some(0), &Value::Bool(true)), "{stderr}");
    assert!(rows.len() > 50, "{} rows", rows.len());
    let groups: BTreeSet<_> = rows.iter().map(|row| row["group"].as_str().unwrap()).collect();
    let expected =
        ["again", "answers", "connection", "framing", "headers", "poster", "refusals", "shuttle"];
    assert_eq!(groups, expected.into());
    half_close_is_answered(rows);
    assert!(!json.contains(PASSWORD) && !stderr.contains(PASSWORD));
    // What the suite cannot see from outside: three frames came twice, and were stored once.
    eventually(SOON, "they were told apart", async || {
        lab.metric("forebay_frames_duplicate_total").await.unwrap_or_default() >= 3.0
    })
    .await;
    lab.drained(SOON).await;
}

/// The same over TLS, in both its versions and with the suites that Heroku's senders have.
#[tokio::test]
async fn forebay_conforms_over_tls() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.serve_tls(&Authority::new("nobody knows it").good());
    lab.start().await;
    let url = format!("https://{USER}:{PASSWORD}@{}/logs", lab.ingest_address());
    let (code, json, stderr) = run(owned(&[&url, "--json", "--idle", "1s"])).await;
    let all: Value = serde_json::from_str(&json).unwrap();
    let rows = all["rows"].as_array().unwrap();
    let failed: Vec<_> = rows.iter().filter(|row| row["outcome"] != "pass").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(code, Some(0), "{stderr}");
    let of_tls: Vec<_> = rows.iter().filter(|row| row["group"] == "tls").collect();
    assert_eq!((rows.len() > 55, of_tls.len()), (true, 2), "{rows:#?}");
    half_close_is_answered(rows);
    lab.drained(SOON).await;

    // Plain HTTP is not spoken there, nor TLS where there is none.
    let (code, _, stderr) = run(owned(&[&url.replace("https", "http"), "--idle", "1s"])).await;
    assert_eq!(code, Some(1), "{stderr}");
    let mut plain = Lab::with(&hec, "");
    plain.start().await;
    let url = format!("https://{USER}:{PASSWORD}@{}/logs", plain.ingest_address());
    let (code, _, stderr) = run(owned(&[&url, "--idle", "1s"])).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("no connection"), "{stderr}");
    assert!(!stderr.contains(PASSWORD), "{stderr}");
}

/// The load goes over TLS as well.
#[tokio::test]
async fn frames_are_sent_over_tls() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.serve_tls(&Authority::new("nobody knows it").good());
    lab.start().await;
    let report = lab
        .send(|config| {
            config.tls = true;
            config.frames = Some(200);
        })
        .end()
        .await;
    assert_eq!((report.end.totals.accepted_frames, report.end.broken), (200, 0), "{report}");
    lab.drained(SOON).await;
    assert_eq!(lab.audit(&hec).duplicates, 0);
}

/// The suite takes an early close for good enough; forebay does better.
fn half_close_is_answered(rows: &[Value]) {
    let row = rows.iter().find(|row| row["check"] == "half closed behind the request").unwrap();
    assert!(row["found"].as_str().unwrap().starts_with("200"), "{row}");
}

/// A drain that is set up wrongly fails, row by row; no drain at all is said in a line.
#[tokio::test]
async fn a_wrong_drain_fails() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    let url = format!("http://{USER}:{PASSWORD}@{}/wrong", lab.ingest_address());
    let (code, table, _) = run(owned(&[&url, "--idle", "1s"])).await;
    assert_eq!(code, Some(1));
    assert!(table.contains("FAIL     framing     a line "), "{table}");
    assert!(table.contains("a sender loses the frame"), "{table}");
    assert!(table.contains("pass     refusals    a wrong path is 404"), "{table}");
    assert!(!table.contains(PASSWORD), "{table}");

    let nobody = Port::free().address();
    let (code, _, stderr) = run(owned(&[&format!("http://{nobody}/logs")])).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("no connection"), "{stderr}");
    let (code, _, stderr) = run(owned(&[&format!("http://{nobody}/logs"), "--rate", "5"])).await;
    assert_eq!(code, Some(64), "{stderr}");
}
