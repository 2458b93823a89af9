use std::collections::BTreeMap;

use forebay::simulate::ledger::KeptEvent;
use serde_json::{Value, json};

use crate::support::{Frame, Hec, Lab, SOON, measured};

/// What becomes of one message.
#[derive(Clone, Debug)]
struct Expected {
    text: String,
    time: Option<&'static str>,
    source: &'static str,
    sourcetype: &'static str,
    /// The flags among the fields, and no others.
    flags: &'static [(&'static str, &'static str)],
}

/// 2026-01-02T03:04:05.000001Z, as the vectors have it.
const JAN_2: &str = "1767323045.000001";

/// Fields that are only there when something is to be told.
const FLAGS: [&str; 9] = [
    "utf8",
    "framing",
    "count_mismatch",
    "truncated",
    "ts_source",
    "mapping_error",
    "chunk",
    "loss_code",
    "loss_messages",
];

/// A message of `app web.1`.
fn web(text: impl Into<String>) -> Expected {
    Expected {
        text: text.into(),
        time: Some(JAN_2),
        source: "heroku:checkout:app/web",
        sourcetype: "heroku:app",
        flags: &[],
    }
}

fn flagged(text: impl Into<String>, flags: &'static [(&'static str, &'static str)]) -> Expected {
    Expected { flags, ..web(text) }
}

/// Bytes without a header: nothing is known of them but that they came.
fn raw(text: &str, flags: &'static [(&'static str, &'static str)]) -> Expected {
    Expected { time: None, source: "heroku:checkout:-/-", ..flagged(text, flags) }
}

/// A frame and what becomes of each of its messages; a blank one becomes nothing.
struct Case {
    frame: Frame,
    expected: Vec<Option<Expected>>,
}

/// The vectors of `logplex.md`, section 1.5, and what is said below them.
fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut add = |count: Option<&str>, body: &[u8], expected: Vec<Option<Expected>>| {
        let id = format!("{:032X}", cases.len() + 1);
        let count = count.map(str::to_owned);
        cases.push(Case { frame: Frame { count, ..Frame::of(&id, body.to_vec()) }, expected });
    };
    let one = Some("1");

    add(one, b"58 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - \n", vec![None]);
    add(one, b"57 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - ", vec![None]);
    add(one, b"56 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 -", vec![None]);
    add(
        one,
        b"83 <134>1 2026-01-02T03:04:05.000001+00:00 host app postgres.1167776 - [YELLOW] [13-2]",
        vec![Some(Expected {
            source: "heroku:checkout:app/postgres",
            sourcetype: "heroku:postgres",
            ..web("[YELLOW] [13-2]")
        })],
    );
    add(
        one,
        "64 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - héllo\n".as_bytes(),
        vec![Some(web("héllo"))],
    );
    add(
        one,
        b"60 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - \xFF\x00\n",
        vec![Some(flagged("\u{FFFD}\u{0}", &[("utf8", "lossy")]))],
    );
    // Under Logplex' headers, what log-shuttle puts in front is text.
    add(
        one,
        b"78 <190>1 2026-01-02T03:04:05.000001+00:00 shuttle token shuttle - - Hello World\n",
        vec![Some(Expected { source: "heroku:checkout:token/shuttle", ..web("- Hello World") })],
    );
    // No newline behind the loss report: the next length follows at once.
    add(
        Some("2"),
        b"142 <172>1 2014-11-11T08:24:25+00:00 host heroku logplex - Error L10 (output buffer \
          overflow): 1 messages dropped since 2014-11-07T23:29:45+00:00.93 <45>1 \
          2014-11-11T08:24:24.064853+00:00 host heroku web.1 - State changed from starting to up\n",
        vec![
            Some(Expected {
                time: Some("1415694265.000000"),
                source: "heroku:checkout:heroku/logplex",
                sourcetype: "heroku:logplex",
                ..flagged(
                    "Error L10 (output buffer overflow): 1 messages dropped since \
                     2014-11-07T23:29:45+00:00.",
                    &[("loss_code", "L10"), ("loss_messages", "1")],
                )
            }),
            Some(Expected {
                time: Some("1415694264.064853"),
                source: "heroku:checkout:heroku/web",
                sourcetype: "heroku:system",
                ..web("State changed from starting to up")
            }),
        ],
    );

    // What looks like a message inside of one is text.
    let fake = "a traceback:\n  line 1\n42 <190>1 fake";
    add(one, &Frame::message(fake.as_bytes()), vec![Some(web(fake))]);
    // Text is not touched: no trimming, one newline and not two, tabs, quotes, controls.
    for text in ["  spaces \t ", "two newlines\n", "\"quoted\" \\ / \u{1}\u{7f}", "🦀 naïve 日本"]
    {
        add(one, &Frame::message(text.as_bytes()), vec![Some(web(text))]);
    }

    // LEN too long: what there is, marked.
    add(
        one,
        b"99 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - short\n",
        vec![Some(flagged("short", &[("framing", "truncated")]))],
    );
    // LEN too short by three: nothing is lost, and the next message is found.
    add(
        Some("2"),
        b"60 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - hello\n\
          62 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - next\n",
        vec![
            Some(flagged("hel", &[("count_mismatch", "1")])),
            Some(raw(
                "lo",
                &[("count_mismatch", "1"), ("framing", "bad_length"), ("ts_source", "received")],
            )),
            Some(flagged("next", &[("count_mismatch", "1")])),
        ],
    );
    // LEN 0.
    add(
        Some("2"),
        b"0 62 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - next\n",
        vec![None, Some(web("next"))],
    );
    // No length at all.
    add(
        one,
        b"no frame at all",
        vec![Some(raw("no frame at all", &[("framing", "bad_length"), ("ts_source", "received")]))],
    );
    // A time that is none: the time of arrival, marked.
    add(
        one,
        b"52 <190>1 2026-01-02T03:04:05Z+00:00 host app web.1 - x",
        vec![Some(Expected { time: None, ..flagged("x", &[("ts_source", "received")]) })],
    );

    // The claimed count is the sender's business.
    let good = Frame::message(b"counted");
    add(None, &good, vec![Some(web("counted"))]);
    add(Some("7"), &good, vec![Some(flagged("counted", &[("count_mismatch", "1")]))]);
    add(Some("many"), &good, vec![Some(web("counted"))]);

    // A line of more than 10,000 bytes is cut there, in the middle of a character.
    let line = ["x".repeat(9_998), "🦀tail".to_owned()].concat();
    let (first, second) = line.as_bytes().split_at(10_000);
    let first_message =
        [b"10057 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - ", first].concat();
    add(
        Some("2"),
        &[first_message, Frame::message(second)].concat(),
        vec![
            Some(flagged(String::from_utf8_lossy(first), &[("utf8", "lossy"), ("chunk", "1")])),
            Some(flagged(String::from_utf8_lossy(second), &[("utf8", "lossy"), ("chunk", "2")])),
        ],
    );
    // Exactly 10,000 bytes, and the newline by itself.
    let part = "y".repeat(10_000);
    let long = format!("10057 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - {part}");
    add(
        Some("2"),
        &[long.as_bytes(), b"58 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - \n"]
            .concat(),
        vec![Some(flagged(part, &[("chunk", "1")])), None],
    );
    // An empty body is no message.
    add(None, b"", vec![]);
    cases
}

#[tokio::test]
async fn every_vector_arrives_as_it_was_sent() {
    let hec = Hec::usual();
    let mut lab = Lab::with(
        &hec,
        "[destination.event]\nindex = \"heroku\"\n\
         [destination.event.fields]\nteam = \"{{ query.team }}\"\n",
    )
    .ingest("query = [\"team\"]\n")
    .tables("[[drain]]\ntoken = \"d.fc6b856b-3332-4546-93de-7d0ee272c3bd\"\napp = \"checkout\"\n");
    lab.start().await;
    let start = forebay::clock::unix_micros();
    let cases = cases();
    let mut client = lab.client().await;
    for Case { frame, .. } in &cases {
        let frame = Frame { query: "?team=payments", ..frame.clone() };
        let shown = String::from_utf8_lossy(&frame.body);
        assert_eq!(client.post(&frame).await, 200, "content is no reason to refuse: {shown}");
    }
    let books = lab.drained(SOON).await;
    let end = forebay::clock::unix_micros();
    let all = || cases.iter().flat_map(|case| &case.expected);
    let blank = all().filter(|expected| expected.is_none()).count();
    let events = all().count() - blank;
    assert_eq!(books.accepted, (events + blank) as u64, "{books:?}");
    assert_eq!(books.filtered, blank as u64, "blank messages are counted: {books:?}");
    measured("events compared", events);

    let mut found: BTreeMap<String, KeptEvent> = hec
        .ledger
        .events()
        .into_iter()
        .map(|event| (event.fields["event_id"].as_str().unwrap().to_owned(), event))
        .collect();
    assert_eq!(found.len(), events, "each once");
    for Case { frame, expected } in &cases {
        let shown = String::from_utf8_lossy(&frame.body);
        for (index, expected) in expected.iter().enumerate() {
            let id = format!("{}:{index}", frame.id.as_ref().unwrap());
            let event = found.remove(&id);
            let (Some(expected), Some(event)) = (expected, event.as_ref()) else {
                assert!(expected.is_none() && event.is_none(), "{id}: {expected:?} {shown}");
                continue;
            };
            assert_eq!(event.event, expected.text, "{shown}");
            assert!(event.is_text && event.indexed && event.acknowledged, "{event:?}");
            let time = event.time.as_deref().unwrap();
            match expected.time {
                Some(expected) => assert_eq!(time, expected, "{shown}"),
                None => {
                    let micros = time.replace('.', "").parse::<i64>().unwrap();
                    assert!((start.get()..end.get()).contains(&micros), "{time} {shown}");
                }
            }
            assert_eq!(event.host.as_deref(), Some("checkout"), "{shown}");
            assert_eq!(event.source.as_deref(), Some(expected.source), "{shown}");
            assert_eq!(event.sourcetype.as_deref(), Some(expected.sourcetype), "{shown}");
            assert_eq!(event.index.as_deref(), Some("heroku"), "{shown}");
            let is_flag = |(name, _): &(&String, &Value)| FLAGS.contains(&name.as_str());
            let flags: BTreeMap<&str, &str> = event
                .fields
                .iter()
                .filter(is_flag)
                .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
                .collect();
            assert_eq!(flags, expected.flags.iter().copied().collect(), "{shown}");
            assert_eq!(event.fields["team"], "payments", "{shown}");
            assert_eq!(event.fields["heroku_app"], "checkout", "{shown}");
        }
    }
    assert!(found.is_empty(), "{found:?}");

    // All the fields of one, so that none is there by accident.
    let events = hec.ledger.events();
    let hello = events.iter().find(|event| event.event == "héllo").unwrap();
    let Value::Object(expected) = json!({
        "heroku_app": "checkout",
        "drain": "checkout",
        "appname": "app",
        "dyno": "web.1",
        "dyno_type": "web",
        "severity": "info",
        "facility": "local7",
        "team": "payments",
        "event_id": "00000000000000000000000000000005:0",
    }) else {
        unreachable!()
    };
    assert_eq!(hello.fields, expected);
}

/// log-shuttle writes no drain token, a NILVALUE in front of the text, chunked bodies, and an id of
/// its own for the batch.
#[tokio::test]
async fn a_batch_of_log_shuttle_arrives_without_its_nilvalue() {
    let hec = Hec::usual();
    let mut lab = Lab::with(&hec, "");
    lab.start().await;
    let message =
        "78 <190>1 2026-01-02T03:04:05.000001+00:00 shuttle token shuttle - - Hello World\n";
    let frame = Frame { body: message.as_bytes().to_vec(), ..Frame::shuttle("8f6c2b1e", "") };
    let mut client = lab.client().await;
    assert_eq!(client.post(&frame).await, 200);

    let text = message.replace("World", "Chunk");
    let (first, second) = text.split_at(31);
    let chunks =
        format!("{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len());
    let request = String::from_utf8(Frame::shuttle("9a7d3c2f", "").request()).unwrap();
    let (head, _) = request.split_once("Content-Length: ").unwrap();
    let request = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}");
    client.send(request.as_bytes()).await;
    assert_eq!(client.answer().await.unwrap().status, 200);

    lab.drained(SOON).await;
    let events = hec.ledger.events();
    let facts = |event: &KeptEvent| {
        (event.event.clone(), event.fields["event_id"].as_str().unwrap().to_owned())
    };
    let found: Vec<_> = events.iter().map(facts).collect();
    let expected = [("Hello World", "8f6c2b1e:0"), ("Hello Chunk", "9a7d3c2f:0")];
    assert_eq!(found, expected.map(|(text, id)| (text.to_owned(), id.to_owned())));
}
