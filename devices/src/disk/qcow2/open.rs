//! Opening a qcow2 image with what it is based on: each file of the chain by us, looked over, locked, and handed to
//! imago, which opens nothing by itself.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, StorageOpenOptions};

use super::header::{BackingName, HEADER, Header, REFCOUNT};
use super::{Access, Qcow2Image};
use crate::disk::IMAGE;
use crate::disk::error::DiskError;
use crate::disk::file::{Opened, Wanted, open_file};
use crate::disk::format::Format;
use crate::disk::options::DiskOptions;

/// Files an image may be based on, one on the other.
const MOST_BACKING: usize = 64;
/// Bytes of second-level tables that are looked over at the start. They describe 8 TiB with clusters of usual size.
const LOOKED_OVER: u64 = 1 << 30;

/// The image in `opened`, and the bytes of its disk.
///
/// # Errors
/// Whatever is wrong with it, or with a file it is based on.
pub(in crate::disk) fn open(
    opened: &Opened,
    options: &DiskOptions,
) -> Result<(Qcow2Image, Shape), DiskError> {
    let mut chain = Chain { options, seen: vec![identity(opened)?] };
    let examine = |source| DiskError::Examine { what: IMAGE, path: options.path.clone(), source };
    let file = opened.file.try_clone().map_err(examine)?;
    let (access, shape) = chain.image(opened, &options.path, !options.read_only)?;
    Ok((Qcow2Image { access: access.into(), file }, shape))
}

/// How large things are in an image, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) struct Shape {
    /// The disk.
    pub(in crate::disk) size: u64,
    /// A cluster, which is given out and back as a whole.
    pub(in crate::disk) cluster: u64,
}

struct Chain<'a> {
    options: &'a DiskOptions,
    /// Device and inode of each file of the chain so far.
    seen: Vec<(u64, u64)>,
}

impl Chain<'_> {
    fn image(&mut self, opened: &Opened, path: &Path, writable: bool) -> Result<(Access, Shape), DiskError> {
        let (header, backing) = look_over(opened, path, writable)?;
        let backing = backing.map(|backing| self.backing(path, backing)).transpose()?;
        let wrap = |source| DiskError::Qcow2 { path: path.to_owned(), source };
        let image = self.storage(opened, path, writable).map_err(wrap)?;
        let image = Qcow2::<imago::file::File>::builder(image)
            .write(writable)
            .backing(backing)
            .data_file(None)
            .open(DenyImplicitOpenGate::default())
            .map_err(wrap)?;
        Ok((FormatAccess::new(image), Shape { size: header.size, cluster: header.l2_bytes() as u64 }))
    }

    /// Opens what `path` is based on.
    fn backing(&mut self, path: &Path, backing: BackingName) -> Result<Access, DiskError> {
        let BackingName { name, .. } = &backing;
        if !self.options.backing {
            return Err(DiskError::BackingRefused { path: path.to_owned(), backing: name.clone() });
        }
        let format = backing
            .known_format()
            .ok_or_else(|| DiskError::BackingFormat { path: path.to_owned(), backing: name.clone() })?;
        // An absolute name takes the place of the directory.
        let file = path.parent().unwrap_or(Path::new("")).join(name);
        self.base(&file, format)
            .map_err(|source| DiskError::Backing { path: path.to_owned(), source: Box::new(source) })
    }

    fn base(&mut self, path: &Path, format: Format) -> Result<Access, DiskError> {
        let DiskOptions { direct, lock, .. } = *self.options;
        let opened = open_file(path, &Wanted { what: IMAGE, writable: false, direct, lock })?;
        let identity = identity(&opened)?;
        if self.seen.contains(&identity) {
            return Err(DiskError::BackingLoop { path: self.options.path.clone(), backing: path.to_owned() });
        }
        if self.seen.len() > MOST_BACKING {
            return Err(DiskError::BackingDepth { path: self.options.path.clone(), most: MOST_BACKING });
        }
        self.seen.push(identity);
        match format {
            Format::Qcow2 => self.image(&opened, path, false).map(|(access, _)| access),
            Format::Raw => {
                let wrap = |source| DiskError::Examine { what: IMAGE, path: path.to_owned(), source };
                let storage = self.storage(&opened, path, false).map_err(wrap)?;
                Raw::open_image(storage, false).map(FormatAccess::new).map_err(wrap)
            }
        }
    }

    /// The file for imago. The duplicate shares the opening and with it the lock.
    fn storage(&self, opened: &Opened, path: &Path, writable: bool) -> io::Result<imago::file::File> {
        let options = StorageOpenOptions::new().filename(path).write(writable).direct(self.options.direct);
        imago::file::File::from_open_file(opened.file.try_clone()?, options)
    }
}

fn identity(opened: &Opened) -> Result<(u64, u64), DiskError> {
    let metadata = opened.file.metadata();
    let metadata =
        metadata.map_err(|source| DiskError::Examine { what: IMAGE, path: opened.path.clone(), source })?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Checks the header and what the tables refer to, as far as [`LOOKED_OVER`] goes.
fn look_over(
    opened: &Opened,
    path: &Path,
    writable: bool,
) -> Result<(Header, Option<BackingName>), DiskError> {
    let examine = |source| DiskError::Examine { what: IMAGE, path: path.to_owned(), source };
    let wrong = |source| DiskError::Header { path: path.to_owned(), source };
    let file = opened.for_reading().map_err(examine)?;
    let bytes = |offset, length| read(&file, offset, length).map_err(examine);

    let header = Header::parse(&bytes(0, HEADER as u64)?, opened.size, writable).map_err(wrong)?;
    let backing = header.backing(&bytes(0, header.first_cluster())?).map_err(wrong)?;
    if writable {
        let entry = header.first_refcounts();
        let first = header.first_counts(&bytes(entry.start, entry.end - entry.start)?).map_err(wrong)?;
        header.check_counted(&bytes(first, REFCOUNT)?).map_err(wrong)?;
    }
    let l1 = header.l1();
    let tables = header.l2_tables(&bytes(l1.start, l1.end - l1.start)?).map_err(wrong)?;
    let most = usize::try_from(LOOKED_OVER).unwrap_or(usize::MAX) / header.l2_bytes();
    for (guest, offset) in tables.iter().copied().take(most) {
        header.check_l2(guest, &bytes(offset, header.l2_bytes() as u64)?).map_err(wrong)?;
    }
    if tables.len() > most {
        tracing::debug!(path = %path.display(), tables = tables.len(), most, "not all tables were looked over");
    }
    Ok((header, backing))
}

/// Reads what is there of a range whose length was found to be sensible.
fn read(file: &fs::File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64)? {
            0 => break,
            more => done += more,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}
