//! The trial pin: a long-term pin that is given back once the devices have the pages.
//!
//! io_uring's registered buffers (io_uring/rsrc.c) pin with FOLL_WRITE|FOLL_LONGTERM, a whole buffer in one
//! call, for anyone whom RLIMIT_MEMLOCK allows it. That one call faults missing pages in outside CMA and
//! ZONE_MOVABLE and evicts present ones from there. The ring never gets a request.
//!
//! # Unsafe
//! Registering a buffer is unsafe in the io-uring crate, since a later request could write to it.
#![expect(unsafe_code, reason = "registers io_uring buffers")]

use std::{fs, io, ptr};

use io_uring::IoUring;
use thiserror::Error;

use super::mapper::Chunk;
use super::privilege::Memlock;
use crate::bytes::{Bytes, GIB};

/// The most one buffer may hold (SZ_1G in io_uring/rsrc.c), in bytes.
pub const MAX_TRIAL: u64 = GIB;

/// An io_uring with a table of buffers, for trial pins. A ring pins one buffer at a time (its lock is held
/// meanwhile), so whoever wants to pin in parallel takes a ring for each thread.
pub struct TrialRing {
    ring: IoUring,
    slots: u32,
}

impl TrialRing {
    /// A ring that can hold `slots` trial pins.
    ///
    /// # Errors
    /// io_uring is not to be had here, with the reason.
    pub fn new(slots: u32) -> Result<Self, TrialUnavailable> {
        let ring = IoUring::new(1).map_err(setup_refused)?;
        ring.submitter().register_buffers_sparse(slots).map_err(|source| match source.raw_os_error() {
            Some(libc::EINVAL) => TrialUnavailable::NoSparseTable,
            _ => TrialUnavailable::Refused { source },
        })?;
        Ok(Self { ring, slots })
    }

    /// Pins all pages of `chunk`, at most [`MAX_TRIAL`] bytes, in the table's `slot`. Pages that do not exist are
    /// allocated, pages in CMA or ZONE_MOVABLE are moved out of it.
    ///
    /// # Errors
    /// What the kernel says; nothing of the chunk is pinned then. ENOMEM stands for almost anything.
    pub fn pin(&self, slot: u32, chunk: &Chunk) -> io::Result<TrialPin<'_>> {
        let length = usize::try_from(chunk.guest.size).unwrap_or(usize::MAX);
        self.update(slot, libc::iovec { iov_base: chunk.hva as *mut libc::c_void, iov_len: length })?;
        Ok(TrialPin { ring: self, slot })
    }

    fn update(&self, slot: u32, buffer: libc::iovec) -> io::Result<()> {
        // SAFETY: registering pins the pages and no more; the kernel checks the range, and no request is ever
        // submitted that could read or write the buffer.
        unsafe { self.ring.submitter().register_buffers_update(slot, &[buffer], None) }
    }
}

impl std::fmt::Debug for TrialRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrialRing").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// A trial pin that holds. Dropping it gives it back; kernels before 6.13 may take a second to do so.
#[derive(Debug)]
pub struct TrialPin<'a> {
    ring: &'a TrialRing,
    slot: u32,
}

impl Drop for TrialPin<'_> {
    fn drop(&mut self) {
        let empty = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        if let Err(error) = self.ring.update(self.slot, empty) {
            tracing::warn!(%error, "releasing a trial pin; it goes with its ring");
        }
    }
}

/// Why io_uring cannot hold trial pins here.
#[derive(Debug, Error)]
pub enum TrialUnavailable {
    /// The kernel is built without it.
    #[error("the kernel has no io_uring")]
    NoIoUring,
    /// Forbidden by the administrator.
    #[error("io_uring is disabled (sysctl kernel.io_uring_disabled = {level})")]
    Disabled {
        /// 1: for unprivileged processes, 2: for all.
        level: u32,
    },
    /// Forbidden by a seccomp filter or a security module.
    #[error("io_uring is forbidden by a seccomp filter or a security module")]
    Forbidden,
    /// The kernel cannot add one buffer to others.
    #[error("the kernel has no sparse io_uring buffer tables (they came with Linux 5.19)")]
    NoSparseTable,
    /// RLIMIT_MEMLOCK does not allow a single trial pin.
    #[error("a trial pin of {} exceeds RLIMIT_MEMLOCK ({limit})", Bytes(*need))]
    Memlock {
        /// Bytes of one trial pin.
        need: u64,
        /// What is allowed.
        limit: Memlock,
    },
    /// Anything else.
    #[error("io_uring cannot be set up: {source}")]
    Refused {
        /// What the kernel said.
        source: io::Error,
    },
}

fn setup_refused(source: io::Error) -> TrialUnavailable {
    match source.raw_os_error() {
        Some(libc::ENOSYS) => TrialUnavailable::NoIoUring,
        Some(libc::EPERM | libc::EACCES) => match disabled_level() {
            0 => TrialUnavailable::Forbidden,
            level => TrialUnavailable::Disabled { level },
        },
        _ => TrialUnavailable::Refused { source },
    }
}

fn disabled_level() -> u32 {
    let level = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    level.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
#[path = "trial_test.rs"]
mod tests;
