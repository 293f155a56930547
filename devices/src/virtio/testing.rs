//! The driver's side, for tests: rings in guest memory, and a guest that sets a device up as Linux does.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex};

use memory::layout::AddressLimits;
use memory::{GuestRam, Layout};
use virtio_bindings::virtio_config::{VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::pci::Surroundings;
use super::queue::RingAddresses;
use super::{VirtioDevice, VirtioPci};
use crate::doorbell::{Doorbell, Doorbells};
use crate::irq::MsiVector;
use crate::pci::config::COMMAND;
use crate::pci::{PciFunction, msix};
use crate::testing::FakeController;

/// Generous: the machine may be busy.
const DEADLINE_MS: i32 = 60_000;
/// Where queues are put, and where buffers may be.
const RINGS: u64 = 0x10_0000;
const RING_STRIDE: u64 = 0x1_0000;
pub(crate) const BUFFERS: u64 = 0x80_0000;

/// 16 MiB of guest memory.
pub(crate) fn ram() -> Arc<GuestRam> {
    let layout = Layout::new(16 << 20, &AddressLimits::cpu_only(40)).unwrap();
    Arc::new(GuestRam::new(&layout).unwrap())
}

/// Remembers which doorbells hang where.
#[derive(Default)]
pub(crate) struct FakeDoorbells(Arc<Mutex<BTreeMap<u64, EventFd>>>);

struct FakeDoorbell(u64, Arc<Mutex<BTreeMap<u64, EventFd>>>);

impl Doorbells for FakeDoorbells {
    fn hang(&self, gpa: u64, eventfd: &EventFd) -> io::Result<Box<dyn Doorbell>> {
        let before = self.0.lock().unwrap().insert(gpa, eventfd.try_clone()?);
        assert!(before.is_none(), "two doorbells at {gpa:#x}");
        Ok(Box::new(FakeDoorbell(gpa, self.0.clone())))
    }
}

impl FakeDoorbells {
    pub(crate) fn hung(&self) -> Vec<u64> {
        self.0.lock().unwrap().keys().copied().collect()
    }
}

impl Doorbell for FakeDoorbell {}

impl Drop for FakeDoorbell {
    fn drop(&mut self) {
        self.1.lock().unwrap().remove(&self.0);
    }
}

/// A buffer: GPA and bytes.
pub(crate) type Buffer = (u64, u32);

/// The driver's side of a ring. Chains are made of consecutive descriptors; ids are those of their first one.
pub(crate) struct DriverRing {
    pub(crate) ram: Arc<GuestRam>,
    pub(crate) at: RingAddresses,
    packed: bool,
    next: u16,
    /// The packed ring's lap, of the driver and of what it has taken back.
    wrap: bool,
    taken: u16,
    taken_wrap: bool,
    entries: BTreeMap<u16, u16>,
}

impl DriverRing {
    /// An empty ring for queue `index`.
    pub(crate) fn new(ram: &Arc<GuestRam>, index: u16, size: u16, packed: bool) -> Self {
        let base = RINGS + u64::from(index) * RING_STRIDE;
        let at = RingAddresses { size, descriptors: base, driver: base + 0x8000, device: base + 0xc000 };
        ram.guest_memory().write_slice(&[0; RING_STRIDE as usize], GuestAddress(base)).unwrap();
        let ram = ram.clone();
        Self { ram, at, packed, next: 0, wrap: true, taken: 0, taken_wrap: true, entries: BTreeMap::new() }
    }

    pub(crate) fn features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1 | u64::from(self.packed) << VIRTIO_F_RING_PACKED
    }

    pub(crate) fn put<T: vm_memory::ByteValued>(&self, at: u64, value: T) {
        self.ram.guest_memory().write_obj(value, GuestAddress(at)).unwrap();
    }

    pub(crate) fn get<T: vm_memory::ByteValued>(&self, at: u64) -> T {
        self.ram.guest_memory().read_obj(GuestAddress(at)).unwrap()
    }

    /// Makes a chain available; gives its id.
    pub(crate) fn add(&mut self, readable: &[Buffer], writable: &[Buffer]) -> u16 {
        let all: Vec<(Buffer, u16)> =
            readable.iter().map(|it| (*it, 0)).chain(writable.iter().map(|it| (*it, 2))).collect();
        let count = all.len() as u16;
        assert!((1..=self.at.size).contains(&count));
        if self.packed { self.add_packed(&all) } else { self.add_split(&all) }
    }

    fn add_split(&mut self, all: &[(Buffer, u16)]) -> u16 {
        let size = self.at.size;
        let head = self.next % size;
        for (place, ((address, length), flags)) in all.iter().enumerate() {
            let index = (self.next + place as u16) % size;
            let last = place + 1 == all.len();
            let flags = flags | u16::from(!last);
            self.descriptor(index, *address, *length, flags, (index + 1) % size);
        }
        self.next = self.next.wrapping_add(all.len() as u16);
        let available: u16 = self.get(self.at.driver + 2);
        self.put(self.at.driver + 4 + u64::from(available % size) * 2, head);
        self.publish(available.wrapping_add(1));
        head
    }

    /// Writes a descriptor of a split ring.
    pub(crate) fn descriptor(&self, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let at = self.at.descriptors + u64::from(index) * 16;
        self.put(at, address);
        self.put(at + 8, length);
        self.put(at + 12, flags);
        self.put(at + 14, next);
    }

    /// Sets the available index of a split ring.
    pub(crate) fn publish(&self, available: u16) {
        self.ram
            .guest_memory()
            .store(available, GuestAddress(self.at.driver + 2), Ordering::Release)
            .unwrap();
    }

    fn add_packed(&mut self, all: &[(Buffer, u16)]) -> u16 {
        let id = self.next;
        self.entries.insert(id, all.len() as u16);
        let mut first = None;
        for (place, ((address, length), flags)) in all.iter().enumerate() {
            let at = self.at.descriptors + u64::from(self.next) * 16;
            let lap = if self.wrap { 0x80 } else { 0x8000 };
            let flags = flags | u16::from(place + 1 != all.len()) | lap;
            self.put(at, *address);
            self.put(at + 8, *length);
            self.put(at + 12, id);
            match first {
                None => first = Some((at + 14, flags)),
                Some(_) => self.put(at + 14, flags),
            }
            self.next += 1;
            if self.next == self.at.size {
                (self.next, self.wrap) = (0, !self.wrap);
            }
        }
        let (at, flags) = first.unwrap();
        self.ram.guest_memory().store(flags, GuestAddress(at), Ordering::Release).unwrap();
        id
    }

    /// Whether the device is to be kicked for what was just added. (Without EVENT_IDX.)
    pub(crate) fn wants_kick(&self) -> bool {
        fence(Ordering::SeqCst);
        let flags: u16 = self.get(self.at.device + if self.packed { 2 } else { 0 });
        flags & 1 == 0
    }

    /// The next chain that was used: its id, and the bytes written.
    pub(crate) fn used(&mut self) -> Option<(u16, u32)> {
        if !self.packed {
            let memory = self.ram.guest_memory();
            let index: u16 = memory.load(GuestAddress(self.at.device + 2), Ordering::Acquire).unwrap();
            if index == self.taken {
                return None;
            }
            let at = self.at.device + 4 + u64::from(self.taken % self.at.size) * 8;
            self.taken = self.taken.wrapping_add(1);
            return Some((self.get::<u32>(at) as u16, self.get(at + 4)));
        }
        let at = self.at.descriptors + u64::from(self.taken) * 16;
        let flags: u16 = self.ram.guest_memory().load(GuestAddress(at + 14), Ordering::Acquire).unwrap();
        if (flags & 0x80 != 0, flags & 0x8000 != 0) != (self.taken_wrap, self.taken_wrap) {
            return None;
        }
        let id: u16 = self.get(at + 12);
        self.taken += self.entries.remove(&id).expect("an id that was not given");
        if self.taken >= self.at.size {
            (self.taken, self.taken_wrap) = (self.taken - self.at.size, !self.taken_wrap);
        }
        Some((id, self.get(at + 8)))
    }
}

/// A guest with one virtio device.
pub(crate) struct Guest {
    pub(crate) function: Arc<VirtioPci>,
    pub(crate) controller: Arc<FakeController>,
    pub(crate) doorbells: Arc<FakeDoorbells>,
    pub(crate) ram: Arc<GuestRam>,
}

/// Where its BAR is.
pub(crate) const BAR_AT: u64 = 0x1_8000_0000;

impl Guest {
    /// A guest whose device is decoded, with MSI-X on and every vector unmasked.
    pub(crate) fn new(device: Arc<dyn VirtioDevice>) -> Self {
        let (controller, doorbells, ram) = (FakeController::new(), Arc::<FakeDoorbells>::default(), ram());
        let around = Surroundings {
            ram: ram.clone(),
            controller: controller.clone(),
            doorbells: doorbells.clone(),
            behind_port: false,
        };
        let vectors = device.queue_sizes().len() as u64 + 1;
        let function = VirtioPci::new(device, around).unwrap();
        let guest = Self { function, controller, doorbells, ram };
        guest.function.place_bar(0, BAR_AT);
        let _ = guest.function.config_write(COMMAND, &6_u16.to_le_bytes());
        guest.function.bar_mapped(0, Some(BAR_AT));
        for vector in 0..vectors {
            let entry = 0x8000 + vector * msix::ENTRY_SIZE;
            let _ = guest.function.bar_write(0, entry, &(0xfee0_0000_u64).to_le_bytes());
            let _ = guest.function.bar_write(0, entry + 8, &(0x40 + vector).to_le_bytes());
        }
        let control = guest.capability(0x11) + 2;
        let _ = guest.function.config_write(control, &msix::CONTROL_ENABLE.to_le_bytes());
        guest
    }

    /// Where a capability starts.
    pub(crate) fn capability(&self, id: u8) -> u16 {
        let byte = |at: u16| {
            let mut data = [0];
            self.function.config_read(at, &mut data);
            data[0]
        };
        let mut at = byte(0x34);
        while at != 0 && byte(at.into()) != id {
            at = byte(u16::from(at) + 1);
        }
        assert_ne!(at, 0, "no capability {id:#x}");
        at.into()
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8]) {
        let _ = self.function.bar_write(0, offset, data);
    }

    pub(crate) fn read<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut data = [0xaa; N];
        self.function.bar_read(0, offset, &mut data);
        data
    }

    pub(crate) fn status(&self) -> u8 {
        let [status] = self.read(0x14);
        status
    }

    pub(crate) fn features(&self) -> u64 {
        let half = |select: u32| {
            self.write(0, &select.to_le_bytes());
            u64::from(u32::from_le_bytes(self.read(4)))
        };
        half(0) | half(1) << 32
    }

    /// Resets the device and negotiates, up to FEATURES_OK.
    pub(crate) fn negotiate(&self, features: u64) {
        self.write(0x14, &[0]);
        assert_eq!(self.status(), 0);
        self.write(0x14, &[1]);
        self.write(0x14, &[3]);
        for (half, features) in [(0_u32, features as u32), (1, (features >> 32) as u32)] {
            self.write(8, &half.to_le_bytes());
            self.write(0xc, &features.to_le_bytes());
        }
        self.write(0x14, &[0xb]);
        assert_eq!(self.status(), 0xb, "features {features:#x} are refused");
    }

    /// Tells the device where a queue is. Its vector is the one after its number.
    pub(crate) fn enable(&self, index: u16, at: &RingAddresses) {
        self.write(0x16, &index.to_le_bytes());
        self.write(0x18, &at.size.to_le_bytes());
        self.write(0x1a, &(index + 1).to_le_bytes());
        for (offset, address) in [(0x20, at.descriptors), (0x28, at.driver), (0x30, at.device)] {
            self.write(offset, &(address as u32).to_le_bytes());
            self.write(offset + 4, &((address >> 32) as u32).to_le_bytes());
        }
        self.write(0x1c, &1_u16.to_le_bytes());
    }

    /// Resets a queue alone, which is done when this returns.
    pub(crate) fn reset_queue(&self, index: u16) {
        self.write(0x16, &index.to_le_bytes());
        self.write(0x3a, &1_u16.to_le_bytes());
        assert_eq!(self.read(0x3a), [0, 0]);
    }

    /// DRIVER_OK, with vector 0 for changes of the configuration.
    pub(crate) fn ready(&self) {
        self.write(0x10, &0_u16.to_le_bytes());
        self.write(0x14, &[0xf]);
    }

    /// Negotiates, enables the queues of `rings` in order, and is ready.
    pub(crate) fn start(&self, features: u64, rings: &[&DriverRing]) {
        self.negotiate(features);
        (0..).zip(rings).for_each(|(index, ring)| self.enable(index, &ring.at));
        self.ready();
    }

    pub(crate) fn kick(&self, index: u16) {
        self.write(0x3000 + u64::from(index) * 4, &index.to_le_bytes());
    }

    /// Waits until vector `number` is raised, and takes that.
    pub(crate) fn wait_for_vector(&self, number: usize) {
        let vector = self.controller.alive()[number].clone();
        wait_for(vector.eventfd());
    }

    /// Waits until `ring`, of queue `index`, has a used chain.
    pub(crate) fn wait_for_used(&self, index: u16, ring: &mut DriverRing) -> (u16, u32) {
        loop {
            if let Some(used) = ring.used() {
                return used;
            }
            self.wait_for_vector(usize::from(index) + 1);
        }
    }
}

/// Waits for an eventfd, and takes what is in it.
pub(crate) fn wait_for(eventfd: &EventFd) {
    assert!(
        crate::eventfd::poll([eventfd.as_raw_fd()], DEADLINE_MS),
        "nothing was signalled in {DEADLINE_MS} ms"
    );
    eventfd.read().unwrap();
}
