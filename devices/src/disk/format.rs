//! Which format an image has: what was said, or what its name and its first bytes agree on.
//!
//! A guest writes whatever it likes to a raw disk, a qcow2 header included. An image is therefore never taken for
//! qcow2 because of its content alone: its name, which no guest can change, must say so too. What remains unclear is
//! asked for.

use std::fmt;
use std::path::Path;

use super::error::DiskError;

/// What is read of a file to know its format.
pub(super) const HEAD: usize = 512;

/// How the disk's content lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Byte for byte.
    Raw,
    /// QEMU's copy-on-write format, versions 2 and 3 (docs/interop/qcow2.rst there).
    Qcow2,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        })
    }
}

/// "QFI\xfb", which qcow2 images begin with.
pub(super) const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

/// What other formats begin with, and the names people know them by.
const FOREIGN: [(&[u8], &str); 7] = [
    (b"KDMV", "VMDK"),
    (b"# Disk DescriptorFile", "VMDK"),
    (b"vhdxfile", "VHDX"),
    (b"conectix", "VHD"),
    (b"QED\0", "QED"),
    (b"LUKS\xba\xbe", "LUKS"),
    (b"WithoutFreeSpace", "Parallels"),
];
/// VirtualBox's signature, behind a line of text.
const VDI: (usize, &[u8]) = (64, &[0x7f, 0x10, 0xda, 0xbe]);

/// The format of the image at `path` that begins with `head`.
///
/// # Errors
/// It is a format that is not read, is not what was said, or could be either of two.
pub(super) fn decide(path: &Path, said: Option<Format>, head: &[u8]) -> Result<Format, DiskError> {
    let looks_like_qcow2 = head.starts_with(&QCOW2_MAGIC);
    let named_qcow2 = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("qcow2"));
    let path = || path.to_owned();
    match said {
        Some(Format::Raw) => Ok(Format::Raw),
        Some(Format::Qcow2) if looks_like_qcow2 => Ok(Format::Qcow2),
        Some(Format::Qcow2) => Err(DiskError::NotQcow2 { path: path() }),
        None => match (foreign(head), looks_like_qcow2, named_qcow2) {
            (Some(format), ..) => Err(DiskError::Foreign { path: path(), format }),
            (None, true, true) => Ok(Format::Qcow2),
            (None, true, false) => Err(DiskError::Ambiguous { path: path() }),
            (None, false, true) => Err(DiskError::NotQcow2 { path: path() }),
            (None, false, false) => Ok(Format::Raw),
        },
    }
}

fn foreign(head: &[u8]) -> Option<&'static str> {
    let (offset, signature) = VDI;
    let vdi = head.get(offset..).is_some_and(|rest| rest.starts_with(signature)).then_some("VDI");
    FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, name)| *name).or(vdi)
}

#[cfg(test)]
#[path = "format_test.rs"]
mod tests;
