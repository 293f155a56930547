//! The header of a qcow2 image, and whether its tables can be what it says (QEMU's docs/interop/qcow2.rst).
//!
//! imago reads and writes the format. It takes what lies past the end of the file for zeroes, which would show a guest
//! zeroes in place of what a truncated image has lost; and it follows every reference. So what an image must be for us is
//! checked here first, on bytes, before imago sees it.

use std::ops::Range;

use thiserror::Error;

use super::super::format::{Format, QCOW2_MAGIC};

/// Bytes of the longest header that is looked at, version 3 with the compression type.
pub(in crate::disk) const HEADER: usize = 112;
/// The largest table of first or second level references and of reference counts (as QEMU has them).
const MOST_L1_BYTES: u64 = 32 << 20;
const MOST_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
/// Reference counts have 64 bits at the most, 2^6.
const MOST_REFCOUNT_ORDER: u32 = 6;
/// Bytes of a reference count at the most.
pub(in crate::disk) const REFCOUNT: u64 = 8;
/// Longest name of a backing file.
const MOST_NAME: u32 = 1023;
/// Bits 9 to 55 of an entry: where in the file its cluster is.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
/// The header extension that names the backing file's format.
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// The header extension that names features, in entries of [`FEATURE_NAME`] bytes.
const FEATURE_NAMES: u32 = 0x6803_f857;
const FEATURE_NAME: u64 = 48;

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// What is wrong with an image.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HeaderError {
    /// Not all of the header is there.
    #[error("the file ends in its header")]
    Short,
    /// Versions 2 and 3 exist.
    #[error("it has version {0}, which does not exist")]
    Version(u32),
    /// Clusters are 512 bytes to 2 MiB.
    #[error("its clusters are said to be 2^{0} bytes")]
    ClusterBits(u32),
    /// More than a disk can have.
    #[error("it is said to be a disk of {0} bytes")]
    Size(u64),
    /// A table that is somewhere else than in the file, or larger than it may be.
    #[error("its {table} at {offset:#x} with {bytes} bytes does not lie in the file of {file} bytes")]
    Table {
        /// Which table.
        table: &'static str,
        /// Where it is said to be.
        offset: u64,
        /// How long it is said to be.
        bytes: u64,
        /// How long the file is.
        file: u64,
    },
    /// Tables that share bytes.
    #[error("its {0} overlaps another table")]
    Overlap(&'static str),
    /// A first-level table that does not reach to the end of the disk.
    #[error("its table of tables has {has} entries, a disk of {size} bytes needs {needs}")]
    L1Size {
        /// Entries it has.
        has: u64,
        /// Entries it takes.
        needs: u64,
        /// Bytes of the disk.
        size: u64,
    },
    /// A reference out of the file.
    #[error(
        "the content at {guest:#x} is said to lie at {offset:#x}, the file has {file} bytes: it is truncated"
    )]
    Truncated {
        /// Where on the disk.
        guest: u64,
        /// Where in the file.
        offset: u64,
        /// How long the file is.
        file: u64,
    },
    /// A reference to where a table is.
    #[error("the content at {guest:#x} is said to lie at {offset:#x}, where a table of the image is")]
    IntoTable {
        /// Where on the disk.
        guest: u64,
        /// Where in the file.
        offset: u64,
    },
    /// Two first-level entries for one table.
    #[error("its tables are used more than once: there are more of them than the file has clusters")]
    Repeated,
    /// Reference counts that are missing, where none can be.
    #[error("its reference counts do not count its header, which what is written next would overwrite")]
    Uncounted,
    /// The name of the backing file.
    #[error("the name of the file it is based on is damaged")]
    BackingName,
    /// The list of extensions.
    #[error("the list of extensions in its header is damaged")]
    Extensions,
    /// Marked by who wrote it last.
    #[error("it was not closed properly and its reference counts may be wrong")]
    Dirty,
    /// Marked by who wrote it last.
    #[error("it is marked as corrupt")]
    Corrupt,
    /// Something that imago does not do, or that is not wanted.
    #[error("it has {0}, which is not supported")]
    Unsupported(&'static str),
}

impl HeaderError {
    /// What to do about it.
    pub(in crate::disk) fn help(&self) -> &'static str {
        match self {
            Self::Unsupported(_) => "convert it: qemu-img convert -O qcow2 IMAGE NEW.qcow2",
            Self::Dirty | Self::Corrupt => {
                "repair it: qemu-img check -r all IMAGE. Until then it can be read: add `ro` to the disk"
            }
            Self::Short | Self::Truncated { .. } | Self::Table { .. } => {
                "the file is damaged or incomplete: copy or download it again, or look at `qemu-img check IMAGE`"
            }
            _ => {
                "the file is damaged: `qemu-img check IMAGE` tells more, `qemu-img check -r all IMAGE` repairs what can be"
            }
        }
    }
}

/// What an image names as its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::disk) struct BackingName {
    /// As it is in the header: relative to the image, unless it begins with a slash.
    pub(in crate::disk) name: String,
    /// Its format. `None`: not said.
    pub(in crate::disk) format: Option<String>,
}

impl BackingName {
    /// Its format, if that is one we read.
    pub(in crate::disk) fn known_format(&self) -> Option<Format> {
        match self.format.as_deref() {
            Some("raw") => Some(Format::Raw),
            Some("qcow2") => Some(Format::Qcow2),
            _ => None,
        }
    }
}

/// A header that was found good.
#[derive(Debug)]
pub(in crate::disk) struct Header {
    cluster_bits: u32,
    file: u64,
    l1: Range<u64>,
    refcounts: Range<u64>,
    /// Bits of a reference count, as a power of two.
    refcount_order: u32,
    backing: Option<Range<u64>>,
    extensions: Option<u64>,
    /// Bytes of the disk.
    pub(in crate::disk) size: u64,
}

impl Header {
    /// Checks the first [`HEADER`] bytes of a file of `file` bytes.
    ///
    /// # Errors
    /// The image is damaged, or has what is not supported, or may not be written and is to be.
    pub(in crate::disk) fn parse(head: &[u8], file: u64, writable: bool) -> Result<Self, HeaderError> {
        let long = |at| word(head, at).ok_or(HeaderError::Short);
        let short = |at| half(head, at).ok_or(HeaderError::Short);
        if !head.starts_with(&QCOW2_MAGIC) {
            return Err(HeaderError::Short);
        }
        let version = short(4)?;
        let (incompatible, header_length, refcount_order) = match version {
            2 => (0, 72, 4),
            3 => (long(72)?, u64::from(short(100)?), short(96)?),
            other => return Err(HeaderError::Version(other)),
        };
        let compression =
            incompatible & COMPRESSION_TYPE != 0 && head.get(104).is_some_and(|&kind| kind != 0);
        check_features(incompatible, compression, short(32)?, writable)?;

        if refcount_order > MOST_REFCOUNT_ORDER {
            return Err(HeaderError::Unsupported("reference counts of more than 64 bits"));
        }

        let cluster_bits = short(20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(HeaderError::ClusterBits(cluster_bits));
        }
        let cluster = 1_u64 << cluster_bits;
        let size = long(24)?;
        if size > i64::MAX as u64 {
            return Err(HeaderError::Size(size));
        }
        let (has, needs) = (u64::from(short(36)?), size.div_ceil(cluster * cluster / 8));
        if has < needs {
            return Err(HeaderError::L1Size { has, needs, size });
        }
        let table = |table, offset, bytes, most| table_range(table, offset, bytes, most, cluster, file);
        let l1 = table("table of tables", long(40)?, has * 8, MOST_L1_BYTES)?;
        let refcounts = u64::from(short(56)?) * cluster;
        let refcounts = table("reference count table", long(48)?, refcounts, MOST_REFCOUNT_TABLE_BYTES)?;
        if overlap(&l1, &refcounts) {
            return Err(HeaderError::Overlap("table of tables"));
        }
        let backing = match (long(8)?, short(16)?) {
            (0, _) => None,
            (start, length) if length <= MOST_NAME && start.saturating_add(length.into()) <= cluster => {
                Some(start..start + u64::from(length))
            }
            _ => return Err(HeaderError::BackingName),
        };
        let extensions = (version == 3).then_some(header_length);
        Ok(Self { cluster_bits, file, l1, refcounts, refcount_order, backing, extensions, size })
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// How much of the file [`Self::backing`] wants to see, from its beginning.
    pub(in crate::disk) fn first_cluster(&self) -> u64 {
        self.cluster().min(self.file)
    }

    /// The backing file it names. `first` is the first cluster of the file.
    pub(in crate::disk) fn backing(&self, first: &[u8]) -> Result<Option<BackingName>, HeaderError> {
        let format = self.extension(first, BACKING_FORMAT)?;
        let Some(name) = &self.backing else { return Ok(None) };
        let name = slice(first, name.start, name.end).ok_or(HeaderError::BackingName)?;
        let name = String::from_utf8(name.to_vec()).map_err(|_| HeaderError::BackingName)?;
        if name.is_empty() || name.contains('\0') {
            return Err(HeaderError::BackingName);
        }
        Ok(Some(BackingName { name, format: format.map(|f| String::from_utf8_lossy(f).into_owned()) }))
    }

    /// The content of a header extension. All of them are looked at: imago relies on their lengths.
    fn extension<'a>(&self, first: &'a [u8], wanted: u32) -> Result<Option<&'a [u8]>, HeaderError> {
        let Some(mut at) = self.extensions else { return Ok(None) };
        let mut found = None;
        loop {
            let (kind, length) = (half(first, at as usize), half(first, at as usize + 4));
            let (kind, length) = kind.zip(length).ok_or(HeaderError::Extensions)?;
            let (start, length) = (at + 8, u64::from(length));
            let content = slice(first, start, start + length).ok_or(HeaderError::Extensions)?;
            match kind {
                0 => return Ok(found),
                FEATURE_NAMES if !length.is_multiple_of(FEATURE_NAME) => return Err(HeaderError::Extensions),
                kind if kind == wanted => found = Some(content),
                _ => {}
            }
            at = start + length.next_multiple_of(8);
        }
    }

    /// Where in the file the reference counts begin that the first entry of their table leads to. `table` is what there is
    /// of that entry.
    ///
    /// # Errors
    /// There are none.
    pub(in crate::disk) fn first_counts(&self, table: &[u8]) -> Result<u64, HeaderError> {
        let offset = word(table, 0).unwrap_or(0) & OFFSET;
        let is_there =
            offset >= self.cluster() && offset < self.file && offset.is_multiple_of(self.cluster());
        is_there.then_some(offset).ok_or(HeaderError::Uncounted)
    }

    /// Where in the file the first entry of the table of reference counts is. Empty: the table is.
    pub(in crate::disk) fn first_refcounts(&self) -> Range<u64> {
        let Range { start, end } = self.refcounts;
        start..end.min(start + 8)
    }

    /// Checks the reference count of the header itself. `counts` begins with it, and has [`REFCOUNT`] bytes or more. To imago
    /// a cluster that is not counted is free, and its offset 0 is none: what it puts there it does not find again, and looks
    /// for another place for it without end.
    ///
    /// # Errors
    /// It is 0.
    pub(in crate::disk) fn check_counted(&self, counts: &[u8]) -> Result<(), HeaderError> {
        let count = match self.refcount_order {
            // Small ones are packed from the lowest bits on.
            order @ 0..3 => u64::from(*counts.first().unwrap_or(&0)) & ((1 << (1 << order)) - 1),
            order => word(counts, 0).unwrap_or(0) >> (64 - (1 << order)),
        };
        if count == 0 { Err(HeaderError::Uncounted) } else { Ok(()) }
    }

    /// Where in the file the first-level table is.
    pub(in crate::disk) fn l1(&self) -> Range<u64> {
        self.l1.clone()
    }

    /// Bytes of a second-level table, which fills a cluster.
    pub(in crate::disk) fn l2_bytes(&self) -> usize {
        self.cluster() as usize
    }

    /// Where the second-level tables are that the first-level table refers to, each with where on the disk its content
    /// begins.
    ///
    /// # Errors
    /// One does not lie in the file, or lies where another table is, or there are more than the file can have.
    pub(in crate::disk) fn l2_tables(&self, l1: &[u8]) -> Result<Vec<(u64, u64)>, HeaderError> {
        let span = self.cluster() * self.cluster() / 8;
        let mut tables = Vec::new();
        for (guest, entry) in (0..).map(|index| index * span).zip(entries(l1)) {
            let offset = entry & OFFSET;
            if guest >= self.size {
                break;
            }
            if offset != 0 {
                self.check_reference(guest, offset)?;
                tables.push((guest, offset));
            }
        }
        if tables.len() as u64 > self.file.div_ceil(self.cluster()) {
            return Err(HeaderError::Repeated);
        }
        Ok(tables)
    }

    /// Checks where the content lies that a second-level table describes, from `guest` on.
    ///
    /// # Errors
    /// A piece of it does not lie in the file, or lies where a table is.
    pub(in crate::disk) fn check_l2(&self, guest: u64, l2: &[u8]) -> Result<(), HeaderError> {
        for (index, entry) in (0..).zip(entries(l2)) {
            let guest = guest + index * self.cluster();
            let offset = match entry {
                compressed if compressed & COMPRESSED != 0 => {
                    compressed & ((1 << (62 - (self.cluster_bits - 8))) - 1)
                }
                plain => plain & OFFSET,
            };
            if offset != 0 {
                self.check_reference(guest, offset)?;
            }
        }
        Ok(())
    }

    fn check_reference(&self, guest: u64, offset: u64) -> Result<(), HeaderError> {
        // What is behind the end of the last cluster was never written, and is zero.
        if offset >= self.file {
            return Err(HeaderError::Truncated { guest, offset, file: self.file });
        }
        if offset < self.cluster() || self.l1.contains(&offset) || self.refcounts.contains(&offset) {
            return Err(HeaderError::IntoTable { guest, offset });
        }
        Ok(())
    }
}

fn check_features(
    incompatible: u64,
    other_compression: bool,
    encryption: u32,
    writable: bool,
) -> Result<(), HeaderError> {
    let has = |feature| incompatible & feature != 0;
    match () {
        () if encryption != 0 => Err(HeaderError::Unsupported("encryption")),
        () if has(EXTERNAL_DATA) => Err(HeaderError::Unsupported("its data in another file")),
        () if other_compression => Err(HeaderError::Unsupported("zstd compression")),
        () if has(EXTENDED_L2) => Err(HeaderError::Unsupported("subclusters (extended L2 entries)")),
        () if incompatible >= EXTENDED_L2 << 1 => Err(HeaderError::Unsupported("a feature newer than vmm")),
        () if has(CORRUPT) && writable => Err(HeaderError::Corrupt),
        () if has(DIRTY) && writable => Err(HeaderError::Dirty),
        () => Ok(()),
    }
}

/// Where a table lies, which may end in the last cluster of the file though not all of it is there.
fn table_range(
    table: &'static str,
    offset: u64,
    bytes: u64,
    most: u64,
    cluster: u64,
    file: u64,
) -> Result<Range<u64>, HeaderError> {
    let end = offset.checked_add(bytes).filter(|&end| end <= file.next_multiple_of(cluster));
    match end {
        Some(end) if bytes <= most && offset.is_multiple_of(cluster) && (offset >= cluster || bytes == 0) => {
            Ok(offset..end)
        }
        _ => Err(HeaderError::Table { table, offset, bytes, file }),
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

fn entries(table: &[u8]) -> impl Iterator<Item = u64> {
    table.as_chunks().0.iter().map(|&entry| u64::from_be_bytes(entry))
}

fn slice(bytes: &[u8], start: u64, end: u64) -> Option<&[u8]> {
    bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|&value| u32::from_be_bytes(value))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|&value| u64::from_be_bytes(value))
}

#[cfg(test)]
#[path = "header_test.rs"]
mod tests;
