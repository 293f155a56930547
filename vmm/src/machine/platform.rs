//! The machine around the vCPUs, made anew for every run: buses, interrupt controller, serial port, legacy ports
//! and the PCI bus with its functions. What it is made of here is what ACPI tells the guest.

use std::io::Write;
use std::ops::RangeInclusive;
use std::sync::Arc;

use devices::ioapic::Ioapic;
use devices::irq::InterruptController;
use devices::legacy::{EventRegister, acpi, debug_exit, event, i8042, rtc};
use devices::pci::bus::{CONFIG_PORTS, CONFIG_PORTS_SIZE, ECAM_BUS_SIZE};
use devices::pci::{AddressSpace, Apertures, InterruptPin, PciBus, PciBusError, PciFunction};
use devices::serial::{self, SerialPort};
use devices::{Bus, BusDevice};
use memory::{GuestRange, Layout, layout};

use super::seats::Seat;
use crate::acpi::{AcpiSpec, IntxRoute, IoApic, IsaDevice, Memory, PowerButton, ResetPort, SleepPorts};
use crate::numa::{self, NumaNode};
use devices::bus::BusError;

/// COM1 and its interrupt, where every PC has them.
const SERIAL: IsaDevice = IsaDevice { port: serial::COM1 as u16, gsi: serial::COM1_IRQ as u32 };
/// Sleep control, sleep status and reset, next to each other.
const SLEEP: SleepPorts = SleepPorts { control: 0x600, status: 0x601 };
const RESET: ResetPort = ResetPort { port: 0x602, value: acpi::RESET_VALUE };
/// The event register beside them, and the first interrupt that is no PC's for anything else.
const POWER_BUTTON: PowerButton = PowerButton { gsi: 5, events: 0x603 };
/// I/O ports for BARs, above everything fixed.
const IO_BARS: RangeInclusive<u16> = 0x1000..=0xffff;

/// Why the machine could not be put together.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PlatformError {
    /// Two devices at one address; a defect of ours.
    #[error("two devices of the machine overlap")]
    #[diagnostic(help("please report this"))]
    Bus(#[from] BusError),
    /// PCI devices that do not fit.
    #[error("the PCI devices do not fit into the machine")]
    #[diagnostic(help("pass fewer devices through"))]
    Pci(#[from] PciBusError),
    /// The serial port.
    #[error("cannot make the serial port")]
    #[diagnostic(help("the process may have too many open files: raise `ulimit -n`"))]
    Serial(#[source] std::io::Error),
}

/// What a platform is made of.
pub struct Parts<'a> {
    /// Where things lie.
    pub layout: &'a Layout,
    /// Where interrupts go.
    pub interrupts: Arc<dyn InterruptController>,
    /// Where host memory behind BARs is mapped.
    pub space: Arc<dyn AddressSpace>,
    /// What is on PCI bus 0, from device 1 on.
    pub seats: Vec<Seat<Arc<dyn PciFunction>>>,
    /// Where the serial port's output goes.
    pub console: Box<dyn Write + Send>,
    /// Whether the guest has the serial port.
    pub serial: bool,
    /// With the debug-exit port.
    pub debug_exit: bool,
}

/// The devices of one run.
pub struct Platform {
    /// Port I/O.
    pub pio: Arc<Bus>,
    /// Memory-mapped I/O.
    pub mmio: Arc<Bus>,
    /// Interrupt pins.
    pub ioapic: Arc<Ioapic>,
    /// The console.
    pub serial: Arc<SerialPort>,
    /// What the guest is told of events through.
    pub events: Arc<EventRegister>,
    /// The PCI hierarchy.
    pub pci: Arc<PciBus>,
}

impl Platform {
    /// Puts everything together, with BARs assigned as firmware would.
    pub fn build(parts: Parts) -> Result<Self, PlatformError> {
        let (pio, mmio) = (Arc::new(Bus::default()), Arc::new(Bus::default()));

        let ioapic = Ioapic::new(parts.interrupts.clone());
        mmio.insert(layout::IOAPIC, ioapic.clone())?;
        let line = ioapic.line(SERIAL.gsi as u8);
        let com1 = Arc::new(SerialPort::new(line, parts.console).map_err(PlatformError::Serial)?);
        let events = Arc::new(EventRegister::new(ioapic.line(POWER_BUTTON.gsi as u8)));
        if parts.serial {
            pio.insert(GuestRange::new(serial::COM1, serial::PORTS), com1.clone())?;
        }
        let ports: [(u64, u64, Arc<dyn BusDevice>); 5] = [
            (SLEEP.control.into(), acpi::SLEEP_REGISTERS_SIZE, Arc::new(acpi::SleepRegisters)),
            (RESET.port.into(), acpi::RESET_REGISTER_SIZE, Arc::new(acpi::ResetRegister)),
            (POWER_BUTTON.events.into(), event::EVENT_REGISTER_SIZE, events.clone()),
            (rtc::PORT, rtc::PORTS, Arc::new(rtc::Rtc::new())),
            (i8042::PORT, i8042::PORTS, Arc::new(i8042::KeyboardReset)),
        ];
        for (port, size, device) in ports {
            pio.insert(GuestRange::new(port, size), device)?;
        }
        if parts.debug_exit {
            pio.insert(
                GuestRange::new(debug_exit::PORT, debug_exit::PORTS),
                Arc::new(debug_exit::DebugExit),
            )?;
        }

        let io = GuestRange::new((*IO_BARS.start()).into(), IO_BARS.len() as u64);
        let apertures = Apertures { mem32: parts.layout.mmio32, mem64: parts.layout.mmio64, io };
        let pci = PciBus::new(mmio.clone(), pio.clone(), parts.space, apertures);
        mmio.insert(parts.layout.ecam, pci.ecam())?;
        pio.insert(GuestRange::new(CONFIG_PORTS, CONFIG_PORTS_SIZE), pci.config_ports())?;
        for (device, Seat { slot, functions }) in (1..).zip(parts.seats) {
            match slot {
                None => pci.add_device(Some(device), functions).map(drop)?,
                Some(slot) => pci.add_port(Some(device), slot, functions, &parts.interrupts).map(drop)?,
            }
        }
        pci.assign_bars()?;
        pci.connect_interrupts(&ioapic);

        Ok(Self { pio, mmio, ioapic, serial: com1, events, pci })
    }
}

/// What ACPI says of a machine with this layout, these nodes, so many PCI buses, and a serial port or none.
pub fn acpi_spec(layout: &Layout, cpus: u32, numa: &[NumaNode], buses: u16, serial: bool) -> AcpiSpec {
    AcpiSpec {
        apic_ids: (0..cpus).collect(),
        ioapic: IoApic { id: 0, address: layout::IOAPIC.start as u32 },
        // No more of it than leads somewhere: Linux looks into each slot of every bus that is named here.
        ecam: GuestRange::new(layout.ecam.start, layout.ecam.size.min(u64::from(buses) * ECAM_BUS_SIZE)),
        mmio32: layout.mmio32,
        mmio64: layout.mmio64,
        io: IO_BARS,
        intx: (0..32).flat_map(|device| InterruptPin::ALL.map(|pin| intx_route(device, pin))).collect(),
        sleep: SLEEP,
        reset: RESET,
        serial: serial.then_some(SERIAL),
        rtc: true,
        memory: memory(layout, cpus, numa),
        viot: None,
        power_button: Some(POWER_BUTTON),
    }
}

/// What a guest hears of where memory and CPUs are, if there is something to be told.
fn memory(layout: &Layout, cpus: u32, numa: &[NumaNode]) -> Option<Memory> {
    let node_of = |cpu: u32| numa.iter().position(|node| node.cpus.contains(&cpu)).unwrap_or(0);
    let ram = match numa {
        [] => layout.ram.iter().map(|range| (*range, 0)).collect(),
        nodes => numa::ranges(nodes, layout),
    };
    let (cpus, nodes) = ((0..cpus).map(node_of).collect(), numa.len().max(1));
    let told = layout.pluggable.is_some() || !numa.is_empty();
    told.then_some(Memory { ram, pluggable: layout.pluggable, cpus, nodes })
}

fn intx_route(device: u8, pin: InterruptPin) -> IntxRoute {
    IntxRoute { device, pin: pin.number(), gsi: pin.ioapic_pin(device) }
}
