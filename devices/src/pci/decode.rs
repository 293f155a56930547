//! What is mapped of what the functions of the hierarchy decode.
//!
//! A guest may write any address into a BAR. Only a window that lies wholly inside an aperture, and inside a window of the
//! root port that the function is behind, and overlaps no other mapped window is mapped; the others decode nothing until
//! the guest moves something, so that no guest can put a BAR over RAM, ECAM or the IOAPIC, and no two BARs ever answer at
//! one address.

use std::collections::BTreeMap;
use std::sync::Arc;

use memory::GuestRange;

use super::aperture::Apertures;
use super::function::{AddressSpace, BarSpace, BarWindow, MappedArea, PciFunction};
use super::topology::{Place, Topology};
use crate::{Action, Bus, BusDevice};

pub(super) struct Decoder {
    mmio: Arc<Bus>,
    pio: Arc<Bus>,
    space: Arc<dyn AddressSpace>,
    apertures: Apertures,
    /// What each function decoded when last asked, as far as its root port forwarded it.
    seen: BTreeMap<Place, Vec<BarWindow>>,
    mapped: Vec<Mapped>,
}

struct Mapped {
    owner: Place,
    function: Arc<dyn PciFunction>,
    window: BarWindow,
    areas: Vec<MappedArea>,
}

impl Decoder {
    pub(super) fn new(
        mmio: Arc<Bus>,
        pio: Arc<Bus>,
        space: Arc<dyn AddressSpace>,
        apertures: Apertures,
    ) -> Self {
        Self { mmio, pio, space, apertures, seen: BTreeMap::new(), mapped: Vec::new() }
    }

    /// Whether a function decodes something else than it did.
    pub(super) fn has_changed(&self, owner: Place, decoded: &[BarWindow]) -> bool {
        self.seen.get(&owner).map_or(!decoded.is_empty(), |seen| *seen != decoded)
    }

    /// Unmaps what is decoded no more, then maps what can be. All functions take part, since a window that one
    /// leaves may be one that another was refused.
    pub(super) fn refresh(&mut self, topology: &Topology) {
        let decoded =
            |(place, function): (Place, &Arc<dyn PciFunction>)| (place, topology.decoded(place, &**function));
        self.seen = topology.functions().map(decoded).collect();
        let decodes = |mapped: &Mapped| {
            self.seen.get(&mapped.owner).is_some_and(|windows| windows.contains(&mapped.window))
        };
        let (kept, gone) = std::mem::take(&mut self.mapped).into_iter().partition(decodes);
        self.mapped = kept;
        gone.into_iter().for_each(|mapped| self.unmap(mapped));
        for (owner, function) in topology.functions() {
            for window in self.seen.get(&owner).cloned().unwrap_or_default() {
                let known = |mapped: &Mapped| mapped.owner == owner && mapped.window == window;
                if !self.mapped.iter().any(known) {
                    self.map(owner, window, function);
                }
            }
        }
    }

    fn map(&mut self, owner: Place, window: BarWindow, function: &Arc<dyn PciFunction>) {
        let (address, bar) = (owner, window.index);
        if !self.apertures.admit(&window) {
            tracing::debug!(%address, bar, ?window, "bar is outside the apertures and decodes nothing");
            return;
        }
        let range = GuestRange::new(window.address, window.size);
        let device = Arc::new(BarDevice { function: Arc::clone(function), bar });
        if let Err(error) = self.bus(window.space).insert(range, device) {
            tracing::debug!(%address, bar, %error, "bar decodes nothing");
            return;
        }
        let areas = if window.space == BarSpace::Io { Vec::new() } else { function.mapped_areas(bar) };
        let (areas, unusable): (Vec<_>, Vec<_>) = areas.into_iter().partition(|area| fits(area, &window));
        for area in unusable {
            tracing::warn!(%address, bar, ?area, ?window, "area does not fit its bar and is trapped");
        }
        let map = |area: &MappedArea| {
            let mapped = self.space.map(window.address + area.offset, area);
            if let Err(error) = &mapped {
                tracing::warn!(%address, bar, ?area, %range, %error, "area cannot be mapped and is trapped");
            }
            mapped.is_ok()
        };
        let areas = areas.into_iter().filter(map).collect();
        function.bar_mapped(bar, Some(window.address));
        self.mapped.push(Mapped { owner, function: Arc::clone(function), window, areas });
    }

    fn unmap(&self, mapped: Mapped) {
        let Mapped { owner, function, window, areas } = mapped;
        function.bar_mapped(window.index, None);
        for area in &areas {
            if let Err(error) = self.space.unmap(window.address + area.offset, area) {
                let (address, bar) = (owner, window.index);
                tracing::error!(%address, bar, ?area, gpa = window.address, %error, "area cannot be unmapped");
            }
        }
        self.bus(window.space).remove(window.address);
    }

    /// The bus that traps a BAR. It refuses overlaps, with other BARs and with whatever else is on it.
    fn bus(&self, space: BarSpace) -> &Bus {
        match space {
            BarSpace::Io => &self.pio,
            BarSpace::Memory32 | BarSpace::Memory64 => &self.mmio,
        }
    }
}

/// Whether an area lies on whole pages inside its BAR.
fn fits(area: &MappedArea, window: &BarWindow) -> bool {
    let aligned = (window.address | area.offset | area.size | area.hva).is_multiple_of(4096);
    aligned && area.size > 0 && area.offset.checked_add(area.size).is_some_and(|end| end <= window.size)
}

/// The whole of a BAR as a trapping device. Accesses to mapped areas do not get here.
struct BarDevice {
    function: Arc<dyn PciFunction>,
    bar: u8,
}

impl BusDevice for BarDevice {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.function.bar_read(self.bar, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        self.function.bar_write(self.bar, offset, data)
    }
}

#[cfg(test)]
impl Decoder {
    pub(super) fn windows(&self) -> Vec<(Place, BarWindow)> {
        self.mapped.iter().map(|mapped| (mapped.owner, mapped.window)).collect()
    }
}
