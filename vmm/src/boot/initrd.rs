//! The initial RAM disk: where it comes from and where it goes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memory::GuestRange;
use miette::Diagnostic;
use thiserror::Error;
use vm_memory::GuestMemoryMmap;

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

/// A part of an initrd that is made rather than found. A file is not read before it is loaded, and goes from the page cache
/// straight into guest memory.
#[derive(Clone, Debug)]
pub enum InitrdPart {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// All of a file.
    File(Arc<File>),
}

#[derive(Debug)]
enum Source {
    Bytes(Arc<[u8]>),
    File(ImageFile),
}

impl Source {
    fn of(part: &InitrdPart) -> Result<Self, FileFault> {
        match part {
            InitrdPart::Bytes(bytes) if bytes.is_empty() => Err(FileFault::Empty),
            InitrdPart::Bytes(bytes) => Ok(Self::Bytes(bytes.clone())),
            InitrdPart::File(file) => ImageFile::from_file(file.clone()).map(Self::File),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.len(),
        }
    }

    fn load(&self, memory: &GuestMemoryMmap, range: GuestRange) -> Result<(), InitrdFault> {
        match self {
            Self::Bytes(bytes) => write(memory, range.start, bytes, "the initrd")?,
            Self::File(file) => file.load::<InitrdFault>(0, memory, range, "the initrd")?,
        }
        Ok(())
    }
}

/// An initrd that is not empty. Its contents are the kernel's business.
#[derive(Debug)]
pub struct Initrd {
    name: PathBuf,
    /// One after the other.
    parts: Vec<Source>,
}

impl Initrd {
    /// Opens a file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, InitrdError> {
        let path = path.as_ref();
        Self::new(path, ImageFile::open(path).map(|file| vec![Source::File(file)]))
    }

    /// Takes parts, none of them empty; `name` stands for all of it in messages.
    pub fn made(parts: &[InitrdPart], name: impl AsRef<Path>) -> Result<Self, InitrdError> {
        let opened =
            if parts.is_empty() { Err(FileFault::Empty) } else { parts.iter().map(Source::of).collect() };
        Self::new(name.as_ref(), opened)
    }

    fn new(name: &Path, parts: Result<Vec<Source>, FileFault>) -> Result<Self, InitrdError> {
        let name = name.to_owned();
        match parts {
            Ok(parts) => Ok(Self { name, parts }),
            Err(fault) => Err(InitrdError { name, fault: fault.into() }),
        }
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.parts.iter().map(Source::size).fold(0, u64::saturating_add)
    }

    /// Puts it at the start of `range`, whose size is its own.
    pub(super) fn load(&self, memory: &GuestMemoryMmap, range: GuestRange) -> Result<(), InitrdError> {
        self.try_load(memory, range).map_err(|fault| InitrdError { name: self.name.clone(), fault })
    }

    fn try_load(&self, memory: &GuestMemoryMmap, range: GuestRange) -> Result<(), InitrdFault> {
        let mut at = range.start;
        for part in &self.parts {
            part.load(memory, GuestRange::new(at, part.size()))?;
            at += part.size();
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
