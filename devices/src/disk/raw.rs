//! Raw images: a file or a block device whose bytes are the disk's.
//!
//! # Unsafe
//! Reads and writes go to where the buffers' vectors point.
#![expect(unsafe_code, reason = "vectored I/O into guest memory")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::aligned::Aligned;
use super::image::Image;
use super::{Buffers, file, sys};

/// Most bytes of guest memory that are copied at once because direct I/O cannot reach them where they are.
const BOUNCE: usize = 1 << 20;

/// A raw image.
#[derive(Debug)]
pub(super) struct RawImage {
    file: File,
    /// Whether it is a block device.
    block: bool,
    /// What memory has to be aligned to, in bytes; 1 without direct I/O.
    alignment: usize,
}

impl RawImage {
    /// The disk in `file`.
    pub(super) fn new(file: File, block: bool, alignment: usize) -> Self {
        Self { file, block, alignment }
    }

    /// What it is in.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether the kernel can transfer to and from these buffers as they are.
    pub(super) fn reaches(&self, buffers: &Buffers) -> bool {
        buffers.are_aligned(self.alignment)
    }
}

impl Image for RawImage {
    fn read(&self, into: &mut Buffers, mut offset: u64) -> io::Result<()> {
        let mut bounce = if self.reaches(into) { None } else { Some(Aligned::new(BOUNCE)) };
        while into.bytes() > 0 {
            let done = match &mut bounce {
                // SAFETY: the vectors are guest memory that `into` keeps mapped.
                None => unsafe { sys::preadv(&self.file, into.vectors(), offset) }?,
                Some(bounce) => {
                    let piece = bounce.first_mut(into.bytes());
                    let done = self.file.read_at(piece, offset)?;
                    scatter(into, piece.get(..done).unwrap_or_default());
                    done
                }
            };
            if done == 0 {
                return Err(ended());
            }
            into.advance(done);
            offset += done as u64;
        }
        Ok(())
    }

    fn write(&self, from: &mut Buffers, mut offset: u64) -> io::Result<()> {
        let mut bounce = if self.reaches(from) { None } else { Some(Aligned::new(BOUNCE)) };
        while from.bytes() > 0 {
            let done = match &mut bounce {
                // SAFETY: the vectors are guest memory that `from` keeps mapped.
                None => unsafe { sys::pwritev(&self.file, from.vectors(), offset) }?,
                Some(bounce) => {
                    let piece = bounce.first_mut(from.bytes());
                    gather(from, piece);
                    self.file.write_at(piece, offset)?
                }
            };
            if done == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            from.advance(done);
            offset += done as u64;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        let discarded = if self.block {
            sys::discard_blocks(&self.file, offset, length)
        } else {
            sys::fallocate(&self.file, sys::PUNCH_HOLE, offset, length)
        };
        discarded.or_else(|error| if is_unsupported(&error) { Ok(()) } else { Err(error) })
    }

    fn write_zeroes(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        let modes: &[_] = if unmap { &[sys::PUNCH_HOLE, sys::ZERO_RANGE] } else { &[sys::ZERO_RANGE] };
        for mode in modes {
            match sys::fallocate(&self.file, *mode, offset, length) {
                Err(error) if is_unsupported(&error) => {}
                result => return result,
            }
        }
        let zeroes = Aligned::new(BOUNCE);
        let (mut offset, end) = (offset, offset + length);
        while offset < end {
            offset += self.file.write_at(zeroes.first(end - offset), offset)? as u64;
        }
        Ok(())
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        match file::length(&self.file)? {
            // Whoever manages the file or the device may have done it already.
            length if length >= size => Ok(()),
            length if self.block => {
                let what = format!("the block device has {length} bytes: extend it first");
                Err(io::Error::new(io::ErrorKind::InvalidInput, what))
            }
            _ => self.file.set_len(size),
        }
    }
}

/// Whether the file system or device cannot do that at all.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY | libc::ENODEV))
}

/// The image became shorter than the disk in it.
pub(super) fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the image ends before the disk does")
}

/// Copies bytes to the buffers.
fn scatter(into: &Buffers, mut bytes: &[u8]) {
    for slice in into.slices() {
        let (here, rest) = bytes.split_at(slice.len().min(bytes.len()));
        slice.copy_from(here);
        bytes = rest;
    }
}

/// Copies the buffers to `bytes`.
fn gather(from: &Buffers, mut bytes: &mut [u8]) {
    for slice in from.slices() {
        let (here, rest) = bytes.split_at_mut(slice.len().min(bytes.len()));
        slice.copy_to(here);
        bytes = rest;
    }
}
