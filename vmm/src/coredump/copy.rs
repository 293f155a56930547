//! Copies what there is of a region of RAM, and leaves holes where there is nothing.
//!
//! By read and write, since copy_file_range(2) does not go from a memfd to another file system on every kernel.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use memory::RamRegion;
use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, pread};

/// Bytes that are copied at once.
const BUFFER: usize = 1 << 20;

/// Why the copy is not complete.
pub(super) enum Stop {
    Read(io::Error),
    Write(io::Error),
    Abandoned,
}

/// Copies a region to `file`, in which it begins at `offset`. Looks at `abandoned` after each piece.
pub(super) fn data(
    memfd: BorrowedFd<'_>,
    region: &RamRegion,
    file: &File,
    offset: u64,
    abandoned: &AtomicBool,
) -> Result<(), Stop> {
    let read = |errno: Errno| Stop::Read(errno.into());
    let mut buffer = vec![0; BUFFER];
    let end = region.offset + region.guest.size;
    let mut at = region.offset;
    loop {
        at = match seek(memfd, SeekFrom::Data(at)) {
            // Past the last page there is no data.
            Err(Errno::NXIO) => return Ok(()),
            found => found.map_err(read)?,
        };
        if at >= end {
            return Ok(());
        }
        let hole = seek(memfd, SeekFrom::Hole(at)).map_err(read)?.min(end);
        while at < hole {
            if abandoned.load(Ordering::Relaxed) {
                return Err(Stop::Abandoned);
            }
            let wanted = usize::try_from(hole - at).map_or(BUFFER, |left| left.min(BUFFER));
            let room = buffer.get_mut(..wanted).unwrap_or_default();
            let length = match pread(memfd, &mut *room, at) {
                Err(Errno::INTR) => continue,
                // The file is sealed at its size.
                Ok(0) => return Err(Stop::Read(io::ErrorKind::UnexpectedEof.into())),
                length => length.map_err(read)?,
            };
            let piece = room.get(..length).unwrap_or_default();
            file.write_all_at(piece, offset + (at - region.offset)).map_err(Stop::Write)?;
            at += length as u64;
        }
    }
}
