//! The initial RAM disk: where it comes from and where it goes.

use std::fs::File;
use std::path::{Path, PathBuf};

use memory::GuestRange;
use miette::Diagnostic;
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::file::{FileFault, ImageFile};
use super::{MemoryFault, write};

const PAGE: u64 = 4096;

/// An initrd could not be used.
#[derive(Debug, Error, Diagnostic)]
#[error("cannot use initrd {}", name.display())]
#[diagnostic(forward(fault))]
pub struct InitrdError {
    /// The file as it was named, or what stands for it.
    pub name: PathBuf,
    /// Why.
    #[source]
    pub fault: InitrdFault,
}

/// What is wrong with an initrd.
#[derive(Debug, Error, Diagnostic)]
pub enum InitrdFault {
    /// The file is no good.
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] FileFault),
    /// It does not go into guest memory.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Memory(#[from] MemoryFault),
}

#[derive(Debug)]
enum Source {
    File(ImageFile),
    Bytes(Vec<u8>),
}

/// An initrd that is not empty. Its contents are the kernel's business.
#[derive(Debug)]
pub struct Initrd {
    name: PathBuf,
    source: Source,
}

impl Initrd {
    /// Opens a file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, InitrdError> {
        let path = path.as_ref();
        Self::new(path, ImageFile::open(path).map(Source::File))
    }

    /// Takes an open file, a memfd for instance; `name` stands for it in messages.
    pub fn from_file(file: File, name: impl AsRef<Path>) -> Result<Self, InitrdError> {
        Self::new(name.as_ref(), ImageFile::from_file(file).map(Source::File))
    }

    /// Takes bytes; `name` stands for them in messages.
    pub fn from_bytes(bytes: Vec<u8>, name: impl AsRef<Path>) -> Result<Self, InitrdError> {
        let source = if bytes.is_empty() { Err(FileFault::Empty) } else { Ok(Source::Bytes(bytes)) };
        Self::new(name.as_ref(), source)
    }

    fn new(name: &Path, source: Result<Source, FileFault>) -> Result<Self, InitrdError> {
        let name = name.to_owned();
        match source {
            Ok(source) => Ok(Self { name, source }),
            Err(fault) => Err(InitrdError { name, fault: fault.into() }),
        }
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        match &self.source {
            Source::File(file) => file.len(),
            Source::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Puts it at the start of `range`, whose size is its own.
    pub(super) fn load(&self, memory: &GuestMemoryMmap, range: GuestRange) -> Result<(), InitrdError> {
        self.try_load(memory, range).map_err(|fault| InitrdError { name: self.name.clone(), fault })
    }

    fn try_load(&self, memory: &GuestMemoryMmap, range: GuestRange) -> Result<(), InitrdFault> {
        match &self.source {
            Source::File(file) => memory
                .read_exact_volatile_from(
                    GuestAddress(range.start),
                    &mut file.rewound()?,
                    usize::try_from(range.size).unwrap_or(usize::MAX),
                )
                .map_err(|source| MemoryFault { what: "the initrd", range, source })?,
            Source::Bytes(bytes) => write(memory, range.start, bytes, "the initrd")?,
        }
        Ok(())
    }
}

/// The highest place for `size` bytes: page-aligned, whole pages, in one of the sorted `free` ranges and
/// below `limit` (both guest physical). `Err` tells the size in bytes of the largest place there is.
pub(super) fn place(size: u64, free: &[GuestRange], limit: u64) -> Result<GuestRange, u64> {
    let mut room = 0;
    for gap in free.iter().rev() {
        let start = gap.start.next_multiple_of(PAGE);
        let end = gap.end().min(limit) / PAGE * PAGE;
        let pages = end.saturating_sub(start);
        if size.div_ceil(PAGE) <= pages / PAGE {
            return Ok(GuestRange::new(end - size.div_ceil(PAGE) * PAGE, size));
        }
        room = room.max(pages);
    }
    Err(room)
}

#[cfg(test)]
#[path = "initrd_test.rs"]
mod tests;
