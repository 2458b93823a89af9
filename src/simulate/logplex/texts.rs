//! What the messages say: log lines that repeat no more than real ones do, so that a log, a body
//! and a disk under load compress as theirs would. Made once, and copied from there: the load
//! generator shares the machine with the relay it loads.

use std::sync::LazyLock;

use crate::simulate::hash::scatter;

/// Bytes of one kind of lines. Several times what lz4 looks back (64 KiB).
const POOL: usize = 1 << 18;

/// Lines one after the other.
#[derive(Debug)]
pub(super) struct Lines {
    text: Vec<u8>,
    /// Where each begins.
    starts: Vec<usize>,
}

/// Of a web or worker dyno.
pub(super) static APP: LazyLock<Lines> = LazyLock::new(|| Lines::make(app));
/// Of the router.
pub(super) static ROUTER: LazyLock<Lines> = LazyLock::new(|| Lines::make(router));
/// Of the dyno manager.
pub(super) static STATE: LazyLock<Lines> =
    LazyLock::new(|| Lines::make(|_| "State changed from starting to up ".to_owned()));

impl Lines {
    fn make(line: fn(&mut Numbers) -> String) -> Self {
        let (mut numbers, mut text, mut starts) = (Numbers(0), String::new(), Vec::new());
        while text.len() < POOL {
            starts.push(text.len());
            text.push_str(&line(&mut numbers));
        }
        Self { text: text.into_bytes(), starts }
    }

    /// Appends `length` bytes from the beginning of a line on; neighbours get different lines.
    pub(super) fn append(&self, number: usize, length: usize, out: &mut Vec<u8>) {
        // Coprime to any number of lines there is: all have their turn.
        let line = number.wrapping_mul(61) % self.starts.len().max(1);
        let mut from = self.starts.get(line).copied().unwrap_or(0);
        let mut left = length;
        while left > 0 {
            let rest = self.text.get(from..).unwrap_or_default();
            let some = rest.get(..left).unwrap_or(rest);
            if some.is_empty() && from == 0 {
                return;
            }
            out.extend_from_slice(some);
            left -= some.len();
            from = 0;
        }
    }
}

/// Numbers that look like any.
struct Numbers(u64);

impl Numbers {
    const fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        scatter(self.0) % limit
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        let index = usize::try_from(self.below(all.len().max(1) as u64)).unwrap_or(0);
        all.get(index).copied().unwrap_or_default()
    }
}

const PATHS: &[&str] =
    &["/", "/cart", "/checkout/7", "/api/v2/items", "/login", "/api/orders", "/assets/app.js"];

fn router(numbers: &mut Numbers) -> String {
    let path = numbers.one_of(PATHS);
    let [a, b, c, d] = [(); 4].map(|()| numbers.below(256));
    let (id, tail) = (numbers.below(u64::MAX), numbers.below(1 << 48));
    let (dyno, took, bytes) = (numbers.below(8) + 1, numbers.below(900), numbers.below(90_000));
    format!(
        "at=info method=GET path=\"{path}?page={}\" host=shop.example.com \
         request_id={id:016x}-{tail:012x} fwd=\"{a}.{b}.{c}.{d}\" dyno=web.{dyno} connect=0ms \
         service={took}ms status=200 bytes={bytes} protocol=http1.1 tls=true tls_version=tls1.3 ",
        numbers.below(40)
    )
}

fn app(numbers: &mut Numbers) -> String {
    let (path, took, id) = (numbers.one_of(PATHS), numbers.below(900), numbers.below(u64::MAX));
    let user = numbers.below(100_000);
    match numbers.below(5) {
        0 => {
            format!("INFO GET {path} completed in {took}ms status=200 user={user} id={id:x} ")
        }
        1 => format!("[{id:016x}] Completed 200 OK in {took}ms (Allocations: {user}) "),
        2 => format!(
            "{{\"level\":\"info\",\"msg\":\"request\",\"request_id\":\"{id:016x}\",\
             \"path\":\"{path}\",\"ms\":{took},\"user\":{user}}} "
        ),
        3 => format!(
            "DEBUG query SELECT id, total FROM orders WHERE account={user} rows={} {took}us ",
            numbers.below(50)
        ),
        _ => format!("INFO job {id:x} class=ReportJob queue=default duration={took}ms "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &Lines, number: usize, length: usize) -> String {
        let mut out = Vec::new();
        lines.append(number, length, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn any_length_is_had_and_neighbours_differ() {
        for lines in [&*APP, &*ROUTER, &*STATE] {
            for length in [0, 1, 150, POOL, 2 * POOL + 7] {
                assert_eq!(text(lines, 12_345, length).len(), length);
            }
        }
        assert_ne!(text(&APP, 1, 150), text(&APP, 2, 150));
        assert!(text(&ROUTER, 3, 150).starts_with("at=info method=GET path=\"/"));
    }

    /// Real logs give gzip about 4 to 10; a filler that repeats gives it 50.
    #[test]
    fn lines_compress_as_logs_do() {
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(2));
        let mut bytes = 0;
        for number in 0..2000 {
            let lines = if number % 4 == 0 { &ROUTER } else { &APP };
            let line = text(lines, number, 150);
            bytes += line.len();
            gzip.write_all(line.as_bytes()).unwrap();
        }
        let ratio = bytes as f64 / gzip.finish().unwrap().len() as f64;
        assert!((3.0..10.0).contains(&ratio), "{ratio}");
    }
}
