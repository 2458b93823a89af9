//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use forebay::types::ByteSize;

/// Measures forebay, and other relays beside it.
#[derive(Debug, Parser)]
#[command(name = "relay", max_term_width = 100)]
pub(super) struct Options {
    /// A few cases, for a first impression in less than three minutes.
    #[arg(long)]
    pub(super) quick: bool,
    /// Instead of the usual cases: series that show how cost grows with one thing at a time.
    #[arg(long, conflicts_with = "quick")]
    pub(super) scale: bool,
    /// How often each case is measured; without, 1 with --quick and 5 otherwise.
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// How long a case is loaded; without, 4 seconds with --quick and 10 otherwise.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Another relay, as a shell command that is started in an empty directory. It has to listen
    /// at --ingest, and to post to the HEC at --hec. The environment has FOREBAY_BENCH_INGEST,
    /// FOREBAY_BENCH_HEC and FOREBAY_BENCH_TOKEN. May be repeated.
    #[arg(long, value_name = "COMMAND")]
    peer: Vec<String>,
    /// Where the drain of the other relays is.
    #[arg(long, default_value = "/logs", value_name = "PATH")]
    pub(super) peer_path: String,
    /// Only the case with this name, such as "8 × 100"; without such a case, those whose name contains
    /// this, such as "gzip".
    #[arg(long, value_name = "TEXT")]
    pub(super) only: Option<String>,
    /// How much is in the log before a case with a backlog begins to deliver.
    #[arg(long, value_parser = size, value_name = "SIZE")]
    backlog: Option<ByteSize>,
    /// Instead of all that: builds a backlog of this size, kills the relay, starts it again,
    /// drains the backlog, and waits until its space is free.
    #[arg(long, value_parser = size, value_name = "SIZE")]
    pub(super) soak: Option<ByteSize>,
    /// Instead of all that: how long a single frame takes to its acknowledgement, one at a time.
    #[arg(long, conflicts_with = "soak")]
    pub(super) light: bool,
    /// Where relays listen.
    #[arg(long, default_value = "127.0.0.1:18080", value_name = "ADDRESS")]
    pub(super) ingest: SocketAddr,
    /// Where the HEC listens.
    #[arg(long, default_value = "127.0.0.1:18088", value_name = "ADDRESS")]
    pub(super) hec: SocketAddr,
    /// Where forebay's admin listens.
    #[arg(long, default_value = "127.0.0.1:19600", value_name = "ADDRESS")]
    pub(super) admin: SocketAddr,
    /// Where the logs are; it has to be the disk in question. Without, the system's directory for
    /// temporary files.
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    pub(super) role: Option<Role>,
}

/// What this program is when it starts itself.
#[derive(Debug, Subcommand)]
pub(super) enum Role {
    /// A simulated HEC, steered by lines on its standard input.
    #[command(hide = true)]
    Hec(HecRole),
    /// A simulated Logplex that prints what it did.
    #[command(hide = true)]
    Logplex(LogplexRole),
}

#[derive(Debug, clap::Args)]
pub(super) struct HecRole {
    pub(super) listen: SocketAddr,
    /// When events are acknowledged, in milliseconds.
    #[arg(long, default_value = "0")]
    pub(super) ack_after: u64,
}

#[derive(Debug, clap::Args)]
pub(super) struct LogplexRole {
    pub(super) target: SocketAddr,
    #[arg(long)]
    pub(super) path: String,
    #[arg(long)]
    pub(super) connections: u32,
    #[arg(long)]
    pub(super) messages: u32,
    #[arg(long)]
    pub(super) drains: u32,
    /// Without, until its standard input ends.
    #[arg(long)]
    pub(super) seconds: Option<f64>,
    #[arg(long)]
    pub(super) rate: Option<f64>,
}

/// Who is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Relay {
    Forebay,
    /// By its command, and its number among the peers.
    Peer(String, usize),
}

impl Relay {
    /// Short, for a table: a command's first word, without its directory.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Forebay => "forebay".to_owned(),
            Self::Peer(command, number) => {
                let word = command.split_whitespace().next().unwrap_or_default();
                format!("{} (peer {number})", word.rsplit('/').next().unwrap_or(word))
            }
        }
    }
}

impl Options {
    pub(super) fn runs(&self) -> usize {
        self.runs.unwrap_or(if self.quick { 1 } else { 5 })
    }

    pub(super) fn seconds(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(if self.quick { 4.0 } else { 10.0 }))
    }

    pub(super) fn backlog(&self) -> ByteSize {
        let mib = if self.quick { 512 } else { 4096 };
        self.backlog.unwrap_or_else(|| ByteSize::mib(mib))
    }

    pub(super) fn relays(&self) -> Vec<Relay> {
        let peers = self.peer.iter().cloned().zip(1..);
        let peers = peers.map(|(command, number)| Relay::Peer(command, number));
        [Relay::Forebay].into_iter().chain(peers).collect()
    }

    /// A new directory for one relay's log.
    pub(super) fn directory(&self) -> tempfile::TempDir {
        let mut builder = tempfile::Builder::new();
        builder.prefix("forebay-bench-");
        match &self.dir {
            Some(dir) => builder.tempdir_in(dir).unwrap(),
            None => builder.tempdir().unwrap(),
        }
    }
}

fn size(text: &str) -> Result<ByteSize, String> {
    text.parse::<ByteSize>().map_err(|error| error.to_string())
}
