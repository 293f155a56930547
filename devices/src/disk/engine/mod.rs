//! Requests in flight: an [`Engine`] takes them from one queue and says, by descriptors to wait for, when some are done.
//!
//! Reads, writes and flushes of a raw image go through io_uring. All else is done by threads that wait for it: everything
//! of qcow2, discards and zeroes (which fallocate(2) and ioctls do, and which are rare), what direct I/O cannot reach
//! where it is in guest memory, and raw images where the host has no io_uring.
//!
//! Nothing is registered with the ring. Guest memory would be pinned by that, all of it, and with VFIO a second time. The
//! image would stay open, and locked, for as long as the kernel takes to dispose of a ring whose process has gone.

mod pool;
mod ring;

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::{Buffers, Disk};
use crate::eventfd::poll;
pub(super) use pool::Pool;
use pool::Replies;
use ring::Ring;

/// What a queue asks of a disk. Offsets and lengths are in bytes.
#[derive(Debug)]
pub enum Operation {
    /// Fill the buffers from there on.
    Read {
        /// Where on the disk.
        offset: u64,
        /// What is filled.
        into: Buffers,
    },
    /// Write the buffers there.
    Write {
        /// Where on the disk.
        offset: u64,
        /// What is written.
        from: Buffers,
        /// Done only when it would survive a power failure.
        durable: bool,
    },
    /// Make durable all writes that were done before.
    Flush,
    /// Give back what lies there; it may read as anything afterwards.
    Discard {
        /// Where on the disk.
        offset: u64,
        /// How much.
        length: u64,
    },
    /// Zero what lies there.
    WriteZeroes {
        /// Where on the disk.
        offset: u64,
        /// How much.
        length: u64,
        /// Give it back if possible.
        unmap: bool,
    },
}

impl Operation {
    /// The part of the disk it is about, and whether it changes it. `None`: all of it.
    fn range(&self) -> Option<(u64, u64, bool)> {
        match self {
            Self::Read { offset, into } => Some((*offset, into.bytes(), false)),
            Self::Write { offset, from, .. } => Some((*offset, from.bytes(), true)),
            Self::Flush => None,
            Self::Discard { offset, length } | Self::WriteZeroes { offset, length, .. } => {
                Some((*offset, *length, true))
            }
        }
    }
}

/// Why a request is not even begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Part of it lies beyond the end of the disk.
    #[error("a request for {length} bytes at {offset} lies beyond the end of a disk of {size} bytes")]
    Range {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: u64,
        /// How large the disk is.
        size: u64,
    },
    /// The disk cannot be written to.
    #[error("the disk is read-only")]
    ReadOnly,
    /// As many requests are in flight as there can be.
    #[error("too many requests are in flight")]
    Full,
}

/// A request that is done.
#[derive(Debug)]
pub struct Completion {
    /// What the request was submitted with.
    pub token: u64,
    /// How it went.
    pub result: io::Result<()>,
}

/// What to wait for.
#[derive(Clone, Copy, Debug)]
pub struct Readiness {
    /// Signalled by threads; stays readable until that is acknowledged.
    pub threads: RawFd,
    /// Readable while the kernel's answers have not been taken.
    pub ring: Option<RawFd>,
}

/// The requests of one queue. Dropping it waits until none is in flight.
pub struct Engine {
    disk: Arc<Disk>,
    ring: Option<Ring>,
    replies: Arc<Replies>,
    in_flight: usize,
    depth: u16,
}

impl Engine {
    /// An engine for up to `depth` requests at once.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub fn new(disk: &Arc<Disk>, depth: u16) -> io::Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let ring = disk.raw().and_then(|image| {
            Ring::new(Arc::clone(image), depth)
                .inspect_err(
                    |error| tracing::info!(%error, "no io_uring, disks are read and written by threads"),
                )
                .ok()
        });
        let replies = Arc::new(Replies::new(event));
        Ok(Self { disk: Arc::clone(disk), ring, replies, in_flight: 0, depth })
    }

    /// Those that are readable when requests are done: call [`Engine::completed`] then, after [`Engine::acknowledge`] for
    /// what threads did.
    pub fn events(&self) -> Readiness {
        let threads = self.replies.event().as_raw_fd();
        Readiness { threads, ring: self.ring.as_ref().map(Ring::descriptor) }
    }

    /// Takes away the signal of the threads.
    pub fn acknowledge(&self) {
        self.replies.acknowledge();
    }

    /// Requests that are not done.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Begins a request. It may wait for [`Engine::kick`].
    ///
    /// # Errors
    /// Why it cannot be done.
    pub fn submit(&mut self, token: u64, operation: Operation) -> Result<(), Refused> {
        if let Some((offset, length, writes)) = operation.range() {
            let size = self.disk.size();
            if offset.checked_add(length).is_none_or(|end| end > size) {
                return Err(Refused::Range { offset, length, size });
            }
            if writes && self.disk.is_read_only() {
                return Err(Refused::ReadOnly);
            }
        }
        if self.in_flight >= usize::from(self.depth) {
            return Err(Refused::Full);
        }
        self.in_flight += 1;
        let operation = match &mut self.ring {
            Some(ring) => ring.push(token, operation),
            None => Some(operation),
        };
        if let Some(operation) = operation {
            self.disk.pool().submit(token, operation, &self.replies);
        }
        Ok(())
    }

    /// Hands over what was submitted.
    ///
    /// # Errors
    /// The kernel refuses, which it has no reason to.
    pub fn kick(&mut self) -> io::Result<()> {
        self.ring.as_mut().map_or(Ok(()), Ring::submit)
    }

    /// Takes what is done.
    ///
    /// # Errors
    /// As for [`Engine::kick`]: the rest of a request that the kernel did in part is handed over again.
    pub fn completed(&mut self) -> io::Result<Vec<Completion>> {
        let mut done = self.replies.take();
        if let Some(ring) = &mut self.ring {
            ring.completed(&mut done);
            ring.submit()?;
        }
        self.in_flight = self.in_flight.saturating_sub(done.len());
        Ok(done)
    }

    /// Waits until nothing is in flight; what was is forgotten.
    ///
    /// # Errors
    /// As for [`Engine::kick`].
    pub fn drain(&mut self) -> io::Result<()> {
        while self.in_flight > 0 {
            self.kick()?;
            if self.completed()?.is_empty() {
                self.wait();
            }
        }
        Ok(())
    }

    /// Waits until some request is done. A signal may end that early.
    pub(super) fn wait(&self) {
        let Readiness { threads, ring } = self.events();
        // A negative one is none to poll(2).
        poll([threads, ring.unwrap_or(-1)], -1);
        self.acknowledge();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.drain() {
            tracing::error!(%error, in_flight = self.in_flight, "requests of a disk are not waited for");
        }
    }
}

#[cfg(test)]
#[path = "engine_test.rs"]
mod tests;
