//! The devices of a session that come and go, and all passed-through ones: which there are, where the guest has them, and how they come and go while
//! it runs.
//!
//! Plugging takes seconds: guest memory is pinned and mapped for the first device, and a guest takes its time to let go
//! of one. So it is done on the thread of whoever asks, and what is known of the devices is in a [`Table`] that is never
//! locked for long. [`coming`] and [`going`] have the order of it, [`session`] what is open of the host, [`virtio`] what is
//! different for virtio devices.

pub mod blocks;
mod coming;
mod error;
mod going;
mod notices;
mod occupant;
mod session;
mod virtio;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::irq::InterruptController;
use devices::pci::{Devfn, PciAddress, PciBus, PciFunction, Place};
use devices::virtio::VirtioPci;
use memory::GuestRam;
use memory::pin::PinOptions;
use vfio::{DeviceLoss, Passthrough, PassthroughFunction};

use error::HotPlugError;
pub use going::PATIENCE;
use notices::Notices;
use occupant::Occupant;
pub use session::{Confined, Session};

use super::Observer;
use super::control::{DeviceName, DevicePlace};
use super::platform::{Platform, PlatformError};
use super::seats::{self, Guest, Seat, Table};
use super::space::DeviceMemory;
use crate::hypervisor::vm::Vm;
use crate::problem::{Class, Problem, Problems, Unexpected};
use crate::virtio::plugged::Plugged;

/// What plugging needs of the machine.
pub struct Means {
    /// Its KVM machine.
    pub vm: Arc<Vm>,
    /// Its memory.
    pub ram: Arc<GuestRam>,
    /// Its vCPUs.
    pub cpus: u32,
    /// Physical address bits of the guest.
    pub phys_bits: u8,
    /// Its interrupts.
    pub controller: Arc<dyn InterruptController>,
    /// What BARs are mapped into.
    pub space: Arc<DeviceMemory>,
    /// How its memory is pinned.
    pub pin: PinOptions,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
}

/// The devices of a session.
pub struct Devices {
    // Dropped in this order: what is heard of devices, functions, devices, what all need.
    notices: Notices,
    state: Mutex<State>,
    /// Locked while devices are opened or closed.
    session: Mutex<Session>,
    means: Means,
}

struct State {
    // The functions go before the bus that they are on.
    table: Table<Occupant>,
    /// The virtio devices that are on the bus, by the numbers of their seats.
    live: Vec<(u8, Arc<VirtioPci>)>,
    /// While a guest runs.
    bus: Option<Arc<PciBus>>,
    over: bool,
}

/// A device for one slot.
type Card = Vec<(u8, Occupant)>;

impl Devices {
    /// The devices that are open when the machine starts, the virtio devices among them in slots, and `ports` free slots.
    pub fn new(
        means: Means,
        session: Session,
        guests: &[Guest],
        plugged: Vec<Arc<Plugged>>,
        ports: u8,
    ) -> Result<Arc<Self>, Problems> {
        let function = |guest: &Guest| session.function(guest.host, &means.controller);
        let functions: Vec<_> =
            guests.iter().map(function).collect::<Result<_, _>>().map_err(Problem::of(Class::Host))?;
        let occupants: Vec<Occupant> = functions.iter().cloned().map(Occupant::Host).collect();
        let slots = ports.saturating_add(u8::try_from(plugged.len()).unwrap_or(u8::MAX));
        let mut table = Table::new(pick(seats::arrange(guests, slots), &occupants));
        for device in plugged {
            if let Some(seat) = table.reserve() {
                table.settle(seat, vec![(0, Occupant::Virtio(device))]);
            }
        }
        let state = Mutex::new(State { table, live: Vec::new(), bus: None, over: false });
        let notices = Notices::new().map_err(Unexpected::during("cannot make an epoll"))?;
        functions.iter().for_each(|function| notices.listen(function.host_address(), function.notices()));
        let devices = Self { notices, state, session: Mutex::new(session), means };
        if let Some(passthrough) = &devices.session().passthrough {
            devices.share(passthrough);
        }
        Ok(Arc::new(devices))
    }

    /// How many devices of bus 0 are these: devices 1 to this one.
    pub fn seats(&self) -> u8 {
        self.state().table.seats()
    }

    /// PCI buses that the guest may find devices on.
    pub fn buses(&self) -> u16 {
        self.state().table.buses()
    }

    /// Makes the platform of a run, with what there is now. Until [`Devices::stop`] the guest is told of changes.
    pub fn start(
        &self,
        build: impl FnOnce(Vec<Seat<Arc<dyn PciFunction>>>) -> Result<Platform, PlatformError>,
    ) -> Result<Arc<Platform>, Problems> {
        let mut state = self.state();
        let (mut seats, mut live) = (Vec::new(), Vec::new());
        for (device, Seat { slot, functions }) in (1..).zip(state.table.visible()) {
            let functions = self.functions(device, functions, &mut live)?;
            seats.push(Seat { slot, functions });
        }
        let platform = Arc::new(build(seats).map_err(Problem::of(Class::Host))?);
        state.live = live;
        state.bus = Some(platform.pci.clone());
        Ok(platform)
    }

    /// The guest does not run any more. What it was asked to let go of, it has let go of.
    pub fn stop(&self) {
        let mut state = self.state();
        state.table.end_run();
        for (_, port) in state.bus.take().iter().flat_map(|bus| bus.ports()) {
            port.give_up();
        }
    }

    /// There will be no other run: whoever plugs devices in gives up.
    pub fn finish(&self) {
        self.stop();
        self.state().over = true;
    }

    /// Brings all devices back to their state after power-on, for a guest that reboots.
    pub fn reset(&self) {
        let functions: Vec<_> = self.state().hosts().map(|(.., function)| function.clone()).collect();
        for function in functions {
            if let Err(error) = function.reset() {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "the guest reboots with a device that was not reset");
            }
        }
        let session = self.session();
        for error in session.all().flat_map(Passthrough::reset_buses) {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, "the guest reboots with a device that was not reset");
        }
    }

    /// All devices.
    pub fn list(&self) -> Vec<DevicePlace> {
        let state = self.state();
        let place = |(device, number, function): (u8, u8, &Arc<PassthroughFunction>)| DevicePlace {
            host: function.host_address(),
            guest: state.address(device, number),
        };
        state.hosts().map(place).collect()
    }

    /// Readable when the host has said something of a device: then [`Devices::losses`] tells what.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// What the host has said since this was last asked.
    pub fn losses(&self) -> Vec<DeviceLoss> {
        self.notices.arrived()
    }

    /// Whether it has root ports at all.
    pub fn has_ports(&self) -> bool {
        self.state().table.visible().iter().any(|seat| seat.slot.is_some())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets devices reach each other, if there are several.
    fn share(&self, passthrough: &Passthrough) {
        let several = passthrough.devices() > 1;
        self.means.space.set_peers(several.then(|| passthrough.space().clone()));
    }
}

impl State {
    /// The seat of a device.
    fn find(&self, name: &DeviceName) -> Option<u8> {
        self.table.functions().find(|(.., it)| it.name() == *name).map(|(device, ..)| device)
    }

    /// The host's functions, with the device numbers of their seats and their own.
    fn hosts(&self) -> impl Iterator<Item = (u8, u8, &Arc<PassthroughFunction>)> {
        self.table.functions().filter_map(|(device, number, it)| Some((device, number, it.host()?)))
    }

    /// Keeps a slot.
    fn reserve(&mut self) -> Result<u8, HotPlugError> {
        if self.over {
            return Err(HotPlugError::Over);
        }
        self.table.reserve().ok_or(HotPlugError::NoPort)
    }

    /// Where the guest finds a function; before it has given the bus a number, where firmware will.
    fn address(&self, device: u8, number: u8) -> PciAddress {
        let devfn = Devfn::new(device, 0);
        let is_port = |device: u8| self.table.at(device).is_some_and(|(slot, _)| slot.is_some());
        if !is_port(device) {
            return Devfn::new(device, number).address();
        }
        let now = self.bus.as_ref().and_then(|bus| bus.address(Place::behind(devfn, number)));
        now.unwrap_or_else(|| {
            let bus = (1..=device).filter(|other| is_port(*other)).count() as u8;
            PciAddress { bus, ..Devfn::new(0, number).address() }
        })
    }
}

/// Replaces functions' places in a list by themselves.
fn pick<F: Clone>(seats: Vec<Seat<usize>>, functions: &[F]) -> Vec<Seat<F>> {
    let function = |(number, index): (u8, usize)| Some((number, functions.get(index)?.clone()));
    let seat = |Seat { slot, functions }: Seat<usize>| Seat {
        slot,
        functions: functions.into_iter().filter_map(function).collect(),
    };
    seats.into_iter().map(seat).collect()
}
