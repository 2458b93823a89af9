//! Dead letters: messages that a destination's collectors refuse, kept until they are sent again
//! and acknowledged, removed by an operator, or too old.
//!
//! Like everything else they are written by the appender, in a synced group. A destination's
//! letters are bounded in bytes; when there is no room the letter is refused, its destination
//! waits, and nothing is dropped. What became of all that were ever written is counted in
//! [`LetterTotals`], in the same write as each change.

use std::collections::BTreeMap;

use rocksdb::WriteBatch;
use tokio::sync::{oneshot, watch};

use crate::record::{DeadLetter, LetterTotals};
use crate::types::{ByteSize, DestinationName, Position, UnixMicros};

use super::append::{PendingLetters, Request};
use super::error::{CommitError, OpenError};
use super::group::commit_gone;
use super::handle::Wal;
use super::keys;
use super::recover::{damaged, db_error, inconsistent, scan};
use super::shared::Shared;
use super::store::Store;

/// A dead letter was not written, or not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    /// The destination's letters may take no more bytes.
    #[error("there is no room for another dead letter")]
    Full,
    /// The log takes nothing more.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// What is known of one destination's dead letters without reading them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LetterBook {
    /// How many there are.
    pub letters: u64,
    /// How many of them are to be sent again.
    pub redriving: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// What became of all that were ever written.
    pub totals: LetterTotals,
}

/// Why a dead letter is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It was sent again and acknowledged.
    Redriven,
    /// An operator wants it gone.
    Purged,
    /// It is too old.
    Expired,
    /// Its destination's checkpoint had not passed the message, which is sent again anyway.
    Withdrawn,
}

/// A change to one letter.
pub(super) enum LetterChange {
    /// Written. Where there is one already, of the same message, it was refused on another way
    /// (by a replay, or after a cursor was moved back): it counts one refusal more, and when an
    /// operator wants it sent again, that still holds.
    Put(Position, Box<DeadLetter>),
    /// Written in the place of the one that was sent again, and refused again, if that is there.
    Replace(Position, Box<DeadLetter>),
    /// Marked to be sent again, if it is there.
    Redrive(Position, UnixMicros),
    /// Removed, if it is there.
    Remove(Position, Removal),
}

/// Counts what is there, and compares it with what should be.
pub(super) fn read_books(
    store: &Store,
) -> Result<BTreeMap<DestinationName, LetterBook>, OpenError> {
    let books = count(store)?;
    for (name, book) in &books {
        let (present, found) = (book.totals.present(), book.letters);
        if present != found {
            let what = format!("there should be {present} dead letters of {name}, and are {found}");
            return Err(inconsistent(store, what));
        }
    }
    Ok(books)
}

/// Counts what is there. Every letter is read, so that damage is found at the start.
pub(super) fn count(store: &Store) -> Result<BTreeMap<DestinationName, LetterBook>, OpenError> {
    let mut books: BTreeMap<DestinationName, LetterBook> = BTreeMap::new();
    scan(store, keys::LETTERS, &[], |key, value| {
        let (name, at) = keys::letter_of(key).ok_or_else(|| {
            inconsistent(store, "a dead letter has a key that is none".to_owned())
        })?;
        let letter = DeadLetter::decode(value)
            .map_err(|error| damaged(store, &format!("the dead letter {at} of {name}"), error))?;
        let book = books.entry(name).or_default();
        book.letters += 1;
        book.bytes += value.len() as u64;
        book.redriving += u64::from(letter.redrive.is_some());
        Ok(())
    })?;
    scan(store, keys::META, keys::LETTER_TOTALS, |key, value| {
        // Behind these keys come those of other things.
        let Some(name) = keys::letter_totals_of(key) else { return Ok(()) };
        let totals = LetterTotals::decode(value).map_err(|error| {
            damaged(store, &format!("the dead letters' totals of {name}"), error)
        })?;
        books.entry(name).or_default().totals = totals;
        Ok(())
    })?;
    Ok(books)
}

/// How many letters were changed.
type Answer = Result<u64, LetterError>;

/// What a group does to dead letters.
#[derive(Default)]
pub(super) struct Staged {
    books: BTreeMap<DestinationName, LetterBook>,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

impl Staged {
    /// Shows what is durable now.
    pub(super) fn publish(&self, shared: &Shared) {
        if !self.books.is_empty() {
            shared.letters().extend(self.books.iter().map(|(name, book)| (name.clone(), *book)));
            shared.letters_changed.send_modify(|count| *count += 1);
        }
    }

    pub(super) fn answer(self) {
        for (sender, answer) in self.answers {
            // Whoever has gone away does not need the answer.
            sender.send(answer).ok();
        }
    }
}

/// Puts the changes into the group's batch.
pub(super) fn stage(
    shared: &Shared,
    batch: &mut WriteBatch,
    pending: Vec<PendingLetters>,
) -> Result<Staged, rocksdb::Error> {
    let mut staged = Staged::default();
    // What earlier changes of this group have made of a key.
    let mut made: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
    let family = shared.store.family(keys::LETTERS);
    for PendingLetters { destination, changes, limit, answer } in pending {
        let known = staged.books.get(&destination).copied();
        let known = known.or_else(|| shared.letters().get(&destination).copied());
        let before = known.unwrap_or_default();
        let mut book = before;
        let mut writes: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        let mut done = 0;
        for change in changes {
            let at = change.at();
            let key = keys::letter(&destination, at);
            let own = writes.iter().rev().find(|(written, _)| *written == key);
            let old = match own.map(|(_, value)| value.clone()).or_else(|| made.get(&key).cloned())
            {
                Some(value) => value,
                None => shared.store.db().get_cf(family, &key)?,
            };
            if let Some(new) = change.apply(old.as_deref(), &mut book) {
                done += 1;
                writes.push((key, new));
            }
        }
        let grown = book.bytes > before.bytes;
        if grown && book.bytes > limit.get() {
            staged.answers.push((answer, Err(LetterError::Full)));
            continue;
        }
        for (key, value) in writes {
            match &value {
                Some(value) => batch.put_cf(family, &key, value),
                None => batch.delete_cf(family, &key),
            }
            made.insert(key, value);
        }
        if done > 0 {
            let meta = shared.store.family(keys::META);
            batch.put_cf(meta, keys::letter_totals(&destination), book.totals.encode());
            staged.books.insert(destination, book);
        }
        staged.answers.push((answer, Ok(done)));
    }
    Ok(staged)
}

impl LetterChange {
    const fn at(&self) -> Position {
        match self {
            Self::Put(at, _)
            | Self::Replace(at, _)
            | Self::Redrive(at, _)
            | Self::Remove(at, _) => *at,
        }
    }

    /// What is to be stored, and what the book says then. None: nothing changes.
    fn apply(self, old: Option<&[u8]>, book: &mut LetterBook) -> Option<Option<Vec<u8>>> {
        let was = old.map(|value| (value, DeadLetter::decode(value).ok()));
        let redriving = |letter: Option<&DeadLetter>| {
            u64::from(letter.is_some_and(|letter| letter.redrive.is_some()))
        };
        let was_redriving = redriving(was.as_ref().and_then(|(_, letter)| letter.as_ref()));
        let old_len = old.map_or(0, |value| value.len() as u64);
        let new = match (self, was) {
            (Self::Put(_, letter), Some((_, Some(old)))) => Some(DeadLetter {
                refusals: old.refusals.saturating_add(letter.refusals),
                redrive: old.redrive,
                ..*letter
            }),
            (Self::Put(_, letter), was) => {
                if was.is_none() {
                    book.letters += 1;
                    book.totals.written += 1;
                }
                Some(*letter)
            }
            (Self::Replace(_, letter), Some(_)) => Some(*letter),
            (Self::Redrive(_, when), Some((_, Some(letter)))) => {
                Some(DeadLetter { redrive: Some(when), ..letter })
            }
            (Self::Remove(_, why), Some(_)) => {
                book.letters = book.letters.saturating_sub(1);
                let count = match why {
                    Removal::Redriven => &mut book.totals.redriven,
                    Removal::Purged => &mut book.totals.purged,
                    Removal::Expired => &mut book.totals.expired,
                    Removal::Withdrawn => &mut book.totals.withdrawn,
                };
                *count += 1;
                None
            }
            // One that is not there, or that cannot be read, is not sent again.
            // One that was purged while it was on its way does not come back.
            (Self::Redrive(..), _) | (Self::Remove(..) | Self::Replace(..), None) => return None,
        };
        let is_redriving = redriving(new.as_ref());
        let value = new.map(|letter| letter.encode());
        let new_len = value.as_ref().map_or(0, |value| value.len() as u64);
        book.bytes = (book.bytes + new_len).saturating_sub(old_len);
        book.redriving = (book.redriving + is_redriving).saturating_sub(was_redriving);
        Some(value)
    }
}

/// The most letters one request to the appender changes.
const CHANGES: usize = 1000;

impl Wal {
    /// Makes a dead letter durable. One that is there already, of the same message, is replaced by
    /// it, but that it keeps its mark to be sent again, and its refusals are added up. `limit` bounds the bytes of the destination's letters.
    ///
    /// # Errors
    /// When there is no room, or the log takes nothing more.
    pub async fn bury(
        &self,
        destination: &DestinationName,
        at: Position,
        letter: DeadLetter,
        limit: ByteSize,
    ) -> Result<(), LetterError> {
        let change = LetterChange::Put(at, Box::new(letter));
        self.change_letters(destination, vec![change], limit).await.map(|_| ())
    }

    /// Makes a dead letter durable that was sent again and refused again: it takes the place of what
    /// there is, as it is. One that is not there any more stays gone.
    ///
    /// There is always room for it: were there none for an answer that is longer than the one before,
    /// those behind it, which are acknowledged, could not go, and no room would ever come. All that
    /// can grow is that answer, of 200 characters, and the collector's URL.
    ///
    /// # Errors
    /// When the log takes nothing more.
    pub async fn bury_again(
        &self,
        destination: &DestinationName,
        at: Position,
        letter: DeadLetter,
    ) -> Result<(), LetterError> {
        let change = LetterChange::Replace(at, Box::new(letter));
        self.change_letters(destination, vec![change], UNBOUNDED).await.map(|_| ())
    }

    /// Marks dead letters to be sent again. Their destination does so while it runs, also after a
    /// restart, and removes them when they are acknowledged. Returns how many were marked.
    ///
    /// # Errors
    /// When the log takes nothing more.
    pub async fn redrive(
        &self,
        destination: &DestinationName,
        which: &[Position],
        now: UnixMicros,
    ) -> Result<u64, LetterError> {
        let mut marked = 0;
        for some in which.chunks(CHANGES) {
            let changes = some.iter().map(|at| LetterChange::Redrive(*at, now)).collect();
            // What an operator wants sent again must not fail for a mark of a few bytes.
            marked += self.change_letters(destination, changes, UNBOUNDED).await?;
        }
        Ok(marked)
    }

    /// Removes dead letters. Returns how many were there.
    ///
    /// # Errors
    /// When the log takes nothing more.
    pub async fn remove_letters(
        &self,
        destination: &DestinationName,
        which: &[Position],
        why: Removal,
    ) -> Result<u64, LetterError> {
        let mut removed = 0;
        for some in which.chunks(CHANGES) {
            let changes = some.iter().map(|at| LetterChange::Remove(*at, why)).collect();
            removed += self.change_letters(destination, changes, UNBOUNDED).await?;
        }
        Ok(removed)
    }

    async fn change_letters(
        &self,
        destination: &DestinationName,
        changes: Vec<LetterChange>,
        limit: ByteSize,
    ) -> Result<u64, LetterError> {
        let (answer, answered) = oneshot::channel();
        let destination = destination.clone();
        let request = PendingLetters { destination, changes, limit, answer };
        self.send_meta(Request::Letters(request)).await?;
        answered.await.unwrap_or_else(|_| Err(commit_gone(&self.shared).into()))
    }

    /// A destination's dead letters from `from` on, in the order of the log: at most `most`, and
    /// about `bytes` of them. Blocking.
    ///
    /// # Errors
    /// When the store cannot be read, or a letter is damaged.
    pub fn letters(
        &self,
        destination: &DestinationName,
        from: Position,
        most: usize,
        bytes: ByteSize,
    ) -> Result<Vec<(Position, DeadLetter)>, OpenError> {
        let store = &self.shared.store;
        let mut found = Vec::new();
        let mut room = bytes.get();
        let mut rows = store.db().raw_iterator_cf(store.family(keys::LETTERS));
        rows.seek(keys::letter(destination, from));
        while let Some((key, value)) = rows.item() {
            let Some((_, at)) = keys::letter_of(key).filter(|(name, _)| name == destination) else {
                break;
            };
            if found.len() >= most || (room == 0 && !found.is_empty()) {
                break;
            }
            let what = || format!("the dead letter {at} of {destination}");
            let letter =
                DeadLetter::decode(value).map_err(|error| damaged(store, &what(), error))?;
            room = room.saturating_sub(value.len() as u64);
            found.push((at, letter));
            rows.next();
        }
        rows.status().map_err(|error| db_error(store.path(), error))?;
        Ok(found)
    }

    /// One dead letter. Blocking.
    ///
    /// # Errors
    /// When the store cannot be read, or the letter is damaged.
    pub fn letter(
        &self,
        destination: &DestinationName,
        at: Position,
    ) -> Result<Option<DeadLetter>, OpenError> {
        let one = self.letters(destination, at, 1, UNBOUNDED)?;
        Ok(one.into_iter().find(|(found, _)| *found == at).map(|(_, letter)| letter))
    }

    /// What is known of a destination's dead letters.
    #[must_use]
    pub fn letter_book(&self, destination: &DestinationName) -> LetterBook {
        self.shared.letters().get(destination).copied().unwrap_or_default()
    }

    /// Every destination that has, or had, dead letters.
    #[must_use]
    pub fn letter_books(&self) -> Vec<(DestinationName, LetterBook)> {
        self.shared.letters().iter().map(|(name, book)| (name.clone(), *book)).collect()
    }

    /// Moves whenever a dead letter is written, marked or removed.
    #[must_use]
    pub fn letters_changed(&self) -> watch::Receiver<u64> {
        self.shared.letters_changed.subscribe()
    }
}

const UNBOUNDED: ByteSize = ByteSize::bytes(u64::MAX);
