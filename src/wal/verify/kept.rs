//! What is kept beside the log: stretches that were given up, and dead letters.

use std::collections::BTreeMap;

use crate::record::{DeadLetter, LetterTotals};
use crate::types::{DestinationName, Offset, OffsetRange};
use crate::wal::gaps::{Gap, GapCause};
use crate::wal::keys;

use super::{Defect, Part, Run};

impl<P: FnMut(u64, u64), F: FnMut(Defect)> Run<'_, P, F> {
    /// What an operator has given up: it is known, and no defect.
    pub(super) fn gaps(&mut self) {
        // When they cannot be read, whoever looks at all facts tells it.
        let Ok(rows) = self.log.rows(keys::META) else { return };
        for (key, value) in rows.iter().filter(|(key, _)| key.starts_with(keys::GAP)) {
            match Gap::decode(value) {
                Ok(gap) if gap.cause == GapCause::Damage => self.given_up.push(gap),
                Ok(_) => {}
                Err(error) => {
                    let what = format!("{} is damaged: {error}", key.escape_ascii());
                    self.defect(Part::Family(keys::META.to_owned()), what);
                }
            }
        }
        self.given_up.sort_by_key(|gap| gap.range.start);
    }

    /// The given-up stretch that an offset lies in.
    pub(super) fn given_up_at(&self, offset: Offset) -> Option<&Gap> {
        let holds = |gap: &&Gap| gap.range.start <= offset && offset < gap.range.end;
        self.given_up.iter().find(holds)
    }

    /// What of a stretch that cannot be read was not given up.
    pub(super) fn unknown(&mut self, range: OffsetRange) -> Vec<OffsetRange> {
        let (mut at, mut left) = (range.start, Vec::new());
        while at < range.end {
            if let Some(gap) = self.given_up_at(at) {
                let end = gap.range.end.min(range.end);
                self.done.given_up += end.since(at);
                at = end;
                continue;
            }
            let starts = self.given_up.iter().map(|gap| gap.range.start);
            let end = starts.filter(|start| *start > at).min().unwrap_or(range.end);
            let end = end.min(range.end);
            left.push(OffsetRange { start: at, end });
            at = end;
        }
        left
    }

    /// Frames up to here could not be read. Where they were given up, it is known how many
    /// messages there were.
    pub(super) fn go_on_behind(&mut self, end: Offset) {
        let gap = self.given_up.iter().find(|gap| gap.range.end == end);
        self.running = gap.map(Gap::messages_end).into_iter().collect();
    }

    /// Every dead letter, and whether there are as many as their totals say.
    pub(super) fn letters(&mut self) {
        let mut found: BTreeMap<DestinationName, u64> = BTreeMap::new();
        let mut wrong = Vec::new();
        let scanned = self.log.scan(keys::LETTERS, |key, value| {
            let Some((name, at)) = keys::letter_of(key) else {
                let what = format!("the key {} is no dead letter's", key.escape_ascii());
                return wrong.push((Part::Family(keys::LETTERS.to_owned()), what));
            };
            if let Err(error) = DeadLetter::decode(value) {
                wrong.push((Part::DeadLetter(name.to_string(), at), error.to_string()));
            }
            *found.entry(name).or_default() += 1;
        });
        self.done.dead_letters = found.values().sum();
        for (part, what) in wrong {
            self.defect(part, what);
        }
        if let Err(error) = scanned {
            return self.defect(Part::Family(keys::LETTERS.to_owned()), error.to_string());
        }
        // When they cannot be read, whoever looks at all facts tells it.
        let Ok(rows) = self.log.rows(keys::META) else { return };
        for (key, value) in rows {
            let Some(name) = keys::letter_totals_of(&key) else { continue };
            let there = found.remove(&name).unwrap_or_default();
            let part = Part::DeadLetters(name.to_string());
            match LetterTotals::decode(&value).map(LetterTotals::present) {
                Ok(present) if present == there => {}
                Ok(present) => {
                    let what = format!("there should be {present}, and are {there}");
                    self.defect(part, what);
                }
                Err(error) => self.defect(part, format!("their totals are damaged: {error}")),
            }
        }
        for (name, there) in found {
            let what = format!("there should be 0, and are {there}");
            self.defect(Part::DeadLetters(name.to_string()), what);
        }
    }
}
