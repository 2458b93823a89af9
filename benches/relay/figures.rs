//! What a run measured, and the table of all runs.

use std::fmt;

use super::case::Case;

/// One run of one relay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// Messages answered 2xx a second.
    pub(super) accepted: f64,
    /// Messages indexed a second, at each destination, while the load went on.
    pub(super) delivered: f64,
    /// From the start of a request to its answer: p50, p99, p99.9, max, in milliseconds.
    pub(super) latency: [f64; 4],
    /// The relay's seconds of CPU per million messages, from the start of the load until all is
    /// delivered.
    pub(super) cpu: f64,
    /// The most memory it ever had, in MB.
    pub(super) memory: f64,
    /// Bytes it had written to the disk, per byte of the messages accepted.
    pub(super) written: f64,
    /// Everything accepted was acknowledged in the end.
    pub(super) drained: bool,
    /// Messages that were sent and not accepted.
    pub(super) not_accepted: u64,
    /// The sender kept the rate it was told, if it was told one.
    pub(super) kept_up: bool,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, delivered, latency: [p50, p99, p999, max], .. } = self;
        let Self { cpu, memory, written, .. } = self;
        write!(
            f,
            "accepted {accepted:.0}/s, delivered {delivered:.0}/s, p50 {p50:.1} p99 {p99:.1} \
             p99.9 {p999:.1} max {max:.1} ms, CPU {cpu:.2} s per million, {memory:.0} MB, \
             written {written:.2}{}",
            self.remark()
        )
    }
}

impl Figures {
    /// What must not be overlooked.
    fn remark(&self) -> String {
        let mut all = String::new();
        if !self.drained {
            all.push_str(", NOT ALL DELIVERED");
        }
        if self.not_accepted > 0 {
            all.push_str(&format!(", {} NOT ACCEPTED", self.not_accepted));
        }
        if !self.kept_up {
            all.push_str(", THE SENDER DID NOT KEEP UP");
        }
        all
    }
}

/// All runs, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<(String, String, Vec<Figures>)>,
}

impl Table {
    pub(super) fn add(&mut self, case: &Case, relay: &str, figures: Figures) {
        let case = case.to_string();
        let found = self.rows.iter_mut().find(|(c, r, _)| *c == case && r == relay);
        match found {
            Some((_, _, runs)) => runs.push(figures),
            None => self.rows.push((case, relay.to_owned(), vec![figures])),
        }
    }
}

/// The value that so many hundredths of the sorted ones do not exceed.
pub(super) fn percentile(sorted: &[f64], hundredths: usize) -> f64 {
    let at = (sorted.len() * hundredths).div_ceil(100);
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (Some(value), 1) => *value,
        (Some(value), _) => f64::midpoint(*value, *sorted.get(middle - 1).unwrap_or(value)),
        (None, _) => f64::NAN,
    }
}

/// `1,234 (1,100–1,300)`: the median, and the spread when there is one.
fn spread(runs: &[Figures], digits: usize, value: impl Fn(&Figures) -> f64) -> String {
    let values: Vec<f64> = runs.iter().map(value).collect();
    let middle = number(median(&values), digits);
    if values.len() < 2 {
        return middle;
    }
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{middle} ({}–{})", number(least, digits), number(most, digits))
}

/// With commas, as English has them.
fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.find('.').map_or((text.as_str(), ""), |at| text.split_at(at));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| connections × messages a frame | relay | runs | accepted msg/s | delivered msg/s | \
             answer p50 / p99 / p99.9 / max ms | CPU s per million | peak MB | written per byte |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for (case, relay, runs) in &self.rows {
            let latency: Vec<String> = (0..4)
                .map(|at| {
                    number(median(&runs.iter().map(|r| r.latency[at]).collect::<Vec<_>>()), 1)
                })
                .collect();
            let mut remarks: Vec<String> = runs.iter().map(Figures::remark).collect();
            remarks.retain(|remark| !remark.is_empty());
            remarks.dedup();
            writeln!(
                f,
                "| {case}{} | {relay} | {} | {} | {} | {} | {} | {} | {} |",
                remarks.concat(),
                runs.len(),
                spread(runs, 0, |r| r.accepted),
                spread(runs, 0, |r| r.delivered),
                latency.join(" / "),
                spread(runs, 2, |r| r.cpu),
                spread(runs, 0, |r| r.memory),
                spread(runs, 2, |r| r.written),
            )?;
        }
        self.ratios(f)
    }
}

impl Table {
    /// forebay beside each other relay, in the same case.
    fn ratios(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |runs: &[Figures], value: fn(&Figures) -> f64| {
            median(&runs.iter().map(value).collect::<Vec<_>>())
        };
        let mut head = true;
        for (case, relay, peer) in self.rows.iter().filter(|(_, relay, _)| relay != "forebay") {
            let ours = self.rows.iter().find(|(c, r, _)| c == case && r == "forebay");
            let Some((_, _, ours)) = ours else { continue };
            if std::mem::take(&mut head) {
                writeln!(
                    f,
                    "\n| forebay beside | in | accepted × | delivered × | CPU × | p99 × |"
                )?;
                writeln!(f, "|---|---|---|---|---|---|")?;
            }
            let ratio = |value: fn(&Figures) -> f64| of(ours, value) / of(peer, value);
            writeln!(
                f,
                "| {relay} | {case} | {:.1} | {:.1} | {:.3} | {:.3} |",
                ratio(|r| r.accepted),
                ratio(|r| r.delivered),
                ratio(|r| r.cpu),
                ratio(|r| r.latency[1]),
            )?;
        }
        Ok(())
    }
}
