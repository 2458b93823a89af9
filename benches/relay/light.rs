//! How long a single frame takes from its 200 to the HEC's acknowledgement, when there is nothing
//! else to do.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use forebay::clock;

use super::case::Case;
use super::children::{Hec, Running, within};
use super::figures::percentile;
use super::options::{Options, Relay};
use super::roles::{PASSWORD, USER};

const FRAMES: u32 = 100;
const LOOK: Duration = Duration::from_millis(1);

pub(super) async fn run(options: &Options) {
    let dir = options.directory();
    let mut hec = Hec::start(options.hec, Duration::ZERO);
    let (running, _) = Running::start(options, &Relay::Forebay, &Case::light(), dir.path()).await;
    let mut drain = TcpStream::connect(options.ingest).unwrap();
    drain.set_nodelay(true).unwrap();
    let credentials = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let (mut answers, mut acknowledged) = (Vec::new(), Vec::new());
    for number in 1..=FRAMES {
        let message = format!("<190>1 2026-01-02T03:04:05+00:00 host app web.1 - light {number}\n");
        let body = format!("{} {message}", message.len());
        let head = format!(
            "POST /logs HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {credentials}\r\n\
             Content-Type: application/logplex-1\r\nLogplex-Msg-Count: 1\r\n\
             Logplex-Frame-Id: LIGHT{number}\r\nLogplex-Drain-Token: d.light\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let sent = clock::instant();
        write!(drain, "{head}{body}").unwrap();
        let mut answer = [0; 1024];
        let length = drain.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "the frame is taken");
        let accepted = clock::instant();
        answers.push((accepted - sent).as_secs_f64() * 1e3);
        let there = || hec.taken().acknowledged >= u64::from(number);
        assert!(within(Duration::from_secs(60), LOOK, there).await, "it is not acknowledged");
        acknowledged.push(accepted.elapsed().as_secs_f64() * 1e3);
    }
    running.stop().await;
    println!("| one frame of one message at a time, {FRAMES} times | p50 ms | p99 ms | max ms |");
    println!("|---|---|---|---|");
    for (what, mut all) in [("to its 200", answers), ("from its 200 to acknowledged", acknowledged)]
    {
        all.sort_by(f64::total_cmp);
        let [p50, p99, max] = [50, 99, 100].map(|hundredths| percentile(&all, hundredths));
        println!("| {what} | {p50:.1} | {p99:.1} | {max:.1} |");
    }
}
