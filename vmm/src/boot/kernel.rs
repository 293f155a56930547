//! The guest's kernel: a file on the host, checked before anything is allocated, loaded at every boot.
//!
//! Headers are trusted once they have been checked ([`super::bzimage`], [`super::elf`]).

use std::path::{Path, PathBuf};

use linux_loader::loader::bootparam::setup_header;
use memory::GuestRange;
use miette::Diagnostic;
use thiserror::Error;
use vm_memory::GuestMemoryMmap;

use super::bzimage::BzImage;
use super::elf::Elf;
use super::file::{FileFault, ImageFile};
use super::sniff::looks_like;
use super::{MemoryFault, clear};

/// Enough for every header and for telling file types apart.
const HEAD: usize = 4096;
/// What kernels without a setup header take: `COMMAND_LINE_SIZE` less the NUL (arch/x86/include/asm/setup.h).
const CMDLINE_MAX: usize = 2047;
/// Highest address of an initrd for kernels without a setup header; that of every Linux for x86_64.
const INITRD_MAX: u64 = 0x7fff_ffff;

/// A kernel could not be used.
#[derive(Debug, Error, Diagnostic)]
#[error("cannot use kernel {}", path.display())]
#[diagnostic(forward(fault))]
pub struct KernelError {
    /// The file as it was named.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub fault: KernelFault,
}

/// What is wrong with a kernel.
#[derive(Debug, Error, Diagnostic)]
pub enum KernelFault {
    /// Already the file is no good.
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] FileFault),
    /// Something else altogether; the operand names it.
    #[error("it is not a kernel but {0}")]
    #[diagnostic(help("give an uncompressed x86_64 bzImage (/boot/vmlinuz-*) or vmlinux"))]
    NotAKernel(&'static str),
    /// Shorter than its header says, in bytes.
    #[error("it is truncated: {have} bytes, at least {need} expected")]
    #[diagnostic(help("copy or build it again"))]
    Truncated {
        /// Length of the file.
        have: u64,
        /// Length according to its header, as far as it was read.
        need: u64,
    },
    /// Boot protocol before 2.12.
    #[error("it is a bzImage of boot protocol {major}.{minor:02}, 2.12 or later is needed")]
    #[diagnostic(help("use Linux 3.8 or later"))]
    TooOld {
        /// Major number of the protocol version.
        major: u16,
        /// Minor number.
        minor: u16,
    },
    /// Not for x86_64.
    #[error("it is a bzImage without a 64-bit entry point")]
    #[diagnostic(help("use a kernel built for x86_64 (CONFIG_X86_64=y, CONFIG_RELOCATABLE=y)"))]
    No64BitEntry,
    /// An ELF file of the wrong kind; the operand names it.
    #[error("it is {0}")]
    #[diagnostic(help("give a 64-bit x86_64 kernel (vmlinux), or a bzImage"))]
    WrongElf(&'static str),
    /// An address in it that no kernel of this machine can have.
    #[error("it wants to be loaded or entered at {address:#x}")]
    #[diagnostic(help("the kernel must lie above 1 MiB, page-aligned, with its entry point inside"))]
    BadAddress {
        /// Guest physical address.
        address: u64,
    },
    /// It does not go into guest memory.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Memory(#[from] MemoryFault),
}

/// The kinds of kernel there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelKind {
    /// Linux's compressed image, entered in 64-bit mode.
    BzImage,
    /// An ELF executable.
    Elf {
        /// Entered by PVH; otherwise in 64-bit mode as Linux is.
        pvh: bool,
    },
}

#[derive(Debug)]
enum Image {
    BzImage(BzImage),
    Elf(Elf),
}

/// A kernel that looks right.
#[derive(Debug)]
pub struct Kernel {
    path: PathBuf,
    file: ImageFile,
    image: Image,
}

impl Kernel {
    /// Opens and checks a kernel. Whether the guest has room for it is not known here: see [`super::check`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, KernelError> {
        let path = path.as_ref();
        Self::try_open(path).map_err(|fault| KernelError { path: path.to_owned(), fault })
    }

    fn try_open(path: &Path) -> Result<Self, KernelFault> {
        let file = ImageFile::open(path)?;
        let head = file.read_at(0, HEAD)?;
        let image = if BzImage::claimed(&head) {
            Image::BzImage(BzImage::parse(&head, file.len())?)
        } else if Elf::claimed(&head) {
            Image::Elf(Elf::parse(&head, &file)?)
        } else {
            return Err(KernelFault::NotAKernel(looks_like(&head)));
        };
        Ok(Self { path: path.to_owned(), file, image })
    }

    /// The file as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn kind(&self) -> KernelKind {
        match &self.image {
            Image::BzImage(_) => KernelKind::BzImage,
            Image::Elf(elf) => KernelKind::Elf { pvh: elf.pvh.is_some() },
        }
    }

    /// The guest physical addresses it takes until it manages memory itself: decompression and BSS included.
    pub fn footprint(&self) -> GuestRange {
        match &self.image {
            Image::BzImage(image) => image.footprint,
            Image::Elf(elf) => elf.footprint(),
        }
    }

    /// Longest command line it takes, in bytes, without the NUL.
    pub fn cmdline_max(&self) -> usize {
        match &self.image {
            Image::BzImage(image) => image.header.cmdline_size as usize,
            Image::Elf(_) => CMDLINE_MAX,
        }
    }

    /// Highest guest physical address that may belong to an initrd.
    pub(super) fn initrd_max(&self) -> u64 {
        match &self.image {
            Image::BzImage(image) => u64::from(image.header.initrd_addr_max),
            Image::Elf(_) => INITRD_MAX,
        }
    }

    /// Its setup header, if it has one.
    pub(super) fn setup_header(&self) -> Option<setup_header> {
        match &self.image {
            Image::BzImage(image) => Some(image.header),
            Image::Elf(_) => None,
        }
    }

    /// Entry in 32-bit protected mode by PVH, which is preferred.
    pub(super) fn pvh_entry(&self) -> Option<u32> {
        match &self.image {
            Image::BzImage(_) => None,
            Image::Elf(elf) => elf.pvh,
        }
    }

    /// Entry in 64-bit mode.
    pub(super) fn entry(&self) -> u64 {
        match &self.image {
            // "The 64-bit boot protocol": the load address plus 0x200.
            Image::BzImage(image) => image.footprint.start + 0x200,
            Image::Elf(elf) => elf.entry,
        }
    }

    /// Zeroes what it expects to be zero and does not bring.
    pub(super) fn clear(&self, memory: &GuestMemoryMmap) -> Result<(), MemoryFault> {
        match &self.image {
            Image::BzImage(_) => Ok(()),
            Image::Elf(elf) => {
                elf.segments.iter().try_for_each(|it| clear(memory, it.bss(), "the kernel's BSS"))
            }
        }
    }

    /// Puts it into guest memory.
    pub(super) fn load(&self, memory: &GuestMemoryMmap) -> Result<(), KernelError> {
        self.try_load(memory).map_err(|fault| KernelError { path: self.path.clone(), fault })
    }

    fn try_load(&self, memory: &GuestMemoryMmap) -> Result<(), KernelFault> {
        let load = |offset, range| self.file.load(offset, memory, range, "the kernel");
        match &self.image {
            Image::BzImage(image) => {
                let size = self.file.len().saturating_sub(image.setup);
                load(image.setup, GuestRange::new(image.footprint.start, size))
            }
            Image::Elf(elf) => elf.segments.iter().try_for_each(|it| load(it.offset, it.contents())),
        }
    }
}

#[cfg(test)]
#[path = "kernel_test.rs"]
mod tests;
