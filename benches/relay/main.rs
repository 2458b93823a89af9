//! The whole way, measured: the real binary between a simulated Logplex and a simulated Splunk HEC,
//! three processes on loopback, and any other relay on the same ports in the same run.
//!
//! ```console
//! $ cargo bench --bench relay -- --quick
//! $ cargo bench --bench relay -- --runs 5 --peer 'vector -c vector.toml' --peer-path /events
//! $ cargo bench --bench relay -- --scale --runs 3 --seconds 3
//! $ cargo bench --bench relay -- --soak 10GB
//! $ cargo bench --bench relay -- --light
//! ```
//!
//! The table goes to standard output, what happens meanwhile to standard error. A figure is the
//! median over the runs; behind it stand the smallest and the largest. Relays alternate: each run
//! of a case measures every relay, one after the other, so that a machine that is slower for a
//! minute is slower for all.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench that cannot set itself up has nothing to say, and what it says is printed"
)]

mod case;
mod children;
mod figures;
mod light;
mod options;
mod proc;
mod roles;
mod soak;

use clap::Parser as _;

use case::{Case, Load, Peaks};
use figures::Table;
use options::{Options, Role};

fn main() {
    let options = Options::parse();
    match &options.role {
        Some(Role::Hec(hec)) => return roles::hec(hec),
        Some(Role::Logplex(logplex)) => return roles::logplex(logplex),
        None => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match options.soak {
            Some(size) => soak::run(&options, size.get()).await,
            None if options.light => light::run(&options).await,
            None => measure(&options).await,
        }
    });
}

async fn measure(options: &Options) {
    let (cases, relays) = (Case::all(options), options.relays());
    eprintln!(
        "{} cases, {} runs of each, {} relays: about {:.0} minutes",
        cases.len(),
        options.runs(),
        relays.len(),
        cases.iter().map(|case| case.seconds(options)).sum::<f64>()
            * (options.runs() * relays.len()) as f64
            / 60.0
    );
    let mut table = Table::default();
    let mut peaks = Peaks::default();
    for case in cases {
        for run in 1..=options.runs() {
            for relay in &relays {
                if !case.fits(relay) {
                    continue;
                }
                if let Some(first) = peaks.missing(&case, relay) {
                    let figures = first.run(options, relay, &mut peaks).await;
                    peaks.note(&first, relay, &figures);
                }
                let figures = case.run(options, relay, &mut peaks).await;
                eprintln!("{case}, {}, run {run}: {figures}", relay.name());
                if case.load == Load::Peak {
                    peaks.note(&case, relay, &figures);
                }
                table.add(&case, &relay.name(), figures);
            }
        }
    }
    println!("{table}");
}
