//! The seam between pinning and whoever maps memory for devices.

use std::io;
use std::os::fd::BorrowedFd;

use crate::GuestRange;

/// A run of guest RAM, contiguous in all three address spaces it is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Guest physical addresses; the IOVA a device uses is the same number.
    pub guest: GuestRange,
    /// Host virtual address of its first byte in this process.
    pub hva: u64,
    /// Offset of its first byte in the RAM memfd, in bytes.
    pub offset: u64,
}

/// A DMA map call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} iova {guest}")]
pub struct MapError {
    /// The kernel interface that refused, for example `VFIO_IOMMU_MAP_DMA`.
    pub call: &'static str,
    /// What was to be mapped (IOVA, identical to the guest physical address).
    pub guest: GuestRange,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Maps guest RAM for the devices of one machine, IOVA = GPA. Mapping pins: the kernel holds the pages
/// until [`DmaMapper::unmap`] of the same chunk.
pub trait DmaMapper: Send + Sync {
    /// Maps the chunk readable and writable. All or nothing. `held` is the RAM memfd if a trial pin holds every page of
    /// the chunk: only then may it be mapped by file, since a pin by file may loop in the kernel for ever where pages
    /// have to be moved, and no signal ends it.
    fn map(&self, chunk: &Chunk, held: Option<BorrowedFd<'_>>) -> Result<(), MapError>;
    /// Undoes [`DmaMapper::map`] of exactly this chunk.
    fn unmap(&self, chunk: &Chunk) -> Result<(), MapError>;
    /// How many more maps it takes; `None` for as many as there is kernel memory for.
    fn room(&self) -> Option<u64> {
        None
    }
    /// Whether what it pins counts against what the user has locked in all processes, trial pins included, instead of
    /// this process alone.
    fn counts_by_user(&self) -> bool {
        false
    }
}
