//! The two books compared.

use std::fmt;

use super::{HecLedger, Outcome, SenderLedger};

/// What became of the messages, by the two ledgers alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Messages sent at least once, accepted or not.
    pub sent_messages: u64,
    /// Messages of frames that were answered 2xx.
    pub accepted_messages: u64,
    /// Messages of frames that were not: dropped, given up, in flight.
    pub not_accepted_messages: u64,
    /// Accepted, and not in the index. **Must be 0** once the relay has drained.
    pub lost: u64,
    /// Accepted and indexed, but no copy of it was acknowledged yet.
    pub unacknowledged: u64,
    /// Copies in the index beyond the first of each message sent.
    pub duplicates: u64,
    /// Indexed though the sender was never told 2xx: it was stored, and the answer was lost or
    /// too late. No fault.
    pub not_accepted_but_indexed: u64,
    /// L10 lines of the sender that were indexed, each copy counted.
    pub loss_reports_indexed: u64,
    /// Copies in the index of texts that the sender never sent: altered, cut or invented.
    /// **Must be 0.**
    pub unexpected: u64,
    /// Neither ledger ran full, so that the figures above cover everything.
    pub complete: bool,
}

impl Audit {
    /// Nothing lost, nothing invented, and the ledgers cover everything.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.lost == 0 && self.unexpected == 0 && self.complete
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sent {
    Accepted,
    NotAccepted,
    Report,
}

/// Compares what was sent with what was indexed. Sorts both: about a second for ten million
/// messages. To be called when the sender has stopped and the HEC is quiet, or the figures belong
/// to different moments.
#[must_use]
pub fn audit(sender: &SenderLedger, hec: &HecLedger) -> Audit {
    let mut sent = Vec::new();
    sender.for_each(|frame| {
        let class = match frame.outcome {
            Outcome::Accepted => Sent::Accepted,
            Outcome::Dropped4xx(_) | Outcome::GaveUp | Outcome::InFlight => Sent::NotAccepted,
        };
        sent.extend(frame.hashes.iter().map(|hash| (*hash, class)));
    });
    sent.extend(sender.reports().into_iter().map(|hash| (hash, Sent::Report)));
    sent.sort_unstable();

    let mut indexed = Vec::new();
    hec.for_each(|batch| {
        if batch.indexed {
            indexed.extend(batch.hashes.iter().map(|hash| (*hash, batch.acknowledged)));
        }
    });
    indexed.sort_unstable();

    let mut result =
        Audit { complete: sender.totals().complete && hec.totals().complete, ..Audit::default() };
    let mut copies = indexed.as_slice();
    for group in sent.chunk_by(|a, b| a.0 == b.0) {
        let Some(&(hash, class)) = group.first() else { continue };
        let skipped = copies.iter().take_while(|(other, _)| *other < hash).count();
        result.unexpected += skipped as u64;
        copies = copies.get(skipped..).unwrap_or(&[]);
        let found = copies.iter().take_while(|(other, _)| *other == hash).count();
        let (mine, rest) = copies.split_at(found);
        copies = rest;
        // Texts are unique by construction. Were one sent twice, two copies would be expected.
        let expected = group.len() as u64;
        let found = mine.len() as u64;
        let acknowledged = mine.iter().filter(|(_, acknowledged)| *acknowledged).count() as u64;
        match class {
            Sent::Report => {
                result.loss_reports_indexed += found;
                continue;
            }
            Sent::Accepted => {
                result.accepted_messages += expected;
                result.lost += expected.saturating_sub(found);
                result.unacknowledged += expected.min(found).saturating_sub(acknowledged);
            }
            Sent::NotAccepted => {
                result.not_accepted_messages += expected;
                result.not_accepted_but_indexed += expected.min(found);
            }
        }
        result.sent_messages += expected;
        result.duplicates += found.saturating_sub(expected);
    }
    result.unexpected += copies.len() as u64;
    result
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("sent", self.sent_messages, ""),
            ("  accepted (2xx)", self.accepted_messages, ""),
            ("    lost", self.lost, if self.lost > 0 { "  <-- accepted, not indexed" } else { "" }),
            ("    not yet acknowledged", self.unacknowledged, ""),
            ("  not accepted", self.not_accepted_messages, ""),
            ("    indexed all the same", self.not_accepted_but_indexed, ""),
            ("duplicates", self.duplicates, ""),
            ("loss reports (L10) indexed", self.loss_reports_indexed, ""),
            (
                "never sent, but indexed",
                self.unexpected,
                if self.unexpected > 0 { "  <-- altered or invented" } else { "" },
            ),
        ];
        for (name, count, remark) in rows {
            writeln!(f, "{name:<28}{count:>14}{remark}")?;
        }
        let verdict = match (self.lost, self.unexpected, self.complete) {
            (0, 0, true) => "nothing lost",
            (0, 0, false) => "a ledger was full: the figures do not cover everything",
            (0, _, _) => "texts were altered or invented",
            _ => "MESSAGES WERE LOST",
        };
        write!(f, "{verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(ledger: &SenderLedger, hashes: &[u64], outcome: Outcome) {
        let key = ledger.begin(1, 0, hashes.to_vec());
        ledger.finish(key, outcome, 1, 1);
    }

    fn index(ledger: &HecLedger, hashes: &[u64], acknowledged: bool) {
        let key = ledger.accept(hashes.to_vec(), Vec::new());
        ledger.index(key);
        if acknowledged {
            ledger.acknowledge(key);
        }
    }

    #[test]
    fn each_figure_by_itself() {
        let (sender, hec) = (SenderLedger::default(), HecLedger::default());
        send(&sender, &[10, 11, 12, 13], Outcome::Accepted);
        send(&sender, &[20, 21], Outcome::GaveUp);
        send(&sender, &[30], Outcome::Dropped4xx(400));
        sender.report(40);
        index(&hec, &[10, 11, 40], true);
        index(&hec, &[11, 12, 20, 20, 99, 5], false);
        hec.accept(vec![13, 13], Vec::new());

        let found = audit(&sender, &hec);
        assert_eq!(
            found,
            Audit {
                sent_messages: 7,
                accepted_messages: 4,
                not_accepted_messages: 3,
                lost: 1,
                unacknowledged: 1,
                duplicates: 2,
                not_accepted_but_indexed: 1,
                loss_reports_indexed: 1,
                unexpected: 2,
                complete: true,
            }
        );
        assert!(!found.is_clean());
        let table = found.to_string();
        assert!(
            table.contains("    lost                                 1  <-- accepted"),
            "{table}"
        );
        assert!(table.ends_with("MESSAGES WERE LOST"), "{table}");
    }

    #[test]
    fn a_perfect_run_is_clean() {
        let (sender, hec) = (SenderLedger::default(), HecLedger::default());
        send(&sender, &[1, 2], Outcome::Accepted);
        index(&hec, &[2, 1], true);
        let found = audit(&sender, &hec);
        assert!(found.is_clean() && found.duplicates == 0 && found.unacknowledged == 0, "{found}");
        assert!(found.to_string().ends_with("nothing lost"));
    }

    #[test]
    fn a_full_ledger_is_never_clean() {
        let (sender, hec) = (SenderLedger::default(), HecLedger::new(0, 0));
        index(&hec, &[1], true);
        assert!(!audit(&sender, &hec).is_clean());
        send(&sender, &[], Outcome::Accepted);
    }
}
