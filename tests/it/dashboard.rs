use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use forebay::simulate::hec::AckMode;
use forebay::telemetry::METRICS;
use regex::Regex;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Frame, Hec, Lab, Port, Process, SOON, eventually, measured};

/// An expression of the dashboard, with the title of its panel.
type Expression = (String, String);

fn dashboard() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/grafana/forebay.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn expressions() -> Vec<Expression> {
    let mut all = Vec::new();
    for panel in dashboard()["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((title.to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    assert!(all.len() > 30, "{all:?}");
    all
}

#[test]
fn the_dashboard_speaks_of_metrics_that_there_are() {
    let known: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let name = Regex::new("forebay_[a-z_]+").unwrap();
    let text = dashboard().to_string();
    for found in name.find_iter(&text).map(|found| found.as_str()) {
        let parts = ["_bucket", "_sum", "_count"];
        let base = parts.iter().find_map(|part| found.strip_suffix(part)).unwrap_or(found);
        assert!(known.contains(found) || known.contains(base), "{found} is no metric");
    }
    // What is chosen above the panels is in every expression that can be.
    for (title, expression) in expressions() {
        assert!(
            expression.contains(r#"job="$job",instance=~"$instance""#),
            "{title}: {expression}"
        );
    }
}

#[test]
fn no_panel_lies_over_another() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "two panels at {x}, {y}: {panel}");
            }
        }
        if panel["type"] != "row" {
            assert!(!panel["description"].as_str().unwrap().is_empty(), "{panel}");
        }
    }
}

/// A Prometheus that scrapes a relay; none where it is not installed, which is said. In CI it is.
fn prometheus(dir: &Path, relay: SocketAddr, port: &Port) -> Option<Process> {
    let version = Command::new("prometheus").arg("--version").stdout(Stdio::null()).status();
    if version.is_err() {
        let why = "SKIPPED: prometheus is not installed (apt-get install prometheus): no expression \
                   of the dashboard was run";
        assert!(std::env::var_os("FOREBAY_CI").is_none(), "{why}");
        eprintln!("{why}");
        return None;
    }
    let config = dir.join("prometheus.yml");
    let text = format!(
        "global:\n  scrape_interval: 250ms\n  scrape_timeout: 250ms\nscrape_configs:\n  - job_name: \
         forebay\n    static_configs:\n      - targets: [\"{relay}\"]\n"
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
        .arg(format!("--web.listen-address={}", port.address()))
        .stdin(Stdio::null());
    Some(Process::start(command, &dir.join("prometheus-out"), &dir.join("prometheus-err")))
}

/// What Prometheus makes of an expression: the values, or its own words. HTTP 1.0, because its
/// longer answers come in chunks otherwise.
async fn query(prometheus: SocketAddr, expression: &str) -> Result<Vec<f64>, String> {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n");
    let mut answer = Vec::new();
    let asked: std::io::Result<()> = async {
        let mut stream = TcpStream::connect(prometheus).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut answer).await?;
        Ok(())
    }
    .await;
    asked.map_err(|error| error.to_string())?;
    let text = String::from_utf8(answer).map_err(|error| error.to_string())?;
    let (_, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
    let body: Value = serde_json::from_str(body).map_err(|_| text.clone())?;
    assert_ne!(body["status"], "error", "{expression}: {body}");
    let series = body["data"]["result"].as_array().ok_or_else(|| text.clone())?;
    let values = series.iter().filter_map(|one| one["value"][1].as_str()?.parse().ok());
    let values: Vec<f64> = values.filter(|value: &f64| value.is_finite()).collect();
    if values.is_empty() { Err(body.to_string()) } else { Ok(values) }
}

/// A number, and not only no error, from each; under load, with every kind of trouble that a panel
/// is there to show.
#[tokio::test]
async fn every_expression_of_the_dashboard_returns_data_from_a_real_prometheus() {
    let slow = AckMode::After { min: Duration::from_millis(500), max: Duration::from_secs(1) };
    let mut hec = Hec::up(slow);
    let mut lab = Lab::with(
        &hec,
        "[destination.batch]\nlinger = \"10ms\"\n[destination.filter]\nexclude = [\"^noise\"]\n",
    );
    lab.start().await;
    let port = Port::free();
    let Some(mut prometheus) = prometheus(lab.path(), lab.admin_address(), &port) else { return };

    // A collector that dies with what it had not indexed: the batch is sent again.
    assert_eq!(lab.post(&Frame::new("first", &["a", "noise"])).await, 200);
    eventually(SOON, "it is accepted", async || hec.ledger.totals().accepted > 0).await;
    hec.stop().await;
    hec.start();
    // A sender that lost something, one that miscounts, and one that nobody knows.
    let report = "<172>1 2026-01-02T03:04:05+00:00 host heroku logplex - Error L10 (output buffer \
                  overflow): 7 messages dropped since 2026-01-02T03:04:00+00:00.";
    let lost = format!("{} {report}", report.len()).into_bytes();
    assert_eq!(lab.post(&Frame::of("loss", lost)).await, 200);
    let miscounted = Frame { count: Some("9".to_owned()), ..Frame::new("count", &["a"]) };
    assert_eq!(lab.post(&miscounted).await, 200);
    assert_eq!(lab.post(&Frame::of("framing", b"7x broken".to_vec())).await, 200);
    let request = String::from_utf8(Frame::new("auth", &["a"]).request()).unwrap();
    let mut stranger = lab.client().await;
    stranger.send(request.replacen("Basic ", "Basic AAAA", 1).as_bytes()).await;
    assert_eq!(stranger.answer().await.unwrap().status, 401);

    let mut open: Vec<Expression> = expressions();
    let mut number = 0_u32;
    let mut last = String::new();
    let took = eventually(Duration::from_secs(60), "every expression returns data", async || {
        assert!(
            prometheus.ended().is_none(),
            "{}",
            fs::read_to_string(lab.path().join("prometheus-err")).unwrap()
        );
        for text in ["again", "noise"] {
            number += 1;
            // Each twice, as by a sender that heard no answer.
            let frame = Frame::new(&format!("F-{number}"), &[text]);
            assert_eq!(lab.post(&frame).await, 200);
            assert_eq!(lab.post(&frame).await, 200);
        }
        let mut still = Vec::new();
        for (title, expression) in std::mem::take(&mut open) {
            let concrete = expression
                .replace("$__rate_interval", "10s")
                .replace("$job", "forebay")
                .replace("$instance", ".*")
                .replace("$destination", ".*");
            if let Err(answer) = query(port.address(), &concrete).await {
                still.push((title, expression, answer));
            }
        }
        let shown =
            still.iter().map(|(title, expression, why)| format!("{title}: {expression}: {why}\n"));
        let now: String = shown.collect();
        if now != last {
            eprintln!("---- {} without data yet\n{now}", still.len());
            last = now;
        }
        open = still.into_iter().map(|(title, expression, _)| (title, expression)).collect();
        open.is_empty()
    })
    .await;
    measured("every expression had data after, ms", took.as_millis());
    prometheus.terminate();
    prometheus.exit(SOON).await;
    lab.drained(SOON).await;
}
