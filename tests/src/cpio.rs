//! An initramfs writer: the "newc" cpio format of the kernel's Documentation/driver-api/early-userspace/
//! buffer-format.rst. Owner and times are zero, so the same content gives the same archive.

use std::io::{self, Write};

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// An archive that is being written to `W`.
pub(crate) struct Archive<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Archive<W> {
        Archive { out, inode: 1 }
    }

    /// Adds a directory; those above it must have been added before. `path` is relative to the root.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    /// Adds a regular file with permission bits `mode`.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(path, REGULAR | (mode & 0o7777), (0, 0), content)
    }

    /// Adds a symbolic link to `target`.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a character device node, open to its owner alone.
    pub(crate) fn character(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(path, CHARACTER | 0o600, (major, minor), &[])
    }

    /// Ends the archive and gives its writer back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, format!("{path}: 4 GiB or more")))?;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let name_size = path.len() as u32 + 1;
        let mut header = String::from("070701");
        for field in [self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0] {
            header.push_str(&format!("{field:08X}"));
        }
        self.inode += 1;
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header.len() + path.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    /// Header with name, and content, each end on a multiple of four bytes.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        let zeros = [0; 4];
        let padding = written.next_multiple_of(4) - written;
        self.out.write_all(zeros.get(..padding).unwrap_or_default())
    }
}

#[cfg(test)]
#[path = "cpio_test.rs"]
mod tests;
