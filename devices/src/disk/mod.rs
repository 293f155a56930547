//! Disks: from an image file to requests that are done when they are done.
//!
//! ```text
//! DiskOptions -> Disk::open        format.rs, file.rs, lock.rs       which file, whose, in which format
//!                                  raw.rs, qcow2/                    what an Image does, one request at a time
//! Engine::new, for each queue      engine/                           many requests at a time
//! ```
//!
//! An image may come from anywhere: what is in it is checked before it is believed. A [`Disk`] lives as long as the machine
//! and holds its file and the lock on it; engines come and go with the guest's driver. Nothing here knows virtio.

mod aligned;
mod buffers;
mod engine;
mod error;
pub(crate) mod file;
mod format;
mod image;
mod lock;
mod options;
mod qcow2;
mod raw;
mod sys;
#[cfg(test)]
mod testing;
mod topology;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use buffers::Buffers;
pub use engine::{Completion, Engine, Operation, Readiness, Refused};
pub use error::{DiskError, GrowError};
pub use format::Format;
pub use options::DiskOptions;
pub use qcow2::HeaderError;
pub use topology::Topology;

use engine::Pool;
use file::{Opened, Wanted, open_file};
use format::HEAD;
use image::Image;
use raw::RawImage;

/// What errors call the file of a disk.
const IMAGE: &str = "disk image";

/// Bytes of a sector, which capacities are counted in whatever the size of blocks.
pub const SECTOR: u64 = 512;

/// An open disk.
pub struct Disk {
    path: PathBuf,
    format: Format,
    read_only: bool,
    direct: bool,
    size: AtomicU64,
    topology: Topology,
    discards: bool,
    /// The image, if it is raw.
    raw: Option<Arc<RawImage>>,
    pool: Pool,
}

impl Disk {
    /// Opens, checks and locks an image.
    ///
    /// # Errors
    /// Why it cannot be a disk.
    pub fn open(options: &DiskOptions) -> Result<Arc<Self>, DiskError> {
        let path = &options.path;
        let examine = |source| DiskError::Examine { what: IMAGE, path: path.clone(), source };
        let DiskOptions { read_only, direct, lock, .. } = *options;
        let opened = open_file(path, &Wanted { what: IMAGE, writable: !read_only, direct, lock })?;
        let format = format::decide(path, options.format, &head(&opened).map_err(examine)?)?;
        let discards = !options.read_only && topology::can_discard(&opened.file, opened.block);
        let parts = match format {
            Format::Raw => {
                let topology = Topology::of_raw(&opened).map_err(examine)?;
                let Opened { file, size, block, direct, .. } = opened;
                let memory = direct.map_or(1, |direct| direct.memory);
                let image = Arc::new(RawImage::new(file, block, memory));
                Parts { raw: Some(Arc::clone(&image)), image, size, topology }
            }
            Format::Qcow2 => {
                let (image, shape) = qcow2::open(&opened, options)?;
                let topology = Topology::of_clusters(shape.cluster);
                Parts { raw: None, image: Arc::new(image), size: shape.size, topology }
            }
        };
        let size = usable(parts.size, &parts.topology);
        if size == 0 {
            return Err(DiskError::TooSmall { path: path.clone(), bytes: parts.size });
        }
        if size != parts.size {
            let (lost, block) = (parts.size - size, parts.topology.logical);
            tracing::warn!(path = %path.display(), lost, block, "the end of the image is no whole block, the guest does not see it");
        }
        Ok(Arc::new(Self {
            path: path.clone(),
            format,
            read_only: options.read_only,
            direct: options.direct,
            size: AtomicU64::new(size),
            topology: parts.topology,
            discards,
            raw: parts.raw,
            pool: Pool::new(parts.image),
        }))
    }

    /// Where its image is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its image's format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it cannot be written to.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether blocks can be given back.
    pub fn can_discard(&self) -> bool {
        self.discards
    }

    /// Bytes of the disk, whole blocks.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Its blocks.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Makes the disk larger, and its image if that has not been done. What is added reads as zeroes.
    ///
    /// # Errors
    /// Why it stays as it is.
    pub fn grow(&self, size: u64) -> Result<(), GrowError> {
        let (has, block) = (self.size(), self.topology.logical);
        match () {
            () if self.read_only => Err(GrowError::ReadOnly),
            () if size < has => Err(GrowError::Shrink { has, asked: size }),
            () if !size.is_multiple_of(block.into()) => Err(GrowError::Unaligned { asked: size, block }),
            () if size == has => Ok(()),
            () => {
                self.pool.image().grow(size).map_err(|source| GrowError::Image { asked: size, source })?;
                self.size.store(size, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn raw(&self) -> Option<&Arc<RawImage>> {
        self.raw.as_ref()
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, format, read_only, direct, .. } = self;
        write!(f, "{} ({format}, read-only: {read_only}, direct: {direct})", path.display())
    }
}

struct Parts {
    image: Arc<dyn Image>,
    raw: Option<Arc<RawImage>>,
    size: u64,
    topology: Topology,
}

/// Bytes that are whole blocks.
fn usable(size: u64, topology: &Topology) -> u64 {
    size - size % u64::from(topology.logical)
}

/// The first bytes of a file.
fn head(opened: &Opened) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let mut head = vec![0; HEAD];
    let read = opened.for_reading()?.read_at(&mut head, 0)?;
    head.truncate(read);
    Ok(head)
}

#[cfg(test)]
#[path = "disk_test.rs"]
mod tests;
