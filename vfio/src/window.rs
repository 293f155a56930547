//! A piece of guest RAM as a device that the guest confines sees it: at an IOVA of the guest's choice, for reading, writing or both.

use std::os::fd::BorrowedFd;

use devices::virtio::iommu::Access;
use memory::GuestRange;
use memory::pin::{Chunk, DmaMapper, MapError};

use crate::dma::DmaSpace;

/// Maps chunks of one piece of guest RAM, as far apart as they are there.
pub struct Window<'a> {
    space: &'a DmaSpace,
    /// What is added to a guest physical address to make an IOVA, modulo 2^64.
    shift: u64,
    access: Access,
}

impl<'a> Window<'a> {
    /// Shows what begins at the guest physical address `gpa` at `iova`.
    pub fn new(space: &'a DmaSpace, gpa: u64, iova: u64, access: Access) -> Self {
        Self { space, shift: iova.wrapping_sub(gpa), access }
    }

    fn shifted(&self, chunk: &Chunk) -> Chunk {
        let guest = GuestRange { start: chunk.guest.start.wrapping_add(self.shift), ..chunk.guest };
        Chunk { guest, ..*chunk }
    }
}

impl DmaMapper for Window<'_> {
    fn map(&self, chunk: &Chunk, held: Option<BorrowedFd<'_>>) -> Result<(), MapError> {
        self.space.map_for(&self.shifted(chunk), self.access, held)
    }

    fn unmap(&self, chunk: &Chunk) -> Result<(), MapError> {
        self.space.unmap_range(self.shifted(chunk).guest)
    }

    fn room(&self) -> Option<u64> {
        self.space.room()
    }

    fn counts_by_user(&self) -> bool {
        self.space.counts_by_user()
    }
}
