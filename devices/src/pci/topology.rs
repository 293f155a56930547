//! Which function is where, and which bus number leads there now.
//!
//! A function is on bus 0, or on the bus behind a root port, which is a link with one device at its end. What does not
//! change is a [`Place`]; bus numbers are the guest's to give out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::function::{BarWindow, PciFunction};
use super::root_port::RootPort;
use super::{Devfn, PciAddress};

/// A function's place in the hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The root port it is behind; `None` for bus 0.
    pub port: Option<Devfn>,
    /// Device and function number on its bus.
    pub devfn: Devfn,
}

impl Place {
    /// On bus 0.
    pub const fn on_bus_0(devfn: Devfn) -> Self {
        Self { port: None, devfn }
    }

    /// A function of the device behind a root port, which has number 0.
    pub const fn behind(port: Devfn, function: u8) -> Self {
        Self { port: Some(port), devfn: Devfn::new(0, function) }
    }
}

impl fmt::Display for Place {
    /// As `lspci -PP` shows it: `0000:00:03.0/00.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => write!(f, "{}", self.devfn.address()),
            Some(port) => {
                let (device, function) = (self.devfn.device(), self.devfn.function());
                write!(f, "{}/{device:02x}.{function:x}", port.address())
            }
        }
    }
}

/// All functions.
#[derive(Clone, Default)]
pub(super) struct Topology {
    functions: BTreeMap<Place, Arc<dyn PciFunction>>,
    /// The root ports, which are among the functions as well.
    ports: BTreeMap<Devfn, Arc<RootPort>>,
}

impl Topology {
    /// Puts a function somewhere. False: another one is there.
    pub(super) fn insert(&mut self, place: Place, function: Arc<dyn PciFunction>) -> bool {
        let free = !self.functions.contains_key(&place);
        if free {
            self.functions.insert(place, function);
        }
        free
    }

    /// Puts a root port on bus 0. False: another function is there.
    pub(super) fn insert_port(&mut self, devfn: Devfn, port: Arc<RootPort>) -> bool {
        let free = self.insert(Place::on_bus_0(devfn), port.clone());
        if free {
            self.ports.insert(devfn, port);
        }
        free
    }

    /// Takes what is behind a port away.
    pub(super) fn remove_behind(&mut self, port: Devfn) -> Vec<Arc<dyn PciFunction>> {
        let behind = self.functions.extract_if(.., |place, _| place.port == Some(port));
        behind.map(|(_, function)| function).collect()
    }

    /// The function at a place.
    pub(super) fn at(&self, place: Place) -> Option<&Arc<dyn PciFunction>> {
        self.functions.get(&place)
    }

    /// All functions.
    pub(super) fn functions(&self) -> impl Iterator<Item = (Place, &Arc<dyn PciFunction>)> {
        self.functions.iter().map(|(place, function)| (*place, function))
    }

    /// What is behind a port.
    pub(super) fn behind(&self, port: Devfn) -> impl Iterator<Item = (Place, &Arc<dyn PciFunction>)> {
        self.functions().filter(move |(place, _)| place.port == Some(port))
    }

    /// All root ports.
    pub(super) fn ports(&self) -> &BTreeMap<Devfn, Arc<RootPort>> {
        &self.ports
    }

    /// The first device number of bus 0 without any function.
    pub(super) fn free_device(&self) -> Option<u8> {
        let taken = |device| self.functions().any(|(place, _)| place.is_of(None, device));
        (0..32).find(|device| !taken(*device))
    }

    /// Whether the device at a place has more functions than the one there.
    pub(super) fn has_siblings(&self, place: Place) -> bool {
        self.functions().filter(|(other, _)| other.is_of(place.port, place.devfn.device())).count() > 1
    }

    /// Where a configuration access with these numbers goes, by the numbers that the ports hold now.
    pub(super) fn route(&self, bus: u8, devfn: Devfn) -> Option<Place> {
        let place = match bus {
            0 => Place::on_bus_0(devfn),
            // Of two ports with one number the first answers. Behind a port there are no more bridges, so that
            // buses beyond its secondary one are empty.
            _ => {
                let leads_there = |port: &RootPort| port.buses().is_some_and(|buses| buses.contains(&bus));
                let (port, bridge) = self.ports.iter().find(|(_, port)| leads_there(port))?;
                let direct = bridge.buses().is_some_and(|buses| *buses.start() == bus);
                (direct && bridge.is_open()).then_some(Place { port: Some(*port), devfn })?
            }
        };
        self.functions.contains_key(&place).then_some(place)
    }

    /// The address that a place has now. `None`: the guest has not given its bus a number.
    pub(super) fn address(&self, place: Place) -> Option<PciAddress> {
        let bus = match place.port {
            None => 0,
            Some(port) => *self.ports.get(&port)?.buses()?.start(),
        };
        Some(PciAddress { bus, ..place.devfn.address() })
    }

    /// What a function decodes that also reaches it.
    pub(super) fn decoded(&self, place: Place, function: &dyn PciFunction) -> Vec<BarWindow> {
        let mut windows = function.decoded();
        if let Some(port) = place.port {
            let forwarded = self.ports.get(&port).map(|port| port.forwarded());
            windows.retain(|window| forwarded.as_ref().is_some_and(|forwarded| forwarded.admit(window)));
        }
        windows
    }
}

impl Place {
    fn is_of(&self, port: Option<Devfn>, device: u8) -> bool {
        self.port == port && self.devfn.device() == device
    }
}

#[cfg(test)]
#[path = "topology_test.rs"]
mod tests;
