//! The trial pin: a long-term pin that is given back once the devices have the pages.
//!
//! io_uring's registered buffers (io_uring/rsrc.c) pin with FOLL_WRITE|FOLL_LONGTERM, a whole buffer in one
//! call, for anyone whom RLIMIT_MEMLOCK allows it. That one call faults missing pages in outside CMA and
//! ZONE_MOVABLE and evicts present ones from there. The ring never gets a request.
//!
//! # Unsafe
//! Registering a buffer is unsafe in the io-uring crate, since a later request could write to it.
#![expect(unsafe_code, reason = "registers io_uring buffers")]

use std::{io, ptr};

use io_uring::IoUring;
use thiserror::Error;

use super::privilege::Memlock;
use crate::bytes::{Bytes, GIB};
use crate::text;

/// The most one buffer may hold (SZ_1G in io_uring/rsrc.c), in bytes.
pub const MAX_TRIAL: u64 = GIB;

/// How trial pins can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pinner {
    /// By io_uring in a helper process.
    HelperIoUring,
    /// By udmabuf in a helper process.
    HelperUdmabuf,
    /// By io_uring in this process.
    OwnIoUring,
}

impl Pinner {
    /// For people, and for a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::HelperIoUring => "io_uring in a helper process",
            Self::HelperUdmabuf => "udmabuf in a helper process",
            Self::OwnIoUring => "io_uring",
        }
    }

    /// The kernel interface.
    pub(super) fn call(self) -> &'static str {
        match self {
            Self::HelperIoUring | Self::OwnIoUring => "IORING_REGISTER_BUFFERS_UPDATE",
            Self::HelperUdmabuf => "UDMABUF_CREATE",
        }
    }

    /// As a helper is told.
    pub(super) fn argument(self) -> &'static str {
        match self {
            Self::HelperIoUring | Self::OwnIoUring => "io_uring",
            Self::HelperUdmabuf => "udmabuf",
        }
    }

    /// What a helper is told.
    pub(super) fn from_argument(argument: &str) -> Option<Self> {
        [Self::HelperIoUring, Self::HelperUdmabuf].into_iter().find(|pinner| pinner.argument() == argument)
    }
}

/// How a process that held trial pins was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It died.
    Died,
    /// A seccomp filter killed it (SIGSYS): what it did is not to be done in this process.
    Forbidden,
    /// It did not answer in time, and was killed.
    Stalled,
}

/// An io_uring with a table of buffers, for trial pins. A ring pins one buffer at a time (its lock is held
/// meanwhile), so whoever wants to pin in parallel takes a ring for each thread. Dropping it gives all pins back;
/// kernels before 6.13 may take a second to do so.
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

    /// Pins all pages of `size` bytes from host virtual address `hva`, at most [`MAX_TRIAL`] bytes, in the table's
    /// `slot`. Pages that do not exist are allocated, pages in CMA or ZONE_MOVABLE are moved out of it.
    ///
    /// # Errors
    /// What the kernel says; nothing of it is pinned then. ENOMEM stands for almost anything.
    pub fn pin(&self, slot: u32, hva: u64, size: u64) -> io::Result<()> {
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        self.update(slot, libc::iovec { iov_base: hva as *mut libc::c_void, iov_len: length })
    }

    /// Gives the trial pin in `slot` back.
    pub fn release(&self, slot: u32) {
        let empty = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        if let Err(error) = self.update(slot, empty) {
            tracing::warn!(%error, "releasing a trial pin; it goes with its ring");
        }
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

/// Why trial pins cannot be held here.
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
    /// io_uring cannot be set up for another reason.
    #[error("io_uring cannot be set up: {source}")]
    Refused {
        /// What the kernel said.
        source: io::Error,
    },
    /// /dev/udmabuf is not there or not for us.
    #[error("/dev/udmabuf cannot be opened: {source}")]
    NoUdmabuf {
        /// What the kernel said.
        source: io::Error,
    },
    /// udmabuf does not pin on this kernel.
    #[error("udmabuf does not pin pages before Linux 6.12")]
    OldUdmabuf,
    /// The helper process could not be started.
    #[error("the pin helper process: {how}")]
    NoHelper {
        /// What happened.
        how: String,
    },
    /// The helper process ended.
    #[error("the pin helper process: {how}")]
    HelperLost {
        /// In which way.
        loss: Loss,
        /// The same in words.
        how: String,
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
    let level = text::read("/proc/sys/kernel/io_uring_disabled");
    level.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
#[path = "trial_test.rs"]
mod tests;
