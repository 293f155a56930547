//! What VFIO says of an IOMMU and of a device region, read from the bytes the kernel answered with.
//!
//! Both answers are a struct followed by a chain of capabilities (`vfio_info_cap_header`: id, version, offset of the
//! next). The kernel is trusted with memory but not with bounds: a broken chain ends early and nothing is read twice.

use std::mem::offset_of;
use std::ops::{Range, RangeInclusive};

use vfio_bindings::bindings::vfio::{
    VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_INFO_PGSIZES, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
    VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS,
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
    vfio_iommu_type1_info, vfio_region_info,
};

/// What the IOMMU can translate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aperture {
    /// Usable IOVAs, ascending and disjoint; reserved ranges (MSI, RMRR) are already left out. Empty: the kernel
    /// does not say.
    pub ranges: Vec<RangeInclusive<u64>>,
    /// Bit n set: pages of `2^n` bytes can be mapped. 0: the kernel does not say.
    pub page_sizes: u64,
    /// How many maps it still takes. `None`: it has no such limit, or does not say.
    pub dma_avail: Option<u32>,
}

impl Aperture {
    /// One of these ranges, in any order.
    pub(crate) fn from_ranges(ranges: impl IntoIterator<Item = RangeInclusive<u64>>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        ranges.sort_by_key(|range| *range.start());
        // Overlapping ranges would promise nothing: the later one yields.
        let mut end = None;
        ranges.retain(|range| {
            let fits = end.is_none_or(|end| *range.start() > end);
            end = if fits { Some(*range.end()) } else { end };
            fits
        });
        Self { ranges, ..Self::default() }
    }

    /// Reads the answer to `VFIO_IOMMU_GET_INFO`.
    pub(crate) fn parse(answer: &[u8]) -> Self {
        let flags = word(answer, offset_of!(vfio_iommu_type1_info, flags)).unwrap_or(0);
        let mut aperture = Self::default();
        if flags & VFIO_IOMMU_INFO_PGSIZES != 0 {
            aperture.page_sizes = long(answer, offset_of!(vfio_iommu_type1_info, iova_pgsizes)).unwrap_or(0);
        }
        if flags & VFIO_IOMMU_INFO_CAPS == 0 {
            return aperture;
        }
        let first = word(answer, offset_of!(vfio_iommu_type1_info, cap_offset)).unwrap_or(0);
        for (id, capability) in capabilities(answer, first) {
            match id {
                VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE => {
                    let ranges = pairs(capability).map(|(start, end)| start..=end);
                    aperture.ranges = Self::from_ranges(ranges).ranges;
                }
                VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL => aperture.dma_avail = word(capability, 8),
                _ => {}
            }
        }
        aperture
    }
}

/// A region of a VFIO device: a BAR, the ROM or configuration space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// Bytes.
    pub size: u64,
    /// Where it starts in the device's file.
    pub offset: u64,
    /// Can be read.
    pub readable: bool,
    /// Can be written.
    pub writable: bool,
    /// Can be mapped into memory, at least in part.
    pub mappable: bool,
    /// The only parts that can be mapped, if not all can.
    pub sparse: Option<Vec<Range<u64>>>,
}

impl RegionInfo {
    /// Reads the answer to `VFIO_DEVICE_GET_REGION_INFO`. `None`: too short to be one.
    pub(crate) fn parse(answer: &[u8]) -> Option<Self> {
        let flags = word(answer, offset_of!(vfio_region_info, flags))?;
        let mut region = Self {
            size: long(answer, offset_of!(vfio_region_info, size))?,
            offset: long(answer, offset_of!(vfio_region_info, offset))?,
            readable: flags & VFIO_REGION_INFO_FLAG_READ != 0,
            writable: flags & VFIO_REGION_INFO_FLAG_WRITE != 0,
            mappable: flags & VFIO_REGION_INFO_FLAG_MMAP != 0,
            sparse: None,
        };
        if flags & VFIO_REGION_INFO_FLAG_CAPS != 0 {
            let first = word(answer, offset_of!(vfio_region_info, cap_offset))?;
            for (id, capability) in capabilities(answer, first) {
                if id == VFIO_REGION_INFO_CAP_SPARSE_MMAP {
                    let areas = pairs(capability)
                        .filter_map(|(offset, size)| Some(offset..offset.checked_add(size)?))
                        .collect();
                    region.sparse = Some(areas);
                }
            }
        }
        Some(region)
    }
}

/// Walks a capability chain: each one's id and its bytes, header included. Offsets must ascend, so it ends.
fn capabilities(answer: &[u8], first: u32) -> impl Iterator<Item = (u32, &[u8])> {
    let mut at = first as usize;
    std::iter::from_fn(move || {
        let capability = answer.get(at..).filter(|_| at != 0)?;
        let id = half(capability, 0)?;
        let next = word(capability, 4)? as usize;
        at = if next > at { next } else { 0 };
        Some((id.into(), capability))
    })
}

/// The array of 64-bit pairs that starts 16 bytes into a capability, its count 8 bytes into it.
fn pairs(capability: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let count = word(capability, 8).unwrap_or(0) as usize;
    let (chunks, _) = capability.get(16..).unwrap_or_default().as_chunks::<16>();
    chunks.iter().take(count).filter_map(|pair| Some((long(pair, 0)?, long(pair, 8)?)))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[path = "info_test.rs"]
mod tests;
