//! Kernel and initrd files on the host: opened once, checked, read as often as the guest reboots.

use std::fs::{File, Metadata};
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

use miette::Diagnostic;
use thiserror::Error;

/// What is wrong with a file, whatever it was to hold.
#[derive(Debug, Error, Diagnostic)]
pub enum FileFault {
    /// No such file.
    #[error("it does not exist")]
    #[diagnostic(help("check the path"))]
    Missing,
    /// A directory.
    #[error("it is a directory")]
    #[diagnostic(help("name a file in it"))]
    Directory,
    /// A device, a pipe, a socket.
    #[error("it is not a regular file")]
    #[diagnostic(help("copy it to a regular file first"))]
    Special,
    /// No bytes in it.
    #[error("it is empty")]
    #[diagnostic(help("build or copy it again"))]
    Empty,
    /// Not to be opened or read.
    #[error("it cannot be read")]
    #[diagnostic(help("check its permissions and those of the directories above it"))]
    Unreadable(#[source] io::Error),
    /// Replaced or truncated in place while the guest ran.
    #[error("it had {then} bytes when it was opened and has {now} now")]
    #[diagnostic(help("replace such files by renaming a new one over them, never in place"))]
    Changed {
        /// Length when opened, in bytes.
        then: u64,
        /// Length now, in bytes.
        now: u64,
    },
}

/// A non-empty regular file (or memfd).
#[derive(Debug)]
pub(super) struct ImageFile {
    file: File,
    len: u64,
}

impl ImageFile {
    /// Opens the file. Looks before it opens, since opening a pipe would block.
    pub(super) fn open(path: &Path) -> Result<Self, FileFault> {
        check(&std::fs::metadata(path).map_err(fault)?)?;
        Self::from_file(File::open(path).map_err(fault)?)
    }

    /// Takes a file that is open already.
    pub(super) fn from_file(file: File) -> Result<Self, FileFault> {
        let len = check(&file.metadata().map_err(fault)?)?;
        Ok(Self { file, len })
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes from `offset` on, `count` of them, fewer at the end of the file.
    pub(super) fn read_at(&self, offset: u64, count: usize) -> Result<Vec<u8>, FileFault> {
        let mut bytes = vec![0; count];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FileFault::Unreadable(error)),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    /// The file, at its start. Fails when its length is no longer the one that was checked.
    pub(super) fn rewound(&self) -> Result<File, FileFault> {
        let now = self.file.metadata().map_err(fault)?.len();
        if now != self.len {
            return Err(FileFault::Changed { then: self.len, now });
        }
        let mut file = self.file.try_clone().map_err(FileFault::Unreadable)?;
        file.rewind().map_err(FileFault::Unreadable)?;
        Ok(file)
    }
}

fn check(metadata: &Metadata) -> Result<u64, FileFault> {
    if metadata.is_dir() {
        return Err(FileFault::Directory);
    }
    if !metadata.is_file() {
        return Err(FileFault::Special);
    }
    match metadata.len() {
        0 => Err(FileFault::Empty),
        len => Ok(len),
    }
}

fn fault(error: io::Error) -> FileFault {
    match error.kind() {
        io::ErrorKind::NotFound => FileFault::Missing,
        _ => FileFault::Unreadable(error),
    }
}
