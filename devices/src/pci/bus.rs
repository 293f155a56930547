//! The PCI bus of the machine: segment 0, bus 0, the host bridge at 00:00.0 and up to 31 more devices.
//!
//! Configuration space is reached through ECAM (PCIe base 6.0 §7.2.2) and through the ports 0xcf8 and 0xcfc (PCI
//! Local Bus 3.0 §3.2.2.3.2). After a configuration write the bus makes what the function decodes what is mapped;
//! `decode.rs` says what a guest can and cannot map.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};

use miette::Diagnostic;

use super::aperture::{Allocator, Apertures};
use super::config::{HEADER_TYPE, MULTI_FUNCTION};
use super::decode::Decoder;
use super::function::{AddressSpace, BarSpace, PciFunction};
use super::host_bridge::HostBridge;
use super::{Devfn, PciAddress};
use crate::ioapic::Ioapic;
use crate::sync::{self, lock};
use crate::{Action, Bus, BusDevice};

/// Bytes of ECAM a bus takes.
pub const ECAM_BUS_SIZE: u64 = 1 << 20;
/// First of the configuration ports.
pub const CONFIG_PORTS: u64 = 0xcf8;
/// Number of configuration ports.
pub const CONFIG_PORTS_SIZE: u64 = 8;

/// Why a function could not be put on the bus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Diagnostic)]
pub enum PciBusError {
    /// No such device or function number.
    #[error("pci bus 0 has no device {device:#x} function {function:#x}")]
    #[diagnostic(help("devices are numbered 0x1 to 0x1f, functions 0x0 to 0x7"))]
    Unknown {
        /// Device number.
        device: u8,
        /// Function number.
        function: u8,
    },
    /// Another function is there.
    #[error("{0} is in use")]
    #[diagnostic(help("choose another device number, or none to take the next free one"))]
    Taken(PciAddress),
    /// All device numbers are taken.
    #[error("all 32 devices of pci bus 0 are in use")]
    #[diagnostic(help("remove a device"))]
    Full,
    /// A BAR larger than what is left of its aperture.
    #[error("bar {bar} of {address}, {size:#x} bytes, does not fit {}: at most {left:#x} bytes are free", space_name(*.space))]
    #[diagnostic(help(
        "pass fewer devices through, or give the guest less memory if the host's IOMMU or CPU limits its addresses"
    ))]
    NoRoom {
        /// The function.
        address: PciAddress,
        /// BAR number.
        bar: u8,
        /// Bytes of the BAR.
        size: u64,
        /// Its address space.
        space: BarSpace,
        /// The largest BAR that would fit, bytes.
        left: u64,
    },
}

fn space_name(space: BarSpace) -> &'static str {
    match space {
        BarSpace::Memory32 => "the 32-bit memory window",
        BarSpace::Memory64 => "the 64-bit memory window",
        BarSpace::Io => "the i/o port window",
    }
}

type Functions = BTreeMap<Devfn, Arc<dyn PciFunction>>;

/// Segment 0, bus 0. Dropping it unmaps all BARs.
pub struct PciBus {
    functions: RwLock<Functions>,
    apertures: Apertures,
    /// What is mapped now. Functions are asked what they decode with this lock held, so they must not write
    /// configuration space from within their own locks.
    decoder: Mutex<Decoder>,
}

impl PciBus {
    /// A bus with nothing but the host bridge. BARs are trapped on `mmio` and `pio`, host memory behind them is
    /// mapped into `space`, all of it inside `apertures`.
    pub fn new(
        mmio: Arc<Bus>,
        pio: Arc<Bus>,
        space: Arc<dyn AddressSpace>,
        apertures: Apertures,
    ) -> Arc<Self> {
        let bridge: Arc<dyn PciFunction> = Arc::new(HostBridge::new());
        Arc::new(Self {
            functions: RwLock::new(BTreeMap::from([(Devfn::new(0, 0), bridge)])),
            decoder: Mutex::new(Decoder::new(mmio, pio, space, apertures.clone())),
            apertures,
        })
    }

    /// Adds a single-function device, with this number or the next free one.
    pub fn add(&self, device: Option<u8>, function: Arc<dyn PciFunction>) -> Result<PciAddress, PciBusError> {
        match device {
            Some(device) => self.add_function(device, 0, function),
            None => {
                let mut functions = sync::write(&self.functions);
                let free = (0..32).find(|device| !functions.keys().any(|devfn| devfn.device() == *device));
                let devfn = Devfn::new(free.ok_or(PciBusError::Full)?, 0);
                functions.insert(devfn, function);
                Ok(devfn.address())
            }
        }
    }

    /// Adds one function of a device. The device is announced as a multi-function one if it has several;
    /// guests look for them only if there is a function 0.
    pub fn add_function(
        &self,
        device: u8,
        number: u8,
        function: Arc<dyn PciFunction>,
    ) -> Result<PciAddress, PciBusError> {
        if device > 31 || number > 7 {
            return Err(PciBusError::Unknown { device, function: number });
        }
        let devfn = Devfn::new(device, number);
        let mut functions = sync::write(&self.functions);
        if functions.contains_key(&devfn) {
            return Err(PciBusError::Taken(devfn.address()));
        }
        functions.insert(devfn, function);
        Ok(devfn.address())
    }

    /// Gives every BAR an address as firmware would: the largest first, naturally aligned and on pages of their
    /// own. The same functions get the same addresses each time, so this also serves a reset machine.
    pub fn assign_bars(&self) -> Result<(), PciBusError> {
        let functions = sync::read(&self.functions).clone();
        let mut bars: Vec<_> = functions
            .iter()
            .flat_map(|(devfn, function)| function.bars().into_iter().map(move |bar| (*devfn, bar)))
            .collect();
        bars.sort_by_key(|(devfn, bar)| (std::cmp::Reverse(bar.size), *devfn, bar.index));
        let mut free = Allocator::new(&self.apertures);
        for (devfn, bar) in bars {
            let place = free.allocate(bar.space, bar.size).map_err(|left| PciBusError::NoRoom {
                address: devfn.address(),
                bar: bar.index,
                size: bar.size,
                space: bar.space,
                left,
            })?;
            if let Some(function) = functions.get(&devfn) {
                function.place_bar(bar.index, place);
            }
        }
        self.refresh();
        Ok(())
    }

    /// Connects the interrupt pins of all functions to `ioapic`.
    pub fn connect_interrupts(&self, ioapic: &Arc<Ioapic>) {
        for (devfn, function) in sync::read(&self.functions).iter() {
            if let Some(pin) = function.interrupt_pin() {
                function.connect_interrupt(ioapic, pin.ioapic_pin(devfn.device()));
            }
        }
    }

    /// Makes what all functions decode what is mapped. For whoever changes a function other than by a
    /// configuration write, such as by resetting it.
    pub fn refresh(&self) {
        let mut decoder = lock(&self.decoder);
        let functions = sync::read(&self.functions).clone();
        decoder.refresh(&functions);
    }

    /// Reads configuration space of bus 0; absent functions read as all ones.
    pub fn config_read(&self, devfn: Devfn, offset: u16, data: &mut [u8]) {
        let Some(function) = self.function(devfn) else { return data.fill(0xff) };
        for (at, piece) in aligned_pieces(offset, data) {
            function.config_read(at, piece);
            if let Some(header) = HEADER_TYPE.checked_sub(at).and_then(|i| piece.get_mut(usize::from(i)))
                && devfn.function() == 0
            {
                let multi = if self.has_siblings(devfn) { MULTI_FUNCTION } else { 0 };
                *header = *header & !MULTI_FUNCTION | multi;
            }
        }
    }

    /// Writes configuration space of bus 0; writes to absent functions are dropped.
    pub fn config_write(&self, devfn: Devfn, offset: u16, data: &[u8]) -> Action {
        let Some(function) = self.function(devfn) else { return Action::None };
        let mut data = data.to_vec();
        let mut action = Action::None;
        for (at, piece) in aligned_pieces(offset, &mut data) {
            match function.config_write(at, piece) {
                Action::None => {}
                asked => action = asked,
            }
        }
        // Not only BARs and the command register: a function-level reset changes what is decoded, too.
        let changed = lock(&self.decoder).has_changed(devfn, &*function);
        if changed {
            self.refresh();
        }
        action
    }

    /// The ECAM window of bus 0, [`ECAM_BUS_SIZE`] bytes or more: further buses are empty.
    pub fn ecam(self: &Arc<Self>) -> Arc<dyn BusDevice> {
        Arc::new(Ecam(Arc::downgrade(self)))
    }

    /// The configuration ports, [`CONFIG_PORTS_SIZE`] of them at [`CONFIG_PORTS`].
    pub fn config_ports(self: &Arc<Self>) -> Arc<dyn BusDevice> {
        Arc::new(ConfigPorts { bus: Arc::downgrade(self), address: AtomicU32::new(0) })
    }

    fn function(&self, devfn: Devfn) -> Option<Arc<dyn PciFunction>> {
        sync::read(&self.functions).get(&devfn).cloned()
    }

    fn has_siblings(&self, devfn: Devfn) -> bool {
        let functions = sync::read(&self.functions);
        functions.keys().filter(|other| other.device() == devfn.device()).count() > 1
    }
}

impl Drop for PciBus {
    fn drop(&mut self) {
        lock(&self.decoder).refresh(&Functions::new());
    }
}

/// Splits an access into the naturally aligned ones of at most 4 bytes that functions are promised.
fn aligned_pieces(offset: u16, data: &mut [u8]) -> impl Iterator<Item = (u16, &mut [u8])> {
    let (mut at, mut rest) = (offset, data);
    std::iter::from_fn(move || {
        let fits =
            [4u16, 2, 1].into_iter().find(|size| at % size == 0 && usize::from(*size) <= rest.len())?;
        let (piece, tail) = std::mem::take(&mut rest).split_at_mut_checked(fits.into())?;
        rest = tail;
        let start = at;
        at = at.checked_add(fits)?;
        Some((start, piece))
    })
}

struct Ecam(Weak<PciBus>);

impl Ecam {
    /// Bus, function and register an offset stands for, if it is on bus 0.
    fn locate(&self, offset: u64) -> Option<(Arc<PciBus>, Devfn, u16)> {
        let devfn = u8::try_from(offset >> 12).ok()?;
        Some((self.0.upgrade()?, Devfn(devfn), (offset & 0xfff) as u16))
    }
}

impl BusDevice for Ecam {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match self.locate(offset) {
            Some((bus, devfn, register)) if usize::from(register) + data.len() <= 4096 => {
                bus.config_read(devfn, register, data)
            }
            _ => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        match self.locate(offset) {
            Some((bus, devfn, register)) if usize::from(register) + data.len() <= 4096 => {
                bus.config_write(devfn, register, data)
            }
            _ => Action::None,
        }
    }
}

/// Configuration mechanism #1. One address register for all vCPUs, as in hardware: guests take a lock.
struct ConfigPorts {
    bus: Weak<PciBus>,
    address: AtomicU32,
}

const ADDRESS_ENABLE: u32 = 1 << 31;
const ADDRESS_WRITABLE: u32 = 0x80ff_fffc;
const DATA_PORT: u64 = 4;

impl ConfigPorts {
    /// The register on bus 0 that an access to the data port reaches, if it is enabled and stays in the port.
    fn locate(&self, offset: u64, size: usize) -> Option<(Arc<PciBus>, Devfn, u16)> {
        let address = self.address.load(Ordering::Relaxed);
        let byte = offset.checked_sub(DATA_PORT)?;
        let on_bus_0 = address & ADDRESS_ENABLE != 0 && address >> 16 & 0xff == 0;
        let inside = byte + size as u64 <= 4;
        (on_bus_0 && inside).then_some(())?;
        Some((self.bus.upgrade()?, Devfn((address >> 8) as u8), (address & 0xfc) as u16 + byte as u16))
    }
}

impl BusDevice for ConfigPorts {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let (0, Some(data)) = (offset, data.as_mut_array::<4>()) {
            *data = self.address.load(Ordering::Relaxed).to_le_bytes();
            return;
        }
        match self.locate(offset, data.len()) {
            Some((bus, devfn, register)) => bus.config_read(devfn, register, data),
            None => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        if let (0, Some(data)) = (offset, data.as_array::<4>()) {
            self.address.store(u32::from_le_bytes(*data) & ADDRESS_WRITABLE, Ordering::Relaxed);
            return Action::None;
        }
        match self.locate(offset, data.len()) {
            Some((bus, devfn, register)) => bus.config_write(devfn, register, data),
            None => Action::None,
        }
    }
}

#[cfg(test)]
#[path = "bus_test.rs"]
mod tests;
