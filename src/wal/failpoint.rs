//! Places where a test makes the log fail, or looks at the disk as a kill would leave it there.
//! Without the feature `failpoints` they are nothing.

/// A place that a test can hold, or at which it can look at the disk.
#[cfg(feature = "failpoints")]
macro_rules! failpoint {
    ($name:literal) => {
        fail::fail_point!($name)
    };
}

/// A place that a test can hold, or at which it can look at the disk.
#[cfg(not(feature = "failpoints"))]
macro_rules! failpoint {
    ($name:literal) => {};
}

pub(super) use failpoint;

/// Whether a test wants the operation at this place to fail.
#[cfg(feature = "failpoints")]
pub(super) fn fails(name: &str) -> bool {
    fail::fail_point!(name, |_| true);
    false
}

/// Whether a test wants the operation at this place to fail.
#[cfg(not(feature = "failpoints"))]
pub(super) const fn fails(_name: &str) -> bool {
    false
}
