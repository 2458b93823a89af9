use std::path::Path;

use base64::Engine as _;
use forebay::simulate::hec::{HecConfig, HecTls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::{
    Authority, Destination, Frame, Hec, Lab, Pair, Port, SOON, TOKEN, eventually, private,
};

/// Quick probes of a held endpoint.
const QUICK: &str = "hold_probe = \"100ms\"\n[destination.batch]\nlinger = \"10ms\"\n";

fn collector(tls: HecTls) -> Hec {
    Hec::with(HecConfig { tls: Some(tls), ..HecConfig::default() })
}

/// A lab with one destination over TLS; `tables` are further keys and tables of it.
fn lab(hec: &Hec, tables: &'static str) -> Lab {
    let mut lab = Lab::new(vec![Destination::new("splunk", hec.address(), tables).over_tls()]);
    lab.show(hec);
    lab
}

fn set(lab: &mut Lab, variables: &[(&str, &Path)]) {
    let text = |(name, path): &(&str, &Path)| (name.to_string(), path.display().to_string());
    lab.environment(variables.iter().map(text).collect());
}

/// Sends one frame and waits until it is acknowledged.
async fn delivers(lab: &Lab, hec: &Hec) {
    assert_eq!(lab.post(&Frame::new("F-1", &["a", "b"])).await, 200);
    lab.drained(SOON).await;
    assert_eq!(hec.ledger.totals().acknowledged, 2);
}

/// Sends one frame and waits until the endpoint is held, for a reason with these words.
async fn holds(lab: &Lab, hec: &Hec, words: &str) {
    assert_eq!(lab.post(&Frame::new("F-1", &["a", "b"])).await, 200);
    let mut seen = String::new();
    eventually(SOON, &format!("it is held: {words}"), async || {
        seen = lab.status().await["destinations"][0]["endpoints"][0]["reason"].to_string();
        seen.contains(words)
    })
    .await;
    assert_eq!(hec.ledger.totals().accepted, 0, "{seen}");
    let books = lab.books("splunk").await;
    assert_eq!((books.pending, books.difference), (2, 0), "nothing is lost: {books:?}");
}

const CA: &str = "hold_probe = \"100ms\"\n[destination.tls]\nca_file = \"${LAB_CA}\"\n";

#[tokio::test]
async fn an_own_authority_is_trusted_and_no_other() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let hec = collector(ours.good().tls(None));
    let mut good = lab(&hec, CA);
    let ca = private(good.path(), "ca.pem", &ours.pem());
    set(&mut good, &[("LAB_CA", &ca)]);
    good.start().await;
    delivers(&good, &hec).await;
    assert_eq!(good.status().await["destinations"][0]["tls_verified"], true);
    let unverified = "forebay_tls_unverified{destination=\"splunk\"}";
    assert_eq!(good.metric(unverified).await, Some(0.0));

    let hec = collector(others.good().tls(None));
    let mut bad = lab(&hec, CA);
    let ca = private(bad.path(), "ca.pem", &ours.pem());
    set(&mut bad, &[("LAB_CA", &ca)]);
    bad.start().await;
    holds(&bad, &hec, "UnknownIssuer").await;
    bad.kill();
}

#[tokio::test]
async fn an_expired_certificate_holds_the_endpoint_until_there_is_another() {
    let ours = Authority::new("ours");
    let mut hec = collector(ours.expired().tls(None));
    let mut lab = lab(&hec, CA);
    let ca = private(lab.path(), "ca.pem", &ours.pem());
    set(&mut lab, &[("LAB_CA", &ca)]);
    lab.start().await;
    holds(&lab, &hec, "expired").await;
    hec.stop().await;
    hec.change(|base| base.tls = Some(ours.good().tls(None)));
    hec.start();
    lab.drained(SOON).await;
    assert_eq!(hec.ledger.totals().acknowledged, 2);
}

#[tokio::test]
async fn a_wrong_name_holds_unless_it_is_the_name_that_is_asked_for() {
    let ours = Authority::new("ours");
    let hec = collector(ours.named("hec.internal").tls(None));
    let mut wrong = lab(&hec, CA);
    let ca = private(wrong.path(), "ca.pem", &ours.pem());
    set(&mut wrong, &[("LAB_CA", &ca)]);
    wrong.start().await;
    holds(&wrong, &hec, "not valid for name").await;
    wrong.kill();

    let mut named =
        lab(&hec, "[destination.tls]\nca_file = \"${LAB_CA}\"\nserver_name = \"hec.internal\"\n");
    set(&mut named, &[("LAB_CA", &ca)]);
    named.start().await;
    delivers(&named, &hec).await;
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_needed() {
    let (ours, clients) = (Authority::new("ours"), Authority::new("clients"));
    let hec = collector(ours.good().tls(Some(&clients)));
    let mut without = lab(&hec, CA);
    let ca = private(without.path(), "ca.pem", &ours.pem());
    set(&mut without, &[("LAB_CA", &ca)]);
    without.start().await;
    assert_eq!(without.post(&Frame::new("F-1", &["a"])).await, 200);
    eventually(SOON, "the endpoint is not up", async || {
        without.status().await["destinations"][0]["endpoints"][0]["state"] != "up"
    })
    .await;
    assert_eq!(hec.ledger.totals().accepted, 0);
    without.kill();

    let mut with = lab(
        &hec,
        "[destination.tls]\nca_file = \"${LAB_CA}\"\ncertificate = \"${LAB_CERT}\"\n\
         private_key_file = \"${LAB_KEY}\"\n",
    );
    let Pair { chain, key } = clients.named("forebay.internal");
    let (chain, key) = (private(with.path(), "c.pem", &chain), private(with.path(), "c.key", &key));
    set(&mut with, &[("LAB_CA", &ca), ("LAB_CERT", &chain), ("LAB_KEY", &key)]);
    with.start().await;
    delivers(&with, &hec).await;
}

/// What TLS is made of is renewed in its files, as its authorities want it now and then.
#[tokio::test]
async fn tls_files_are_renewed_without_a_restart() {
    let [before, after] = ["before", "after"].map(|name| {
        let (ours, clients) = (Authority::new(name), Authority::new(name));
        let server = ours.good().tls(Some(&clients));
        (ours.pem(), clients.named("forebay.internal"), server)
    });
    let mut hec = collector(before.2);
    let mut lab = lab(
        &hec,
        "hold_probe = \"100ms\"\n[destination.tls]\nca_file = \"${LAB_CA}\"\n\
         certificate = \"${LAB_CERT}\"\nprivate_key_file = \"${LAB_KEY}\"\n",
    );
    let write = |lab: &Lab, ca: &str, Pair { chain, key }: &Pair| {
        let file = |name, text: &str| private(lab.path(), name, text);
        [file("ca.pem", ca), file("c.pem", chain), file("c.key", key)]
    };
    let [ca, chain, key] = write(&lab, &before.0, &before.1);
    set(&mut lab, &[("LAB_CA", &ca), ("LAB_CERT", &chain), ("LAB_KEY", &key)]);
    lab.start().await;
    delivers(&lab, &hec).await;

    hec.stop().await;
    hec.change(|base| base.tls = Some(after.2));
    hec.start();
    assert_eq!(lab.post(&Frame::new("F-2", &["c"])).await, 200);
    eventually(SOON, "the collector is not trusted", async || {
        lab.status().await["destinations"][0]["endpoints"][0]["state"] == "held"
    })
    .await;
    write(&lab, &after.0, &after.1);
    lab.reload().await;
    lab.drained(SOON).await;
    assert_eq!(hec.ledger.totals().acknowledged, 3);
    assert_eq!(lab.status().await["config"]["restart_needed"], serde_json::json!([]));
    assert!(lab.log().contains("TLS and the proxy are renewed"));
    // What is as it was is left alone: no connection ends for it.
    lab.reload().await;
    assert_eq!(lab.log().matches("TLS and the proxy are renewed").count(), 1);

    // A file that is no good changes nothing.
    private(lab.path(), "c.key", &before.1.key);
    lab.hang_up();
    eventually(SOON, "the reload is refused", async || {
        lab.metric("forebay_config_last_reload_successful").await == Some(0.0)
    })
    .await;
    assert_eq!(lab.post(&Frame::new("F-3", &["d"])).await, 200);
    lab.drained(SOON).await;
}

#[tokio::test]
async fn verification_that_is_off_is_said_everywhere() {
    let hec = collector(Authority::new("nobody").expired().tls(None));
    let mut lab = lab(&hec, "[destination.tls]\nverify = false\n");
    lab.start().await;
    delivers(&lab, &hec).await;
    assert!(lab.log().contains("NOT verified"), "at the start");
    assert_eq!(lab.status().await["destinations"][0]["tls_verified"], false);
    let unverified = "forebay_tls_unverified{destination=\"splunk\"}";
    assert_eq!(lab.metric(unverified).await, Some(1.0));

    // It is switched on again at run time, and that is said too.
    lab.edit("verify = false", "verify = true");
    lab.reload().await;
    assert_eq!(lab.metric(unverified).await, Some(0.0));
    let status = lab.status().await;
    assert_eq!(status["destinations"][0]["tls_verified"], true);
    assert_eq!(status["config"]["restart_needed"], serde_json::json!([]));
    lab.kill();
}

/// A token that is refused is read again, and what was refused goes out with the new one.
#[tokio::test]
async fn a_token_that_changes_is_found_without_a_restart() {
    let hec = Hec::usual();
    let destination = Destination::new("splunk", hec.address(), QUICK);
    let mut lab = Lab::new(vec![destination.with_token("token_file = \"${LAB_TOKEN}\"")]);
    lab.show(&hec);
    let path = private(lab.path(), "hec", "not-the-token\n");
    set(&mut lab, &[("LAB_TOKEN", &path)]);
    lab.start().await;
    holds(&lab, &hec, "code 4").await;
    // A file that is no good changes nothing.
    private(lab.path(), "hec", "two words\n");
    eventually(SOON, "the bad file is seen", async || lab.log().contains("holds no token")).await;
    assert_eq!(hec.ledger.totals().accepted, 0);
    private(lab.path(), "hec", &format!("{TOKEN}\n"));
    lab.drained(SOON).await;
    let log = lab.log();
    assert!(log.contains("another token is in use"), "{log}");
    for secret in [TOKEN, "not-the-token", "two words"] {
        assert!(!log.contains(secret), "no token is in the log");
    }
}

/// One `CONNECT`, after the right credentials.
async fn tunnel(mut client: TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    let credentials = base64::prelude::BASE64_STANDARD.encode("relay:pr0xy-pa55");
    if !head.contains(&format!("Basic {credentials}")) {
        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.ok()?;
        return None;
    }
    let mut server = TcpStream::connect(&target).await.ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    drop(copy_bidirectional(&mut client, &mut server).await);
    Some(target)
}

/// A collector over TLS and a lab that goes to it through a proxy. Each connection of the proxy is
/// told.
async fn proxied(credentials: &str) -> (Hec, Lab, JoinSet<()>, mpsc::Receiver<()>) {
    let ours = Authority::new("ours");
    let hec = collector(ours.good().tls(None));
    let port = Port::free();
    let listener = TcpListener::bind(port.address()).await.unwrap();
    let (seen, tunnels) = mpsc::channel(64);
    let mut proxy = JoinSet::new();
    proxy.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            seen.try_send(()).ok();
            connections.spawn(tunnel(client));
        }
    });
    let mut lab = lab(
        &hec,
        "hold_probe = \"100ms\"\nproxy = \"${LAB_PROXY}\"\n\
         proxy_credentials_file = \"${LAB_PROXY_PASSWORD}\"\n\
         [destination.tls]\nca_file = \"${LAB_CA}\"\n",
    );
    let ca = private(lab.path(), "ca.pem", &ours.pem());
    let credentials = private(lab.path(), "proxy", credentials);
    let url = format!("http://{}", port.address());
    set(
        &mut lab,
        &[("LAB_CA", &ca), ("LAB_PROXY_PASSWORD", &credentials), ("LAB_PROXY", Path::new(&url))],
    );
    lab.start().await;
    (hec, lab, proxy, tunnels)
}

#[tokio::test]
async fn a_proxy_is_used_with_its_credentials() {
    let (hec, lab, _proxy, mut tunnels) = proxied("relay:pr0xy-pa55\n").await;
    delivers(&lab, &hec).await;
    assert!(tunnels.try_recv().is_ok(), "it went through the proxy");
    assert!(!lab.log().contains("pr0xy-pa55"));
}

#[tokio::test]
async fn a_proxys_credentials_are_renewed_without_a_restart() {
    let (hec, mut lab, _proxy, mut tunnels) = proxied("relay:0ld-pa55\n").await;
    assert_eq!(lab.post(&Frame::new("F-1", &["a", "b"])).await, 200);
    for _ in 0..3 {
        tunnels.recv().await.unwrap();
    }
    assert_eq!(hec.ledger.totals().accepted, 0, "the proxy lets nobody through");
    private(lab.path(), "proxy", "relay:pr0xy-pa55\n");
    lab.reload().await;
    lab.drained(SOON).await;
    assert_eq!(hec.ledger.totals().acknowledged, 2);
    assert!(!lab.log().contains("pr0xy-pa55") && !lab.log().contains("0ld-pa55"));
}

/// A host without authorities, as a bare container is: over plain HTTP nobody has to be trusted.
#[tokio::test]
async fn without_tls_a_host_needs_no_authorities() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    let nowhere = Path::new("/nonexistent");
    set(&mut lab, &[("SSL_CERT_FILE", nowhere), ("SSL_CERT_DIR", nowhere)]);
    lab.start().await;
    delivers(&lab, &hec).await;
    lab.stop().await;
}
