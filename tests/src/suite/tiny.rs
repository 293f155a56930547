//! A kernel of a few instructions.

/// Where it is loaded and entered, guest physical.
const ADDRESS: u64 = 0x20_0000;
/// Where its code is in the file.
const CODE: u64 = 0x1000;
const NOTE: u64 = 64 + 2 * 56;
/// XEN_ELFNOTE_PHYS32_ENTRY: the entry in 32-bit protected mode, paging off.
const PHYS32_ENTRY: u32 = 18;

/// Powers off: mov dx, 0x600; mov al, SLP_EN | 5 << 2; out dx, al; hlt.
pub(crate) const POWERS_OFF: [u8; 8] = [0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xf4];
/// Says "ready" on its first serial port, and sleeps for ever: mov dx, 0x3f8; mov esi, the text below; mov ecx, 6; rep outsb; hlt; jmp to that.
pub(crate) const SAYS_READY: [u8; 25] = [
    0x66, 0xba, 0xf8, 0x03, 0xbe, 0x13, 0x00, 0x20, 0x00, 0xb9, 0x06, 0x00, 0x00, 0x00, 0xf3, 0x6e, 0xf4,
    0xeb, 0xfd, b'r', b'e', b'a', b'd', b'y', b'\n',
];

/// An ELF kernel with a PVH entry (Xen's docs/misc/pvh.pandoc) that is just this code.
pub(crate) fn tiny_kernel(code: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let note: Vec<u8> = [4_u32, 8, PHYS32_ENTRY]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .chain(*b"Xen\0")
        .chain(ADDRESS.to_le_bytes())
        .collect();
    // e_ident: 64 bits, little-endian, version 1.
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // e_type EXEC, e_machine x86_64, e_version.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    // e_entry, e_phoff, e_shoff.
    file.extend([ADDRESS, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    // e_flags; e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
    file.extend([0; 4]);
    file.extend([64_u16, 56, 2, 0, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    for (kind, offset, address, size) in
        [(4_u64, NOTE, 0, note.len() as u64), (1, CODE, ADDRESS, code.len() as u64)]
    {
        // p_type and p_flags (RWX), p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align.
        let header = [kind | 7 << 32, offset, address, address, size, size, 1];
        file.extend(header.iter().flat_map(|word| word.to_le_bytes()));
    }
    file.extend(note);
    file.resize(CODE as usize, 0);
    file.extend(code);
    file
}
