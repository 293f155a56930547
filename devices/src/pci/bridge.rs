//! The header of a PCI-to-PCI bridge: bus numbers, and the windows it forwards (PCIe base 6.0 §7.5.1.3).
//!
//! I/O addresses have 16 bits, prefetchable ones 64. Neither VGA nor ISA addresses are treated apart.

use std::ops::RangeInclusive;

use memory::GuestRange;

use super::aperture::Apertures;
use super::config::{COMMAND, ConfigSpace};

/// Granularity of memory windows, in bytes.
pub(super) const MEMORY_STEP: u64 = 1 << 20;
/// Granularity of I/O windows, in ports.
pub(super) const IO_STEP: u64 = 1 << 12;

const PRIMARY: u16 = 0x18;
const SECONDARY: u16 = 0x19;
const IO_BASE: u16 = 0x1c;
const SECONDARY_STATUS: u16 = 0x1e;
const MEMORY_BASE: u16 = 0x20;
const PREFETCHABLE_BASE: u16 = 0x24;
const PREFETCHABLE_BASE_HIGH: u16 = 0x28;
const PREFETCHABLE_LIMIT_HIGH: u16 = 0x2c;
const CONTROL: u16 = 0x3e;

const COMMAND_IO: u16 = 1 << 0;
const COMMAND_MEMORY: u16 = 1 << 1;
/// Parity and abort errors.
const STATUS_CLEARABLE: u16 = 0xf900;
/// Parity response, SERR#, secondary bus reset.
const CONTROL_WRITABLE: u16 = 1 << 0 | 1 << 1 | 1 << 6;
const CONTROL_RESET: u16 = 1 << 6;
const MEMORY_MASK: u16 = 0xfff0;
const IO_MASK: u8 = 0xf0;
const WIDE: u16 = 1;

/// Makes the bridge's registers writable. It forwards nothing yet.
pub(super) fn lay(config: &mut ConfigSpace) {
    config.set_writable(PRIMARY, &[0xff; 3]);
    config.set_writable(IO_BASE, &[IO_MASK; 2]);
    config.set_clearable(SECONDARY_STATUS, &STATUS_CLEARABLE.to_le_bytes());
    let [low, high] = MEMORY_MASK.to_le_bytes();
    for register in [MEMORY_BASE, PREFETCHABLE_BASE] {
        config.set_writable(register, &[low, high, low, high]);
    }
    config.set_writable(PREFETCHABLE_BASE_HIGH, &[0xff; 8]);
    config.set_writable(CONTROL, &CONTROL_WRITABLE.to_le_bytes());
    program(config, 0, &Apertures::NONE);
}

/// Sets bus number (the only one behind the bridge) and windows as firmware does. What goes to `mem64` has to be
/// prefetchable.
pub(super) fn program(config: &mut ConfigSpace, bus: u8, windows: &Apertures) {
    config.set(PRIMARY, &[0, bus, bus]);
    // What is empty has its base above its limit.
    let last = |range: &GuestRange| range.end().saturating_sub(1);
    let ends = |range: &GuestRange, step| match range.is_empty() {
        true => (step, 0),
        false => (range.start, last(range)),
    };
    let (base, limit) = ends(&windows.io, IO_STEP);
    config.set(IO_BASE, &[(base >> 8) as u8 & IO_MASK, (limit >> 8) as u8 & IO_MASK]);
    let register = |address: u64| (address >> 16) as u16 & MEMORY_MASK;
    let (base, limit) = ends(&windows.mem32, MEMORY_STEP);
    config.set(MEMORY_BASE, &register(base).to_le_bytes());
    config.set(MEMORY_BASE + 2, &register(limit).to_le_bytes());
    let (base, limit) = ends(&windows.mem64, MEMORY_STEP);
    config.set(PREFETCHABLE_BASE, &(register(base) | WIDE).to_le_bytes());
    config.set(PREFETCHABLE_BASE + 2, &(register(limit) | WIDE).to_le_bytes());
    config.set(PREFETCHABLE_BASE_HIGH, &((base >> 32) as u32).to_le_bytes());
    config.set(PREFETCHABLE_LIMIT_HIGH, &((limit >> 32) as u32).to_le_bytes());
}

/// What it forwards now: its windows, as far as its command register enables them.
pub(super) fn forwarded(config: &ConfigSpace) -> Apertures {
    let command = config.word(COMMAND);
    let mut windows = windows(config);
    if command & COMMAND_IO == 0 {
        windows.io = Apertures::NONE.io;
    }
    if command & COMMAND_MEMORY == 0 {
        windows = Apertures { io: windows.io, ..Apertures::NONE };
    }
    windows
}

/// Its windows, enabled or not.
pub(super) fn windows(config: &ConfigSpace) -> Apertures {
    let range = |base: u64, limit: u64| match base <= limit {
        true => GuestRange::new(base, limit - base + 1),
        false => GuestRange::new(0, 0),
    };
    let [base, limit] = config.word(IO_BASE).to_le_bytes().map(|end| u64::from(end & IO_MASK) << 8);
    let io = range(base, limit | (IO_STEP - 1));
    let end = |register| u64::from(config.word(register) & MEMORY_MASK) << 16;
    let high = |register| u64::from(config.word(register)) << 32 | u64::from(config.word(register + 2)) << 48;
    let mem32 = range(end(MEMORY_BASE), end(MEMORY_BASE + 2) | (MEMORY_STEP - 1));
    // The last byte of the address space stays out: a range has an end.
    let base = end(PREFETCHABLE_BASE) | high(PREFETCHABLE_BASE_HIGH);
    let limit = end(PREFETCHABLE_BASE + 2) | high(PREFETCHABLE_LIMIT_HIGH) | (MEMORY_STEP - 1);
    Apertures { mem32, mem64: range(base, limit.min(u64::MAX - 1)), io }
}

/// The buses behind it: the one it leads to, and the last one. `None` until it has been given a number.
pub(super) fn buses(config: &ConfigSpace) -> Option<RangeInclusive<u8>> {
    let [secondary, subordinate] = config.word(SECONDARY).to_le_bytes();
    (secondary != 0).then_some(secondary..=subordinate)
}

/// Whether the bus behind it is being reset.
pub(super) fn resets(config: &ConfigSpace) -> bool {
    config.word(CONTROL) & CONTROL_RESET != 0
}

#[cfg(test)]
#[path = "bridge_test.rs"]
mod tests;
