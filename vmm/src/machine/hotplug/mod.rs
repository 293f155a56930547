//! The devices of a session that come and go, and all passed-through ones: which there are, where the guest has them, and how they come and go while
//! it runs.
//!
//! Plugging takes seconds: guest memory is pinned and mapped for the first device, and a guest takes its time to let go
//! of one. So it is done on the thread of whoever asks, and what is known of the devices is in a [`Table`] that is never
//! locked for long. Order for a device that comes: open it, pin and map memory if it is the first, put it behind a port,
//! tell the guest. For one that goes: ask the guest, take it from the bus with all that is mapped of it, close it; with
//! the last one its address space goes, and with that all pins. [`virtio`] has what is different for virtio devices.

pub mod blocks;
mod error;
mod notices;
mod occupant;
mod virtio;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use devices::irq::InterruptController;
use devices::pci::{Departure, Devfn, PciAddress, PciBus, PciBusError, PciFunction, Place, RootPort};
use devices::virtio::VirtioPci;
use devices::virtio::iommu::Space;
use kvm_ioctls::DeviceFd;
use memory::GuestRam;
use memory::layout::AddressLimits;
use memory::pin::{self, DmaMapper, PinOptions, PinReport};
use vfio::{DeviceLoss, DmaSpace, OpenError, Passthrough, PassthroughFunction, Request};

use error::HotPlugError;
use notices::Notices;
use occupant::Occupant;

use super::control::{DeviceName, DevicePlace};
use super::platform::{Platform, PlatformError};
use super::seats::{self, Guest, Seat, Stage, Table};
use super::space::DeviceMemory;
use super::{Event, Observer};
use crate::hypervisor::vm::Vm;
use crate::preflight::check_devices;
use crate::problem::{Class, Problem, Problems, Unexpected};
use crate::virtio::plugged::Plugged;

/// How long a guest may take to let go of a device, unless it is said otherwise. Linux blinks for 5 s first, and
/// waits for a second at the end.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long an access of a vCPU that is under way may keep a device that is to be closed.
const LINGER: Duration = Duration::from_secs(5);

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

/// What is open of the host.
pub struct Session {
    /// KVM's side, of which a machine has one.
    pub link: Option<Arc<DeviceFd>>,
    /// The devices that are open, if any are, and reach all of the guest's memory.
    pub passthrough: Option<Passthrough>,
    /// Those that reach what the guest says, by their IOMMU groups. They neither come nor go.
    pub confined: Vec<Passthrough>,
}

/// Devices that the guest confines.
pub struct Confined {
    /// Where the guest has them, each with the number of its address space.
    pub endpoints: Vec<(PciAddress, usize)>,
    /// What can be mapped in each of those.
    pub spaces: Vec<Space>,
    /// The spaces themselves.
    pub reached: Vec<Arc<DmaSpace>>,
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

    /// Those that the guest confines, if there are any.
    pub fn confined(&self) -> Option<Confined> {
        let session = self.session();
        let groups = &session.confined;
        let endpoint =
            |DevicePlace { host, guest }| Some((guest, groups.iter().position(|it| it.has(host))?));
        let space = |it: &Passthrough| Space::new(&it.aperture().ranges, it.space().room());
        (!groups.is_empty()).then(|| Confined {
            endpoints: self.list().into_iter().filter_map(endpoint).collect(),
            spaces: groups.iter().map(space).collect(),
            reached: groups.iter().map(|it| it.space().clone()).collect(),
        })
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

    /// Plugs one device of the host in, of which `request` names some functions or all. Returns when the guest has been
    /// told; what it makes of that is its own business. Undone completely when anything fails.
    pub fn add(&self, request: Request) -> Result<Vec<DevicePlace>, Problems> {
        let hosts = request.addresses();
        let device = self.reserve_for(&hosts).map_err(Problem::of(Class::Usage))?;
        let (card, report) = match self.open(request) {
            Ok(opened) => opened,
            Err(problems) => {
                self.state().table.settle(device, Vec::new());
                return Err(problems);
            }
        };
        self.place(device, card)?;
        let places: Vec<_> = self.list().into_iter().filter(|place| hosts.contains(&place.host)).collect();
        self.means.observer.notify(&Event::Plugged { places: &places, pinned: report.as_ref() });
        Ok(places)
    }

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

    /// Readable when the host has said something of a device: then [`Devices::losses`] tells what.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// What the host has said since this was last asked.
    pub fn losses(&self) -> Vec<DeviceLoss> {
        self.notices.arrived()
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

    /// Keeps a slot for a device of the host.
    fn reserve_for(&self, hosts: &[PciAddress]) -> Result<u8, HotPlugError> {
        if seats::devices(hosts).len() != 1 {
            return Err(HotPlugError::SeveralDevices(hosts.to_vec()));
        }
        let mut state = self.state();
        let mut present = state.hosts().map(|(.., function)| function.host_address());
        if let Some(address) = present.find(|address| hosts.contains(address)) {
            return Err(HotPlugError::Present(address));
        }
        drop(present);
        state.reserve()
    }

    /// Opens a device. The first one has guest memory pinned and mapped.
    fn open(&self, mut request: Request) -> Result<(Card, Option<PinReport>), Problems> {
        let hosts = request.addresses();
        let mut session = self.session();
        if let Some(passthrough) = &session.passthrough {
            request.join(passthrough.company());
        }
        let mut problems = Problems::default();
        let Some(prepared) = check_devices(request, &mut problems) else { return Err(problems) };
        let link = session.link(&self.means.vm)?;
        let Session { passthrough, .. } = &mut *session;
        let (passthrough, report) = match passthrough {
            Some(passthrough) => {
                passthrough.add(prepared).map_err(Problem::of(Class::Host))?;
                (passthrough, None)
            }
            None => {
                let opened = Passthrough::open(prepared, Some(link)).map_err(Problem::of(Class::Host))?;
                let report = self.pin(&opened)?;
                let plugged = self.plugged_blocks();
                self.pin_blocks(Some(&opened), &plugged).map_err(Problem::of(Class::Memory))?;
                (passthrough.insert(opened), Some(report))
            }
        };
        let functions = hosts.iter().map(|host| passthrough.function(*host, &self.means.controller));
        match functions.collect::<Result<Vec<_>, _>>() {
            Ok(functions) => {
                self.share(passthrough);
                functions
                    .iter()
                    .for_each(|function| self.notices.listen(function.host_address(), function.notices()));
                let device = |functions| Seat { slot: None, functions };
                let occupants: Vec<_> = functions.into_iter().map(Occupant::Host).collect();
                let seats = pick(seats::devices(&hosts).into_iter().map(device).collect(), &occupants);
                Ok((seats.into_iter().flat_map(|seat| seat.functions).collect(), report))
            }
            Err(error) => {
                self.close_in(&mut session, &hosts);
                Err(Problem::of(Class::Host)(error))
            }
        }
    }

    /// Lets devices reach each other, if there are several.
    fn share(&self, passthrough: &Passthrough) {
        let several = passthrough.devices() > 1;
        self.means.space.set_peers(several.then(|| passthrough.space().clone()));
    }

    /// Pins and maps guest memory, which the guest uses meanwhile: its pages may be moved, but not replaced.
    fn pin(&self, passthrough: &Passthrough) -> Result<PinReport, Problems> {
        let Means { ram, phys_bits, pin, observer, .. } = &self.means;
        let limits = AddressLimits { phys_bits: *phys_bits, iova: Some(passthrough.aperture().ranges) };
        if let Some(region) = ram.regions().iter().find(|region| !limits.reachable(&region.guest)) {
            return Err(Problem::of(Class::Host)(HotPlugError::Unreachable(region.guest)));
        }
        let options = PinOptions { populate: false, replace_after: None, ..pin.clone() };
        let progress = |progress: pin::Progress| observer.notify(&Event::Plugging(Some(&progress)));
        let pinned = pin::bring_up(ram, Some(passthrough.space().as_ref()), &options, &progress);
        observer.notify(&Event::Plugging(None));
        pinned.map_err(Problem::of(Class::Memory))
    }

    /// Puts a device into the slot that was kept for it. What cannot go there is closed.
    fn place(&self, device: u8, card: Card) -> Result<(), Problems> {
        let mut state = self.state();
        let inserted = self.insert(&mut state, device, &card);
        let (settled, refused) = if inserted.is_ok() { (card, Vec::new()) } else { (Vec::new(), card) };
        state.table.settle(device, settled);
        drop(state);
        self.close(refused);
        inserted
    }

    /// Puts a device on the bus, if there is a guest.
    fn insert(&self, state: &mut State, device: u8, card: &Card) -> Result<(), Problems> {
        if state.over {
            return Err(Problem::of(Class::Usage)(HotPlugError::Over));
        }
        let Some(bus) = state.bus.clone() else { return Ok(()) };
        let mut live = Vec::new();
        let functions = self.functions(device, card.clone(), &mut live)?;
        bus.insert(Devfn::new(device, 0), functions).map_err(Problem::of::<PciBusError>(Class::Host))?;
        state.live.extend(live);
        Ok(())
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
    fn close(&self, card: Card) {
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

    fn close_in(&self, session: &mut Session, hosts: &[PciAddress]) {
        let Some(passthrough) = &mut session.passthrough else { return };
        hosts.iter().for_each(|host| passthrough.close(*host));
        self.share(passthrough);
        if passthrough.devices() == 0 {
            session.passthrough = None;
        }
    }
}

/// Waits for what else holds on to something that is on no bus any more: an access of a vCPU that began before.
fn linger<T: ?Sized>(held: &Arc<T>) {
    let since = Instant::now();
    while Arc::strong_count(held) > 1 && since.elapsed() < LINGER {
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Session {
    fn all(&self) -> impl Iterator<Item = &Passthrough> {
        self.passthrough.iter().chain(&self.confined)
    }

    fn function(
        &self,
        host: PciAddress,
        controller: &Arc<dyn InterruptController>,
    ) -> Result<Arc<PassthroughFunction>, OpenError> {
        let of = self.all().find(|it| it.has(host)).ok_or(OpenError::NotPci(host))?;
        of.function(host, controller)
    }

    fn link(&mut self, vm: &Vm) -> Result<Arc<DeviceFd>, Problems> {
        match &self.link {
            Some(link) => Ok(link.clone()),
            None => {
                let link = vm.vfio_link().map_err(Unexpected::during("cannot link the machine to VFIO"))?;
                Ok(self.link.insert(Arc::new(link)).clone())
            }
        }
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
