//! The file or block device behind persistent memory: locked as an image of a disk is, and of a size that a guest can take.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memory::Bytes;
use memory::persistent::GRANULE;
use miette::Diagnostic;
use thiserror::Error;

use crate::disk::DiskError;
use crate::disk::file::{Opened, Wanted, open_file};

/// What of other formats are named so. Content would not do: the guest writes what it likes there.
const FORMATS: [&str; 6] = ["qcow2", "qed", "vdi", "vhd", "vhdx", "vmdk"];

/// What is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PmemOptions {
    /// A file or a block device.
    pub path: PathBuf,
    /// The guest cannot write to it.
    pub read_only: bool,
    /// Bytes of it that the guest has. `None`: all.
    pub size: Option<u64>,
    /// Whether others are kept from it.
    pub lock: bool,
}

/// Why a file cannot be persistent memory.
#[derive(Debug, Error, Diagnostic)]
pub enum PmemError {
    /// It cannot be had.
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] DiskError),
    /// Its bytes are no use to a guest.
    #[error("the pmem file {} is an image of the format {format}", path.display())]
    #[diagnostic(help(
        "a guest would see the bytes of the file and not the disk that they describe: qemu-img convert -O raw IMAGE NEW.img"
    ))]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is named as.
        format: String,
    },
    /// Nothing is in it.
    #[error("the pmem file {} is empty", path.display())]
    #[diagnostic(help("is it the right file? It is made larger with `truncate -s 1G FILE`"))]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Its end could not be mapped.
    #[error("the pmem file {} has {bytes} bytes, which is not a multiple of {}", path.display(), Bytes(GRANULE))]
    #[diagnostic(help(
        "lengthen it: truncate -s %2M FILE; or give the guest less of it: size={}", Bytes(bytes - bytes % GRANULE).flag()
    ))]
    Uneven {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// No guest could take it.
    #[error("{size} bytes of the pmem file {} are not a multiple of {}", path.display(), Bytes(GRANULE))]
    #[diagnostic(help("give a multiple of {} as `size`, or leave it out", Bytes(GRANULE)))]
    UnevenSize {
        /// The file.
        path: PathBuf,
        /// Asked for.
        size: u64,
    },
    /// There is less.
    #[error("the pmem file {} has {bytes} bytes, and not the {size} that the guest is to have", path.display())]
    #[diagnostic(help("lengthen it: truncate -s {} FILE; or lower `size`, or leave it out", Bytes(*size).flag()))]
    Short {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// Asked for.
        size: u64,
    },
}

/// An open file, and its lock.
#[derive(Debug)]
pub struct PmemFile {
    path: PathBuf,
    file: Arc<File>,
    size: u64,
    read_only: bool,
}

impl PmemFile {
    /// Opens, checks and locks a file.
    ///
    /// # Errors
    /// Why it cannot be persistent memory.
    pub fn open(options: &PmemOptions) -> Result<Self, PmemError> {
        let PmemOptions { path, read_only, size, lock } = options;
        let path = path.clone();
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        if let Some(format) = extension.filter(|extension| FORMATS.contains(&extension.as_str())) {
            return Err(PmemError::Format { path, format });
        }
        let wanted = Wanted { what: "pmem file", writable: !read_only, direct: false, lock: *lock };
        let Opened { file, size: bytes, .. } = open_file(&path, &wanted)?;
        let size = match *size {
            _ if bytes == 0 => return Err(PmemError::Empty { path }),
            Some(size) if size == 0 || !size.is_multiple_of(GRANULE) => {
                return Err(PmemError::UnevenSize { path, size });
            }
            Some(size) if size > bytes => return Err(PmemError::Short { path, bytes, size }),
            Some(size) => size,
            None if !bytes.is_multiple_of(GRANULE) => return Err(PmemError::Uneven { path, bytes }),
            None => bytes,
        };
        Ok(Self { path, file: Arc::new(file), size, read_only: *read_only })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// To be mapped.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Bytes that the guest has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the guest cannot write to it.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Waits until all that was written is durable.
    ///
    /// # Errors
    /// What the medium or its file system says. It says so once; what was written may be lost.
    pub(super) fn flush(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.file.sync_data()
    }
}

#[cfg(test)]
impl PmemFile {
    /// One that no check has seen.
    pub(super) fn of_parts(file: File) -> Self {
        Self { path: PathBuf::new(), file: Arc::new(file), size: GRANULE, read_only: false }
    }
}
