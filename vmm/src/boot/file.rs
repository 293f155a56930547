//! Kernel and initrd files on the host: opened once, checked, loaded as often as the guest reboots.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use memory::GuestRange;
use miette::Diagnostic;
use thiserror::Error;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::{MemoryFault, write};

/// What is copied at a time: stays in the CPU's cache.
const COPIED: u64 = 64 << 10;
/// Where the host may give one, in guest physical addresses.
const HUGE_PAGE: u64 = 2 << 20;
/// Less is not worth a thread.
const SHARE: u64 = 2 << 20;
/// More do not help: memory has a bandwidth.
const MOST_SHARES: u64 = 8;

/// What is wrong with a file, whatever it was to hold.
#[derive(Debug, Error, Diagnostic)]
pub enum FileFault {
    /// No such file.
    #[error("it does not exist")]
    #[diagnostic(help("check the path"))]
    Missing,
    /// A directory.
    #[error("it is a directory")]
    #[diagnostic(help("name a file in it"))]
    Directory,
    /// A device, a pipe, a socket.
    #[error("it is not a regular file")]
    #[diagnostic(help("copy it to a regular file first"))]
    Special,
    /// No bytes in it.
    #[error("it is empty")]
    #[diagnostic(help("build or copy it again"))]
    Empty,
    /// Not to be opened or read.
    #[error("it cannot be read")]
    #[diagnostic(help("check its permissions and those of the directories above it"))]
    Unreadable(#[source] io::Error),
    /// Replaced or truncated in place while the guest ran.
    #[error("it had {then} bytes when it was opened and has {now} now")]
    #[diagnostic(help("replace such files by renaming a new one over them, never in place"))]
    Changed {
        /// Length when opened, in bytes.
        then: u64,
        /// Length now, in bytes.
        now: u64,
    },
}

/// A non-empty regular file (or memfd).
#[derive(Debug)]
pub(super) struct ImageFile {
    file: Arc<File>,
    len: u64,
}

impl ImageFile {
    /// Opens the file. Looks before it opens, since opening a pipe would block.
    pub(super) fn open(path: &Path) -> Result<Self, FileFault> {
        check(&std::fs::metadata(path).map_err(fault)?)?;
        Self::from_file(Arc::new(File::open(path).map_err(fault)?))
    }

    /// Takes a file that is open already.
    pub(super) fn from_file(file: Arc<File>) -> Result<Self, FileFault> {
        let len = check(&file.metadata().map_err(fault)?)?;
        Ok(Self { file, len })
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes from `offset` on, `count` of them, fewer at the end of the file.
    pub(super) fn read_at(&self, offset: u64, count: usize) -> Result<Vec<u8>, FileFault> {
        let mut bytes = vec![0; count];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FileFault::Unreadable(error)),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    /// Copies the bytes from `offset` on to all of `range` of guest memory. Fails when the file's length is no longer the one
    /// that was checked.
    pub(super) fn load<E: From<FileFault> + From<MemoryFault> + Send>(
        &self,
        offset: u64,
        memory: &GuestMemoryMmap,
        range: GuestRange,
        what: &'static str,
    ) -> Result<(), E> {
        let now = self.file.metadata().map_err(fault)?.len();
        if now != self.len || offset.checked_add(range.size).is_none_or(|end| end > now) {
            return Err(FileFault::Changed { then: self.len, now }.into());
        }
        in_shares(range.size, &|share: Range<u64>| {
            let mut buffer = vec![0; COPIED.min(share.end - share.start) as usize];
            let mut done = share.start;
            while done < share.end {
                let size = COPIED.min(share.end - done) as usize;
                let part = buffer.get_mut(..size).unwrap_or_default();
                let at = range.start + done;
                self.file.read_exact_at(part, offset + done).map_err(FileFault::Unreadable)?;
                // Only an access to the mapping is given a huge page.
                if done == share.start || at % HUGE_PAGE < COPIED {
                    write(memory, at, part.get(..1).unwrap_or_default(), what)?;
                }
                if !write_file(memory, at, part) {
                    write(memory, at, part, what)?;
                }
                done += size as u64;
            }
            Ok(())
        })
    }
}

/// Has `work` done for `0..size` by as many threads as are of use; nearly all of it is the kernel's, which gives each page of
/// guest memory its first contents. Without threads it is done all the same.
fn in_shares<E: Send>(size: u64, work: &(dyn Fn(Range<u64>) -> Result<(), E> + Sync)) -> Result<(), E> {
    let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    let shares = (size / SHARE).min(cpus).clamp(1, MOST_SHARES);
    let share = size.div_ceil(shares);
    thread::scope(|scope| {
        let start = |index: u64| {
            let range = (index * share).min(size)..((index + 1) * share).min(size);
            let started = thread::Builder::new().name("load".to_owned());
            started
                .spawn_scoped(scope, {
                    let range = range.clone();
                    move || work(range)
                })
                .map_err(|_| range)
        };
        let others: Vec<_> = (1..shares).map(start).collect();
        let own = work(0..share.min(size));
        let others = others.into_iter().map(|other| match other {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(range) => work(range),
        });
        // All of them end before this returns, whatever became of the first.
        others.fold(own, Result::and)
    })
}

/// Writes to the file behind guest memory, which takes half the time of writing through its mapping where that has no pages
/// yet: there is no fault for each, and none is zeroed to be overwritten. Not everything that memory can be made of can be
/// written like that.
fn write_file(memory: &GuestMemoryMmap, at: u64, bytes: &[u8]) -> bool {
    let Some((region, within)) = memory.to_region_addr(GuestAddress(at)) else { return false };
    let fits = within.0.checked_add(bytes.len() as u64).is_some_and(|end| end <= region.len());
    match region.file_offset() {
        Some(backing) if fits => backing.file().write_all_at(bytes, backing.start() + within.0).is_ok(),
        _ => false,
    }
}

fn check(metadata: &Metadata) -> Result<u64, FileFault> {
    if metadata.is_dir() {
        return Err(FileFault::Directory);
    }
    if !metadata.is_file() {
        return Err(FileFault::Special);
    }
    match metadata.len() {
        0 => Err(FileFault::Empty),
        len => Ok(len),
    }
}

fn fault(error: io::Error) -> FileFault {
    match error.kind() {
        io::ErrorKind::NotFound => FileFault::Missing,
        _ => FileFault::Unreadable(error),
    }
}
