//! Pieces of guest memory that data is read into or written from, mapped for as long as they are used.
//!
//! # Unsafe
//! Vectors point into the guest's RAM, which each [`Buffers`] keeps.
#![expect(unsafe_code, reason = "pointers into guest memory that outlive a borrow")]

use std::fmt;
use std::sync::Arc;

use memory::{GuestRam, GuestRange};
use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileSlice};

/// Pieces of guest memory, in order.
pub struct Buffers {
    vectors: Vec<libc::iovec>,
    /// How many of the vectors are done with.
    passed: usize,
    bytes: u64,
    /// What the vectors point into.
    ram: Arc<GuestRam>,
}

// SAFETY: the vectors point into `ram`, which is mapped in every thread, and which nobody expects to hold still.
unsafe impl Send for Buffers {}
// SAFETY: as for `Send`; through a shared reference the vectors can only be looked at.
unsafe impl Sync for Buffers {}

impl Buffers {
    /// The memory of `ranges`. `None` if not all of it is guest memory.
    pub fn new(ram: &Arc<GuestRam>, ranges: impl IntoIterator<Item = GuestRange>) -> Option<Self> {
        let (mut vectors, mut bytes) = (Vec::new(), 0_u64);
        for range in ranges {
            let length = usize::try_from(range.size).ok()?;
            for slice in GuestMemoryBackend::get_slices(ram.buffers(), GuestAddress(range.start), length) {
                let slice = slice.ok()?;
                vectors.push(libc::iovec {
                    iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                    iov_len: slice.len(),
                });
            }
            bytes = bytes.checked_add(range.size)?;
        }
        Some(Self { vectors, passed: 0, bytes, ram: Arc::clone(ram) })
    }

    /// Bytes in all of them, or left.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the kernel is told. Valid, as memory, while `self` lives.
    pub(super) fn vectors(&self) -> &[libc::iovec] {
        self.vectors.get(self.passed..).unwrap_or_default()
    }

    /// The same for rust-vmm.
    pub(super) fn slices(&self) -> Vec<VolatileSlice<'_>> {
        let slice = |vector: &libc::iovec| {
            // SAFETY: the vector was made of a slice of `ram`, or is a part of one; `ram` is borrowed as long as this is.
            unsafe { VolatileSlice::new(vector.iov_base.cast(), vector.iov_len) }
        };
        self.vectors().iter().map(slice).collect()
    }

    /// Whether all pieces begin and end at multiples of `alignment`, a power of two.
    pub(super) fn are_aligned(&self, alignment: usize) -> bool {
        let misaligned = |v: &libc::iovec| (v.iov_base.addr() | v.iov_len) & (alignment - 1) != 0;
        !self.vectors().iter().any(misaligned)
    }

    /// Passes the next `bytes` bytes.
    pub(super) fn advance(&mut self, bytes: usize) {
        let mut left = bytes;
        while let Some(vector) = self.vectors.get_mut(self.passed) {
            if left < vector.iov_len {
                vector.iov_base = vector.iov_base.wrapping_byte_add(left);
                vector.iov_len -= left;
                break;
            }
            left -= vector.iov_len;
            self.passed += 1;
        }
        self.bytes = self.bytes.saturating_sub(bytes as u64);
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes in {} pieces of {} bytes of RAM",
            self.bytes,
            self.vectors().len(),
            self.ram.size()
        )
    }
}

#[cfg(test)]
#[path = "buffers_test.rs"]
mod tests;
