use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::{Client, Frame, Hec, Lab, SOON, Shim, eventually, measured, number};

/// The service manager's end of `sd_notify`.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn new(lab: &Lab) -> (Self, (String, String)) {
        let path = lab.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let variable = ("NOTIFY_SOCKET".to_owned(), path.to_str().unwrap().to_owned());
        (Self { socket, heard: Vec::new() }, variable)
    }

    /// Everything that was said so far, a line each.
    fn heard(&mut self) -> &[String] {
        let mut bytes = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
            self.heard.extend(text.lines().map(str::to_owned));
        }
        &self.heard
    }

    fn count(&mut self, line: &str) -> usize {
        self.heard().iter().filter(|heard| heard.starts_with(line)).count()
    }
}

/// Restarts under load with the socket of a service manager: every connection attempt succeeds,
/// no frame is given up, none is lost, none is doubled. A connection that was open is closed by
/// the stop, which the sender finds out at its next try (Logplex does not look for it): one try of
/// one frame for each open connection is the price, and no receiver could make it less.
#[tokio::test]
async fn restarts_under_load_with_an_inherited_socket_cost_only_latency() {
    const RESTARTS: u64 = 5;
    const CONNECTIONS: u32 = 8;
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "window = 16\n");
    lab.inherit();
    lab.start().await;
    let sending = lab.send(|config| {
        config.connections = number(CONNECTIONS);
        config.rate = Some(8000.0);
    });
    for _ in 0..RESTARTS {
        sending.accepted(200).await;
        measured("a stop took, ms", lab.stop().await.as_millis());
        // Nobody is there: the kernel takes the connection, and keeps the request.
        let mut early = Client::connect(lab.ingest_address()).await;
        let frame = Frame { id: None, ..Frame::new("", &["sent while nobody was there"]) };
        early.send(&frame.request()).await;
        let started = forebay::clock::instant();
        lab.start().await;
        assert_eq!(early.answer().await.unwrap().status, 200);
        measured("it was answered after ms", started.elapsed().as_millis());
    }
    sending.accepted(200).await;
    let report = sending.stop().await;
    let end = &report.end;
    assert_eq!(end.connect_failures, 0, "no connection was refused: {report}");
    assert_eq!((end.totals.gave_up_frames, end.totals.dropped_frames), (0, 0), "{report}");
    let answers: Vec<_> = end.answers.keys().copied().collect();
    assert_eq!(answers, [200], "no 503 either: {report}");
    assert_eq!(end.timeouts, 0, "{report}");
    let closed = RESTARTS * u64::from(CONNECTIONS);
    assert!(end.totals.retries <= closed, "more than one for each open connection: {report}");
    measured("tries beyond the first", end.totals.retries);
    measured("longest answer, ms", report.latency.max().as_millis());
    lab.drained(SOON).await;
    let found = forebay::simulate::ledger::audit(&lab.sent, &hec.ledger);
    let figures = (found.lost, found.duplicates, found.unexpected, found.unacknowledged);
    assert_eq!(figures, (0, 0, RESTARTS, 0), "{found}");
}

/// Ready after recovery and not before, stopping before the listener goes, reloading in between,
/// and the watchdog fed.
#[tokio::test]
async fn the_service_manager_is_told_what_happens() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    let (mut manager, variable) = Manager::new(&lab);
    let watchdog = ("WATCHDOG_USEC".to_owned(), "400000".to_owned());
    lab.environment(vec![variable, watchdog]);
    lab.start().await;
    eventually(SOON, "it is ready", async || manager.count("READY=1") == 1).await;
    let first = manager.heard().first().unwrap().clone();
    assert!(first.starts_with("EXTEND_TIMEOUT_USEC="), "asked for while recovering: {first}");
    eventually(SOON, "the watchdog is fed", async || manager.count("WATCHDOG=1") > 3).await;
    lab.reload().await;
    eventually(SOON, "it is ready again", async || manager.count("READY=1") == 2).await;
    assert_eq!((manager.count("RELOADING=1"), manager.count("MONOTONIC_USEC=")), (1, 1));
    lab.stop().await;
    assert_eq!(manager.count("STOPPING=1"), 1);
}

/// The watchdog is fed by progress and not by a timer: a sync that hangs starves it.
#[tokio::test]
async fn a_disk_that_hangs_starves_the_watchdog() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "").ingest("ack_deadline = \"1s\"\n");
    let Some(shim) = Shim::build(lab.path(), &lab.data_dir()) else { return };
    let (mut manager, variable) = Manager::new(&lab);
    let watchdog = ("WATCHDOG_USEC".to_owned(), "2000000".to_owned());
    lab.environment([shim.environment(), vec![variable, watchdog]].concat());
    lab.start().await;
    eventually(SOON, "the watchdog is fed", async || manager.count("WATCHDOG=1") > 1).await;
    shim.hold();
    let mut client = lab.client().await;
    client.send(&Frame::new("A1", &["text"]).request()).await;
    shim.until_it_holds_one().await;
    eventually(SOON, "it says that something does not answer", async || {
        lab.log().contains("the accept loop or the appender does not answer")
    })
    .await;
    let fed = manager.count("WATCHDOG=1");
    assert_eq!(client.answer().await.unwrap().status, 503, "a second of no food");
    assert_eq!(manager.count("WATCHDOG=1"), fed);
    shim.release();
    eventually(SOON, "the watchdog is fed again", async || manager.count("WATCHDOG=1") > fed).await;
}

/// A process that is killed while it takes no connections, as the watchdog does when the disk hangs,
/// leaves the service manager a socket that has not hung up: systemd would fail the socket's unit, and
/// no start would get it again.
#[tokio::test]
async fn a_kill_while_connections_are_refused_leaves_the_socket_whole() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "")
        .ingest("ack_deadline = \"1s\"\nhold_after = \"100ms\"\nclose_after = \"100ms\"\n");
    let Some(shim) = Shim::build(lab.path(), &lab.data_dir()) else { return };
    lab.inherit();
    lab.environment(shim.environment());
    lab.start().await;
    let manager = lab.inherited();
    manager.set_nonblocking(true).unwrap();
    shim.hold();
    let mut client = lab.client().await;
    client.send(&Frame::new("A1", &["text"]).request()).await;
    eventually(SOON, "connections are refused", async || {
        lab.status().await["ingest"]["state"] == "closed"
    })
    .await;
    lab.kill();
    shim.release();
    // The kernel says so of a socket that listens, and of no other one.
    assert_eq!(manager.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    lab.start().await;
    assert_eq!(lab.post(&Frame::new("A1", &["text"])).await, 200);
}

/// Without a socket to inherit the start says so and ends.
#[tokio::test]
async fn a_missing_socket_is_a_mistake_of_the_configuration() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    let listen = format!("listen = \"{}\"", lab.ingest_address());
    lab.edit(&listen, "listen = \"systemd\"\nallow_insecure = true");
    lab.launch();
    assert_eq!(lab.exit(Duration::from_secs(20)).await.0, Some(78));
    assert!(lab.log().contains("hands over no socket"), "{}", lab.log());
}
