//! Address space of this process that guest memory is mapped into, from a 1 GiB boundary on: GPA, HVA and file offset then agree modulo 1 GiB.
//!
//! # Unsafe
//! `mmap` and `munmap` of anonymous address space.
#![expect(unsafe_code, reason = "reserves address space")]

use std::{io, ptr};

use crate::layout::RAM_ALIGN;
use crate::ram::RamError;

/// Address space without access, kept for the mappings laid over it and as guard around them.
#[derive(Debug)]
pub(crate) struct Reservation {
    start: u64,
    length: usize,
    /// The first 1 GiB boundary inside.
    aligned: u64,
}

impl Reservation {
    /// Reserves room for `size` bytes.
    ///
    /// # Errors
    /// There is no such room, or the kernel refuses it.
    pub(crate) fn new(size: u64) -> Result<Self, RamError> {
        let unmappable = || RamError::Unmappable { size };
        let length = size.checked_next_multiple_of(RAM_ALIGN).and_then(|s| s.checked_add(RAM_ALIGN));
        let length = length.and_then(|l| usize::try_from(l).ok()).ok_or_else(unmappable)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let address = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(RamError::Reserve { size, source: io::Error::last_os_error() });
        }
        let start = address as u64;
        let aligned = start.next_multiple_of(RAM_ALIGN);
        Ok(Self { start, length, aligned })
    }

    /// The first 1 GiB boundary inside; `size` bytes from there on are its.
    pub(crate) fn aligned(&self) -> u64 {
        self.aligned
    }

    /// Leaves the address space mapped for good.
    pub(crate) fn leak(&mut self) {
        self.length = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.length == 0 {
            return;
        }
        // SAFETY: the range is ours, and whoever has it has made sure that nothing refers to it any more.
        if unsafe { libc::munmap(self.start as *mut libc::c_void, self.length) } < 0 {
            tracing::error!(error = %io::Error::last_os_error(), "unmapping guest memory");
        }
    }
}
