#![doc = include_str!("../docs/ARCHITECTURE.md")]

pub mod types;

pub mod logplex;
pub mod record;

pub mod hec;

pub mod delivery;

mod generated;

// Above this line nothing does I/O, and everything builds with `--no-default-features`.
#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod clock;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod ingest;
#[cfg(feature = "server")]
pub mod simulate;
#[cfg(feature = "server")]
pub mod sink;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod tls;
#[cfg(feature = "server")]
pub mod wal;
