//! The PCI hierarchy of the machine, segment 0: the host bridge at 00:00.0, up to 31 more devices on bus 0, and a device
//! behind each of them that is a root port.
//!
//! After a configuration write what is decoded is made what is mapped; `decode.rs` says what a guest can and cannot map,
//! `access.rs` how it gets at configuration space, `placement.rs` where firmware puts things.

use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use miette::Diagnostic;

pub use super::access::{CONFIG_PORTS, CONFIG_PORTS_SIZE, ECAM_BUS_SIZE};
use super::access::{ConfigPorts, Ecam};
use super::aperture::Apertures;
use super::config::{CapabilityError, HEADER_TYPE, MULTI_FUNCTION};
use super::decode::Decoder;
use super::express;
use super::function::{AddressSpace, BarSpace, PciFunction};
use super::host_bridge::HostBridge;
use super::placement::{self, Demand, Excess};
use super::root_port::{Link, RootPort};
use super::topology::{Place, Topology};
use super::{Devfn, PciAddress};
use crate::ioapic::Ioapic;
use crate::irq::InterruptController;
use crate::sync::lock;
use crate::{Action, Bus, BusDevice};

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
    Taken(Place),
    /// All device numbers are taken.
    #[error("all 32 devices of pci bus 0 are in use")]
    #[diagnostic(help("pass fewer devices through, or have fewer root ports"))]
    Full,
    /// There is no such root port.
    #[error("{0} is no root port")]
    #[diagnostic(help("devices can be plugged into root ports only"))]
    NoPort(PciAddress),
    /// The slot of a root port holds a card.
    #[error("there is a device in the slot of {0}")]
    #[diagnostic(help("choose another root port"))]
    Occupied(PciAddress),
    /// Root ports have more capabilities than there is room for.
    #[error("a root port cannot be made")]
    #[diagnostic(help("please report this"))]
    Port(#[from] CapabilityError),
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
    /// The BARs of a device behind a root port are larger than what is left of their aperture.
    #[error(
        "the bars behind {port}, {size:#x} bytes, do not fit {}: at most {left:#x} bytes are free", space_name(*.space)
    )]
    #[diagnostic(help(
        "pass fewer devices through, or pass this one through without a root port: behind one only prefetchable bars may \
         lie above 4 GiB"
    ))]
    NoWindow {
        /// The root port.
        port: PciAddress,
        /// Bytes of the window.
        size: u64,
        /// Its address space.
        space: BarSpace,
        /// The largest window that would fit, bytes.
        left: u64,
    },
    /// The windows of a root port, which stay as they are while the guest runs, are too small for a device.
    #[error("the bars of the device take {size:#x} bytes of {}, root port {port} has {room:#x}", space_name(*.space))]
    #[diagnostic(help(
        "give the machine the device when it starts, as in --vfio BDF,port: then room is made for it"
    ))]
    TooLarge {
        /// The root port.
        port: PciAddress,
        /// Bytes of the BARs.
        size: u64,
        /// Their address space.
        space: BarSpace,
        /// Bytes of the port's window.
        room: u64,
    },
}

fn space_name(space: BarSpace) -> &'static str {
    match space {
        BarSpace::Memory32 => "the 32-bit memory window",
        BarSpace::Memory64 => "the 64-bit memory window",
        BarSpace::Io => "the i/o port window",
    }
}

/// The functions of a device, by their numbers.
pub type Card = Vec<(u8, Arc<dyn PciFunction>)>;

/// Segment 0. Dropping it unmaps all BARs.
pub struct PciBus {
    /// What accesses go by, without a lock.
    topology: ArcSwap<Topology>,
    /// Held by who changes it.
    changes: Mutex<()>,
    apertures: Apertures,
    /// What is mapped now. Functions are asked what they decode with this lock held, so they must not write
    /// configuration space from within their own locks.
    decoder: Mutex<Decoder>,
    /// Where interrupt pins lead.
    ioapic: OnceLock<Arc<Ioapic>>,
}

impl PciBus {
    /// Nothing but the host bridge. BARs are trapped on `mmio` and `pio`, host memory behind them is mapped into
    /// `space`, all of it inside `apertures`.
    pub fn new(
        mmio: Arc<Bus>,
        pio: Arc<Bus>,
        space: Arc<dyn AddressSpace>,
        apertures: Apertures,
    ) -> Arc<Self> {
        let mut topology = Topology::default();
        topology.insert(Place::on_bus_0(Devfn::new(0, 0)), Arc::new(HostBridge::new()));
        Arc::new(Self {
            topology: ArcSwap::from_pointee(topology),
            changes: Mutex::new(()),
            decoder: Mutex::new(Decoder::new(mmio, pio, space, apertures.clone())),
            apertures,
            ioapic: OnceLock::new(),
        })
    }

    /// Adds a single-function device to bus 0, with this number or the next free one.
    pub fn add(&self, device: Option<u8>, function: Arc<dyn PciFunction>) -> Result<PciAddress, PciBusError> {
        let device = self.device(device)?;
        self.add_function(device, 0, function)
    }

    /// Adds one function of a device to bus 0. The device is announced as a multi-function one if it has several;
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
        let place = Place::on_bus_0(Devfn::new(device, number));
        let free = self.change(|topology| topology.insert(place, function));
        free.then(|| place.devfn.address()).ok_or(PciBusError::Taken(place))
    }

    /// Adds a device to bus 0, with this number or the next free one.
    pub fn add_device(&self, device: Option<u8>, card: Card) -> Result<u8, PciBusError> {
        let device = self.device(device)?;
        for (number, function) in card {
            self.add_function(device, number, function)?;
        }
        Ok(device)
    }

    /// Adds a root port to bus 0, with this device number or the next free one, as function 0. `card` is in its slot
    /// as if it had always been there; empty for none. `slot` is the slot's number for people.
    pub fn add_port(
        &self,
        device: Option<u8>,
        slot: u8,
        card: Card,
        controller: &Arc<dyn InterruptController>,
    ) -> Result<Devfn, PciBusError> {
        let port = Devfn::new(self.device(device)?, 0);
        let link = card.first().map(|(_, function)| express::link(&**function));
        let bridge = RootPort::new(slot, link, controller)?;
        self.change(|topology| {
            if !topology.insert_port(port, bridge) {
                return Err(PciBusError::Taken(Place::on_bus_0(port)));
            }
            put_behind(topology, port, card)
        })?;
        Ok(port)
    }

    /// Puts a card into the slot of a root port while the guest runs, and tells the guest. Its BARs have no place yet.
    pub fn insert(&self, port: Devfn, card: Card) -> Result<(), PciBusError> {
        let bridge = self.port(port).ok_or(PciBusError::NoPort(port.address()))?;
        let link = card.first().map_or(Link::LEAST, |(_, function)| express::link(&**function));
        let demand = |(number, bar)| Demand { place: Place::behind(port, number), bar };
        let bars = card.iter().flat_map(|(number, it)| it.bars().into_iter().map(|bar| (*number, bar)));
        let demands: Vec<_> = bars.map(demand).collect();
        placement::fit(port, &demands, &bridge.windows()).map_err(|excess| {
            let Excess { space, size, room } = excess;
            PciBusError::TooLarge { port: port.address(), size, space, room }
        })?;
        self.change(|topology| {
            if topology.behind(port).next().is_some() {
                return Err(PciBusError::Occupied(port.address()));
            }
            put_behind(topology, port, card)
        })?;
        self.topology
            .load()
            .behind(port)
            .for_each(|(place, function)| self.connect_interrupt(place, &**function));
        if !bridge.insert(link) {
            self.change(|topology| topology.remove_behind(port));
            return Err(PciBusError::Occupied(port.address()));
        }
        self.refresh();
        Ok(())
    }

    /// Takes away what was behind a root port and is gone for the guest. Nothing of it is mapped any more; an access that
    /// is under way still finishes.
    pub fn remove(&self, port: Devfn) -> Vec<Arc<dyn PciFunction>> {
        let gone = self.change(|topology| topology.remove_behind(port));
        self.refresh();
        if let Some(bridge) = self.port(port) {
            bridge.vacate();
        }
        gone
    }

    /// A root port.
    pub fn port(&self, devfn: Devfn) -> Option<Arc<RootPort>> {
        self.topology.load().ports().get(&devfn).cloned()
    }

    /// All root ports.
    pub fn ports(&self) -> Vec<(Devfn, Arc<RootPort>)> {
        self.topology.load().ports().iter().map(|(devfn, port)| (*devfn, port.clone())).collect()
    }

    /// The address that the guest reaches a place by now. `None`: by none.
    pub fn address(&self, place: Place) -> Option<PciAddress> {
        self.topology.load().address(place)
    }

    /// Gives every BAR an address, and every root port a bus number and windows, as firmware would. The same functions
    /// get the same each time, so this also serves a reset machine.
    pub fn assign_bars(&self) -> Result<(), PciBusError> {
        let topology = self.topology.load();
        let mut demands = Vec::new();
        for (place, function) in topology.functions() {
            demands.extend(function.bars().into_iter().map(|bar| Demand { place, bar }));
        }
        let ports: Vec<Devfn> = topology.ports().keys().copied().collect();
        let assignment = placement::assign(&self.apertures, &demands, &ports)?;
        for (place, bar, address) in assignment.bars {
            if let Some(function) = topology.at(place) {
                function.place_bar(bar, address);
            }
        }
        for (bus, (devfn, port)) in (1..).zip(topology.ports()) {
            if let Some(windows) = assignment.windows.get(devfn) {
                port.program(bus, windows);
            }
        }
        self.refresh();
        Ok(())
    }

    /// Connects the interrupt pins of all functions to `ioapic`, now and whenever they come or are reset.
    pub fn connect_interrupts(&self, ioapic: &Arc<Ioapic>) {
        let _ = self.ioapic.set(ioapic.clone());
        let topology = self.topology.load();
        topology.functions().for_each(|(place, function)| self.connect_interrupt(place, &**function));
    }

    /// A bridge turns the pins of the device behind it by that device's number, which is 0.
    fn connect_interrupt(&self, place: Place, function: &dyn PciFunction) {
        if let (Some(ioapic), Some(pin)) = (self.ioapic.get(), function.interrupt_pin()) {
            let device = place.port.unwrap_or(place.devfn).device();
            function.connect_interrupt(ioapic, pin.ioapic_pin(device));
        }
    }

    /// Makes what all functions decode what is mapped. For whoever changes a function other than by a
    /// configuration write, such as by resetting it.
    pub fn refresh(&self) {
        let mut decoder = lock(&self.decoder);
        let topology = self.topology.load();
        decoder.refresh(&topology);
    }

    /// Reads configuration space; absent functions read as all ones.
    pub fn config_read(&self, bus: u8, devfn: Devfn, offset: u16, data: &mut [u8]) {
        let Some((place, function)) = self.route(bus, devfn) else { return data.fill(0xff) };
        for (at, piece) in aligned_pieces(offset, data) {
            function.config_read(at, piece);
            if let Some(header) = HEADER_TYPE.checked_sub(at).and_then(|i| piece.get_mut(usize::from(i)))
                && devfn.function() == 0
            {
                let siblings = self.topology.load().has_siblings(place);
                *header = *header & !MULTI_FUNCTION | if siblings { MULTI_FUNCTION } else { 0 };
            }
        }
    }

    /// Writes configuration space; writes to absent functions are dropped.
    pub fn config_write(&self, bus: u8, devfn: Devfn, offset: u16, data: &[u8]) -> Action {
        let Some((place, function)) = self.route(bus, devfn) else { return Action::None };
        let mut data = data.to_vec();
        let mut action = Action::None;
        for (at, piece) in aligned_pieces(offset, &mut data) {
            match function.config_write(at, piece) {
                Action::None => {}
                asked => action = asked,
            }
        }
        // Not only BARs and the command register: a function-level reset changes what is decoded, too, as do the
        // windows and the slot of a root port.
        if self.has_changed(place, &*function) {
            self.refresh();
        }
        if place.port.is_none() {
            self.reset_behind(devfn);
        }
        action
    }

    /// The ECAM window, [`ECAM_BUS_SIZE`] bytes for each bus.
    pub fn ecam(self: &Arc<Self>) -> Arc<dyn BusDevice> {
        Arc::new(Ecam(Arc::downgrade(self)))
    }

    /// The configuration ports, [`CONFIG_PORTS_SIZE`] of them at [`CONFIG_PORTS`].
    pub fn config_ports(self: &Arc<Self>) -> Arc<dyn BusDevice> {
        Arc::new(ConfigPorts::new(Arc::downgrade(self)))
    }

    /// Changes what accesses go by from now on.
    fn change<T>(&self, change: impl FnOnce(&mut Topology) -> T) -> T {
        let changing = lock(&self.changes);
        let mut topology = Topology::clone(&self.topology.load());
        let done = change(&mut topology);
        let before = self.topology.swap(Arc::new(topology));
        // What is gone may be dropped with what it was in, and must not be while the lock is held.
        drop(changing);
        drop(before);
        done
    }

    /// A device number, or the next free one.
    fn device(&self, number: Option<u8>) -> Result<u8, PciBusError> {
        match number {
            Some(device) if device > 31 => Err(PciBusError::Unknown { device, function: 0 }),
            Some(device) => Ok(device),
            None => self.topology.load().free_device().ok_or(PciBusError::Full),
        }
    }

    fn route(&self, bus: u8, devfn: Devfn) -> Option<(Place, Arc<dyn PciFunction>)> {
        let topology = self.topology.load();
        let place = topology.route(bus, devfn)?;
        Some((place, topology.at(place)?.clone()))
    }

    /// Whether a function, or one behind it, decodes something else than it did.
    fn has_changed(&self, place: Place, function: &dyn PciFunction) -> bool {
        let decoder = lock(&self.decoder);
        let topology = self.topology.load();
        let changed = |(place, function): (Place, &Arc<dyn PciFunction>)| {
            decoder.has_changed(place, &topology.decoded(place, &**function))
        };
        decoder.has_changed(place, &topology.decoded(place, function))
            || place.port.is_none() && topology.behind(place.devfn).any(changed)
    }

    /// Resets what is behind a function of bus 0 if that is a root port that says so.
    fn reset_behind(&self, devfn: Devfn) {
        if self.port(devfn).is_none_or(|port| !port.take_reset()) {
            return;
        }
        let topology = self.topology.load();
        for (place, function) in topology.behind(devfn) {
            function.bus_reset();
            self.connect_interrupt(place, &**function);
        }
        self.refresh();
    }
}

impl Drop for PciBus {
    fn drop(&mut self) {
        lock(&self.decoder).refresh(&Topology::default());
    }
}

fn put_behind(topology: &mut Topology, port: Devfn, card: Card) -> Result<(), PciBusError> {
    for (number, function) in card {
        let place = Place::behind(port, number);
        if number > 7 || !topology.insert(place, function) {
            topology.remove_behind(port);
            return Err(PciBusError::Taken(place));
        }
    }
    Ok(())
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

#[cfg(test)]
#[path = "bus_test.rs"]
mod tests;
