//! `vmm top`: what guests that run are doing. What each machine has counted is asked for again and again over its socket
//! ([`sample`]); what has changed between two answers becomes a page of text ([`page`]), which is printed once, or shown on
//! the terminal until somebody leaves ([`screen`]).

pub(crate) mod args;
mod page;
mod sample;
mod screen;

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;
use vmm::problem::Unexpected;
use vmm::{Class, Problem, Problems};

use crate::grammar::types;
use crate::report;
use args::TopArgs;
use sample::Watch;
use screen::Screen;

/// Where machines that are started as services have their sockets.
const SOCKETS: &str = "/run/vmm";
/// Width of what is no terminal.
const WIDE: usize = 200;

/// Why nothing can be shown.
#[derive(Debug, Error, Diagnostic)]
enum TopError {
    #[error("no machine has its socket in {SOCKETS}")]
    #[diagnostic(help("name the sockets that machines were given with --api-socket: vmm top --socket PATH"))]
    NoSockets,
    #[error("--interval `{0}` is not a duration of 100ms or more")]
    #[diagnostic(help("give a whole number with us, ms, s or m, as in --interval 2s"))]
    Interval(String),
}

/// Shows; returns the exit code.
pub(crate) fn top(args: &TopArgs) -> Result<u8, Problems> {
    let interval = interval(&args.interval)?;
    let find = || if args.sockets.is_empty() { sockets(Path::new(SOCKETS)) } else { args.sockets.clone() };
    if find().is_empty() {
        return Err(Problem::of(Class::Host)(TopError::NoSockets));
    }
    let mut watch = Watch::default();
    watch.look(&find());
    if args.once || !std::io::stdout().is_terminal() {
        // What goes on shows between two looks.
        thread::sleep(interval);
        watch.look(&find());
        report::print(&page::render(watch.machines(), WIDE).join("\n"));
        report::print("\n");
        return Ok(0);
    }
    let failed = Unexpected::during::<std::io::Error>("cannot use the terminal");
    let mut screen = Screen::open().map_err(&failed)?;
    loop {
        watch.look(&find());
        let (columns, rows) = screen.size();
        let lines = page::render(watch.machines(), columns);
        screen.show(&lines, rows).map_err(&failed)?;
        if screen.wait(interval).map_err(&failed)? {
            return Ok(0);
        }
    }
}

fn interval(text: &str) -> Result<Duration, Problems> {
    let parsed = text.parse().map(|types::Duration(duration)| duration).ok();
    parsed
        .filter(|duration| *duration >= Duration::from_millis(100))
        .ok_or_else(|| Problem::of(Class::Usage)(TopError::Interval(text.to_owned())))
}

/// The sockets in a directory, by name.
fn sockets(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
    let mut paths: Vec<PathBuf> = sockets.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
#[path = "top_test.rs"]
mod tests;
