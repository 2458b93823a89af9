//! The sender against a receiver that follows a script.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::*;
use crate::simulate::ledger::{FrameEntry, Outcome};
use crate::simulate::text_hash;

const PATIENCE: Duration = Duration::from_secs(20);
const OK: Act = Act::Answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
const BUSY: Act = Act::Answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
const REFUSED: Act = Act::Answer("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");

/// What the receiver does with a request.
#[derive(Clone, Copy, Debug)]
enum Act {
    Answer(&'static str),
    /// Answers, then closes.
    AnswerAndClose(&'static str),
    /// Closes without an answer.
    Close,
    /// Says nothing until the sender closes.
    Silence,
}

#[derive(Clone, Debug)]
struct Request {
    connection: usize,
    head: String,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).map_or("", |(_, value)| value)
    }

    fn id(&self) -> &str {
        self.header("Logplex-Frame-Id")
    }

    /// What stands in front of the frame's own messages: the L10 line, and the rest.
    fn split_report(&self) -> (&str, &str) {
        let at = self.body.find("<190>1").unwrap();
        let start = self.body.get(..at - 1).unwrap();
        let digits = start.len() - start.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        self.body.split_at(at - 1 - digits)
    }
}

/// Takes connections one after the other.
struct Receiver {
    requests: watch::Receiver<Vec<Request>>,
    _tasks: JoinSet<()>,
}

impl Receiver {
    /// Follows the script; behind its end every request gets a 200.
    fn start(listener: TcpListener, script: impl IntoIterator<Item = Act>) -> Self {
        let (sender, requests) = watch::channel(Vec::new());
        let mut script: VecDeque<Act> = script.into_iter().collect();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for connection in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                while let Some((head, body)) = read_request(&mut stream).await {
                    sender.send_modify(|all: &mut Vec<_>| {
                        all.push(Request { connection, head, body })
                    });
                    match script.pop_front().unwrap_or(OK) {
                        Act::Answer(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                        Act::AnswerAndClose(text) => {
                            stream.write_all(text.as_bytes()).await.unwrap();
                            break;
                        }
                        Act::Close => break,
                        Act::Silence => {
                            let _closed = stream.read(&mut [0]).await;
                            break;
                        }
                    }
                }
            }
        });
        Self { requests, _tasks: tasks }
    }

    async fn wait_for(&mut self, count: usize) {
        let wait = self.requests.wait_for(|all| all.len() >= count);
        timeout(PATIENCE, wait).await.unwrap().unwrap();
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut buffer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&buffer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() == length.unwrap().parse::<usize>().unwrap() {
                return Some((format!("{head}\r\n"), body.to_owned()));
            }
        }
        if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

fn config(frames: u64) -> LogplexConfig {
    LogplexConfig {
        messages_per_frame: NonZeroU32::new(2).unwrap(),
        message_bytes: 0,
        frames: Some(frames),
        run: Some(0xC0FFEE),
        mix: Mix::WEB,
        ..LogplexConfig::default()
    }
}

/// A finished run.
struct Run {
    requests: Vec<Request>,
    frames: Vec<FrameEntry>,
    report: Report,
    ledger: Arc<SenderLedger>,
}

impl Run {
    /// Outcome, tries and answers of every frame.
    fn ends(&self) -> Vec<(Outcome, u8, u8)> {
        self.frames.iter().map(|frame| (frame.outcome, frame.tries, frame.answers)).collect()
    }

    /// The connection of every request.
    fn connections(&self) -> Vec<usize> {
        self.requests.iter().map(|request| request.connection).collect()
    }
}

fn frames(ledger: &SenderLedger) -> Vec<FrameEntry> {
    let all = Mutex::new(Vec::new());
    ledger.for_each(|frame| all.lock().unwrap().push(frame.clone()));
    all.into_inner().unwrap()
}

async fn run(mut config: LogplexConfig, script: impl IntoIterator<Item = Act>) -> Run {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    config.target = listener.local_addr().unwrap();
    let receiver = Receiver::start(listener, script);
    let ledger = Arc::new(SenderLedger::default());
    let sender = LogplexSender::new(config, Arc::clone(&ledger)).unwrap();
    let report = timeout(PATIENCE, sender.run(CancellationToken::new())).await.unwrap();
    let requests = receiver.requests.borrow().clone();
    Run { requests, frames: frames(&ledger), report, ledger }
}

#[tokio::test]
async fn a_request_byte_for_byte() {
    let config = LogplexConfig {
        host: Some("drain.example.com".to_owned()),
        path: "/logs?app=shop".to_owned(),
        user: "heroku".to_owned(),
        password: Secret::new("secret".to_owned()),
        messages_per_frame: NonZeroU32::MIN,
        ..config(1)
    };
    let run = run(config, []).await;
    let [request] = run.requests.as_slice() else { panic!("{:?}", run.requests) };
    let id = run.frames[0].id;
    let expected = format!(
        "POST /logs?app=shop HTTP/1.1\r\n\
         Host: drain.example.com\r\n\
         Authorization: Basic aGVyb2t1OnNlY3JldA==\r\n\
         Content-Type: application/logplex-1\r\n\
         Logplex-Msg-Count: 1\r\n\
         Logplex-Frame-Id: {id:032X}\r\n\
         Logplex-Drain-Token: {}\r\n\
         User-Agent: Logplex/v73\r\n\
         Content-Length: 86\r\n",
        drain_token(0)
    );
    assert_eq!(request.head, expected);
    let (start, end) = request.body.split_at("83 <190>1 ".len());
    assert_eq!(start, "83 <190>1 ");
    let text = "run=00c0ffee c=0 f=0 m=0 ";
    assert!(end.ends_with(&format!("+00:00 host app web.1 - {text}\n")), "{end}");
    assert_eq!(request.body.len(), 86);
    assert_eq!(*run.frames[0].hashes, [text_hash(text.as_bytes())]);
}

#[tokio::test]
async fn accepted_frames_follow_each_other_on_one_connection() {
    let run = run(config(3), [OK]).await;
    assert_eq!(run.ends(), [(Outcome::Accepted, 1, 1); 3]);
    assert_eq!(run.connections(), [0, 0, 0]);
    let mut ids: Vec<_> = run.requests.iter().map(Request::id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    let totals = run.report.end.totals;
    assert_eq!((totals.accepted_frames, totals.accepted_messages, totals.retries), (3, 6, 0));
    assert_eq!(run.report.latency.count(), 3);
    assert_eq!(run.report.end.answers.get(&200), Some(&3));
    assert_eq!(run.report.end.connections, 0);
}

#[tokio::test]
async fn three_503s_lose_a_frame_and_the_next_reports_it() {
    let run = run(config(3), [BUSY, BUSY, BUSY, BUSY, OK, OK]).await;
    assert_eq!(
        run.ends(),
        [(Outcome::GaveUp, 3, 3), (Outcome::Accepted, 2, 2), (Outcome::Accepted, 1, 1)]
    );
    // Each 503 closes the connection.
    assert_eq!(run.connections(), [0, 1, 2, 3, 4, 4]);

    // The same id and count at every try, and the same bytes while there is no report.
    let [a, b, c, d, e, f] = run.requests.as_slice() else { panic!("{:?}", run.requests) };
    assert!(a.id() == b.id() && b.id() == c.id() && c.id() != d.id() && d.id() == e.id());
    assert!(a.head == b.head && b.body == c.body);
    assert_eq!([a, c].map(|r| r.header("Logplex-Msg-Count")), ["2", "2"]);

    // The frame after the loss carries an L10 line at each of its tries, without a newline: the
    // length of the next message follows it at once.
    for request in [d, e] {
        assert_eq!(request.header("Logplex-Msg-Count"), "3");
        let (report, rest) = request.split_report();
        let (length, message) = report.split_once(' ').unwrap();
        assert_eq!(length, message.len().to_string());
        assert!(message.starts_with("<172>1 20"), "{message}");
        let (_, text) = message.split_once(" host heroku logplex - ").unwrap();
        let expected = "Error L10 (output buffer overflow): 2 messages dropped since 20";
        assert!(text.starts_with(expected) && text.ends_with("+00:00."), "{text}");
        assert!(run.ledger.reports().contains(&text_hash(text.as_bytes())));
        assert_eq!(rest, d.split_report().1);
        assert_eq!(request.header("Content-Length"), request.body.len().to_string());
    }
    // A 2xx clears it.
    assert_eq!((f.split_report().0, f.header("Logplex-Msg-Count")), ("", "2"));
    let totals = run.report.end.totals;
    assert_eq!((totals.gave_up_frames, totals.dropped_messages, totals.reports), (1, 2, 2));
    assert_eq!(totals.retries, 3);
}

#[tokio::test]
async fn a_400_drops_the_frame_at_once_and_keeps_the_connection() {
    let run = run(config(3), [REFUSED, REFUSED, OK]).await;
    let dropped = (Outcome::Dropped4xx(400), 1, 1);
    assert_eq!(run.ends(), [dropped, dropped, (Outcome::Accepted, 1, 1)]);
    assert_eq!(run.connections(), [0, 0, 0]);
    // Losses add up until a 2xx.
    assert!(run.requests[1].body.contains("): 2 messages dropped"));
    assert!(run.requests[2].body.contains("): 4 messages dropped"));
    assert_eq!(run.report.end.totals.dropped_frames, 2);
}

#[tokio::test]
async fn everything_that_is_neither_2xx_nor_4xx_is_tried_again() {
    for status in ["100 Continue", "302 Found", "429 Too Many", "500 Oops", "600 What"] {
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let act = Act::Answer(Box::leak(text.into_boxed_str()));
        let run = run(config(1), [act]).await;
        assert_eq!(run.ends(), [(Outcome::Accepted, 2, 2)], "{status}");
        assert_eq!(run.connections(), [0, 1], "{status}");
    }
    for status in ["204 No Content", "299 Fine"] {
        let text = format!("HTTP/1.1 {status}\r\n\r\n");
        let run = run(config(1), [Act::Answer(Box::leak(text.into_boxed_str()))]).await;
        assert_eq!(run.ends(), [(Outcome::Accepted, 1, 1)], "{status}");
    }
}

#[tokio::test]
async fn a_refused_connection_costs_no_try() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    drop(listener);
    let ledger = Arc::new(SenderLedger::default());
    let sender = LogplexSender::new(LogplexConfig { target, ..config(1) }, Arc::clone(&ledger));
    let sender = sender.unwrap();
    let progress = sender.progress();
    let sending = sender.run(CancellationToken::new());
    let opening = async {
        while progress.snapshot().connect_failures < 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Receiver::start(TcpListener::bind(target).await.unwrap(), [])
    };
    let both = async { tokio::join!(sending, opening) };
    let (report, _receiver) = timeout(PATIENCE, both).await.unwrap();
    let frame = frames(&ledger).remove(0);
    assert_eq!((frame.outcome, frame.tries), (Outcome::Accepted, 1));
    assert!(report.end.connect_failures >= 5);
}

#[tokio::test]
async fn a_chunked_answer_poisons_the_next_one() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let run = run(config(2), [Act::Answer(chunked)]).await;
    // The second frame was delivered twice: its first answer is taken for rubbish.
    assert_eq!(run.ends(), [(Outcome::Accepted, 1, 1), (Outcome::Accepted, 2, 1)]);
    assert_eq!(run.connections(), [0, 0, 1]);
    assert_eq!(run.requests[1].id(), run.requests[2].id());
    assert_eq!(run.report.end.broken, 1);
}

#[tokio::test]
async fn the_body_of_an_answer_is_skipped_before_the_next_request() {
    let body = "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nHTTP/1.1 500 Not a status line";
    let run = run(config(3), [Act::Answer(body), Act::Answer(body)]).await;
    assert_eq!(run.ends(), [(Outcome::Accepted, 1, 1); 3]);
}

#[tokio::test]
async fn a_body_that_does_not_come_eats_the_next_frames_try() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nonly this";
    let config = LogplexConfig { request_timeout: Duration::from_millis(50), ..config(2) };
    let run = run(config, [Act::Answer(half)]).await;
    assert_eq!(run.ends(), [(Outcome::Accepted, 1, 1), (Outcome::Accepted, 2, 1)]);
    // The try that timed out never got to write its request.
    assert_eq!(run.requests.len(), 2);
    assert_eq!(run.report.end.timeouts, 1);
}

#[tokio::test]
async fn a_closed_connection_is_noticed_by_the_next_try() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let run = run(config(2), [Act::AnswerAndClose(answer), OK, Act::Close, OK]).await;
    let ends = run.ends();
    assert_eq!(ends, [(Outcome::Accepted, 1, 1), (Outcome::Accepted, 2, 1)]);
    assert_eq!(run.report.end.broken, 1);
}

#[tokio::test]
async fn a_connection_closed_without_an_answer_costs_a_try() {
    let run = run(config(1), [Act::Close, Act::Close, OK]).await;
    assert_eq!(run.ends(), [(Outcome::Accepted, 3, 1)]);
    assert_eq!(run.report.end.broken, 2);
}

#[tokio::test]
async fn silence_times_out() {
    let config = LogplexConfig { request_timeout: Duration::from_millis(30), ..config(1) };
    let run = run(config, [Act::Silence, Act::Silence, Act::Silence]).await;
    assert_eq!(run.ends(), [(Outcome::GaveUp, 3, 0)]);
    assert_eq!(run.requests.len(), 3);
    assert_eq!((run.report.end.timeouts, run.report.latency.count()), (3, 0));
    assert!(run.report.elapsed >= Duration::from_millis(90));
}

#[tokio::test]
async fn rubbish_answers_cost_a_try() {
    for rubbish in ["HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"] {
        let run = run(config(1), [Act::Answer(rubbish)]).await;
        assert_eq!(run.ends(), [(Outcome::Accepted, 2, 1)], "{rubbish}");
    }
}

#[tokio::test]
async fn a_shutdown_sees_the_frame_in_flight_through() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = LogplexConfig { target: listener.local_addr().unwrap(), ..config(1000) };
    // The answer comes only after the try that was in flight when the shutdown came.
    let config = LogplexConfig { request_timeout: Duration::from_millis(100), ..config };
    let mut receiver = Receiver::start(listener, [OK, Act::Silence, OK]);
    let ledger = Arc::new(SenderLedger::default());
    let sender = LogplexSender::new(config, Arc::clone(&ledger)).unwrap();
    let shutdown = CancellationToken::new();
    let stopping = async {
        receiver.wait_for(2).await;
        shutdown.cancel();
    };
    let both = async { tokio::join!(sender.run(shutdown.clone()), stopping) };
    timeout(PATIENCE, both).await.unwrap();
    let ends: Vec<_> = frames(&ledger).iter().map(|f| (f.outcome, f.tries)).collect();
    assert_eq!(ends, [(Outcome::Accepted, 1), (Outcome::Accepted, 2)]);
}

#[tokio::test]
async fn a_shutdown_leaves_a_frame_that_gets_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    drop(listener);
    let ledger = Arc::new(SenderLedger::default());
    let config = LogplexConfig { target, ..config(1) };
    let sender = LogplexSender::new(config, Arc::clone(&ledger)).unwrap();
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let report = timeout(PATIENCE, sender.run(shutdown)).await.unwrap();
    assert_eq!(report.end.totals.frames, 0);

    let config =
        LogplexConfig { target, duration: Some(Duration::from_millis(20)), ..self::config(1) };
    let sender = LogplexSender::new(config, Arc::clone(&ledger)).unwrap();
    timeout(PATIENCE, sender.run(CancellationToken::new())).await.unwrap();
    assert_eq!(frames(&ledger)[0].outcome, Outcome::InFlight);
    assert_eq!(frames(&ledger)[0].tries, 0);
}

#[tokio::test]
async fn a_rate_is_kept_and_never_exceeded() {
    let config = LogplexConfig { rate: Some(400.0), ..config(41) };
    let run = run(config, []).await;
    // 41 frames of 2 messages: the last starts 200 ms after the first.
    assert!(run.report.elapsed >= Duration::from_millis(200), "{}", run.report);
    assert_eq!(run.report.end.totals.accepted_frames, 41);
    assert!(run.report.to_string().contains("400 messages/s asked for"), "{}", run.report);
}

#[tokio::test]
async fn a_rate_that_cannot_be_kept_is_admitted() {
    let request_timeout = Duration::from_millis(600);
    let config = LogplexConfig { rate: Some(1000.0), request_timeout, ..config(3) };
    let run = run(config, [Act::Silence]).await;
    assert!(!run.report.kept_up());
    assert!(run.report.to_string().contains("DID NOT KEEP UP"), "{}", run.report);
    assert_eq!(run.report.end.totals.accepted_frames, 3);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    // A frame every 100 ms, and connections close after 10.
    let idle_close = Duration::from_millis(10);
    let config = LogplexConfig { rate: Some(20.0), idle_close, ..config(3) };
    let run = run(config, []).await;
    assert_eq!(run.connections(), [0, 1, 2]);
    assert_eq!(run.ends(), [(Outcome::Accepted, 1, 1); 3]);
}

#[tokio::test]
async fn drains_are_dealt_over_connections_and_frames_are_shared() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = LogplexConfig {
        target: listener.local_addr().unwrap(),
        connections: NonZeroU32::new(4).unwrap(),
        drains: NonZeroU32::new(2).unwrap(),
        ..config(20)
    };
    // This receiver takes one connection after the other: all frames come over those it takes.
    let receiver = Receiver::start(listener, []);
    let ledger = Arc::new(SenderLedger::default());
    let config = LogplexConfig { request_timeout: Duration::from_millis(100), ..config };
    let sender = LogplexSender::new(config, Arc::clone(&ledger)).unwrap();
    timeout(PATIENCE, sender.run(CancellationToken::new())).await.unwrap();
    assert_eq!(ledger.totals().frames, 20);
    for request in receiver.requests.borrow().iter() {
        let connection = request.body.split_once(" c=").unwrap().1.split(' ').next().unwrap();
        let connection: u32 = connection.parse().unwrap();
        assert_eq!(request.header("Logplex-Drain-Token"), drain_token(connection % 2));
    }
}

#[tokio::test]
async fn a_connection_takes_its_share_of_many_drains_in_turn() {
    let run = run(LogplexConfig { drains: NonZeroU32::new(3).unwrap(), ..config(7) }, []).await;
    let tokens: Vec<String> =
        run.requests.iter().map(|r| r.header("Logplex-Drain-Token").to_owned()).collect();
    assert_eq!(tokens, [0, 1, 2, 0, 1, 2, 0].map(drain_token));
}

#[test]
fn credentials_do_not_show() {
    let config = LogplexConfig {
        user: "heroku".to_owned(),
        password: Secret::new("hunter2".to_owned()),
        ..config(1)
    };
    let sender = LogplexSender::new(config, Arc::default()).unwrap();
    assert!(!format!("{sender:?}").contains("hunter2"));
}
