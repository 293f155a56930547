//! The windows that bridges forward, and the free space in those of the host bridge.

use memory::GuestRange;

use super::function::{BarSpace, BarWindow};

/// What a bridge forwards to the bus behind it. Those of the host bridge hold nothing else: no RAM, no ECAM, no IOAPIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apertures {
    /// GPAs below 4 GiB.
    pub mem32: GuestRange,
    /// GPAs above 4 GiB; may be empty. Of a bridge on the bus: its prefetchable window, which may be anywhere.
    pub mem64: GuestRange,
    /// I/O ports; may be empty.
    pub io: GuestRange,
}

impl Apertures {
    /// None at all.
    pub(super) const NONE: Self =
        Self { mem32: GuestRange::new(0, 0), mem64: GuestRange::new(0, 0), io: GuestRange::new(0, 0) };

    /// Whether a BAR may decode there.
    pub(super) fn admit(&self, window: &BarWindow) -> bool {
        let inside = |aperture: &GuestRange| {
            let offset = window.address.checked_sub(aperture.start);
            offset.is_some_and(|offset| offset <= aperture.size && window.size <= aperture.size - offset)
        };
        match window.space {
            BarSpace::Io => inside(&self.io),
            BarSpace::Memory32 | BarSpace::Memory64 => inside(&self.mem32) || inside(&self.mem64),
        }
    }
}

/// Free space in one aperture. First fit, which is perfect if what is aligned most comes first.
pub(super) struct Allocator {
    free: Vec<GuestRange>,
}

impl Allocator {
    pub(super) fn new(aperture: GuestRange) -> Self {
        Self { free: vec![aperture] }
    }

    /// Takes `size` bytes at a multiple of `align`, a power of two.
    pub(super) fn allocate(&mut self, size: u64, align: u64) -> Option<u64> {
        let found = self.free.iter().enumerate().find_map(|(i, range)| Some((i, fit(range, size, align)?)));
        let (i, (start, end)) = found?;
        let range = self.free.remove(i);
        let pieces = [(range.start, start), (end, range.end())];
        let kept = pieces.into_iter().filter(|(from, to)| from < to);
        self.free.splice(i..i, kept.map(|(from, to)| GuestRange::new(from, to - from)));
        Some(start)
    }

    /// The largest naturally aligned power of two that would fit; 0 if nothing would.
    pub(super) fn largest(&self) -> u64 {
        let fits = |size: &u64| self.free.iter().any(|range| fit(range, *size, *size).is_some());
        (0..u64::BITS).rev().map(|order| 1 << order).find(fits).unwrap_or(0)
    }
}

fn fit(range: &GuestRange, size: u64, align: u64) -> Option<(u64, u64)> {
    let start = range.start.checked_next_multiple_of(align)?;
    let end = start.checked_add(size).filter(|end| *end <= range.end())?;
    Some((start, end))
}
