//! Firmware's part of configuring PCI: where BARs and the windows of root ports lie.
//!
//! Everything is naturally aligned. What is aligned most is placed first, first fit, so that the same functions come
//! to lie at the same places each time. A window holds the BARs behind its port one after another, the largest first.
//! Each port gets more than it needs, the same for all and as much as there is room for, so that devices can be
//! plugged in later: guests do not move windows about.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use memory::GuestRange;

use super::aperture::{Allocator, Apertures};
use super::bridge::{IO_STEP, MEMORY_STEP};
use super::bus::PciBusError;
use super::function::{BarSpace, BarWindow};
use super::{Devfn, Place};

/// Memory BARs are kept on pages of their own, so that host memory behind one never shares a page with another.
const PAGE: u64 = 4096;
/// The most that is set aside for a port below 4 GiB, in bytes: devices have little there, and all share it.
const MAX_SPARE_BELOW_4_GIB: u64 = 64 << 20;

/// A BAR that needs a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) place: Place,
    pub(super) bar: BarWindow,
}

/// What firmware decided.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    /// The address of each BAR, by its number.
    pub(super) bars: Vec<(Place, u8, u64)>,
    /// What each port forwards.
    pub(super) windows: BTreeMap<Devfn, Apertures>,
}

/// Finds a place for everything.
pub(super) fn assign(
    apertures: &Apertures,
    demands: &[Demand],
    ports: &[Devfn],
) -> Result<Assignment, PciBusError> {
    let mut assignment = Assignment::default();
    for port in ports {
        assignment.windows.insert(*port, Apertures::NONE);
    }
    for (space, aperture) in [
        (BarSpace::Memory32, apertures.mem32),
        (BarSpace::Memory64, apertures.mem64),
        (BarSpace::Io, apertures.io),
    ] {
        let demands: Vec<Demand> = demands.iter().filter(|demand| demand.space() == space).copied().collect();
        let mut placed = Err(PciBusError::Full);
        for spare in spares(space, aperture, ports) {
            placed = assign_in(space, aperture, &demands, ports, spare);
            if placed.is_ok() {
                break;
            }
        }
        let (bars, windows) = placed?;
        assignment.bars.extend(bars);
        for (port, window) in windows {
            let forwarded = assignment.windows.entry(port).or_insert(Apertures::NONE);
            match space {
                BarSpace::Memory32 => forwarded.mem32 = window,
                BarSpace::Memory64 => forwarded.mem64 = window,
                BarSpace::Io => forwarded.io = window,
            }
        }
    }
    Ok(assignment)
}

/// What a device takes of an address space, and what its port has of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Excess {
    pub(super) space: BarSpace,
    pub(super) size: u64,
    pub(super) room: u64,
}

/// Whether the BARs behind a port fit into its windows, without which the guest could not place them. I/O ports are not
/// looked at: PCIe devices work without.
pub(super) fn fit(port: Devfn, demands: &[Demand], windows: &Apertures) -> Result<(), Excess> {
    for (space, window) in [(BarSpace::Memory32, windows.mem32), (BarSpace::Memory64, windows.mem64)] {
        let demands = demands.iter().filter(|demand| demand.space() == space).copied().collect();
        let Some(packed) = Packed::new(port, demands, space, 0) else { continue };
        let mut free = Allocator::new(window);
        if !packed.bars.iter().all(|(bar, _)| free.allocate(bar.size(), bar.size()).is_some()) {
            return Err(Excess { space, size: packed.size, room: window.size });
        }
    }
    Ok(())
}

impl Demand {
    /// Where it has to lie. Bridges reach beyond 4 GiB only with what is prefetchable.
    fn space(&self) -> BarSpace {
        match self.bar.space {
            BarSpace::Memory64 if self.place.port.is_some() && !self.bar.prefetchable => BarSpace::Memory32,
            space => space,
        }
    }

    fn size(&self) -> u64 {
        if self.bar.space == BarSpace::Io { self.bar.size } else { self.bar.size.max(PAGE) }
    }
}

/// What may be set aside for each port, the most first, powers of two. Nothing comes last.
fn spares(space: BarSpace, aperture: GuestRange, ports: &[Devfn]) -> impl Iterator<Item = u64> {
    let (step, most) = match space {
        BarSpace::Memory32 => (MEMORY_STEP, MAX_SPARE_BELOW_4_GIB.min(aperture.size)),
        BarSpace::Memory64 => (MEMORY_STEP, aperture.size),
        BarSpace::Io => (IO_STEP, IO_STEP),
    };
    let orders = if ports.is_empty() { 0..0 } else { 0..u64::BITS };
    let sizes = orders.rev().map(|order| 1 << order);
    sizes.filter(move |size| (step..=most).contains(size)).chain([0])
}

/// The addresses of BARs, and the windows that some of them lie in.
type Placed = (Vec<(Place, u8, u64)>, Vec<(Devfn, GuestRange)>);

fn assign_in(
    space: BarSpace,
    aperture: GuestRange,
    demands: &[Demand],
    ports: &[Devfn],
    spare: u64,
) -> Result<Placed, PciBusError> {
    let on_bus_0 = demands.iter().filter(|demand| demand.place.port.is_none());
    let mut items: Vec<Item> = on_bus_0.map(|demand| Item::Bar(*demand)).collect();
    for port in ports {
        let behind = demands.iter().filter(|demand| demand.place.port == Some(*port)).copied();
        items.extend(Packed::new(*port, behind.collect(), space, spare).map(Item::Window));
    }
    items.sort_by_key(Item::rank);
    let mut free = Allocator::new(aperture);
    let (mut bars, mut windows) = (Vec::new(), Vec::new());
    for item in &items {
        let Some(start) = free.allocate(item.size(), item.align()) else {
            return Err(item.refused(space, free.largest()));
        };
        match item {
            Item::Bar(demand) => bars.push((demand.place, demand.bar.index, start)),
            Item::Window(window) => {
                windows.push((window.port, GuestRange::new(start, window.size)));
                let place = |(demand, offset): &(Demand, u64)| {
                    (demand.place, demand.bar.index, start.saturating_add(*offset))
                };
                bars.extend(window.bars.iter().map(place));
            }
        }
    }
    Ok((bars, windows))
}

/// What the host bridge's aperture is divided into.
enum Item {
    Bar(Demand),
    Window(Packed),
}

/// A port's window and what lies where in it.
struct Packed {
    port: Devfn,
    size: u64,
    align: u64,
    /// Each with its offset from the start.
    bars: Vec<(Demand, u64)>,
}

impl Item {
    fn size(&self) -> u64 {
        match self {
            Self::Bar(demand) => demand.size(),
            Self::Window(window) => window.size,
        }
    }

    fn align(&self) -> u64 {
        match self {
            Self::Bar(demand) => demand.size(),
            Self::Window(window) => window.align,
        }
    }

    fn rank(&self) -> impl Ord + use<> {
        let (devfn, index) = match self {
            Self::Bar(demand) => (demand.place.devfn, demand.bar.index),
            Self::Window(window) => (window.port, u8::MAX),
        };
        (Reverse(self.align()), Reverse(self.size()), devfn, index)
    }

    fn refused(&self, space: BarSpace, left: u64) -> PciBusError {
        match self {
            Self::Bar(Demand { place, bar }) => PciBusError::NoRoom {
                address: place.devfn.address(),
                bar: bar.index,
                size: bar.size,
                space,
                left,
            },
            Self::Window(window) => {
                PciBusError::NoWindow { port: window.port.address(), size: window.size, space, left }
            }
        }
    }
}

impl Packed {
    /// `None` where nothing is needed. What no address space could hold has a size that fits nowhere.
    fn new(port: Devfn, mut demands: Vec<Demand>, space: BarSpace, spare: u64) -> Option<Self> {
        let step = if space == BarSpace::Io { IO_STEP } else { MEMORY_STEP };
        demands.sort_by_key(|demand| (Reverse(demand.size()), demand.place, demand.bar.index));
        // Powers of two that descend are aligned if the first one is.
        let align = demands.first().map_or(0, Demand::size).max(step).max(spare);
        let mut end: u64 = 0;
        let mut bars = Vec::new();
        for demand in demands {
            bars.push((demand, end));
            end = end.saturating_add(demand.size());
        }
        let size = end.checked_next_multiple_of(step).unwrap_or(u64::MAX).max(spare);
        (size > 0).then_some(Self { port, size, align, bars })
    }
}

#[cfg(test)]
#[path = "placement_test.rs"]
mod tests;
