//! System calls on images: vectored I/O into guest memory, holes, and what a block device says of itself (linux/fs.h).
//!
//! # Unsafe
//! Calls through libc that take raw pointers: into guest memory, which the caller's slices borrow, or to integers that
//! the kernel fills.
#![expect(unsafe_code, reason = "vectored I/O, fallocate(2) and block device ioctls")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use libc::{c_int, c_ulong};

/// Most vectors a call takes (UIO_MAXIOV).
pub(super) const MOST_VECTORS: usize = 1024;

/// Makes a hole: the blocks are given back, and it reads as zeroes.
pub(super) const PUNCH_HOLE: c_int = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
/// Zeroes without giving anything back.
pub(super) const ZERO_RANGE: c_int = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;

/// `_IO(0x12, number)`.
const fn block_ioctl(number: c_ulong) -> c_ulong {
    0x12 << 8 | number
}
const BLKDISCARD: c_ulong = block_ioctl(119);
const BLKSSZGET: c_ulong = block_ioctl(104);
const BLKIOMIN: c_ulong = block_ioctl(120);
const BLKIOOPT: c_ulong = block_ioctl(121);
const BLKPBSZGET: c_ulong = block_ioctl(123);

/// Reads into `vectors`, the first [`MOST_VECTORS`] of them.
///
/// # Safety
/// They must be writable memory for as long as the call takes.
pub(super) unsafe fn preadv(file: &File, vectors: &[libc::iovec], offset: u64) -> io::Result<usize> {
    let (count, offset) = (vectors.len().min(MOST_VECTORS) as c_int, offset as libc::off_t);
    // SAFETY: `vectors` holds `count` vectors, and the caller vouches for what they point to.
    retry(|| unsafe { libc::preadv(file.as_raw_fd(), vectors.as_ptr(), count, offset) })
}

/// Writes `vectors`, the first [`MOST_VECTORS`] of them.
///
/// # Safety
/// They must be readable memory for as long as the call takes.
pub(super) unsafe fn pwritev(file: &File, vectors: &[libc::iovec], offset: u64) -> io::Result<usize> {
    let (count, offset) = (vectors.len().min(MOST_VECTORS) as c_int, offset as libc::off_t);
    // SAFETY: `vectors` holds `count` vectors, and the caller vouches for what they point to.
    retry(|| unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), count, offset) })
}

/// fallocate(2).
pub(super) fn fallocate(file: &File, mode: c_int, offset: u64, length: u64) -> io::Result<()> {
    let (offset, length) = (offset as libc::off_t, length as libc::off_t);
    // SAFETY: a call on an open descriptor with integers only.
    retry(|| unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, length) as isize }).map(drop)
}

/// Discards a part of a block device.
pub(super) fn discard_blocks(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let range = [offset, length];
    // SAFETY: BLKDISCARD reads two 64-bit numbers, which `range` is.
    retry(|| unsafe { libc::ioctl(file.as_raw_fd(), BLKDISCARD, range.as_ptr()) as isize }).map(drop)
}

/// What a block device says of its blocks, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockSizes {
    pub(super) logical: u32,
    pub(super) physical: u32,
    pub(super) minimum: u32,
    pub(super) optimal: u32,
}

/// Asks a block device for its block sizes.
pub(super) fn block_sizes(file: &File) -> io::Result<BlockSizes> {
    let ask = |request: c_ulong| {
        let mut value: c_int = 0;
        // SAFETY: each of these requests writes one int (the kernel's `put_int` and `put_uint`), which `value` is.
        retry(|| unsafe { libc::ioctl(file.as_raw_fd(), request, &raw mut value) as isize })?;
        Ok::<_, io::Error>(value as u32)
    };
    Ok(BlockSizes {
        logical: ask(BLKSSZGET)?,
        physical: ask(BLKPBSZGET)?,
        minimum: ask(BLKIOMIN)?,
        optimal: ask(BLKIOOPT)?,
    })
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(done) = usize::try_from(call()) {
            return Ok(done);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
