//! What is made from the command line's definition for others to use: completions for shells, and man pages.

use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use miette::Diagnostic;
use thiserror::Error;
use vmm::{Class, Problem, Problems};

use crate::args::Cli;
use crate::report;

/// Why there are no man pages.
#[derive(Debug, Error, Diagnostic)]
#[error("cannot write man pages to {}", directory.display())]
#[diagnostic(help("give a directory that exists and may be written to, such as /usr/local/share/man/man1"))]
struct NoPages {
    directory: PathBuf,
    #[source]
    source: io::Error,
}

/// Prints what `shell` completes by; returns the exit code.
pub(crate) fn completions(shell: Shell) -> Result<u8, Problems> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::documented(), "vmm", &mut script);
    report::print(&String::from_utf8_lossy(&script));
    Ok(0)
}

/// Writes a man page for each command; returns the exit code.
pub(crate) fn man_pages(directory: &Path) -> Result<u8, Problems> {
    clap_mangen::generate_to(Cli::documented(), directory)
        .map_err(|source| NoPages { directory: directory.to_owned(), source })
        .map_err(Problem::of(Class::Usage))?;
    Ok(0)
}

#[cfg(test)]
#[path = "generated_test.rs"]
mod tests;
