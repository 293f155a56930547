//! Kernels as ELF files: `vmlinux` and test kernels, entered by PVH where they have a note for it.
//!
//! ELF-64 object file format 1.5; the note is Xen's `XEN_ELFNOTE_PHYS32_ENTRY` (xen/include/public/elfnote.h).

use memory::GuestRange;

use super::bytes::{u16_at, u32_at, u64_at};
use super::file::ImageFile;
use super::kernel::KernelFault;
use super::map;

const EHDR_SIZE: u64 = 64;
const PHDR_SIZE: usize = 56;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_TLS: u32 = 7;
const PT_NOTE: u32 = 4;
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
/// Notes are a few hundred bytes; more than this is not looked at.
const NOTES_MAX: u64 = 1 << 20;

/// A part of the file that goes to guest memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Where it is in the file.
    pub(super) offset: u64,
    /// Where it goes.
    pub(super) range: GuestRange,
    /// How many of its bytes the file has; the rest is zero.
    pub(super) file_size: u64,
}

impl Segment {
    /// What the file has.
    pub(super) fn contents(&self) -> GuestRange {
        GuestRange::new(self.range.start, self.file_size.min(self.range.size))
    }

    /// What must be zero.
    pub(super) fn bss(&self) -> GuestRange {
        let start = self.contents().end();
        GuestRange::new(start, self.range.end() - start)
    }
}

/// An executable for x86_64.
#[derive(Clone, Debug)]
pub(super) struct Elf {
    /// Not empty.
    pub(super) segments: Vec<Segment>,
    /// Entry in 64-bit mode.
    pub(super) entry: u64,
    /// Entry in 32-bit protected mode, by PVH.
    pub(super) pvh: Option<u32>,
}

impl Elf {
    /// Whether `head`, the start of a file, claims to be one.
    pub(super) fn claimed(head: &[u8]) -> bool {
        head.starts_with(b"\x7fELF")
    }

    /// Checks headers, segments and notes.
    pub(super) fn parse(head: &[u8], file: &ImageFile) -> Result<Self, KernelFault> {
        let truncated = || KernelFault::Truncated { have: file.len(), need: EHDR_SIZE };
        if head.get(4).ok_or_else(truncated)? != &2 || head.get(5).ok_or_else(truncated)? != &1 {
            return Err(KernelFault::WrongElf("not a 64-bit little-endian ELF file"));
        }
        let kind = u16_at(head, 16).ok_or_else(truncated)?;
        let machine = u16_at(head, 18).ok_or_else(truncated)?;
        let entry = u64_at(head, 24).ok_or_else(truncated)?;
        let phoff = u64_at(head, 32).ok_or_else(truncated)?;
        let phentsize = u16_at(head, 54).ok_or_else(truncated)?;
        let phnum = u16_at(head, 56).ok_or_else(truncated)?;
        if head.len() < EHDR_SIZE as usize {
            return Err(truncated());
        }
        if machine != EM_X86_64 {
            return Err(KernelFault::WrongElf("an ELF file for another architecture"));
        }
        if kind != ET_EXEC && kind != ET_DYN {
            return Err(KernelFault::WrongElf("an ELF file, but not an executable"));
        }
        if phnum == 0 {
            return Err(KernelFault::WrongElf("an ELF file without program headers"));
        }
        if usize::from(phentsize) != PHDR_SIZE || phoff < EHDR_SIZE {
            return Err(KernelFault::WrongElf("an ELF file with malformed program headers"));
        }

        let size = usize::from(phnum) * PHDR_SIZE;
        let table = file.read_at(phoff, size)?;
        if table.len() < size {
            let need = phoff.saturating_add(size as u64);
            return Err(KernelFault::Truncated { have: file.len(), need });
        }
        let mut elf = Self { segments: Vec::new(), entry, pvh: None };
        for header in table.chunks_exact(PHDR_SIZE) {
            elf.take(header, file)?;
        }
        elf.check()
    }

    fn take(&mut self, header: &[u8], file: &ImageFile) -> Result<(), KernelFault> {
        let malformed = || KernelFault::WrongElf("an ELF file with malformed program headers");
        let kind = u32_at(header, 0).ok_or_else(malformed)?;
        let offset = u64_at(header, 8).ok_or_else(malformed)?;
        let address = u64_at(header, 24).ok_or_else(malformed)?;
        let file_size = u64_at(header, 32).ok_or_else(malformed)?;
        let size = u64_at(header, 40).ok_or_else(malformed)?;
        // No kernel has a dynamic linker or thread-local storage.
        if kind == PT_INTERP || kind == PT_TLS {
            return Err(KernelFault::WrongElf("a program for Linux, not a kernel"));
        }
        if kind != PT_LOAD && kind != PT_NOTE {
            return Ok(());
        }
        let need = offset.checked_add(file_size).ok_or_else(malformed)?;
        if need > file.len() {
            return Err(KernelFault::Truncated { have: file.len(), need });
        }
        if kind == PT_NOTE {
            let notes = file.read_at(offset, file_size.min(NOTES_MAX) as usize)?;
            // Several note segments may follow each other; the first entry counts.
            self.pvh = self.pvh.or_else(|| pvh_entry(&notes));
        } else if size > 0 {
            if file_size > size || address.checked_add(size).is_none() {
                return Err(malformed());
            }
            self.segments.push(Segment { offset, range: GuestRange::new(address, size), file_size });
        }
        Ok(())
    }

    fn check(self) -> Result<Self, KernelFault> {
        if self.segments.is_empty() {
            return Err(KernelFault::WrongElf("an ELF file with nothing to load"));
        }
        if let Some(low) = self.segments.iter().find(|segment| segment.range.start < map::KERNEL_MIN) {
            return Err(KernelFault::BadAddress { address: low.range.start });
        }
        let entry = self.pvh.map_or(self.entry, u64::from);
        match self.segments.iter().any(|segment| (segment.range.start..segment.range.end()).contains(&entry))
        {
            true => Ok(self),
            false => Err(KernelFault::BadAddress { address: entry }),
        }
    }

    /// From the first to the last byte of all segments.
    pub(super) fn footprint(&self) -> GuestRange {
        let start = self.segments.iter().map(|segment| segment.range.start).min().unwrap_or(0);
        let end = self.segments.iter().map(|segment| segment.range.end()).max().unwrap_or(start);
        GuestRange::new(start, end - start)
    }
}

/// The PVH entry point among the notes of one segment.
fn pvh_entry(mut notes: &[u8]) -> Option<u32> {
    loop {
        let name_size = u32_at(notes, 0)? as usize;
        let desc_size = u32_at(notes, 4)? as usize;
        let kind = u32_at(notes, 8)?;
        let name = notes.get(12..)?;
        let desc = name.get(name_size.checked_next_multiple_of(4)?..)?;
        if kind == XEN_ELFNOTE_PHYS32_ENTRY && name.get(..name_size)? == b"Xen\0" && desc_size >= 4 {
            return u32_at(desc, 0);
        }
        notes = desc.get(desc_size.checked_next_multiple_of(4)?..)?;
    }
}
