//! Virtio devices in slots. The device itself lives until it is unplugged; the function that the guest sees of it is made
//! for one run, as those on bus 0 are.

use std::sync::Arc;

use devices::pci::{PciAddress, PciFunction};
use devices::virtio::VirtioPci;
use devices::virtio::blk::Blk;
use devices::virtio::pci::Surroundings;

use super::going::linger;
use super::{Card, Devices, Occupant, State};
use crate::machine::Event;
use crate::machine::control::PluggedPlace;
use crate::problem::{Class, Problem, Problems};
use crate::virtio::plugged::{Plugged, PluggedSpec};

/// Functions of one slot as the bus takes them, by their numbers.
type Functions = Vec<(u8, Arc<dyn PciFunction>)>;

impl Devices {
    /// Plugs a virtio device in, and gives its address in the guest. Returns when the guest has been told; undone
    /// completely when anything fails.
    pub fn add_virtio(&self, spec: &PluggedSpec) -> Result<PciAddress, Problems> {
        let device = self.state().reserve().map_err(Problem::of(Class::Usage))?;
        let plugged = match spec.open(self.means.cpus) {
            Ok(plugged) => plugged,
            Err(problems) => {
                self.state().table.settle(device, Vec::new());
                return Err(problems);
            }
        };
        self.place(device, vec![(0, Occupant::Virtio(plugged))])?;
        let guest = self.state().address(device, 0);
        self.means.observer.notify(&Event::VirtioPlugged(&PluggedPlace { id: spec.id.clone(), guest }));
        Ok(guest)
    }

    /// All virtio devices in slots.
    pub fn plugged(&self) -> Vec<PluggedPlace> {
        let state = self.state();
        let place = |(device, number, it): (u8, u8, &Occupant)| {
            Some(PluggedPlace { id: it.virtio()?.id.clone(), guest: state.address(device, number) })
        };
        state.table.functions().filter_map(place).collect()
    }

    /// The disks among them, by their names.
    pub fn disks(&self) -> Vec<(String, Arc<Blk>)> {
        let state = self.state();
        let disk = |plugged: &Arc<Plugged>| Some((plugged.id.clone(), plugged.disk.clone()?));
        state.table.functions().filter_map(|(.., it)| disk(it.virtio()?)).collect()
    }

    /// No vCPU runs any more: nothing is done for the guest that did.
    pub fn quiet(&self) {
        let live = std::mem::take(&mut self.state().live);
        live.iter().for_each(|(_, function)| function.reset_device());
    }

    /// A card as the functions that one run of the guest sees; virtio devices among them go to `live` as well.
    pub(super) fn functions(
        &self,
        device: u8,
        card: Card,
        live: &mut Vec<(u8, Arc<VirtioPci>)>,
    ) -> Result<Functions, Problems> {
        let mut functions = Functions::new();
        for (number, occupant) in card {
            match occupant {
                Occupant::Host(function) => functions.push((number, function)),
                Occupant::Virtio(plugged) => {
                    let around = Surroundings {
                        ram: self.means.ram.clone(),
                        controller: self.means.controller.clone(),
                        doorbells: Arc::new(self.means.vm.doorbells()),
                        behind_port: true,
                    };
                    let function = VirtioPci::new(plugged.device.clone(), around);
                    let function = function.map_err(Problem::of(Class::Host))?;
                    live.push((device, function.clone()));
                    functions.push((number, function));
                }
            }
        }
        Ok(functions)
    }
}

impl State {
    /// Takes the virtio function of a seat.
    pub(super) fn take_live(&mut self, device: u8) -> Vec<Arc<VirtioPci>> {
        self.live.extract_if(.., |(seat, _)| *seat == device).map(|(_, function)| function).collect()
    }
}

/// Stops a function that is on no bus any more, and waits until nobody uses it: then its device can be closed. Both take
/// file rights that only the thread of whoever unplugs has.
pub(super) fn stop(function: Arc<VirtioPci>) {
    function.reset_device();
    linger(&function);
}
