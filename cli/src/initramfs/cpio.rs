//! A writer of "newc" cpio archives, the format of a kernel's initramfs.
//!
//! Follows `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel: a header of thirteen
//! 8-digit hexadecimal fields, the NUL-terminated name and the data, each padded to 4 bytes. The kernel
//! creates no parents by itself, so a directory must be added before what is in it.

use std::fs::File;
use std::io;
use std::sync::Arc;

use thiserror::Error;
use vmm::boot::InitrdPart;

const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";
/// Length of the fixed header in bytes.
const HEADER: usize = 110;
/// Longest name the kernel's unpacker takes, its NUL included (`PATH_MAX`).
const NAME_MAX: usize = 4096;

const S_IFCHR: u32 = 0o020_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;

/// What cannot be put into an archive.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum CpioError {
    /// Sizes in the format are 32 bits wide.
    #[error("{name} has {size} bytes, more than a cpio archive can hold")]
    TooLarge {
        /// Name in the archive.
        name: String,
        /// Its length in bytes.
        size: u64,
    },
    /// Empty, too long, absolute, with a NUL inside, or the name that ends an archive.
    #[error("{name:?} cannot be a name in a cpio archive")]
    Name {
        /// The name as given.
        name: String,
    },
}

/// An archive under construction. Names are relative to the root (`dev/console`); everything belongs to root.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    /// What comes before `bytes`, in whole files and the bytes between them.
    parts: Vec<InitrdPart>,
    bytes: Vec<u8>,
    last_inode: u32,
}

impl Archive {
    /// An archive with nothing in it.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a directory with the given permission bits.
    ///
    /// # Errors
    /// [`CpioError::Name`].
    pub(crate) fn directory(&mut self, name: &str, permissions: u32) -> Result<(), CpioError> {
        self.member(name, S_IFDIR | permissions, (0, 0), 0)
    }

    /// Adds a regular file with the given permission bits and contents.
    ///
    /// # Errors
    /// [`CpioError::Name`], or [`CpioError::TooLarge`] from 4 GiB on.
    pub(crate) fn file(&mut self, name: &str, permissions: u32, data: &[u8]) -> Result<(), CpioError> {
        self.member(name, S_IFREG | permissions, (0, 0), data.len() as u64)?;
        self.bytes.extend_from_slice(data);
        self.pad(data.len() as u64);
        Ok(())
    }

    /// Adds a regular file with the given permission bits and the contents of another, which are not read.
    ///
    /// # Errors
    /// The file's length cannot be told; what [`Archive::file`] refuses.
    pub(crate) fn whole_file(&mut self, name: &str, permissions: u32, file: File) -> io::Result<()> {
        let size = file.metadata()?.len();
        self.member(name, S_IFREG | permissions, (0, 0), size).map_err(io::Error::other)?;
        self.end_part();
        self.parts.push(InitrdPart::File(Arc::new(file)));
        self.pad(size);
        Ok(())
    }

    /// Adds a character device node with the given permission bits, major and minor number.
    ///
    /// # Errors
    /// [`CpioError::Name`].
    pub(crate) fn character_device(
        &mut self,
        name: &str,
        permissions: u32,
        (major, minor): (u32, u32),
    ) -> Result<(), CpioError> {
        self.member(name, S_IFCHR | permissions, (major, minor), 0)
    }

    /// Ends the archive and gives all of it.
    #[must_use]
    pub(crate) fn finish(mut self) -> Vec<InitrdPart> {
        self.header(TRAILER, 0, 0, (0, 0), 0);
        self.end_part();
        self.parts
    }

    fn end_part(&mut self) {
        self.parts.push(InitrdPart::Bytes(std::mem::take(&mut self.bytes).into()));
    }

    /// The head of a member, which `size` bytes are to follow.
    fn member(&mut self, name: &str, mode: u32, device: (u32, u32), size: u64) -> Result<(), CpioError> {
        let unfit = name.is_empty()
            || name.len() >= NAME_MAX
            || name.starts_with('/')
            || name.contains('\0')
            || name == TRAILER;
        if unfit {
            return Err(CpioError::Name { name: name.to_owned() });
        }
        let size = u32::try_from(size).map_err(|_| CpioError::TooLarge { name: name.to_owned(), size })?;
        // Distinct inode numbers keep readers from taking two members for links to one file.
        self.last_inode = self.last_inode.wrapping_add(1);
        self.header(name, self.last_inode, mode, device, size);
        Ok(())
    }

    fn header(&mut self, name: &str, inode: u32, mode: u32, (major, minor): (u32, u32), size: u32) {
        let links = if mode & S_IFDIR != 0 { 2 } else { 1 };
        // `member` has bounded the name to NAME_MAX.
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // inode, mode, uid, gid, links, mtime, size, device of the file (2), device it is (2), name size,
        // checksum
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        self.bytes.extend_from_slice(MAGIC.as_bytes());
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad((HEADER + name.len() + 1) as u64);
    }

    /// Fills up after `length` bytes from a multiple of 4 on.
    fn pad(&mut self, length: u64) {
        self.bytes.extend(std::iter::repeat_n(0, (length.next_multiple_of(4) - length) as usize));
    }
}

/// All of an archive, as it will lie in memory.
#[cfg(test)]
pub(crate) fn bytes(parts: Vec<InitrdPart>) -> Vec<u8> {
    use std::io::{Read, Seek};
    let mut all = Vec::new();
    for part in parts {
        match part {
            InitrdPart::Bytes(bytes) => all.extend_from_slice(&bytes),
            InitrdPart::File(file) => {
                let mut file = file.try_clone().unwrap();
                file.rewind().unwrap();
                file.read_to_end(&mut all).unwrap();
            }
        }
    }
    all
}

#[cfg(test)]
#[path = "cpio_test.rs"]
mod tests;
