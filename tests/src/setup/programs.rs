//! Programs of a Debian that need not be the system's: each in a directory with the libraries that it loads, the loader among
//! them.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::SetupError;
use crate::files::During;
use crate::tool;

/// The release that they are of, whatever the system's.
pub(super) const RELEASE: &str = "trixie";
/// Where its packages have libraries.
pub(super) const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// The program that loads them.
pub(super) const LOADER: &str = "ld-linux-x86-64.so.2";

/// Copies `program`, and what it loads, from the unpacked packages to `directory`, which is made.
pub(super) fn take(unpacked: &Path, program: &str, directory: &Path) -> Result<(), SetupError> {
    let libraries = unpacked.join(LIBRARIES);
    fs::create_dir_all(directory).during("create", directory)?;
    let program = unpacked.join(program);
    copy(&program, directory)?;
    let mut list = Command::new(libraries.join(LOADER));
    let list = tool::capture(list.arg("--library-path").arg(&libraries).arg("--list").arg(&program))?;
    for library in loaded(&list, &libraries) {
        copy(Path::new(library), directory)?;
    }
    Ok(())
}

/// Copies a file, or what a link leads to, into a directory.
pub(super) fn copy(from: &Path, directory: &Path) -> Result<(), SetupError> {
    fs::copy(from, directory.join(from.file_name().unwrap_or_default())).during("copy", from)?;
    Ok(())
}

/// What a loader says that it loads from a directory.
pub(super) fn loaded<'a>(list: &'a str, from: &Path) -> Vec<&'a str> {
    let path = |line: &'a str| line.split_once("=> ")?.1.split_whitespace().next();
    list.lines().filter_map(path).filter(|path| Path::new(path).starts_with(from)).collect()
}

#[cfg(test)]
#[path = "programs_test.rs"]
mod tests;
