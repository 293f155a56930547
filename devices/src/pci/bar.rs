//! Base address registers of a type-0 function (PCI Local Bus 3.0 §6.2.5.1, PCIe base 6.0 §7.5.1.2.1).
//!
//! Used by emulated functions and by passed-through ones, whose BARs the guest never sees in hardware. A BAR keeps
//! whatever address the guest writes; whether anything is decoded there is for [`PciBus`](super::PciBus) to decide.

use super::function::{BarSpace, BarWindow};
use super::rom::{ROM_BAR, ROM_REGISTER, ROM_SIZES, RomRegister};

/// Configuration space offset of BAR 0.
pub const BAR0: u16 = 0x10;
/// Configuration space offset just after BAR 5.
pub const BARS_END: u16 = 0x28;
/// BARs of a type-0 function.
pub const BAR_COUNT: usize = 6;

const BYTES: usize = BAR_COUNT * 4;
const COMMAND_IO: u16 = 1 << 0;
const COMMAND_MEMORY: u16 = 1 << 1;

/// One BAR as its function implements it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarSpec {
    /// BAR number, 0 to 5; the lower one of a 64-bit pair. [`ROM_BAR`] is the expansion ROM.
    pub index: u8,
    /// Address space.
    pub space: BarSpace,
    /// Whether reads have no side effects. Meaningless for port I/O.
    pub prefetchable: bool,
    /// Bytes, a power of two.
    pub size: u64,
}

/// A BAR no function can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarError {
    /// No such BAR, or the upper half of BAR 5.
    #[error("a function has no bar {0}")]
    Index(u8),
    /// Taken, wholly or by the upper half of a 64-bit one.
    #[error("bar {0} is in use")]
    Taken(u8),
    /// Not a power of two, or not a size its address space allows.
    #[error("bar {index} cannot be {size:#x} bytes of {space:?}")]
    Size {
        /// BAR number.
        index: u8,
        /// Address space.
        space: BarSpace,
        /// Bytes asked for.
        size: u64,
    },
}

/// The six BAR registers of a function, and its expansion ROM's.
#[derive(Clone, Debug, Default)]
pub struct BarSet {
    slots: [Slot; BAR_COUNT],
    rom: Option<RomRegister>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Slot {
    #[default]
    Absent,
    Low {
        spec: BarSpec,
        address: u64,
    },
    /// Upper half of the 64-bit BAR in the slot before.
    High,
}

impl BarSet {
    /// No BARs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Implements a BAR, at address 0.
    pub fn add(&mut self, spec: BarSpec) -> Result<(), BarError> {
        let BarSpec { index, space, size, .. } = spec;
        if index == ROM_BAR {
            return self.add_rom(&spec);
        }
        let sizes = match space {
            BarSpace::Memory32 => 16..=1 << 31,
            BarSpace::Memory64 => 16..=1 << 63,
            BarSpace::Io => 4..=1 << 16,
        };
        if !size.is_power_of_two() || !sizes.contains(&size) {
            return Err(BarError::Size { index, space, size });
        }
        let slot = Slot::Low { spec, address: 0 };
        match (space, self.slots.get_mut(usize::from(index)..).unwrap_or_default()) {
            (_, []) | (BarSpace::Memory64, [_]) => return Err(BarError::Index(index)),
            (BarSpace::Memory64, [low @ Slot::Absent, high @ Slot::Absent, ..]) => {
                *low = slot;
                *high = Slot::High;
            }
            (BarSpace::Memory32 | BarSpace::Io, [low @ Slot::Absent, ..]) => *low = slot,
            _ => return Err(BarError::Taken(index)),
        }
        Ok(())
    }

    fn add_rom(&mut self, spec: &BarSpec) -> Result<(), BarError> {
        let BarSpec { index, space, size, .. } = *spec;
        let good = space == BarSpace::Memory32 && size.is_power_of_two() && ROM_SIZES.contains(&size);
        match self.rom {
            _ if !good => Err(BarError::Size { index, space, size }),
            Some(_) => Err(BarError::Taken(index)),
            None => {
                self.rom = Some(RomRegister::new(size as u32));
                Ok(())
            }
        }
    }

    /// Reads configuration space at `offset`; bytes that are not part of a BAR register are left alone.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        copy(&self.bytes(), BAR0, offset, data);
        if let Some(rom) = &self.rom {
            copy(&rom.value().to_le_bytes(), ROM_REGISTER, offset, data);
        }
    }

    /// Writes configuration space at `offset`; bytes that are not part of a BAR register are ignored.
    /// Writing all ones makes the register read back the BAR's size mask.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        if let Some(rom) = &mut self.rom {
            let mut register = rom.value().to_le_bytes();
            copy(data, offset, ROM_REGISTER, &mut register);
            rom.write(u32::from_le_bytes(register));
        }
        let mut registers = self.bytes();
        copy(data, offset, BAR0, &mut registers);
        // What was not written holds what it reads as, and writing that back changes nothing.
        let mut values = registers.as_chunks::<4>().0.iter().map(|register| u32::from_le_bytes(*register));
        let mut low = None;
        for slot in &mut self.slots {
            let value = u64::from(values.next().unwrap_or_default());
            match (slot, &mut low) {
                (Slot::Low { spec, address }, _) => {
                    *address = (*address & !0xffff_ffff | value) & !(spec.size - 1);
                    low = Some((spec.size, address));
                }
                (Slot::High, Some((size, address))) => {
                    **address = (**address & 0xffff_ffff | value << 32) & !(*size - 1);
                }
                _ => {}
            }
        }
    }

    /// Sets a BAR's address as firmware would, rounded down to the BAR's size. Ignores BARs that do not exist.
    pub fn place(&mut self, index: u8, to: u64) {
        if let (ROM_BAR, Some(rom)) = (index, &mut self.rom) {
            rom.place(to);
        } else if let Some(Slot::Low { spec, address }) = self.slots.get_mut(usize::from(index)) {
            let reachable = if spec.space == BarSpace::Memory64 { u64::MAX } else { u64::from(u32::MAX) };
            *address = to & reachable & !(spec.size - 1);
        }
    }

    /// Every BAR at the address it holds, decoded or not. `address + size` may be 2^64.
    pub fn windows(&self) -> Vec<BarWindow> {
        let window = |slot: &Slot| match slot {
            Slot::Low { spec: BarSpec { index, space, prefetchable, size }, address } => Some(BarWindow {
                index: *index,
                space: *space,
                prefetchable: *prefetchable,
                address: *address,
                size: *size,
            }),
            Slot::Absent | Slot::High => None,
        };
        self.slots.iter().filter_map(window).chain(self.rom.as_ref().map(RomRegister::window)).collect()
    }

    /// The BARs that the bits of the command register let decode.
    pub fn decoded(&self, command: u16) -> Vec<BarWindow> {
        let mut windows = self.windows();
        windows.retain(|window| {
            let enable = if window.space == BarSpace::Io { COMMAND_IO } else { COMMAND_MEMORY };
            let rom_off = window.index == ROM_BAR && !self.rom.is_some_and(|rom| rom.is_enabled());
            command & enable != 0 && !rom_off
        });
        windows
    }

    /// All addresses back to 0 and the ROM disabled, as after a reset.
    pub fn reset(&mut self) {
        if let Some(rom) = &mut self.rom {
            rom.write(0);
        }
        for slot in &mut self.slots {
            if let Slot::Low { address, .. } = slot {
                *address = 0;
            }
        }
    }

    fn bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let (registers, _) = bytes.as_chunks_mut::<4>();
        let mut high = 0;
        for (slot, register) in self.slots.iter().zip(registers) {
            let value = match slot {
                Slot::Absent => 0,
                Slot::Low { spec, address } => {
                    high = (address >> 32) as u32;
                    *address as u32 | spec.flags()
                }
                Slot::High => high,
            };
            *register = value.to_le_bytes();
        }
        bytes
    }
}

/// Copies what `from`, which lies at `source` in configuration space, has of `to`, which lies at `place`.
fn copy(from: &[u8], source: u16, place: u16, to: &mut [u8]) {
    for (at, byte) in (usize::from(place)..).zip(to) {
        if let Some(value) = at.checked_sub(usize::from(source)).and_then(|at| from.get(at)) {
            *byte = *value;
        }
    }
}

impl BarSpec {
    /// The read-only low bits of the register.
    fn flags(&self) -> u32 {
        let kind = match self.space {
            BarSpace::Io => return 1,
            BarSpace::Memory32 => 0,
            BarSpace::Memory64 => 0b100,
        };
        kind | u32::from(self.prefetchable) << 3
    }
}

#[cfg(test)]
#[path = "bar_test.rs"]
mod tests;
