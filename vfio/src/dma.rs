//! The IOMMU address space that all devices of a machine share but those that the guest confines, which have their own; through either
//! of the kernel's interfaces.
//!
//! It lives as long as the machine's session: guest reboots neither close it nor touch its maps of RAM. One for all
//! devices means that memory is pinned, and counted against the memlock limit, once.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

use devices::pci::MappedArea;
use devices::virtio::iommu::Access;
use memory::GuestRange;
use memory::pin::{Chunk, DmaMapper, MapError};

use crate::container::Container;
use crate::info::Aperture;
use crate::ioas::Ioas;

/// A kernel interface to VFIO devices and the IOMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Each device's own node, with an IOAS of /dev/iommu (Linux 6.6).
    Iommufd,
    /// Groups in a container of /dev/vfio/vfio.
    Container,
}

impl Backend {
    /// As it is typed.
    pub const NAMES: [(&'static str, Self); 2] = [("iommufd", Self::Iommufd), ("container", Self::Container)];
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iommufd => "iommufd",
            Self::Container => "container",
        })
    }
}

/// One IOMMU address space. Maps guest RAM as a [`DmaMapper`].
pub enum DmaSpace {
    /// Of an iommufd.
    Ioas(Ioas),
    /// Of a VFIO container.
    Container(Container),
}

impl DmaSpace {
    /// Which interface it is of.
    pub fn backend(&self) -> Backend {
        match self {
            Self::Ioas(_) => Backend::Iommufd,
            Self::Container(_) => Backend::Container,
        }
    }

    /// What the IOMMU can translate, for all devices together.
    pub fn aperture(&self) -> Aperture {
        match self {
            Self::Ioas(ioas) => ioas.aperture(),
            Self::Container(container) => container.aperture(),
        }
    }

    /// Lets the other devices of the machine reach a device's BAR: maps `area` at IOVA `gpa`. A failure costs
    /// peer-to-peer DMA and nothing else.
    pub fn map_mmio(&self, gpa: u64, area: &MappedArea) -> Result<(), MapError> {
        match self {
            Self::Ioas(ioas) => ioas.map_mmio(gpa, area),
            Self::Container(container) => container.map_range(gpa, area.size, area.hva, Access::ALL),
        }
    }

    /// Undoes [`DmaSpace::map_mmio`] of exactly this area.
    pub fn unmap_mmio(&self, gpa: u64, area: &MappedArea) -> Result<(), MapError> {
        self.unmap_range(GuestRange::new(gpa, area.size))
    }

    /// Maps `chunk` where it says, its guest address being the IOVA. `held` is as for [`DmaMapper::map`].
    pub(crate) fn map_for(
        &self,
        chunk: &Chunk,
        access: Access,
        held: Option<BorrowedFd<'_>>,
    ) -> Result<(), MapError> {
        match self {
            Self::Ioas(ioas) => ioas.map(chunk, access, held),
            Self::Container(container) => {
                container.map_range(chunk.guest.start, chunk.guest.size, chunk.hva, access)
            }
        }
    }

    /// Unmaps all of `iova`, which no map lies only partly in.
    ///
    /// # Errors
    /// The kernel refuses, or less was mapped.
    pub fn unmap_range(&self, iova: GuestRange) -> Result<(), MapError> {
        match self {
            Self::Ioas(ioas) => ioas.unmap_range(iova.start, iova.size),
            Self::Container(container) => container.unmap_range(iova.start, iova.size),
        }
    }

    /// Unmaps all there is.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn clear(&self) -> io::Result<()> {
        match self {
            Self::Ioas(ioas) => ioas.clear(),
            Self::Container(container) => container.clear(),
        }
    }

    /// The IOMMU groups that are attached, each with its descriptor; none for an iommufd, which has devices attached.
    pub(crate) fn groups(&self) -> Vec<(u32, RawFd)> {
        match self {
            Self::Ioas(_) => Vec::new(),
            Self::Container(container) => container.groups(),
        }
    }

    /// Tells which BAR is behind areas that may be given to [`DmaSpace::map_mmio`].
    pub(crate) fn know_mmio(&self, device: &Arc<File>, index: u32, areas: &[MappedArea]) {
        if let Self::Ioas(ioas) = self {
            ioas.know_mmio(device, index, areas);
        }
    }
}

impl DmaMapper for DmaSpace {
    fn map(&self, chunk: &Chunk, held: Option<BorrowedFd<'_>>) -> Result<(), MapError> {
        self.map_for(chunk, Access::ALL, held)
    }

    fn unmap(&self, chunk: &Chunk) -> Result<(), MapError> {
        self.unmap_range(chunk.guest)
    }

    fn room(&self) -> Option<u64> {
        self.aperture().dma_avail.map(u64::from)
    }

    fn counts_by_user(&self) -> bool {
        match self {
            Self::Ioas(ioas) => ioas.counts_by_user(),
            Self::Container(_) => false,
        }
    }
}
