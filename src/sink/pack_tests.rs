//! Bodies from the log. What is in a body is told by its events' ids, `<frame>:<index>`.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use proptest::prelude::*;
use tempfile::TempDir;

use super::pack::{Body, Packer, Source as _};
use super::*;
use crate::clock;
use crate::delivery::{BatchLimits, Cut, Part, ReadBatch};
use crate::hec::mapping::MappingConfig;
use crate::logplex::{self, Kind, Profile};
use crate::record::{Checkpoint, DeadLetter, ReplayFilter};
use crate::types::{BatchId, ByteSize, Offset, PositionRange, UnixMicros};
use crate::wal::{self, NewFrame, ReadError};

/// A log with frames in it; frame number n has the id `Fn`.
pub(super) struct Log {
    pub(super) wal: Wal,
    frames: Vec<Vec<u8>>,
    first_received: i64,
    _dir: TempDir,
}

fn open(dir: &Path) -> Wal {
    let config = wal::Config {
        dir: dir.to_owned(),
        segment_size: ByteSize::bytes(1),
        max_size: ByteSize::mib(1 << 20),
        min_free: ByteSize::bytes(0),
        retention: Duration::ZERO,
        dedupe_window: Duration::from_hours(24),
        dedupe_memory: ByteSize::mib(64),
        when_full: wal::WhenFull::default(),
        durability: wal::Durability::default(),
        storage: wal::Storage::default(),
        on_damage: wal::OnDamage::default(),
    };
    Wal::open(config).unwrap().0
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

impl Log {
    pub(super) fn of(frames: Vec<Vec<u8>>) -> Self {
        Self::of_drains(frames.into_iter().map(|body| ("d.1", body)).collect())
    }

    /// Each frame with its drain token.
    pub(super) fn of_drains(frames: Vec<(&str, Vec<u8>)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(dir.path());
        let first_received = clock::unix_micros().get() - 1_000_000;
        let append = async {
            for (number, (drain, body)) in frames.iter().enumerate() {
                let received = first_received + i64::try_from(number).unwrap();
                let frame = NewFrame {
                    drain_token: Some((*drain).to_owned()),
                    ..new_frame(number, UnixMicros::new(received), body)
                };
                wal.append(Wal::prepare(frame), ()).await.unwrap();
            }
        };
        // On a thread of its own: a test may have a runtime already.
        std::thread::scope(|scope| scope.spawn(|| run(append)).join()).unwrap();
        let frames = frames.into_iter().map(|(_, body)| body).collect();
        Self { wal, frames, first_received, _dir: dir }
    }

    pub(super) fn packer(&self, max_bytes: u64, max_events: usize) -> Packer {
        self.packer_of(max_bytes, max_events, Compression::None, None)
    }

    fn packer_of(
        &self,
        max_bytes: u64,
        max_events: usize,
        compression: Compression,
        kinds: Option<Vec<Kind>>,
    ) -> Packer {
        let mapping = Mapping::compile(&MappingConfig { kinds, ..MappingConfig::default() });
        let encoder = Encoder::new(mapping.unwrap(), 1_000_000);
        let limits = BatchLimits {
            max_bytes: ByteSize::bytes(max_bytes),
            max_events: NonZeroUsize::new(max_events).unwrap(),
            linger: Duration::ZERO,
        };
        Packer::new(self.wal.reader(), encoder, limits, compression)
    }

    /// Dead letters of this log, to be sent again.
    pub(super) fn redriven(&self, letters: Vec<(Position, DeadLetter)>) -> redrive::LetterSource {
        let packer = self.packer(5000, 9);
        redrive::LetterSource::new(
            packer.encoder,
            letters.into(),
            Self::limits(),
            Compression::None,
        )
    }

    fn limits() -> BatchLimits {
        let (max_bytes, max_events) = (ByteSize::bytes(5000), NonZeroUsize::new(9).unwrap());
        BatchLimits { max_bytes, max_events, linger: Duration::ZERO }
    }

    fn messages(&self, offset: usize) -> u32 {
        logplex::count(&self.frames[offset])
    }

    /// All batches to the end of the log, each with what every batch has to keep checked.
    fn batches(&self, packer: &mut Packer) -> Vec<(ReadBatch, Option<Body>)> {
        let tail = *self.wal.tail().borrow();
        let (mut at, mut messages, mut all) = (Position::ZERO, 0, Vec::new());
        while at < Position::at(tail.end) {
            let id = BatchId::new(all.len() as u64);
            let (read, body) = packer.next(id, at).unwrap();
            assert_eq!((read.batch, read.range.start), (id, at));
            assert!(read.range.end > at, "{}", read.range);
            assert_eq!(read.events + read.filtered, read.messages);
            assert_eq!(body.is_some(), read.events > 0);
            assert_eq!(body.iter().flat_map(ids).count() as u64, read.events);
            messages += read.messages;
            assert_eq!(read.messages_end, messages);
            let offset = i64::try_from(at.offset.get()).unwrap();
            assert_eq!(read.received.get(), self.first_received + offset);
            at = read.range.end;
            let place = usize::try_from(at.offset.get()).unwrap();
            let inside = at.index == 0 || at.index < self.messages(place);
            assert!(inside, "{at} is behind the last message of its frame");
            let reached = at == Position::at(tail.end);
            assert!(read.caught_up.is_none_or(|then| reached && then == tail));
            all.push((read, body));
        }
        assert_eq!(messages, tail.messages);
        all
    }
}

/// Frame `number` of a log.
pub(super) fn new_frame(number: usize, received: UnixMicros, body: &[u8]) -> NewFrame {
    NewFrame {
        drain_token: Some("d.1".to_owned()),
        frame_id: Some(format!("F{number}")),
        dedupe_scope: "d.1".to_owned(),
        messages_claimed: None,
        messages: logplex::count(body),
        received,
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        query: String::new(),
        profile: Profile::Logplex,
        body: Bytes::copy_from_slice(body),
    }
}

pub(super) fn frame(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| message("app web.1", text)).collect()
}

fn message(from: &str, text: &str) -> Vec<u8> {
    let line = format!("<158>1 2026-01-02T03:04:05+00:00 host {from} - {text}\n");
    format!("{} {line}", line.len()).into_bytes()
}

fn plain(body: &Body) -> Vec<u8> {
    if !body.gzip {
        return body.bytes.to_vec();
    }
    let mut plain = Vec::new();
    GzDecoder::new(&body.bytes[..]).read_to_end(&mut plain).unwrap();
    plain
}

fn events(body: &Body) -> Vec<serde_json::Value> {
    let plain = plain(body);
    serde_json::Deserializer::from_slice(&plain).into_iter().map(Result::unwrap).collect()
}

fn ids(body: &Body) -> Vec<String> {
    let id = |event: &serde_json::Value| event["fields"]["event_id"].as_str().unwrap().to_owned();
    events(body).iter().map(id).collect()
}

fn all_ids(batches: &[(ReadBatch, Option<Body>)]) -> Vec<Vec<String>> {
    batches.iter().map(|(_, body)| body.iter().flat_map(ids).collect()).collect()
}

fn position(offset: u64, index: u32) -> Position {
    Position::new(Offset::new(offset), index)
}

#[test]
fn a_batch_ends_inside_a_frame_and_the_next_goes_on_with_the_next_message() {
    let log = Log::of(vec![frame(&["a", "b", "c", "d"]), frame(&["e"]), frame(&["f", "g"])]);
    let batches = log.batches(&mut log.packer(1_000_000, 3));
    let wanted = [vec!["F0:0", "F0:1", "F0:2"], vec!["F0:3", "F1:0", "F2:0"], vec!["F2:1"]];
    assert_eq!(all_ids(&batches), wanted);
    let ends: Vec<_> = batches.iter().map(|(read, _)| read.range.end).collect();
    assert_eq!(ends, [position(0, 3), position(2, 1), position(3, 0)]);
    let caught_up: Vec<_> = batches.iter().map(|(read, _)| read.caught_up.is_some()).collect();
    assert_eq!(caught_up, [false, false, true]);
}

#[test]
fn a_batch_that_is_full_with_the_last_message_of_a_frame_ends_at_the_next_frame() {
    let log = Log::of(vec![frame(&["a", "b"]), frame(&["c", "d"])]);
    let batches = log.batches(&mut log.packer(1_000_000, 2));
    assert_eq!(all_ids(&batches), [["F0:0", "F0:1"], ["F1:0", "F1:1"]]);
    let ends: Vec<_> = batches.iter().map(|(read, _)| read.range.end).collect();
    assert_eq!(ends, [position(1, 0), position(2, 0)]);
}

#[test]
fn a_body_stays_under_its_limit_and_takes_what_fits() {
    let texts: Vec<_> = (1..40).map(|n| "x".repeat(n * 37 % 300 + 1)).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let log = Log::of(texts.chunks(7).map(frame).collect());
    let batches = log.batches(&mut log.packer(1500, 1000));
    assert!(batches.len() > 5, "{}", batches.len());
    let bodies: Vec<_> = batches.iter().map(|(_, body)| plain(body.as_ref().unwrap())).collect();
    for pair in bodies.windows(2) {
        assert!(pair[0].len() <= 1500);
        let first = serde_json::Deserializer::from_slice(&pair[1]);
        let mut first = first.into_iter::<serde_json::Value>();
        first.next().unwrap().unwrap();
        let next = first.byte_offset();
        assert!(pair[0].len() + next > 1500, "{} + {next} would have fitted", pair[0].len());
    }
}

#[test]
fn an_event_larger_than_a_body_travels_alone() {
    let large = "x".repeat(5000);
    let log = Log::of(vec![frame(&["a", &large, "b"]), frame(&[&large]), frame(&["c"])]);
    let batches = log.batches(&mut log.packer(1000, 1000));
    assert_eq!(all_ids(&batches), [["F0:0"], ["F0:1"], ["F0:2"], ["F1:0"], ["F2:0"]]);
}

#[test]
fn frames_without_messages_are_passed_over() {
    let log = Log::of(vec![vec![], frame(&["a"]), vec![], vec![]]);
    let mut packer = log.packer(1_000_000, 1);
    let batches = log.batches(&mut packer);
    assert_eq!(all_ids(&batches), [vec!["F1:0"], vec![]]);
    let (last, body) = &batches[1];
    assert_eq!((last.range.end, last.messages), (position(4, 0), 0));
    assert!(body.is_none() && last.caught_up.is_some());
}

#[test]
fn at_the_end_of_the_log_there_is_nothing_to_read() {
    let log = Log::of(vec![frame(&["a"])]);
    let (read, body) = log.packer(1000, 5).next(BatchId::new(0), position(1, 0)).unwrap();
    assert!(read.range.is_empty() && body.is_none());
    assert_eq!((read.messages, read.events, read.filtered), (0, 0, 0));
}

#[test]
fn what_is_filtered_is_counted_and_takes_no_room() {
    let mut body = frame(&["a", "", "b"]);
    body.extend(message("heroku router", "at=info"));
    body.extend(message("app web.1", "c"));
    let log = Log::of(vec![body, message("heroku router", "at=info")]);
    let kinds = Some(vec![Kind::App]);
    let mut packer = log.packer_of(1_000_000, 2, Compression::None, kinds);
    let batches = log.batches(&mut packer);
    assert_eq!(all_ids(&batches), [vec!["F0:0", "F0:2"], vec!["F0:4"]]);
    let counts: Vec<_> =
        batches.iter().map(|(read, _)| (read.messages, read.events, read.filtered)).collect();
    assert_eq!(counts, [(3, 2, 1), (3, 1, 2)]);
}

/// A filter that takes next to nothing of a large log: what is read for nothing has a bound, so
/// that the cursor moves, and a stop or a seek does not wait.
#[test]
fn a_log_that_is_filtered_is_read_in_pieces() {
    let noise = frame(&["x".repeat(1 << 20).as_str(); 4]);
    let mut frames = vec![noise; 10];
    frames[1].extend(message("heroku router", "at=info"));
    let log = Log::of(frames);
    let kinds = Some(vec![Kind::Router]);
    let packer = || log.packer_of(1_000_000, 5000, Compression::None, kinds.clone());
    let batches = log.batches(&mut packer());
    let seen: Vec<_> = batches
        .iter()
        .map(|(read, _)| (read.range.end, read.events, read.filtered, read.caught_up.is_some()))
        .collect();
    // 4 MiB and a little in each frame.
    let ends = [position(4, 0), position(8, 0), position(10, 0)];
    assert_eq!(seen, [(ends[0], 1, 16, false), (ends[1], 0, 16, false), (ends[2], 0, 8, true)]);
    let made = packer().again(batches[0].0.range, true).unwrap();
    assert_eq!((made.events, made.filtered), (1, 16));
    assert_eq!(ids(&made.body), ["F1:4"]);
}

#[test]
fn a_malformed_part_is_one_message_and_keeps_its_place() {
    let mut body = frame(&["a"]);
    body.extend_from_slice(b"nonsense without a length");
    let cut = frame(&["b", "cccc"]);
    let log = Log::of(vec![body, cut[..cut.len() - 3].to_vec(), frame(&["d"])]);
    let batches = log.batches(&mut log.packer(1_000_000, 1));
    let ids = all_ids(&batches).concat();
    assert_eq!(ids, ["F0:0", "F0:1", "F1:0", "F1:1", "F2:0"]);
    let flags: Vec<_> = batches
        .iter()
        .map(|(_, body)| events(body.as_ref().unwrap())[0]["fields"]["framing"].clone())
        .collect();
    assert_eq!(
        flags,
        [None, Some("bad_length"), None, Some("truncated"), None]
            .map(|flag| { flag.map_or(serde_json::Value::Null, serde_json::Value::from) })
    );
}

#[test]
fn what_is_trimmed_is_an_error_and_not_a_skip() {
    let log = Log::of((0..4).map(|_| frame(&["a"])).collect());
    let at = Checkpoint { position: position(2, 0), ..Checkpoint::default() };
    run(async { log.wal.commit(&DestinationName::new("x").unwrap(), at).await.unwrap() });
    assert_eq!(log.wal.sweep().unwrap().end, Offset::new(2));
    let mut packer = log.packer(1000, 5);
    let error = packer.next(BatchId::new(0), position(1, 0)).unwrap_err();
    assert!(matches!(error, ReadError::Trimmed { .. }), "{error}");
    let range = PositionRange { start: position(0, 0), end: position(3, 0) };
    assert!(matches!(packer.again(range, false), Err(ReadError::Trimmed { .. })));
}

/// A part of a frame: mostly messages, and what senders make of them on a bad day.
fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => "\\PC{0,80}".prop_map(|text| message("app web.1", &text)),
        2 => (1..600usize).prop_map(|len| message("app web.1", &"y".repeat(len))),
        2 => Just(message("heroku router", "at=info method=GET")),
        1 => Just(message("app web.1", " ")),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (1..40usize).prop_map(|cut| message("app web.1", "cut")[..cut].to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_batch_can_be_made_again_and_no_message_is_lost_or_twice(
        frames in prop::collection::vec(prop::collection::vec(part(), 0..6), 1..10),
        max_bytes in 150..3000u64,
        max_events in 1..9usize,
        filter: bool,
    ) {
        let log = Log::of(frames.into_iter().map(|parts| parts.concat()).collect());
        let kinds = filter.then(|| vec![Kind::App]);
        let packer = |compression| {
            log.packer_of(max_bytes, max_events, compression, kinds.clone())
        };
        let batches = log.batches(&mut packer(Compression::None));
        let packed = log.batches(&mut packer(Compression::Gzip));
        // A packer that has seen nothing before makes the same of each range, in any order.
        let (mut again, mut again_packed) = (packer(Compression::None), packer(Compression::Gzip));
        for ((read, body), (twin, gzip)) in batches.iter().zip(&packed).rev() {
            prop_assert_eq!(read, twin);
            let (Some(body), Some(gzip)) = (body, gzip) else { continue };
            prop_assert!(!body.gzip && gzip.gzip);
            prop_assert!(body.bytes.len() as u64 <= max_bytes || read.events == 1);
            prop_assert!(read.events <= max_events as u64);
            prop_assert_eq!(&plain(gzip), &body.bytes);
            let made = again.again(read.range, false).unwrap();
            prop_assert_eq!(&made.body.bytes, &body.bytes);
            prop_assert_eq!((made.events, made.filtered), (read.events, read.filtered));
            let made = again_packed.again(read.range, false).unwrap();
            prop_assert_eq!(&made.body.bytes, &gzip.bytes);
            let uncompressed = again_packed.again(read.range, true).unwrap();
            prop_assert_eq!(&uncompressed.body.bytes, &body.bytes);
        }
        prop_assert_eq!(batches.len(), packed.len());
        // Every event once, in the order of the log.
        let places: Vec<(u64, u32)> = all_ids(&batches)
            .concat()
            .iter()
            .map(|id| {
                let (frame, index) = id.strip_prefix('F').unwrap().split_once(':').unwrap();
                (frame.parse().unwrap(), index.parse().unwrap())
            })
            .collect();
        prop_assert!(places.is_sorted_by(|a, b| a < b), "{:?}", places);
    }

    /// A replay's packer: of the frames that are not asked for nothing is sent, whether a body is
    /// made, made again or cut, and the books hold.
    #[test]
    fn what_is_not_picked_counts_as_filtered_in_every_form(
        frames in prop::collection::vec(prop::collection::vec(part(), 0..6), 1..10),
        max_events in 1..9usize,
        from in 0..10i64,
        length in 0..10i64,
    ) {
        let log = Log::of(frames.into_iter().map(|parts| parts.concat()).collect());
        let tail = *log.wal.tail().borrow();
        let at = |frame| Some(UnixMicros::new(log.first_received + frame));
        let (from_time, to_time) = (at(from), at(from + length));
        let packer = || {
            let filter = ReplayFilter { from: from_time, to: to_time, ..ReplayFilter::default() };
            let pick = pick::Pick::new(filter, KnownDrains::default());
            log.packer(5000, max_events).within(tail, pick)
        };
        let batches = log.batches(&mut packer());
        let all = log.batches(&mut log.packer(5000, max_events));
        let picked = |id: &String| {
            let (frame, _) = id.strip_prefix('F').unwrap().split_once(':').unwrap();
            (from..from + length).contains(&frame.parse().unwrap())
        };
        let wanted: Vec<String> = all_ids(&all).concat().into_iter().filter(picked).collect();
        prop_assert_eq!(all_ids(&batches).concat(), wanted);
        let mut again = packer();
        for (read, body) in batches.iter().rev() {
            let made = again.again(read.range, true).unwrap();
            prop_assert_eq!((made.events, made.filtered), (read.events, read.filtered));
            if read.events == 0 {
                continue;
            }
            prop_assert_eq!(&made.body.bytes, &body.as_ref().unwrap().bytes);
            let parts = again.cut(read.range, Cut::Event(0)).unwrap();
            let parts = [parts.before, parts.bad, parts.after];
            let sum = |of: fn(Part) -> u64| parts.iter().flatten().map(|part| of(*part)).sum();
            let (events, messages): (u64, u64) = (sum(|part| part.events), sum(|part| part.messages));
            prop_assert_eq!((events, messages), (read.events, read.messages));
        }
    }

    #[test]
    fn the_pieces_of_a_batch_are_the_batch_and_a_letter_is_its_event(
        frames in prop::collection::vec(prop::collection::vec(part(), 0..6), 1..10),
        max_events in 1..9usize,
        filter: bool,
    ) {
        let log = Log::of(frames.into_iter().map(|parts| parts.concat()).collect());
        let kinds = filter.then(|| vec![Kind::App]);
        let mut packer = log.packer_of(5000, max_events, Compression::None, kinds);
        for (read, body) in log.batches(&mut packer) {
            let Some(body) = body else { continue };
            let cuts = (0..read.events).map(Cut::Event).chain((read.events > 1).then_some(Cut::Half));
            for cut in cuts {
                let parts = packer.cut(read.range, cut).unwrap();
                let parts = [parts.before, parts.bad, parts.after];
                let (mut at, mut bytes, mut sums) = (read.range.start, Vec::new(), (0, 0, 0));
                for part in parts.iter().flatten() {
                    prop_assert_eq!(part.range.start, at);
                    at = part.range.end;
                    let made = packer.again(part.range, false).unwrap();
                    prop_assert_eq!((made.events, made.filtered), (part.events, part.filtered));
                    bytes.extend_from_slice(&made.body.bytes);
                    sums = (
                        sums.0 + part.messages,
                        sums.1 + part.filtered,
                        sums.2 + part.events,
                    );
                }
                prop_assert_eq!(at, read.range.end);
                prop_assert_eq!(&bytes, &body.bytes);
                prop_assert_eq!(sums, (read.messages, read.filtered, read.events));
                let events = parts.map(|part: Option<Part>| part.map_or(0, |part| part.events));
                match cut {
                    Cut::Half => {
                        prop_assert!(events[0] > 0 && events[2] > 0 && parts[1].is_none());
                        prop_assert!(events[0].abs_diff(events[2]) <= 1);
                    }
                    Cut::Event(bad) => {
                        prop_assert_eq!(events, [bad, 1, read.events - bad - 1]);
                        let alone = parts[1].unwrap();
                        prop_assert_eq!(alone.messages, 1);
                        let made = packer.again(alone.range, false).unwrap();
                        let (at, letter) = packer.letter(alone.range).unwrap().unwrap();
                        prop_assert!(alone.range.start <= at && at < alone.range.end);
                        prop_assert_eq!(vec![letter.event_id.clone()], ids(&made.body));
                        let mut redriven = log.redriven(vec![(at, letter)]);
                        let range = PositionRange { start: position(0, 0), end: position(1, 0) };
                        let again = redriven.again(range, false).unwrap();
                        prop_assert_eq!(&again.body.bytes, &made.body.bytes, "the same event");
                    }
                }
            }
        }
    }
}
