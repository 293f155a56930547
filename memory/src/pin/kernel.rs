//! What the bring-up needs of the kernel, as a trait, so that tests can put a scripted one in its place.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, SeekFrom};

use super::admit;
use super::bring_up::PinOptions;
use super::escalate::RootHelper;
use super::helper::{Helper, HelperCommand};
use super::mapper::Chunk;
use super::plan::{SUB_UNIT, Span};
use super::privilege::Memlock;
use super::trial::{Loss, Pinner, TrialRing, TrialUnavailable};
use crate::residency::pagemap::Pagemap;
use crate::residency::{Surveyor, Vmstat};
use crate::{Backing, GuestRam, ram};

/// The kernel as the bring-up sees it.
pub(super) trait Kernel: Sync {
    /// Something to take trial pins with, for a unit of up to `unit` bytes. Each worker asks for its own. Calls that
    /// have not come back when `stop` is set are abandoned, where that is possible.
    fn trial<'a>(
        &'a self,
        pinner: Pinner,
        unit: u64,
        stop: &'a AtomicBool,
    ) -> Result<Box<dyn Trial + 'a>, TrialUnavailable>;
    /// What there is to choose from, best first.
    fn pinners(&self) -> &[Pinner];
    /// What is pinned, as a file.
    fn memfd(&self) -> Option<BorrowedFd<'_>>;
    /// The host's counters, if they can be read.
    fn counters(&self) -> Option<Vmstat>;
    /// What may be pinned.
    fn memlock(&self) -> Memlock;
    /// Memory that could be pinned and is free or can be freed, in bytes, if that is known.
    fn spare(&self) -> Option<u64>;
    /// Whether a part of `chunk` has pages.
    fn is_populated(&self, chunk: &Chunk) -> bool;
    /// Whether the pages are huge ones of a pool.
    fn takes_from_pool(&self) -> bool;
    /// Faults `chunk` in, as any access would.
    fn populate(&self, chunk: &Chunk) -> io::Result<()>;
    /// The sub-units of `chunk` with pages that cannot be pinned where they are, relative to its start. Empty if that
    /// cannot be seen.
    fn locate(&self, surveyor: &Surveyor, chunk: &Chunk) -> Vec<Span>;
    /// Uses root's means for it.
    fn help(&self, chunk: &Chunk);
    /// Its contents.
    fn read(&self, chunk: &Chunk) -> io::Result<Vec<u8>>;
    /// Takes its pages away; it reads as zeros then.
    fn punch(&self, chunk: &Chunk) -> io::Result<()>;
    /// Sets its contents.
    fn write(&self, chunk: &Chunk, contents: &[u8]) -> io::Result<()>;
    /// Enters its pages, which exist, into this process's page tables.
    fn show(&self, chunk: &Chunk);
    /// Does the same with those that exist, so that they can be counted and located, and makes none.
    fn show_present(&self, chunk: &Chunk);
    /// Time since some fixed instant.
    fn now(&self) -> Duration;
    /// Lets `duration` pass.
    fn wait(&self, duration: Duration);
}

/// Takes trial pins. Dropping it gives back all it holds.
pub(super) trait Trial {
    /// Pins all pages of `chunk`, until `release` or for as long as this lives. With `hurry` an answer is waited for
    /// no longer than it takes for pages that are mostly in place.
    fn pin(&mut self, chunk: &Chunk, hurry: bool) -> Result<(), PinFault>;
    /// Gives back all trial pins.
    fn release(&mut self);
    /// Whether its pins still hold; if not, what became of their holder.
    fn check(&mut self) -> Result<(), PinFault>;
}

/// What came of a trial pin, if not the pin.
#[derive(Debug)]
pub(super) enum PinFault {
    /// The kernel refused. The pins taken before hold.
    Refused(io::Error),
    /// The holder is gone with all its pins.
    Lost {
        /// In which way.
        loss: Loss,
        /// The same in words.
        how: String,
    },
}

/// The kernel this process runs on.
pub(super) struct Host<'a> {
    memfd: &'a File,
    backing: Backing,
    /// Whether there were pages of a pool before. Which they are is not to be seen: hugetlbfs has no holes.
    had_pages: bool,
    helper: Option<&'a HelperCommand>,
    stall: Duration,
    root: RootHelper,
    memlock: Memlock,
    started: Instant,
}

impl<'a> Host<'a> {
    /// For `ram`, as `options` say.
    pub(super) fn new(ram: &'a GuestRam, options: &'a PinOptions) -> Self {
        Self {
            memfd: ram.file(),
            backing: ram.backing(),
            had_pages: ram.allocated() > 0,
            helper: options.helper.as_ref(),
            stall: options.stall.min(options.deadline),
            root: RootHelper::new(&options.root_help),
            memlock: Memlock::read(),
            started: Instant::now(),
        }
    }
}

impl Kernel for Host<'_> {
    fn trial<'a>(
        &'a self,
        pinner: Pinner,
        unit: u64,
        stop: &'a AtomicBool,
    ) -> Result<Box<dyn Trial + 'a>, TrialUnavailable> {
        if pinner != Pinner::HelperUdmabuf && !self.memlock.allows(unit) {
            return Err(TrialUnavailable::Memlock { need: unit, limit: self.memlock });
        }
        let slots = u32::try_from(unit.div_ceil(SUB_UNIT)).unwrap_or(u32::MAX).saturating_add(1);
        match (pinner, self.helper) {
            (Pinner::OwnIoUring, _) => Ok(Box::new(OwnTrial { ring: TrialRing::new(slots)?, used: 0 })),
            (_, Some(command)) => {
                let helper = Helper::spawn(command, pinner, self.memfd, slots, self.stall)?;
                Ok(Box::new(helper.stopped_by(stop)))
            }
            (_, None) => Err(TrialUnavailable::NoHelper { how: "none is configured".to_owned() }),
        }
    }

    fn pinners(&self) -> &[Pinner] {
        match self.helper {
            Some(_) => &[Pinner::HelperIoUring, Pinner::HelperUdmabuf, Pinner::OwnIoUring],
            None => &[Pinner::OwnIoUring],
        }
    }

    fn memfd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.memfd.as_fd())
    }

    fn counters(&self) -> Option<Vmstat> {
        Vmstat::read().ok()
    }

    fn memlock(&self) -> Memlock {
        self.memlock
    }

    fn spare(&self) -> Option<u64> {
        admit::pinnable().ok()
    }

    fn is_populated(&self, chunk: &Chunk) -> bool {
        if self.takes_from_pool() {
            return self.had_pages;
        }
        match rustix::fs::seek(self.memfd, SeekFrom::Data(chunk.offset)) {
            Ok(data) => data < chunk.offset + chunk.guest.size,
            Err(_) => false,
        }
    }

    fn takes_from_pool(&self) -> bool {
        self.backing != Backing::Pages
    }

    fn populate(&self, chunk: &Chunk) -> io::Result<()> {
        ram::populate(chunk)
    }

    fn locate(&self, surveyor: &Surveyor, chunk: &Chunk) -> Vec<Span> {
        let located = Pagemap::open().and_then(|mut pagemap| surveyor.locate(&mut pagemap, chunk, SUB_UNIT));
        let starts = located.unwrap_or_default();
        let size = |start: u64| SUB_UNIT.min(chunk.guest.size - start);
        starts.into_iter().map(|start| Span { start, size: size(start) }).collect()
    }

    fn help(&self, chunk: &Chunk) {
        if let Err(error) = self.root.help(chunk) {
            let cause = error.source.to_string();
            tracing::warn!(%error, cause, "root's means against busy memory are of no use");
        }
    }

    fn read(&self, chunk: &Chunk) -> io::Result<Vec<u8>> {
        let length = usize::try_from(chunk.guest.size).map_err(io::Error::other)?;
        let mut contents = vec![0; length];
        self.memfd.read_exact_at(&mut contents, chunk.offset)?;
        Ok(contents)
    }

    fn punch(&self, chunk: &Chunk) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(self.memfd, flags, chunk.offset, chunk.guest.size)?)
    }

    fn write(&self, chunk: &Chunk, contents: &[u8]) -> io::Result<()> {
        self.memfd.write_all_at(contents, chunk.offset)
    }

    fn show(&self, chunk: &Chunk) {
        if let Err(error) = ram::show(chunk.hva, chunk.guest.size) {
            tracing::debug!(%error, guest = %chunk.guest, "entering guest pages into the page tables");
        }
    }

    fn show_present(&self, chunk: &Chunk) {
        if let Err(error) =
            ram::show_present(self.memfd, self.backing, chunk.offset, chunk.hva, chunk.guest.size)
        {
            tracing::debug!(%error, guest = %chunk.guest, "entering the present guest pages into the page tables");
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn wait(&self, duration: Duration) {
        thread::sleep(duration);
    }
}

/// Trial pins of this process itself.
struct OwnTrial {
    ring: TrialRing,
    used: u32,
}

impl Trial for OwnTrial {
    fn pin(&mut self, chunk: &Chunk, _: bool) -> Result<(), PinFault> {
        self.ring.pin(self.used, chunk.hva, chunk.guest.size).map_err(PinFault::Refused)?;
        self.used += 1;
        Ok(())
    }

    fn release(&mut self) {
        (0..self.used).for_each(|slot| self.ring.release(slot));
        self.used = 0;
    }

    fn check(&mut self) -> Result<(), PinFault> {
        Ok(())
    }
}
