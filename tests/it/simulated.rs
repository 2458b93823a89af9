use std::fs;

use crate::support::{Client, Port, Process, SOON, command, eventually};

const TOKEN: &str = "00000000-0000-0000-0000-000000000000";
const GOOD: &str = r#"{"event":"a"}"#;

/// A post on the usual channel, with further header lines.
fn post(headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /services/collector/event HTTP/1.1\r\nHost: hec\r\nAuthorization: Splunk {TOKEN}\r\n\
         X-Splunk-Request-Channel: 0bd84bbd-d4a1-4b1a-b9f1-ee1c6a5b2b8a\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Every flag that makes a collector difficult, through the real command line: what it answers is
/// what the script says, then what the flags say.
#[tokio::test]
async fn scripts_balancers_and_poison_come_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    fs::write(&script, "post ok 2\npost busy\npost retry-after\n").unwrap();
    let (log, out, port) = (dir.path().join("log"), dir.path().join("out"), Port::free());
    let address = port.address();
    let args = [
        "simulate",
        "hec",
        "--listen",
        &address.to_string(),
        "--script",
        script.to_str().unwrap(),
        "--indexers",
        "2",
        "--balancer",
        "cookie",
        "--poison",
        "7=POISON",
        "--retry-after",
        "9",
        "--fault",
        "gateway-timeout@2=1",
    ];
    let mut process = Process::start(command(&args), &out, &log);
    eventually(SOON, "it says where it listens", async || {
        fs::read_to_string(&out).unwrap_or_default().contains(&format!("http://{address}"))
    })
    .await;
    let mut client = Client::connect(address).await;
    let mut ask = async |request: Vec<u8>| {
        client.send(&request).await;
        client.answer().await.unwrap()
    };
    let answer = ask(post("", GOOD)).await;
    assert_eq!((answer.status, &*answer.body), (200, r#"{"text":"Success","code":0,"ackId":0}"#));
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let sticky = format!("Cookie: {cookie}\r\n");
    // The same indexer, so its script goes on and its ids count.
    let answer = ask(post(&sticky, &format!(r#"{GOOD}{{"event":"a POISON"}}"#))).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.ends_with(r#""code":7,"invalid-event-number":2,"ackId":1}"#), "{answer:?}");
    assert_eq!(ask(post(&sticky, GOOD)).await.status, 503);
    let answer = ask(post(&sticky, GOOD)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("9")));
    assert_eq!(ask(post(&sticky, GOOD)).await.status, 200);
    // Without the cookie it is the other indexer, whose script is at its beginning.
    for status in [200, 200, 503, 503, 504] {
        let other = cookie.replacen("AWSALB=0", "AWSALB=1", 1);
        assert_eq!(ask(post(&format!("Cookie: {other}\r\n"), GOOD)).await.status, status);
    }
    process.kill();
}

#[test]
fn mistakes_on_the_command_line_are_64() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    fs::write(&script, "post busy\npost hungry\n").unwrap();
    let script = script.to_str().unwrap();
    for (args, words) in [
        (&["--fault", "hungry"][..], "is no fault; there are busy"),
        (&["--fault", "busy=2"], "no probability"),
        (&["--fault", "busy@3"], "an indexer that is not there"),
        (&["--poison", "9=x"], "6, 7, 12, 13 and 15"),
        (&["--script", script], "line 2: `hungry` is no fault"),
        (&["--script", "/nowhere"], "the script /nowhere"),
        (&["--tls-certificate", "/nowhere"], "--tls-key"),
        (&["--tls-certificate", "/nowhere", "--tls-key", "/nowhere"], "no TLS: the certificate"),
    ] {
        let args: Vec<_> =
            ["simulate", "hec", "--listen", "127.0.0.1:0"].iter().chain(args).copied().collect();
        let output = command(&args).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{args:?}: {errors}");
        assert!(errors.contains(words), "{args:?}: {errors}");
    }
}
