//! How the process ends, as its exit code says it.

use std::process::ExitCode;

/// Exit codes, after sysexits.h where that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or stopped as told.
    Stopped,
    /// 1: a command ran and its answer is no: the demo's books do not balance.
    No,
    /// 64: wrong arguments.
    Usage,
    /// 70: a bug.
    Bug,
    /// 74: the log cannot be opened, or a write to it failed or hangs. The next start recovers.
    Storage,
    /// 75: stopped as told, but the deadline passed: what was in flight is sent again.
    DeadlinePassed,
    /// 78: wrong configuration.
    Configuration,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::No => 1,
            Self::Usage => 64,
            Self::Bug => 70,
            Self::Storage => 74,
            Self::DeadlinePassed => 75,
            Self::Configuration => 78,
        }
    }

    /// Of two ends the one that has to be told: a log that failed before a bug, a bug before a
    /// deadline.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }

    const fn weight(self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::No => 1,
            Self::DeadlinePassed => 2,
            Self::Usage | Self::Configuration => 3,
            Self::Bug => 4,
            Self::Storage => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
