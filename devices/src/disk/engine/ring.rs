//! Reads, writes and flushes of a raw image through io_uring.
//!
//! # Unsafe
//! The kernel reads and writes guest memory while an entry is in flight. Its buffers, which keep that memory mapped, stay
//! in `flights` until the kernel has answered.
#![expect(unsafe_code, reason = "submits pointers into guest memory to io_uring")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use io_uring::{IoUring, opcode, squeue, types};

use super::{Completion, Operation};
use crate::disk::Buffers;
use crate::disk::raw::{RawImage, ended};
use crate::disk::sys::MOST_VECTORS;

/// A ring and what it has in flight. It must be empty when it is dropped; if not, its memory is leaked.
pub(super) struct Ring {
    ring: IoUring,
    image: Arc<RawImage>,
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
}

/// A request that the kernel has.
struct Flight {
    token: u64,
    work: Work,
}

enum Work {
    Transfer { writes: bool, durable: bool, offset: u64, buffers: Buffers },
    Flush,
}

impl Ring {
    /// A ring for `depth` requests at once.
    ///
    /// # Errors
    /// The host does not have io_uring, or not for this process.
    pub(super) fn new(image: Arc<RawImage>, depth: u16) -> io::Result<Self> {
        let entries = u32::from(depth).next_power_of_two();
        // Without an interrupt to this thread for each completion, from Linux 5.19 on.
        let ring =
            IoUring::builder().setup_coop_taskrun().build(entries).or_else(|_| IoUring::new(entries))?;
        let depth = usize::from(depth);
        Ok(Self {
            ring,
            image,
            flights: (0..depth).map(|_| None).collect(),
            free: (0..depth).rev().collect(),
        })
    }

    /// Readable while there is something for [`Ring::completed`]: nobody has to signal that, nor to take a signal away.
    pub(super) fn descriptor(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Queues a request for [`Ring::submit`]; gives back what it does not do.
    pub(super) fn push(&mut self, token: u64, operation: Operation) -> Option<Operation> {
        let work = match operation {
            Operation::Read { offset, into } if self.image.reaches(&into) => {
                Work::Transfer { writes: false, durable: false, offset, buffers: into }
            }
            Operation::Write { offset, from, durable } if self.image.reaches(&from) => {
                Work::Transfer { writes: true, durable, offset, buffers: from }
            }
            Operation::Flush => Work::Flush,
            other => return Some(other),
        };
        let flight = Flight { token, work };
        match self.free.pop() {
            Some(slot) => {
                self.queue(slot, flight);
                None
            }
            // There are as many slots as requests that an engine lets in.
            None => Some(flight.into_operation()),
        }
    }

    fn queue(&mut self, slot: usize, flight: Flight) {
        let entry = flight.entry(types::Fd(self.image.file().as_raw_fd())).user_data(slot as u64);
        let Some(place) = self.flights.get_mut(slot) else { return };
        *place = Some(flight);
        loop {
            // SAFETY: what the entry points to is in `flights`, and stays there until the kernel has answered.
            match unsafe { self.ring.submission().push(&entry) } {
                Ok(()) => return,
                // There are as many entries as slots, but some may not have been handed over yet.
                Err(_) => {
                    if self.submit().is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Hands over what is queued.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Ok(_) => {}
                // The kernel has no memory for it just now, or was interrupted.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) =>
                {
                    std::thread::yield_now();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Appends what the kernel has done. What it did in part is queued again.
    pub(super) fn completed(&mut self, done: &mut Vec<Completion>) {
        let answers: Vec<(u64, i32)> =
            self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
        for (slot, result) in answers {
            let slot = slot as usize;
            let Some(flight) = self.flights.get_mut(slot).and_then(Option::take) else { continue };
            match flight.advance(result) {
                Progress::Done(completion) => {
                    self.free.push(slot);
                    done.push(completion);
                }
                Progress::More(flight) => self.queue(slot, flight),
            }
        }
    }
}

enum Progress {
    Done(Completion),
    More(Flight),
}

impl Flight {
    /// What the kernel is to do next for it.
    fn entry(&self, image: types::Fd) -> squeue::Entry {
        match &self.work {
            Work::Flush => opcode::Fsync::new(image).flags(types::FsyncFlags::DATASYNC).build(),
            Work::Transfer { writes, durable, offset, buffers } => {
                let vectors = buffers.vectors();
                let count = vectors.len().min(MOST_VECTORS) as u32;
                let flags = if *durable { libc::RWF_DSYNC } else { 0 };
                if *writes {
                    let write = opcode::Writev::new(image, vectors.as_ptr(), count);
                    write.offset(*offset).rw_flags(flags).build()
                } else {
                    opcode::Readv::new(image, vectors.as_ptr(), count).offset(*offset).build()
                }
            }
        }
    }

    /// What the kernel's answer means for it.
    fn advance(mut self, result: i32) -> Progress {
        let bytes = match usize::try_from(result) {
            Ok(bytes) => bytes,
            Err(_) if matches!(-result, libc::EINTR | libc::EAGAIN) => return Progress::More(self),
            Err(_) => return self.done(Err(io::Error::from_raw_os_error(-result))),
        };
        let Work::Transfer { offset, buffers, .. } = &mut self.work else { return self.done(Ok(())) };
        buffers.advance(bytes);
        *offset += bytes as u64;
        match (buffers.bytes(), bytes) {
            (0, _) => self.done(Ok(())),
            (_, 0) => self.done(Err(ended())),
            _ => Progress::More(self),
        }
    }

    fn done(self, result: io::Result<()>) -> Progress {
        Progress::Done(Completion { token: self.token, result })
    }

    fn into_operation(self) -> Operation {
        match self.work {
            Work::Flush => Operation::Flush,
            Work::Transfer { writes: true, durable, offset, buffers } => {
                Operation::Write { offset, from: buffers, durable }
            }
            Work::Transfer { offset, buffers, .. } => Operation::Read { offset, into: buffers },
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let flights = mem::take(&mut self.flights);
        let in_flight = flights.iter().flatten().count();
        if in_flight > 0 {
            // The kernel may still write there.
            tracing::error!(in_flight, "a disk is closed with requests in flight, guest memory is leaked");
            mem::forget(flights);
        }
    }
}
