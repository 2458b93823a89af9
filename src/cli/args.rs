//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::parse_duration;
use crate::simulate::hec::FaultKind;
use crate::telemetry::LogFormat;

/// Moves Heroku logs into Splunk without losing one.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub(super) struct Args {
    /// How log lines look: auto (human on a terminal, else JSON), human, or json.
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the relay.
    Serve {
        /// The configuration.
        #[arg(short, long, env = "FOREBAY_CONFIG", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// Start although RocksDB's log is damaged or has lost files: keep every record that is
        /// whole, and count what is missing as dropped.
        #[arg(long)]
        recover: bool,
        /// Read every retained frame first, and pass over those that are damaged: count them as
        /// dropped for every destination that has not got them.
        #[arg(long)]
        skip_damaged: bool,
    },
    /// Check a configuration and say all that is wrong with it.
    Check {
        /// The configuration.
        #[arg(short, long, env = "FOREBAY_CONFIG", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Show the relay at work between a simulated Logplex and a simulated Splunk.
    Demo(DemoArgs),
    /// Play one end of the relay.
    #[command(subcommand)]
    Simulate(SimulateCommand),
}

/// Where the package installs the configuration.
const DEFAULT_CONFIG: &str = "/etc/forebay/forebay.toml";

#[derive(Debug, Subcommand)]
pub(super) enum SimulateCommand {
    /// A Splunk HTTP Event Collector with indexer acknowledgement.
    Hec(HecArgs),
    /// A Logplex that sends frames to a drain.
    Logplex(LogplexArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Send this many frames, wait until Splunk has acknowledged them all, print the books, and
    /// exit with 0 only if they balance.
    #[arg(long, value_name = "N")]
    pub(super) frames: Option<u64>,
    /// Messages in a frame.
    #[arg(long, default_value = "10", value_name = "N")]
    pub(super) messages: NonZeroU32,
    /// Messages a second; without, 200, or as fast as it goes with --frames.
    #[arg(long, value_name = "N")]
    pub(super) rate: Option<f64>,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct HecArgs {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8088", value_name = "ADDRESS")]
    pub(super) listen: SocketAddr,
    /// The token to accept.
    #[arg(long, default_value = "00000000-0000-0000-0000-000000000000", value_name = "TOKEN")]
    pub(super) token: String,
    /// Whether the token has indexer acknowledgement.
    #[arg(long)]
    pub(super) no_ack: bool,
    /// An index the token may write to; may be repeated. Without, any.
    #[arg(long, value_name = "INDEX")]
    pub(super) index: Vec<String>,
    /// The shortest time from a POST to its events being indexed and acknowledged.
    #[arg(long, default_value = "100ms", value_parser = parse_duration, value_name = "DURATION")]
    pub(super) ack_min: Duration,
    /// The longest.
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "DURATION")]
    pub(super) ack_max: Duration,
    /// Index and acknowledge nothing.
    #[arg(long)]
    pub(super) ack_never: bool,
    /// A fault: busy, queue-full, approaching-capacity, invalid-token, server-error, hang,
    /// reset-after-indexing, detention, captive, lost-ack-reply.
    #[arg(long, value_parser = parse_fault, value_name = "FAULT")]
    pub(super) fault: Option<FaultKind>,
    /// The share of requests that meet the fault.
    #[arg(long, default_value = "1.0", value_name = "SHARE")]
    pub(super) fault_share: f64,
    /// Write what was accepted, indexed and acknowledged to this file at the end.
    #[arg(long, value_name = "FILE")]
    pub(super) ledger: Option<PathBuf>,
    /// Print no rates.
    #[arg(short, long)]
    pub(super) quiet: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct LogplexArgs {
    /// The drain, as `heroku drains:add` would have it: http://user:password@host:port/logs
    #[arg(value_name = "URL")]
    pub(super) drain: String,
    /// Connections; each has one frame outstanding.
    #[arg(long, default_value = "4", value_name = "N")]
    pub(super) connections: NonZeroU32,
    /// Messages in a frame.
    #[arg(long, default_value = "100", value_name = "N")]
    pub(super) messages: NonZeroU32,
    /// Bytes of a message's text.
    #[arg(long, default_value = "200", value_name = "N")]
    pub(super) bytes: usize,
    /// Stop after this many frames.
    #[arg(long, value_name = "N")]
    pub(super) frames: Option<u64>,
    /// Stop after this time.
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    pub(super) duration: Option<Duration>,
    /// Messages a second over all connections; without, as fast as it goes.
    #[arg(long, value_name = "N")]
    pub(super) rate: Option<f64>,
    /// Drain tokens.
    #[arg(long, default_value = "1", value_name = "N")]
    pub(super) drains: NonZeroU32,
    /// Write what was sent and answered to this file at the end.
    #[arg(long, value_name = "FILE")]
    pub(super) ledger: Option<PathBuf>,
    /// Print no rates.
    #[arg(short, long)]
    pub(super) quiet: bool,
}

fn parse_fault(name: &str) -> Result<FaultKind, String> {
    FaultKind::parse(name).ok_or_else(|| {
        let all: Vec<_> = FaultKind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("the faults are {}", all.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
