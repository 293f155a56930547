//! Where devices sit on the guest's bus 0: device numbers from 1 on, first what was passed through at the start, then
//! free root ports. What sits behind a root port may come and go; the seat itself stays, also over reboots. Pure.

use devices::pci::PciAddress;

/// Devices that bus 0 has room for beside the host bridge.
pub const SEATS: usize = 31;

/// What has one device number on bus 0. `F` stands for a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat<F> {
    /// The slot's number for people, if it is a root port; else it is the device itself.
    pub slot: Option<u8>,
    /// The functions of the device, by their numbers; none in an empty slot.
    pub functions: Vec<(u8, F)>,
}

/// A function of the host that is to be passed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its address on the host.
    pub host: PciAddress,
    /// Whether its device is to be behind a root port.
    pub port: bool,
}

/// Seats for `guests`, each function by its place among them, and then for `ports` empty slots.
pub fn arrange(guests: &[Guest], ports: u8) -> Vec<Seat<usize>> {
    let hosts: Vec<PciAddress> = guests.iter().map(|guest| guest.host).collect();
    let mut slots = 1..;
    let wants_port = |(_, index): &(u8, usize)| guests.get(*index).is_some_and(|guest| guest.port);
    let mut seats = Vec::new();
    for functions in devices(&hosts) {
        let slot = if functions.iter().any(wants_port) { slots.next() } else { None };
        seats.push(Seat { slot, functions });
    }
    let free = slots.take(ports.into()).map(|slot| Seat { slot: Some(slot), functions: Vec::new() });
    seats.extend(free);
    seats
}

/// The devices that functions of host devices make for the guest, by their places in `hosts`. Those of one host device
/// are one device for the guest as well, since drivers look for each other there, and have the numbers they have on the
/// host. But a device has a function 0: without that one they are numbered anew.
pub fn devices(hosts: &[PciAddress]) -> Vec<Vec<(u8, usize)>> {
    let mut devices: Vec<Vec<(u8, usize)>> = Vec::new();
    let mut seen: Vec<PciAddress> = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        let device = PciAddress { function: 0, ..*host };
        match seen.iter().position(|other| *other == device).and_then(|at| devices.get_mut(at)) {
            Some(functions) => functions.push((host.function, index)),
            None => {
                seen.push(device);
                devices.push(vec![(host.function, index)]);
            }
        }
    }
    for functions in &mut devices {
        functions.sort_unstable();
        if functions.first().is_some_and(|(number, _)| *number != 0) {
            (0..).zip(functions).for_each(|(anew, (number, _))| *number = anew);
        }
    }
    devices
}

/// How far plugging is with a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing is going on.
    Settled,
    /// It is kept for a device that is being opened.
    Coming,
    /// The guest was asked to let go of the device.
    Leaving,
    /// The guest that was asked is gone: the next one does not find the device.
    Gone,
}

/// All seats, from device 1 on, and what goes on at them.
#[derive(Clone, Debug)]
pub struct Table<F>(Vec<Row<F>>);

#[derive(Clone, Debug)]
struct Row<F> {
    seat: Seat<F>,
    stage: Stage,
}

impl<F: Clone> Table<F> {
    /// Seats as the guest finds them at its first start.
    pub fn new(seats: Vec<Seat<F>>) -> Self {
        Self(seats.into_iter().map(|seat| Row { seat, stage: Stage::Settled }).collect())
    }

    /// How many there are: devices 1 to this one.
    pub fn seats(&self) -> u8 {
        u8::try_from(self.0.len()).unwrap_or(u8::MAX)
    }

    /// PCI buses that the guest may find devices on: bus 0, and one behind each root port.
    pub fn buses(&self) -> u16 {
        1 + self.0.iter().map(|row| u16::from(row.seat.slot.is_some())).sum::<u16>()
    }

    /// What a guest that starts now finds.
    pub fn visible(&self) -> Vec<Seat<F>> {
        let gone = |row: &Row<F>| row.stage == Stage::Gone;
        let empty = |seat: &Seat<F>| Seat { slot: seat.slot, functions: Vec::new() };
        self.0.iter().map(|row| if gone(row) { empty(&row.seat) } else { row.seat.clone() }).collect()
    }

    /// Every function, with the device number of its seat and its own.
    pub fn functions(&self) -> impl Iterator<Item = (u8, u8, &F)> {
        let of = |(device, row)| {
            let row: &Row<F> = row;
            row.seat.functions.iter().map(move |(number, function)| (device, *number, function))
        };
        (1..).zip(&self.0).flat_map(of)
    }

    /// The seat with a device number: whether it is a root port, and what is going on there.
    pub fn at(&self, device: u8) -> Option<(Option<u8>, Stage)> {
        self.row(device).map(|row| (row.seat.slot, row.stage))
    }

    /// Keeps an empty slot for a device. `None`: there is none.
    pub fn reserve(&mut self) -> Option<u8> {
        let free = |row: &Row<F>| {
            row.seat.slot.is_some() && row.seat.functions.is_empty() && row.stage == Stage::Settled
        };
        let (device, row) = (1..).zip(&mut self.0).find(|(_, row)| free(row))?;
        row.stage = Stage::Coming;
        Some(device)
    }

    /// Puts a device where a slot was kept for it; no functions to give the slot back.
    pub fn settle(&mut self, device: u8, functions: Vec<(u8, F)>) {
        if let Some(row) = self.row_mut(device).filter(|row| row.stage == Stage::Coming) {
            row.stage = Stage::Settled;
            row.seat.functions = functions;
        }
    }

    /// The guest is asked to let go of a device.
    pub fn ask(&mut self, device: u8) {
        if let Some(row) = self.row_mut(device).filter(|row| row.stage == Stage::Settled) {
            row.stage = Stage::Leaving;
        }
    }

    /// A device stays after all. False: the guest it would stay with is gone.
    pub fn keep(&mut self, device: u8) -> bool {
        let Some(row) = self.row_mut(device).filter(|row| row.stage == Stage::Leaving) else { return false };
        row.stage = Stage::Settled;
        true
    }

    /// Takes the functions of a device that the guest was asked for, or did not want. The seat is free again.
    pub fn take(&mut self, device: u8) -> Vec<(u8, F)> {
        let Some(row) = self.row_mut(device) else { return Vec::new() };
        row.stage = Stage::Settled;
        std::mem::take(&mut row.seat.functions)
    }

    /// The guest is gone.
    pub fn end_run(&mut self) {
        for row in self.0.iter_mut().filter(|row| row.stage == Stage::Leaving) {
            row.stage = Stage::Gone;
        }
    }

    fn row(&self, device: u8) -> Option<&Row<F>> {
        self.0.get(usize::from(device.checked_sub(1)?))
    }

    fn row_mut(&mut self, device: u8) -> Option<&mut Row<F>> {
        self.0.get_mut(usize::from(device.checked_sub(1)?))
    }
}

#[cfg(test)]
#[path = "seats_test.rs"]
mod tests;
