//! The built-in initramfs: the running binary as `/init`, and the modules the passed-through devices need.
//!
//! What runs in it is [`crate::init`]. Layout of the archive:
//!
//! ```text
//! /init                  the bytes of /proc/self/exe
//! /dev /proc /sys /tmp   mount points
//! /dev/console /dev/null  for the time before devtmpfs is mounted
//! /lib/modules/NAME.ko*  kernel modules, compressed as they were found
//! /lib/modules/order     their file names, one a line, in the order to load them in
//! /lib/modules/notes     what the guest's summary should say about modules, one note a line
//! ```

mod cpio;
mod glob;
pub(crate) mod modules;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;
use vmm::boot::InitrdPart;

use cpio::{Archive, CpioError};
use modules::ModuleSet;

/// Where the modules are in the archive and in the guest, without the leading slash.
pub(crate) const MODULES_DIR: &str = "lib/modules";
/// Name of the load order in [`MODULES_DIR`].
pub(crate) const ORDER_FILE: &str = "order";
/// Name of the notes in [`MODULES_DIR`].
pub(crate) const NOTES_FILE: &str = "notes";

/// Largest module taken, in bytes: far above any in a kernel, far below what an initramfs may hold.
const MODULE_MAX: u64 = 128 << 20;

/// Why there is no initramfs.
#[derive(Debug, Error, Diagnostic)]
pub(crate) enum InitramfsError {
    /// The binary could not be read back.
    #[error("cannot read {} for the built-in initramfs", path.display())]
    #[diagnostic(help("mount /proc, or give an initramfs of your own with --initrd"))]
    Init {
        /// The file that was to become `/init`.
        path: PathBuf,
        /// What reading it said.
        #[source]
        source: io::Error,
    },
    /// A part does not fit the format.
    #[error("cannot assemble the built-in initramfs")]
    #[diagnostic(help("give an initramfs of your own with --initrd"))]
    Archive(#[from] CpioError),
}

/// Builds the initramfs, uncompressed, with the running binary as `/init`.
///
/// A module that cannot be read is left out and noted: the guest then says which driver it lacks.
///
/// # Errors
/// [`InitramfsError`]: the binary itself cannot be read or archived.
pub(crate) fn build(modules: &ModuleSet) -> Result<Vec<InitrdPart>, InitramfsError> {
    assemble(Path::new("/proc/self/exe"), modules)
}

fn assemble(init: &Path, modules: &ModuleSet) -> Result<Vec<InitrdPart>, InitramfsError> {
    let mut archive = Archive::new();
    for mount_point in ["dev", "proc", "sys", "tmp", "lib", MODULES_DIR] {
        archive.directory(mount_point, 0o755)?;
    }
    archive.character_device("dev/console", 0o600, (5, 1))?;
    archive.character_device("dev/null", 0o666, (1, 3))?;
    File::open(init)
        .and_then(|file| archive.whole_file("init", 0o755, file))
        .map_err(|source| InitramfsError::Init { path: init.to_owned(), source })?;

    let mut order = String::new();
    let mut notes = modules.notes.clone();
    for path in &modules.files {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        match read_module(path) {
            Ok(data) => {
                archive.file(&format!("{MODULES_DIR}/{name}"), 0o644, &data)?;
                order.push_str(name);
                order.push('\n');
            }
            Err(error) => notes.push(format!("module {} left out: {error}", path.display())),
        }
    }
    archive.file(&format!("{MODULES_DIR}/{ORDER_FILE}"), 0o644, order.as_bytes())?;
    archive.file(&format!("{MODULES_DIR}/{NOTES_FILE}"), 0o644, notes.join("\n").as_bytes())?;
    Ok(archive.finish())
}

fn read_module(path: &Path) -> io::Result<Vec<u8>> {
    read_file(path, MODULE_MAX)
}

/// Reads a regular file of at most `limit` bytes; a pipe, a device or a longer file is an error.
pub(crate) fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut data = Vec::new();
    let length = File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut data)?;
    if length as u64 > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(data)
}

#[cfg(test)]
#[path = "mod_test.rs"]
mod tests;
