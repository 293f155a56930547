//! The bzImage setup header (Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").

use linux_loader::loader::bootparam::{LOADED_HIGH, XLF_KERNEL_64, setup_header};
use memory::GuestRange;
use vm_memory::ByteValued;

use super::bytes::u16_at;
use super::kernel::KernelFault;
use super::map;

/// Where the header starts in the file and in the zero page.
const HEADER: usize = 0x1f1;
const MAGIC: usize = 0x202;
/// The last field that protocol 2.12 guarantees ends here.
const HEADER_END: usize = 0x268;
/// 2.12 brought `xloadflags`.
const MIN_VERSION: u16 = 0x020c;
const SECTOR: u64 = 512;

/// A bzImage with a 64-bit entry point.
#[derive(Clone, Debug)]
pub(super) struct BzImage {
    /// As found in the file.
    pub(super) header: setup_header,
    /// From the load address to the end of what decompression and early boot need.
    pub(super) footprint: GuestRange,
    /// Where in the file the real-mode part ends and what is loaded begins.
    pub(super) setup: u64,
}

impl BzImage {
    /// Whether `head`, the start of a file, claims to be one, or would if it were not cut off.
    pub(super) fn claimed(head: &[u8]) -> bool {
        match head.get(MAGIC..MAGIC + 4) {
            Some(magic) => magic == b"HdrS",
            None => head.starts_with(b"MZ"),
        }
    }

    /// Checks the header in `head`, the first bytes of a file of `len` bytes.
    pub(super) fn parse(head: &[u8], len: u64) -> Result<Self, KernelFault> {
        let version =
            u16_at(head, 0x206).ok_or(KernelFault::Truncated { have: len, need: HEADER_END as u64 })?;
        if version < MIN_VERSION {
            return Err(KernelFault::TooOld { major: version >> 8, minor: version & 0xff });
        }
        let header = header(head, len)?;
        let setup = (u64::from(if header.setup_sects == 0 { 4 } else { header.setup_sects }) + 1) * SECTOR;
        // `syssize` counts the rest in paragraphs of 16 bytes, the last one perhaps not full.
        let need = setup + (u64::from(header.syssize) * 16).saturating_sub(15).max(1);
        if len < need {
            return Err(KernelFault::Truncated { have: len, need });
        }
        if header.loadflags & LOADED_HIGH == 0 || header.xloadflags & XLF_KERNEL_64 == 0 {
            return Err(KernelFault::No64BitEntry);
        }
        let start = header.pref_address;
        let size = u64::from(header.init_size).max(len - setup);
        if start < map::KERNEL_MIN || start % 4096 != 0 || start.checked_add(size).is_none() {
            return Err(KernelFault::BadAddress { address: start });
        }
        Ok(Self { header, footprint: GuestRange::new(start, size), setup })
    }
}

/// The header alone: the byte at 0x201 tells where it ends, code follows it.
fn header(head: &[u8], len: u64) -> Result<setup_header, KernelFault> {
    let truncated = |need: usize| KernelFault::Truncated { have: len, need: need as u64 };
    let size = head.get(0x201).ok_or_else(|| truncated(HEADER_END))?;
    let end = HEADER_END.max(MAGIC + usize::from(*size));
    let bytes = head.get(HEADER..end).ok_or_else(|| truncated(end))?;
    let mut header = setup_header::default();
    for (field, byte) in header.as_mut_slice().iter_mut().zip(bytes) {
        *field = *byte;
    }
    Ok(header)
}
