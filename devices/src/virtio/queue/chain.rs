//! A chain of buffers in guest memory: first those that the device reads, then those that it writes.
//!
//! The buffers were found to lie in RAM, or in persistent memory, when the chain was taken from its ring. What is in them can change at any time, so
//! whoever needs a value twice reads it once and keeps it.

use std::io::{self, Read, Write};
use std::sync::Arc;

use memory::GuestRam;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

use super::{MOST_DESCRIPTORS, RingError};

/// One buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// GPA of its first byte.
    pub address: u64,
    /// Bytes.
    pub length: u32,
}

/// A chain.
#[derive(Clone, Debug)]
pub struct Chain {
    ram: Arc<GuestRam>,
    /// How its ring knows it: the index of its first descriptor, or its buffer id.
    pub(super) id: u16,
    /// Entries of the ring it takes.
    pub(super) entries: u16,
    readable: Vec<Segment>,
    writable: Vec<Segment>,
}

impl Chain {
    /// An empty chain.
    pub(super) fn new(ram: &Arc<GuestRam>) -> Self {
        Self { ram: Arc::clone(ram), id: 0, entries: 0, readable: Vec::new(), writable: Vec::new() }
    }

    /// Appends a buffer.
    pub(super) fn push(&mut self, address: u64, length: u32, writable: bool) -> Result<(), RingError> {
        if self.readable.len() + self.writable.len() >= MOST_DESCRIPTORS {
            return Err(RingError::TooLong);
        }
        if !writable && !self.writable.is_empty() {
            return Err(RingError::Order);
        }
        if !self.ram.reaches(address, length as usize, writable) {
            return Err(RingError::Buffer { address, length });
        }
        let segments = if writable { &mut self.writable } else { &mut self.readable };
        if length > 0 {
            segments.push(Segment { address, length });
        }
        Ok(())
    }

    /// What the device may read.
    pub fn readable(&self) -> &[Segment] {
        &self.readable
    }

    /// What the device may write.
    pub fn writable(&self) -> &[Segment] {
        &self.writable
    }

    /// Bytes the device may read.
    pub fn readable_bytes(&self) -> u64 {
        bytes(&self.readable)
    }

    /// Bytes the device may write.
    pub fn writable_bytes(&self) -> u64 {
        bytes(&self.writable)
    }

    /// Reads the readable buffers from their start.
    pub fn reader(&self) -> Reader<'_> {
        Reader(Cursor { ram: &self.ram, segments: &self.readable, offset: 0 })
    }

    /// Writes to the writable buffers from their start.
    pub fn writer(&self) -> Writer<'_> {
        Writer { cursor: Cursor { ram: &self.ram, segments: &self.writable, offset: 0 }, written: 0 }
    }
}

fn bytes(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.length)).sum()
}

/// A place in a list of segments.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    ram: &'a GuestRam,
    segments: &'a [Segment],
    /// Bytes into the first of them.
    offset: u32,
}

impl<'a> Cursor<'a> {
    /// Where it stands, and how many bytes are there in one piece.
    fn here(&self) -> Option<(GuestAddress, usize)> {
        let first = self.segments.first()?;
        let left = first.length.checked_sub(self.offset)?;
        Some((GuestAddress(first.address + u64::from(self.offset)), left as usize))
    }

    fn remaining(&self) -> u64 {
        bytes(self.segments) - u64::from(self.offset)
    }

    /// Moves on by what [`Cursor::here`] gave, or less.
    fn advance(&mut self, by: usize) {
        self.offset += by as u32;
        if let Some((first, rest)) = self.segments.split_first()
            && self.offset >= first.length
        {
            self.segments = rest;
            self.offset = 0;
        }
    }

    /// The host memory behind the next `most` bytes, which it passes.
    fn slices(&mut self, most: u64) -> Result<Vec<VolatileSlice<'a>>, RingError> {
        let (mut left, mut slices) = (most, Vec::with_capacity(self.segments.len()));
        while let Some((address, length)) = self.here().filter(|_| left > 0) {
            let length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
            for slice in GuestMemoryBackend::get_slices(self.ram.buffers(), address, length) {
                slices.push(slice?);
            }
            left -= length as u64;
            self.advance(length);
        }
        Ok(slices)
    }
}

/// Reads a chain.
#[derive(Clone, Debug)]
pub struct Reader<'a>(Cursor<'a>);

impl<'a> Reader<'a> {
    /// Bytes left.
    pub fn remaining(&self) -> u64 {
        self.0.remaining()
    }

    /// Reads exactly `N` bytes; `None` if there are fewer.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut array = [0; N];
        self.read_exact(&mut array).ok()?;
        Some(array)
    }

    /// The host memory behind the next `most` bytes, or what there is, without a copy. They count as read.
    ///
    /// # Errors
    /// None for chains of a queue: their buffers lie in guest memory.
    pub fn slices(&mut self, most: u64) -> Result<Vec<VolatileSlice<'a>>, RingError> {
        self.0.slices(most)
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((address, length)) = self.0.here() else { return Ok(0) };
        let length = length.min(buffer.len());
        let into = buffer.get_mut(..length).unwrap_or_default();
        self.0.ram.buffers().read_slice(into, address).map_err(io::Error::other)?;
        self.0.advance(length);
        Ok(length)
    }
}

/// Writes to a chain.
#[derive(Clone, Debug)]
pub struct Writer<'a> {
    cursor: Cursor<'a>,
    written: u64,
}

impl<'a> Writer<'a> {
    /// Bytes left.
    pub fn remaining(&self) -> u64 {
        self.cursor.remaining()
    }

    /// Bytes passed, as the used ring has them.
    pub fn written(&self) -> u32 {
        u32::try_from(self.written).unwrap_or(u32::MAX)
    }

    /// The host memory behind the next `most` bytes, or what there is, without a copy. They count as written.
    ///
    /// # Errors
    /// None for chains of a queue: their buffers lie in guest memory.
    pub fn slices(&mut self, most: u64) -> Result<Vec<VolatileSlice<'a>>, RingError> {
        let before = self.remaining();
        let slices = self.cursor.slices(most)?;
        self.written += before - self.remaining();
        Ok(slices)
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let Some((address, length)) = self.cursor.here() else { return Ok(0) };
        let from = buffer.get(..length).unwrap_or(buffer);
        self.cursor.ram.buffers().write_slice(from, address).map_err(io::Error::other)?;
        self.cursor.advance(from.len());
        self.written += from.len() as u64;
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "chain_test.rs"]
mod tests;
