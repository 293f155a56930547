//! qcow2 images, read and written by imago, in its form without async.
//!
//! What imago leaves to its callers is here: discards exclude all other requests, since they free what others may be
//! about to use; and blocks go back to the host, for which imago only notes that they are free for the image.

mod header;
mod open;

use std::fs;
use std::io;
use std::sync::{PoisonError, RwLock};

use imago::format::PreallocateMode;
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::{FormatAccess, Mapping};
use vm_memory::VolatileSlice;

pub use header::HeaderError;
pub(super) use open::open;

use super::image::Image;
use super::raw::is_unsupported;
use super::{Buffers, sys};

type Access = FormatAccess<imago::file::File>;

/// A qcow2 image and what it is based on.
#[derive(Debug)]
pub(super) struct Qcow2Image {
    /// Requests take it for reading, discards for writing.
    access: RwLock<Access>,
    /// The same file as imago has.
    file: fs::File,
}

impl Image for Qcow2Image {
    fn read(&self, into: &mut Buffers, offset: u64) -> io::Result<()> {
        let slices = into.slices();
        let (vector, _guard) = IoVectorMut::from_volatile_slice::<(), &[VolatileSlice<'_>]>(&slices);
        self.access.read().unwrap_or_else(PoisonError::into_inner).readv(vector, offset)
    }

    fn write(&self, from: &mut Buffers, offset: u64) -> io::Result<()> {
        let slices = from.slices();
        let (vector, _guard) = IoVector::from_volatile_slice::<(), &[VolatileSlice<'_>]>(&slices);
        self.access.read().unwrap_or_else(PoisonError::into_inner).writev(vector, offset)
    }

    fn flush(&self) -> io::Result<()> {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        access.flush()?;
        access.sync()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
        punch(&access, &self.file, offset, length)?;
        match access.discard_to_any(offset, length) {
            // Version 2 has no way to say that a cluster is zero.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            result => result,
        }
    }

    fn write_zeroes(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        if unmap {
            let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
            punch(&access, &self.file, offset, length)?;
            match access.discard_to_zero(offset, length) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                result => return result,
            }
        }
        self.access.read().unwrap_or_else(PoisonError::into_inner).write_zeroes(offset, length)
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        let access = self.access.write().unwrap_or_else(PoisonError::into_inner);
        access.resize_grow(size, PreallocateMode::None)?;
        access.flush()?;
        access.sync()
    }
}

/// Gives back to the host what a range occupies in the image's own file. Nothing else uses the image meanwhile, and
/// what lies there is used by nothing else: imago says of such clusters only that they may be written in place.
fn punch(access: &Access, file: &fs::File, mut offset: u64, length: u64) -> io::Result<()> {
    let end = offset.saturating_add(length);
    while offset < end {
        let (mapping, bytes) = access.get_mapping(offset, end - offset)?;
        if let Mapping::Raw { offset: host, writable: true, .. } = mapping {
            match sys::fallocate(file, sys::PUNCH_HOLE, host, bytes) {
                Err(error) if is_unsupported(&error) => return Ok(()),
                result => result?,
            }
        }
        if bytes == 0 {
            break;
        }
        offset += bytes;
    }
    Ok(())
}

#[cfg(test)]
#[path = "qcow2_test.rs"]
mod tests;
