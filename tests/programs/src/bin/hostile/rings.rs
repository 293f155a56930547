//! Drivers of virtio functions that do everything wrong.

use crate::access::Window;
use crate::dice::Dice;
use crate::function::{Function, functions};

/// Bytes of memory for rings and buffers.
const MEMORY: usize = 4 << 20;
const PAGE: usize = 4096;
/// The capability by which virtio says where its registers are.
const VENDOR: u8 = 9;
/// Reads of a status that may pass before a reset is over.
const PATIENCE: u32 = 100_000;

/// A virtio function, through its capabilities (virtio 1.3 §4.1.4).
struct Virtio {
    common: Window,
    notify: Window,
    multiplier: usize,
    isr: Window,
    device: Option<Window>,
}

/// Offsets in the common configuration (§4.1.4.3).
mod common {
    pub(crate) const FEATURE_SELECT: usize = 0x00;
    pub(crate) const FEATURE: usize = 0x04;
    pub(crate) const DRIVER_SELECT: usize = 0x08;
    pub(crate) const DRIVER_FEATURE: usize = 0x0c;
    pub(crate) const CONFIG_VECTOR: usize = 0x10;
    pub(crate) const QUEUES: usize = 0x12;
    pub(crate) const STATUS: usize = 0x14;
    pub(crate) const SELECT: usize = 0x16;
    pub(crate) const SIZE: usize = 0x18;
    pub(crate) const VECTOR: usize = 0x1a;
    pub(crate) const ENABLE: usize = 0x1c;
    pub(crate) const NOTIFY: usize = 0x1e;
    pub(crate) const RINGS: [usize; 3] = [0x20, 0x28, 0x30];
    pub(crate) const RESET: usize = 0x3a;
}

impl Virtio {
    fn open(function: &Function) -> Virtio {
        function.command(0);
        let config = function.space();
        let word = |at: usize| u32::from_le_bytes(config[at..at + 4].try_into().unwrap());
        let (mut found, mut multiplier) = ([None; 5], 0);
        for at in function.capabilities(VENDOR) {
            let kind = usize::from(config[at + 3]);
            if kind < found.len() {
                let bar = usize::from(config[at + 4]);
                let (_, start, _) = *function.bars.iter().find(|(index, ..)| *index == bar).unwrap();
                found[kind] = Some((start, word(at + 8) as usize, word(at + 12) as usize));
                if kind == 2 {
                    multiplier = word(at + 16) as usize;
                }
            }
        }
        let part = |(start, offset, length): (u64, usize, usize)| {
            let skipped = offset % PAGE;
            Window::map(start + (offset - skipped) as u64, (skipped + length) as u64).part(skipped, length)
        };
        let mut parts = found.into_iter().map(|place| place.map(part)).skip(1);
        let mut next = || parts.next().flatten();
        let (common, notify, isr) = (next().unwrap(), next().unwrap(), next().unwrap());
        Virtio { common, notify, multiplier, isr, device: next() }
    }

    fn reset(&self) {
        self.common.write(common::STATUS, 1, 0);
        let over = (0..PATIENCE).any(|_| self.common.read(common::STATUS, 1) == 0);
        assert!(over, "a reset does not end");
    }

    /// One round with a bad driver.
    fn torment(&self, memory: &Window, dice: &mut Dice) {
        let write = |offset, width, value| self.common.write(offset, width, value);
        self.reset();
        write(common::STATUS, 1, 3);
        for select in 0..2 {
            write(common::FEATURE_SELECT, 4, select);
            write(common::DRIVER_SELECT, 4, select);
            let offered = self.common.read(common::FEATURE, 4);
            // Mostly what is offered, or part of it; VERSION_1 is bit 0 of the second word.
            let chosen = if dice.once_in(16) { dice.any() } else { offered & (dice.any() | dice.any()) };
            let modern = if select == 1 && !dice.once_in(8) { 1 } else { 0 };
            write(common::DRIVER_FEATURE, 4, chosen | modern);
        }
        write(common::STATUS, 1, if dice.once_in(8) { dice.any() } else { 0xb });
        write(common::CONFIG_VECTOR, 2, dice.one_of(&[0, 1, 2, 0xffff, 0x7ff]));
        let queues = self.common.read(common::QUEUES, 2).min(8);
        for queue in 0..queues {
            write(common::SELECT, 2, queue);
            let most = self.common.read(common::SIZE, 2);
            let size = if dice.once_in(8) {
                dice.any() & 0xffff
            } else {
                1 << dice.below(most.max(1).ilog2().into())
            };
            write(common::SIZE, 2, size);
            write(common::VECTOR, 2, dice.one_of(&[0, 1, 2, 3, 0xffff, 0x800]));
            for (index, ring) in common::RINGS.into_iter().enumerate() {
                let place = dice.below((MEMORY / PAGE - 16) as u64) as usize * PAGE;
                garbage(memory, place, index, size.min(256), dice);
                let address = if dice.once_in(12) { nowhere(dice) } else { memory.physical + place as u64 };
                write(ring, 4, address & 0xffff_ffff);
                write(ring + 4, 4, address >> 32);
            }
            write(common::ENABLE, 2, 1);
        }
        write(common::STATUS, 1, 0xf);
        for _ in 0..24 {
            let queue = dice.below(queues + 1);
            write(common::SELECT, 2, queue);
            let at = self.common.read(common::NOTIFY, 2) as usize * self.multiplier;
            if at + 2 <= self.notify.size {
                self.notify.write(at, 2, if dice.once_in(8) { dice.any() } else { queue });
            }
            // What the device reads changes under it.
            for _ in 0..32 {
                let place = dice.below((MEMORY - 8) as u64) as usize;
                memory.write(place, dice.one_of(&[1, 2, 4]), dice.any());
            }
            match dice.below(8) {
                0 => drop(self.isr.read(0, 1)),
                1 | 2 if let Some(device) = self.device => {
                    let (width, offset) = (dice.one_of(&[1, 2, 4]), dice.below(device.size as u64) as usize);
                    if offset + width <= device.size {
                        device.read(offset, width);
                        device.write(offset, width, dice.any());
                    }
                }
                3 => write(common::RESET, 2, 1),
                4 => write(common::ENABLE, 2, dice.below(3)),
                5 => write(common::STATUS, 1, 0xf),
                6 => write(common::SELECT, 2, dice.any()),
                _ => {}
            }
        }
    }
}

/// An address outside of memory.
fn nowhere(dice: &mut Dice) -> u64 {
    match dice.below(4) {
        0 => dice.any() | 1 << 63,
        1 => u64::MAX - dice.below(PAGE as u64),
        2 => 0xfee0_0000 + dice.below(1 << 20),
        _ => 1 << dice.one_of(&[36, 39, 47, 52]),
    }
}

/// Fills the first pages of a ring: descriptors, what is available, or what is used.
fn garbage(memory: &Window, place: usize, ring: usize, size: u64, dice: &mut Dice) {
    if ring == 0 {
        for descriptor in 0..size as usize {
            let at = place + descriptor * 16;
            let length = if dice.once_in(4) { dice.below(1 << 16) } else { dice.below(600) };
            let inside = memory.physical + dice.below(MEMORY as u64 - length);
            let address = if dice.once_in(12) { nowhere(dice) } else { inside };
            // NEXT and WRITE as it comes, INDIRECT now and then.
            let flags = dice.below(4)
                | if dice.once_in(10) { 4 } else { 0 }
                | if dice.once_in(64) { dice.any() } else { 0 };
            let next = if dice.once_in(16) { dice.any() } else { dice.below(size) };
            memory.write(at, 8, address);
            memory.write(at + 8, 4, length);
            memory.write(at + 12, 2, flags);
            memory.write(at + 14, 2, next);
        }
    } else {
        memory.write(place, 2, dice.below(4));
        memory.write(place + 2, 2, if dice.once_in(4) { dice.any() } else { dice.below(size + 1) });
        for entry in 0..size as usize {
            let head = if dice.once_in(16) { dice.any() } else { dice.below(size) };
            memory.write(place + 4 + entry * 2, 2, head);
        }
    }
}

pub(crate) fn attack(seed: u64, rounds: u64, physical: u64) {
    let mut dice = Dice::new(seed);
    let memory = Window::map(physical, MEMORY as u64);
    // Small numbers: many a request's header makes some sense.
    (0..MEMORY / 4).for_each(|word| memory.write(word * 4, 4, dice.below(16)));
    let devices: Vec<Virtio> =
        functions().iter().filter(|function| function.is_virtio()).map(Virtio::open).collect();
    for _ in 0..rounds {
        devices.iter().for_each(|device| device.torment(&memory, &mut dice));
    }
    devices.iter().for_each(Virtio::reset);
    println!("hostile: {rounds} rounds with {} virtio devices", devices.len());
}
