//! What the kernel asks of a mounted disk, and what it is answered.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::disk::{Disk, Facts, Ino, PAGE, ROOT, Refusal};
use super::mount::{Class, Shared};

/// What the kernel may remember: all of it, since nobody else changes the disk while it is mounted.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Of the file system.
const BLOCK: u32 = 4096;

/// What the kernel talks to.
#[derive(Debug)]
pub(super) struct Served(pub(super) Arc<Shared>);

const fn errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::NotFound => Errno::ENOENT,
        Refusal::NotADirectory => Errno::ENOTDIR,
        Refusal::IsADirectory => Errno::EISDIR,
        Refusal::NotEmpty => Errno::ENOTEMPTY,
        Refusal::Exists => Errno::EEXIST,
    }
}

fn attributes(facts: Facts) -> FileAttr {
    FileAttr {
        ino: INodeNo(facts.ino),
        size: facts.length,
        blocks: facts.length.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if facts.directory { FileType::Directory } else { FileType::RegularFile },
        perm: facts.mode,
        nlink: 1,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap()
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

const NO_HANDLE: FileHandle = FileHandle(0);
/// What was read stays true: all writes go through the kernel that remembers it.
const KEPT: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE;

impl Served {
    fn of_file(ino: INodeNo) -> impl FnOnce(&Disk) -> Class {
        move |disk| Class::of_file(disk.name(ino.0))
    }

    fn make(&self, parent: INodeNo, name: &OsStr, mode: u32, dir: bool) -> Result<Facts, Errno> {
        let what = if dir { "mkdir" } else { "create" };
        let mut state = self.0.change(what, |_| Class::Names)?;
        state.disk.make(parent.0, name, permissions(mode), dir).map_err(errno)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self
            .0
            .change("unlink", |_| Class::Names)
            .and_then(|mut state| state.disk.remove(parent.0, name).map_err(errno));
        done(removed, reply);
    }
}

fn done(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.0.powered().and_then(|state| state.disk.find(parent.0, name).map_err(errno)) {
            Ok(found) => reply.entry(&FOR_EVER, &attributes(found), Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.powered().and_then(|state| state.disk.facts(ino.0).map_err(errno)) {
            Ok(found) => reply.attr(&FOR_EVER, &attributes(found)),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        length: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = self.0.change("truncate", Self::of_file(ino)).and_then(|mut state| {
            if let Some(mode) = mode {
                state.disk.set_mode(ino.0, permissions(mode));
            }
            if let Some(length) = length {
                state.disk.set_length(ino.0, size(length)).map_err(errno)?;
            }
            state.disk.facts(ino.0).map_err(errno)
        });
        match changed {
            Ok(found) => reply.attr(&FOR_EVER, &attributes(found)),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        match self.make(parent, name, mode, true) {
            Ok(made) => reply.entry(&FOR_EVER, &attributes(made), Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let made = self.make(parent, name, mode, false).and_then(|made| {
            self.0.powered()?.disk.opened(made.ino).map_err(errno)?;
            Ok(made)
        });
        match made {
            Ok(made) => {
                reply.created(&FOR_EVER, &attributes(made), Generation(0), NO_HANDLE, KEPT);
            }
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.0.change("rename", |_| Class::Names).and_then(|mut state| {
            state.disk.rename((parent.0, name), (newparent.0, newname)).map_err(errno)
        });
        done(renamed, reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let open = || self.0.powered()?.disk.opened(ino.0).map_err(errno);
        match self.0.allows(flags).and_then(|()| open()) {
            Ok(()) => reply.opened(NO_HANDLE, KEPT),
            Err(error) => reply.error(error),
        }
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.0.lock().disk.closed(ino.0);
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = match self.0.powered() {
            Ok(state) => state,
            Err(error) => return reply.error(error),
        };
        match state.disk.read(ino.0, size(offset), length as usize) {
            Ok(bytes) => reply.data(bytes),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self
            .0
            .change("write", Self::of_file(ino))
            .and_then(|mut state| state.disk.write(ino.0, size(offset), data).map_err(errno));
        match written {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap()),
            Err(error) => reply.error(error),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        // FALLOC_FL_KEEP_SIZE reserves space, of which there is enough.
        let end = size(offset.saturating_add(length));
        let allocated = self.0.change("fallocate", Self::of_file(ino)).and_then(|mut state| {
            let facts = state.disk.facts(ino.0).map_err(errno)?;
            match mode {
                1 => Ok(()),
                0 if end as u64 <= facts.length => Ok(()),
                0 => state.disk.set_length(ino.0, end).map_err(errno),
                _ => Err(Errno::EOPNOTSUPP),
            }
        });
        done(allocated, reply);
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let synced = self.0.change("fsync", Self::of_file(ino)).and_then(|mut state| {
            state.syncs += 1;
            state.disk.sync(ino.0).map_err(errno)
        });
        done(synced, reply);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let synced = self.0.change("fsync of a directory", |_| Class::Names);
        done(synced.map(|mut state| state.disk.sync_names()), reply);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let all = match self.0.powered().and_then(|state| state.disk.list(ino.0).map_err(errno)) {
            Ok(all) => all,
            Err(error) => return reply.error(error),
        };
        let dots = [".", ".."].map(|name| (name.into(), ino.0, FileType::Directory));
        let named = all.into_iter().map(|(name, facts)| (name, facts.ino, attributes(facts).kind));
        let entries: Vec<(OsString, Ino, FileType)> = dots.into_iter().chain(named).collect();
        for (number, (name, ino, kind)) in entries.into_iter().enumerate().skip(size(offset)) {
            if reply.add(INodeNo(ino), number as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        // 64 GiB, all of them free: space is another test's subject.
        let blocks = (64 << 30) / u64::from(BLOCK);
        reply.statfs(blocks, blocks, blocks, 1 << 20, 1 << 20, BLOCK, 255, BLOCK);
    }
}

#[test]
fn root_and_blocks_are_the_kernels() {
    assert_eq!((INodeNo(ROOT), BLOCK as usize), (INodeNo::ROOT, PAGE));
}
