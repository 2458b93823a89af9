//! The `forebay` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    forebay::cli::main(std::env::args_os()).into()
}
