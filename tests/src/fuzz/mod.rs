//! `cargo lab fuzz`: the targets of tests/fuzz under libFuzzer, one after another, each on all CPUs for so many minutes.
//!
//! The compiler of the workspace suffices: what libFuzzer needs in the code (SanitizerCoverage) is a pass that every rustc has.
//! Memory is bounded by the targets' own allocator, time and resident memory by libFuzzer. What is found, and the corpora as they
//! grow, are in cargo's target directory; what is checked in is only read.

mod build;
mod job;
mod row;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::Error;
use crate::bench::table::Table;
use crate::cli::FuzzOptions;
use crate::files::{During, FileError};
use crate::product::workspace;
use crate::tool::announce;
use build::Binaries;
use row::Row;

const TABLE: Table = Table::new(
    1,
    &[
        ("target", 16),
        ("executions", 11),
        ("each second", 11),
        ("edges", 6),
        ("corpus", 6),
        ("seconds", 7),
        ("findings", 8),
    ],
);

/// Why nothing is fuzzed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FuzzError {
    /// Nothing is called so.
    #[error("there is no target {name}; there are {}", .known.join(", "))]
    NoTarget { name: String, known: Vec<String> },
}

/// Where a target's inputs are.
struct Places {
    /// Checked in: what to begin with, and what was found before.
    seeds: Vec<PathBuf>,
    /// What became of them.
    corpus: PathBuf,
    /// What is wrong.
    findings: PathBuf,
    /// What libFuzzer says, and the inputs that are handled.
    logs: PathBuf,
}

impl Places {
    fn of(target: &str, root: &Path) -> Result<Self, FileError> {
        let made = |kind: &str| {
            let directory = root.join(kind).join(target);
            std::fs::create_dir_all(&directory).during("create", &directory).map(|()| directory)
        };
        let checked_in = ["corpus", "regressions"].map(|kind| sources().join(kind).join(target));
        let seeds = checked_in.into_iter().filter(|directory| directory.is_dir()).collect();
        Ok(Self { seeds, corpus: made("corpus")?, findings: made("findings")?, logs: made("logs")? })
    }
}

/// Where the targets are.
fn sources() -> PathBuf {
    workspace().join("tests/fuzz")
}

/// The names of all targets.
fn targets() -> Result<Vec<String>, FileError> {
    let directory = sources().join("fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&directory).during("list", &directory)? {
        let path = entry.during("list", &directory)?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Fuzzes what was asked for; fails if something is found.
pub(crate) fn run(options: &FuzzOptions) -> Result<ExitCode, Error> {
    let known = targets()?;
    let chosen = match &options.target {
        None => known,
        Some(name) if known.contains(name) => vec![name.clone()],
        Some(name) => return Err(FuzzError::NoTarget { name: name.clone(), known }.into()),
    };
    announce("building the fuzz targets");
    let binaries = Binaries::build(&chosen)?;
    if let (false, Some(target)) = (options.input.is_empty(), &options.target) {
        return job::feed(&binaries.of(target), &options.input);
    }
    let time = Duration::from_secs(u64::from(options.minutes) * 60);
    println!("{}", TABLE.head());
    let mut rows = Vec::new();
    for target in &chosen {
        let places = Places::of(target, binaries.root())?;
        let row = Row::of(target, job::run(&binaries.of(target), &places, time)?);
        println!("{}", TABLE.row(row.cells()));
        rows.push(row);
    }
    let findings: Vec<String> = rows.iter().flat_map(Row::told).collect();
    findings.iter().for_each(|finding| println!("{finding}"));
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
