//! `/proc/self/pagemap` (Documentation/admin-guide/mm/pagemap.rst): the page frame behind each page of ours.
//!
//! One 64-bit entry a page: bit 63 says present, bits 0-54 hold the frame number, which reads 0 unless the file
//! was opened with CAP_SYS_ADMIN in the initial user namespace.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::PAGE_SIZE;

const ENTRY_SIZE: u64 = 8;
const PRESENT: u64 = 1 << 63;
const PFN_MASK: u64 = (1 << 55) - 1;
/// Entries read at a time: 64 Ki, that is 256 MiB of address space and half a MiB of buffer.
const BATCH: u64 = 1 << 16;

/// One page of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Nothing is mapped there yet.
    Absent,
    /// A page is there, but its frame number is hidden from us.
    Hidden,
    /// The frame it lies in.
    Frame(u64),
}

impl Page {
    fn from_entry(entry: u64) -> Self {
        match (entry & PRESENT != 0, entry & PFN_MASK) {
            (false, _) => Self::Absent,
            (true, 0) => Self::Hidden,
            (true, pfn) => Self::Frame(pfn),
        }
    }
}

/// The pagemap of this process, open. What it shows was decided when it was opened.
#[derive(Debug)]
pub struct Pagemap {
    file: File,
    buffer: Vec<u8>,
}

impl Pagemap {
    /// Opens `/proc/self/pagemap`.
    ///
    /// # Errors
    /// The file is not there (CONFIG_PROC_PAGE_MONITOR) or not readable.
    pub fn open() -> io::Result<Self> {
        File::open("/proc/self/pagemap").map(|file| Self { file, buffer: Vec::new() })
    }

    /// Calls `see` with every page of `length` bytes from host virtual address `hva`, both page-aligned.
    ///
    /// # Errors
    /// The kernel ends the read early, which it does beyond the address space.
    pub fn walk(&mut self, hva: u64, length: u64, mut see: impl FnMut(Page)) -> io::Result<()> {
        let end = (hva / PAGE_SIZE).saturating_add(length / PAGE_SIZE);
        let mut page = hva / PAGE_SIZE;
        while page < end {
            let count = BATCH.min(end - page);
            self.buffer.resize((count * ENTRY_SIZE) as usize, 0);
            self.file.read_exact_at(&mut self.buffer, page.saturating_mul(ENTRY_SIZE))?;
            for entry in self.buffer.as_chunks().0 {
                see(Page::from_entry(u64::from_ne_bytes(*entry)));
            }
            page += count;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "pagemap_test.rs"]
mod tests;
