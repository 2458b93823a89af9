//! The checkpoints, and whether their books balance (I8).

use crate::record::Checkpoint;
use crate::types::{DestinationName, Offset, Position};
use crate::wal::keys;

use super::{Defect, Part, Run};

impl<P: FnMut(u64, u64), F: FnMut(Defect)> Run<'_, P, F> {
    pub(super) fn checkpoints(&mut self) -> Vec<(DestinationName, Checkpoint)> {
        let rows = match self.log.rows(keys::CURSORS) {
            Ok(rows) => rows,
            Err(error) => {
                self.defect(Part::Family(keys::CURSORS.to_owned()), error.to_string());
                return Vec::new();
            }
        };
        let mut all = Vec::new();
        for (key, value) in rows {
            self.done.checkpoints += 1;
            let text = String::from_utf8_lossy(&key).into_owned();
            match (DestinationName::new(&text), Checkpoint::decode(&value)) {
                (Ok(name), Ok(checkpoint)) => {
                    self.wanted.insert(checkpoint.position.offset, None);
                    all.push((name, checkpoint));
                }
                (Ok(name), Err(error)) => {
                    self.defect(Part::Checkpoint(name.to_string()), error.to_string());
                }
                (Err(_), _) => {
                    self.defect(Part::Checkpoint(text), "its key is no destination's name");
                }
            }
        }
        all
    }

    pub(super) fn balance(
        &mut self,
        all: &[(DestinationName, Checkpoint)],
        first: Offset,
        end: Offset,
    ) {
        for (name, checkpoint) in all {
            let Position { offset, index } = checkpoint.position;
            let part = || Part::Checkpoint(name.to_string());
            if offset < first || offset > end {
                let what = format!("is at {offset}, the log has [{first}, {end})");
                self.defect(part(), what);
                continue;
            }
            let (before, messages) = if offset == end {
                // Not when several numbers are possible.
                (self.running.first().copied().filter(|_| self.running.len() == 1), 0)
            } else {
                let found = self.wanted.get(&offset).copied().flatten();
                // A frame that cannot be read has been told.
                let Some((before, messages)) = found else { continue };
                (Some(before), messages)
            };
            if index > 0 && index >= messages {
                let what =
                    format!("is at message {index} of offset {offset}, which has {messages}");
                self.defect(part(), what);
                continue;
            }
            let settled = checkpoint.origin_messages.wrapping_add(checkpoint.totals.settled());
            if let Some(before) = before
                && before + u64::from(index) != settled
            {
                let what = format!(
                    "its books do not balance: {} messages before its origin and {} settled, but \
                     {} before its position",
                    checkpoint.origin_messages,
                    checkpoint.totals.settled(),
                    before + u64::from(index)
                );
                self.defect(part(), what);
            }
        }
    }
}
