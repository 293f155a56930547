//! Device memory in this process.
//!
//! # Unsafe
//!
//! A [`BarMapping`] owns the addresses it reserved until it is dropped. It never reads or writes them: the addresses
//! only go to the kernel (KVM memslots, DMA maps), so whatever the device does there cannot break this process.
#![expect(unsafe_code, reason = "mmap")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;

use devices::pci::MappedArea;
use tracing::warn;

use crate::area::PAGE;
use crate::info::RegionInfo;

/// The largest page the processor has.
const HUGE: u64 = 1 << 30;

/// The mapped parts of one BAR. They lie in one reservation, as far apart as in the BAR, and aligned as the BAR is, so
/// that the kernel can back them with huge pages.
pub struct BarMapping {
    reservation: usize,
    length: usize,
    areas: Vec<MappedArea>,
}

impl BarMapping {
    /// Maps `areas` (page-aligned, inside the region) of a region of `device`.
    ///
    /// # Errors
    /// An area that is empty or not inside, or the kernel refuses.
    pub fn new(device: &File, region: &RegionInfo, areas: &[Range<u64>]) -> io::Result<Self> {
        let align = region.size.checked_next_power_of_two().unwrap_or(HUGE).clamp(PAGE, HUGE);
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let length = region.size.checked_add(align).and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or_else(invalid)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let reservation = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            libc::mmap(ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0)
        };
        if reservation == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mut mapping = Self { reservation: reservation as usize, length, areas: Vec::new() };
        let base = (mapping.reservation as u64).checked_next_multiple_of(align).ok_or_else(invalid)?;
        let read = if region.readable { libc::PROT_READ } else { 0 };
        let write = if region.writable { libc::PROT_WRITE } else { 0 };
        for area in areas {
            let offset = region.offset.checked_add(area.start).and_then(|offset| i64::try_from(offset).ok());
            let offset = offset.ok_or_else(invalid)?;
            if area.is_empty() || area.end > region.size {
                return Err(invalid());
            }
            let (hva, size) = (base + area.start, area.end - area.start);
            // SAFETY: MAP_FIXED replaces a part of our own reservation, which nobody uses.
            let result = unsafe {
                let flags = libc::MAP_SHARED | libc::MAP_FIXED;
                libc::mmap(hva as *mut _, size as usize, read | write, flags, device.as_raw_fd(), offset)
            };
            if result == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            mapping.areas.push(MappedArea { offset: area.start, size, hva });
        }
        Ok(mapping)
    }

    /// What is mapped, and where.
    pub fn areas(&self) -> &[MappedArea] {
        &self.areas
    }
}

impl Drop for BarMapping {
    fn drop(&mut self) {
        // SAFETY: the reservation is ours, and everything mapped since lies in it.
        if unsafe { libc::munmap(self.reservation as *mut _, self.length) } != 0 {
            warn!(error = %io::Error::last_os_error(), "cannot unmap device memory");
        }
    }
}

#[cfg(test)]
#[path = "mapping_test.rs"]
mod tests;
