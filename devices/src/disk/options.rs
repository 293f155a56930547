//! What is asked of a disk.

use std::path::PathBuf;

use super::format::Format;

/// How an image becomes a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// A file or a block device.
    pub path: PathBuf,
    /// Its format. `None`: what its name and its content agree on.
    pub format: Option<Format>,
    /// The guest cannot write to it.
    pub read_only: bool,
    /// Past the host's page cache (O_DIRECT).
    pub direct: bool,
    /// Whether a qcow2 image may be based on other files.
    pub backing: bool,
    /// Whether others are kept from it.
    pub lock: bool,
}

impl DiskOptions {
    /// The usual: written through the page cache, locked, without backing files.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), format: None, read_only: false, direct: false, backing: false, lock: true }
    }
}
