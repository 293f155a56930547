//! The lab: virtual hosts with KVM, an IOMMU, CMA and devices to pass through, on any machine, and the tests
//! that run in them. `docs/lab.md` is the guide. The same binary, as `/init` of such a host, is its agent.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people: it talks to a terminal")]

mod agent;
mod bench;
mod cases;
mod cli;
mod cpio;
mod cpu;
mod demo;
mod exec;
mod files;
mod fuzz;
mod host;
mod process;
mod product;
mod release;
mod sanitize;
mod setup;
mod suite;
mod terminal;
mod tool;
mod wire;

use std::error::Error as _;
use std::process::ExitCode;

use clap::Parser as _;
use thiserror::Error;

use cli::{Cli, Command};

/// The lab itself failed, not the command or the test in it.
const LAB_FAILED: u8 = 125;
/// The command was not done in time.
const TIMED_OUT: u8 = 124;

/// Why a lab command could not do its work.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The lab could not be set up.
    #[error(transparent)]
    Setup(#[from] setup::SetupError),
    /// `vmm` could not be built.
    #[error(transparent)]
    Product(#[from] product::ProductError),
    /// A program that the lab runs here failed.
    #[error(transparent)]
    Tool(#[from] tool::ToolError),
    /// There is no release.
    #[error(transparent)]
    Release(#[from] release::ReleaseError),
    /// A host could not be had, or was lost.
    #[error(transparent)]
    Host(#[from] host::HostError),
    /// Nothing was fuzzed.
    #[error(transparent)]
    Fuzz(#[from] fuzz::FuzzError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// The command was not done in time; its host is told of.
    #[error("the command was not done after {seconds} s and was killed")]
    TimedOut { seconds: u64, dmesg: String },
}

impl Error {
    fn help(&self) -> Option<String> {
        match self {
            Error::Setup(e) => e.help(),
            Error::Release(e) => e.help(),
            Error::TimedOut { .. } => {
                Some("give it more time with --timeout SECONDS, or none with 0".to_owned())
            }
            _ => None,
        }
    }

    fn detail(&self) -> Option<&str> {
        match self {
            Error::Setup(e) => e.detail(),
            Error::Product(e) => e.output(),
            Error::Release(e) => e.detail(),
            Error::Tool(e) => e.output(),
            Error::Host(e) => e.console(),
            Error::TimedOut { dmesg, .. } => Some(dmesg),
            Error::File(_) | Error::Fuzz(_) => None,
        }
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::from(if matches!(self, Error::TimedOut { .. }) { TIMED_OUT } else { LAB_FAILED })
    }

    /// Tells a terminal all there is to say.
    fn print(&self) {
        if let Some(detail) = self.detail().filter(|detail| !detail.is_empty()) {
            eprintln!("---\n{detail}\n---");
        }
        eprintln!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            eprintln!("  cause: {error}");
            cause = error.source();
        }
        if let Some(help) = self.help() {
            eprintln!("   help: {help}");
        }
    }
}

fn main() -> ExitCode {
    if agent::is_wanted() {
        return agent::main();
    }
    let result = match Cli::parse().command {
        Command::Setup { renew } => setup::run(renew).map(|()| ExitCode::SUCCESS).map_err(Error::from),
        Command::Exec(options) => exec::exec(&options),
        Command::Shell(options) => exec::shell(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Release => release::run().map_err(Error::from),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Sanitize => sanitize::run().map_err(Error::from),
        Command::Test { filter, rules } => suite::run(filter.as_deref(), rules),
    };
    result.unwrap_or_else(|e| {
        e.print();
        e.exit_code()
    })
}
