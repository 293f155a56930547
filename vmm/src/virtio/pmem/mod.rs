//! Persistent memory that is asked for, its files, and what becomes of a machine that loses a part of one.

pub mod lost;
pub(crate) mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use devices::disk::DiskError;
use devices::virtio::pmem::{PmemError, PmemFile, PmemOptions};
use memory::{GuestRam, Layout, PersistentMemory, RamError};
use miette::Diagnostic;
use thiserror::Error;

use super::VirtioSpec;
use super::disk::is_same;
use crate::problem::{Class, Problems};

/// A file that two devices are to have.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
#[error("the pmem file {} is given twice", .0.display())]
#[diagnostic(help("give each --pmem and each --disk a file of its own, or add `ro` to both"))]
pub struct GivenTwice(PathBuf);

/// Opens the files; what is wrong is reported.
pub(super) fn open(spec: &VirtioSpec, problems: &mut Problems) -> Vec<Arc<PmemFile>> {
    let mut opened = Vec::new();
    for (index, options) in spec.pmems.iter().enumerate() {
        // A second writer would only find that the first has a lock.
        if is_given_before(spec, index, options) {
            problems.add(Class::Usage, GivenTwice(options.path.clone()));
            continue;
        }
        match PmemFile::open(options) {
            Ok(file) => opened.push(Arc::new(file)),
            Err(error) => problems.add(class(&error), error),
        }
    }
    opened
}

fn class(error: &PmemError) -> Class {
    match error {
        PmemError::File(
            DiskError::Locked { .. } | DiskError::Unlockable { .. } | DiskError::Examine { .. },
        ) => Class::Host,
        _ => Class::Usage,
    }
}

/// Whether a disk has the file already, or persistent memory before this one, and not both for reading only.
fn is_given_before(spec: &VirtioSpec, index: usize, options: &PmemOptions) -> bool {
    let disks = spec.disks.iter().map(|disk| (disk.options.path.as_path(), disk.options.read_only));
    let before = spec.pmems.iter().take(index).map(|other| (other.path.as_path(), other.read_only));
    let clashes =
        |(path, read_only): (&Path, bool)| !(read_only && options.read_only) && is_same(path, &options.path);
    disks.chain(before).any(clashes)
}

/// Maps the files where `layout` has room for them.
pub(crate) fn attach(files: &[Arc<PmemFile>], layout: &Layout, ram: &mut GuestRam) -> Result<(), RamError> {
    files.iter().zip(&layout.persistent).try_for_each(|(file, guest)| {
        ram.attach(PersistentMemory::map(file.file().clone(), *guest, !file.is_read_only())?)
    })
}

#[cfg(test)]
#[path = "pmem_test.rs"]
mod tests;
