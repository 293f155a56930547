//! INTx: which pin of the I/O APIC a function's interrupt pin leads to (PCI Local Bus 3.0 §2.2.6).
//!
//! Eight pins are set aside, as on the chipsets of PCs, and interrupt pins are spread over them, so that few devices
//! share one. ACPI tells the guest the same (`_PRT`).

use std::fmt;

/// The first I/O APIC pin for INTx.
pub const FIRST_PIN: u8 = 16;
/// How many there are.
pub const PINS: u8 = 8;

/// The interrupt pin of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InterruptPin {
    /// INTA#.
    A,
    /// INTB#.
    B,
    /// INTC#.
    C,
    /// INTD#.
    D,
}

impl InterruptPin {
    /// All four.
    pub const ALL: [Self; 4] = [Self::A, Self::B, Self::C, Self::D];

    /// From the register in configuration space, in which 1 is INTA# and 0 none.
    pub fn from_register(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value.checked_sub(1)?)).copied()
    }

    /// As the register in configuration space has it.
    pub fn register(self) -> u8 {
        self.number() + 1
    }

    /// As `_PRT` has it: INTA# is 0.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The I/O APIC pin, for a function of this device of bus 0.
    pub fn ioapic_pin(self, device: u8) -> u8 {
        FIRST_PIN + device.wrapping_add(self.number()) % PINS
    }
}

impl fmt::Display for InterruptPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "INT{self:?}#")
    }
}

#[cfg(test)]
#[path = "intx_test.rs"]
mod tests;
