//! A guest's root that means harm. What it does follows from its seed.
//!
//! - `hostile rings SEED ROUNDS MEMORY`: is the driver of every virtio function, each time anew and each time a bad one: features
//!   that were not asked for, queues of any size anywhere, rings of garbage that change while they are read, notifications of
//!   queues that are not there. Its rings and buffers are in the 4 MiB at the physical address MEMORY, which the kernel has to leave
//!   alone (`memmap=4M$MEMORY`), or nowhere at all, so that the kernel survives. Drivers are to be unbound.
//! - `hostile registers SEED COUNT`: so many reads and writes of ports, configuration space, BARs, ECAM and the IOAPIC, at any offset
//!   and of any width. It spares what only ends or resets the machine.
//!
//! # Unsafe
//! Port instructions, and mappings of `/dev/mem` that are accessed within their bounds only.
#![expect(unsafe_code, reason = "in, out, iopl, mmap")]
#![expect(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]
#![expect(clippy::indexing_slicing, reason = "a test program")]

use std::arch::asm;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

const FUNCTIONS: &str = "/sys/bus/pci/devices";
/// Bytes of memory for rings and buffers.
const MEMORY: usize = 4 << 20;
const PAGE: usize = 4096;
const IOAPIC: u64 = 0xfec0_0000;
/// Reset of the keyboard controller; sleep and reset of ACPI.
const SPARED: [u16; 4] = [0x64, 0x600, 0x601, 0x602];
const COM1: u16 = 0x3f8;
/// Of the serial port: interrupts, format, modem control. Garbage there takes the console away.
const CONSOLE: [u16; 3] = [COM1 + 1, COM1 + 3, COM1 + 4];
/// Reads of a status that may pass before a reset is over.
const PATIENCE: u32 = 100_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["rings", seed, rounds, memory] => {
            let memory = u64::from_str_radix(memory.trim_start_matches("0x"), 16).unwrap();
            rings(seed.parse().unwrap(), rounds.parse().unwrap(), memory);
        }
        ["registers", seed, count] => registers(seed.parse().unwrap(), count.parse().unwrap()),
        _ => panic!("hostile rings SEED ROUNDS MEMORY | hostile registers SEED COUNT"),
    }
}

struct Dice(SplitMix64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn below(&mut self, end: u64) -> u64 {
        self.any() % end.max(1)
    }

    /// True once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A piece of the physical address space.
#[derive(Clone, Copy)]
struct Window {
    physical: u64,
    base: *mut u8,
    size: usize,
}

impl Window {
    fn map(physical: u64, size: u64) -> Window {
        let memory = OpenOptions::new().read(true).write(true).open("/dev/mem").unwrap();
        let (access, size) = (libc::PROT_READ | libc::PROT_WRITE, size as usize);
        // SAFETY: a new mapping, of memory that nothing else of this process knows.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                access,
                libc::MAP_SHARED,
                memory.as_raw_fd(),
                physical.cast_signed(),
            )
        };
        assert_ne!(base, libc::MAP_FAILED, "/dev/mem {physical:#x}: {}", std::io::Error::last_os_error());
        Window { physical, base: base.cast(), size }
    }

    fn read(&self, offset: usize, width: usize) -> u64 {
        assert!(offset + width <= self.size);
        // SAFETY: inside the mapping, as was just asserted; x86 has no alignment.
        unsafe {
            let at = self.base.add(offset);
            match width {
                1 => at.read_volatile().into(),
                2 => access::<u16>(at).into(),
                4 => access::<u32>(at).into(),
                _ => access::<u64>(at),
            }
        }
    }

    fn write(&self, offset: usize, width: usize, value: u64) {
        assert!(offset + width <= self.size);
        // SAFETY: as for `read`.
        unsafe {
            let at = self.base.add(offset);
            match width {
                1 => asm!("mov byte ptr [{}], {}", in(reg) at, in(reg_byte) value as u8),
                2 => asm!("mov word ptr [{}], {:x}", in(reg) at, in(reg) value as u16),
                4 => asm!("mov dword ptr [{}], {:e}", in(reg) at, in(reg) value as u32),
                _ => asm!("mov qword ptr [{}], {}", in(reg) at, in(reg) value),
            }
        }
    }
}

/// One read, aligned or not.
///
/// # Safety
/// `at` is mapped for so many bytes.
unsafe fn access<T: Copy + Default>(at: *const u8) -> T {
    let mut value = T::default();
    // SAFETY: the caller's promise; `value` is as large.
    unsafe {
        match size_of::<T>() {
            2 => {
                asm!("mov {0:x}, word ptr [{1}]", "mov word ptr [{2}], {0:x}", out(reg) _, in(reg) at, in(reg) &raw mut value)
            }
            4 => {
                asm!("mov {0:e}, dword ptr [{1}]", "mov dword ptr [{2}], {0:e}", out(reg) _, in(reg) at, in(reg) &raw mut value)
            }
            _ => {
                asm!("mov {0}, qword ptr [{1}]", "mov qword ptr [{2}], {0}", out(reg) _, in(reg) at, in(reg) &raw mut value)
            }
        }
    }
    value
}

fn read_port(port: u16, width: usize) -> u32 {
    let value: u32;
    // SAFETY: what a port does to the machine is what this is about; no memory of ours is involved.
    unsafe {
        match width {
            1 => asm!("in al, dx", in("dx") port, out("eax") value),
            2 => asm!("in ax, dx", in("dx") port, out("eax") value),
            _ => asm!("in eax, dx", in("dx") port, out("eax") value),
        }
    }
    value
}

fn write_port(port: u16, width: usize, value: u32) {
    // SAFETY: as for `read_port`.
    unsafe {
        match width {
            1 => asm!("out dx, al", in("dx") port, in("eax") value),
            2 => asm!("out dx, ax", in("dx") port, in("eax") value),
            _ => asm!("out dx, eax", in("dx") port, in("eax") value),
        }
    }
}

/// A PCI function by what sysfs says of it.
struct Function {
    config: File,
    virtio: bool,
    /// Index, address and size of its memory BARs.
    bars: Vec<(usize, u64, u64)>,
}

fn functions() -> Vec<Function> {
    let mut paths: Vec<_> = fs::read_dir(FUNCTIONS).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let number = |path: &Path, file: &str| {
        let text = fs::read_to_string(path.join(file)).unwrap();
        u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap()
    };
    let function = |path: std::path::PathBuf| {
        let resources = fs::read_to_string(path.join("resource")).unwrap();
        let bars = resources.lines().take(6).enumerate().filter_map(|(index, line)| {
            let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap();
            let [start, end, flags] = line.split(' ').map(hex).collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            // IORESOURCE_MEM
            (flags & 0x200 != 0).then_some((index, start, end + 1 - start))
        });
        let config = OpenOptions::new().read(true).write(true).open(path.join("config")).unwrap();
        let virtio = number(&path, "vendor") == 0x1af4 && number(&path, "device") >= 0x1040;
        Function { bars: bars.collect(), config, virtio }
    };
    paths.into_iter().map(function).collect()
}

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
        // Memory space and bus master, which the kernel may have taken from a function without a driver.
        function.config.write_all_at(&[6, 0], 4).unwrap();
        let mut config = [0; 256];
        function.config.read_exact_at(&mut config, 0).unwrap();
        let word = |at: usize| u32::from_le_bytes(config[at..at + 4].try_into().unwrap());
        let (mut at, mut found) = (usize::from(config[0x34]), [None; 5]);
        let mut multiplier = 0;
        while at != 0 {
            let kind = usize::from(config[at + 3]);
            if config[at] == 9 && kind < found.len() {
                let bar = usize::from(config[at + 4]);
                let (_, start, _) = *function.bars.iter().find(|(index, ..)| *index == bar).unwrap();
                found[kind] = Some((start, word(at + 8) as usize, word(at + 12) as usize));
                if kind == 2 {
                    multiplier = word(at + 16) as usize;
                }
            }
            at = usize::from(config[at + 1]);
        }
        let part = |(start, offset, length): (u64, usize, usize)| {
            let skipped = offset % PAGE;
            let whole = Window::map(start + (offset - skipped) as u64, (skipped + length) as u64);
            // SAFETY: inside the mapping.
            let base = unsafe { whole.base.add(skipped) };
            Window { base, size: length, ..whole }
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

fn rings(seed: u64, rounds: u64, physical: u64) {
    let mut dice = Dice::new(seed);
    let memory = Window::map(physical, MEMORY as u64);
    // Small numbers: many a request's header makes some sense.
    (0..MEMORY / 4).for_each(|word| memory.write(word * 4, 4, dice.below(16)));
    let devices: Vec<Virtio> =
        functions().iter().filter(|function| function.virtio).map(Virtio::open).collect();
    for _ in 0..rounds {
        devices.iter().for_each(|device| device.torment(&memory, &mut dice));
    }
    devices.iter().for_each(Virtio::reset);
    println!("hostile: {rounds} rounds with {} virtio devices", devices.len());
}

fn registers(seed: u64, count: u64) {
    let mut dice = Dice::new(seed);
    // SAFETY: a system call without memory.
    assert_eq!(unsafe { libc::iopl(3) }, 0, "iopl");
    let kept = CONSOLE.map(|port| (port, read_port(port, 1)));
    let map = fs::read_to_string("/proc/iomem").unwrap();
    let ecam = map.lines().find(|line| line.contains("ECAM") || line.contains("MMCONFIG")).unwrap();
    let ecam = u64::from_str_radix(ecam.trim().split('-').next().unwrap(), 16).unwrap();
    let functions = functions();
    // Of devices of the host's the BARs are left alone: they would do as they are told, to this guest's kernel.
    let emulated = functions.iter().filter(|function| function.virtio).flat_map(|function| &function.bars);
    let mut windows: Vec<Window> = emulated.map(|(_, start, size)| Window::map(*start, *size)).collect();
    windows.extend([Window::map(ecam, 1 << 20), Window::map(IOAPIC, PAGE as u64)]);
    for _ in 0..count {
        let width = dice.one_of(&[1, 2, 4]);
        match dice.below(8) {
            0 | 1 => {
                let port = dice.one_of(&[COM1, 0x70, 0x71, 0xcf8, 0xcfc, 0x603]);
                let port = if dice.once_in(2) { port } else { dice.any() as u16 };
                if !(port..=port.saturating_add(3)).any(|touched| SPARED.contains(&touched)) {
                    let _ = read_port(port, width);
                    write_port(port, width, dice.any() as u32);
                }
            }
            2..4 => {
                // A register of one of the first functions, as any firmware would.
                let device = dice.below(functions.len() as u64 + 2);
                let register = dice.below(256) as u32;
                write_port(0xcf8, 4, 1 << 31 | (device as u32) << 11 | register & 0xfc);
                let port = 0xcfc + (register & 3) as u16;
                let before = read_port(port, width);
                let bit = 1_u32 << dice.below(32);
                write_port(port, width, if dice.once_in(2) { dice.any() as u32 } else { before ^ bit });
            }
            _ => {
                let window = dice.one_of(&windows);
                let width = dice.one_of(&[1, 2, 4, 8]);
                let aligned = dice.below((window.size / 8) as u64) as usize * 8;
                let offset = aligned + if dice.once_in(4) { dice.below(8) as usize } else { 0 };
                if offset + width <= window.size {
                    window.read(offset, width);
                    window.write(offset, width, dice.any());
                }
            }
        }
    }
    for (port, value) in kept {
        write_port(port, 1, value);
    }
    println!("hostile: {count} registers");
}
