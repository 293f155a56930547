//! Reads the start of a disk past the page cache, so that the device itself and its DMA are what is tried.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// How much of a disk is read, in bytes.
pub(super) const READ_MAX: u64 = 8 << 20;

/// One transfer, in bytes.
const CHUNK: usize = 1 << 20;
/// Alignment of direct transfers, in bytes: no smaller than any block size the kernel takes.
const ALIGN: usize = 4096;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// How many bytes.
    pub(super) bytes: u64,
    /// SHA-256 of them, in hexadecimal.
    pub(super) sha256: String,
    /// How long reading and hashing took.
    pub(super) took: Duration,
}

/// Reads up to 8 MiB from the start of a disk or file.
///
/// # Errors
/// It cannot be opened or read.
pub(super) fn read_start(path: &Path) -> io::Result<Reading> {
    let started = Instant::now();
    let mut file = open_direct(path)?;
    let mut buffer = vec![0; CHUNK + ALIGN];
    let aligned = buffer.as_ptr().align_offset(ALIGN);
    let chunk = buffer.get_mut(aligned..).and_then(|rest| rest.get_mut(..CHUNK));
    let chunk = chunk.ok_or_else(|| io::Error::other("no aligned buffer"))?;

    let mut hash = Sha256::new();
    let mut bytes: u64 = 0;
    while bytes < READ_MAX {
        let length = match file.read(chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let wanted = usize::try_from(READ_MAX - bytes).unwrap_or(usize::MAX).min(length);
        let data = chunk.get(..wanted).unwrap_or_default();
        hash.update(data);
        bytes += data.len() as u64;
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Reading { bytes, sha256, took: started.elapsed() })
}

fn open_direct(path: &Path) -> io::Result<File> {
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
    // Not every file system can: a plain read is still a read.
    direct.or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => File::open(path),
        _ => Err(error),
    })
}

#[cfg(test)]
#[path = "disk_test.rs"]
mod tests;
