//! How a device goes: the guest is asked, it is taken from the bus with all that is mapped of it, and closed. With the last one its
//! address space goes, and with that all pins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::pci::{Departure, Devfn, PciAddress, RootPort};

use super::error::HotPlugError;
use super::occupant::Occupant;
use super::{Card, Devices, Session, virtio};
use crate::machine::Event;
use crate::machine::control::DeviceName;
use crate::machine::seats::Stage;
use crate::problem::{Class, Problem, Problems};

/// How long a guest may take to let go of a device, unless it is said otherwise. Linux blinks for 5 s first, and
/// waits for a second at the end.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long an access of a vCPU that is under way may keep a device that is to be closed.
const LINGER: Duration = Duration::from_secs(5);

impl Devices {
    /// Unplugs a device, with all its functions if it is the host's. Asks the guest, which
    /// has `patience` to let go of it; if it does not, the device stays as it is. Returns when the host has all of it.
    pub fn remove(&self, name: &DeviceName, patience: Duration) -> Result<(), Problems> {
        let (device, port) = self.ask(name).map_err(Problem::of(Class::Usage))?;
        let departure = port.map_or(Departure::Over, |port| port.eject(patience));
        self.take(device, name, departure, patience)
    }

    /// Gives a device back that the host wants. Nothing is done if it is on its way already.
    pub fn give_back(&self, address: PciAddress) -> Result<(), Problems> {
        let name = DeviceName::Host(address);
        let (device, port) = match self.ask(&name) {
            Err(HotPlugError::Absent(_) | HotPlugError::Leaving(_)) => return Ok(()),
            asked => asked.map_err(Problem::of(Class::Usage))?,
        };
        let departure = port.map_or(Departure::Over, |port| port.eject(PATIENCE));
        self.take(device, &name, departure, PATIENCE)
    }

    /// Whether the guest can be asked for a device, or has been.
    pub fn may_leave(&self, address: PciAddress) -> bool {
        let state = self.state();
        let Some(device) = state.find(&DeviceName::Host(address)) else { return true };
        match state.table.at(device) {
            Some((Some(_), Stage::Settled)) => {
                let port = state.bus.as_ref().and_then(|bus| bus.port(Devfn::new(device, 0)));
                port.is_some_and(|port| port.slot().listening)
            }
            Some((Some(_), _)) => true,
            Some((None, _)) | None => false,
        }
    }

    /// Notes that a device is asked for, and finds the port to ask at, if a guest runs.
    fn ask(&self, name: &DeviceName) -> Result<(u8, Option<Arc<RootPort>>), HotPlugError> {
        let mut state = self.state();
        let device = state.find(name).ok_or_else(|| HotPlugError::Absent(name.clone()))?;
        match state.table.at(device) {
            Some((Some(_), Stage::Settled)) => {}
            Some((None, _)) | None => return Err(HotPlugError::Fixed(name.clone())),
            Some((Some(_), _)) => return Err(HotPlugError::Leaving(name.clone())),
        }
        state.table.ask(device);
        let port = state.bus.as_ref().and_then(|bus| bus.port(Devfn::new(device, 0)));
        Ok((device, port))
    }

    /// Takes a device away, if the guest has let go of it, and closes it.
    fn take(
        &self,
        device: u8,
        name: &DeviceName,
        departure: Departure,
        patience: Duration,
    ) -> Result<(), Problems> {
        let mut state = self.state();
        if let Departure::Kept(slot) = departure
            && state.table.keep(device)
        {
            let kept = HotPlugError::Kept { name: name.clone(), patience, state: slot };
            return Err(Problem::of(Class::Guest)(kept));
        }
        // A run that has ended since has taken its bus with it.
        let same_run = state.table.at(device).is_some_and(|(_, stage)| stage == Stage::Leaving);
        if let (true, Some(bus)) = (same_run, &state.bus) {
            drop(bus.remove(Devfn::new(device, 0)));
        }
        let card = state.table.take(device);
        let live = state.take_live(device);
        drop(state);
        let hosts: Vec<_> = card.iter().filter_map(|(_, it)| it.host().map(|it| it.host_address())).collect();
        live.into_iter().for_each(virtio::stop);
        self.close(card);
        let observer = &self.means.observer;
        match name {
            DeviceName::Host(_) => observer.notify(&Event::Unplugged { hosts: &hosts }),
            DeviceName::Virtio(id) => observer.notify(&Event::VirtioUnplugged { id }),
        }
        Ok(())
    }

    /// Gives a device that is on no bus back to the host.
    pub(super) fn close(&self, card: Card) {
        let mut hosts = Vec::new();
        for (_, occupant) in card {
            let function = match occupant {
                Occupant::Host(function) => function,
                Occupant::Virtio(device) => {
                    linger(&device);
                    continue;
                }
            };
            hosts.push(function.host_address());
            self.notices.forget(function.host_address());
            linger(&function);
        }
        if !hosts.is_empty() {
            self.close_in(&mut self.session(), &hosts);
        }
    }

    pub(super) fn close_in(&self, session: &mut Session, hosts: &[PciAddress]) {
        let Some(passthrough) = &mut session.passthrough else { return };
        hosts.iter().for_each(|host| passthrough.close(*host));
        self.share(passthrough);
        if passthrough.devices() == 0 {
            session.passthrough = None;
        }
    }
}

/// Waits for what else holds on to something that is on no bus any more: an access of a vCPU that began before.
pub(super) fn linger<T: ?Sized>(held: &Arc<T>) {
    let since = Instant::now();
    while Arc::strong_count(held) > 1 && since.elapsed() < LINGER {
        std::thread::sleep(Duration::from_millis(1));
    }
}
