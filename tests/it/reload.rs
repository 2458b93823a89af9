use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Authority, Control, Frame, Hec, Lab, PASSWORD, SOON, eventually, run};

fn frame(id: &str, password: &str) -> Vec<u8> {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let request = String::from_utf8(Frame::new(id, &["text"]).request()).unwrap();
    let user = crate::support::USER;
    let (before, after) = (format!("{user}:{PASSWORD}"), format!("{user}:{password}"));
    request.replace(&encode(&before), &encode(&after)).into_bytes()
}

/// Credentials are rotated as an operator would: a second one, the first deprecated, then gone.
/// The connection stays the same all the while.
#[tokio::test]
async fn credentials_are_rotated_without_a_restart() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    let mut client = lab.client().await;
    let mut id = 0;
    let mut post = async |password: &str| {
        id += 1;
        client.send(&frame(&format!("{id:X}"), password)).await;
        client.answer().await.unwrap().status
    };
    assert_eq!((post(PASSWORD).await, post("second").await), (200, 401));

    let old = format!("password = \"{PASSWORD}\"\n");
    lab.edit(
        &old,
        &format!(
            "{old}deprecated = true\n[[ingest.user]]\nname = \"heroku\"\npassword = \"second\"\n"
        ),
    );
    lab.reload().await;
    assert_eq!((post(PASSWORD).await, post("second").await), (200, 200));
    let used = "forebay_auth_success_total{credential=\"heroku\",deprecated=\"true\"}";
    assert_eq!(lab.metric(used).await, Some(1.0));
    assert!(lab.log().contains("deprecated credentials are still in use"));

    lab.edit(&format!("{old}deprecated = true\n"), "password = \"third\"\n");
    lab.reload().await;
    assert_eq!((post(PASSWORD).await, post("second").await, post("third").await), (401, 200, 200));
    for secret in [PASSWORD, "second", "third"] {
        assert!(!lab.log().contains(&format!("\"{secret}\"")), "{secret}");
    }
}

/// A bad file is refused whole, with one line that names every mistake, and what was good in it
/// is not taken either.
#[tokio::test]
async fn a_bad_reload_changes_nothing_and_says_why() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    let successful = "forebay_config_last_reload_successful";
    assert_eq!(lab.metric(successful).await, Some(1.0));
    let good = lab.config();
    let changed = good.replacen(PASSWORD, "changed", 1);
    let file = lab.path().join("forebay.toml");
    fs::write(&file, format!("{changed}\n[ingest.tls]\ncertificate = \"/nowhere/tls.crt\"\nprivate_key_file = \"/nowhere/tls.key\"\n[nonsense]\n"))
        .unwrap();
    lab.hang_up();
    eventually(SOON, "the reload is refused", async || lab.metric(successful).await == Some(0.0))
        .await;
    let mut client = lab.client().await;
    for (id, password, status) in [("1", PASSWORD, 200), ("2", "changed", 401)] {
        client.send(&frame(id, password)).await;
        assert_eq!(client.answer().await.unwrap().status, status, "{password}");
    }
    let log = lab.log();
    let refusals: Vec<_> = log.lines().filter(|l| l.contains("the old one stays")).collect();
    let [line] = refusals[..] else { panic!("{refusals:#?}") };
    for part in ["ingest.tls.certificate: /nowhere/tls.crt: cannot be read", "nonsense: unknown"] {
        assert!(line.contains(part), "{line}");
    }
    let status = lab.status().await;
    assert_eq!(status["config"]["last_reload_successful"], false, "{status}");
    assert_eq!(lab.get("/readyz").await.unwrap().status, 200, "it goes on");

    lab.edit("[wal]\n", "[wal]\nretention = \"7h\"\n");
    lab.reload().await;
    assert_eq!(lab.metric(successful).await, Some(1.0));
    assert_eq!(lab.metric("forebay_config_restart_needed").await, Some(1.0));
    let status = lab.status().await;
    assert_eq!(status["config"]["restart_needed"], serde_json::json!(["wal.retention"]));
    assert!(lab.log().contains("\"keys\":\"wal.retention\""), "named in the log");
}

/// What guards an address that others can reach does not go before the address itself, which only
/// a restart can change: such a file is refused whole.
#[tokio::test]
async fn a_reload_opens_no_listener_to_everybody() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    let authority = Authority::new("exposed");
    lab.serve_tls(&authority.good());
    let port = lab.ingest_address().port();
    let (own, all) =
        (format!("listen = \"127.0.0.1:{port}\""), format!("listen = \"0.0.0.0:{port}\""));
    lab.edit(&own, &all);
    lab.launch();
    eventually(SOON, "it is ready", async || lab.log().contains("forebay is ready")).await;

    let guarded = lab.config();
    let (top, rest) = guarded.split_once("[[ingest.user]]").unwrap();
    let (guard, rest) = rest.split_once("[wal]\n").unwrap();
    let (user, _) = guard.split_once("[ingest.tls]").unwrap();
    let bare = format!("{top}[wal]\n{rest}");
    let in_clear = format!("{top}[[ingest.user]]{user}[wal]\n{rest}");
    let file = lab.path().join("forebay.toml");
    let moved = bare.replacen(&all, &own, 1);
    let insecure = bare.replacen(&all, &format!("{all}\nallow_insecure = true"), 1);
    for (text, lacks) in [
        (moved, "without TLS and without a user"),
        (insecure, "without TLS and without a user"),
        (in_clear.replacen(&all, &own, 1), "without TLS"),
    ] {
        let refused = |lab: &Lab| lab.log().matches("the old one stays").count();
        let before = refused(&lab);
        fs::write(&file, &text).unwrap();
        lab.hang_up();
        eventually(SOON, "the reload is refused", async || refused(&lab) > before).await;
        let log = lab.log();
        let line = log.lines().rfind(|line| line.contains("the old one stays")).unwrap();
        let problem =
            format!("ingest.listen: until it is restarted, forebay listens on 0.0.0.0:{port}");
        assert!(line.contains(&problem) && line.contains(lacks), "{line}");
        assert!(line.contains("keep [ingest.tls] and [[ingest.user]] as they were"), "{line}");
        assert_eq!(lab.metric("forebay_config_last_reload_successful").await, Some(0.0));
        // Whoever speaks no TLS, or has no credentials, is still refused.
        let anybody = b"POST /logs HTTP/1.1\r\nHost: drain\r\nContent-Length: 0\r\n\r\n";
        let mut plain = TcpStream::connect(lab.ingest_address()).await.unwrap();
        plain.write_all(anybody).await.unwrap();
        let mut answer = [0; 5];
        let read = timeout(SOON, plain.read(&mut answer)).await.unwrap().unwrap_or(0);
        assert_ne!(&answer[..read], b"HTTP/", "{lacks}");
        let stream = TcpStream::connect(lab.ingest_address()).await.unwrap();
        let name = ServerName::from(lab.ingest_address().ip());
        let mut secret = authority.client().connect(name, stream).await.unwrap();
        secret.write_all(anybody).await.unwrap();
        let mut answer = [0; 12];
        timeout(SOON, secret.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401", "{lacks}");
    }
    // With both, the address itself only waits for a restart.
    fs::write(&file, guarded.replacen(&all, &own, 1)).unwrap();
    lab.reload().await;
    assert_eq!(lab.metric("forebay_config_last_reload_successful").await, Some(1.0));
    let status = lab.status().await;
    assert_eq!(status["config"]["restart_needed"], serde_json::json!(["ingest.listen"]));
}

/// The drains of a file that a program writes: their names are in the events from the next batch
/// on, and the log level changes with them.
#[tokio::test]
async fn drains_get_their_names_without_a_restart() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "[destination.batch]\nlinger = \"10ms\"\n");
    let drains = lab.path().join("drains.toml");
    fs::write(&drains, "[[drain]]\ntoken = \"d.other\"\napp = \"blog\"\n").unwrap();
    lab.edit("data_dir", &format!("log_level = \"info\"\ndrains_file = {drains:?}\ndata_dir"));
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("1", &["before"])).await, 200);
    lab.drained(SOON).await;
    let status = lab.status().await;
    let stranger = &status["ingest"]["unknown_drains"][0];
    assert_eq!(stranger["token"], "fc6b856b", "{status}");
    assert_eq!(lab.metric("forebay_unknown_drain_frames_total").await, Some(1.0));

    let known = |of: &Lab| {
        let config = of.path().join("forebay.toml");
        run(&["drain", "list", "--json", "--config", config.to_str().unwrap()]).json()
    };
    assert_eq!(known(&lab)[0]["app"], "blog");
    let token = "d.fc6b856b-3332-4546-93de-7d0ee272c3bd";
    fs::write(&drains, format!("[[drain]]\ntoken = {token:?}\napp = \"checkout\"\n")).unwrap();
    lab.edit("log_level = \"info\"", "log_level = \"forebay::ingest=debug\"");
    assert!(!lab.log().contains("\"level\":\"DEBUG\""));
    lab.reload().await;
    let after = known(&lab);
    assert_eq!((&after[0]["app"], after.as_array().unwrap().len()), (&"checkout".into(), 1));
    assert_eq!(lab.post(&Frame::new("2", &["after"])).await, 200);
    lab.drained(SOON).await;
    let apps: Vec<_> = hec
        .ledger
        .events()
        .iter()
        .map(|event| (event.event.clone(), event.fields["heroku_app"].as_str().unwrap().to_owned()))
        .collect();
    let marks: Vec<_> = hec
        .ledger
        .events()
        .iter()
        .map(|event| {
            event.fields.get("unknown_drain").map(|mark| mark.as_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!(marks, [Some("1".to_owned()), None], "marked while it is not known");
    let expected = [("before", "fc6b856b"), ("after", "checkout")];
    assert_eq!(apps, expected.map(|(text, app)| (text.to_owned(), app.to_owned())));
    assert_eq!(lab.metric("forebay_unknown_drain_frames_total").await, Some(1.0), "known now");
    // What is no HTTP ends its connection, which is worth a line of that level.
    let mut client = lab.client().await;
    client.send(b"rubbish\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().status, 400);
    eventually(SOON, "debug lines are written", async || lab.log().contains("\"level\":\"DEBUG\""))
        .await;
}

/// A filter goes by the names of drains and apps. A drain that is made anew has another token, and an
/// app may get another name: what the filter names arrives all the same, from the reload on.
#[tokio::test]
async fn a_filter_by_name_follows_its_drains() {
    let hec = Hec::usual();
    let mut lab = Lab::with(
        &hec,
        "[destination.filter]\ndrains = [\"checkout\"]\napps = [\"checkout\"]\n\
         [destination.batch]\nlinger = \"10ms\"\n",
    );
    let drains = lab.path().join("drains.toml");
    let known = |token: &str, app: &str| {
        fs::write(&drains, format!("[[drain]]\ntoken = {token:?}\napp = {app:?}\n")).unwrap();
    };
    known("d.before", "checkout");
    lab.edit("data_dir", &format!("drains_file = {drains:?}\ndata_dir"));
    let control = Control::of(&mut lab);
    lab.start().await;
    let settles = async |lab: &Lab, id: &str, token: &str, settled: (u64, u64)| {
        let frame = Frame { drain: Some(token.to_owned()), ..Frame::new(id, &[id]) };
        assert_eq!(lab.post(&frame).await, 200);
        let books = lab.drained(SOON).await;
        assert_eq!((books.acknowledged, books.filtered), settled, "{id}");
    };
    settles(&lab, "1", "d.before", (1, 0)).await;
    settles(&lab, "2", "d.after", (1, 1)).await;
    known("d.after", "checkout");
    lab.reload().await;
    settles(&lab, "3", "d.before", (1, 2)).await;
    settles(&lab, "4", "d.after", (2, 2)).await;
    known("d.after", "shop");
    let filter = |app: &str| format!("drains = [\"{app}\"]\napps = [\"{app}\"]");
    lab.edit(&filter("checkout"), &filter("shop"));
    lab.reload().await;
    assert_eq!(lab.status().await["config"]["restart_needed"], serde_json::json!([]));
    settles(&lab, "5", "d.after", (3, 2)).await;

    // A replay goes by the names of now.
    let started = control.ask(&["replay", "start", "splunk", "--from", "earliest"]);
    assert_eq!(started.code, Some(0), "{started:?}");
    let expected = ["1", "4", "5", "2", "4", "5"];
    eventually(SOON, "the replay sends what the filter takes now", async || {
        let events = hec.ledger.events();
        events.iter().map(|event| &*event.event).eq(expected)
    })
    .await;
}

/// Writes a certificate that is good until the first of January of a year, and its key.
fn pair(lab: &Lab, year: i32) -> String {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(lab.path().join("tls.crt"), certificate.pem()).unwrap();
    fs::write(lab.path().join("tls.key"), key.serialize_pem()).unwrap();
    fs::set_permissions(lab.path().join("tls.key"), fs::Permissions::from_mode(0o600)).unwrap();
    certificate.pem()
}

/// What curl gets over HTTPS when it trusts this certificate; none when it does not connect.
fn https(lab: &Lab, certificate: &str) -> Option<String> {
    let trusted = lab.path().join("trusted.crt");
    fs::write(&trusted, certificate).unwrap();
    let address = lab.ingest_address();
    let output = Command::new("curl")
        .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20", "--cacert"])
        .arg(trusted)
        .args(["--resolve", &format!("localhost:{}:127.0.0.1", address.port())])
        .args(["-u", &format!("{}:{PASSWORD}", crate::support::USER), "--data-binary", "5 abcde"])
        .arg(format!("https://localhost:{}/logs", address.port()))
        .output()
        .expect("curl");
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// A certificate is renewed in its files; one whose key does not fit is refused, and the old one
/// goes on.
#[tokio::test]
async fn a_certificate_is_renewed_without_a_restart() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("SKIPPED, NOTHING IS PROVEN: there is no curl");
        return;
    }
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    let old = pair(&lab, 2040);
    let file = |name: &str| lab.path().join(name);
    let table = format!(
        "[ingest.tls]\ncertificate = {:?}\nprivate_key_file = {:?}\n\n[wal]\n",
        file("tls.crt"),
        file("tls.key")
    );
    lab.edit("[wal]\n", &table);
    lab.start().await;
    assert_eq!(https(&lab, &old).as_deref(), Some("200"));
    let not_after = "forebay_tls_certificate_not_after_seconds";
    assert_eq!(lab.metric(not_after).await, Some(2_208_988_800.0));

    let new = pair(&lab, 2041);
    assert_eq!(https(&lab, &old).as_deref(), Some("200"), "not before it is told to");
    lab.reload().await;
    assert_eq!(https(&lab, &new).as_deref(), Some("200"));
    assert_eq!(https(&lab, &old), None, "nobody gets the old one any more");
    assert_eq!(lab.metric(not_after).await, Some(2_240_611_200.0));
    assert_eq!(lab.status().await["ingest"]["certificate_not_after"], 2_240_611_200_i64);

    let certificate = fs::read(lab.path().join("tls.crt")).unwrap();
    pair(&lab, 2042);
    fs::write(lab.path().join("tls.crt"), certificate).unwrap();
    lab.hang_up();
    eventually(SOON, "the reload is refused", async || {
        lab.metric("forebay_config_last_reload_successful").await == Some(0.0)
    })
    .await;
    assert!(lab.log().contains("does not fit the certificate in"));
    assert_eq!(https(&lab, &new).as_deref(), Some("200"), "the old one goes on");
}
