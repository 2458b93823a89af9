use std::cell::Cell;
use std::sync::Arc;

use forebay::hec::mapping::{Filter, Format, Nul};
use forebay::hec::{DrainInfo, Encoder, FrameFacts, Mapping, MappingConfig, Outcome};
use forebay::logplex::{Profile, pieces};
use forebay::simulate::hec::{AckMode, HecConfig, HecServer, HecToken};
use forebay::simulate::ledger::HecLedger;
use forebay::types::{Offset, UnixMicros};
use proptest::prelude::*;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::Client;

const DRAIN: &str = "d.fc6b856b-3332-4546-93de-7d0ee272c3bd";

/// Bytes of a frame: messages that are framed and have headers, more or less, with all that
/// makes JSON, UTF-8 and logfmt difficult, and bytes of no sense at all.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        "\\PC{0,60}".prop_map(String::into_bytes),
        "[ \t\r\n\u{0}-\u{1f}\"\\\\{}\\[\\]:,a=]{0,40}".prop_map(String::into_bytes),
        // Not all that is white space in ASCII is so in JSON.
        "[ \u{b}\u{c}]?\\{\"[a-b]{1,2}\": ?(1|\"x\"|\\[\\]|\\{\\}|null|1e5|\"\\\\u[0-9a-f]{4}\")\\}[ \n\u{b}\u{c}]?"
            .prop_map(String::into_bytes),
        "(at|code|status|service|dyno|path|[a-z]{0,3})=(\"[^\"]{0,5}\"?|[a-z0-9.]{0,6})( [a-z]+=[0-9]{0,3}(ms)?){0,4}"
            .prop_map(String::into_bytes),
        "Error L1[0-3] ?[a-z()]{0,10}: [0-9]{1,25} messages dropped since".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..60),
        Just(vec![b'x'; 10_000]),
    ];
    let source = prop_oneof![
        Just("host app web.1 "),
        Just("host heroku router "),
        Just("host heroku logplex "),
        Just("- \" \\ "),
        Just("d.fc6b856b-3332-4546-93de-7d0ee272c3bd h\u{e9} \u{1}.2 "),
        Just("  "),
    ];
    let time = prop_oneof![
        Just("2026-01-02T03:04:05.000001+00:00"),
        Just("1601-01-01T00:00:00Z"),
        Just("9999-12-31T23:59:59.999999Z"),
        Just("-"),
        Just("soon"),
    ];
    let message = (0u16..400, time, source, text, any::<bool>(), -2i32..3).prop_map(
        |(pri, time, source, text, newline, off)| {
            let mut line = format!("<{pri}>1 {time} {source}- ").into_bytes();
            line.extend(text);
            if newline {
                line.push(b'\n');
            }
            let length = i32::try_from(line.len()).unwrap() + if off == 2 { 7 } else { 0 };
            [length.to_string().as_bytes(), b" ", &line].concat()
        },
    );
    prop_oneof![
        8 => proptest::collection::vec(message, 1..12).prop_map(|all| all.concat()),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

fn mapping() -> impl Strategy<Value = MappingConfig> {
    let format = prop_oneof![Just(Format::Text), Just(Format::Json), Just(Format::Auto)];
    let nul = prop_oneof![Just(Nul::Keep), Just(Nul::Replace)];
    (format, nul, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(format, nul, router_fields, event_id, listed)| MappingConfig {
            host: Some("{{ host }}{{ query.host }}".to_owned()),
            index: Some("{{ query.index }}".to_owned()),
            fields: [("team".to_owned(), "{{ proc_id }}{{ query.team }}".to_owned())].into(),
            event_id,
            format,
            nul,
            router_fields,
            filter: Filter { exclude: vec!["zz".to_owned()], ..Filter::default() },
            query: listed.then(|| vec!["index".to_owned(), "color".to_owned()]),
            drains: Arc::new(
                [(
                    DRAIN.to_owned(),
                    DrainInfo {
                        app: "check \"out\"".to_owned(),
                        sourcetype: Some("{{ kind }}{{ app_name }}".to_owned()),
                        fields: [("at".to_owned(), "{{ query.at }}".to_owned())].into(),
                        ..DrainInfo::default()
                    },
                )]
                .into(),
            ),
            node: "node".to_owned(),
            ..MappingConfig::default()
        },
    )
}

/// A collector that is as strict as Splunk, and a connection to it.
struct World {
    runtime: Runtime,
    server: JoinSet<()>,
    stop: CancellationToken,
    ledger: Arc<HecLedger>,
    address: std::net::SocketAddr,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ledger = Arc::new(HecLedger::new(1 << 20, 0));
        let (stop, mut server) = (CancellationToken::new(), JoinSet::new());
        let address = runtime.block_on(async {
            let token = HecToken { use_ack: false, ..HecToken::default() };
            let config =
                HecConfig { tokens: vec![token], ack: AckMode::AT_ONCE, ..HecConfig::default() };
            let hec = HecServer::bind(config, Arc::clone(&ledger)).unwrap();
            let address = hec.local_addr();
            server.spawn(hec.run(stop.clone()));
            address
        });
        Self { runtime, server, stop, ledger, address }
    }

    /// The answer to a body, and how many events it brought in.
    fn post(&self, body: &[u8]) -> (u16, String, u64) {
        let before = self.ledger.totals().accepted;
        let answer = self.runtime.block_on(async {
            let mut client = Client::connect(self.address).await;
            let head = format!(
                "POST /services/collector/event HTTP/1.1\r\nHost: hec\r\n\
                 Authorization: Splunk 00000000-0000-0000-0000-000000000000\r\n\
                 Content-Length: {}\r\n\r\n",
                body.len()
            );
            client.send(&[head.as_bytes(), body].concat()).await;
            client.answer().await.unwrap()
        });
        (answer.status, answer.body, self.ledger.totals().accepted - before)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        let server = std::mem::take(&mut self.server);
        self.runtime.block_on(async { server.join_all().await });
    }
}

/// Codes 6, 12, 13 and 15, and the silence behind an unknown key, cannot come from us: whatever
/// the bytes of a frame, its query and the mapping are, every event is taken.
#[test]
fn whatever_comes_in_splunk_takes_it_whole() {
    let world = World::new();
    let cases = (body(), mapping(), "\\PC{0,20}", any::<bool>(), any::<bool>(), any::<i64>());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let total = Cell::new(0);
    let run = runner.run(&cases, |(body, mapping, query, drain, shuttle, received)| {
        let mut encoder = Encoder::new(Mapping::compile(&mapping).unwrap(), 20_000);
        let query = format!("index=team_a&color=%22{query}&at=x&{query}");
        encoder.start_frame(FrameFacts {
            drain_token: drain.then_some(DRAIN),
            frame_id: drain.then_some("F\"1"),
            offset: Offset::new(7),
            received: UnixMicros::new(received.checked_abs().unwrap_or(0)),
            query: &query,
            profile: if shuttle { Profile::Shuttle } else { Profile::Logplex },
            messages_claimed: Some(3),
            messages: 4,
        });
        let (mut out, mut events) = (Vec::new(), 0);
        for (index, piece) in (0..).zip(pieces(&body)) {
            if encoder.encode(index, piece, &mut out) == Outcome::Event {
                events += 1;
            }
        }
        total.set(total.get() + events);
        if events > 0 {
            let (status, answer, accepted) = world.post(&out);
            let shown = String::from_utf8_lossy(&out);
            prop_assert_eq!((status, accepted), (200, events), "{}: {}", answer, shown);
        }
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    assert!(total.get() > 500, "{} events", total.get());
}

/// The oracle is strict: each of these is refused or cut short.
#[test]
fn the_oracle_refuses_what_splunk_would() {
    let world = World::new();
    for (body, status, accepted) in [
        (r#"{"event":"a"}{"event":"#, 400, 1),
        (r#"{"event":" "}"#, 400, 0),
        (r#"{"fields":{"a":{}},"event":"a"}"#, 400, 0),
        (r#"{"time":1e9,"event":"a"}"#, 400, 0),
        (r#"{"event":"a"}{"event":"b","x":1}{"event":"c"}"#, 200, 1),
    ] {
        let (found, answer, taken) = world.post(body.as_bytes());
        assert_eq!((found, taken), (status, accepted), "{body}: {answer}");
    }
}
