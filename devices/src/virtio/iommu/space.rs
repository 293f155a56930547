//! What the host's IOMMU can translate for a device, and what a driver is told of that: the device's configuration, and the answer to a
//! PROBE (virtio 1.2 §5.13.6.7).

use std::ops::RangeInclusive;

/// Where x86 has its interrupts: what devices write there is a message, and no memory.
const MSI: RangeInclusive<u64> = 0xfee0_0000..=0xfeef_ffff;
/// What is assumed where the kernel does not say: what the narrowest IOMMU has.
const USUAL: RangeInclusive<u64> = 0..=(1 << 39) - 1;

/// VIRTIO_IOMMU_PROBE_T_RESV_MEM, the bytes of such a property, and those of them that follow its head.
const RESV_MEM: u16 = 1;
const PROPERTY: usize = 24;
const BODY: u16 = 20;
const RESERVED: u8 = 0;
const RESERVED_MSI: u8 = 1;

/// Addresses that cannot be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    range: RangeInclusive<u64>,
    msi: bool,
}

/// The addresses of one space, which are IOVAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// What can be mapped, ascending and disjoint. Never empty.
    ranges: Vec<RangeInclusive<u64>>,
    /// How many maps it takes; `None` for any number.
    pub(super) room: Option<u64>,
}

impl Space {
    /// One that maps `ranges`, ascending and disjoint, which may hold the interrupts' window; none if that is not known. It takes so many
    /// maps.
    pub fn new(ranges: &[RangeInclusive<u64>], room: Option<u64>) -> Self {
        let known = if ranges.is_empty() { &[USUAL] } else { ranges };
        let outside = |range: &RangeInclusive<u64>| {
            let below = *range.start()..=(*range.end()).min(*MSI.start() - 1);
            let above = (*range.start()).max(*MSI.end() + 1)..=*range.end();
            [below, above]
        };
        let ranges = known.iter().flat_map(outside).filter(|range| !range.is_empty()).collect();
        Self { ranges, room }
    }

    /// Whether all of it can be mapped.
    pub(super) fn holds(&self, range: &RangeInclusive<u64>) -> bool {
        self.ranges.iter().any(|it| it.start() <= range.start() && range.end() <= it.end())
    }

    fn first(&self) -> u64 {
        self.ranges.first().map_or(0, |range| *range.start())
    }

    fn last(&self) -> u64 {
        self.ranges.last().map_or(0, |range| *range.end())
    }

    /// What of `input` cannot be mapped, ascending; the interrupts' window is always named.
    fn holes(&self, input: &RangeInclusive<u64>) -> Vec<Hole> {
        let mut holes = Vec::new();
        let mut reserve = |first: u64, last: u64| {
            let msi_first = first.max(*MSI.start());
            let msi_last = last.min(*MSI.end());
            if msi_first > msi_last {
                holes.push(Hole { range: first..=last, msi: false });
                return;
            }
            if first < msi_first {
                holes.push(Hole { range: first..=msi_first - 1, msi: false });
            }
            holes.push(Hole { range: msi_first..=msi_last, msi: true });
            if msi_last < last {
                holes.push(Hole { range: msi_last + 1..=last, msi: false });
            }
        };
        let mut next = Some(*input.start());
        for range in &self.ranges {
            match next {
                Some(first) if first < *range.start() => reserve(first, *range.start() - 1),
                _ => {}
            }
            next = range.end().checked_add(1);
        }
        if let Some(first) = next.filter(|first| first <= input.end()) {
            reserve(first, *input.end());
        }
        if !holes.iter().any(|hole| hole.msi) {
            // Else Linux maps its own, in software.
            holes.push(Hole { range: MSI, msi: true });
        }
        holes
    }

    /// What is said of an endpoint in this space.
    pub(super) fn properties(&self, input: &RangeInclusive<u64>) -> Vec<u8> {
        let property = |Hole { range, msi }: &Hole| {
            let mut bytes = Vec::with_capacity(PROPERTY);
            bytes.extend(RESV_MEM.to_le_bytes());
            bytes.extend(BODY.to_le_bytes());
            bytes.extend([if *msi { RESERVED_MSI } else { RESERVED }, 0, 0, 0]);
            bytes.extend(range.start().to_le_bytes());
            bytes.extend(range.end().to_le_bytes());
            bytes
        };
        self.holes(input).iter().flat_map(property).collect()
    }
}

/// The range of addresses that holds what any of the spaces can map.
pub(super) fn input(spaces: &[Space]) -> RangeInclusive<u64> {
    let first = spaces.iter().map(Space::first).min().unwrap_or(*USUAL.start());
    let last = spaces.iter().map(Space::last).max().unwrap_or(*USUAL.end());
    first..=last
}

#[cfg(test)]
#[path = "space_test.rs"]
mod tests;
