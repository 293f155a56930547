//! The expansion ROM base address register of a type-0 function (PCI Local Bus 3.0 §6.2.5.2).

use super::function::{BarSpace, BarWindow};

/// What the ROM is called where BARs go by numbers.
pub const ROM_BAR: u8 = 6;
/// Configuration space offset.
pub const ROM_REGISTER: u16 = 0x30;
/// The sizes the register can express, in bytes.
pub const ROM_SIZES: std::ops::RangeInclusive<u64> = 0x800..=1 << 24;

const ENABLE: u32 = 1 << 0;

/// The register. Decoded while it is enabled and so is memory in the command register.
#[derive(Clone, Copy, Debug)]
pub(super) struct RomRegister {
    size: u32,
    value: u32,
}

impl RomRegister {
    /// For a ROM of `size` bytes, a power of two among [`ROM_SIZES`], at address 0 and disabled.
    pub(super) fn new(size: u32) -> Self {
        Self { size, value: 0 }
    }

    pub(super) fn value(&self) -> u32 {
        self.value
    }

    pub(super) fn write(&mut self, value: u32) {
        self.value = value & (!(self.size - 1) | ENABLE);
    }

    /// Sets the address, below 4 GiB, and leaves the enable bit.
    pub(super) fn place(&mut self, address: u64) {
        self.write(address as u32 & !ENABLE | self.value & ENABLE);
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.value & ENABLE != 0
    }

    pub(super) fn window(&self) -> BarWindow {
        let address = u64::from(self.value & !ENABLE);
        BarWindow {
            index: ROM_BAR,
            space: BarSpace::Memory32,
            prefetchable: false,
            address,
            size: self.size.into(),
        }
    }
}
