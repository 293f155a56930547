//! A hierarchy with windows of its own, and shorthands for what tests do with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use memory::GuestRange;

use super::config::COMMAND;
use super::{Apertures, BarSpace, BarSpec, BarWindow, Devfn, MappedArea, PciBus, PciFunction, Place};
use crate::irq::InterruptController;
use crate::testing::{FakeController, FakeFunction, FakeSpace};
use crate::{Action, Bus};

pub(super) const MEM32: GuestRange = GuestRange::new(0xd000_0000, 0x100_0000);
pub(super) const MEM64: GuestRange = GuestRange::new(0x1_8000_0000, 0x10_0000_0000);
pub(super) const IO: GuestRange = GuestRange::new(0x1000, 0x1000);
/// Memory and I/O.
pub(super) const DECODE: u16 = 3;

pub(super) struct Setup {
    pub(super) mmio: Arc<Bus>,
    pub(super) pio: Arc<Bus>,
    pub(super) space: Arc<FakeSpace>,
    pub(super) bus: Arc<PciBus>,
    pub(super) controller: Arc<FakeController>,
    functions: Mutex<BTreeMap<Place, Arc<FakeFunction>>>,
}

pub(super) fn setup() -> Setup {
    let (mmio, pio) = (Arc::new(Bus::new("mmio")), Arc::new(Bus::new("pio")));
    let space = Arc::new(FakeSpace::default());
    let apertures = Apertures { mem32: MEM32, mem64: MEM64, io: IO };
    let bus = PciBus::new(mmio.clone(), pio.clone(), space.clone(), apertures);
    Setup { mmio, pio, space, bus, controller: FakeController::new(), functions: Mutex::default() }
}

impl Setup {
    pub(super) fn add(&self, bars: &[BarSpec]) -> Devfn {
        self.add_mapped(bars, &[])
    }

    pub(super) fn add_mapped(&self, bars: &[BarSpec], areas: &[(u8, MappedArea)]) -> Devfn {
        let function = FakeFunction::with_areas(bars, areas);
        let address = self.bus.add(None, function.clone()).unwrap();
        let devfn = Devfn::new(address.device, address.function);
        self.functions.lock().unwrap().insert(Place::on_bus_0(devfn), function);
        devfn
    }

    pub(super) fn command(&self, devfn: Devfn, value: u16) {
        assert_eq!(self.bus.config_write(0, devfn, COMMAND, &value.to_le_bytes()), Action::None);
    }

    pub(super) fn set_bar(&self, devfn: Devfn, bar: u16, value: u32) {
        let _ = self.bus.config_write(0, devfn, 0x10 + bar * 4, &value.to_le_bytes());
    }

    pub(super) fn dword(&self, devfn: Devfn, offset: u16) -> u32 {
        let mut data = [0; 4];
        self.bus.config_read(0, devfn, offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub(super) fn placed(&self, devfn: Devfn) -> Vec<BarWindow> {
        self.functions.lock().unwrap()[&Place::on_bus_0(devfn)].bars()
    }

    /// A root port with this device number, and a card in it if it has BARs.
    pub(super) fn port(&self, device: u8, bars: &[BarSpec]) -> (Devfn, Option<Arc<FakeFunction>>) {
        let function = (!bars.is_empty()).then(|| FakeFunction::new(bars));
        let card = function.iter().map(|function| (0, function.clone() as Arc<dyn PciFunction>)).collect();
        let controller: Arc<dyn InterruptController> = self.controller.clone();
        (self.bus.add_port(Some(device), device, card, &controller).unwrap(), function)
    }

    /// Writes a register on any bus.
    pub(super) fn write(&self, bus: u8, devfn: Devfn, offset: u16, value: u32) {
        assert_eq!(self.bus.config_write(bus, devfn, offset, &value.to_le_bytes()), Action::None);
    }

    /// Writes a register of two bytes on any bus.
    pub(super) fn write_word(&self, bus: u8, devfn: Devfn, offset: u16, value: u16) {
        assert_eq!(self.bus.config_write(bus, devfn, offset, &value.to_le_bytes()), Action::None);
    }

    /// Reads a register on any bus.
    pub(super) fn read(&self, bus: u8, devfn: Devfn, offset: u16) -> u32 {
        let mut data = [0; 4];
        self.bus.config_read(bus, devfn, offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub(super) fn maps(&self) -> Vec<u64> {
        self.space.mapped.lock().unwrap().keys().copied().collect()
    }

    pub(super) fn mmio_byte(&self, address: u64) -> u8 {
        let mut data = [0];
        self.mmio.read(address, &mut data);
        data[0]
    }
}

pub(super) fn mem32(index: u8, size: u64) -> BarSpec {
    BarSpec { index, space: BarSpace::Memory32, prefetchable: false, size }
}

pub(super) fn mem64(index: u8, size: u64) -> BarSpec {
    BarSpec { index, space: BarSpace::Memory64, prefetchable: true, size }
}

pub(super) fn io(index: u8, size: u64) -> BarSpec {
    BarSpec { index, space: BarSpace::Io, prefetchable: false, size }
}

pub(super) fn area(offset: u64, size: u64) -> MappedArea {
    MappedArea { offset, size, hva: 0x7f00_0000_0000 ^ offset }
}
