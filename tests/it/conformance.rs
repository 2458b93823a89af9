use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Hec, Lab, PASSWORD, Port, SOON, USER, command, eventually};

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
    assert!(!json.contains(PASSWORD) && !stderr.contains(PASSWORD));
    // What the suite cannot see from outside: three frames came twice, and were stored once.
    eventually(SOON, "they were told apart", async || {
        lab.metric("forebay_frames_duplicate_total").await.unwrap_or_default() >= 3.0
    })
    .await;
    lab.drained(SOON).await;
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
