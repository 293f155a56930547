//! A driver of a virtio device that does whatever the input says: registers, rings, buffers, kicks, resets, in any order.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use devices::pci::config::COMMAND;
use devices::pci::{PciFunction, msix};
use devices::virtio::pci::Surroundings;
use devices::virtio::{VirtioDevice, VirtioPci};
use memory::GuestRam;
use vm_memory::{Bytes, GuestAddress};

use crate::Input;
use crate::fakes::{Bells, controller, ram};

/// Where the BAR is, and what lies there (devices/src/virtio/pci/space.rs).
const BAR: u64 = 0x1_8000_0000;
const DEVICE: u64 = 0x2000;
const DOORBELLS: u64 = 0x3000;
const TABLE: u64 = 0x8000;
/// Registers of the common configuration with their widths (virtio 1.3 §4.1.4.3).
const REGISTERS: [(u64, usize); 16] = [
    (0x00, 4),
    (0x08, 4),
    (0x0c, 4),
    (0x10, 2),
    (STATUS, 1),
    (0x16, 2),
    (0x18, 2),
    (0x1a, 2),
    (0x1c, 2),
    (0x20, 8),
    (0x20, 4),
    (0x28, 8),
    (0x28, 4),
    (0x30, 8),
    (0x30, 4),
    (RESET, 2),
];
const STATUS: u64 = 0x14;
const RESET: u64 = 0x3a;
const NEEDS_RESET: u8 = 0x40;
const VERSION_1: u64 = 1 << 32;
const PACKED: u64 = 1 << 34;
/// Where queues are put, and where buffers are.
const RINGS: u64 = 0x10_0000;
const STRIDE: u64 = 0x4000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const BUFFERS: u64 = 0x80_0000;
/// So many actions make one input.
const MOST_STEPS: usize = 100;
/// A device that does not take a kick for so long is busy with those before.
const PATIENCE: Duration = Duration::from_millis(2);

/// The driver's side of a queue that is where it belongs.
#[derive(Clone, Copy, Default)]
struct Ring {
    size: u16,
    /// The next descriptor, and the lap of a packed ring.
    next: u16,
    lap: bool,
    available: u16,
}

/// A guest with one virtio device.
pub(super) struct Driver {
    function: Arc<VirtioPci>,
    bells: Arc<Bells>,
    ram: Arc<GuestRam>,
    sizes: Vec<u16>,
    /// Who does not listen is not waited for: queues that are never of use, as bits.
    deaf: u64,
    rings: Vec<Ring>,
    packed: bool,
}

impl Driver {
    /// Takes a device up as Linux does, with the features that the input leaves.
    pub(super) fn new(device: Arc<dyn VirtioDevice>, input: &mut Input) -> Self {
        let (bells, ram) = (Arc::<Bells>::default(), ram());
        let sizes = device.queue_sizes();
        let around = Surroundings {
            ram: ram.clone(),
            controller: controller(),
            doorbells: bells.clone(),
            behind_port: input.flag(),
        };
        let function = VirtioPci::new(device, around).unwrap();
        function.place_bar(0, BAR);
        let _ = function.config_write(COMMAND, &6_u16.to_le_bytes());
        function.bar_mapped(0, Some(BAR));
        let mut driver = Self { function, bells, ram, rings: Vec::new(), sizes, deaf: 0, packed: false };
        driver.enable_interrupts();
        driver.start(!u64::from(input.byte()).rotate_left(28));
        driver
    }

    /// Kicks of these queues, as bits, are not waited for.
    pub(super) fn deaf(self, queues: u64) -> Self {
        Self { deaf: queues, ..self }
    }

    /// MSI-X on, every vector unmasked.
    fn enable_interrupts(&self) {
        let byte = |at: u16| {
            let mut data = [0];
            self.function.config_read(at, &mut data);
            u16::from(data[0])
        };
        let mut at = byte(0x34);
        while at != 0 && byte(at) != 0x11 {
            at = byte(at + 1);
        }
        for vector in 0..=self.sizes.len() as u64 {
            self.write(TABLE + vector * msix::ENTRY_SIZE, &0xfee0_0000_u64.to_le_bytes());
            self.write(TABLE + vector * msix::ENTRY_SIZE + 8, &(0x40 + vector).to_le_bytes());
        }
        let _ = self.function.config_write(at + 2, &msix::CONTROL_ENABLE.to_le_bytes());
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let _ = self.function.bar_write(0, offset, data);
    }

    fn read<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut data = [0xaa; N];
        self.function.bar_read(0, offset, &mut data);
        data
    }

    fn status(&self) -> u8 {
        self.read::<1>(STATUS)[0]
    }

    /// Resets the device, takes what it offers of `wanted`, and enables all queues.
    fn start(&mut self, wanted: u64) {
        self.write(STATUS, &[0]);
        assert_eq!(self.status(), 0, "a reset is not complete");
        assert_eq!(self.bells.count(), 0, "a doorbell outlives a reset");
        self.write(STATUS, &[3]);
        let mut features = 0;
        for half in 0..2_u32 {
            self.write(0, &half.to_le_bytes());
            features |= u64::from(u32::from_le_bytes(self.read(4))) << (32 * half);
        }
        features &= wanted | VERSION_1;
        for half in 0..2_u32 {
            self.write(8, &half.to_le_bytes());
            self.write(0xc, &((features >> (32 * half)) as u32).to_le_bytes());
        }
        self.write(STATUS, &[0xb]);
        assert_eq!(self.status(), 0xb, "features that were offered are refused");
        self.packed = features & PACKED != 0;
        self.rings =
            self.sizes.iter().map(|size| Ring { size: *size, lap: true, ..Ring::default() }).collect();
        (0..self.sizes.len()).for_each(|queue| self.enable(queue));
        self.write(0x10, &0_u16.to_le_bytes());
        self.write(STATUS, &[0xf]);
    }

    /// Puts a queue where it belongs, empty.
    fn enable(&mut self, queue: usize) {
        let at = RINGS + queue as u64 * STRIDE;
        self.put(at, &[0; STRIDE as usize]);
        self.rings[queue] = Ring { size: self.sizes[queue], lap: true, ..Ring::default() };
        let index = queue as u16;
        self.write(0x16, &index.to_le_bytes());
        self.write(0x18, &self.sizes[queue].to_le_bytes());
        self.write(0x1a, &(index + 1).to_le_bytes());
        for (register, address) in [(0x20, at), (0x28, at + AVAILABLE), (0x30, at + USED)] {
            self.write(register, &address.to_le_bytes());
        }
        self.write(0x1c, &1_u16.to_le_bytes());
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        // Outside RAM nothing happens, as with a real one.
        let _ = self.ram.guest_memory().write_slice(bytes, GuestAddress(at));
    }

    fn queue(&self, input: &mut Input) -> usize {
        usize::from(input.byte()) % self.sizes.len()
    }

    /// Somewhere: mostly in buffers, also in rings, at the edges of RAM, and beyond.
    fn somewhere(input: &mut Input) -> u64 {
        let offset = u64::from(input.word());
        match input.byte() % 8 {
            0..5 => BUFFERS + offset,
            5 => RINGS + offset,
            6 => (crate::fakes::RAM - 0x8000).wrapping_add(offset),
            _ => input.qword(),
        }
    }

    /// A chain with what the input says is in it, made available. Of the lengths of its buffers few are large.
    fn add(&mut self, input: &mut Input) {
        let queue = self.queue(input);
        let shape = input.byte();
        let (readable, writable) = (usize::from(shape & 3), usize::from(shape >> 2 & 3));
        let mut buffers: Vec<(u64, u32, u16)> = Vec::new();
        for place in 0..readable {
            let length = usize::from(input.byte());
            let bytes = input.bytes(length);
            let at = BUFFERS + 0x1000 * place as u64;
            self.put(at, bytes);
            buffers.push((at, bytes.len() as u32, 0));
        }
        for place in 0..writable {
            let length = input.word();
            let length = if shape & 0x80 == 0 { u32::from(length & 0x1fff) } else { u32::from(length) << 8 };
            buffers.push((BUFFERS + 0x1_0000 * (1 + place as u64), length, 2));
        }
        if shape & 0x40 != 0 {
            buffers.push((Self::somewhere(input), input.dword(), u16::from(input.byte() & 3) & 2));
        }
        self.publish(queue, &buffers);
    }

    /// Makes a chain of consecutive descriptors available.
    fn publish(&mut self, queue: usize, buffers: &[(u64, u32, u16)]) {
        let base = RINGS + queue as u64 * STRIDE;
        let mut ring = self.rings[queue];
        let head = ring.next;
        for (place, (address, length, flags)) in buffers.iter().enumerate() {
            let next = (ring.next + 1) % ring.size;
            let flags = flags | u16::from(place + 1 < buffers.len());
            let at = base + u64::from(ring.next) * 16;
            self.put(at, &address.to_le_bytes());
            self.put(at + 8, &length.to_le_bytes());
            if self.packed {
                let lap = if ring.lap { 0x80_u16 } else { 0x8000 };
                self.put(at + 12, &head.to_le_bytes());
                self.put(at + 14, &(flags | lap).to_le_bytes());
                ring.lap ^= next == 0;
            } else {
                self.put(at + 12, &flags.to_le_bytes());
                self.put(at + 14, &next.to_le_bytes());
            }
            ring.next = next;
        }
        if !self.packed {
            self.put(base + AVAILABLE + 4 + u64::from(ring.available % ring.size) * 2, &head.to_le_bytes());
            ring.available = ring.available.wrapping_add(1);
            self.put(base + AVAILABLE + 2, &ring.available.to_le_bytes());
        }
        self.rings[queue] = ring;
    }

    /// A single descriptor with anything in it, which may be indirect or lead back.
    fn descriptor(&self, input: &mut Input) {
        let queue = self.queue(input);
        let index = u64::from(input.byte());
        let at = if input.flag() { BUFFERS } else { RINGS + queue as u64 * STRIDE } + index * 16;
        let address = Self::somewhere(input);
        let length = input.pick(&[0, 1, 16, 32, 512, 4096, 0x1_0000, 0x100_0000, u32::MAX]);
        let (flags, next) = (u16::from(input.byte()), u16::from(input.byte()));
        self.put(
            at,
            &[&address.to_le_bytes()[..], &length.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()]
                .concat(),
        );
    }

    fn kick(&self, queue: usize) {
        let offset = DOORBELLS + queue as u64 * 4;
        // As KVM does it, or by way of an exit.
        if !self.bells.ring(BAR + offset) {
            self.write(offset, &(queue as u16).to_le_bytes());
        }
    }

    /// Waits until the device has taken all kicks, or takes none any more.
    fn settle(&self) {
        let end = Instant::now() + PATIENCE;
        while self.bells.unheard(|gpa| self.deaf >> ((gpa - BAR - DOORBELLS) / 4) & 1 == 0)
            && self.status() & NEEDS_RESET == 0
            && Instant::now() < end
        {
            thread::yield_now();
        }
    }

    /// Does what the input says until it ends. `host` is what may happen on the other side of the device, meanwhile and at last.
    pub(super) fn follow(mut self, input: &mut Input, mut host: impl FnMut(&mut Input)) {
        for _ in 0..MOST_STEPS {
            if input.is_empty() {
                break;
            }
            self.step(input, &mut host);
        }
        (0..self.sizes.len()).for_each(|queue| self.kick(queue));
        self.settle();
        host(input);
        // Whatever it was, the next driver finds the device as after power-on.
        self.start(u64::MAX);
        let shape = self.status() & !NEEDS_RESET;
        assert_eq!(shape, 0xf, "the next driver does not get the device");
        self.function.reset_device();
        assert_eq!(self.bells.count(), 0, "a doorbell outlives the device");
    }

    fn step(&mut self, input: &mut Input, host: &mut impl FnMut(&mut Input)) {
        match input.byte() % 16 {
            0 => self.write(input.word().into(), &input.access(8)),
            1 => {
                let mut data = input.access(8);
                self.function.bar_read(0, input.word().into(), &mut data);
            }
            2 => {
                let (register, width) = input.pick(&REGISTERS);
                let mut data = input.bytes(width).to_vec();
                data.resize(width, 0);
                self.write(register, &data);
            }
            3 => self.kick(self.queue(input)),
            4 => {
                let at = RINGS + self.queue(input) as u64 * STRIDE + input.pick(&[0, AVAILABLE, USED]);
                self.put(at + u64::from(input.byte()), &input.access(8));
            }
            5 => {
                let (at, length) = (Self::somewhere(input), input.byte().into());
                self.put(at, input.bytes(length));
            }
            6 => self.descriptor(input),
            7 => self.add(input),
            8 => {
                self.add(input);
                (0..self.sizes.len()).for_each(|queue| self.kick(queue));
                self.settle();
            }
            9 => self.write(DEVICE + u64::from(input.byte()), &input.access(8)),
            10 => self.start(input.qword()),
            11 => {
                let queue = self.queue(input);
                self.write(0x16, &(queue as u16).to_le_bytes());
                self.write(RESET, &1_u16.to_le_bytes());
                self.enable(queue);
            }
            12 => self.settle(),
            13 => {
                let data = input.access(4);
                let offset = input.word() % 4096 / data.len() as u16 * data.len() as u16;
                let _ = self.function.config_write(offset, &data);
            }
            14 => self.function.bar_mapped(0, input.flag().then_some(BAR)),
            _ => host(input),
        }
    }
}
