//! The guest physical address map: RAM, the PCI windows and the fixed pieces of a PC.
//!
//! Everything a device may be given by DMA has to lie where the CPU can address it *and* where the IOMMU can
//! map it, since IOVA = GPA. RAM therefore fills `0..3 GiB` and then `4 GiB..`, skipping what the IOMMU cannot
//! map, and the 64-bit window takes the largest gap above it. Pure: no system call here.

use std::fmt;
use std::ops::RangeInclusive;

use miette::Diagnostic;
use thiserror::Error;

use crate::bytes::{Bytes, GIB, MIB, TIB};
use crate::{GuestRange, PAGE_SIZE};

/// Where low RAM ends at the latest; PCI begins here.
pub const LOW_RAM_END: u64 = 0xC000_0000;
/// Where RAM goes on beyond the 32-bit hole.
pub const HIGH_RAM_START: u64 = 4 * GIB;
/// PCI configuration space: 256 buses, 1 MiB each.
pub const ECAM: GuestRange = GuestRange::new(0xC000_0000, 256 * MIB);
/// Window for 32-bit BARs.
pub const MMIO32: GuestRange = GuestRange::new(0xD000_0000, 0x2E00_0000);
/// I/O APIC registers.
pub const IOAPIC: GuestRange = GuestRange::new(0xFEC0_0000, PAGE_SIZE);
/// Local APIC registers, and the window MSIs are written to.
pub const LAPIC: GuestRange = GuestRange::new(0xFEE0_0000, MIB);
/// The page KVM keeps an identity-mapped page table in, for real mode on Intel without unrestricted guest.
pub const KVM_IDENTITY_MAP: GuestRange = GuestRange::new(0xFFFB_C000, PAGE_SIZE);
/// The three pages KVM keeps a task state segment in, for the same purpose.
pub const KVM_TSS: GuestRange = GuestRange::new(0xFFFB_D000, 3 * PAGE_SIZE);

/// The least RAM a guest can be given, in bytes.
pub const MIN_RAM: u64 = 16 * MIB;
/// The most RAM a guest can be given, in bytes.
pub const MAX_RAM: u64 = 12 * TIB;
/// RAM regions start at multiples of this, so that 1 GiB pages stay possible on every level.
pub const RAM_ALIGN: u64 = GIB;

const REGION_END_ALIGN: u64 = 2 * MIB;
const MIN_MMIO64: u64 = GIB;
const MAX_PHYS_BITS: u8 = 52;

/// What bounds the guest physical address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressLimits {
    /// Physical address bits a guest may use on this host.
    pub phys_bits: u8,
    /// The IOVAs the IOMMU lets us map, inclusive, sorted; reserved ranges are absent. `None` without passthrough.
    pub iova: Option<Vec<RangeInclusive<u64>>>,
}

impl AddressLimits {
    /// Limits of a guest without passthrough.
    pub const fn cpu_only(phys_bits: u8) -> Self {
        Self { phys_bits, iova: None }
    }

    /// Whether all of `range` can be mapped for a device (and addressed by the CPU).
    pub fn reachable(&self, range: &GuestRange) -> bool {
        self.permitted().iter().any(|p| p.contains(range))
    }

    fn end(&self) -> u64 {
        1 << self.phys_bits.min(MAX_PHYS_BITS)
    }

    /// What both CPU and IOMMU reach: whole pages, sorted, disjoint.
    fn permitted(&self) -> Vec<GuestRange> {
        let Some(iova) = &self.iova else {
            return vec![GuestRange::new(0, self.end())];
        };
        let mut ranges: Vec<(u64, u64)> = iova
            .iter()
            .filter_map(|r| {
                let start = r.start().checked_next_multiple_of(PAGE_SIZE)?;
                let end = align_down(r.end().saturating_add(1).min(self.end()), PAGE_SIZE);
                (start < end).then_some((start, end))
            })
            .collect();
        ranges.sort_unstable();
        let mut merged: Vec<GuestRange> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if start <= last.end() => last.size = last.end().max(end) - last.start,
                _ => merged.push(GuestRange::new(start, end - start)),
            }
        }
        merged
    }

    /// Where RAM may lie, in the order it is filled. The top is left to the 64-bit window.
    fn ram_segments(&self) -> Vec<GuestRange> {
        let top = self.end().saturating_sub(MIN_MMIO64);
        let permitted = self.permitted();
        [(0, LOW_RAM_END), (HIGH_RAM_START, top)]
            .into_iter()
            .flat_map(|(low, high)| {
                permitted.iter().filter_map(move |p| clip(p, low, high, REGION_END_ALIGN))
            })
            .collect()
    }

    /// Room for `bytes` in one piece above `ram_end`, where RAM could be as well; `None` for none.
    fn room(&self, ram_end: u64, bytes: u64) -> Result<Option<GuestRange>, LayoutError> {
        if bytes == 0 {
            return Ok(None);
        }
        let pieces: Vec<_> = self
            .ram_segments()
            .iter()
            .filter_map(|it| clip(it, ram_end.max(HIGH_RAM_START), it.end(), REGION_END_ALIGN))
            .collect();
        let largest = pieces.iter().map(|piece| piece.size).max().unwrap_or(0);
        let piece = pieces.iter().find(|piece| piece.size >= bytes);
        let piece = piece.ok_or(LayoutError::NoRoom { asked: bytes, largest })?;
        Ok(Some(GuestRange::new(piece.start, bytes)))
    }

    /// The largest 64-bit window above `ram_end`: inside the aperture if at all possible, since only there can
    /// devices reach each other's BARs.
    fn mmio64(&self, ram_end: u64) -> Option<GuestRange> {
        let floor = ram_end.max(HIGH_RAM_START);
        let largest = |ranges: Vec<GuestRange>| {
            ranges
                .iter()
                .filter_map(|r| clip(r, floor, self.end(), RAM_ALIGN))
                .max_by_key(|r| (r.size, std::cmp::Reverse(r.start)))
        };
        largest(self.permitted()).or_else(|| largest(vec![GuestRange::new(0, self.end())]))
    }
}

/// The part of `range` inside `low..high`, from a 1 GiB boundary to one of `end_align`, unless nothing is left.
fn clip(range: &GuestRange, low: u64, high: u64, end_align: u64) -> Option<GuestRange> {
    let start = range.start.max(low).checked_next_multiple_of(RAM_ALIGN)?;
    let end = align_down(range.end().min(high), end_align);
    (start < end).then(|| GuestRange::new(start, end - start))
}

const fn align_down(value: u64, align: u64) -> u64 {
    value - value % align
}

/// Where everything lies in the guest physical address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// RAM, ascending. Every region starts at a multiple of 1 GiB; the first at 0.
    pub ram: Vec<GuestRange>,
    /// PCI configuration space.
    pub ecam: GuestRange,
    /// Window for 32-bit BARs.
    pub mmio32: GuestRange,
    /// Where memory can be plugged in, above all RAM, if any can be; starts at a multiple of 1 GiB.
    pub pluggable: Option<GuestRange>,
    /// Persistent memory, above all of these; each piece starts at a multiple of 1 GiB.
    pub persistent: Vec<GuestRange>,
    /// Window for 64-bit BARs, above all memory; start and size are multiples of 1 GiB.
    pub mmio64: GuestRange,
}

impl Layout {
    /// Places `ram_bytes` of RAM and the PCI windows inside `limits`.
    ///
    /// # Errors
    /// A size that is no multiple of a page, too small, or larger than the limits leave room for.
    pub fn new(ram_bytes: u64, limits: &AddressLimits) -> Result<Self, LayoutError> {
        Self::with_room(ram_bytes, 0, limits)
    }

    /// The same with room for `pluggable` bytes of memory that can be plugged in, if that is not 0: in one piece, within the
    /// reach of the IOMMU.
    ///
    /// # Errors
    /// As for [`Layout::new`].
    pub fn with_room(ram_bytes: u64, pluggable: u64, limits: &AddressLimits) -> Result<Self, LayoutError> {
        if !ram_bytes.is_multiple_of(PAGE_SIZE) {
            return Err(LayoutError::NotPageAligned { asked: ram_bytes });
        }
        if ram_bytes < MIN_RAM {
            return Err(LayoutError::TooSmall { asked: ram_bytes });
        }
        let no_window = LayoutError::NoMmio64 { phys_bits: limits.phys_bits };
        if limits.end() < HIGH_RAM_START + MIN_MMIO64 {
            return Err(no_window);
        }
        let segments = limits.ram_segments();
        if !segments.first().is_some_and(|s| s.start == 0 && s.size >= MIN_RAM) {
            return Err(LayoutError::NoLowMemory);
        }
        let capacity = segments.iter().map(|s| s.size).sum();
        if ram_bytes > MAX_RAM.min(capacity) {
            return Err(too_large(ram_bytes, capacity, limits));
        }
        let ram = fill(&segments, ram_bytes);
        let ram_end = ram.last().map_or(0, GuestRange::end);
        let pluggable = limits.room(ram_end, pluggable)?;
        let end = pluggable.map_or(ram_end, |room| room.end());
        let mmio64 = limits.mmio64(end).ok_or(no_window)?;
        Ok(Self { ram, ecam: ECAM, mmio32: MMIO32, pluggable, persistent: Vec::new(), mmio64 })
    }

    /// Places pieces of persistent memory of these sizes above all else, and the 64-bit window above them. The IOMMU need not reach
    /// them: no device does.
    ///
    /// # Errors
    /// The CPU does not address so much.
    pub fn add_persistent(&mut self, sizes: &[u64], limits: &AddressLimits) -> Result<(), LayoutError> {
        let top = limits.end().saturating_sub(MIN_MMIO64);
        for &size in sizes {
            let floor = self.memory_end().max(HIGH_RAM_START);
            let start =
                floor.checked_next_multiple_of(RAM_ALIGN).filter(|start| *start <= top).unwrap_or(top);
            let largest = top - start;
            if size > largest {
                return Err(LayoutError::NoRoomForFile { asked: size, largest, phys_bits: limits.phys_bits });
            }
            self.persistent.push(GuestRange::new(start, size));
        }
        if !sizes.is_empty() {
            let no_window = LayoutError::NoMmio64 { phys_bits: limits.phys_bits };
            self.mmio64 = limits.mmio64(self.memory_end()).ok_or(no_window)?;
        }
        Ok(())
    }

    /// One past the last address of memory of any kind.
    fn memory_end(&self) -> u64 {
        let last = self.persistent.last().or(self.pluggable.as_ref()).or(self.ram.last());
        last.map_or(0, GuestRange::end)
    }

    /// Takes the 64-bit window where BARs of these sizes (powers of two) fit, if they do not where it is: beyond what
    /// the IOMMU maps the guest reaches them as well, and only other devices do not. Returns whether it has moved.
    pub fn make_room(&mut self, bars: &[u64], limits: &AddressLimits) -> bool {
        if holds(&self.mmio64, bars) {
            return false;
        }
        let floor = self.memory_end().max(HIGH_RAM_START);
        let beyond = clip(&GuestRange::new(0, limits.end()), floor, limits.end(), RAM_ALIGN);
        let moved = beyond.filter(|window| *window != self.mmio64 && holds(window, bars));
        self.mmio64 = moved.unwrap_or(self.mmio64);
        moved.is_some()
    }

    /// All RAM, in bytes.
    pub fn ram_bytes(&self) -> u64 {
        self.ram.iter().map(|r| r.size).sum()
    }
}

/// Whether BARs of these sizes fit into a window, the largest first, each naturally aligned.
fn holds(window: &GuestRange, bars: &[u64]) -> bool {
    let largest = bars.iter().copied().max().unwrap_or(1).max(1);
    let start = window.start.checked_next_multiple_of(largest);
    let total = bars.iter().try_fold(0u64, |total, size| total.checked_add(*size));
    let end = start.zip(total).and_then(|(start, total)| start.checked_add(total));
    end.is_some_and(|end| end <= window.end())
}

fn fill(segments: &[GuestRange], bytes: u64) -> Vec<GuestRange> {
    let mut left = bytes;
    let mut ram = Vec::new();
    for segment in segments {
        let size = left.min(segment.size);
        if size == 0 {
            break;
        }
        ram.push(GuestRange::new(segment.start, size));
        left -= size;
    }
    ram
}

fn too_large(asked: u64, capacity: u64, limits: &AddressLimits) -> LayoutError {
    let cpu: u64 = AddressLimits::cpu_only(limits.phys_bits).ram_segments().iter().map(|s| s.size).sum();
    let limit = if capacity >= MAX_RAM {
        Limit::Supported
    } else if capacity == cpu {
        Limit::PhysBits(limits.phys_bits)
    } else {
        Limit::Aperture { end: limits.permitted().last().map_or(0, GuestRange::end) }
    };
    LayoutError::TooLarge { asked, largest: MAX_RAM.min(capacity), limit }
}

/// What a guest's memory ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`MAX_RAM`].
    Supported,
    /// The physical address bits a guest may use.
    PhysBits(u8),
    /// What the IOMMU can map; `end` is one past its last usable IOVA.
    Aperture {
        /// One past the last IOVA.
        end: u64,
    },
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Supported => write!(f, "guests larger than {} are not supported", Bytes(MAX_RAM)),
            Self::PhysBits(bits) => write!(f, "the CPU has {bits} physical address bits"),
            Self::Aperture { end } => {
                write!(f, "the IOMMU of the passed-through devices maps addresses up to {end:#x}")
            }
        }
    }
}

/// Why guest memory could not be laid out.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum LayoutError {
    /// The size is no multiple of a page.
    #[error("guest memory of {} is not a multiple of 4 KiB", Bytes(*asked))]
    #[diagnostic(help("give --memory in whole MiB, for example --memory 512M"))]
    NotPageAligned {
        /// Bytes asked for.
        asked: u64,
    },
    /// Less than a kernel boots with.
    #[error("guest memory of {} is less than {}", Bytes(*asked), Bytes(MIN_RAM))]
    #[diagnostic(help("raise --memory to {} or more", Bytes(MIN_RAM).flag()))]
    TooSmall {
        /// Bytes asked for.
        asked: u64,
    },
    /// More than can be addressed or mapped.
    #[error("guest memory of {} does not fit: {limit}, which leaves room for {}", Bytes(*asked), Bytes(*largest))]
    #[diagnostic(help("lower --memory to {} or less", Bytes(*largest).flag()))]
    TooLarge {
        /// Bytes asked for.
        asked: u64,
        /// The largest size that fits, in bytes.
        largest: u64,
        /// What bounds it.
        limit: Limit,
    },
    /// Memory that is to be plugged in does not fit above RAM in one piece.
    #[error("no room for {} of memory to be plugged in: the guest's addresses leave room for {}", Bytes(*asked), Bytes(*largest))]
    #[diagnostic(help("lower --hotplug-memory to {} or less", Bytes(*largest).flag()))]
    NoRoom {
        /// Bytes asked for.
        asked: u64,
        /// The largest piece, in bytes.
        largest: u64,
    },
    /// Persistent memory does not fit above RAM.
    #[error("no room for {} of persistent memory: the CPU has {phys_bits} physical address bits, which leave room for {}", Bytes(*asked), Bytes(*largest))]
    #[diagnostic(help("give less of the file (--pmem FILE,size={}), or lower --memory", Bytes(*largest).flag()))]
    NoRoomForFile {
        /// Bytes asked for.
        asked: u64,
        /// The most that fits, in bytes.
        largest: u64,
        /// Physical address bits a guest may use.
        phys_bits: u8,
    },
    /// The IOMMU cannot map where a PC must have RAM.
    #[error("the IOMMU of the passed-through devices cannot map guest memory 0x0..{MIN_RAM:#x}")]
    #[diagnostic(help(
        "the device has a reserved region there (see reserved_regions of its IOMMU group); pass through another device"
    ))]
    NoLowMemory,
    /// The address space ends before there is room for 64-bit BARs.
    #[error("{phys_bits} physical address bits leave no room for 64-bit PCI windows")]
    #[diagnostic(help("a guest needs at least 33 physical address bits"))]
    NoMmio64 {
        /// Physical address bits a guest may use.
        phys_bits: u8,
    },
}

#[cfg(test)]
#[path = "layout_test.rs"]
mod tests;
