//! The disk of [`super::disk`], mounted: what the relay writes to, and the switch of its power.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use fuser::{BackgroundSession, Config, Errno, MountOption, OpenAccMode, OpenFlags};
use tempfile::TempDir;

use super::disk::{Cut, Disk};
use super::kernel::Served;

/// What an operation is about, by the names that RocksDB gives its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// RocksDB's write-ahead log.
    Log,
    /// MANIFEST, CURRENT, OPTIONS and their temporary files.
    Manifest,
    /// Table files.
    Table,
    /// Creating, renaming and removing files, and the sync of a directory.
    Names,
    /// Whatever changes the disk.
    Any,
}

impl Class {
    pub(super) const ALL: [Self; 5] =
        [Self::Log, Self::Manifest, Self::Table, Self::Names, Self::Any];

    pub(super) fn of_file(name: Option<&OsStr>) -> Self {
        let name = name.map_or(&b""[..], OsStr::as_bytes);
        if name.ends_with(b".log") {
            Self::Log
        } else if name.ends_with(b".sst") {
            Self::Table
        } else {
            Self::Manifest
        }
    }
}

/// Cuts the power before an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trigger {
    pub(super) class: Class,
    /// Only before a sync: something is written, and nothing of it is certain.
    pub(super) at_sync: bool,
    /// Such operations that still happen.
    pub(super) after: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    /// Nothing happens any more, and nobody hears of it yet.
    Off,
    /// Whoever still asks hears of it.
    Gone,
}

/// The disk and its power.
#[derive(Debug)]
pub(super) struct State {
    pub(super) disk: Disk,
    power: Power,
    trigger: Option<Trigger>,
    /// What the power was cut at.
    cut_at: String,
    pub(super) syncs: u64,
    /// The kernel lets nothing be changed any more, as it does after an error of the disk.
    read_only: bool,
}

/// What the switch and the kernel's side share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk, when there is power. Without, waits until the one who asks may hear of it: a
    /// machine without power answers nothing.
    pub(super) fn powered(&self) -> Result<MutexGuard<'_, State>, Errno> {
        self.powered_state(self.lock())
    }

    fn powered_state<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>, Errno> {
        while state.power == Power::Off {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.power == Power::On { Ok(state) } else { Err(Errno::EIO) }
    }

    /// Whether a file may be opened so.
    pub(super) fn allows(&self, flags: OpenFlags) -> Result<(), Errno> {
        let writes = flags.acc_mode() != OpenAccMode::O_RDONLY;
        if writes && self.lock().read_only { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// The same for an operation that changes something: the power may be cut just before it.
    pub(super) fn change(
        &self,
        what: &'static str,
        class: impl FnOnce(&Disk) -> Class,
    ) -> Result<MutexGuard<'_, State>, Errno> {
        let mut state = self.powered()?;
        if state.read_only {
            return Err(Errno::EROFS);
        }
        if let Some(trigger) = state.trigger {
            let class = class(&state.disk);
            let meant = trigger.class == Class::Any || trigger.class == class;
            if meant && (!trigger.at_sync || what.starts_with("fsync")) {
                match trigger.after.checked_sub(1) {
                    Some(after) => state.trigger = Some(Trigger { after, ..trigger }),
                    None => {
                        state.cut_at = format!("before {what} ({class:?})");
                        state.power = Power::Off;
                        state.trigger = None;
                    }
                }
            }
        }
        self.powered_state(state)
    }
}

/// A mounted disk. Unmounted when dropped; whoever has files open there has to be gone by then.
#[derive(Debug)]
pub(super) struct PowerDisk {
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
    at: TempDir,
}

impl PowerDisk {
    /// A new disk. None, and a loud word, on a machine that mounts no file system for us.
    pub(super) fn new() -> Option<Self> {
        let at = tempfile::Builder::new().prefix("forebay-power-").tempdir().unwrap();
        let shared = shared(Disk::new());
        match mount(&shared, at.path()) {
            Ok(session) => Some(Self { shared, session: Some(session), at }),
            Err(error) => {
                eprintln!(
                    "SKIPPED, NOTHING IS PROVEN: 1 test of power cuts: no file system in user \
                     space can be mounted here (/dev/fuse, as root): {error}"
                );
                None
            }
        }
    }

    /// A directory on it that is not there yet.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.at.path().join("forebay")
    }

    /// Cuts the power when the trigger says so.
    pub(super) fn arm(&self, trigger: Trigger) {
        self.shared.lock().trigger = Some(trigger);
    }

    /// Cuts the power now, if it is still there. From here on nothing is written, and no sync and
    /// no write returns.
    pub(super) fn cut(&self) {
        let mut state = self.shared.lock();
        if state.power == Power::On {
            "between two operations".clone_into(&mut state.cut_at);
            state.power = Power::Off;
        }
        state.trigger = None;
    }

    pub(super) fn is_cut(&self) -> bool {
        self.shared.lock().power == Power::Off
    }

    /// Bytes that are written and not synced, to the page, and names.
    pub(super) fn unsynced(&self) -> (usize, usize) {
        self.shared.lock().disk.unsynced()
    }

    /// What the power was cut at, and what was not synced then.
    pub(super) fn cut_at(&self) -> String {
        let state = self.shared.lock();
        let (bytes, names) = state.disk.unsynced();
        format!("{}, {bytes} bytes and {names} names not synced", state.cut_at)
    }

    /// Lets a process that was killed while it waited for the disk come to its end.
    pub(super) fn let_go(&self) {
        self.shared.lock().power = Power::Gone;
        self.shared.changed.notify_all();
    }

    /// The disk as it was when the power was cut.
    pub(super) fn frozen(&self) -> Disk {
        self.shared.lock().disk.clone()
    }

    /// Power again, with what is left on a disk. Mounts it anew, so that the kernel remembers
    /// nothing of what is gone.
    pub(super) fn restore(&mut self, frozen: &Disk, cut: Cut, chance: &mut Rng) {
        self.unmount().unwrap();
        self.shared = shared(frozen.after(cut, chance));
        self.session = Some(mount(&self.shared, self.at.path()).unwrap());
    }

    fn unmount(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        match session.umount_and_join() {
            // How the session may hear of its end.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
            ended => ended,
        }
    }

    /// From now on, syncs are answered and not done.
    pub(super) fn lie(&self) {
        self.shared.lock().disk.lie();
    }

    /// Whether nothing can be changed, from now on. Files that are open stay open.
    pub(super) fn read_only(&self, read_only: bool) {
        self.shared.lock().read_only = read_only;
    }

    /// How many syncs of files there were since the disk was mounted.
    pub(super) fn syncs(&self) -> u64 {
        self.shared.lock().syncs
    }
}

impl Drop for PowerDisk {
    fn drop(&mut self) {
        // Nobody may wait for it when it is unmounted, or both wait for ever.
        self.let_go();
        if let Err(error) = self.unmount() {
            eprintln!("{} stays mounted: {error}", self.at.path().display());
        }
    }
}

fn shared(disk: Disk) -> Arc<Shared> {
    let cut_at = "not cut".to_owned();
    let state = State { disk, power: Power::On, trigger: None, cut_at, syncs: 0, read_only: false };
    Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() })
}

fn mount(shared: &Arc<Shared>, at: &Path) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("forebay-power".to_owned())];
    fuser::spawn_mount(Served(Arc::clone(shared)), at, &config)
}
