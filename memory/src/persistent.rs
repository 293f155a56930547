//! Memory of a guest that is a file of the host: what is written there is in the file, and stays when the guest has gone.
//!
//! It has an address of its own above RAM, and pages of the host's page cache, or of the medium itself where the file system
//! has none (DAX). Nothing pins them: the kernel does not pin pages of most files for the long term (`FOLL_LONGTERM`, mm/gup.c),
//! so no device that is passed through reaches them. GPA, HVA and offset agree modulo 1 GiB, as those of RAM do.
//!
//! A file can be cut short while it is mapped. Who touches what is gone gets SIGBUS, or `EFAULT` in a system call.
//!
//! # Unsafe
//! `mmap` and `madvise`, and handing the mapping to vm-memory as a raw pointer.
#![expect(unsafe_code, reason = "maps a file into guest memory")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};
use vm_memory::mmap::{MmapRegion, MmapRegionBuilder};
use vm_memory::{GuestAddress, GuestRegionMmap};

use crate::GuestRange;
use crate::bytes::MIB;
use crate::ram::RamError;
use crate::reservation::Reservation;

/// Its size is a multiple of this, in bytes: what Linux takes such memory by (`SUBSECTION_SIZE`, include/linux/mmzone.h).
pub const GRANULE: u64 = 2 * MIB;

/// A file that is mapped, from its first byte on.
#[derive(Debug)]
pub struct PersistentMemory {
    guest: GuestRange,
    hva: u64,
    writable: bool,
    mapping: Arc<MmapRegion>,
    file: Arc<File>,
    reservation: Reservation,
}

impl PersistentMemory {
    /// Maps as much of `file` as `guest` is long. Touches none of it.
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    pub fn map(file: Arc<File>, guest: GuestRange, writable: bool) -> Result<Self, RamError> {
        let reservation = Reservation::new(guest.size)?;
        let hva = reservation.aligned();
        let length = usize::try_from(guest.size).map_err(|_| RamError::Unmappable { size: guest.size })?;
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: the range lies inside our own reservation, so MAP_FIXED replaces nothing of anybody else's.
        let address = unsafe { libc::mmap(hva as *mut _, length, protection, flags, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(RamError::Map { guest, source: io::Error::last_os_error() });
        }
        for advice in [libc::MADV_DONTDUMP, libc::MADV_HUGEPAGE] {
            // SAFETY: the range was just mapped; both advices leave its contents alone.
            if unsafe { libc::madvise(address, length, advice) } < 0 {
                tracing::debug!(advice, error = %io::Error::last_os_error(), "madvise on persistent memory");
            }
        }
        let builder = MmapRegionBuilder::new(length).with_mmap_prot(protection).with_mmap_flags(flags);
        // SAFETY: the pointer is the mapping made above, `length` bytes long; it is unmapped with the reservation, which is
        // leaked if an `MmapRegion` made here is left then.
        let builder = unsafe { builder.with_raw_mmap_pointer(address.cast()) };
        let mapping = Arc::new(builder.build().map_err(|source| RamError::Region { source })?);
        Ok(Self { guest, hva, writable, mapping, file, reservation })
    }

    /// Where the guest has it.
    pub fn guest(&self) -> GuestRange {
        self.guest
    }

    /// Host virtual address of its first byte.
    pub fn hva(&self) -> u64 {
        self.hva
    }

    /// Whether the guest may write to it.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether the file still has all that is mapped of it.
    pub fn is_whole(&self) -> bool {
        // Nothing uses the file position; unlike fstat(2) this knows block devices, too.
        seek(&self.file, SeekFrom::End(0)).is_ok_and(|length| length >= self.guest.size)
    }

    /// The same for vm-memory.
    pub(crate) fn region(&self) -> Option<GuestRegionMmap> {
        GuestRegionMmap::with_arc(self.mapping.clone(), GuestAddress(self.guest.start))
    }
}

impl Drop for PersistentMemory {
    fn drop(&mut self) {
        if Arc::get_mut(&mut self.mapping).is_none() {
            tracing::error!("persistent memory is still referenced, its mapping is leaked");
            self.reservation.leak();
        }
    }
}

#[cfg(test)]
#[path = "persistent_test.rs"]
mod tests;
