//! A disk that knows what it was asked to sync, and forgets the rest when the power goes.
//!
//! The model, without I/O:
//!
//! - **Data.** Bytes of a file are durable after an fsync or fdatasync of that file, and so is its
//!   length. Until then they are in pages of 4 KiB, and any subset of the pages that were written
//!   since may be on the platter when the power goes: a page is all there or not at all, and a
//!   page that is not there reads as it was at the last sync, or as zeros where the file had no
//!   such page. The length covers the last page that is there, and may be ahead of it.
//! - **Names.** Creations, renames and removals go into a journal, in order, each as a whole. An
//!   fsync of a directory makes all of the journal durable; an fsync of a file makes nothing of it
//!   durable, which is all that POSIX promises (ext4 would also write the file's creation). Until
//!   then any prefix of the journal may be on the platter, as if it had been written by itself.
//!
//! A cut that is [`Cut::Plain`] keeps nothing that was not synced. [`Cut::Random`] keeps a random
//! choice of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};

use fastrand::Rng;

pub(super) type Ino = u64;

/// The root directory.
pub(super) const ROOT: Ino = 1;

pub(super) const PAGE: usize = 4096;

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing.
    Plain,
    /// A random choice of its pages, and a random prefix of its names.
    Random,
}

/// Why an operation is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NotFound,
    NotADirectory,
    IsADirectory,
    NotEmpty,
    Exists,
}

#[derive(Clone, Debug, Default)]
struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Pages written since the last sync.
    dirty: BTreeSet<usize>,
    /// The file was cut since the last sync.
    cut: bool,
}

#[derive(Clone, Debug)]
enum Content {
    File(File),
    Directory,
}

#[derive(Clone, Debug)]
struct Inode {
    content: Content,
    mode: u16,
    opened: u32,
}

/// What the kernel asks of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) ino: Ino,
    pub(super) directory: bool,
    pub(super) length: u64,
    pub(super) mode: u16,
}

type Directory = BTreeMap<OsString, Ino>;

/// Every directory by its number.
type Tree = BTreeMap<Ino, Directory>;

/// One entry of the journal of names.
#[derive(Clone, Debug)]
enum Change {
    Made { parent: Ino, name: OsString, ino: Ino, directory: bool },
    Removed { parent: Ino, name: OsString },
    Renamed { from: (Ino, OsString), to: (Ino, OsString) },
}

impl Change {
    fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Made { parent, name, ino, directory } => {
                tree.entry(*parent).or_default().insert(name.clone(), *ino);
                if *directory {
                    tree.entry(*ino).or_default();
                }
            }
            Self::Removed { parent, name } => {
                if let Some(ino) = tree.entry(*parent).or_default().remove(name) {
                    tree.remove(&ino);
                }
            }
            Self::Renamed { from, to } => {
                if let Some(ino) = tree.entry(from.0).or_default().remove(&from.1) {
                    tree.entry(to.0).or_default().insert(to.1.clone(), ino);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Disk {
    inodes: BTreeMap<Ino, Inode>,
    live: Tree,
    durable: Tree,
    journal: VecDeque<Change>,
    next: Ino,
    /// Syncs are answered and not done.
    lies: bool,
}

impl Disk {
    pub(super) fn new() -> Self {
        let root = Inode { content: Content::Directory, mode: 0o755, opened: 0 };
        let tree = Tree::from([(ROOT, Directory::new())]);
        Self {
            inodes: BTreeMap::from([(ROOT, root)]),
            live: tree.clone(),
            durable: tree,
            journal: VecDeque::new(),
            next: ROOT + 1,
            lies: false,
        }
    }

    /// From now on, syncs are answered and not done.
    pub(super) const fn lie(&mut self) {
        self.lies = true;
    }

    /// What a disk is after the power is back. It is honest again.
    pub(super) fn after(&self, cut: Cut, chance: &mut Rng) -> Self {
        let mut tree = self.durable.clone();
        let kept = match cut {
            Cut::Plain => 0,
            Cut::Random => chance.usize(..=self.journal.len()),
        };
        for change in self.journal.iter().take(kept) {
            change.apply(&mut tree);
        }
        let mut inodes = BTreeMap::new();
        for ino in tree.values().flat_map(Directory::values).chain([&ROOT]) {
            let Some(inode) = self.inodes.get(ino) else { continue };
            let content = match &inode.content {
                Content::Directory => Content::Directory,
                Content::File(file) => {
                    let bytes = match cut {
                        Cut::Plain => file.durable.clone(),
                        Cut::Random => file.torn(chance),
                    };
                    Content::File(File { live: bytes.clone(), durable: bytes, ..File::default() })
                }
            };
            inodes.insert(*ino, Inode { content, mode: inode.mode, opened: 0 });
        }
        Self {
            inodes,
            live: tree.clone(),
            durable: tree,
            journal: VecDeque::new(),
            next: self.next,
            lies: false,
        }
    }

    pub(super) fn facts(&self, ino: Ino) -> Result<Facts, Refusal> {
        let inode = self.inodes.get(&ino).ok_or(Refusal::NotFound)?;
        let (directory, length) = match &inode.content {
            Content::Directory => (true, 0),
            Content::File(file) => (false, file.live.len() as u64),
        };
        Ok(Facts { ino, directory, length, mode: inode.mode })
    }

    pub(super) fn find(&self, parent: Ino, name: &OsStr) -> Result<Facts, Refusal> {
        let directory = self.live.get(&parent).ok_or(Refusal::NotADirectory)?;
        self.facts(*directory.get(name).ok_or(Refusal::NotFound)?)
    }

    pub(super) fn list(&self, ino: Ino) -> Result<Vec<(OsString, Facts)>, Refusal> {
        let directory = self.live.get(&ino).ok_or(Refusal::NotADirectory)?;
        directory.iter().map(|(name, ino)| Ok((name.clone(), self.facts(*ino)?))).collect()
    }

    /// The name a file has now, for those who want to know what kind of file it is.
    pub(super) fn name(&self, ino: Ino) -> Option<&OsStr> {
        let mut all = self.live.values().flatten();
        all.find(|(_, found)| **found == ino).map(|(name, _)| name.as_os_str())
    }

    pub(super) fn make(
        &mut self,
        parent: Ino,
        name: &OsStr,
        mode: u16,
        directory: bool,
    ) -> Result<Facts, Refusal> {
        if self.live.get(&parent).ok_or(Refusal::NotADirectory)?.contains_key(name) {
            return Err(Refusal::Exists);
        }
        let ino = self.next;
        self.next += 1;
        let content = if directory { Content::Directory } else { Content::File(File::default()) };
        self.inodes.insert(ino, Inode { content, mode, opened: 0 });
        self.change(Change::Made { parent, name: name.to_owned(), ino, directory });
        self.facts(ino)
    }

    pub(super) fn remove(&mut self, parent: Ino, name: &OsStr) -> Result<(), Refusal> {
        let found = self.find(parent, name)?;
        if self.live.get(&found.ino).is_some_and(|directory| !directory.is_empty()) {
            return Err(Refusal::NotEmpty);
        }
        self.change(Change::Removed { parent, name: name.to_owned() });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr)) -> Result<(), Refusal> {
        self.find(from.0, from.1)?;
        let (from, to) = ((from.0, from.1.to_owned()), (to.0, to.1.to_owned()));
        self.change(Change::Renamed { from, to });
        Ok(())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.journal.push_back(change);
    }

    pub(super) fn opened(&mut self, ino: Ino) -> Result<(), Refusal> {
        self.inodes.get_mut(&ino).ok_or(Refusal::NotFound)?.opened += 1;
        Ok(())
    }

    pub(super) fn closed(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.opened = inode.opened.saturating_sub(1);
        }
    }

    pub(super) fn set_mode(&mut self, ino: Ino, mode: u16) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.mode = mode;
        }
    }

    fn file(&mut self, ino: Ino) -> Result<&mut File, Refusal> {
        match self.inodes.get_mut(&ino).map(|inode| &mut inode.content) {
            Some(Content::File(file)) => Ok(file),
            Some(Content::Directory) => Err(Refusal::IsADirectory),
            None => Err(Refusal::NotFound),
        }
    }

    pub(super) fn read(&self, ino: Ino, from: usize, length: usize) -> Result<&[u8], Refusal> {
        match self.inodes.get(&ino).map(|inode| &inode.content) {
            Some(Content::File(file)) => {
                let until = from.saturating_add(length).min(file.live.len());
                Ok(file.live.get(from..until).unwrap_or_default())
            }
            Some(Content::Directory) => Err(Refusal::IsADirectory),
            None => Err(Refusal::NotFound),
        }
    }

    pub(super) fn write(&mut self, ino: Ino, at: usize, bytes: &[u8]) -> Result<(), Refusal> {
        self.file(ino)?.write(at, bytes);
        Ok(())
    }

    pub(super) fn set_length(&mut self, ino: Ino, length: usize) -> Result<(), Refusal> {
        self.file(ino)?.set_length(length);
        Ok(())
    }

    /// fsync and fdatasync of a file.
    pub(super) fn sync(&mut self, ino: Ino) -> Result<(), Refusal> {
        let lies = self.lies;
        let file = self.file(ino)?;
        if !lies {
            file.sync();
        }
        Ok(())
    }

    /// fsync of a directory.
    pub(super) fn sync_names(&mut self) {
        if self.lies || self.journal.is_empty() {
            return;
        }
        for change in std::mem::take(&mut self.journal) {
            change.apply(&mut self.durable);
        }
        // What has no name any more, and nobody has open, is gone for good.
        let named: BTreeSet<Ino> =
            self.durable.values().flat_map(Directory::values).copied().collect();
        self.inodes.retain(|ino, inode| *ino == ROOT || inode.opened > 0 || named.contains(ino));
    }

    /// Bytes written and not synced, to the page, and names that are not synced. Without RocksDB's
    /// own log lines, in `LOG`: nobody ever syncs them.
    pub(super) fn unsynced(&self) -> (usize, usize) {
        let lines = |name: &OsStr| name == "LOG";
        let pages = |(ino, inode): (&Ino, &Inode)| match &inode.content {
            Content::File(file) if !self.name(*ino).is_some_and(lines) => file.dirty.len(),
            Content::File(_) | Content::Directory => 0,
        };
        (self.inodes.iter().map(pages).sum::<usize>() * PAGE, self.journal.len())
    }
}

impl File {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let Some(last) = bytes.len().checked_sub(1) else { return };
        // A write behind the end fills what lies between with zeros: those pages change, too.
        let first = at.min(self.live.len());
        if self.live.len() < at + bytes.len() {
            self.live.resize(at + bytes.len(), 0);
        }
        self.live[at..at + bytes.len()].copy_from_slice(bytes);
        self.dirty.extend(first / PAGE..=(at + last) / PAGE);
    }

    fn set_length(&mut self, length: usize) {
        if length < self.live.len() {
            self.live.truncate(length);
            self.cut = true;
            self.dirty.split_off(&length.div_ceil(PAGE));
        } else if length > self.live.len() {
            self.dirty.extend(self.live.len() / PAGE..=(length - 1) / PAGE);
            self.live.resize(length, 0);
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        if self.cut {
            // What was cut and written again is somewhere else now.
            self.durable.clone_from(&self.live);
            self.cut = false;
        }
        for page in std::mem::take(&mut self.dirty) {
            copy_page(&self.live, &mut self.durable, page);
        }
    }

    /// What the platter may hold.
    fn torn(&self, chance: &mut Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        if self.cut && chance.bool() {
            bytes.truncate(self.live.len());
        }
        // Sometimes all of it, sometimes none, mostly something between.
        let share = chance.choice([0.0, 0.2, 0.5, 0.8, 1.0]).unwrap_or(0.5);
        for page in self.dirty.iter().copied().filter(|_| chance.f64() < share) {
            let end = ((page + 1) * PAGE).min(self.live.len());
            bytes.resize(bytes.len().max(end), 0);
            copy_page(&self.live, &mut bytes, page);
        }
        // The length may have been written, and the last pages not.
        if bytes.len() < self.live.len() && chance.u8(..4) == 0 {
            bytes.resize(self.live.len(), 0);
        }
        bytes
    }
}

/// Copies one page, as far as the file goes.
fn copy_page(from: &[u8], to: &mut [u8], page: usize) {
    let end = ((page + 1) * PAGE).min(from.len());
    if let (Some(from), Some(to)) = (from.get(page * PAGE..end), to.get_mut(page * PAGE..end)) {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &mut Disk, name: &str) -> Ino {
        disk.make(ROOT, OsStr::new(name), 0o600, false).unwrap().ino
    }

    fn after(disk: &Disk, cut: Cut, seed: u64) -> Disk {
        disk.after(cut, &mut Rng::with_seed(seed))
    }

    fn content(disk: &Disk, name: &str) -> Option<Vec<u8>> {
        let found = disk.find(ROOT, OsStr::new(name)).ok()?;
        Some(disk.read(found.ino, 0, usize::MAX).unwrap().to_vec())
    }

    #[test]
    fn what_is_synced_stays_and_what_is_not_goes() {
        let mut disk = Disk::new();
        let a = file(&mut disk, "a");
        disk.write(a, 0, b"synced").unwrap();
        disk.sync(a).unwrap();
        assert_eq!(content(&after(&disk, Cut::Plain, 0), "a"), None, "its name was not synced");
        disk.sync_names();
        disk.write(a, 6, b", and not").unwrap();
        let b = file(&mut disk, "b");
        disk.sync(b).unwrap();
        disk.rename((ROOT, OsStr::new("a")), (ROOT, OsStr::new("c"))).unwrap();
        assert_eq!(content(&disk, "c").unwrap(), b"synced, and not");

        let left = after(&disk, Cut::Plain, 0);
        assert_eq!(content(&left, "a").unwrap(), b"synced");
        assert_eq!((content(&left, "b"), content(&left, "c")), (None, None));

        disk.sync_names();
        disk.sync(a).unwrap();
        disk.remove(ROOT, OsStr::new("c")).unwrap();
        let left = after(&disk, Cut::Plain, 0);
        assert_eq!(content(&left, "c").unwrap(), b"synced, and not", "the removal was not synced");
        assert_eq!((content(&left, "a"), content(&left, "b")), (None, Some(Vec::new())));
    }

    #[test]
    fn a_cut_of_a_file_is_as_good_as_its_sync() {
        let mut disk = Disk::new();
        let a = file(&mut disk, "a");
        disk.sync_names();
        disk.write(a, 0, &[1; 3 * PAGE]).unwrap();
        disk.sync(a).unwrap();
        disk.set_length(a, 10).unwrap();
        assert_eq!(content(&after(&disk, Cut::Plain, 0), "a").unwrap().len(), 3 * PAGE);
        disk.write(a, PAGE, &[2; 5]).unwrap();
        disk.sync(a).unwrap();
        let left = content(&after(&disk, Cut::Plain, 0), "a").unwrap();
        let expected = [vec![1; 10], vec![0; PAGE - 10], vec![2; 5]].concat();
        assert_eq!(left, expected, "what was cut off does not come back");
    }

    #[test]
    fn random_cuts_keep_every_subset_of_pages_and_every_prefix_of_names() {
        let mut disk = Disk::new();
        let a = file(&mut disk, "a");
        disk.sync_names();
        disk.write(a, 0, &[1; PAGE + 100]).unwrap();
        disk.sync(a).unwrap();
        // Pages 1 (partly old), 2 and 3.
        disk.write(a, PAGE + 100, &[2; 2 * PAGE]).unwrap();
        file(&mut disk, "b");
        disk.remove(ROOT, OsStr::new("a")).unwrap();
        let (mut pages, mut names) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..300 {
            let left = after(&disk, Cut::Random, seed);
            let (a, b) = (content(&left, "a"), content(&left, "b"));
            names.insert((a.is_some(), b.is_some()));
            let Some(bytes) = a else { continue };
            assert_eq!(bytes[..PAGE + 100], [1; PAGE + 100], "what was synced stays");
            let there = |at: usize| match bytes.get(at) {
                Some(2) => true,
                Some(0) | None => false,
                other => panic!("{other:?} was never written"),
            };
            let found = [PAGE + 100, 2 * PAGE, 3 * PAGE].map(there);
            let ends = [2 * PAGE - 1, 3 * PAGE - 1, 3 * PAGE + 99].map(there);
            assert_eq!(found, ends, "a page is there or it is not");
            pages.insert(found);
        }
        assert_eq!(pages.len(), 8, "{pages:?}");
        let expected = BTreeSet::from([(true, false), (true, true), (false, true)]);
        assert_eq!(names, expected, "removed only when the other was made");
        assert_eq!(disk.unsynced(), (3 * PAGE, 2));
    }

    #[test]
    fn a_disk_that_lies_keeps_nothing() {
        let mut disk = Disk::new();
        let a = file(&mut disk, "a");
        disk.sync_names();
        disk.lie();
        disk.write(a, 0, b"gone").unwrap();
        disk.sync(a).unwrap();
        file(&mut disk, "b");
        disk.sync_names();
        let left = after(&disk, Cut::Plain, 0);
        assert_eq!((content(&left, "a"), content(&left, "b")), (Some(Vec::new()), None));
    }
}
