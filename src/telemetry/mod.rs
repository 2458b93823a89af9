//! What the program tells about itself: log lines on stderr, numbers for Prometheus.
//!
//! Nothing is exported by itself: [`Metrics::render`] is what the admin interface serves. Modules
//! log through `tracing` and count through the macros of `metrics`; there is no layer of our own
//! in between. What every number is called, and means, is in one table, [`METRICS`].

pub mod docs;
mod figures;
mod metrics;
mod recent;
mod table;
mod tracing;

pub use self::figures::{Buckets, Figures};
pub use self::metrics::{AlreadyInstalled, Metrics, UPKEEP_EVERY};
pub use self::recent::{Warning, recent_warnings};
pub use self::table::{Kind, METRICS, Metric};
pub use self::tracing::{
    FILTER_VARIABLE, InitError, LogFormat, ParseLogFormatError, SetFilterError, configured_filter,
    filter, init, set_filter, wrong_filter,
};
