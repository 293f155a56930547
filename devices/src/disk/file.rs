//! Opening the file or block device behind a disk, or behind persistent memory: of the right kind, locked, and examined.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::aligned::Aligned;
use super::error::DiskError;
use super::lock;

/// How long the lock of a process is waited for that has gone, but whose last requests the kernel is still at.
const PASSING: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// An open image file.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(super) path: PathBuf,
    pub(crate) file: File,
    /// Bytes of the file or device.
    pub(crate) size: u64,
    /// Whether it is a block device.
    pub(super) block: bool,
    /// What direct I/O asks for, if it is to be used.
    pub(super) direct: Option<DirectIo>,
}

/// How a file is to be opened.
pub(crate) struct Wanted {
    /// What errors call it.
    pub(crate) what: &'static str,
    /// Whether it is written to.
    pub(crate) writable: bool,
    /// Whether that is done past the page cache.
    pub(crate) direct: bool,
    /// Whether others are kept from it.
    pub(crate) lock: bool,
}

/// What direct I/O asks for, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirectIo {
    /// Multiples of this are transferred.
    pub(super) block: u32,
    /// Where memory may begin.
    pub(super) memory: usize,
}

impl Opened {
    /// Another opening for reading without direct I/O. It holds no lock.
    pub(super) fn for_reading(&self) -> io::Result<File> {
        use std::os::fd::AsRawFd;
        // The same file, even if another has its name by now.
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

/// Opens and locks.
///
/// # Errors
/// It cannot be opened, is no file or block device, is in use, or does not allow direct I/O.
pub(crate) fn open_file(path: &Path, wanted: &Wanted) -> Result<Opened, DiskError> {
    let &Wanted { what, writable, direct, lock } = wanted;
    let owned = || path.to_owned();
    let refused = |source| DiskError::Open { what, path: owned(), writable, source };
    let examine = |source| DiskError::Examine { what, path: owned(), source };

    // Looked at first: opening a pipe would wait, and opening a device can have effects.
    let kind = std::fs::metadata(path).map_err(refused)?.file_type();
    if let Some(kind) = unfit(kind) {
        return Err(DiskError::NotAnImage { what, path: owned(), kind });
    }
    // On a block device O_EXCL without O_CREAT asks that the host does not use it, mounted for instance.
    let exclusive = if writable && kind.is_block_device() { libc::O_EXCL } else { 0 };
    let flags = libc::O_NONBLOCK | exclusive | if direct { libc::O_DIRECT } else { 0 };
    let opened = OpenOptions::new().read(true).write(writable).custom_flags(flags).open(path);
    let file = opened.map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL) if direct => DiskError::Direct { path: owned(), source },
        _ => refused(source),
    })?;
    let metadata = file.metadata().map_err(examine)?;
    if let Some(kind) = unfit(metadata.file_type()) {
        return Err(DiskError::NotAnImage { what, path: owned(), kind });
    }
    if lock {
        acquire(&file, &metadata, wanted, path)?;
    }
    let size = length(&file).map_err(examine)?;
    let direct = direct
        .then(|| direct_io(&file).map_err(|source| DiskError::Direct { path: owned(), source }))
        .transpose()?;
    Ok(Opened { path: owned(), file, size, block: metadata.file_type().is_block_device(), direct })
}

/// Locks it. While nobody is seen to have it open, whoever had it is ending, which is waited for.
fn acquire(file: &File, metadata: &Metadata, wanted: &Wanted, path: &Path) -> Result<(), DiskError> {
    let &Wanted { what, writable, .. } = wanted;
    let deadline = Instant::now() + PASSING;
    loop {
        let locked = lock::acquire(file, writable);
        if locked.map_err(|source| DiskError::Unlockable { what, path: path.to_owned(), source })? {
            return Ok(());
        }
        let holders = holders(metadata.dev(), metadata.ino());
        if !holders.is_empty() || Instant::now() > deadline {
            return Err(DiskError::Locked { what, path: path.to_owned(), writable, holders });
        }
        thread::sleep(PAUSE);
    }
}

/// What it is, if it cannot be a disk.
fn unfit(kind: FileType) -> Option<&'static str> {
    match () {
        () if kind.is_file() || kind.is_block_device() => None,
        () if kind.is_dir() => Some("a directory"),
        () if kind.is_char_device() => Some("a character device"),
        () if kind.is_fifo() => Some("a pipe"),
        () => Some("a socket"),
    }
}

/// Bytes of a file or block device, now.
pub(super) fn length(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if metadata.file_type().is_block_device() {
        // Nothing uses the file position.
        Ok(rustix::fs::seek(file, rustix::fs::SeekFrom::End(0))?)
    } else {
        Ok(metadata.len())
    }
}

/// Finds out by trying: what is refused with EINVAL was too small or not aligned.
fn direct_io(file: &File) -> io::Result<DirectIo> {
    let mut memory = Aligned::new(2 * 4096);
    let mut works = |from: usize, length: u32| {
        let all = memory.first_mut(u64::MAX);
        let piece = all.get_mut(from..from + length as usize).unwrap_or_default();
        match file.read_at(piece, 0) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(error),
        }
    };
    for block in [512, 4096] {
        if works(0, block)? {
            let memory = if works(512, block)? { 512 } else { 4096 };
            return Ok(DirectIo { block, memory });
        }
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// Who has this file open, as far as /proc shows it: "qemu-system-x86 (pid 4711)".
fn holders(device: u64, inode: u64) -> Vec<String> {
    let mut holders = Vec::new();
    let own = std::process::id().to_string();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        let is_it = |entry: std::fs::DirEntry| {
            std::fs::metadata(entry.path()).is_ok_and(|file| file.dev() == device && file.ino() == inode)
        };
        let descriptors = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        if pid != own && pid.parse::<u32>().is_ok() && descriptors.into_iter().any(is_it) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            holders.push(format!("{} (pid {pid})", name.trim()));
        }
    }
    holders
}

#[cfg(test)]
#[path = "file_test.rs"]
mod tests;
