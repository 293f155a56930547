//! The register of a generic event device (ACPI 6.5 §5.6.9): what has happened that the guest is to look into. A byte of
//! bits that reading clears, and an edge on an interrupt line for each bit that is set.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::ioapic::IrqLine;
use crate::{Action, BusDevice};

/// Number of ports.
pub const EVENT_REGISTER_SIZE: u64 = 1;

/// The register; as a [`BusDevice`] its one port.
#[derive(Debug)]
pub struct EventRegister {
    pending: AtomicU8,
    line: IrqLine,
}

impl EventRegister {
    /// Nothing has happened yet.
    pub fn new(line: IrqLine) -> Self {
        Self { pending: AtomicU8::new(0), line }
    }

    /// Whether the guest has a handler for it: its driver unmasks the interrupt when it is ready.
    pub fn is_listened_to(&self) -> bool {
        !self.line.is_masked()
    }

    /// Sets the bits of `events` and interrupts the guest.
    pub fn raise(&self, events: u8) {
        self.pending.fetch_or(events, Ordering::SeqCst);
        self.line.pulse();
    }
}

impl BusDevice for EventRegister {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(first) = data.first_mut() {
            *first = self.pending.swap(0, Ordering::SeqCst);
        }
    }

    fn write(&self, _: u64, _: &[u8]) -> Action {
        Action::None
    }
}

#[cfg(test)]
#[path = "event_test.rs"]
mod tests;
