//! How a device of the host comes: it is opened, memory is pinned and mapped if it is the first, it is put behind a port, and the
//! guest is told. What fails undoes all of it.

use devices::pci::{Devfn, PciAddress, PciBusError};
use memory::layout::AddressLimits;
use memory::pin::{self, PinOptions, PinReport};
use vfio::{Passthrough, Request};

use super::error::HotPlugError;
use super::occupant::Occupant;
use super::{Card, Devices, Means, Session, State, pick};
use crate::machine::Event;
use crate::machine::control::DevicePlace;
use crate::machine::seats::{self, Seat};
use crate::preflight::check_devices;
use crate::problem::{Class, Problem, Problems};

impl Devices {
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
    pub(super) fn place(&self, device: u8, card: Card) -> Result<(), Problems> {
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
}
