//! Keeping others from an image while it is used: one writer, or any number of readers.
//!
//! The locks are those of QEMU (block/file-posix.c there), so that it and vmm exclude one another. A byte of the
//! file, far from meaning anything, stands for each thing that somebody may do with an image; holding a shared lock
//! on it says "I do this", and on another byte, "nobody else may do this". Both are open-file-description locks:
//! they go when the last descriptor for this opening is closed, however that happens.
//!
//! # Unsafe
//! `fcntl(2)` with its lock structure, which rustix does not offer for open file descriptions.
#![expect(unsafe_code, reason = "fcntl(2) with open-file-description locks")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// First byte that says what the holder does (`RAW_LOCK_PERM_BASE`).
const DOES: i64 = 100;
/// First byte that says what the holder lets nobody else do (`RAW_LOCK_SHARED_BASE`).
const FORBIDS: i64 = 200;
/// Reading, expecting that what is read stays (`BLK_PERM_CONSISTENT_READ`, bit 0).
const READ: i64 = 0;
/// Writing (`BLK_PERM_WRITE`, bit 1).
const WRITE: i64 = 1;
/// Changing the size (`BLK_PERM_RESIZE`, bit 3).
const RESIZE: i64 = 3;

/// Takes the locks of a reader or a writer. They are held by `file`'s opening, together with its duplicates.
///
/// # Returns
/// Whether they could be had.
///
/// # Errors
/// The file system has no such locks.
pub(super) fn acquire(file: &File, writable: bool) -> io::Result<bool> {
    let does: &[i64] = if writable { &[READ, WRITE, RESIZE] } else { &[READ] };
    let forbids = [WRITE, RESIZE];
    for &what in does {
        share(file, DOES + what)?;
    }
    for what in forbids {
        share(file, FORBIDS + what)?;
    }
    // Each side takes its locks first and looks at those of others then, so that of two at once at least one sees it.
    for &what in does {
        if is_held(file, FORBIDS + what)? {
            return release(file).map(|()| false);
        }
    }
    for what in forbids {
        if is_held(file, DOES + what)? {
            return release(file).map(|()| false);
        }
    }
    Ok(true)
}

/// Lets go of all of them.
fn release(file: &File) -> io::Result<()> {
    let mut lock = describe(libc::F_UNLCK, DOES);
    lock.l_len = FORBIDS - DOES + 64;
    call(file, libc::F_OFD_SETLK, &mut lock)
}

fn share(file: &File, byte: i64) -> io::Result<()> {
    call(file, libc::F_OFD_SETLK, &mut describe(libc::F_RDLCK, byte))
}

/// Whether another opening of the file holds a lock on the byte.
fn is_held(file: &File, byte: i64) -> io::Result<bool> {
    let mut lock = describe(libc::F_WRLCK, byte);
    call(file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn describe(kind: libc::c_int, byte: i64) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: byte, l_len: 1, l_pid: 0 }
}

fn call(file: &File, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the descriptor is open, and `lock` is a valid lock structure that outlives the call, which writes no
    // further than it.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
#[path = "lock_test.rs"]
mod tests;
