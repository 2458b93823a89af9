//! What the system allows the process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files besides connections: the log's tables, listeners, connections to collectors.
const OTHERS: u64 = 1024;

/// Raises the limit of open files as far as it goes, and says so when that is not far enough for
/// the connections the configuration allows. Most systems start a process with 1,024.
pub(super) fn raise_open_files(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHERS);
    // None: without limit.
    if let Some(allowed) = getrlimit(Resource::Nofile).current
        && allowed < needed
    {
        tracing::warn!(
            allowed,
            needed,
            "fewer files may be open than ingest.max_connections needs; raise LimitNOFILE or \
             ulimit -n, or lower the key"
        );
    }
}
