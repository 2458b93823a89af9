//! Frames: octet-counted messages with unique texts. Cheap, because the load generator shares the
//! machine with the relay it loads.

use std::num::NonZeroU32;

use super::config::Mix;
use super::file::Origin;
use super::texts::{self, Lines};
use crate::simulate::hash::{scatter, text_hash};
use crate::types::UnixMicros;

/// One frame, ready to go.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) id: u128,
    pub(super) messages: u32,
    pub(super) body: Vec<u8>,
    /// The hash of each text.
    pub(super) hashes: Vec<u64>,
    /// What a frame out of a file brings along.
    pub(super) origin: Option<Origin>,
}

/// What the messages of one kind have in common.
#[derive(Debug)]
struct Shape {
    /// Up to the timestamp.
    before: &'static [u8],
    /// From the timestamp to the text.
    after: &'static [u8],
    /// Text to fill up with.
    lines: &'static Lines,
}

const PATTERN: usize = 100;

/// Makes the frames of one connection.
#[derive(Debug)]
pub(super) struct Generator {
    run: u32,
    connection: u32,
    messages: u32,
    message_bytes: usize,
    shapes: [Shape; 4],
    /// The kind of each of a hundred messages in turn.
    pattern: [u8; PATTERN],
    /// Messages made so far.
    count: usize,
    /// Frames made so far.
    frames: u64,
}

impl Generator {
    pub(super) fn new(
        run: u32,
        connection: u32,
        messages: NonZeroU32,
        message_bytes: usize,
        mix: Mix,
    ) -> Self {
        let shape = |before, after, lines| Shape { before, after, lines };
        Self {
            run,
            connection,
            messages: messages.get(),
            message_bytes,
            shapes: [
                shape(b"<190>1 ", b" host app web.1 - ", &*texts::APP),
                shape(b"<190>1 ", b" host app worker.1 - ", &texts::APP),
                shape(b"<158>1 ", b" host heroku router - ", &texts::ROUTER),
                shape(b"<45>1 ", b" host heroku web.1 - ", &texts::STATE),
            ],
            pattern: pattern(mix),
            count: 0,
            frames: 0,
        }
    }

    /// The next frame, at a time, in a buffer that may have been used before.
    pub(super) fn next(&mut self, now: UnixMicros, mut body: Vec<u8>) -> Frame {
        body.clear();
        let number = self.frames;
        self.frames += 1;
        let mut hashes = Vec::with_capacity(self.messages as usize);
        let prefix = format!("run={:08x} c={} f={number} m=", self.run, self.connection);
        let mut stamp = Stamp::new(now);
        for message in 0..self.messages {
            hashes.extend(self.message(&mut body, prefix.as_bytes(), stamp.get(), message));
            stamp.advance();
        }
        Frame {
            id: frame_id(self.run, self.connection, number),
            messages: self.messages,
            body,
            hashes,
            origin: None,
        }
    }

    fn message(
        &mut self,
        body: &mut Vec<u8>,
        prefix: &[u8],
        stamp: &[u8],
        number: u32,
    ) -> Option<u64> {
        let kind = self.pattern.get(self.count % PATTERN)?;
        let shape = self.shapes.get(usize::from(*kind))?;
        self.count = self.count.wrapping_add(1);
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number).as_bytes();
        let unique = prefix.len() + digits.len() + 1;
        let fill = self.message_bytes.saturating_sub(unique);
        let header = shape.before.len() + stamp.len() + shape.after.len();
        let length = header + unique + fill + 1;
        body.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        body.push(b' ');
        body.extend_from_slice(shape.before);
        body.extend_from_slice(stamp);
        body.extend_from_slice(shape.after);
        let start = body.len();
        body.extend_from_slice(prefix);
        body.extend_from_slice(digits);
        body.push(b' ');
        shape.lines.append(self.count, fill, body);
        let hash = text_hash(body.get(start..)?);
        body.push(b'\n');
        Some(hash)
    }
}

/// Deals the kinds over a hundred messages by their weights, evenly spread.
fn pattern(mix: Mix) -> [u8; PATTERN] {
    let weights = [mix.web, mix.worker, mix.router, mix.state].map(i64::from);
    let sum: i64 = weights.iter().sum();
    let mut credit = [0i64; 4];
    [(); PATTERN].map(|()| {
        let mut best = (0u8, i64::MIN);
        for ((kind, credit), weight) in (0u8..).zip(credit.iter_mut()).zip(weights) {
            *credit += weight;
            if weight > 0 && *credit > best.1 {
                best = (kind, *credit);
            }
        }
        if let Some(credit) = credit.get_mut(usize::from(best.0)) {
            *credit -= sum;
        }
        best.0
    })
}

/// Unique per run, connection and frame, and scattered like the MD5 sums Logplex uses.
pub(super) const fn frame_id(run: u32, connection: u32, number: u64) -> u128 {
    // Two bijections, one keyed by the other's result: distinct inputs stay distinct.
    let low = scatter(number);
    let high = scatter(((run as u64) << 32 | connection as u64) ^ low);
    (high as u128) << 64 | low as u128
}

/// A timestamp as Logplex writes it, always 32 bytes: `2026-01-02T03:04:05.000001+00:00`.
#[derive(Debug)]
pub(super) struct Stamp {
    text: [u8; 32],
    micros: i64,
}

impl Stamp {
    pub(super) fn new(now: UnixMicros) -> Self {
        let mut stamp = Self {
            text: *b"0000-00-00T00:00:00.000000+00:00",
            micros: now.get().rem_euclid(1_000_000),
        };
        let seconds = now.get().div_euclid(1_000_000);
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        stamp.write(0, 4, year);
        stamp.write(5, 2, month);
        stamp.write(8, 2, day);
        stamp.write(11, 2, second / 3600);
        stamp.write(14, 2, second / 60 % 60);
        stamp.write(17, 2, second % 60);
        stamp.write(20, 6, stamp.micros);
        stamp
    }

    /// A microsecond later; at the end of a second it stays, a frame is no clock.
    fn advance(&mut self) {
        self.micros = (self.micros + 1).min(999_999);
        self.write(20, 6, self.micros);
    }

    pub(super) const fn get(&self) -> &[u8] {
        &self.text
    }

    fn write(&mut self, at: usize, width: usize, mut value: i64) {
        for slot in self.text.iter_mut().skip(at).take(width).rev() {
            *slot = b'0' + u8::try_from(value % 10).unwrap_or(0);
            value /= 10;
        }
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar, for the years
/// 0 to 9999. Years are counted from March, so that the leap day ends one.
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(micros: i64) -> String {
        String::from_utf8(Stamp::new(UnixMicros::new(micros)).get().to_vec()).unwrap()
    }

    #[test]
    fn timestamps() {
        assert_eq!(stamp(0), "1970-01-01T00:00:00.000000+00:00");
        assert_eq!(stamp(1_767_323_045_000_001), "2026-01-02T03:04:05.000001+00:00");
        assert_eq!(stamp(951_782_399_999_999), "2000-02-28T23:59:59.999999+00:00");
        assert_eq!(stamp(951_782_400_000_000), "2000-02-29T00:00:00.000000+00:00");
        assert_eq!(stamp(4_107_542_400_000_000), "2100-03-01T00:00:00.000000+00:00");
        assert_eq!(stamp(-1), "1969-12-31T23:59:59.999999+00:00");
        let mut late = Stamp::new(UnixMicros::new(999_998));
        late.advance();
        late.advance();
        assert_eq!(late.get(), b"1970-01-01T00:00:00.999999+00:00");
    }

    #[test]
    fn a_frame_byte_for_byte() {
        let two = NonZeroU32::new(2).unwrap();
        let mut generator =
            Generator::new(0xBEEF, 3, two, 50, Mix { router: 1, web: 0, ..Mix::WEB });
        generator.next(UnixMicros::new(0), Vec::new());
        let now = UnixMicros::new(1_767_323_045_000_001);
        let frame = generator.next(now, b"rubbish".to_vec());
        let expected = "112 <158>1 2026-01-02T03:04:05.000001+00:00 host heroku router - \
                        run=0000beef c=3 f=1 m=0 at=info method=GET path=\"\n\
                        112 <158>1 2026-01-02T03:04:05.000002+00:00 host heroku router - \
                        run=0000beef c=3 f=1 m=1 at=info method=GET path=\"\n";
        assert_eq!(String::from_utf8(frame.body).unwrap(), expected);
        let text = b"run=0000beef c=3 f=1 m=1 at=info method=GET path=\"";
        assert_eq!(text.len(), 50);
        assert_eq!(frame.hashes.len(), 2);
        assert_eq!(frame.hashes.last(), Some(&text_hash(text)));
    }

    #[test]
    fn lengths_count_and_texts_are_unique() {
        let messages = NonZeroU32::new(120).unwrap();
        let mut generator = Generator::new(1, 0, messages, 0, Mix::default());
        let mut hashes = Vec::new();
        for _ in 0..3 {
            let frame = generator.next(UnixMicros::new(0), Vec::new());
            let mut rest = frame.body.as_slice();
            let mut count = 0;
            while !rest.is_empty() {
                let space = rest.iter().position(|b| *b == b' ').unwrap();
                let length: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
                let message = &rest[space + 1..=space + length];
                assert!(message.starts_with(b"<") && message.ends_with(b" \n"), "{message:?}");
                rest = &rest[space + 1 + length..];
                count += 1;
            }
            assert_eq!(count, frame.messages);
            hashes.extend(frame.hashes);
        }
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 360);
    }

    #[test]
    fn kinds_follow_their_weights() {
        let count = |mix| {
            let pattern = pattern(mix);
            [0, 1, 2, 3].map(|kind| pattern.iter().filter(|k| **k == kind).count())
        };
        assert_eq!(count(Mix::default()), [60, 15, 23, 2]);
        assert_eq!(count(Mix { web: 0, worker: 0, router: 1, state: 3 }), [0, 0, 25, 75]);
        assert_eq!(count(Mix::WEB), [100, 0, 0, 0]);
    }

    #[test]
    fn ids_are_distinct() {
        let mut ids = Vec::new();
        for run in 0..4 {
            for connection in 0..8 {
                ids.extend((0..100).map(|number| frame_id(run, connection, number)));
            }
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 3200);
    }
}
