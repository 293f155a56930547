//! `cargo lab bench`: what is measured, in lab hosts or on this machine. A file or folder for each bench, which prints a row
//! of its table as soon as it has it, writes all of them as JSON, and says whether what it measured is what was promised.

mod devices;
mod figures;
mod instructions;
mod pin;
mod record;
mod start;
pub(crate) mod table;

use std::process::ExitCode;

pub(crate) use pin::smoke;

use crate::Error;
use crate::cli::BenchOptions;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bench {
    /// Disks and network cards, beside QEMU's with the same guest, image and tap: time and exits for each request
    Devices,
    /// Starts with a passed-through device on hosts that keep memory busy: ours, and as others do it
    Pin,
    /// Whole starts in a host whose clock counts instructions, with and without a passed-through device
    Instructions,
    /// Starts of a guest of a few instructions on this machine's own KVM, beside the bare KVM calls and QEMU: time, CPU
    /// time, resident memory, wake-ups
    Start,
}

/// Runs what was asked for; fails if it is not as promised.
pub(crate) fn run(options: &BenchOptions) -> Result<ExitCode, Error> {
    match options.name {
        Bench::Devices => devices::run(options),
        Bench::Instructions => instructions::run(options),
        Bench::Pin => pin::run(options),
        Bench::Start => start::run(options),
    }
}
