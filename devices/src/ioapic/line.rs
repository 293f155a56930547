//! The wire from a device to its I/O APIC pin.

use std::fmt;
use std::sync::Arc;

use super::Ioapic;

/// One interrupt line. A line has one device on it; clones are the same line.
#[derive(Clone)]
pub struct IrqLine {
    ioapic: Arc<Ioapic>,
    pin: u8,
}

impl IrqLine {
    pub(super) fn new(ioapic: Arc<Ioapic>, pin: u8) -> Self {
        Self { ioapic, pin }
    }

    /// The pin, which is also the GSI of a machine with one I/O APIC.
    pub fn pin(&self) -> u8 {
        self.pin
    }

    /// Whether the guest has the line masked, as it is until a driver takes it.
    pub fn is_masked(&self) -> bool {
        self.ioapic.is_masked(self.pin)
    }

    /// Asserts the line until [`IrqLine::lower`].
    pub fn raise(&self) {
        self.ioapic.set_line(self.pin, true);
    }

    /// Deasserts the line.
    pub fn lower(&self) {
        self.ioapic.set_line(self.pin, false);
    }

    /// One edge.
    pub fn pulse(&self) {
        self.ioapic.pulse(self.pin);
    }
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrqLine").field("pin", &self.pin).finish_non_exhaustive()
    }
}
