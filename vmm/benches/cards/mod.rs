//! Passed-through devices as the plan of a machine knows them: BARs that need a place, and what of them is mapped.

use std::io;
use std::sync::{Arc, Mutex};

use devices::pci::config::Identity;
use devices::pci::{
    AddressSpace, Apertures, BarSet, BarSpace, BarSpec, BarWindow, ConfigSpace, MappedArea, PciBus,
    PciFunction,
};
use devices::{Action, Bus};
use memory::bytes::{GIB, MIB};
use memory::{GuestRange, Layout};

/// As large accelerators have them: registers, all of their memory, and some more, all prefetchable.
const BARS: [(u8, u64); 3] = [(0, 16 * MIB), (2, 128 * GIB), (4, 32 * MIB)];
/// Memory decoding.
const COMMAND: (u16, [u8; 2]) = (4, [2, 0]);

/// A bus with `count` such devices.
pub(crate) fn bus(layout: &Layout, count: u8, space: &Arc<Maps>) -> Arc<PciBus> {
    let io = GuestRange::new(0x1000, 0x1000);
    let apertures = Apertures { mem32: layout.mmio32, mem64: layout.mmio64, io };
    let bus = PciBus::new(Arc::new(Bus::default()), Arc::new(Bus::default()), space.clone(), apertures);
    for _ in 0..count {
        bus.add(None, Arc::new(Card::new())).unwrap();
    }
    bus
}

struct Card(Mutex<ConfigSpace>);

impl Card {
    fn new() -> Self {
        let mut bars = BarSet::new();
        for (index, size) in BARS {
            bars.add(BarSpec { index, space: BarSpace::Memory64, prefetchable: true, size }).unwrap();
        }
        let mut config = ConfigSpace::new(&Identity::default(), bars);
        config.set(COMMAND.0, &COMMAND.1);
        Self(Mutex::new(config))
    }
}

impl PciFunction for Card {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.0.lock().unwrap().read(offset, data);
    }
    fn config_write(&self, offset: u16, data: &[u8]) -> Action {
        self.0.lock().unwrap().write(offset, data);
        Action::None
    }
    fn bars(&self) -> Vec<BarWindow> {
        self.0.lock().unwrap().bars().windows()
    }
    fn decoded(&self) -> Vec<BarWindow> {
        self.0.lock().unwrap().decoded()
    }
    fn place_bar(&self, index: u8, address: u64) {
        self.0.lock().unwrap().bars_mut().place(index, address);
    }
    fn mapped_areas(&self, bar: u8) -> Vec<MappedArea> {
        let area = |&(_, size): &(u8, u64)| MappedArea { offset: 0, size, hva: 0 };
        BARS.iter().filter(|(index, _)| *index == bar).map(area).collect()
    }
}

/// What is mapped, for the guest and for other devices: counted.
#[derive(Default)]
pub(crate) struct Maps(Mutex<usize>);

impl Maps {
    pub(crate) fn count(&self) -> usize {
        *self.0.lock().unwrap()
    }
}

impl AddressSpace for Maps {
    fn map(&self, _: u64, _: &MappedArea) -> io::Result<()> {
        *self.0.lock().unwrap() += 1;
        Ok(())
    }
    fn unmap(&self, _: u64, _: &MappedArea) -> io::Result<()> {
        *self.0.lock().unwrap() -= 1;
        Ok(())
    }
}
