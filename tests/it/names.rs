//! `destination.resolve = "all"`: each address of a name is an endpoint.
//!
//! The names are those of a hosts file that only the process under test sees, in a mount namespace of
//! its own. Where the tests may not make one, they say so and pass.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use forebay::simulate::hec::{Fault, FaultKind, HecConfig};
use serde_json::Value;

use crate::support::{Authority, Destination, Frame, Hec, Lab, SOON, eventually, private};

const ALL: &str = "resolve = \"all\"\nresolve_interval = \"1s\"\nhold_probe = \"200ms\"\n\
     [destination.batch]\nmax_events = 50\nlinger = \"5ms\"\n\
     [destination.tls]\nca_file = \"${LAB_CA}\"\n";

/// Whether there can be a mount namespace.
fn possible() -> bool {
    let made = Command::new("unshare").args(["-m", "true"]).output();
    let possible = made.is_ok_and(|output| output.status.success());
    if !possible {
        eprintln!("skipped: `unshare -m` is not allowed here");
    }
    possible
}

/// Collectors on three addresses of one name, whose certificate is for the name alone.
struct Site {
    hecs: [Hec; 3],
    lab: Lab,
    hosts: PathBuf,
}

const ADDRESSES: [Ipv4Addr; 3] =
    [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];

impl Site {
    fn new(extra: &str) -> Self {
        let ours = Authority::new("ours");
        let tls = Some(ours.named("hec.test").tls(None));
        let first = Hec::with(HecConfig { tls, ..HecConfig::default() });
        let hecs = [first.beside(ADDRESSES[1]), first.beside(ADDRESSES[2])];
        let destination = Destination::new("splunk", first.address(), ALL).over_tls();
        let mut lab = Lab::new(vec![destination]);
        lab.show(&first);
        let ca = private(lab.path(), "ca.pem", &ours.pem());
        lab.environment(vec![("LAB_CA".to_owned(), ca.display().to_string())]);
        let port = first.address().port();
        lab.edit(&format!("https://127.0.0.1:{port}"), &format!("https://hec.test:{port}"));
        lab.edit("resolve = ", &format!("{extra}resolve = "));
        let hosts = lab.path().join("hosts");
        // And a name server that refuses: nobody is asked for what is not in the file.
        let servers = private(lab.path(), "resolv", "nameserver 127.0.0.1\noptions attempts:1\n");
        let (from, servers) = (hosts.display(), servers.display());
        let bind = "mount --bind";
        let mount = format!("{bind} '{from}' /etc/hosts && {bind} '{servers}' /etc/resolv.conf");
        lab.wrap(format!("exec unshare -m sh -c \"{mount} && exec \\\"\\$@\\\"\" sh \"$@\""));
        let [second, third] = hecs;
        let site = Self { hecs: [first, second, third], lab, hosts };
        site.name_has(&[]);
        site
    }

    /// From now on the name has these addresses.
    fn name_has(&self, numbers: &[usize]) {
        let line = |number: &usize| format!("{} hec.test\n", ADDRESSES[*number]);
        let lines: String = numbers.iter().map(line).collect();
        // In place: the process has this very file mounted.
        fs::write(&self.hosts, format!("127.0.0.1 localhost\n{lines}")).unwrap();
    }

    async fn endpoints(&self) -> Vec<String> {
        let status = self.lab.status().await;
        let endpoints = status["destinations"][0]["endpoints"].as_array().unwrap().clone();
        endpoints.iter().map(|endpoint| endpoint["url"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until these are the endpoints.
    async fn has(&self, numbers: &[usize]) {
        let port = self.hecs[0].address().port();
        let url = format!("https://hec.test:{port}");
        let wanted: Vec<_> = match numbers {
            [] => vec![url],
            _ => numbers.iter().map(|number| format!("{url} at {}", ADDRESSES[*number])).collect(),
        };
        eventually(SOON, &format!("{wanted:?}"), async || self.endpoints().await == wanted).await;
    }

    fn taken(&self) -> [u64; 3] {
        [0, 1, 2].map(|number| self.hecs[number].handle().stats().accepted)
    }

    async fn state(&self, number: usize) -> Value {
        self.lab.status().await["destinations"][0]["endpoints"][number].clone()
    }
}

/// Addresses come and go under load, and once the name server says nothing: each is an endpoint while
/// it is there, nothing is lost, and the certificate is that of the name.
#[tokio::test]
async fn addresses_come_and_go_and_nothing_is_lost() {
    for affinity in ["none", "connection"] {
        if !possible() {
            return;
        }
        let mut site = Site::new(&format!("affinity = \"{affinity}\"\n"));
        site.name_has(&[0, 1]);
        site.lab.start().await;
        site.has(&[0, 1]).await;
        let sending = site.lab.send(|config| config.rate = Some(1000.0));
        sending.accepted(50).await;
        eventually(SOON, "both take some", async || site.taken()[0] > 0 && site.taken()[1] > 0)
            .await;
        assert_eq!(site.taken()[2], 0);

        site.name_has(&[1, 2]);
        site.has(&[1, 2]).await;
        sending.accepted(20).await;
        let before = site.taken();
        eventually(SOON, "the new one takes some", async || site.taken()[2] > 0).await;
        assert_eq!(site.taken()[0], before[0], "the old one takes no more");

        site.name_has(&[]);
        eventually(SOON, "the lookup fails", async || {
            site.lab.log().contains("cannot be looked up; its endpoints stay as they are")
        })
        .await;
        sending.accepted(20).await;
        site.has(&[1, 2]).await;
        sending.stop().await;
        site.lab.drained(SOON).await;
        let found = site.lab.audit(&site.hecs[0]);
        crate::support::measured("duplicates of one change of addresses", found.duplicates);
        site.lab.kill();
    }
}

/// Each address has its own hold.
#[tokio::test]
async fn an_address_that_refuses_is_held_alone() {
    if !possible() {
        return;
    }
    let mut site = Site::new("");
    site.name_has(&[0, 1]);
    site.hecs[0].handle().set_fault(Some(Fault::always(FaultKind::InvalidToken)));
    site.lab.start().await;
    for number in 0..10 {
        let frame = Frame::new(&format!("{number:032}"), &["one", "two"]);
        assert_eq!(site.lab.post(&frame).await, 200);
        site.lab.drained(SOON).await;
    }
    eventually(SOON, "it is held", async || site.state(0).await["state"] == "held").await;
    assert_eq!((site.state(1).await["state"].clone(), site.taken()), ("up".into(), [0, 20, 0]));
}

/// A start without a name server: the endpoint is what is written, and becomes its addresses as soon
/// as there are some.
#[tokio::test]
async fn a_start_without_a_name_server_waits_and_loses_nothing() {
    if !possible() {
        return;
    }
    let mut site = Site::new("");
    site.lab.start().await;
    site.has(&[]).await;
    assert_eq!(site.lab.post(&Frame::new("A1", &["one", "two"])).await, 200);
    eventually(SOON, "it rests", async || site.state(0).await["state"] == "resting").await;
    site.name_has(&[2]);
    site.has(&[2]).await;
    site.lab.drained(Duration::from_secs(40)).await;
    assert_eq!(site.taken(), [0, 0, 2]);
}
