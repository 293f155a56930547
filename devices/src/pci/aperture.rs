//! The windows the host bridge forwards to PCI, and the placement of BARs in them.

use memory::GuestRange;

use super::function::{BarSpace, BarWindow};

/// What the host bridge forwards to the bus. Apertures hold nothing else: no RAM, no ECAM, no IOAPIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apertures {
    /// GPAs below 4 GiB.
    pub mem32: GuestRange,
    /// GPAs above 4 GiB; may be empty.
    pub mem64: GuestRange,
    /// I/O ports; may be empty.
    pub io: GuestRange,
}

impl Apertures {
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

/// Memory BARs are kept on pages of their own, so that host memory behind one never shares a page with another.
const PAGE: u64 = 4096;

/// Free space in the apertures. First fit, which is perfect if the largest BARs come first.
pub(super) struct Allocator {
    mem32: Vec<GuestRange>,
    mem64: Vec<GuestRange>,
    io: Vec<GuestRange>,
}

impl Allocator {
    pub(super) fn new(apertures: &Apertures) -> Self {
        Self { mem32: vec![apertures.mem32], mem64: vec![apertures.mem64], io: vec![apertures.io] }
    }

    /// Takes `size` bytes (a power of two), naturally aligned; fails with the largest size that would fit.
    pub(super) fn allocate(&mut self, space: BarSpace, size: u64) -> Result<u64, u64> {
        let (free, size) = match space {
            BarSpace::Memory32 => (&mut self.mem32, size.max(PAGE)),
            BarSpace::Memory64 => (&mut self.mem64, size.max(PAGE)),
            BarSpace::Io => (&mut self.io, size),
        };
        let fit = |range: &GuestRange, size: u64| {
            let start = range.start.checked_next_multiple_of(size)?;
            let end = start.checked_add(size).filter(|end| *end <= range.end())?;
            Some((start, end))
        };
        let found = free.iter().enumerate().find_map(|(i, range)| Some((i, fit(range, size)?)));
        let Some((i, (start, end))) = found else {
            let sizes = (0..u64::BITS).rev().map(|order| 1 << order);
            let mut fitting = sizes.filter(|size| free.iter().any(|range| fit(range, *size).is_some()));
            return Err(fitting.next().unwrap_or(0));
        };
        let range = free.remove(i);
        let pieces = [(range.start, start), (end, range.end())];
        let kept = pieces.into_iter().filter(|(from, to)| from < to);
        free.splice(i..i, kept.map(|(from, to)| GuestRange::new(from, to - from)));
        Ok(start)
    }
}
