//! `cargo lab bench`: what is measured, in lab hosts or on this machine. A file or folder for each bench, which prints a row
//! of its table as soon as it has it, writes all of them as JSON, and says whether what it measured is what was promised.

mod devices;
mod figures;
mod instructions;
mod pin;
mod plot;
mod record;
mod start;
pub(crate) mod table;

use std::process::ExitCode;

use clap::ValueEnum;

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

/// Runs what was asked for, or all of it, one after another; fails if any of it is not as promised.
pub(crate) fn run(options: &BenchOptions) -> Result<ExitCode, Error> {
    match options.name {
        Some(bench) => bench.run(options),
        None => Ok(each(Bench::value_variants(), |bench| bench.run(options))),
    }
}

impl Bench {
    /// As it is typed.
    fn name(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Pin => "pin",
            Self::Instructions => "instructions",
            Self::Start => "start",
        }
    }

    fn run(self, options: &BenchOptions) -> Result<ExitCode, Error> {
        match self {
            Self::Devices => devices::run(options),
            Self::Instructions => instructions::run(options),
            Self::Pin => pin::run(options),
            Self::Start => start::run(options),
        }
    }
}

/// Runs all `benches`, whatever comes of one of them, and says in the end what came of each.
fn each(benches: &[Bench], run: impl Fn(Bench) -> Result<ExitCode, Error>) -> ExitCode {
    let mut outcomes = Vec::new();
    for &bench in benches {
        println!("{}\n", bench.name());
        let ran = run(bench);
        outcomes.push(match &ran {
            Ok(code) if *code == ExitCode::SUCCESS => Outcome::Kept,
            Ok(_) => Outcome::Broken,
            Err(error) => {
                error.print();
                Outcome::Failed
            }
        });
        println!();
    }
    for (bench, outcome) in benches.iter().zip(&outcomes) {
        println!("{:12}  {}", bench.name(), outcome.words());
    }
    let kept = outcomes.iter().all(|outcome| *outcome == Outcome::Kept);
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What came of a bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Kept,
    Broken,
    Failed,
}

impl Outcome {
    fn words(self) -> &'static str {
        match self {
            Self::Kept => "as promised",
            Self::Broken => "not as promised",
            Self::Failed => "could not be measured",
        }
    }
}

#[cfg(test)]
#[path = "mod_test.rs"]
mod tests;
