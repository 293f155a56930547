//! What a disk does, whatever its format, one request at a time: each call returns when it is done.

use std::io;

use super::Buffers;

/// An open image. All requests were found to lie inside the disk.
pub(super) trait Image: Send + Sync {
    /// Fills the buffers from `offset`, in bytes, on.
    fn read(&self, into: &mut Buffers, offset: u64) -> io::Result<()>;
    /// Writes the buffers from `offset`, in bytes, on.
    fn write(&self, from: &mut Buffers, offset: u64) -> io::Result<()>;
    /// Makes durable what was written before.
    fn flush(&self) -> io::Result<()>;
    /// Gives the blocks of a range back. What it reads as afterwards does not matter.
    fn discard(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Zeroes a range, and gives its blocks back if that is possible and `unmap` says so.
    fn write_zeroes(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()>;
    /// Makes room for a disk of so many bytes, more than it has. What is added reads as zeroes.
    fn grow(&self, size: u64) -> io::Result<()>;
}
