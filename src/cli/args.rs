//! The command line.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::config::parse_duration;
use crate::simulate::hec::{FaultKind, Poison, PoisonCode, share_of};
use crate::telemetry::LogFormat;
use crate::types::ByteSize;

use super::drain::AddArgs;
use super::import::ImportArgs;
use super::letters::LetterCommand;
use super::manual::ManArgs;
use super::replay::ReplayCommand;
use super::status::{LogLevelArgs, RemoveArgs, SeekArgs, ShowArgs};
use super::top::TopArgs;
use super::wal::WalCommand;

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
    /// Check a configuration and say all that is wrong with it. Exits with 0 when it is good, 78
    /// when it is not, and 1 when the probe finds that delivery will not work.
    Check {
        /// The configuration.
        #[arg(short, long, env = "FOREBAY_CONFIG", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// Ask the collectors as well: name, certificate, token, acknowledgement, size of
        /// bodies, index, balancer. Writes six marker events to each.
        #[arg(long)]
        probe: bool,
        /// Print what the probe found as JSON.
        #[arg(long, requires = "probe")]
        json: bool,
        /// How long a marker event may take to be acknowledged.
        #[arg(long, requires = "probe", default_value = "60s", value_parser = parse_duration, value_name = "DURATION")]
        probe_wait: Duration,
    },
    /// Show the relay at work between a simulated Logplex and a simulated Splunk.
    Demo(DemoArgs),
    /// Play one end of the relay.
    #[command(subcommand)]
    Simulate(SimulateCommand),
    /// Turn the configuration of another program into one of forebay.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Show the state of the relay that runs.
    Status(ShowArgs),
    /// Watch the relay that runs, live.
    Top(TopArgs),
    /// What the log remembers of each destination.
    #[command(subcommand)]
    Cursor(CursorCommand),
    /// Stretches of the log that are sent once more.
    #[command(subcommand)]
    Replay(ReplayCommand),
    /// Drains of Heroku apps.
    #[command(subcommand)]
    Drain(DrainCommand),
    /// Messages that a destination's collectors refuse: look at them, send them again, remove them.
    #[command(subcommand)]
    DeadLetter(LetterCommand),
    /// Look at the log: what is in it, whether it is whole; take frames out of it.
    #[command(subcommand)]
    Wal(WalCommand),
    /// Show which log lines the relay that runs writes, or change it.
    LogLevel(LogLevelArgs),
    /// Print a script that completes forebay's commands in a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man(ManArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum CursorCommand {
    /// List them, with those of destinations that are no longer configured.
    List(ShowArgs),
    /// Remove the cursor of a destination that is no longer configured. What only this cursor has
    /// kept is given up for good.
    Remove(RemoveArgs),
    /// Send nothing more to a destination. What is in flight is seen through, what comes in waits
    /// in the log, and a restart changes nothing of it.
    Pause(RemoveArgs),
    /// Move a cursor. Back: what lies between is sent again, with the ids it had. Forward: what
    /// lies between and is not settled is never sent to this destination.
    Seek(SeekArgs),
    /// Let a paused destination go on.
    Resume(RemoveArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum DrainCommand {
    /// List the drains that the relay knows by name.
    List(ShowArgs),
    /// Make a password for a drain, and print the `heroku drains:add` line for it.
    Add(AddArgs),
}

/// Where the package installs the configuration.
pub(super) const DEFAULT_CONFIG: &str = "/etc/forebay/forebay.toml";

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// Print the forebay configuration for what flows from heroku_logs to splunk_hec_logs in
    /// Vector. Exits with 0 when all of it was taken over, 1 when standard error says what was
    /// not, and 78 when there is nothing to import.
    Vector(ImportArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum SimulateCommand {
    /// A Splunk HTTP Event Collector with indexer acknowledgement.
    Hec(Box<HecArgs>),
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
    /// The token has no indexer acknowledgement.
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
    /// A fault and the share of the requests that meet it, such as busy=0.05; may be repeated.
    /// `busy@2=0.05` is for the second indexer only. (`--fault help` lists them.)
    #[arg(long, value_parser = parse_fault, value_name = "NAME[@INDEXER][=PROB]")]
    pub(super) fault: Vec<FaultArg>,
    /// The share for faults that name none.
    #[arg(long, default_value = "1.0", value_name = "SHARE")]
    pub(super) fault_share: f64,
    /// What single requests meet, one by one, and what happens by time: a file with lines such
    /// as `post busy 3`, `ack lost-ack-reply`, `at 10s restart=0.1`.
    #[arg(long, value_name = "FILE")]
    pub(super) script: Option<PathBuf>,
    /// Seeds faults and delays.
    #[arg(long, default_value = "1", value_name = "N")]
    pub(super) seed: u64,
    /// Refuse events that hold MARKER for good, with code 6, 7, 12, 13 or 15; may be repeated.
    #[arg(long, value_parser = parse_poison, value_name = "CODE=MARKER")]
    pub(super) poison: Vec<Poison>,
    /// Indexers. Without a balancer each listens on a port of its own, one behind the other.
    #[arg(long, default_value = "1", value_name = "N")]
    pub(super) indexers: NonZeroUsize,
    /// What stands in front of them.
    #[arg(long, default_value = "none", value_enum, value_name = "KIND")]
    pub(super) balancer: BalancerArg,
    /// For how long a balancer's cookie leads to the same indexer. Without, for ever.
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    pub(super) cookie_lifetime: Option<Duration>,
    /// Forget a channel that is neither posted on nor polled for this long (Splunk: 10m).
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    pub(super) channel_idle: Option<Duration>,
    /// Close a connection that is idle for this long (a busy Splunk: 12s).
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    pub(super) keep_alive: Option<Duration>,
    /// How late a slow reply is.
    #[arg(long, default_value = "3s", value_parser = parse_duration, value_name = "DURATION")]
    pub(super) slow: Duration,
    /// What the fault retry-after sends: seconds, or an HTTP date.
    #[arg(long, default_value = "1", value_name = "VALUE")]
    pub(super) retry_after: String,
    /// The largest body, before and after decompression; larger ones get 413.
    #[arg(long, default_value = "8MiB", value_name = "SIZE")]
    pub(super) max_content_length: ByteSize,
    /// Speak TLS, with this certificate chain (PEM).
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    pub(super) tls_certificate: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, requires = "tls_certificate", value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,
    /// Ask clients for a certificate of this authority (PEM).
    #[arg(long, requires = "tls_certificate", value_name = "FILE")]
    pub(super) tls_client_ca: Option<PathBuf>,
    /// Write what was accepted, indexed and acknowledged to this file at the end.
    #[arg(long, value_name = "FILE")]
    pub(super) ledger: Option<PathBuf>,
    /// Print no rates.
    #[arg(short, long)]
    pub(super) quiet: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct LogplexArgs {
    /// The drain, as `heroku drains:add` would have it: https://user:password@host:port/logs, or
    /// http://… Over TLS no certificate is checked, as Logplex checks none.
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
    /// Drain tokens. With more of them than connections, a connection takes its share in turn.
    #[arg(long, default_value = "1", value_name = "N")]
    pub(super) drains: NonZeroU32,
    /// Send the frames of this file, made by `forebay wal export --format frames`, with their own
    /// drain tokens and frame ids; once, and in the file's order with --connections 1.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["messages", "bytes", "drains", "rate"])]
    pub(super) from: Option<PathBuf>,
    /// Give the frames of the file new ids: a relay that has stored them takes them again.
    #[arg(long, requires = "from")]
    pub(super) new_ids: bool,
    /// Write what was sent and answered to this file at the end.
    #[arg(long, value_name = "FILE")]
    pub(super) ledger: Option<PathBuf>,
    /// Send no load, but try everything that Heroku's senders do, one by one, against any receiver,
    /// and print what each would lose. Exits with 0 when that is nothing, and with 1 otherwise.
    #[arg(long, conflicts_with_all = ["frames", "duration", "rate", "ledger"])]
    pub(super) conformance: bool,
    /// Print the outcome of --conformance as JSON.
    #[arg(long, requires = "conformance")]
    pub(super) json: bool,
    /// How long --conformance leaves a connection alone between two frames. Logplex does so for up
    /// to 159s.
    #[arg(long, requires = "conformance", default_value = "10s", value_parser = parse_duration, value_name = "DURATION")]
    pub(super) idle: Duration,
    /// Print no rates.
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// A fault on the command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultArg {
    pub(super) kind: FaultKind,
    /// From 1; `None`: all of them.
    pub(super) indexer: Option<NonZeroUsize>,
    pub(super) share: Option<f64>,
}

fn parse_fault(text: &str) -> Result<FaultArg, String> {
    let (name, share) = text.split_once('=').map_or((text, ""), |(name, share)| (name, share));
    let (name, indexer) = match name.split_once('@') {
        None => (name, None),
        Some((name, number)) => {
            let number = number.parse().map_err(|_| format!("`{number}` is no indexer"))?;
            (name, Some(number))
        }
    };
    let setting = if share.is_empty() { name.to_owned() } else { format!("{name}={share}") };
    let (kind, probability) = share_of(&setting, 1.0)?;
    Ok(FaultArg { kind, indexer, share: (!share.is_empty()).then_some(probability) })
}

fn parse_poison(text: &str) -> Result<Poison, String> {
    let (code, marker) = text.split_once('=').ok_or("write CODE=MARKER, such as 6=POISON")?;
    let code = code.parse().ok().and_then(PoisonCode::of);
    let code = code.ok_or("the codes about one event are 6, 7, 12, 13 and 15")?;
    if marker.is_empty() {
        return Err("the marker is empty".to_owned());
    }
    Ok(Poison { marker: marker.to_owned(), code })
}

/// What stands in front of the simulated indexers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum BalancerArg {
    /// Nothing: each indexer has its own port.
    None,
    /// Each request goes to the next indexer.
    RoundRobin,
    /// A cookie leads back to the same indexer.
    Cookie,
    /// Each connection goes to the next indexer.
    Connection,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }

    #[test]
    fn faults_are_read_with_indexer_and_share() {
        use super::{FaultKind, parse_fault};
        let read = |text| parse_fault(text).map(|f| (f.kind, f.indexer.map(usize::from), f.share));
        assert_eq!(read("busy"), Ok((FaultKind::Busy, None, None)));
        assert_eq!(read("hang=0.5"), Ok((FaultKind::Hang, None, Some(0.5))));
        let second = Ok((FaultKind::InvalidToken, Some(2), Some(1.0)));
        assert_eq!(read("invalid-token@2=1"), second);
        for wrong in ["help", "busy@0", "busy@x", "busy=7"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn poison_needs_a_code_about_one_event() {
        use super::parse_poison;
        assert_eq!(parse_poison("7=bad=er").unwrap().marker, "bad=er");
        for wrong in ["9=x", "6=", "6", "x=y"] {
            assert!(parse_poison(wrong).is_err(), "{wrong}");
        }
    }
}
