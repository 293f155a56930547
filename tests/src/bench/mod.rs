//! `cargo lab bench`: what is measured in lab hosts. A file or folder for each bench, which prints a row of its table as
//! soon as it has it, writes all of them as JSON, and says whether what it measured is what was promised.

mod pin;
mod table;

use std::process::ExitCode;

pub(crate) use pin::smoke;

use crate::Error;
use crate::cli::BenchOptions;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bench {
    /// Starts with a passed-through device on hosts that keep memory busy: ours, and as others do it
    Pin,
}

/// Runs what was asked for; fails if it is not as promised.
pub(crate) fn run(options: &BenchOptions) -> Result<ExitCode, Error> {
    match options.name {
        Bench::Pin => pin::run(options),
    }
}
