//! Small kernels for tests, made up byte by byte.

use std::io::Write;

use tempfile::NamedTempFile;

use super::Kernel;

/// Where the made-up kernels load.
pub(super) const LOAD: u64 = 0x20_0000;
/// What the protected-mode part of the bzImage is filled with.
pub(super) const CODE: u8 = 0xf4;
/// What the bzImage says it needs to decompress, more than its length.
pub(super) const INIT_SIZE: u32 = 0x10_0000;

/// A bzImage of boot protocol 2.15: four sectors of setup, 4 KiB of code.
pub(super) fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 5 * 512];
    image[..2].copy_from_slice(b"MZ");
    image.resize(5 * 512 + 4096, CODE);
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[4]);
    put(0x1f4, &(4096_u32 / 16).to_le_bytes());
    put(0x1fe, &0xaa55_u16.to_le_bytes());
    put(0x200, &[0xeb, 0x6a]);
    put(0x202, b"HdrS");
    put(0x206, &0x020f_u16.to_le_bytes());
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(0x230, &0x20_0000_u32.to_le_bytes());
    put(0x234, &[1]);
    put(0x236, &1_u16.to_le_bytes());
    put(0x238, &2047_u32.to_le_bytes());
    put(0x258, &LOAD.to_le_bytes());
    put(0x260, &INIT_SIZE.to_le_bytes());
    image
}

/// An ELF kernel: 4 KiB at [`LOAD`], 1 KiB of it in the file; with a PVH note, a second note segment after it.
pub(super) fn elf(pvh: bool) -> Vec<u8> {
    let mut image = vec![0; 0x1000];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &2_u16.to_le_bytes());
    put(18, &62_u16.to_le_bytes());
    put(24, &(LOAD + 0x10).to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &(if pvh { 3_u16 } else { 1 }).to_le_bytes());
    let mut segment = |index: usize, kind: u32, offset: u64, sizes: [u64; 2]| {
        let at = 64 + 56 * index;
        put(at, &kind.to_le_bytes());
        for (field, value) in [(8, offset), (16, LOAD), (24, LOAD), (32, sizes[0]), (40, sizes[1])] {
            put(at + field, &value.to_le_bytes());
        }
    };
    segment(0, 1, 0x400, [0x400, 0x1000]);
    segment(1, 4, 0x300, [0x2c, 0x2c]);
    segment(2, 4, 0x340, [0x10, 0x10]);
    for (at, word) in [4_u32, 8, 7].into_iter().enumerate() {
        put(0x300 + at * 4, &word.to_le_bytes());
    }
    put(0x30c, b"GNU\0");
    for (at, word) in [4_u32, 4, 18].into_iter().enumerate() {
        put(0x318 + at * 4, &word.to_le_bytes());
    }
    put(0x324, b"Xen\0");
    put(0x328, &(LOAD as u32 + 0x20).to_le_bytes());
    put(0x400, &[CODE; 0x400]);
    image
}

/// A file with these contents.
pub(super) fn file(contents: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(contents).unwrap();
    file
}

/// The kernel in these contents.
pub(super) fn kernel(contents: &[u8]) -> Kernel {
    Kernel::open(file(contents).path()).unwrap()
}
