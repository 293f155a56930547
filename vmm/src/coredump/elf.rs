//! The headers of an ELF core file (System V ABI, chapters 4 and 5; include/uapi/linux/elf.h), and where RAM is in it.

use memory::{PAGE_SIZE, RamRegion};

const ELF_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;
const MAGIC: &[u8; 4] = b"\x7fELF";
const ELFCLASS64: u8 = 2;
const ELFDATA2LSB: u8 = 1;
const EV_CURRENT: u8 = 1;
const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Notes and their parts are padded to so many bytes.
const NOTE_ALIGN: u64 = 4;

/// What the file consists of.
pub(super) struct Plan {
    /// All before the first segment of RAM, from the beginning of the file.
    pub(super) headers: Vec<u8>,
    /// RAM.
    pub(super) segments: Vec<Segment>,
    /// Of the file, in bytes.
    pub(super) size: u64,
}

/// A region of RAM in the file.
pub(super) struct Segment {
    /// Where its first byte is, a multiple of the page size.
    pub(super) offset: u64,
    /// Where it is from.
    pub(super) region: RamRegion,
}

impl Plan {
    /// For RAM in these regions; `notes` are the contents of the note segment.
    pub(super) fn new(notes: &[u8], regions: &[RamRegion]) -> Self {
        let count = 1 + regions.len() as u16;
        let notes_offset = u64::from(ELF_HEADER) + u64::from(PROGRAM_HEADER) * u64::from(count);
        let notes_size = notes.len() as u64;
        let mut size = (notes_offset + notes_size).next_multiple_of(PAGE_SIZE);
        let mut segments = Vec::with_capacity(regions.len());
        for &region in regions {
            segments.push(Segment { offset: size, region });
            size += region.guest.size.next_multiple_of(PAGE_SIZE);
        }
        let mut headers = elf_header(count);
        headers.extend(program_header(PT_NOTE, notes_offset, 0, notes_size, NOTE_ALIGN));
        for Segment { offset, region } in &segments {
            let guest = region.guest;
            headers.extend(program_header(PT_LOAD, *offset, guest.start, guest.size, PAGE_SIZE));
        }
        headers.extend(notes);
        Self { headers, segments, size }
    }
}

fn elf_header(program_headers: u16) -> Vec<u8> {
    let mut header = Vec::with_capacity(ELF_HEADER.into());
    header.extend(MAGIC);
    header.extend([ELFCLASS64, ELFDATA2LSB, EV_CURRENT]);
    // System V, and padding up to EI_NIDENT.
    header.extend([0; 9]);
    header.extend(ET_CORE.to_le_bytes());
    header.extend(EM_X86_64.to_le_bytes());
    header.extend(u32::from(EV_CURRENT).to_le_bytes());
    // e_entry, e_phoff, e_shoff.
    [0, ELF_HEADER.into(), 0_u64].iter().for_each(|field| header.extend(field.to_le_bytes()));
    // e_flags.
    header.extend([0; 4]);
    // No section headers.
    let counts = [ELF_HEADER, PROGRAM_HEADER, program_headers, 0, 0, 0];
    counts.iter().for_each(|field| header.extend(field.to_le_bytes()));
    header
}

/// Of a segment at this GPA. It has no virtual address: which those are is up to the guest's page tables.
fn program_header(kind: u32, offset: u64, gpa: u64, size: u64, align: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(PROGRAM_HEADER.into());
    // p_type, p_flags.
    [kind, 0].iter().for_each(|field| header.extend(field.to_le_bytes()));
    // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align.
    [offset, 0, gpa, size, size, align].iter().for_each(|field| header.extend(field.to_le_bytes()));
    header
}
