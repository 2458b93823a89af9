//! Bodies as Heroku sends them, byte by byte, and what they must be read as.
//!
//! The lengths were computed apart from this code, or published with the text.

use super::*;

/// A message as it must come out.
struct Expected {
    len: usize,
    pri: u8,
    micros: i64,
    routing: &'static [u8],
    kind: Kind,
    text: &'static [u8],
    had_newline: bool,
}

/// 2026-01-02T03:04:05.000001Z.
const JAN_2: i64 = 1_767_323_045_000_001;

fn dyno(len: usize, text: &'static [u8], had_newline: bool) -> Expected {
    let routing = b"host app web.1";
    Expected { len, pri: 190, micros: JAN_2, routing, kind: Kind::App, text, had_newline }
}

/// Checks a body against what it must be read as, its length prefixes included.
fn check(body: &[u8], profile: Profile, expected: &[Expected]) {
    let shown = String::from_utf8_lossy(body);
    assert_eq!(count(body) as usize, expected.len(), "{shown}");
    let all: Vec<_> = pieces(body).collect();
    assert_eq!(all.len(), expected.len(), "{shown}");
    let mut rebuilt = Vec::new();
    for (piece, expected) in all.iter().zip(expected) {
        assert_eq!(piece.framing, Framing::Counted, "{shown}");
        assert_eq!(piece.bytes.len(), expected.len, "{shown}");
        rebuilt.extend_from_slice(format!("{} ", expected.len).as_bytes());
        rebuilt.extend_from_slice(piece.bytes);
        let message = parse(piece.bytes, profile);
        let header = message.header.as_ref().expect("a header");
        assert_eq!(header.pri, expected.pri, "{shown}");
        assert_eq!(header.timestamp.map(|at| at.get()), Some(expected.micros), "{shown}");
        assert_eq!(header.routing, expected.routing, "{shown}");
        assert_eq!(header.kind(), expected.kind, "{shown}");
        assert_eq!(header.msg_id, b"-", "{shown}");
        assert_eq!(message.text, expected.text, "{shown}");
        assert_eq!(message.had_newline, expected.had_newline, "{shown}");
    }
    assert_eq!(rebuilt, body, "the lengths are the ones in the body: {shown}");
}

#[test]
fn an_empty_line_is_a_message() {
    let body = b"58 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - \n";
    check(body, Profile::Logplex, &[dyno(58, b"", true)]);
}

#[test]
fn text_may_be_empty_with_or_without_its_space() {
    let body = b"57 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - ";
    check(body, Profile::Logplex, &[dyno(57, b"", false)]);
    let body = b"56 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 -";
    check(body, Profile::Logplex, &[dyno(56, b"", false)]);
}

#[test]
fn brackets_from_logplex_are_text() {
    let body = b"83 <134>1 2026-01-02T03:04:05.000001+00:00 host app postgres.1167776 - \
                 [YELLOW] [13-2]";
    let expected = Expected {
        pri: 134,
        routing: b"host app postgres.1167776",
        kind: Kind::Postgres,
        ..dyno(83, b"[YELLOW] [13-2]", false)
    };
    check(body, Profile::Logplex, &[expected]);
}

#[test]
fn lengths_are_bytes_not_characters() {
    let body = "64 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - héllo\n".as_bytes();
    check(body, Profile::Logplex, &[dyno(64, "héllo".as_bytes(), true)]);
    let body = b"60 <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - \xFF\x00\n";
    check(body, Profile::Logplex, &[dyno(60, b"\xFF\x00", true)]);
}

#[test]
fn log_shuttle_writes_a_nilvalue_that_logplex_does_not() {
    let body =
        b"78 <190>1 2026-01-02T03:04:05.000001+00:00 shuttle token shuttle - - Hello World\n";
    let expected = |text| Expected { routing: b"shuttle token shuttle", ..dyno(78, text, true) };
    check(body, Profile::Shuttle, &[expected(b"Hello World")]);
    check(body, Profile::Other, &[expected(b"Hello World")]);
    check(body, Profile::Logplex, &[expected(b"- Hello World")]);
}

/// Line-based receivers answer 400 to this one, which makes Logplex lose the frame and put the
/// next report of loss in front of the next frame, and so on.
#[test]
fn a_loss_report_has_no_newline() {
    let body = b"142 <172>1 2014-11-11T08:24:25+00:00 host heroku logplex - Error L10 (output \
                 buffer overflow): 1 messages dropped since 2014-11-07T23:29:45+00:00.93 <45>1 \
                 2014-11-11T08:24:24.064853+00:00 host heroku web.1 - State changed from starting \
                 to up\n";
    let report = Expected {
        pri: 172,
        micros: 1_415_694_265_000_000,
        routing: b"host heroku logplex",
        kind: Kind::Logplex,
        ..dyno(
            142,
            b"Error L10 (output buffer overflow): 1 messages dropped since \
              2014-11-07T23:29:45+00:00.",
            false,
        )
    };
    let state = Expected {
        pri: 45,
        micros: 1_415_694_264_064_853,
        routing: b"host heroku web.1",
        kind: Kind::System,
        ..dyno(93, b"State changed from starting to up", true)
    };
    check(body, Profile::Logplex, &[report, state]);
    let first = pieces(body).next().unwrap();
    let lost = loss(&parse(first.bytes, Profile::Logplex));
    assert_eq!(lost, Some(Loss { code: LossCode::L10, messages: 1 }));
}

#[test]
fn the_dev_centers_sample_is_read() {
    let body = b"83 <40>1 2012-11-30T06:45:29+00:00 host app web.3 - State changed from starting \
                 to up\n119 <40>1 2012-11-30T06:45:26+00:00 host app web.3 - Starting process with \
                 command `bundle exec rackup config.ru -p 24405`\n";
    let expected = |len, micros, text| Expected {
        pri: 40,
        micros,
        routing: b"host app web.3",
        ..dyno(len, text, true)
    };
    check(
        body,
        Profile::Logplex,
        &[
            expected(83, 1_354_257_929_000_000, b"State changed from starting to up"),
            expected(
                119,
                1_354_257_926_000_000,
                b"Starting process with command `bundle exec rackup config.ru -p 24405`",
            ),
        ],
    );
}

#[test]
fn published_router_and_database_lines_are_read() {
    let text = b"at=info method=GET path=\"/cart_link\" host=lumberjack-store.timber.io \
                 request_id=05726858-c44e-4f94-9a20-37df73be9006 fwd=\"73.75.38.87\" dyno=web.1 \
                 connect=1ms service=22ms status=304 bytes=656 protocol=http";
    let mut body = b"267 <158>1 2020-01-08T22:33:57.353034+00:00 host heroku router - ".to_vec();
    body.extend_from_slice(text);
    body.push(b'\n');
    let router = Expected {
        pri: 158,
        micros: 1_578_522_837_353_034,
        routing: b"host heroku router",
        kind: Kind::Router,
        ..dyno(267, text, true)
    };
    check(&body, Profile::Logplex, &[router]);

    let text = b"source=DATABASE sample#current_transaction=15365 sample#db_size=4347350804bytes \
                 sample#tables=43 sample#active-connections=6 sample#waiting-connections=0 \
                 sample#index-cache-hit-rate=0.97116 sample#table-cache-hit-rate=0.73958 \
                 sample#load-avg-1m=0.05 sample#load-avg-5m=0.03 sample#load-avg-15m=0.035 \
                 sample#read-iops=0 sample#write-iops=112.73 sample#memory-total=15405636.0kB \
                 sample#memory-free=214004kB sample#memory-cached=14392920.0kB \
                 sample#memory-postgres=181644kB";
    let mut body = b"530 <134>1 2016-02-13T21:20:25+00:00 host app heroku-postgres - ".to_vec();
    body.extend_from_slice(text);
    let database = Expected {
        pri: 134,
        micros: 1_455_398_425_000_000,
        routing: b"host app heroku-postgres",
        kind: Kind::Postgres,
        ..dyno(530, text, false)
    };
    check(&body, Profile::Logplex, &[database]);
}

/// A frame of one message whose text is `text`.
fn framed(text: &[u8]) -> Vec<u8> {
    let mut message = b"<190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - ".to_vec();
    message.extend_from_slice(text);
    let mut frame = format!("{} ", message.len()).into_bytes();
    frame.extend_from_slice(&message);
    frame
}

/// The texts of a body whose messages must all be well framed and have a header.
fn texts(body: &[u8]) -> Vec<(&[u8], bool)> {
    pieces(body)
        .map(|piece| {
            assert_eq!(piece.framing, Framing::Counted);
            let message = parse(piece.bytes, Profile::Logplex);
            assert!(message.header.is_some());
            (message.text, message.had_newline)
        })
        .collect()
}

#[test]
fn a_newline_in_a_message_is_text() {
    let body = framed(b"Traceback:\n  line 1\n42 <190>1 fake\n");
    assert_eq!(texts(&body), [(&b"Traceback:\n  line 1\n42 <190>1 fake"[..], true)]);
}

#[test]
fn add_on_lines_need_no_newline() {
    let body = [framed(b"first"), framed(b"second")].concat();
    assert_eq!(texts(&body), [(&b"first"[..], false), (b"second", false)]);
}

/// Heroku splits dyno output at 10,000 bytes, and at nothing else: not at characters.
#[test]
fn a_long_line_comes_in_parts_of_10000_bytes() {
    let emoji = "🦀".as_bytes();
    let line = [vec![b'x'; 9_998], emoji.to_vec(), b"tail\n".to_vec()].concat();
    let body = [framed(&line[..10_000]), framed(&line[10_000..])].concat();
    let parts = texts(&body);
    assert_eq!(parts.len(), 2);
    assert_eq!((parts[0].0.len(), parts[0].1), (10_000, false));
    assert_eq!(parts[0].0[9_998..], emoji[..2]);
    assert_eq!(parts[1], (&[&emoji[2..], b"tail"].concat()[..], true));

    // A line of exactly 10,000 bytes: its newline is a message of its own.
    let body = [framed(&[b'x'; 10_000]), framed(b"\n")].concat();
    assert_eq!(texts(&body)[1], (&b""[..], true));
}
