//! A machine as it is written, read as far as that goes without a look at the host, and printed as `vmm run --dry-run` does. What
//! comes from others is read here in one place: fuzzing does so (tests/fuzz).

use std::path::Path;

use clap::Parser;
use vmm::{MachineSpec, Problems};

use crate::args::{Cli, Command};
use crate::config::{Config, effective};
use crate::grammar::{self, Reading, file};
use crate::run;

/// The machine that the text of a file describes. `None`: something in it cannot be read.
pub fn of_file(text: &str) -> Option<String> {
    let value = file::parse(Path::new("machine.toml"), text.to_owned()).ok()?;
    printed(grammar::read(&[value]), Problems::default())
}

/// The machine that words after `vmm run` describe. `None`: something in them cannot be read, or they name a file.
pub fn of_words(words: &[&str]) -> Option<String> {
    let cli = Cli::try_parse_from(["vmm", "run"].iter().chain(words)).ok()?;
    let Some(Command::Run(args)) = cli.command else { return None };
    if args.machine.file.is_some() {
        return None;
    }
    let mut problems = Problems::default();
    let reading = args.machine.read(&mut problems);
    printed(reading, problems)
}

/// What a machine is that is created over the API without saying.
pub fn blank() -> MachineSpec {
    run::blank(&mut Problems::default())
}

fn printed(reading: Reading<Config>, problems: Problems) -> Option<String> {
    let Reading { value, origins, problems: unread } = reading;
    // What is wrong with what was read is for the operator to hear, all the same.
    let _ = run::spec(&value, &mut Problems::default());
    if !unread.is_empty() || !problems.0.is_empty() {
        return None;
    }
    effective::text(&value, &origins, &[]).ok()
}

#[cfg(test)]
#[path = "written_test.rs"]
mod tests;
