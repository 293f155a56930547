//! PCI: configuration space by either way, BARs that move, bridges' windows, cards that come and go.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use devices::ioapic::Ioapic;
use devices::irq::InterruptController;
use devices::pci::bus::{CONFIG_PORTS, CONFIG_PORTS_SIZE};
use devices::pci::config::{COMMAND, Identity};
use devices::pci::{
    Apertures, BarSet, BarSpace, BarSpec, BarWindow, Card, ConfigSpace, Devfn, MappedArea, PciBus,
    PciFunction,
};
use devices::pvpanic::Pvpanic;
use devices::virtio::VirtioPci;
use devices::virtio::pci::Surroundings;
use devices::virtio::rng::Rng;
use devices::watchdog::Watchdog;
use devices::{Action, Bus};
use memory::GuestRange;

use crate::Input;
use crate::fakes::{Bells, Space, controller, ram};

const ECAM: GuestRange = GuestRange::new(0xc000_0000, 0x1000_0000);
const MEM32: GuestRange = GuestRange::new(0xd000_0000, 0x1000_0000);
const MEM64: GuestRange = GuestRange::new(0x1_8000_0000, 0x10_0000_0000);
const IO: GuestRange = GuestRange::new(0x1000, 0xf000);
/// Root ports, which come first.
const PORTS: u8 = 2;
/// So many actions make one input.
const MOST_STEPS: usize = 300;
/// What a driver or firmware writes of a function or a bridge.
const REGISTERS: [u16; 20] = [
    COMMAND, 0x06, 0x0c, 0x10, 0x14, 0x18, 0x19, 0x1a, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x3c, 0x3e, 0x42,
    0x44, 0x50, 0x60,
];

/// A function with BARs of all kinds, and host memory behind parts of them.
pub(super) struct Function(Mutex<ConfigSpace>);

impl Function {
    fn new() -> Arc<Self> {
        let mut bars = BarSet::new();
        let bar =
            |index, space, size| BarSpec { index, space, prefetchable: space == BarSpace::Memory64, size };
        for spec in [
            bar(0, BarSpace::Memory32, 0x1000),
            bar(1, BarSpace::Io, 0x20),
            bar(2, BarSpace::Memory64, 0x10_0000),
            bar(4, BarSpace::Memory64, 0x10),
            bar(6, BarSpace::Memory32, 0x800),
        ] {
            bars.add(spec).unwrap();
        }
        let identity = Identity { vendor: 0x1234, device: 0x5678, ..Identity::default() };
        Arc::new(Self(Mutex::new(ConfigSpace::new(&identity, bars))))
    }
}

impl PciFunction for Function {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        assert!(matches!(data.len(), 1 | 2 | 4) && usize::from(offset).is_multiple_of(data.len()));
        self.0.lock().unwrap().read(offset, data);
    }
    fn config_write(&self, offset: u16, data: &[u8]) -> Action {
        assert!(matches!(data.len(), 1 | 2 | 4) && usize::from(offset).is_multiple_of(data.len()));
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
        let area = |offset| MappedArea { offset, size: 0x8000, hva: 0x7f00_0000_0000 + offset };
        if bar == 2 { vec![area(0), area(0x1_0000)] } else { Vec::new() }
    }
    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        self.check(bar, offset, data.len());
        data.fill(bar);
    }
    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> Action {
        self.check(bar, offset, data.len());
        Action::None
    }
    fn bus_reset(&self) {
        let mut config = self.0.lock().unwrap();
        config.set(COMMAND, &[0; 2]);
        config.bars_mut().reset();
    }
}

impl Function {
    fn check(&self, bar: u8, offset: u64, length: usize) {
        let window = self.bars().into_iter().find(|window| window.index == bar).expect("a BAR that it has");
        assert!(offset + length as u64 <= window.size, "an access beyond the end of a BAR");
    }
}

/// A machine's PCI.
pub(super) struct Machine {
    mmio: Arc<Bus>,
    pio: Arc<Bus>,
    pub(super) space: Arc<Space>,
    pub(super) bus: Arc<PciBus>,
    pub(super) ioapic: Arc<Ioapic>,
    pub(super) controller: Arc<dyn InterruptController>,
}

impl Machine {
    pub(super) fn new() -> Self {
        let (mmio, pio) = (Arc::new(Bus::new("mmio")), Arc::new(Bus::new("pio")));
        let space = Arc::<Space>::default();
        let apertures = Apertures { mem32: MEM32, mem64: MEM64, io: IO };
        let bus = PciBus::new(mmio.clone(), pio.clone(), space.clone(), apertures);
        mmio.insert(ECAM, bus.ecam()).unwrap();
        pio.insert(GuestRange::new(CONFIG_PORTS, CONFIG_PORTS_SIZE), bus.config_ports()).unwrap();
        let controller = controller();
        let ioapic = Ioapic::new(controller.clone());
        Self { mmio, pio, space, bus, ioapic, controller }
    }

    /// BARs placed as firmware does.
    pub(super) fn begin(&self) {
        self.bus.assign_bars().unwrap();
        self.bus.connect_interrupts(&self.ioapic);
    }

    /// A register of a function that is there, more often than not.
    fn config(&self, input: &mut Input) {
        let (bus, devfn) = (input.byte() % 4, Devfn::new(input.byte() % 8, 0));
        let register = if input.flag() { input.pick(&REGISTERS) } else { input.word() % 4096 };
        let mut data = input.access(4);
        let _ = self.bus.config_write(bus, devfn, register, &data);
        self.bus.config_read(bus, devfn, register, &mut data);
    }

    /// An access to where BARs may be, or anywhere.
    fn access(&self, input: &mut Input) {
        let offset = u64::from(input.dword());
        let (bus, address) = match input.byte() % 8 {
            0..3 => (&self.mmio, MEM32.start + (offset & 0xfff_ffff)),
            3 => (&self.mmio, MEM64.start + offset * 0x10),
            4 => (&self.pio, IO.start + (offset & 0x7fff)),
            5 => (&self.mmio, ECAM.start + (offset & 0xfff_ffff)),
            6 => (&self.pio, CONFIG_PORTS + (offset & 7)),
            _ => (&self.mmio, input.qword()),
        };
        let mut data = input.access(8);
        let _ = bus.write(address, &data);
        bus.read(address, &mut data);
    }

    pub(super) fn step(&self, input: &mut Input) {
        match input.byte() % 4 {
            0..2 => self.config(input),
            2 => self.access(input),
            _ => self.hotplug(input),
        }
    }

    fn hotplug(&self, input: &mut Input) {
        let ports = self.bus.ports();
        let Some((devfn, port)) = ports.get(usize::from(input.byte()) % ports.len().max(1)) else { return };
        match input.byte() % 5 {
            0 => drop(self.bus.insert(*devfn, vec![(0, Function::new()), (1, Function::new())])),
            1 => port.pull(),
            2 => drop(self.bus.remove(*devfn)),
            3 => drop(port.eject(std::time::Duration::ZERO)),
            _ => self.bus.refresh(),
        }
    }
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let machine = Machine::new();
    let card = |number| -> Card { vec![(number, Function::new())] };
    machine.bus.add_port(Some(1), 1, card(0), &machine.controller).unwrap();
    machine.bus.add_port(Some(PORTS), 2, Vec::new(), &machine.controller).unwrap();
    let around = Surroundings {
        ram: ram(),
        controller: machine.controller.clone(),
        doorbells: Arc::<Bells>::default(),
        behind_port: false,
    };
    let watchdog = Arc::new(Watchdog::new(Arc::new(AtomicBool::new(false))).unwrap());
    let functions: [Arc<dyn PciFunction>; 4] = [
        Function::new(),
        watchdog.clone(),
        Arc::new(Pvpanic::new().unwrap()),
        VirtioPci::new(Arc::new(Rng), around).unwrap(),
    ];
    for function in functions {
        machine.bus.add(None, function).unwrap();
    }
    machine.begin();
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        machine.step(&mut input);
        let _ = watchdog.look();
    }
    let Machine { space, bus, .. } = machine;
    drop(bus);
    assert!(space.is_empty(), "a BAR outlives its bus");
}
