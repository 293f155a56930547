//! QEMU's pvpanic as a PCI function (docs/specs/pvpanic.rst there): a register that a guest's kernel writes to when it
//! panics, before it does anything else about it.

use std::sync::Mutex;

use crate::Action;
use crate::pci::bar::BarError;
use crate::pci::config::Identity;
use crate::pci::{BarSet, BarSpace, BarSpec, BarWindow, ConfigSpace, PciFunction};
use crate::sync::lock;

const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0011,
    class: 0x08_8000,
    revision: 1,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};
/// The register is its first byte. It has a page to itself.
const BAR: BarSpec = BarSpec { index: 0, space: BarSpace::Memory32, prefetchable: false, size: 0x1000 };
/// The guest has panicked.
const PANICKED: u8 = 1 << 0;
/// It has panicked, and goes on with a kernel that it has loaded for that.
const CRASH_LOADED: u8 = 1 << 1;

/// The function.
pub struct Pvpanic {
    config: Mutex<ConfigSpace>,
}

impl Pvpanic {
    /// As after power-on.
    ///
    /// # Errors
    /// None: its BAR is one that a function can have.
    pub fn new() -> Result<Self, BarError> {
        let mut bars = BarSet::new();
        bars.add(BAR)?;
        Ok(Self { config: Mutex::new(ConfigSpace::new(&IDENTITY, bars)) })
    }
}

impl PciFunction for Pvpanic {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        lock(&self.config).read(offset, data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Action {
        lock(&self.config).write(offset, data);
        Action::None
    }

    fn bars(&self) -> Vec<BarWindow> {
        lock(&self.config).bars().windows()
    }

    fn decoded(&self) -> Vec<BarWindow> {
        lock(&self.config).decoded()
    }

    fn place_bar(&self, index: u8, address: u64) {
        lock(&self.config).bars_mut().place(index, address);
    }

    fn bar_read(&self, _bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (0, Some(first)) = (offset, data.first_mut()) {
            *first = PANICKED | CRASH_LOADED;
        }
    }

    fn bar_write(&self, _bar: u8, offset: u64, data: &[u8]) -> Action {
        let events = data.first().copied().filter(|_| offset == 0).unwrap_or(0);
        if events & PANICKED != 0 {
            return Action::Panicked;
        }
        if events & CRASH_LOADED != 0 {
            tracing::warn!("the guest has panicked, and goes on with its crash kernel");
        }
        Action::None
    }
}

#[cfg(test)]
#[path = "pvpanic_test.rs"]
mod tests;
