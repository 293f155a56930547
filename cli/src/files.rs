//! Files that others read while they are written: replaced whole, so that nobody sees half of one.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Puts `contents` at `path`. A regular file, or none, is replaced by a new one at once; a pipe or a device is written to.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return OpenOptions::new().write(true).open(path)?.write_all(contents);
    }
    // Behind a symbolic link, the file and not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(beside);
    // Left by a process of this number that was killed.
    let _ = fs::remove_file(&beside);
    let written = OpenOptions::new().write(true).create_new(true).open(&beside);
    let written =
        written.and_then(|mut file| file.write_all(contents)).and_then(|()| fs::rename(&beside, &path));
    written.inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

#[cfg(test)]
#[path = "files_test.rs"]
mod tests;
